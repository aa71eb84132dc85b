"""The cloud's function, called here: the same suite, and its results back in one piece."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

import pytest

modal = pytest.importorskip("modal", reason="needs the extra modal: pip install -e '.[modal]'")

from bench.cloud import modal_app  # noqa: E402
from bench.cloud.modal_app import (  # noqa: E402
    Outcome,
    command,
    packed,
    run_suite,
    save,
    suite,
    suite_limit_s,
    unpacked,
)

ROOT = Path(__file__).resolve().parents[1]
IMPOSSIBLE = "sglang-token-count"
"""A claim that arithmetic decides, whatever its variant measures."""


@pytest.mark.nightly
def test_the_function_runs_an_experiment_and_returns_its_folder(tmp_path: Path) -> None:
    """A claim is judged, and its verdict is read from what came back."""
    outcome = suite.local(
        "cascade", ["--claim", IMPOSSIBLE, "--tasks", "2", "--rounds", "2"], 600.0, str(ROOT)
    )
    assert outcome["exit_code"] == 0, outcome["tail"]
    assert save(outcome, tmp_path) == 0
    [run] = [path for path in tmp_path.iterdir() if (path / "claims.json").is_file()]
    [verdict] = json.loads((run / "claims.json").read_text(encoding="utf-8"))["claims"]
    assert verdict["id"] == IMPOSSIBLE
    assert "1 passed" in outcome["tail"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose bench leaves a file, says a line, and fails when it is told to."""
    bench = tmp_path / "project" / "bench"
    bench.mkdir(parents=True)
    (tmp_path / "project" / "pyproject.toml").write_text(
        '[tool.pytest]\nmarkers = ["strategies", "cascade"]\n', encoding="utf-8"
    )
    (bench / "conftest.py").write_text(
        "def pytest_addoption(parser):\n"
        "    parser.addoption('--results-dir')\n"
        "    parser.addoption('--then')\n",
        encoding="utf-8",
    )
    (bench / "test_one.py").write_text(
        "import pathlib, pytest\n"
        "@pytest.mark.strategies\n"
        "def test_one(request):\n"
        "    run = pathlib.Path(request.config.option.results_dir) / 'one'\n"
        "    run.mkdir()\n"
        "    (run / 'journal.jsonl').write_text('measured')\n"
        "    print('measured', flush=True)\n"
        "    assert request.config.option.then != 'fail'\n",
        encoding="utf-8",
    )
    return tmp_path / "project"


@pytest.mark.parametrize(("then", "exit_code"), [("return", 0), ("fail", 1)])
def test_what_was_measured_comes_back_whether_the_suite_passed_or_not(
    project: Path, tmp_path: Path, then: str, exit_code: int
) -> None:
    """The folder, the exit status and the last lines."""
    outcome = suite.local("strategies", [f"--then={then}", "-s"], 300.0, str(project))
    assert outcome["exit_code"] == exit_code, outcome["tail"]
    assert "measured" in outcome["tail"]
    assert save(outcome, tmp_path / "results") == exit_code
    assert (tmp_path / "results/one/journal.jsonl").read_text() == "measured"


def test_a_suite_that_runs_past_its_limit_is_stopped_and_leaves_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A module that `python -m` finds first writes at once and then sleeps: imports take no part."""
    (tmp_path / "pytest.py").write_text(
        "import pathlib, sys, time\n"
        "results = next(a for a in sys.argv if a.startswith('--results-dir=')).partition('=')[2]\n"
        "(pathlib.Path(results) / 'one').mkdir()\n"
        "print('measured', flush=True)\n"
        "time.sleep(600)\n",
        encoding="utf-8",
    )
    monkeypatch.delenv("PYTHONPATH", raising=False)
    outcome = run_suite("strategies", [], 3.0, str(tmp_path))
    assert (outcome["exit_code"], outcome["tail"]) == (124, "measured\n")
    assert save(outcome, tmp_path / "results") == 124
    assert (tmp_path / "results/one").is_dir()
    assert "stopped at its limit; give more with --limit-s" in capsys.readouterr().err


def test_a_suite_without_results_shows_the_end_of_its_output(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option that pytest does not know is an error of its own, and its words come back."""
    outcome = suite.local("strategies", ["--no-such-option"], 60.0, str(project))
    assert save(outcome, tmp_path / "results") == 4
    assert "unrecognized arguments: --no-such-option" in capsys.readouterr().err


def test_a_command_is_refused_before_a_container_starts() -> None:
    """An experiment that does not exist, and results that would stay in the container."""
    with pytest.raises(ValueError, match=r"experiment 'strategy': no such one; use cascade, .*strategies"):
        command("strategy", [], Path("results"))
    for elsewhere in (["--results-dir", "x"], ["--results-dir=x"]):
        with pytest.raises(ValueError, match="results come back from the container; give --into FOLDER"):
            command("strategies", elsewhere, Path("results"))
    with pytest.raises(
        ValueError, match="--limit-s 60: give more than the 90 s that sending results may take"
    ):
        suite_limit_s(60)
    assert suite_limit_s(3600) == 3510
    whole = command("strategies", ["--tasks", "8"], Path("/r"))
    assert whole == [
        sys.executable, "-m", "pytest", "bench/", "-m", "strategies", "--results-dir=/r",
        "-p", "no:cacheprovider", "--tasks", "8",
    ]  # fmt: skip


def test_results_that_are_there_already_are_not_overwritten(tmp_path: Path) -> None:
    """Nothing is unpacked, and the packed results are kept beside them."""
    here = tmp_path / "remote"
    (here / "one").mkdir(parents=True)
    (here / "one/journal.jsonl").write_text("new")
    into = tmp_path / "results"
    (into / "one").mkdir(parents=True)
    (into / "one/journal.jsonl").write_text("old")
    data = packed(here)
    with pytest.raises(FileExistsError, match="one: exists; nothing was unpacked"):
        save(Outcome(exit_code=0, tail="", results=data), into)
    assert (into / "one/journal.jsonl").read_text() == "old"
    assert unpacked((into / "modal-results.tar.gz").read_bytes(), tmp_path / "other") == [
        tmp_path / "other/one"
    ]
    assert (tmp_path / "other/one/journal.jsonl").read_text() == "new"


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    """What a container sends is data, not paths of ours."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("run/../../away")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(tarfile.FilterError):
        unpacked(buffer.getvalue(), tmp_path / "results")
    assert not (tmp_path / "away").exists()


def test_the_container_gets_the_tree_without_what_was_made_in_it() -> None:
    """No results, caches, environments or history; every package and data file."""
    is_left_out = modal.FilePatternMatcher(*modal_app.IGNORED)
    for name in (".git/HEAD", "results/x/journal.jsonl", "harness/__pycache__/a.pyc", ".mypy_cache/x",
                 "venv/bin/python", "assay.egg-info/PKG-INFO", ".tox/log"):  # fmt: skip
        assert is_left_out(Path(name)), name
    for name in ("pyproject.toml", "conftest.py", "bench/test_strategies.py", "bench/claims/cascade.toml",
                 "harness/models/nano.safetensors", "reports/reference/pocket/results.json"):  # fmt: skip
        assert not is_left_out(Path(name)), name
