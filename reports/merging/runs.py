"""Runs of one plan as one run. Another plan, or another machine, never merges, and the message says why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from reports.errors import MergeError
from reports.journal import PLAN, differences
from reports.merging.records import merge_records
from reports.places import Places, together
from reports.runs import Entry, Run

__all__ = ["merge_runs", "sessions_of"]

ORDER = ("failed", "passed")
"""Outcomes, the one that a merged test has first: failures count."""
SESSION_KEYS = ("started", "commit", "versions")


def merge_runs(runs: Sequence[Run]) -> Run:
    """One run of several sessions; those given are left as they are, and no verdict is taken along.

    A test that some session left out is merged from those that ran it.

    Raises
    ------
    MergeError: fewer than two, one without a plan, two of different plans or machines (every field that
    differs is named with both values), or one session given twice.
    """
    if len(runs) < 2:
        raise MergeError(f"merge: {len(runs)} run was given, and merging takes at least 2")
    for run in runs:
        if not isinstance(run.about.get("plan"), Mapping):
            raise MergeError(
                f"merge: {_name_of(run)} has no plan ({PLAN}), so that nothing tells whether it is of the "
                "same one; give folders as `pytest bench/` leaves them"
            )
    first, *others = runs
    for other in others:
        _refuse(first, other)
    for one, other in combinations(runs, 2):
        if one.records == other.records:
            raise MergeError(
                f"merge: {_name_of(one)} and {_name_of(other)} hold the very same numbers; give each "
                "session once"
            )
    return Run(
        path=first.path,
        entries=tuple(_entry(entries) for entries in _by_test(runs)),
        about=_about(runs),
        is_torn=any(run.is_torn for run in runs),
    )


def _name_of(run: Run) -> str:
    """What a run is called in a message: the path that was given."""
    return str(run.source or run.path)


def sessions_of(run: Run) -> list[dict[str, Any]]:
    """When and from which commit each session of a run was measured; one that was not merged has one."""
    found = run.about.get("sessions")
    if isinstance(found, list) and found and all(isinstance(one, Mapping) for one in found):
        return list(found)
    return [{"run": run.path.name, **{key: run.about.get(key) for key in SESSION_KEYS}}]


def _refuse(first: Run, other: Run) -> None:
    changed = differences(first.about["plan"], other.about["plan"])
    if changed:
        raise MergeError(
            f"merge: {_name_of(first)} and {_name_of(other)} were measured under two plans, and never merge; "
            "compare them instead (python -m reports compare). What differs:\n  " + "\n  ".join(changed)
        )


def _by_test(runs: Iterable[Run]) -> list[list[tuple[int, Entry]]]:
    """Each test's entries with the number of their session, from 1."""
    tests: dict[str, list[tuple[int, Entry]]] = {}
    for at, run in enumerate(runs, 1):
        for entry in run.entries:
            tests.setdefault(entry.nodeid, []).append((at, entry))
    return list(tests.values())


def _entry(found: Sequence[tuple[int, Entry]]) -> Entry:
    entries = [entry for _, entry in found]
    first = entries[0]
    records = [entry.record for entry in entries if entry.record is not None]
    outcomes = [entry.outcome for entry in entries]
    outcome = next((word for word in ORDER if word in outcomes), first.outcome)
    times_s = [entry.duration_s for entry in entries if entry.duration_s is not None]
    try:
        record = merge_records(records) if records else None
    except MergeError as exc:
        raise MergeError(f"{first.nodeid}: {exc}") from exc
    return Entry(
        nodeid=first.nodeid,
        outcome=outcome,
        why="; ".join(f"session {at}: {e.why}" for at, e in found if e.outcome == outcome and e.why),
        experiment=first.experiment,
        params=first.params,
        data=tuple(value for entry in entries for value in entry.data),
        record=record,
        duration_s=sum(times_s) if len(times_s) == len(entries) else None,
        where=together(place for entry in entries for place in _places(entry)),
    )


def _places(entry: Entry) -> Places:
    """One per session, also where none is told."""
    return entry.where or (None,) * (entry.record.sessions if entry.record else 1)


def _about(runs: Sequence[Run]) -> dict[str, Any]:
    sessions = [session for run in runs for session in sessions_of(run)]
    shared = {key: sessions[0].get(key) for key in SESSION_KEYS if _are_equal(sessions, key)}
    return {
        "schema": runs[0].about.get("schema", 1),
        **shared,
        "plan": runs[0].about["plan"],
        "sessions": sessions,
    }


def _are_equal(sessions: Sequence[Mapping[str, Any]], key: str) -> bool:
    return all(session.get(key) == sessions[0].get(key) for session in sessions)
