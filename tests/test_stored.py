"""What was measured is read from a folder, a journal or a benchmark.json, and what is damaged says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from reports.commands.arguments import read_all
from reports.errors import RecordError, ReportError
from reports.records import Record
from reports.runs import Run
from tests.synthetic_runs import entry, record, verdict, write_run

REFERENCE = Path(__file__).parents[1] / "reports" / "reference"


def benchmark_of(one: Record) -> dict[str, Any]:
    """A benchmark as pytest-benchmark stores it."""
    return {
        "name": f"test_cascade[{one.variant}]",
        "fullname": f"bench/test_cascade.py::test_cascade[{one.variant}]",
        "params": {"variant": one.variant},
        "extra_info": {"assay": one.to_json()},
        "stats": {"data": [0.1, 0.2], "mean": 0.15},
    }


def stored(path: Path, *benchmarks: dict[str, Any]) -> Path:
    """A file of pytest-benchmark."""
    commit = {"id": "abc123", "dirty": True}
    data = {
        "datetime": "2026-01-01T12:00:00",
        "commit_info": commit,
        "machine_info": {},
        "benchmarks": benchmarks,
    }
    path.write_text(json.dumps(data))
    return path


def test_a_folder_and_its_journal_hold_the_same(tmp_path: Path) -> None:
    """A journal is read with what stands beside it."""
    folder = write_run(
        tmp_path / "run", [record(num_rounds=2, num_graded=2)], [verdict("total", "confirmed")]
    )
    whole, alone = Run.read(folder), Run.read(folder / "journal.jsonl")
    assert (alone.entries, alone.verdicts, alone.about) == (whole.entries, whole.verdicts, whole.about)
    assert alone.source == folder / "journal.jsonl"


def test_a_file_of_pytest_benchmark_is_a_run(tmp_path: Path) -> None:
    """Its records, its rounds and its commit come back; benchmarks of other suites are left out."""
    ours = record("cascade", num_rounds=2, num_graded=2)
    foreign = {"name": "test_other", "fullname": "test_other", "extra_info": {}, "stats": {"data": [1.0]}}
    run = Run.read(stored(tmp_path / "0001_mine.json", benchmark_of(ours), foreign))
    assert run.records == (ours,)
    (one,) = run.entries
    assert (one.outcome, one.params, one.data) == ("passed", {"variant": "cascade"}, (0.1, 0.2))
    assert run.about["commit"] == "abc123-dirty"
    assert run.about["started"] == "2026-01-01T12:00:00"


@pytest.mark.parametrize("name", ["pocket", "pocket-switching", "pocket-strategies"])
def test_runs_of_the_first_schema_are_read(name: str) -> None:
    """What was committed under schema 1 reads back, of one session, with a launch that nobody noted."""
    records = Run.read(REFERENCE / name).records
    assert {(r.schema, r.sessions, r.launch) for r in records} == {(2, 1, None)}
    assert {r.session for one in records for r in one.rounds} == {None}


def broken(change: Callable[[dict[str, Any]], object]) -> str:
    """A journal whose only record was changed."""
    line = entry(record(num_rounds=1, num_graded=1), "bench/test_cascade.py::test_cascade[x]")
    change(line)
    return json.dumps(line) + "\n"


def in_record(**changes: object) -> str:
    """A journal whose only record holds other values."""
    return broken(lambda line: line["extra_info"]["assay"].update(changes))


def in_rerun(line: dict[str, Any]) -> None:
    line.update(attempt=2)
    line["extra_info"].update(assay=[1])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("journal.jsonl", "[" * 100_000 + "\n", "line 1: not JSON"),
        ("journal.jsonl", b"\xff\xfe\x00garbage\n", "line 1: not JSON"),
        ("journal.jsonl", '{"nodeid": "a", "outcome": "passed", "data": [NaN]}\n', "1: not JSON (NaN"),
        ("journal.jsonl", in_record(schema=3), "schema is 3, and this version reads up to 2; read it with"),
        ("journal.jsonl", in_record(schema=None), "schema is None, and records of this suite count"),
        ("journal.jsonl", in_record(schema=True), "schema is True"),
        ("journal.jsonl", in_record(surprise=1), "unknown keys ['surprise']"),
        ("journal.jsonl", in_record(launch="hourly"), "launch is 'hourly', and must be"),
        ("journal.jsonl", in_record(rounds="many"), "record of 'cascade'"),
        ("journal.jsonl", in_record(rounds=[{"order": "CT", "treatment": [1.0]}]), "round 0 holds a value"),
        ("journal.jsonl", in_record(tasks=[{"id": "a", "treatment": {"solved": "yes"}}]), "task 'a' holds"),
        ("journal.jsonl", in_record(sweep=[1]), "sweep is no list of points"),
        ("journal.jsonl", broken(lambda x: x["extra_info"]["assay"].pop("rounds")), "it has no 'rounds'"),
        ("journal.jsonl", broken(lambda x: x.update(extra_info=[])), "extra_info is []"),
        ("journal.jsonl", broken(lambda x: x.update(params="variant")), "params is 'variant'"),
        ("journal.jsonl", broken(lambda x: x["extra_info"].update(assay=[1])), "record: list is no JSON"),
        ("journal.jsonl", broken(bool) + broken(in_rerun), "record: list is no JSON"),
        ("benchmark.json", '{"benchmarks": [{"name": "a", "ext', "not JSON (Unterminated"),
        ("benchmark.json", "", "not JSON (Expecting value"),
        ("benchmark.json", '{"data": [1, 2]}', "neither a journal nor a file of pytest-benchmark; give"),
        ("benchmark.json", '{"benchmarks": [{"name": "a", "extra_info": {}}]}', "none of its 1 benchmarks"),
        ("benchmark.json", '{"benchmarks": [{"extra_info": {"assay": {}}}]}', "a benchmark without a name"),
        ("benchmark.json", '{"benchmarks": [{"name": "a", "extra_info": {"assay": {}}}]}', "schema is None"),
    ],
)  # fmt: skip
def test_what_is_damaged_or_foreign_is_one_clear_error(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    """Whatever a file holds, the message names it and what is wrong, in one line."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ReportError) as caught:
        Run.read(path)
    said = str(caught.value)
    assert message in said
    assert str(path) in said
    assert "\n" not in said


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """A folder in the place of a journal is no journal."""
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(ReportError, match=r"journal\.jsonl: no such file"):
        Run.read(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_journal_cut_off_anywhere_is_its_whole_lines_or_one_error(tmp_path: Path, share: float) -> None:
    """What a crash or a full disk left of a real run is never half a record."""
    whole = (REFERENCE / "pocket-strategies" / "journal.jsonl").read_bytes()
    path = tmp_path / "journal.jsonl"
    path.write_bytes(whole[: int(share * len(whole))])
    if not share:
        with pytest.raises(ReportError, match="no finished test in it"):
            Run.read(path)
        return
    run = Run.read(path)
    assert run.is_torn
    assert run.records == Run.read(REFERENCE / "pocket-strategies").records[: len(run.records)]


def test_the_others_are_still_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each file that cannot be read is one line on standard error; the exit status tells some from all."""
    good = write_run(tmp_path / "good", [record(num_rounds=1, num_graded=1)])
    shutil.copytree(good, bad := tmp_path / "bad")
    (bad / "journal.jsonl").write_text("no journal\n")
    runs, errors = found = read_all([bad, good, tmp_path / "nowhere"])
    assert [run.path for run in runs] == [good]
    assert [error.partition(":")[0] for error in errors] == [
        f"{bad / 'journal.jsonl'}, line 1",
        str(tmp_path / "nowhere"),
    ]
    assert capsys.readouterr().err == "".join(f"error: {error}\n" for error in errors)
    assert (found.status, read_all([good]).status, read_all([bad]).status) == (1, 0, 2)


def test_a_record_is_no_list() -> None:
    """The schema is asked for only where there can be one."""
    with pytest.raises(RecordError, match="str is no JSON object"):
        Record.from_json("record")  # type: ignore[arg-type]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a value; of long lists the first two."""
    if path:
        yield path
    parts = dict(enumerate(value[:2])) if isinstance(value, list) else value
    for key, part in parts.items() if isinstance(parts, dict) else ():
        yield from places(part, (*path, key))


@pytest.mark.parametrize("name", ["pocket", "pocket-strategies"])
def test_a_value_changed_anywhere_is_read_or_one_error(name: str, tmp_path: Path) -> None:
    """Whatever value of a real record is replaced or gone, reading gives a run or names the file."""
    lines = (REFERENCE / name / "journal.jsonl").read_text().splitlines()
    whole = min((line for line in lines if '"assay"' in line), key=len)
    strange = [None, True, -1, 1e400, "x", [], {}, [1], {"a": {}}, [None], [{}]]
    noise, path, refused = Random(name), tmp_path / "journal.jsonl", 0
    for place in places(json.loads(whole)):
        line = at = json.loads(whole)
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = noise.choice(strange)
        path.write_text(json.dumps(line) + "\n")
        errors = read_all([path]).errors
        refused += len(errors)
        assert all(str(path) in error for error in errors)
    assert refused > 30
