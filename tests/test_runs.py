from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports.errors import JournalError, RecordError
from reports.runs import Run
from tests.synthetic_runs import entry, record, verdict, write_run


def test_a_run_folder_reads_back_whole(tmp_path: Path) -> None:
    """Records, verdicts and machine come back as they were written."""
    one = record("cascade", num_rounds=2, num_graded=3)
    run = Run.read(write_run(tmp_path / "run", [one], [verdict("total", "confirmed")]))
    assert run.records == (one,)
    assert [v["id"] for v in run.verdicts] == ["total"]
    assert run.about["machine"] == "x86_64, 2 CPUs, a processor"
    assert run.experiments == ("cascade",)
    assert not run.is_torn


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    """A run that died while writing keeps everything written before."""
    one = record("cascade", num_rounds=1, num_graded=1)
    path = write_run(tmp_path / "run", [one], tail='{"nodeid": "bench/test_cascade.py::te')
    run = Run.read(path)
    assert run.records == (one,)
    assert run.is_torn


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_a_line_torn_in_the_middle_of_a_character_is_dropped(tmp_path: Path, cut: int) -> None:
    """Bytes that are no UTF-8 are part of a torn line, not an error."""
    path = write_run(tmp_path / "run", [record("cascade", num_rounds=1, num_graded=1)])
    with (path / "journal.jsonl").open("ab") as file:
        file.write(('{"nodeid": "' + "µ" * 30).encode()[: 12 + cut])
    assert Run.read(path).is_torn


def test_a_broken_line_in_the_middle_names_itself(tmp_path: Path) -> None:
    """Only the last line may be torn."""
    path = write_run(tmp_path / "run", [record("cascade", num_rounds=1, num_graded=1)])
    whole = (path / "journal.jsonl").read_text()
    (path / "journal.jsonl").write_text("{broken\n" + whole)
    with pytest.raises(JournalError, match=r"journal\.jsonl, line 1: not JSON"):
        Run.read(path)


def test_the_last_entry_of_a_test_wins(tmp_path: Path) -> None:
    """A resumed run appends; the order is that of the first appearance."""
    old, new = (record("cascade", num_rounds=n, num_graded=1) for n in (1, 2))
    other = record("oracle", num_rounds=1, num_graded=1)
    lines = [entry(old, "a"), entry(other, "b"), entry(new, "a")]
    tmp_path.joinpath("journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = Run.read(tmp_path)
    assert [e.nodeid for e in run.entries] == ["a", "b"]
    assert run.entries[0].record == new


def test_a_test_that_measured_nothing_has_no_record(tmp_path: Path) -> None:
    """A skipped variant stays in the entries, with its reason."""
    line = entry(None, "a", outcome="skipped", why="needs a GPU")
    tmp_path.joinpath("journal.jsonl").write_text(json.dumps(line) + "\n")
    run = Run.read(tmp_path)
    assert run.records == ()
    assert run.entries[0].why == "needs a GPU"


def test_a_run_without_verdicts_is_a_run(tmp_path: Path) -> None:
    """A session cut short has a journal and no claims.json."""
    assert Run.read(write_run(tmp_path / "run", [record(num_rounds=1, num_graded=1)])).verdicts == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; give the folder of a run"),
        ("", "no finished test in it"),
        ("\n\n", "no finished test in it"),
        ("hello\nworld\n", "line 1: not JSON"),
        ("[1, 2]\n", "line 1: not a journal entry"),
        ('{"a": 1}\n', "line 1: not a journal entry"),
    ],
    ids=["missing", "empty", "blank", "foreign", "list", "object"],
)
def test_a_foreign_folder_is_refused_by_name_and_remedy(
    tmp_path: Path, content: str | None, message: str
) -> None:
    """The message holds the path, what is wrong with it, and what to do."""
    if content is not None:
        tmp_path.joinpath("journal.jsonl").write_text(content)
    with pytest.raises(JournalError) as caught:
        Run.read(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """The path that was asked for stands in the message."""
    with pytest.raises(JournalError, match="nowhere: no such folder; give the folder of a run"):
        Run.read(tmp_path / "nowhere")


def test_a_record_of_another_schema_names_line_and_test(tmp_path: Path) -> None:
    """What cannot be read is not half read."""
    line = entry(record(num_rounds=1, num_graded=1), "bench/test_cascade.py::test_cascade[x]")
    line["extra_info"]["assay"]["schema"] = 99
    tmp_path.joinpath("journal.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(
        RecordError, match=r"journal\.jsonl, bench/test_cascade.py::test_cascade\[x\]: .* schema is 99"
    ):
        Run.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("claims.json", "{", "claims.json: not JSON"),
        ("claims.json", "[]", "claims.json: holds no JSON object"),
        ("claims.json", '{"claims": [{"id": "x"}]}', "claims.json: a claim without id or verdict"),
        ("run.json", "not json", "run.json: not JSON"),
    ],
)
def test_a_damaged_side_file_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    """claims.json and run.json fail by name."""
    path = write_run(tmp_path / "run", [record(num_rounds=1, num_graded=1)])
    (path / name).write_text(content)
    with pytest.raises(JournalError, match=message.replace(".", r"\.")):
        Run.read(path)
