"""Decode's rows are whole, ask for what is recorded, and keep the published numbers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from reports.claims import Claim, load, needed_variants
from reports.coverage import read_published
from reports.physics import bound
from reports.records import Check, Metric, Record, Round, TaskPair
from reports.verdicts import Stored, judge

BENCH = Path(__file__).parents[1] / "bench" / "claims"
CLAIMS = load(BENCH / "decode.toml")
BY_ID = {claim.id: claim for claim in CLAIMS}

NATIVE = "native"
MODES = {"full", "full-logits", "partially-aware", "partially-aware-both-ways", "semantic-blind"}
LINK_BPS = {"1gbps": 1_000_000_000, "25gbps": 25_000_000_000}
LINKED = {f"{mode}-{link}" for mode in MODES for link in LINK_BPS}
PEER = "transformers-generate"
BATCHED = {"batched-32", "transformers-batched-32"}
ONE_BY_ONE = "one-by-one-32"
VARIANTS = {NATIVE, *MODES, *LINKED, PEER, *BATCHED, ONE_BY_ONE}

SECONDS = {"token_s", "total_s", "ttft_s", "queue_s", "compute_s", "transfer_s"}
ON_A_GPU = {"gpu_util_share", "host_to_device_bytes", "device_to_host_bytes", "host_device_bytes_per_token"}
ROUNDS = SECONDS | ON_A_GPU | {
    *("compute_share", "tokens_per_s", "tokens_generated", "device_peak_gb"),
    *("memory_bandwidth_bytes_per_s", "bandwidth_floor_share", "energy_j_per_token"),
}  # fmt: skip
OF_A_LINK = {"link_rate_share", "link_formula_share"}
TASKS = {"same_tokens", "same_again", "client_server_bytes_per_token"} | {
    *("remote_tokens_share", "reuse_gap_tokens"),
}  # fmt: skip
HIGHER = {"compute_share", "gpu_util_share", "tokens_per_s", "tokens_generated", "bandwidth_floor_share"} | {
    *("memory_bandwidth_bytes_per_s", "same_tokens", "same_again", "remote_tokens_share", "link_rate_share"),
}  # fmt: skip
OF_TWO_ARMS = {"modes_as_named", "same_weights", "greedy_deterministic"}
OF_A_SERVER = {"equal_tasks", "bytes_at_socket", "attribution_sums", "link_paced", "other_process"}
CHECKS = OF_TWO_ARMS | OF_A_SERVER | {"fits_budget", "utilisation_sampled"}


def control_of(variant: str) -> str | None:
    """What is measured beside a variant."""
    if variant in (NATIVE, ONE_BY_ONE):
        return None
    return ONE_BY_ONE if variant in BATCHED else NATIVE


def link_of(variant: str) -> int:
    """The link of a variant in bits per second; 0: none."""
    return next((bps for link, bps in LINK_BPS.items() if variant.endswith(f"-{link}")), 0)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_names_variants_behind_one_link_with_the_control_that_they_have(claim: Claim) -> None:
    """Gains are compared over one control only, and a link is named in the settings too."""
    names = needed_variants(claim)
    assert set(names) <= VARIANTS
    assert len({control_of(name) for name in names}) == 1
    if claim.quantity != "value":
        assert claim.control == control_of(claim.treatment) is not None
    links = {link_of(name) for name in names}
    assert len(links) == 1
    assert claim.settings.get("link_bps", 0) == links.pop()


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_asks_for_metrics_and_checks_that_its_variant_records(claim: Claim) -> None:
    """A link's metrics only behind a link; what is said of a server not of native alone."""
    known = TASKS if claim.over == "tasks" else ROUNDS | (OF_A_LINK if link_of(claim.treatment) else set())
    assert set(claim.metrics) <= known
    assert claim.provenance
    assert set(claim.provenance) <= CHECKS
    if claim.treatment == NATIVE:
        assert not OF_A_SERVER & set(claim.provenance)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_a_published_row_covers_a_statement_and_ours_a_threshold_of_its_own(claim: Claim) -> None:
    """Published ones ask for the machine that the source names, where that can matter."""
    assert bool(claim.covers) == (claim.scope is None)
    assert claim.id.startswith("pocket-") == (claim.scope == "pocket")
    assert claim.id.startswith("node-") == (claim.scope == "node")
    if claim.scope == "node":
        assert {"profile:node", "device:cuda", "model:llama-2-7b"} <= set(claim.requires)
    elif claim.scope == "pocket":
        modelled = ("evidence:modelled",) if claim.treatment.endswith("-25gbps") else ()
        assert claim.requires == ("profile:pocket", "model:llama-34m", *modelled)
    elif claim.metric == "client_server_bytes_per_token":
        assert claim.requires == ("profile:node", "model:llama-2-7b", "workload:prompt72-new50")
    elif claim.id != "execution-is-remote":
        assert {"profile:node", "device:a100", "device:80gb", "model:llama-2-7b"} <= set(claim.requires)


def test_the_sample_and_the_headline_keep_their_published_numbers() -> None:
    """As the source has them, in our units."""
    published = {
        "blind-latency": (30.0, 57.0),
        "partial-latency": (30.0, 57.0),
        "blind-bytes": (1e3, 1e5),
        "partial-bytes": (1e3, 1e5),
        "sample-native-total": 0.8124,
        "sample-native-token": 0.0162,
        "sample-native-p95": 0.8301,
        "sample-native-tokens": 50.0,
        "sample-native-utilisation": 0.843,
        "sample-native-bandwidth": 1.2e9,
        "sample-native-uploads": 0.8e6,
        "sample-native-downloads": 0.1e6,
    }
    assert {name: BY_ID[name].published for name in published} == published


def test_three_statements_are_impossible_whatever_runs() -> None:
    """Each shows its sum, and when it would be possible."""
    found = {v.id: v.reason for c in CLAIMS if (v := judge(c, [])).verdict == "impossible"}
    assert found.keys() == {"blind-latency-high-end", "partial-latency", "sample-native-bandwidth"}
    assert "4.31 s per token, ÷ 16.2 ms = 266×" in found["blind-latency-high-end"]
    assert "= 10.9×; 30× are possible where transfers" in found["partial-latency"]
    assert "= 816 GB/s, not 1.2 GB/s" in found["sample-native-bandwidth"]


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.floor], ids=lambda c: c.id)
def test_every_bound_is_computed_for_the_models_own_bytes(claim: Claim) -> None:
    """Llama-2-7B in fp16: with its embedding where weights cross, without where a token reads them."""
    inputs = claim.floor_inputs
    assert bound(claim.floor or "", inputs).arithmetic
    weights, embedding, kv_token = 2 * 6_738_415_616, 2 * 32_000 * 4096, 32 * 2 * 4096 * 2
    # All that is computed comes back after each token, and goes up before each but the first.
    both_ways = kv_token * (sum(range(72, 122)) + sum(range(72, 121))) / 50
    if "weight_bytes" in inputs:
        assert inputs["weight_bytes"] == pytest.approx(weights - embedding, rel=1e-4)
    if "bytes_per_token" in inputs:
        crossing = {"weights": weights, "keys and values": both_ways}
        whole = {**crossing, "weights, keys and values": weights + both_ways}
        assert inputs["bytes_per_token"] == pytest.approx(whole[inputs["what"]], rel=1e-3)
        assert inputs["link_bps"] == claim.settings["link_bps"]


def test_a_published_row_says_in_the_pocket_what_it_needs() -> None:
    """The machine, the model and the lengths."""
    verdict = judge(BY_ID["blind-latency"], [], ["profile:pocket"])
    assert verdict.verdict == "out of scope"
    assert all(need in verdict.reason for need in BY_ID["blind-latency"].requires)


def test_all_that_is_published_of_decode_stands_in_the_first_half_of_its_source() -> None:
    """88 names, up to the flags of the remote baselines."""
    found = [p.id for p in read_published(BENCH / "published_surface.csv") if p.experiment == "decode"]
    assert found == [f"surface-{number}" for number in range(258, 346)]


# what a run of the bench leaves behind, with numbers from the formulas alone

DEVICE = {"pocket": "two cores", "node": "NVIDIA A100-SXM4-80GB"}
MODEL = {"pocket": "llama-34m, random weights", "node": "meta-llama/Llama-2-7b-hf"}
SHAPE = {"pocket": (134.8e6, 32_768, 8192, 0.012), "node": (13.477e9, 524_288, 32_000, 0.0162)}
"""Bytes of weights and of a token's keys and values, words, and native's seconds per token."""


def bytes_per_token(mode: str, profile: str, new_tokens: int) -> float:
    """What crosses for a token in the mean, by the protocol."""
    weights, kv_token, words, _ = SHAPE[profile]
    up = sum(72 + at for at in range(new_tokens - 1)) / new_tokens
    down_all = sum(72 + at for at in range(new_tokens)) / new_tokens
    down_new = (72 + new_tokens - 1) / new_tokens
    crossing = {
        "native": 0.0,
        "full-logits": 4.0 * words,
        "partially-aware": kv_token * (up + down_new),
        "partially-aware-both-ways": kv_token * (up + down_all),
        "semantic-blind": weights + kv_token * (up + down_all),
    }
    return crossing.get(mode, 0.0) + (0.0 if mode == "native" else 40.0)


def ran(variant: str, profile: str, new_tokens: int = 50, evidence: str = "measured") -> Stored:
    """A record as bench/test_decode.py leaves it, times by the link formula and a little noise."""
    rng, link_bps, control = random.Random(variant), link_of(variant), control_of(variant)
    mode = variant.rpartition("-")[0] if link_bps else variant
    native_s, at_once = SHAPE[profile][3], {"batched-32": 6.4, "transformers-batched-32": 5.0}
    num_bytes = bytes_per_token(mode, profile, new_tokens)

    def arm(name: str) -> dict[str, float | None]:
        crossing_s = 8 * num_bytes / (link_bps or 14.4e9) if name == variant else 0.0
        slower = 1.1 if name == PEER else 1.0
        token_s = (native_s * slower + crossing_s) * rng.uniform(0.995, 1.005)
        values: dict[str, float | None] = dict.fromkeys(ROUNDS | (OF_A_LINK if link_bps else set()), 0.5)
        values |= {"token_s": token_s, "total_s": 50 * token_s, "tokens_generated": 50.0}
        values |= {"compute_share": native_s / token_s, "gpu_util_share": 0.9 * native_s / token_s}
        values |= {"tokens_per_s": at_once.get(name, 1.0) / token_s, "device_peak_gb": 14.0}
        return values | ({"link_rate_share": 0.93, "link_formula_share": 1.1} if link_bps else {})

    def graded(name: str) -> dict[str, float | None]:
        values: dict[str, float | None] = dict.fromkeys(TASKS, 1.0)
        crossed = num_bytes if name == variant else 0.0
        return values | {"client_server_bytes_per_token": crossed, "reuse_gap_tokens": 0.0}

    names = ROUNDS | TASKS | OF_A_LINK
    return Stored(variant, "passed", "", {"variant": variant}, Record(
        experiment="decode", variant=variant, control=control, backend="sessions", profile=profile,
        evidence=evidence, complete=True, models={"model": MODEL[profile]},
        settings={"workload": f"prompt72-new{new_tokens}", "device": DEVICE[profile], "link_bps": link_bps},
        metrics={n: Metric(unit="", better="higher" if n in HIGHER else "lower", what=n) for n in names},
        rounds=[
            Round(order="TC" if i % 2 else "CT", treatment=arm(variant),
                  control=arm(control) if control else None)
            for i in range(8)
        ],
        tasks=[
            TaskPair(id=f"prompt-{i}", treatment=graded(variant),
                     control=graded(control) if control else None)
            for i in range(4)
        ],
        checks=[Check(name=name, ok=True, observed="") for name in sorted(CHECKS)],
    ))  # fmt: skip


def run_of(profile: str, new_tokens: int = 50, at_25gbps: str = "modelled") -> list[Stored]:
    """What a run of the bench leaves. `at_25gbps`: a link so fast is a formula, unless one is real."""

    def evidence(variant: str) -> str:
        return at_25gbps if variant.endswith("-25gbps") else "measured"

    return [ran(variant, profile, new_tokens, evidence(variant)) for variant in sorted(VARIANTS)]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_is_decided_once_what_it_asks_for_is_there(claim: Claim) -> None:
    """On the machine that it names, and behind a real link, no row is missing or out of scope."""
    profile = "pocket" if claim.scope == "pocket" else "node"
    at_25gbps = "modelled" if claim.scope == "pocket" else "measured"
    verdict = judge(claim, run_of(profile, at_25gbps=at_25gbps), [f"profile:{profile}"])
    assert verdict.verdict in ("confirmed", "refuted", "inconclusive", "impossible"), verdict.reason
    assert "log ratio" not in verdict.reason


def test_rows_at_the_sources_link_have_an_estimate_here_and_no_verdict() -> None:
    """The bench models 25 Gbps on every machine: an A100 does not decide them, a real link would."""
    found = {claim.id: judge(claim, run_of("node"), ["profile:node"]) for claim in CLAIMS}
    undecided = {name for name, v in found.items() if "needs measured evidence" in v.reason}
    assert undecided == {
        "awareness-transforms-decoding", "blind-latency", "utilisation-over-blind",
        "utilisation-over-partial", "native-bounds-full", "native-bounds-partial", "native-bounds-blind",
        "blind-worse-than-both-ways", "partial-above-blind", "partial-below-full",
    }  # fmt: skip
    assert all(found[name].verdict == "out of scope" for name in undecided)
    assert all(found[name].estimate is not None for name in undecided)
    surface = (BENCH.parents[1] / "docs" / "decode-surface.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in surface for name in undecided)


@pytest.mark.parametrize("new_tokens", [4, 50])
def test_our_own_rows_hold_where_only_the_formulas_do(new_tokens: int) -> None:
    """Thresholds were derived from them, for the shortest runs too; nothing was measured for this."""
    stored = run_of("pocket", new_tokens)
    own = [c for c in CLAIMS if c.scope == "pocket"]
    words = {c.id: judge(c, stored, ["profile:pocket"]).word for c in own}
    assert {name for name, word in words.items() if word != "confirmed"} == set()


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.scope == "pocket"], ids=lambda c: c.id)
def test_our_own_rows_can_fail(claim: Claim) -> None:
    """Where each number is on the other side, by far."""
    stored = run_of("pocket")
    factor = 100.0 if claim.form in ("at_most", "equivalent") else 0.01
    if claim.metric == "token_s":  # a ratio above 1 is a shorter time
        factor = 1 / factor
    shift = 1e9 if claim.quantity == "difference" else 0.0
    (record,) = [s.record for s in stored if s.nodeid == claim.treatment and s.record is not None]
    for part in record.tasks if claim.over == "tasks" else record.rounds:
        assert part.treatment is not None
        part.treatment[claim.metric] = (part.treatment[claim.metric] or 1.0) * factor + shift
    assert judge(claim, stored, ["profile:pocket"]).verdict == "refuted"


@pytest.mark.parametrize("evidence", ["simulated", "modelled"])
def test_a_modelled_link_confirms_no_published_row(evidence: str) -> None:
    """25 Gbps cannot be paced on a loopback; by bytes alone the headline is the formula, not a finding."""
    row = BY_ID["blind-latency"]
    modelled = [ran(name, "node", evidence=evidence) for name in needed_variants(row)]
    verdict = judge(row, modelled, ["profile:node"])
    assert verdict.verdict == "out of scope"
    assert verdict.estimate == pytest.approx(269, rel=0.01)
    assert verdict.reason == f"needs measured evidence; this is {evidence}"


def test_a_row_about_the_formula_is_decided_by_nothing_else() -> None:
    """Measured on a real link it would be another statement."""
    row = BY_ID["pocket-blind-below-30x-at-25gbps"]
    measured = [ran(name, "pocket") for name in needed_variants(row)]
    assert judge(row, measured, ["profile:pocket"]).reason == "needs evidence:modelled"


def test_shorter_rounds_decide_no_published_row() -> None:
    """Four tokens over a dear link are another workload than fifty."""
    row = BY_ID["native-bounds-blind"]
    verdict = judge(row, [ran(row.treatment, "node", new_tokens=4)], ["profile:node"])
    assert (verdict.verdict, verdict.reason) == ("out of scope", "needs workload:prompt72-new50")


def test_a_gain_that_kept_weights_give_too_is_not_awareness() -> None:
    """The causal statement has to beat the mode that only keeps the weights."""
    row = BY_ID["awareness-transforms-decoding"]
    stored = [ran(name, "node") for name in needed_variants(row)]
    assert judge(row, stored, ["profile:node"]).word == "confirmed"
    same = [s for s in stored if "partially" not in s.nodeid]
    other = ran("full-25gbps", "node")
    assert other.record is not None
    other.record.variant = "partially-aware-25gbps"
    verdict = judge(row, [*same, other._replace(nodeid="partially-aware-25gbps")], ["profile:node"])
    assert verdict.not_against == ("partially-aware-25gbps",)
