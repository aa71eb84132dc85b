"""Comparing on a real engine: planned from a pilot, a 10 % slowdown inside the backend is found in 18 of 20.

Each repeat is two sessions: one as it is, one whose backend keeps its caller waiting for a tenth of each
answer's time more. The number of pairs is the one that `plan --detect 10%` gives for the pilot's spread.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.pool import Runner
from reports.compare import compare
from reports.comparing.rows import Row
from reports.plans.detecting import detect
from reports.records import Record
from reports.runs import Entry, Run
from tests.test_gate_real import measured

pytestmark = pytest.mark.nightly

SLOWDOWN, POWER = 0.10, 0.98
REPEATS, MUST = 20, 18
PILOT = 20
MOST = 150
"""Pairs per run beyond which a night is not enough."""


def run_of(record: Record) -> Run:
    """A run of this one test."""
    record.launch = "round"
    return Run(path=Path("run"), entries=(Entry(nodeid="t[v]", outcome="passed", record=record),))


def row_of(before: Record, after: Record) -> Row:
    """What comparing the two sessions says of the ratio to the control."""
    (row,) = [
        r
        for r in compare(run_of(before), run_of(after)).metrics
        if r.name == "t[v]" and r.metric == "total_s"
    ]
    return row


def test_a_slowdown_of_10_percent_is_found_with_the_planned_rounds() -> None:
    """18 of 20 are named as regressed; of 20 pairs of equal sessions at most 2 are named."""
    runner = Runner()
    try:
        pilot = measured(runner, 0.0, pairs=PILOT)
        (planned,) = detect(run_of(pilot), SLOWDOWN, POWER, drift=0.05)
        if planned.needs is None or planned.needs > MOST:
            pytest.skip(
                f"the machine is too busy: pairs spread by {planned.sd:.0%}, {planned.needs} are needed"
            )
        equal = [measured(runner, 0.0, pairs=planned.needs) for _ in range(REPEATS)]
        slowed = [measured(runner, SLOWDOWN, pairs=planned.needs) for _ in range(REPEATS)]
    finally:
        runner.close()
    rows = [row_of(a, b) for a, b in zip(equal, slowed, strict=True)]
    quiet = [row_of(a, b) for a, b in zip(equal, [*equal[1:], pilot], strict=True)]
    found = sum(row.word == "regressed" for row in rows)
    alarms = sum(row.word in ("regressed", "improved") for row in quiet)
    held = sum(row.interval is not None and row.interval[0] <= SLOWDOWN <= row.interval[1] for row in rows)
    print(
        f"spread {planned.sd:.1%}, {planned.needs} pairs of each run: found {found} of {REPEATS}, "
        f"interval holds {SLOWDOWN:.0%} in {held}; of {REPEATS} equal ones {alarms} named"
    )
    assert found >= MUST
    assert alarms <= REPEATS - MUST
