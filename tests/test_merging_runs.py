"""Whole runs merge into a folder that is read as any other, and runs of other plans are refused by field."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports import journal
from reports.__main__ import main
from reports.errors import MergeError
from reports.merging import merge_runs
from reports.records import Record
from reports.runs import Run
from tests.synthetic_runs import entry, record, write_run

PLAN = {
    "code": "e4c5c2b3",
    "settings": {"profile": "pocket", "rounds": None},
    "machine": "vm, x86_64, 2 CPUs",
    "packages": {"xllamacpp": "2026.10"},
}


def session(path: Path, *records: Record, at: int = 1, **plan: Any) -> Path:
    """A run's folder with a plan, begun on some day."""
    folder = write_run(path, list(records))
    about = {
        "schema": 2, "started": f"2026-01-0{at}T12:00:00+00:00", "commit": "abc123", "versions": {},
        "plan": {**PLAN, **plan},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "claims").mkdir()
    (folder / "claims" / "cascade.toml").write_text(f"# of day {at}\n")
    return folder


def cascade(seed: int, **changes: Any) -> Record:
    """A session's record of one variant; every session measures other numbers."""
    return record("cascade", seed=seed, num_rounds=2, num_graded=3, launch="session", **changes)


def merged(*folders: Path) -> Run:
    """The sessions as one run."""
    return merge_runs([Run.read(folder) for folder in folders])


def test_a_merged_folder_is_read_as_any_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three folders become one, which tells its sessions, holds every round and merges on."""
    days = [session(tmp_path / f"day{at}", cascade(at), at=at) for at in (1, 2, 3)]
    to = tmp_path / "merged"
    assert main(["merge", *map(str, days[:2]), "--to", str(to)]) == 0
    told = capsys.readouterr().out
    assert f"claims/cascade.toml differs between the sessions; that of {days[1]} is kept" in told
    assert f"2 sessions in {to}; judge them: python -m reports verdicts {to}" in told
    run = Run.read(to)
    assert run.entries == merged(*days[:2]).entries
    assert [s["started"][:10] for s in run.about["sessions"]] == ["2026-01-01", "2026-01-02"]
    assert (run.about["commit"], run.about["plan"]) == ("abc123", PLAN)
    assert "started" not in run.about
    assert (to / "claims" / "cascade.toml").read_text() == "# of day 2\n"
    (one,) = merged(to, days[2]).records
    assert [r.session for r in one.rounds] == [0, 0, 1, 1, 2, 2]
    assert one == merged(*days).records[0]


def test_where_each_session_measured_is_kept(tmp_path: Path) -> None:
    """A lane, a node, or the whole machine; merged runs merge on."""
    days = [session(tmp_path / f"day{at}", cascade(at), at=at) for at in (1, 2, 3, 4)]
    added = ({"lane": "gpu 1"}, {}, {"extra_info": {"node": {"name": "gpu1/3f2a", "lost": []}}}, {})
    for day, more in zip(days, added, strict=True):
        line = json.loads((day / "journal.jsonl").read_text())
        line["extra_info"] |= more.get("extra_info", {})
        (day / "journal.jsonl").write_text(json.dumps({**more, **line}) + "\n")
    halves = [tmp_path / "half1", tmp_path / "half2"]
    assert main(["merge", *map(str, days[:2]), "--to", str(halves[0])]) == 0
    assert main(["merge", *map(str, days[2:]), "--to", str(halves[1])]) == 0
    assert Run.read(halves[0]).entries[0].where == ("gpu 1", None)
    assert merged(*halves).entries[0].where == ("gpu 1", None, "gpu1/3f2a", None)
    assert merged(days[1], days[3]).entries[0].where == ()


def test_a_task_that_was_graded_otherwise_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first session's grade counts, so that the reader is told of the other; not of what is equal."""
    first, alike = cascade(1), replace(cascade(2), tasks=cascade(1).tasks)
    one, *others = first.tasks
    changed = replace(one, treatment={name: 1 - (value or 0) for name, value in one.treatment.items()})
    odd = replace(alike, tasks=[changed, *others])
    folders = [session(tmp_path / str(at), found, at=at) for at, found in enumerate((first, alike, odd), 1)]
    for num, is_told in ((2, False), (3, True)):
        assert main(["merge", *map(str, folders[:num]), "--to", str(tmp_path / f"merged{num}")]) == 0
        told = capsys.readouterr().out
        assert (f"differ: {one.id} in" in told) == is_told == ("the first session's grades count" in told)


def test_a_merged_run_is_none_that_a_session_continues(tmp_path: Path) -> None:
    """However its folder is called: its rounds are of several sessions, and so is the time of its tests."""
    days = [session(tmp_path / f"2026010{at}-120000", cascade(at), at=at) for at in (1, 2)]
    assert main(["merge", *map(str, days), "--to", str(tmp_path / "merged")]) == 0
    assert journal.newest(tmp_path) == days[1]
    assert list(journal.newest_first(tmp_path)) == days[::-1]


def test_another_plan_is_refused_and_every_field_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Machine, code and settings are named with both values, and nothing is written."""
    one = session(tmp_path / "one", cascade(1))
    other = session(
        tmp_path / "other",
        cascade(2),
        machine="gpu1, x86_64, 64 CPUs",
        settings={"profile": "pocket", "rounds": 9},
    )
    assert main(["merge", str(one), str(other), "--to", str(tmp_path / "to")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(f"error: merge: {one} and {other} were measured under two plans, and never")
    assert told[1:] == [
        "  machine: vm, x86_64, 2 CPUs → gpu1, x86_64, 64 CPUs",
        "  settings.rounds: None → 9",
    ]
    assert not (tmp_path / "to").exists()


def test_committed_runs_of_two_codes_never_merge() -> None:
    """Two real runs of this suite, of different code, are told apart by it."""
    reference = Path(__file__).parents[1] / "reports" / "reference"
    with pytest.raises(MergeError, match="code: e4c5c2b37f6e4c90 → 797a1be6f2eb10b0"):
        merged(reference / "pocket", reference / "pocket-switching")


def test_a_session_given_twice_is_no_second_session(tmp_path: Path) -> None:
    """A copy of a run is recognized by its numbers."""
    one, copy = (session(tmp_path / name, cascade(1)) for name in ("one", "copy"))
    with pytest.raises(MergeError, match="very same numbers"):
        merged(one, copy)


def test_what_has_no_plan_does_not_merge(tmp_path: Path) -> None:
    """Nothing tells whether it is of the same plan."""
    one, other = session(tmp_path / "one", cascade(1)), write_run(tmp_path / "other", [cascade(2)])
    with pytest.raises(MergeError, match=r"other has no plan \(run\.json\)"):
        merged(one, other)
    with pytest.raises(MergeError, match="1 run was given"):
        merged(one)


@pytest.mark.parametrize("damaged", [[], [1], {}, "two"])
def test_sessions_that_are_none_count_as_the_run_itself(tmp_path: Path, damaged: Any) -> None:
    """Of a damaged run.json the rest is still told."""
    one, other = session(tmp_path / "one", cascade(1)), session(tmp_path / "other", cascade(2))
    about = json.loads((one / "run.json").read_text())
    (one / "run.json").write_text(json.dumps({**about, "sessions": damaged}))
    assert [told["run"] for told in merged(one, other).about["sessions"]] == ["one", "other"]


def test_a_session_that_cannot_be_read_is_not_left_out(tmp_path: Path) -> None:
    """Merging is all or nothing."""
    one, other = (session(tmp_path / name, cascade(at)) for at, name in enumerate(("one", "other")))
    (other / "journal.jsonl").write_text("damaged\n")
    assert main(["merge", str(one), str(other), "--to", str(tmp_path / "to")]) == 2
    assert not (tmp_path / "to").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing that is there is overwritten."""
    one, other = (session(tmp_path / name, cascade(at)) for at, name in enumerate(("one", "other")))
    assert main(["merge", str(one), str(other), "--to", str(one)]) == 2
    assert f"{one} is not empty; give a new folder with --to" in capsys.readouterr().err


def test_a_test_that_failed_in_one_session_failed(tmp_path: Path) -> None:
    """Failures count; a test that only one session ran is kept as that session left it."""
    one = session(tmp_path / "one", cascade(1), record("oracle", seed=3, num_rounds=2, num_graded=3))
    other = session(tmp_path / "other", cascade(2))
    nodeid = Run.read(other).entries[0].nodeid
    line = entry(None, nodeid, outcome="failed", why="the engine died")
    (other / "journal.jsonl").write_text(json.dumps(line) + "\n")
    run = merged(one, other)
    assert [(e.outcome, e.why) for e in run.entries] == [
        ("failed", "session 2: the engine died"),
        ("passed", ""),
    ]
    assert [r.variant for r in run.records] == ["cascade", "oracle"]
