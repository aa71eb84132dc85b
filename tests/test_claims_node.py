"""The rows about any GPU come out confirmed or refuted on one, and out of scope everywhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import floor
from pathlib import Path
from typing import Any

import pytest

from fixtures.random_weights import labelled, without_quality
from reports.claims import Claim, load_all, needed_variants
from reports.commands.decidable import decidable
from reports.records import Check, Metric, Record, Round, Values
from reports.verdicts import Stored, judge

ROOT = Path(__file__).parents[1]
ROWS = {claim.id: claim for claim in load_all(ROOT / "bench" / "claims") if claim.scope == "node"}
NODE, POCKET = ["profile:node"], ["profile:pocket"]
H200 = "NVIDIA H200"
SHAPES = ("random:meta-llama/Llama-2-7b-hf", "random:mistralai/Mistral-7B-v0.3", "random:phi-2-as-llama")
RATIO = "reason_over_reflect_ttft"
CURVE = dict(zip((64, 128, 256, 512, 1024), (1.0, 0.98, 1.95, 3.9, 7.7), strict=True))
"""REASON's steps of 128 tokens, against one: nothing is gained from 64 to 128."""
HOLDS: Mapping[str, Values] = {
    "node-token-near-its-floor": {"bandwidth_floor_share": 0.68},
    "node-under-the-floor": {"bandwidth_floor_share": 1.02},
    "node-reflect-at-72": {RATIO: 1.05},
    "node-reflect-at-256": {RATIO: 1.95},
    "node-reflect-at-512": {RATIO: 3.9},
    "node-reflect-at-1024": {RATIO: 7.7},
    "node-reflect-grows": {},
    "node-shared-holds-32": {"finished_agents": 32.0},
    "node-keepalive-holds-its-number": {"oom_as_arithmetic": 1.0},
    "node-miss-is-a-memcpy": {"copy_s": 0.26},
    "node-miss-at-the-pinned-rate": {"pinned_link_share": 0.96},
    "node-miss-under-the-link": {"pinned_link_share": 1.02},
    "node-hit-below-1ms": {"hit_switch_s": 9e-5},
    "node-ttft-tail-no-worse": {"ttft_s": 0.3},
    "node-outputs-equal": {"same_tokens": 1.0},
}
"""Row → what its treatment measures where the row holds."""
FAILS: Mapping[str, Values] = {
    "node-token-near-its-floor": {"bandwidth_floor_share": 0.41},
    "node-under-the-floor": {"bandwidth_floor_share": 1.3},
    "node-reflect-at-72": {RATIO: 5.0},
    "node-reflect-at-256": {RATIO: 1.2},
    "node-reflect-at-512": {RATIO: 2.0},
    "node-reflect-at-1024": {RATIO: 5.0},
    "node-reflect-grows": {},
    "node-shared-holds-32": {"finished_agents": 31.0},
    "node-keepalive-holds-its-number": {"oom_as_arithmetic": 0.0},
    "node-miss-is-a-memcpy": {"copy_s": 0.31},
    "node-miss-at-the-pinned-rate": {"pinned_link_share": 0.5},
    "node-miss-under-the-link": {"pinned_link_share": 1.8},
    "node-hit-below-1ms": {"hit_switch_s": 2e-3},
    "node-ttft-tail-no-worse": {"ttft_s": 0.9},
    "node-outputs-equal": {"same_tokens": 0.0},
}
BESIDE: Values = {"copy_s": 0.25, "ttft_s": 0.5}
"""What a control measures."""
HIGHER = {"bandwidth_floor_share", RATIO, "finished_agents", "oom_as_arithmetic", "pinned_link_share"} | {
    "same_tokens"
}


def ran(
    claim: Claim, values: Values, *, device: str = H200, models: str = "", profile: str = "node"
) -> Stored:
    """A record as a node leaves it, of random weights in published shapes; without noise but a thousandth."""
    workload = next((n.partition(":")[2] for n in claim.requires if n.startswith("workload:")), "any")
    label = models or ", ".join(labelled(f"{name}@float16") for name in SHAPES)
    record = Record(
        experiment=claim.experiment, variant=claim.treatment, control=claim.control, backend="sessions",
        profile=profile, complete=True, models={"model": label},
        settings={"workload": workload, "device": device, "buffer_gb": 25.0, "link_gb_s": None},
        metrics={
            name: Metric(unit="", better="higher" if name in HIGHER else "lower", what=name)
            for name in {*claim.metrics, *values}
        },
        checks=[Check(name=name, ok=True, observed="") for name in claim.provenance],
    )  # fmt: skip
    if claim.over == "sweep":
        record.sweep = curve(values)
    elif claim.over == "requests":
        record.sweep = requests(claim, values)
    num = 1 if claim.treatment.startswith("ray-") else 12
    for at in range(num):
        noise = 1 if claim.form == "exact" else 1 + 1e-3 * (at % 3)
        mine: Values = {name: None if value is None else value * noise for name, value in values.items()}
        record.rounds.append(
            Round(order="TC", treatment=mine, control=dict(BESIDE) if claim.control else None)
        )
    return Stored(claim.treatment, "passed", "", {"variant": claim.treatment}, without_quality(record))


def curve(values: Values) -> list[dict[str, Any]]:
    """Twice at each prompt, hardly with noise; one that falls where `values` says so."""
    along = list(CURVE.values())[:: -1 if values.get("falls") else 1]
    return [
        {"name": "point", "arm": arm, "prompt_tokens": prompt, "round": at, RATIO: ratio * (1 + 1e-5 * at)}
        for arm in ("shared", "engine-prefix-cache")
        for prompt, ratio in zip(CURVE, along if arm == "shared" else along[::-1], strict=True)
        for at in range(2)
    ]


def requests(claim: Claim, values: Values) -> list[dict[str, Any]]:
    """30 seeds of 30 requests, of which every tenth is as long or as wrong as `values` says."""
    (metric,) = claim.metrics
    usual = {"ttft_s": 0.05, "same_tokens": 1.0}[metric]
    points = []
    for arm, value in {"treatment": values[metric], "control": BESIDE.get(metric)}.items():
        for seed in range(30 if value is not None else 0):
            noise = 1 + 1e-3 * (seed % 3) if metric == "ttft_s" else 1
            for at in range(30):
                told = (value or 0.0) if at % 10 == 0 else usual
                head = {"name": "request", "arm": arm, "round": seed, "seed": seed, "agent": at}
                points.append({**head, "index": at, "phase": "request", metric: told * noise})
    return points


def verdict_of(claim: Claim, values: Values, offers: list[str] = NODE, **record: str) -> tuple[str, str]:
    found = judge(claim, [ran(claim, values, **record)], offers)
    return found.verdict, found.reason


def test_each_must_show_of_the_issue_is_a_row() -> None:
    """And each of them is tried both ways below."""
    assert ROWS.keys() == HOLDS.keys() == FAILS.keys()
    assert {claim.experiment for claim in ROWS.values()} == {"decode", "agents", "switching"}


@pytest.mark.parametrize("claim", ROWS.values(), ids=lambda c: c.id)
def test_a_node_run_on_random_weights_confirms_or_refutes_it(claim: Claim) -> None:
    """By its own numbers, whatever the device is called."""
    falls: Values = {"falls": 1.0} if claim.over == "sweep" else {}
    for device in (H200, "Tesla V100-SXM2-32GB"):
        assert verdict_of(claim, dict(HOLDS[claim.id]), device=device)[0] == "confirmed"
        assert verdict_of(claim, dict(FAILS[claim.id]) | falls, device=device)[0] == "refuted"


@pytest.mark.parametrize("claim", ROWS.values(), ids=lambda c: c.id)
@pytest.mark.parametrize(
    ("changes", "offers", "needs"),
    [
        ({"profile": "pocket", "device": "cpu", "models": "llama-34m@float32"}, POCKET, "profile:node"),
        ({"device": "cpu"}, NODE, "device:cuda"),
        ({"models": "random:tiny-llama@float16 (random weights)"}, NODE, "model:llama-2-7b"),
    ],
    ids=["pocket", "processor", "another model"],
)  # fmt: skip
def test_anywhere_else_it_says_what_it_needs(
    claim: Claim, changes: Mapping[str, str], offers: list[str], needs: str
) -> None:
    """Neither a laptop's record nor a node's on a processor decides it, however good."""
    verdict, reason = verdict_of(claim, dict(HOLDS[claim.id]), offers, **changes)
    assert (verdict, needs in reason) == ("out of scope", True)


@pytest.mark.parametrize("claim", ROWS.values(), ids=lambda c: c.id)
def test_a_failed_check_makes_it_invalid(claim: Claim) -> None:
    """A number of another code path says nothing."""
    entry = ran(claim, dict(HOLDS[claim.id]))
    assert entry.record is not None
    entry.record.checks[0] = Check(name=claim.provenance[0], ok=False, observed="not so")
    assert judge(claim, [entry], NODE).verdict == "invalid"


def test_survey_and_run_agree_on_who_decides_them() -> None:
    """`python -m harness.hardware` counts them on a GPU, random weights or not, and nowhere else."""
    gpu = [*NODE, f"device:{H200}", "device:cuda", *(f"model:{name}" for name in SHAPES)]
    for experiment in {claim.experiment for claim in ROWS.values()}:
        own = [claim for claim in ROWS.values() if claim.experiment == experiment]
        ids = {claim.id for claim in own}
        assert set(decidable(experiment, own, gpu).on_random) == ids
        assert set(decidable(experiment, own, [*POCKET, "model:llama-34m"]).elsewhere) == ids


def test_a_gpu_that_nobody_was_refused_on_tells_nothing_of_its_arithmetic() -> None:
    """Sixteen models that all fit leave it open."""
    claim = ROWS["node-keepalive-holds-its-number"]
    assert verdict_of(claim, {"oom_as_arithmetic": None})[0] == "inconclusive"


def test_the_variants_are_those_of_a_node() -> None:
    """By the functions that parametrize the bench."""
    pytest.importorskip("msgspec")
    pytest.importorskip("torch")
    from fixtures.agents_variants import ARMS, CURVES, counts_of, long_prompts_of
    from fixtures.switching_variants import ARMS as SWITCHED
    from fixtures.switching_variants import MEMCPY

    counted = {f"{arm}-{count}" for arm in ARMS for count, _ in counts_of("node", arm, None)}
    there: dict[str, Callable[[str], bool]] = {
        "agents": {*counted, *CURVES, *long_prompts_of("node")}.__contains__,
        "decode": {"native"}.__contains__,
        "switching": {*SWITCHED, MEMCPY}.__contains__,
    }
    for claim in ROWS.values():
        assert all(map(there[claim.experiment], needed_variants(claim))), claim.id


def test_the_curve_may_be_flat_at_its_beginning_and_no_more() -> None:
    """A step back by 0.02 × is no fall, however little noise it has; one by 0.2 × is."""
    claim = ROWS["node-reflect-grows"]
    entry = ran(claim, {})
    assert judge(claim, [entry], NODE).verdict == "confirmed"
    assert judge(replace(claim, margin=None), [entry], NODE).verdict == "refuted"
    assert entry.record is not None
    for point in entry.record.sweep:
        point[RATIO] *= 0.8 if point["prompt_tokens"] == 128 else 1
    assert judge(claim, [entry], NODE).verdict == "refuted"


@pytest.mark.parametrize(("prompt_tokens", "num_steps"), [(256, 2), (512, 4), (1024, 8)])
def test_reflects_thresholds_are_the_sum_that_the_rows_state(prompt_tokens: int, num_steps: int) -> None:
    """Steps of 2.8 ms, 1 ms that is no step, and keys and values, rounded down to a tenth."""
    kv = (prompt_tokens + 50 + 32) * 524_288 / 13.2147e9
    times = (num_steps * 2.8 + 1) / ((1 + kv) * 2.8 + 1)
    claim = ROWS[f"node-reflect-at-{prompt_tokens}"]
    assert claim.published == floor(10 * times) / 10
    assert f"{times:.2f}" in (claim.threshold_from or "")


def test_a_bandwidth_measured_too_low_does_not_pass_for_a_fast_token() -> None:
    """What confirms the one row refutes its twin."""
    for least, most, metric in [
        ("node-token-near-its-floor", "node-under-the-floor", "bandwidth_floor_share"),
        ("node-miss-at-the-pinned-rate", "node-miss-under-the-link", "pinned_link_share"),
    ]:
        assert verdict_of(ROWS[least], {metric: 1.3})[0] == "confirmed"
        assert verdict_of(ROWS[most], {metric: 1.3})[0] == "refuted"


def test_no_row_of_a_node_is_among_what_the_pockets_runs_decided() -> None:
    """Where the lock names one at all, it is out of scope; the README's tables print none."""
    lock = json.loads((ROOT / "claims.lock").read_text())["pocket"]
    decided = {claim for claim, word in lock.items() if word != "out of scope"}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = load_all(ROOT / "bench" / "claims")
    printed = {claim.id for claim in rows if f"\n| {claim.says} (" in readme}
    assert "pocket-under-the-floor" in decided & printed
    assert not ROWS.keys() & (decided | printed)


def test_the_documents_count_the_rows_of_a_node() -> None:
    """And say that none of them needs trained weights."""
    numbers = {13: "Thirteen", 15: "Fifteen"}
    assert f"{numbers[len(ROWS)]} rows with `scope" in (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert not [claim.id for claim in ROWS.values() if "weights:trained" in claim.requires]
