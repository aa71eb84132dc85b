"""Several sessions of one plan become one record, and nothing else ever merges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.claims import load
from reports.errors import MergeError
from reports.merging import GRADED_ALIKE, PER_SESSION, merge_records
from reports.records import Check, Failure, Metric, Record, Round, TaskPair
from reports.runs import Run
from reports.verdicts import Stored, judge

METRICS = {
    "total_s": Metric(unit="s", better="lower", what="wall-clock time"),
    "solved": Metric(unit="share", better="higher", what="1 where the task was solved"),
    "cost_usd": Metric(unit="USD", better="lower", what="what the task cost"),
}


def record(value: float = 1.0, **changes: Any) -> Record:
    """A small session: two rounds, two tasks, a sweep's point per round."""
    given: dict[str, Any] = {
        "experiment": "demo",
        "variant": "cascade",
        "control": "baseline",
        "backend": "fake",
        "profile": "pocket",
        "launch": "round",
        "settings": {"tasks": 2, "rounds": 2, "slo_s": 0.3},
        "models": {"large": "pocket:large"},
        "metrics": METRICS,
        "rounds": [
            Round(order=order, treatment={"total_s": value}, control={"total_s": 2 * value})
            for order in ("CT", "TC")
        ],
        "tasks": [
            TaskPair(id=name, treatment={"solved": 1.0, "cost_usd": value}, control={"solved": 1.0})
            for name in ("a", "b")
        ],
        "sweep": [{"name": "request", "round": at, "ttft_s": value} for at in range(2)],
        "checks": [Check(name="no_fallback", ok=True, observed="0 of 2")],
        "complete": True,
    }
    return Record(**{**given, **changes})


def test_rounds_are_kept_apart_by_session() -> None:
    """Every round is kept in order and knows its session, and a sweep's rounds run on."""
    merged = merge_records([record(1.0), record(2.0), record(3.0)])
    assert [(r.session, r.treatment) for r in merged.rounds] == [
        (at, {"total_s": value}) for at, value in enumerate((1.0, 2.0, 3.0)) for _ in range(2)
    ]
    assert [(p["session"], p["round"], p["ttft_s"]) for p in merged.sweep] == [
        (0, 0, 1.0), (0, 1, 1.0), (1, 2, 2.0), (1, 3, 2.0), (2, 4, 3.0), (2, 5, 3.0),
    ]  # fmt: skip
    assert merged.sessions == 3


def test_what_was_merged_merges_on_and_leaves_its_parts_alone() -> None:
    """Merging in two steps gives the same record, and no record given is changed."""
    parts = [record(v, settings={"tasks": 2, "slo_s": v}) for v in (1.0, 2.0, 3.0)]
    before = [part.to_json() for part in parts]
    once = merge_records(parts)
    assert merge_records([merge_records(parts[:2]), parts[2]]) == once
    assert merge_records([parts[0], merge_records(parts[1:])]) == once
    assert Record.from_json(once.to_json()) == once
    assert [part.to_json() for part in parts] == before


def test_a_task_graded_again_is_the_same_observation() -> None:
    """The first grade stands, a task that only a later session graded is added, and a difference is told."""
    second = record(
        tasks=[
            TaskPair(id="b", treatment={"solved": 0.0, "cost_usd": 9.0}, control={"solved": 1.0}),
            TaskPair(id="c", treatment={"solved": 1.0}, control={"solved": 1.0}),
        ]
    )
    merged = merge_records([record(), second])
    assert [(t.id, t.treatment["solved"]) for t in merged.tasks] == [("a", 1.0), ("b", 1.0), ("c", 1.0)]
    told = next(check for check in merged.checks if check.name == GRADED_ALIKE)
    assert (told.ok, told.observed) == (
        False,
        "1 of 2 tasks were graded the same again; differ: b in solved",
    )
    alike = merge_records([record(1.0), record(2.0)])  # their costs differ, as every clock does
    assert next(check for check in alike.checks if check.name == GRADED_ALIKE).ok


@pytest.mark.parametrize(
    ("checks", "ok", "observed"),
    [
        ([Check(name="no_fallback", ok=True, observed="0 of 2")], True, "0 of 2"),
        (
            [Check(name="no_fallback", ok=False, observed="1 of 2")],
            False,
            "session 1: 0 of 2; session 2: 1 of 2",
        ),
        ([], False, "session 1: 0 of 2; session 2: was not checked"),
    ],
)
def test_a_check_must_hold_in_every_session(checks: list[Check], ok: bool, observed: str) -> None:
    """One that failed or was not made in a session does not hold, and says where."""
    merged = merge_records([record(), record(checks=checks)])
    found = next(check for check in merged.checks if check.name == "no_fallback")
    assert (found.ok, found.observed) == (ok, observed)


def test_failures_are_kept_with_their_rounds_and_one_unfinished_session_is_enough() -> None:
    """A failure's round counts on through the sessions; merged is complete only when all were."""
    failure = Failure(arm="control", round=1, where="analysis", error="timeout")
    merged = merge_records([record(), record(failures=[failure]), record(failures=[failure], complete=False)])
    assert [f.round for f in merged.failures] == [3, 5]
    assert not merged.complete


def test_what_was_measured_before_the_rounds_is_told_per_session() -> None:
    """An SLO made from a measured time may differ; the first stands and all are told."""
    second = record(settings={"tasks": 2, "rounds": 2, "slo_s": 0.31})
    merged = merge_records([record(), second])
    assert merged.settings == {"tasks": 2, "rounds": 2, "slo_s": 0.3, PER_SESSION: {"slo_s": [0.3, 0.31]}}


def test_records_of_other_plans_never_merge_and_every_difference_is_named() -> None:
    """The message holds each field that differs with both values, and nothing that is equal."""
    other = record(
        backend="ollama",
        models={"large": "mistral:7b"},
        settings={"tasks": 8, "rounds": 2, "slo_s": None},
    )
    with pytest.raises(MergeError) as caught:
        merge_records([record(), other])
    assert str(caught.value).splitlines()[1:] == [
        "  backend: fake → ollama",
        "  models.large: pocket:large → mistral:7b",
        "  settings.slo_s: 0.3 → None",
        "  settings.tasks: 2 → 8",
    ]


def test_a_rerun_beside_a_server_that_stayed_up_is_no_new_launch() -> None:
    """Its rounds belong to the session of the first; where each round launches anew they do not."""
    stays = [record(launch="session"), record(launch="session")]
    assert {r.session for r in merge_records(stays, launched_anew=False).rounds} == {0}
    assert merge_records(stays, launched_anew=False).sessions == 1
    assert merge_records(stays).sessions == 2
    unknown = [record(launch=None), record(launch=None)]
    assert merge_records(unknown, launched_anew=False).sessions == 1
    assert merge_records([record(), record()], launched_anew=False).sessions == 2


def test_nothing_does_not_merge() -> None:
    """An empty list is a mistake of the caller's."""
    with pytest.raises(MergeError, match="no record"):
        merge_records([])


def halves(one: Record) -> list[Record]:
    """A record as two sessions would have left it: its rounds in two, the same tasks graded in both."""
    cut = len(one.rounds) // 2
    if not cut:
        return [one]
    ends = [(0, cut), (cut, len(one.rounds))]
    return [
        replace(
            one,
            launch="round",
            rounds=one.rounds[begin:end],
            sweep=[
                {**point, "round": point["round"] - begin} if "round" in point else point
                for point in one.sweep
                if (begin <= point["round"] < end if "round" in point else begin == 0)
            ],
        )
        for begin, end in ends
    ]


@pytest.mark.parametrize(
    ("name", "experiment"),
    [("pocket", "agents"), ("pocket", "cascade"), ("pocket-strategies", "strategies")],
)
def test_a_real_run_measured_in_two_halves_is_judged_as_the_whole(name: str, experiment: str) -> None:
    """Of what launches per round, two sessions of half the rounds merge to every verdict of the whole.

    Records of one round are of one session, and meet the first one of those that have two.
    """
    folder = Path(__file__).parents[1] / "reports" / "reference" / name
    entries = [e for e in Run.read(folder).entries if e.experiment == experiment]

    def stored(change: Callable[[Record], Record]) -> list[Stored]:
        records = [e.record and change(e.record) for e in entries]
        return [
            Stored(nodeid=e.nodeid, state=e.outcome, why=e.why, params=e.params, record=r)
            for e, r in zip(entries, records, strict=True)
        ]

    whole, merged = stored(lambda r: r), stored(lambda r: merge_records(halves(r)))
    rows = load(folder / "claims" / f"{experiment}.toml")
    assert {s.record.sessions for s in merged if s.record} >= {2}
    for row in rows:
        one, other = judge(row, whole), judge(row, merged)
        assert (other.word, other.reason) == (one.word, one.reason), row.id
        assert other.estimate == pytest.approx(one.estimate), row.id
        assert other.interval == pytest.approx(one.interval), row.id


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_how_sessions_are_grouped_makes_no_difference(sizes: list[int]) -> None:
    """Merging groups of sessions, and then the groups, is merging all."""
    parts = [record(float(at + 1)) for at in range(sum(sizes))]
    left, groups = list(parts), []
    for size in sizes:
        groups.append(merge_records(left[:size]))
        left = left[size:]
    assert merge_records(groups) == merge_records(parts)
