"""Switching's rows are whole, ask for what is recorded, and keep the published numbers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("msgspec")

from reports.claims import Claim, load, needed_variants
from reports.coverage import read_published
from reports.records import Check, Failure, Round, Values
from reports.verdicts import Stored, Verdict, judge
from tests import switched_runs as runs
from tests.switched_runs import CONTROL, LIVE, NODE, SIMULATED, checks_of, metrics_of, ran

BENCH = Path(__file__).parents[1] / "bench" / "claims"
CLAIMS = load(BENCH / "switching.toml")
BY_ID = {claim.id: claim for claim in CLAIMS}
CONTROLS = {"miss-memcpy": "memcpy", "concurrent-8": "sequential", "sim-belady": "belady"}
POCKET, AT_NODE = ["profile:pocket"], ["profile:node"]
KNOWN = {*LIVE, *NODE, *SIMULATED, *CONTROLS}
SOURCES = "fifo-ring-copy-out"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_names_variants_that_there_are_with_the_control_that_they_have(claim: Claim) -> None:
    """What is simulated and what runs live are never compared."""
    names = needed_variants(claim)
    assert set(names) <= KNOWN
    assert len({name in SIMULATED for name in names}) == 1
    if claim.control is not None:
        assert claim.control == CONTROLS.get(claim.treatment, CONTROL) != claim.treatment
    assert (claim.treatment in SIMULATED) == ("evidence:simulated" in claim.requires)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_asks_for_metrics_and_checks_that_its_variants_record(claim: Claim) -> None:
    """Of each variant; a simulation runs no code that a check could look at."""
    wanted = {*claim.metrics, *([claim.of] if claim.of else [])}
    for name in needed_variants(claim):
        assert wanted <= metrics_of(name).keys()
    assert set(claim.provenance) <= checks_of(claim.treatment)
    assert bool(claim.provenance) == (claim.treatment not in SIMULATED)
    if claim.against is not None:
        assert set(claim.provenance) <= checks_of(claim.against)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_a_published_row_covers_a_statement_and_ours_a_threshold_of_its_own(claim: Claim) -> None:
    """Published seconds ask for the machine that the source names; counts and orders for none."""
    assert bool(claim.covers) == (claim.scope is None)
    assert claim.id.startswith("pocket-") == (claim.scope == "pocket")
    assert claim.id.startswith("node-") == (claim.scope == "node")
    if claim.scope == "node":
        assert {"profile:node", "device:cuda", "model:llama-2-7b"} <= set(claim.requires)
    elif claim.scope == "pocket":
        assert claim.requires[0] in ("profile:pocket", "evidence:simulated")
    elif "profile:node" in claim.requires:
        assert "device:h100" in claim.requires
    else:
        assert claim.unit != "s"


def test_published_numbers_are_kept() -> None:
    """As the source has them, in our units."""
    published = {
        "median-3x": 3.1,
        "vllm-13x": 13.1,
        "speedup-at-20-gb": (3.07, 3.13),
        "hits-16-of-30": 16.0,
        "hit-near-zero": 0.01,
        "djinn-p50": 1.392,
        "djinn-p99": 14.905,
        "djinn-mean": 2.522,
        "pinned-p50": 4.302,
        "pinned-p99": 5.402,
        "pinned-mean": 3.912,
        "pinned-pays-4.3s": 4.3,
        "vllm-p50": 18.213,
        "vllm-p99": 20.607,
        "vllm-pays-18.2s": 18.2,
        "runtime-10-min": 600.0,
        "runtime-djinn": 75.0,
        "runtime-pytorch": 117.0,
        "runtime-vllm": 410.0,
        "runtime-serverless": 118.0,
        "19gb-make-room": 19e9,
    }
    assert {name: BY_ID[name].published for name in published} == published
    assert BY_ID["p99-2.8x-worse"].published == pytest.approx(5402 / 14905, abs=1e-4)
    assert BY_ID["concurrent-60-percent"].published == 0.6
    assert BY_ID["vllm-fails-27-percent"].published == pytest.approx(22 / 30, abs=1e-4)
    assert BY_ID["buffer-forces-swapping"].published == pytest.approx(29 / 30, abs=1e-4)


def test_these_statements_are_impossible_whatever_runs() -> None:
    """Each shows its sum, and when it would be possible."""
    found = {v.id: v.reason for c in CLAIMS if (v := judge(c, [])).verdict == "impossible"}
    sums = {
        "hits-100-percent-cold": "(30 − 3) ÷ 30 = 90%",
        "hit-below-10ms-in-total": "50 tokens × 4.955 GB ÷ 3.35 TB/s (H100 SXM) = 74 ms",
        "pinned-pays-4.3s": "= 4.228 s at most, not 4.3 s",
        "vllm-pays-18.2s": "= 18.14 s at most, not 18.2 s",
        "cold-start-is-one-time": "7% of 30 requests are 2 at least, not 1",
        "cold-start-evicts-19gb": "13.5 GB (mistral-7b) at most can go, not 19 GB",
        "19gb-make-room": "6.3 GB have to go, not 19 GB",
        "p99-by-19gb": "8.9 s at most, not 14.9 s",
        "runtime-10-min": "= 720 s, not 600 s",
    }
    assert found.keys() == sums.keys()
    assert [name for name, text in sums.items() if text not in found[name]] == []
    assert {c.id for c in CLAIMS if c.floor} == sums.keys()


def test_all_that_is_published_of_switching_stands_in_its_source() -> None:
    """106 statements and 109 names."""
    statements = [p.id for p in read_published(BENCH / "published_claims.csv") if p.experiment == "switching"]
    assert statements == [f"switching-{number:03}" for number in range(1, 107)]
    names = [p.id for p in read_published(BENCH / "published_surface.csv") if p.experiment == "switching"]
    assert names == [f"surface-{number}" for number in range(431, 540)]


@cache
def stored(variant: str, seeds: int = 30, on: str = "pocket") -> Stored:
    return ran(variant, seeds, on=on)


def judged(claim: Claim, seeds: int = 30) -> Verdict:
    """A verdict on what the simulator says that the arms do."""
    return judge(claim, [stored(name, seeds) for name in needed_variants(claim)], POCKET)


def decided_here() -> list[Claim]:
    """Our own rows, and those of the source that any machine decides."""
    anywhere = {"workload:published-mix", "buffer_gb:25.0", "evidence:simulated"}
    rows = [c for c in CLAIMS if c.scope == "pocket" or set(c.requires) <= anywhere]
    return [c for c in rows if judge(c, []).verdict != "impossible"]


NOT_CONFIRMED = {
    # published: its baseline is not fair, its own ring is not partial, and its own tail is not bounded
    **dict.fromkeys(("fair-baseline", "partial-residency-as-published", "pinned-wall"), "refuted"),
    **dict.fromkeys(("bounded-latency-as-published", "hits-16-of-30-by-default"), "refuted"),
    "hits-16-of-30": "inconclusive",
    # the source's races are its own
    "concurrent-60-percent": "refuted",
    # ours: from a filled arena, as the row says
    "pocket-bytes-near-belady": "refuted",
    "pocket-sim-bytes-near-belady": "inconclusive",
    "pocket-sim-bytes-near-belady-arm-filled": "refuted",
}


@pytest.mark.parametrize("claim", decided_here(), ids=lambda c: c.id)
def test_rows_that_any_machine_decides_come_out_as_simulated(claim: Claim) -> None:
    """Thresholds were derived from arithmetic; nothing was measured for this."""
    verdict = judged(claim)
    assert verdict.sentence == NOT_CONFIRMED.get(claim.id, "confirmed"), (verdict.interval, verdict.reason)


@pytest.mark.parametrize("claim", decided_here(), ids=lambda c: c.id)
def test_they_can_fail(claim: Claim) -> None:
    """Where each number of the treatment is on the other side, by far."""
    record = ran(claim.treatment).record
    assert record is not None
    others = [stored(name) for name in needed_variants(claim) if name != claim.treatment]
    is_lower = metrics_of(claim.treatment)[claim.metrics[0]].better == "lower"
    is_ratio, is_up = claim.quantity == "ratio", claim.form in ("at_least", "no_worse_than")
    upward = (is_lower if is_up else not is_lower) if is_ratio else not is_up

    def worse(values: Any) -> None:
        for name in claim.metrics:
            value = values.get(name) or 0.0
            values[name] = value * 100 + 100 if upward else value / 100 - (not is_ratio)

    for point in record.sweep:
        if claim.over == "requests" and point["name"] == "request" and point["arm"] == "treatment":
            for name in claim.metrics:
                point[name] = point[name] * 100 + 1e-9 if upward else point[name] / 100
        if claim.form == "monotone" and claim.direction == "increasing":
            point[claim.metric] = 1 / (1e-3 + point[claim.metric])
        elif claim.form == "monotone":
            point[claim.metric] = -point[claim.metric]
    parts: list[Values | None] = [one.treatment for one in record.rounds]
    parts += [task.treatment for task in record.tasks]
    if claim.over in ("rounds", "tasks"):
        for values in parts:
            worse(values)
    found = judge(claim, [Stored(claim.treatment, "passed", "", {}, record), *others], POCKET)
    assert found.verdict == "refuted", (found.estimate, found.interval, found.reason)


@pytest.mark.parametrize(
    "claim", [claim for claim in CLAIMS if claim.quantile and claim.scope == "pocket"], ids=lambda c: c.id
)
def test_two_seeds_tell_nothing_of_a_quantile_of_all(claim: Claim) -> None:
    """The default run has two of most arms: such rows say how many are missing."""
    verdict = judged(claim, seeds=2)
    assert verdict.verdict == "inconclusive"
    assert verdict.more == 8


def test_the_tail_is_compared_with_both_controls_of_the_same_seeds() -> None:
    """P99 of 900 requests: that of keep-last is a reload's, as the row expects."""
    verdict = judged(BY_ID["pocket-ttft-tail-no-worse"])
    assert (verdict.verdict, verdict.n, verdict.evidence) == ("confirmed", 30, "measured")
    (control,) = verdict.controls
    assert control["beaten"]
    reload_everywhere = ran("home-slot").record
    assert reload_everywhere is not None
    for point in reload_everywhere.sweep:
        point["ttft_s"] = 0.5 + 0.001 * point["index"] + 0.01 * (point["seed"] % 3)
    same = Stored("home-slot", "passed", "", {}, reload_everywhere)
    again = judge(BY_ID["pocket-ttft-tail-no-worse"], [same, stored("keep-last")], POCKET)
    assert again.sentence == "confirmed, but not against keep-last"


def test_one_wrong_token_makes_every_row_of_its_arm_invalid() -> None:
    """The share of completed requests counts for nothing where the tokens differ."""
    entry = ran("lru")
    assert entry.record is not None
    wrong = Check(name="equal_tokens", ok=False, observed="899 of 900")
    entry.record.checks = [wrong if c.name == wrong.name else c for c in entry.record.checks]
    verdict = judge(BY_ID["pocket-completes-lru"], [entry], POCKET)
    assert (verdict.verdict, verdict.reason) == ("invalid", "equal_tokens: 899 of 900")


def test_a_failed_request_confirms_no_reliability() -> None:
    """It is an error, whatever the rounds that are left say."""
    entry = ran("home-slot")
    assert entry.record is not None
    entry.record.failures = [Failure(arm="treatment", round=3, where="request 7", error="ArenaError: x")]
    assert judge(BY_ID["capacity-becomes-latency"], [entry], POCKET).verdict == "error"


@pytest.mark.parametrize(("lost", "word"), [(0, "confirmed"), (2, "error")])
def test_failures_confirm_that_requests_fail_unless_rounds_are_lost(lost: int, word: str) -> None:
    """8 of 30 in each round, counted; a round that left nothing counts none."""
    entry = ran("vllm-recreate", 13, on="node")
    assert entry.record is not None
    for at, one in enumerate(entry.record.rounds):
        assert one.treatment is not None
        one.treatment["completed_share"] = 22 / 30
        if at < lost:
            entry.record.rounds[at] = Round(order=one.order, treatment=None, control=one.control)
    entry.record.failures = [Failure(arm="treatment", round=0, where="request 4", error="out of memory")]
    verdict = judge(BY_ID["vllm-fails-27-percent"], [entry], AT_NODE)
    assert verdict.verdict == word


def test_a_simulation_confirms_no_live_row() -> None:
    """And a live run none that asks for a simulation."""
    entry = ran("home-slot")
    assert entry.record is not None
    entry.record.evidence = "simulated"
    verdict = judge(BY_ID["capacity-becomes-latency"], [entry], POCKET)
    assert (verdict.verdict, verdict.reason) == ("out of scope", "needs measured evidence; this is simulated")
    live = ran("sim-buffers")
    assert live.record is not None
    live.record.evidence = "measured"
    verdict = judge(BY_ID["hits-scale-with-the-buffer"], [live], POCKET)
    live.record.evidence = "simulated"
    assert verdict.verdict == "out of scope"


@pytest.mark.parametrize("name", ["median-3x", "completes-at-20-gb", "hits-100-percent-warm"])
def test_a_published_row_says_in_the_pocket_what_it_needs(name: str) -> None:
    """The machine, the models, the buffer."""
    verdict = judged(BY_ID[name])
    assert verdict.verdict == "out of scope"
    needs = {
        need for need in BY_ID[name].requires if need not in ("workload:published-mix", "buffer_gb:25.0")
    }
    assert all(need in verdict.reason for need in needs)


def test_another_buffer_is_another_claim() -> None:
    """What is said of 40 GB is decided at 40 GB, where all that was loaded before hits."""
    at_40 = [ran("home-slot", 12, buffer_gb=40.0)]
    assert judge(BY_ID["hits-100-percent-warm"], at_40, POCKET).verdict == "confirmed"
    verdict = judge(BY_ID["buffer-forces-swapping"], at_40, POCKET)
    assert (verdict.verdict, verdict.reason) == ("out of scope", "needs buffer_gb:25.0")


ANYWHERE = {
    # what an arm, a process, a copy or a sweep is, whatever the arena
    *("no-caching-in-pinned", "serverless-from-disk", "isolated-baselines"),
    *("pocket-miss-is-a-memcpy", "pocket-hit-is-free"),
    *(claim.id for claim in CLAIMS if claim.form == "monotone" or claim.treatment == "sim-belady"),
}


@pytest.mark.parametrize("setting", [{"buffer_gb": 40.0}, {"workload": "mine"}], ids=str)
def test_no_row_is_decided_by_other_settings_than_it_speaks_of(setting: dict[str, Any]) -> None:
    """Where all models fit no tail is long and no bytes cross; requests of one's own may all hit."""
    unlike: set[str] = {"fair-baseline", "pinned-wall"} if "buffer_gb" in setting else set()
    decided = []
    for claim in decided_here():
        run = [ran(name, 2) for name in needed_variants(claim)]
        run = [
            entry._replace(record=replace(entry.record, settings=entry.record.settings | setting))
            for entry in run
            if entry.record is not None
        ]
        decided += [claim.id] if judge(claim, run, POCKET).verdict != "out of scope" else []
    assert set(decided) == ANYWHERE | unlike


@pytest.mark.parametrize(
    "claim", [c for c in CLAIMS if "profile:node" in c.requires and not c.floor], ids=lambda c: c.id
)
def test_on_the_sources_machine_every_row_is_decided(claim: Claim) -> None:
    """With a stand-in for Phi-2, and arms that are simulated for want of one: by numbers, either way."""
    size = next((need for need in claim.requires if need.startswith("buffer_gb")), "buffer_gb:25.0")
    buffer_gb = float(size.partition(":")[2])
    run = [ran(name, 13, on="node", buffer_gb=buffer_gb) for name in needed_variants(claim)]
    verdict = judge(claim, run, AT_NODE)
    assert verdict.verdict in ("confirmed", "refuted", "inconclusive"), verdict.reason
    assert verdict.estimate is not None


def test_the_published_speed_up_over_vllm_does_not_beat_engines_that_stay_up() -> None:
    """An engine made anew for each request is slow; one per model on the same device is not."""
    claim = BY_ID["vllm-13x"]
    run = [ran(name, 30, on="node") for name in needed_variants(claim)]
    for entry in run:
        for point in entry.record.sweep if entry.record is not None else ():
            engine_s = 18.0 if (entry.nodeid, point["arm"]) == ("vllm-recreate", "treatment") else 0.0
            point["total_s"] = engine_s + point["ttft_s"]
    verdict = judge(claim, run, AT_NODE)
    assert verdict.verdict == "confirmed"
    assert "process-per-model" in verdict.not_against


def test_the_names_that_rows_and_records_speak_of_are_the_fixtures_own() -> None:
    """A variant that is renamed there is missing here."""
    from fixtures import switching_variants as variants

    assert set(variants.ARMS) == set(LIVE)
    assert set(variants.NODE_ARMS) == set(NODE)
    assert set(variants.SIMULATED) == set(SIMULATED)
    assert {variants.CONCURRENT, variants.MEMCPY, "sim-belady"} == set(CONTROLS)
    assert runs.CONTROL == variants.CONTROL
    assert SOURCES in variants.ARMS
