"""The gate's proof on a real engine: equal arms are never told apart, a slowed one always is.

The slowdown is injected inside the backend: after an answer has taken t seconds, it keeps its caller waiting
for a share of t more. Everything above it (endpoint, executor, summary, pairing, interval) sees it as it
would see an engine that became slower. The share is twice the paired spread that equal arms showed.

And unchanged code passes: on a machine that is busy in bursts, claims that held are measured again and again
under the gate, its one rerun included.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from math import exp, log
from multiprocessing import get_context
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest

from fixtures.nodes import specs_of
from fixtures.options import Settings
from fixtures.pairing import Pairing
from fixtures.pool import Pool, Runner
from fixtures.workflows import WorkflowArm
from harness.routers import LARGE, FixedRouter
from harness.workflow import load
from reports import gate
from reports.claims import Claim
from reports.decisions.decision import decide
from reports.intervals.estimates import measure
from reports.merging import merge_records
from reports.records import Metric, Record
from reports.verdicts import Stored, Verdict, judge

pytestmark = pytest.mark.nightly

REPEATS = 20
MUST = 18
PAIRS = 20
FEW = 6
"""Pairs of the pocket profile."""
UNCHANGED = 19
SLOWER = (1.0, 1.1, 1.2, 1.3, 1.4)
"""What the arm that is slowed by half is claimed to take at least; the last ones are close."""
WORKLOADS = Path(__file__).resolve().parents[1] / "bench" / "workloads"


class Rounds:
    """pytest-benchmark's pedantic without its statistics."""

    enabled = True
    has_error = False

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}

    def pedantic(self, target: Any, *, setup: Any, teardown: Any, rounds: int, warmup_rounds: int) -> None:
        for _ in range(rounds + warmup_rounds):
            setup()
            target()
            teardown()


def claim(form: str) -> Claim:
    return Claim(
        id="slower", version=1, source="the gate's proof", says="the treatment is slower",
        form=form, metric="total_s", treatment="v", control="c", published=1.0, experiment="proof",
    )  # fmt: skip


def measured(runner: Runner, slowdown: float, pairs: int = PAIRS) -> Record:
    """One repeat: pairs of the baseline beside itself, the treatment slowed."""
    pool = Pool(specs_of("pocket", None, ()), "pocket")
    work = load("swe-mini", WORKLOADS).subset(2)
    router = FixedRouter(name="baseline", roles={stage.name: LARGE for stage in work.stages})
    arms = [
        WorkflowArm(n, router, (LARGE,), work, pool, runner, slowdown=s)
        for n, s in (("v", slowdown), ("c", 0))
    ]
    record = Record(
        experiment="proof", variant="v", control="c", backend="llama.cpp", profile="pocket",
        metrics={"total_s": Metric(unit="s", better="lower", what="wall clock")},
    )  # fmt: skip
    settings = Settings(rounds=pairs, warmup_rounds=1)
    return Pairing(Rounds(), settings).run(record, *(arm.arm() for arm in arms))


def spread(records: list[Record]) -> float:
    """Standard deviation of the log ratio of a pair."""
    return stdev(log(t / c) for record in records for t, c in record.pairs("total_s"))


def test_equal_arms_are_never_told_apart_and_a_slowed_one_is_found() -> None:
    """A/A is confirmed as a difference in at most 2 of 20; twice the spread is found in at least 18 of 20."""
    runner = Runner()
    try:
        equal = [measured(runner, 0.0) for _ in range(REPEATS)]
        share = exp(2 * spread(equal)) - 1
        slowed = [measured(runner, share) for _ in range(REPEATS)]
    finally:
        runner.close()
    told_apart = sum(differs(record) for record in equal)
    found = sum(differs(record) for record in slowed)
    print(
        f"paired spread {spread(equal):.1%}, slowdown {share:.1%}: "
        f"told apart {told_apart}, found {found} of {REPEATS}"
    )
    assert REPEATS - told_apart >= MUST
    assert found >= MUST


def differs(record: Record) -> bool:
    """Whether the suite's own rule confirms that the treatment is slower, or faster, than its equal."""
    interval = measure(claim("at_most"), record)
    return any(decide(interval, claim(form)).verdict == "confirmed" for form in ("at_most", "at_least"))


def test_unchanged_code_passes_the_gate_on_a_busy_machine() -> None:
    """At least 19 of 20 sessions, judged by the claims that held when it was quiet."""
    runner = Runner()
    try:
        expected = {v.id: v.word for v in verdicts(measured(runner, 0.5)) if v.word == "confirmed"}
        with busy():
            outcomes = [session(runner, expected) for _ in range(REPEATS)]
    finally:
        runner.close()
    reruns = sum(num for num, _ in outcomes)
    failed = [bad for _, bad in outcomes if bad]
    print(f"{len(expected)} claims, {reruns} of {REPEATS} sessions rerun, {len(failed)} failed: {failed}")
    assert len(expected) >= 3
    assert REPEATS - len(failed) >= UNCHANGED


def session(runner: Runner, expected: dict[str, str]) -> tuple[int, list[str]]:
    """One session under the gate: whether it measured twice, and what failed."""
    record = measured(runner, 0.5, FEW)
    rulings = gate.gate(expected, verdicts(record))
    is_open = any(ruling.outcome == "rerun" for ruling in rulings.values())
    if is_open:
        record = merge_records([record, measured(runner, 0.5, FEW)], launched_anew=False)
        rulings = gate.gate(expected, verdicts(record))
    return int(is_open), [r.why for r in gate.final(rulings).values() if r.outcome == "fail"]


def verdicts(record: Record) -> list[Verdict]:
    """It takes at least so many times as long."""
    stored = [Stored("test_proof[v]", "passed", "", {"variant": "v"}, record)]
    rows = [
        Claim(
            id=f"{times} times as slow", version=1, source="the gate's proof", says="slower", form="at_most",
            metric="total_s", treatment="v", control="c", published=1 / times, experiment="proof",
        )
        for times in SLOWER
    ]  # fmt: skip
    return [judge(row, stored) for row in rows]


@contextlib.contextmanager
def busy(num: int = 2) -> Iterator[None]:
    """So many processes that work in bursts."""
    others = [get_context("spawn").Process(target=bursts, args=(seed,), daemon=True) for seed in range(num)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.terminate()
            other.join()


def bursts(seed: int) -> None:
    """Work for up to a second, rest for up to a second, for ever."""
    rng = random.Random(seed)
    while True:
        until = time.perf_counter() + rng.random()
        while time.perf_counter() < until:
            sum(range(1000))
        time.sleep(rng.random())
