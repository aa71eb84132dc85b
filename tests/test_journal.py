"""The journal keeps what is whole, cuts off what is torn, and refuses to mix plans."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import journal
from reports.errors import JournalError

TEST = {"nodeid": "bench/test_x.py::test_x", "outcome": "passed"}
PLAN = {"schema": 1, "plan": {"code": "abc"}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return journal.create(tmp_path / "results", PLAN)


def test_entries_come_back_in_order(run: Path) -> None:
    """What was appended is read back, first to last."""
    for n in range(3):
        journal.append(run, {**TEST, "n": n})
    assert [e["n"] for e in journal.read(run).entries] == [0, 1, 2]


@given(st.integers(1, 40))
def test_a_torn_line_is_cut_off_and_the_rest_is_kept(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    """Whatever is missing from the last line, the lines before it survive and the next one is whole."""
    run = journal.create(tmp_path_factory.mktemp("r"), PLAN)
    journal.append(run, {**TEST, "n": 1})
    journal.append(run, {**TEST, "n": 2, "text": "x" * 40})
    path = run / journal.JOURNAL
    os.truncate(path, path.stat().st_size - cut)
    assert [e["n"] for e in journal.read(run).entries] == [1]
    journal.append(run, {**TEST, "n": 3})
    assert [e["n"] for e in journal.read(run).entries] == [1, 3]


def test_two_runs_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    """No run writes into another's folder, and the newest is the one started last."""
    first, second = journal.create(tmp_path, PLAN), journal.create(tmp_path, PLAN)
    assert first != second
    assert journal.newest(tmp_path) == second


def test_no_run_is_newest_in_an_empty_folder(tmp_path: Path) -> None:
    """Absent is `None`."""
    assert journal.newest(tmp_path) is None


def test_a_full_disk_loses_nothing_and_names_the_remedy(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failed append is undone, what was there stays, and the message says what to do."""
    journal.append(run, {**TEST, "n": 1})
    before = (run / journal.JOURNAL).read_bytes()

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JournalError, match=r"No space left on device.*--resume"):
        journal.append(run, {**TEST, "n": 2})
    assert (run / journal.JOURNAL).read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_that_is_really_full_is_reported(run: Path) -> None:
    """Writing to /dev/full fails like a full disk and is no traceback of the operating system's."""
    (run / journal.JOURNAL).symlink_to("/dev/full")
    with pytest.raises(JournalError, match="journal: cannot append"):
        journal.append(run, {**TEST, "n": 1})


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file where the results folder should be gives one clear line."""
    (tmp_path / "results").write_text("")
    with pytest.raises(JournalError, match="--results-dir"):
        journal.create(tmp_path / "results", PLAN)


def test_a_line_that_is_no_json_is_named(run: Path) -> None:
    """A damaged line in the middle is not skipped in silence."""
    (run / journal.JOURNAL).write_text(json.dumps(TEST) + "\nnonsense\n" + json.dumps(TEST) + "\n")
    with pytest.raises(JournalError, match="line 2"):
        journal.read(run)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()], ids=["nan", "inf", "object"])
def test_an_entry_that_is_no_json_names_its_test_and_writes_nothing(run: Path, value: object) -> None:
    """What was there is untouched, byte for byte."""
    journal.append(run, {**TEST, "n": 1})
    before = (run / journal.JOURNAL).read_bytes()
    with pytest.raises(JournalError, match=r"test_x\.py::test_x holds a value that is no JSON"):
        journal.append(run, {**TEST, "value": value})
    assert (run / journal.JOURNAL).read_bytes() == before


def test_a_torn_line_is_told(run: Path) -> None:
    """Whatever follows the last newline is torn, even where it happens to be JSON."""
    journal.append(run, {**TEST, "n": 1})
    assert not journal.read(run).is_torn
    with (run / journal.JOURNAL).open("a") as file:
        file.write("{}")
    assert journal.read(run).is_torn
    assert len(journal.read(run).entries) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"plan": 3}'])
def test_a_damaged_plan_is_named(run: Path, text: str) -> None:
    """A run.json without a plan is one clear error."""
    (run / journal.PLAN).write_text(text)
    with pytest.raises(JournalError, match=r"run\.json"):
        journal.read_plan(run)


def test_a_folder_of_no_run_is_refused(tmp_path: Path) -> None:
    """A folder without a plan is no run."""
    with pytest.raises(JournalError, match="no folder of a run"):
        journal.read_plan(tmp_path)


def test_what_differs_between_two_plans_is_named() -> None:
    """Each differing part is listed with both values; equal parts are not."""
    then = {"code": "a", "machine": "m", "gone": 1}
    now = {"code": "b", "machine": "m", "new": 2}
    assert journal.differences(then, now) == ["code: a → b", "gone: 1 → None", "new: None → 2"]


def test_what_differs_within_a_table_is_named_alone() -> None:
    """Of a table the parts that differ are listed, and not the table twice."""
    then = {"settings": {"rounds": 4, "profile": "pocket"}, "packages": {"torch": "2.13"}}
    now = {"settings": {"rounds": 6, "profile": "pocket"}, "packages": None}
    assert journal.differences(then, now) == [
        "packages: {'torch': '2.13'} → None",
        "settings.rounds: 4 → 6",
    ]


def test_a_digest_follows_names_and_contents(tmp_path: Path) -> None:
    """Renaming a file or changing a byte changes the digest; the order of listing does not."""
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    whole = journal.digest([a, b], tmp_path)
    assert whole == journal.digest([b, a], tmp_path)
    b.write_text("3")
    assert whole != journal.digest([a, b], tmp_path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A value that is no JSON leaves the old file as it was, and no partial one."""
    path = tmp_path / "x.json"
    journal.write_json(path, {"n": 1})
    with pytest.raises(ValueError, match="JSON"):
        journal.write_json(path, {"n": float("nan")})
    assert json.loads(path.read_text()) == {"n": 1}
    assert list(tmp_path.iterdir()) == [path]
