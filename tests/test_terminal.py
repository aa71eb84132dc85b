"""What the terminal shows: lines that fit, colour where it is allowed, one test of a variant, time left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures.switching_lines import Lines
from reports import tables
from reports.commands import render
from reports.experiments import switching_tables
from reports.runs import Run
from reports.session.progress import Progress, earlier_s
from reports.tabular.layout import LEAST_WIDTH, width_here
from tests.demo_suites import ROOT, claim, make_suite

REFERENCES = sorted((ROOT / "reports" / "reference").iterdir())

BENCH = """
import pytest
from fixtures.pairing import Arm, Measured
from reports.records import Metric, Record

LONG = "a variant that is left out for a reason which takes more than a line to tell, as some of them do here"


def measure(variant, paired):
    if variant == "away":
        pytest.skip(LONG)
    record = Record(experiment="demo", variant=variant, control="full", backend="fake", profile="pocket",
                    metrics={"wall_s": Metric(unit="s", better="lower", what="wall")})
    arms = [Arm(name, lambda s=s: Measured({"wall_s": next(s)}))
            for name, s in ((variant, iter([.5, .51] * 9)), ("full", iter([1., 1.01] * 9)))]
    paired.run(record, *arms)


@pytest.mark.parametrize("variant", ["half", "away"])
def test_demo(variant, paired):
    measure(variant, paired)


@pytest.mark.nightly
@pytest.mark.stands_in_for("test_demo")
@pytest.mark.parametrize("variant", ["half"])
def test_by_night(variant, paired):
    measure(variant, paired)
"""
ANY = "nightly or not nightly"
CLAIM = claim(
    "half-takes-half-of-the-time-of-the-full-arm",
    "half",
    1.5,
    source="a paper, Table 1, in the row that is the third from below",
    says="Half of the work takes half of the time, at least where nothing else is done by the machine",
)


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name in ("NO_COLOR", "FORCE_COLOR", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)
    # No figures: they take seconds, and are not shown.
    monkeypatch.setattr(render, "render", lambda run: None)
    markers = ("nightly", "stands_in_for(x)")
    return make_suite(pytester, monkeypatch, BENCH, CLAIM, plugins=["fixtures.unavailable"], markers=markers)


def terminal_of(lines: list[str]) -> Any:
    """A terminal whose moving line goes to `lines`."""
    config = SimpleNamespace(pluginmanager=SimpleNamespace(getplugin=lambda name: None))
    return SimpleNamespace(isatty=True, rewrite=lambda text, erase: lines.append(text), config=config)


@pytest.mark.parametrize("columns", [80, 200])
def test_what_this_suite_writes_fits_the_terminal(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Variants, claims and reasons are no wider than the terminal, and never wider than 100 columns."""
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = suite.runpytest("bench", "--benchmark-columns=min").outlines
    first = next(i for i, line in enumerate(lines) if "claims" in line and "==" in line)
    last = next(i for i, line in enumerate(lines) if line.startswith("run: "))
    start = next(i for i, line in enumerate(lines) if "not available here" in line)
    told = [*lines[first + 1 : last], *lines[start + 1 : start + 4]]
    assert any("half-takes-half" in line for line in told)
    assert max(len(line) for line in told) <= min(columns, 100)


@pytest.mark.parametrize("run", REFERENCES, ids=lambda path: path.name)
@pytest.mark.parametrize("width", [LEAST_WIDTH, 80])
def test_every_table_of_a_real_run_fits_a_narrow_terminal(run: Path, width: int) -> None:
    """Columns give way, and no line is longer."""
    read = Run.read(run)
    text = tables.variants_table(read, width=width) + "\n" + tables.claims_table(read.verdicts, width=width)
    assert max(map(len, text.splitlines())) <= width


def test_a_pipe_has_a_hundred_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no one watches there is no width to ask for; COLUMNS, if set, is asked."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.__stdout__", None)
    assert width_here() == 100
    monkeypatch.setenv("COLUMNS", "72")
    assert width_here() == 72


@pytest.mark.parametrize(
    ("args", "env", "is_coloured"),
    [
        ((), {}, False),  # no terminal
        (("--color=yes",), {}, True),
        ((), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
    ids=["pipe", "asked for", "NO_COLOR"],
)
def test_colour_stands_only_where_it_is_allowed(
    suite: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    env: dict[str, str],
    is_coloured: bool,
) -> None:
    """By --color, NO_COLOR and FORCE_COLOR, or by whether it is a terminal."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    out = suite.runpytest("bench", *args).stdout.str()
    assert ("\x1b[32mC confirmed" in out) == is_coloured
    assert ("\x1b[" in out) == is_coloured


def test_where_a_nightly_test_measures_the_same_the_daily_one_gives_way(suite: pytest.Pytester) -> None:
    """Two tests of one variant would leave nothing to decide by."""
    result = suite.runpytest("bench", "-m", "nightly or not nightly")
    result.stdout.fnmatch_lines(["test_by_night runs in the place of test_demo: 1 variants"])
    result.assert_outcomes(passed=1, skipped=1, deselected=1)
    assert result.parseoutcomes()["confirmed"] == 1


def test_without_the_nightly_test_the_daily_one_runs(suite: pytest.Pytester) -> None:
    """Nothing gives way to what was not selected."""
    result = suite.runpytest("bench", "-k", "half")
    assert "in the place of" not in result.stdout.str()
    assert result.parseoutcomes()["confirmed"] == 1


def test_time_left_is_known_from_an_earlier_run_with_the_same_options(tmp_path: Path) -> None:
    """A damaged run, one of other options and this one tell nothing."""

    def run(name: str, settings: dict[str, Any], seconds: float) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"plan": {"settings": settings}}))
        entry = {"nodeid": "a.py::b[x]", "outcome": "passed", "duration_s": seconds}
        (folder / "journal.jsonl").write_text(json.dumps(entry) + "\n")
        return folder

    run("1", {"rounds": None}, 5.0)
    run("2", {"rounds": None}, 6.0)
    run("3", {"rounds": 2}, 1.0)
    (run("4", {"rounds": None}, 7.0) / "journal.jsonl").write_text("no journal\n")
    this = run("5", {"rounds": None}, 8.0)
    found = earlier_s(tmp_path, {"rounds": None}, but=this)
    assert found == {"a.py::b[x]": 6.0}
    lines: list[str] = []
    terminal = terminal_of(lines)
    Progress(terminal, ["a.py::b[x]"], found).step("rounds", 1, 6)
    Progress(terminal, ["a.py::b[x]", "a.py::b[y]"], found).step("rounds", 1, 6)
    assert lines == ["  rounds: 1 of 6, about 6 s left", "  rounds: 1 of 6"]


def test_a_moving_line_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was wrapped could not be erased."""
    monkeypatch.setenv("COLUMNS", "60")
    lines: list[str] = []
    terminal = terminal_of(lines)
    Progress(terminal, []).step("w" * 100, 1, 6)
    assert len(lines[0]) < 60


def test_on_a_terminal_every_line_of_progress_stands_by_itself(suite: pytest.Pytester) -> None:
    """The line that stays is written over the moving one, and neither leaves an empty line or blanks."""
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    reader, terminal = pty.openpty()
    env = os.environ | {"COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "pytest", "bench", "-m", ANY, "--claims=off"]
    with subprocess.Popen(command, env=env, stdin=terminal, stdout=terminal, stderr=terminal) as running:
        os.close(terminal)
        written = b""
        while part := _read(reader):
            written += part
    os.close(reader)
    assert running.returncode == 0
    shown = [line.rpartition("\r")[2].rstrip() for line in written.decode().replace("\r\n", "\n").split("\n")]
    first = next(i for i, line in enumerate(shown) if line.startswith("  1 of 2 "))
    assert shown[first + 1].startswith("  2 of 2 ")
    assert b"half, rounds: 1 of 7" in written, "what moves was captured"


def _read(reader: int) -> bytes:
    """What was written to a terminal since; empty once nobody has it open."""
    try:
        return os.read(reader, 4096)
    except OSError:
        return b""


def test_what_knows_the_future_is_shown_beside_the_default() -> None:
    """Line and table have the bytes that the claims are about, by mix and warm-up."""
    run = Run.read(ROOT / "reports" / "reference" / "pocket-switching")
    record = next(r for r in run.records if r.variant == "sim-belady")
    lines = Lines()
    lines.tell(record)
    assert lines.lines[0].endswith("zipf-each 1.14×, published-cold 1.14×, published-fill 1.27×")
    (table,) = switching_tables.tables([record])
    assert [row[:2] for row in table.rows[1:]] == [
        ("zipf-each", "100"), ("published-cold", "100"), ("published-fill", "100"),
    ]  # fmt: skip
    assert [row[6] for row in table.rows] == ["bytes ÷ its", "1.14×", "1.14×", "1.27×"]


def test_a_figure_that_breaks_takes_no_verdict_away(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever went wrong is named beneath the claims, which are decided and shown."""

    def broken(run: Path) -> None:
        raise KeyError("a colour")

    monkeypatch.setattr(render, "render", broken)
    result = suite.runpytest_inprocess("bench")
    result.stdout.fnmatch_lines(["*confirmed*", "no figures: KeyError: 'a colour'"])
    assert result.ret == pytest.ExitCode.OK
