"""A request log gives back what was written, and a crash costs it nothing but the torn line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.base import Completion
from harness.errors import LoadError
from harness.load import Entry, RequestLog, read_log

times = st.floats(0, 1e4).map(lambda t: round(t, 7))
entries = st.builds(
    Entry,
    index=st.integers(0, 10**6),
    intended_s=times,
    dispatched_s=times,
    done_s=times,
    sent_s=st.none() | times,
    first_token_s=st.none() | times,
    chunk_times_s=st.lists(times, max_size=5).map(tuple),
    output_tokens=st.none() | st.integers(0, 1000),
    error=st.none() | st.text(max_size=20),
    labels=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=2),
)


@given(st.lists(entries, max_size=10))
def test_what_was_logged_is_read(tmp_path_factory: pytest.TempPathFactory, some: list[Entry]) -> None:
    """Every entry comes back as it was, in the order of intended starts; what was not known stays None."""
    path = tmp_path_factory.mktemp("log") / "requests.jsonl"
    with RequestLog(path) as log:
        for each in some:
            log.append(each)
    assert read_log(path) == sorted(some, key=lambda e: (e.intended_s, e.index))


def entry(index: int) -> Entry:
    return Entry(index=index, intended_s=float(index), dispatched_s=float(index), done_s=index + 1.0)


def test_an_answer_becomes_times_from_the_begin() -> None:
    """The log does not hold a clock that means nothing after the next boot."""
    answer = Completion(
        text="a b", prompt_tokens=3, output_tokens=2, sent_s=100.25, done_s=101.0, first_token_s=100.5,
        chunk_times_s=(100.5, 101.0),
    )  # fmt: skip
    found = Entry.of(answer, index=4, intended_s=100.125, dispatched_s=100.25, begin_s=100.0)
    assert (found.intended_s, found.sent_s, found.first_token_s, found.done_s) == (0.125, 0.25, 0.5, 1.0)
    assert found.chunk_times_s == (0.5, 1.0)
    assert found.dispatch_delay_s == 0.125
    assert not found.is_failed


@pytest.mark.parametrize("torn", [b"{", b'{"index": 7, "intended_s": 1', b'{"index"'])
def test_a_torn_line_is_left_out_and_cut_off(tmp_path: Path, torn: bytes) -> None:
    """It is not read, and the next line does not stick to it."""
    path = tmp_path / "requests.jsonl"
    with RequestLog(path) as log:
        log.append(entry(0))
    path.write_bytes(path.read_bytes() + torn)
    assert [e.index for e in read_log(path)] == [0]
    with RequestLog(path) as log:
        log.append(entry(1))
    assert [e.index for e in read_log(path)] == [0, 1]


def test_a_file_that_is_no_log_is_left_alone(tmp_path: Path) -> None:
    """Mending it would spoil it."""
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk")
    with pytest.raises(LoadError, match="is none; give another path"):
        RequestLog(path)
    assert path.read_text() == "remember the milk"


@pytest.mark.parametrize(
    ("line", "said"),
    [("[1]", "not an entry"), ('{"index": 1}', "not an entry"), ("{oops", "no JSON"), ("", "no JSON")],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    """A whole line that is no entry is no crash: somebody changed the file."""
    path = tmp_path / "requests.jsonl"
    with RequestLog(path) as log:
        log.append(entry(0))
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(LoadError, match=f"line 2: {said}"):
        read_log(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Before the load, not after it."""
    with pytest.raises(LoadError, match="No such file or directory"):
        RequestLog(tmp_path / "none" / "requests.jsonl")
    with pytest.raises(LoadError, match="cannot be read"):
        read_log(tmp_path / "none.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said() -> None:
    """The message names the file and the reason."""
    log = RequestLog("/dev/full")
    with pytest.raises(LoadError, match="No space left"):
        log.append(entry(0))
    log.close()


def test_a_killed_writer_loses_no_whole_entry(tmp_path: Path) -> None:
    """What it said it had appended is in the file after SIGKILL."""
    path = tmp_path / "requests.jsonl"
    program = (
        "import sys\nfrom harness.load import Entry, RequestLog\nlog = RequestLog(sys.argv[1])\n"
        "for i in range(10**9):\n"
        "    log.append(Entry(index=i, intended_s=i, dispatched_s=i, done_s=i))\n    print(i, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(50):
            last = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    found = [e.index for e in read_log(path)]
    assert found == list(range(len(found)))
    assert len(found) > last


def test_processes_append_to_one_file(tmp_path: Path) -> None:
    """Lines of several writers do not mix."""
    path = tmp_path / "requests.jsonl"
    program = (
        "import sys\nfrom harness.load import Entry, RequestLog\n"
        "log = RequestLog(sys.argv[1], mend=False)\n"
        "for i in range(300):\n"
        "    log.append(Entry(index=i, intended_s=i, dispatched_s=i, done_s=i, worker=int(sys.argv[2]),\n"
        "                     chunk_times_s=(i,) * 300))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), str(n)]) for n in range(2)]
    deadline = time.monotonic() + 60
    assert [w.wait(max(1, deadline - time.monotonic())) for w in writers] == [0, 0]
    found = read_log(path)
    assert sorted((e.worker, e.index) for e in found) == [(w, i) for w in range(2) for i in range(300)]
    assert all(json.loads(line) for line in path.read_text().splitlines())
