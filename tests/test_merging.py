"""Several sessions of one plan become one record, and nothing else ever merges."""

from __future__ import annotations

from typing import Any

import pytest

from reports.errors import MergeError
from reports.merging import GRADED_ALIKE, PER_SESSION, merge_records
from reports.records import Check, Failure, Metric, Record, Round, TaskPair

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
    assert merge_records([record(), record()], launched_anew=False).sessions == 2


def test_nothing_does_not_merge() -> None:
    """An empty list is a mistake of the caller's."""
    with pytest.raises(MergeError, match="no record"):
        merge_records([])
