"""The file behind a budget: foreign, broken, removed, replaced, locked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.hardware import DeviceBudget, ledger, ledger_file, processes

HOLD_LOCK = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def budget(tmp_path: Path) -> DeviceBudget:
    return DeviceBudget.create(100, path=tmp_path / "ledger.json")


def rewrite(budget: DeviceBudget, **changed: Any) -> None:
    budget.path.write_text(json.dumps(json.loads(budget.path.read_text()) | changed))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "Expecting value"),
        (b"root:x:0:0", "Expecting value"),
        (b"\xff\xfe\x00", "decode"),
        (b"[1, 2]", "format"),
        (b'{"format": "assay device budget 2"}', "format 'assay device budget 1'"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "digits"),
    ],
    ids=["empty", "text", "binary", "list", "later", "deep", "long"],
)
def test_what_is_not_a_ledger_is_named_as_such(tmp_path: Path, text: bytes, why: str) -> None:
    """The message holds the path, the reason and what to do, and the file is left alone."""
    path = tmp_path / "notes.txt"
    path.write_bytes(text)
    with pytest.raises(UsageError, match=r"notes\.txt is not the ledger of a device budget") as refused:
        DeviceBudget.open(path)
    assert why in str(refused.value)
    assert "DeviceBudget.create" in str(refused.value)
    assert path.read_bytes() == text


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"capacity_bytes": 0}, "capacity_bytes is not a whole number from 1"),
        ({"capacity_bytes": 1e9}, "capacity_bytes"),
        ({"capacity_bytes": True}, "capacity_bytes"),
        ({"peak_bytes": 101}, "peak_bytes is not a whole number from 0 to 100"),
        ({"peak_bytes": float("nan")}, "peak_bytes"),
        ({"num_refusals": -1}, "num_refusals"),
        ({"budget_id": None}, "budget_id"),
        ({"entries": []}, "entries"),
        ({"entries": {"a": ["kv", 1, 1]}}, "an entry is not owner, bytes, pid and start"),
        ({"entries": {"a": [7, 1, 1, 1]}}, "an entry is not"),
        ({"entries": {"a": ["kv", -5, 1, 1]}}, "bytes is not a whole number from 1"),
        ({"entries": {"a": ["kv", 1, -1, 1]}}, "pid is not a whole number from 1"),
        ({"entries": {"a": ["kv", 1, 2**70, 1]}}, "pid"),
        ({"entries": {"a": ["kv", 1, 1, "x"]}}, "start"),
        ({"entries": {"a": ["kv", 60, 1, 1]}, "peak_bytes": 59}, "sum to 60 bytes, above their peak 59"),
    ],
)
def test_a_ledger_that_contradicts_itself_is_refused(
    budget: DeviceBudget, changed: dict[str, Any], why: str
) -> None:
    """No use is made of its numbers, neither for reading nor for drawing."""
    held = budget.allocate(5, owner="kv")
    rewrite(budget, **changed)
    for use in (
        lambda: budget.used_bytes,
        budget.holders,
        lambda: budget.allocate(1, owner="b"),
        held.release,
    ):
        with pytest.raises(UsageError, match="is not the ledger of a device budget") as refused:
            use()
        assert why in str(refused.value)


@given(keep=st.integers(0, 10_000), flip=st.integers(0, 10_000), to=st.integers(0, 255))
def test_a_damaged_ledger_is_read_or_refused(keep: int, flip: int, to: int) -> None:
    """Cut anywhere, or with any byte changed, it gives a ledger within its capacity or one kind of error."""
    entry = ledger.Entry("kv", 60, processes.Process(12, 34))
    whole = ledger.render(
        ledger.Ledger(budget_id="a", capacity_bytes=100, peak_bytes=70, entries={"t": entry, "u": entry})
    ).replace(b"60", b"30")
    at = flip % len(whole)
    for text in (whole[: keep % len(whole)], whole[:at] + bytes([to]) + whole[at + 1 :]):
        try:
            read = ledger.parse(text)
        except ValueError:
            continue
        assert 0 < read.used_bytes <= read.peak_bytes <= read.capacity_bytes


def test_no_file_of_another_kind_is_taken_for_a_ledger(tmp_path: Path) -> None:
    """A folder, a pipe that nobody writes to and an endless device are refused, not waited for."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UsageError, match=f"^ledger {path}: .*; give a path on a local file system"):
            DeviceBudget.open(path)


def test_a_missing_ledger_is_said_to_be_missing(tmp_path: Path) -> None:
    """Opening never makes one, and leaves no lock behind."""
    with pytest.raises(
        UsageError, match=r"no ledger: .*x\.json is missing; make one with DeviceBudget\.create"
    ):
        DeviceBudget.open(tmp_path / "x.json")
    assert list(tmp_path.iterdir()) == []


def test_a_budget_is_not_made_over_another_file(budget: DeviceBudget) -> None:
    """What stands there stays as it is."""
    budget.allocate(5, owner="kv")
    with pytest.raises(UsageError, match=r"ledger\.json exists: open it with DeviceBudget\.open"):
        DeviceBudget.create(7, path=budget.path)
    assert (budget.capacity_bytes, budget.used_bytes) == (100, 5)


def test_a_budget_is_not_made_in_a_missing_folder(tmp_path: Path) -> None:
    """No folder is made on the quiet."""
    with pytest.raises(UsageError, match=r"no folder .*/absent to keep a ledger in"):
        DeviceBudget.create(7, path=tmp_path / "absent" / "ledger.json")


def test_a_removed_budget_ends_for_all(budget: DeviceBudget) -> None:
    """Drawing and reading say so; giving back has nothing left to do, and nothing is left behind."""
    held, other = budget.allocate(5, owner="kv"), DeviceBudget.open(budget.path)
    budget.remove()
    budget.remove()
    for use in (lambda: other.used_bytes, lambda: other.allocate(1, owner="b"), lambda: held.resize(6)):
        with pytest.raises(UsageError, match=r"no ledger: .* is missing; make one"):
            use()
    held.release()
    assert held.num_bytes == 0
    assert list(budget.path.parent.iterdir()) == []


@pytest.mark.parametrize("lost", ["ledger.json", "ledger.json.lock"])
def test_a_ledger_deleted_by_hand_is_noticed(budget: DeviceBudget, lost: str) -> None:
    """Without its lock it cannot be changed either."""
    held = budget.allocate(5, owner="kv")
    (budget.path.parent / lost).unlink()
    with pytest.raises(UsageError, match=f"no ledger: .*{lost} is missing"):
        budget.allocate(1, owner="b")
    held.release()


def test_a_budget_in_the_place_of_another_is_not_mistaken_for_it(budget: DeviceBudget) -> None:
    """The old one's holders neither draw on the new one, nor give back to it, nor remove it."""
    held = budget.allocate(5, owner="kv")
    DeviceBudget.open(budget.path).remove()
    new = DeviceBudget.create(50, path=budget.path)
    kept = new.allocate(50, owner="new")
    for use in (lambda: budget.free_bytes, lambda: budget.allocate(1, owner="b"), lambda: held.resize(6)):
        with pytest.raises(UsageError, match="is another budget's by now: open it with"):
            use()
    held.release()
    budget.remove()
    assert (new.used_bytes, kept.num_bytes) == (50, 50)


def test_who_waits_for_the_lock_of_a_removed_budget_takes_the_next(budget: DeviceBudget) -> None:
    """The file that he waited at is no longer the lock; a budget made under it could never be changed."""
    lock = Path(f"{budget.path}.lock")
    made: list[DeviceBudget] = []
    waiting = threading.Thread(target=lambda: made.append(DeviceBudget.create(50, path=budget.path)))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        waiting.start()
        time.sleep(0.05)
        budget.path.unlink()
        lock.unlink()
        child.kill()
    waiting.join()
    assert made[0].allocate(50, owner="new").num_bytes == 50


def test_a_write_broken_off_leaves_the_old_ledger(budget: DeviceBudget) -> None:
    """Half a new file beside the ledger is what a kill may leave; it is never read."""
    budget.allocate(5, owner="kv")
    Path(f"{budget.path}.new").write_text('{"format": "assay dev')
    assert DeviceBudget.open(budget.path).used_bytes == 5
    budget.allocate(6, owner="kv")
    assert budget.used_bytes == 11


def test_a_place_that_cannot_be_written_is_named(budget: DeviceBudget) -> None:
    """The system's own word is passed on, and the ledger stays as it was."""
    Path(f"{budget.path}.new").mkdir()
    with pytest.raises(UsageError, match=r"^ledger .*: Is a directory; give a path on a local file system"):
        budget.allocate(5, owner="kv")
    assert budget.used_bytes == 0


def test_too_many_allocations_are_refused_by_name(
    budget: DeviceBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could be written but not read again is not written."""
    monkeypatch.setattr(ledger_file, "MAX_FILE_BYTES", 300)
    budget.allocate(1, owner="kv")
    with pytest.raises(UsageError, match="has 2 allocations: take few large ones, not many small"):
        budget.allocate(1, owner="x" * 200)
    assert len(budget.holders()) == 1


def test_a_lock_that_is_never_given_back_is_an_error(
    budget: DeviceBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process is waited for up to a deadline; reading goes on meanwhile."""
    monkeypatch.setattr(ledger_file, "LOCK_DEADLINE_S", 0.05)
    command = [sys.executable, "-c", HOLD_LOCK, f"{budget.path}.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(
            UsageError, match=r"lock was held by another process for 0\.05 s: see which with `fuser"
        ):
            budget.allocate(5, owner="kv")
        assert budget.free_bytes == 100
        child.kill()
    budget.allocate(5, owner="kv")


def test_a_budget_in_a_temporary_place_leaves_nothing_when_removed() -> None:
    """Not even a folder, so that a later kill of the process has nothing to leave behind."""
    budget = DeviceBudget.create(100)
    budget.allocate(5, owner="kv")
    budget.remove()
    assert list(budget.path.parent.glob(f"{budget.path.name}*")) == []
    assert budget.path.parent.resolve() in {Path("/dev/shm"), Path(tempfile.gettempdir()).resolve()}
