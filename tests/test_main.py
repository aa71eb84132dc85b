from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.commands.render import render
from tests.synthetic_runs import record, verdict, write_run

CLAIM = """
[[claim]]
id = "total"
version = 1
source = "cascade.md, Expected Results, row 1"
says = "33 % faster"
form = "at_least"
metric = "total_s"
treatment = "cascade"
control = "baseline"
published = 0.25
quantity = "reduction"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small run with its claims."""
    path = write_run(tmp_path / "run", [record("baseline", num_graded=20), record("cascade", num_graded=20)])
    (path / "claims").mkdir()
    (path / "claims" / "cascade.toml").write_text(CLAIM)
    return path


def test_render_makes_tables_figures_and_exports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file it lists exists, and the tables stand in the terminal."""
    assert main(["render", str(folder)]) == 0
    out = capsys.readouterr().out
    paths = [Path(line) for line in out.split("\n\n")[0].splitlines()]
    assert {path.name for path in paths} >= {"claims.md", "cascade-pareto.svg", "orla_2.json"}
    assert all(path.is_file() for path in paths)
    assert "no claim was judged" in out


def test_render_twice_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """What follows from a folder follows from it again."""
    first = render(folder)
    copy = tmp_path / "first"
    shutil.copytree(folder, copy)
    for path in render(folder):
        assert path.read_bytes() == (copy / path.relative_to(folder)).read_bytes(), path.name
    assert len(first) > 10


def test_render_leaves_what_was_recorded_alone(folder: Path) -> None:
    """The journal is read, never written."""
    before = (folder / "journal.jsonl").read_bytes()
    render(folder)
    assert (folder / "journal.jsonl").read_bytes() == before


def test_verdicts_judges_the_folder_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The stored rounds and the stored claims are enough."""
    assert main(["verdicts", str(folder)]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("total"))
    assert line.endswith("C confirmed")
    assert main(["render", str(folder)]) == 0
    assert "**confirmed**" in (folder / "tables" / "claims.md").read_text()


def test_verdicts_replaces_damaged_verdicts(folder: Path) -> None:
    """What can be made again is no reason to stop."""
    (folder / "claims.json").write_text("{")
    assert main(["verdicts", str(folder)]) == 0


@pytest.mark.parametrize("command", ["render", "verdicts"])
@pytest.mark.parametrize("damage", ["missing", "empty", "foreign", "file"])
def test_bad_input_is_one_line_and_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, damage: str
) -> None:
    """The line names the path; there is no traceback."""
    path = tmp_path / "x"
    if damage == "file":
        path.write_text("")
    elif damage != "missing":
        path.mkdir()
        (path / "journal.jsonl").write_text("" if damage == "empty" else "hello\nworld\n")
    assert main([command, str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert str(path) in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("claims", "message"), [(None, "claims: no such folder"), ("claim = 3", "cascade.toml")]
)
def test_missing_or_malformed_claims_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str], claims: str | None, message: str
) -> None:
    """`verdicts` needs the claims; `render` does not."""
    if claims is None:
        shutil.rmtree(folder / "claims")
    else:
        (folder / "claims" / "cascade.toml").write_text(claims)
    assert main(["verdicts", str(folder)]) == 2
    assert message in capsys.readouterr().err


def test_an_unwritable_folder_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file that could not be made is named."""
    (folder / "figures").write_text("in the way")
    assert main(["render", str(folder)]) == 2
    err = capsys.readouterr().err
    assert "figures" in err
    assert err.count("\n") == 1


def test_an_old_verdict_is_shown_by_its_own_word(tmp_path: Path) -> None:
    """A word that this version does not know is not hidden."""
    path = write_run(tmp_path / "run", [record("cascade", num_graded=5)], [verdict("x", "undecided")])
    render(path)
    assert "**undecided**" in (path / "tables" / "claims.md").read_text()


def test_help_needs_neither_matplotlib_nor_pandas(tmp_path: Path) -> None:
    """The command line answers at once."""
    code = "import sys, reports.__main__, reports.tables, reports.figures, reports.runs\n"
    code += "import reports.experiments.exports\n"
    code += "print(sorted({'matplotlib', 'pandas', 'scipy'} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
