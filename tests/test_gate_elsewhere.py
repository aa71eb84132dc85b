"""The gate where variants run in other processes: nothing is measured again, and the session says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from local_clusters import CONFTEST as CLUSTER
from local_clusters import make_project
from test_clusters_spread import journal as journal_of
from test_clusters_spread import spread

from tests.demo_suites import journal, run_dir
from tests.laned import CONFTEST, LANES, needs_cores
from tests.test_gate_rerun import gated, ran, suite, words

__all__ = ["suite"]

OPEN = "gate: 1 claim left open, since nothing is measured once more with {option}; to settle them, without "
ASKED = '\n\ndef pytest_sessionstart(session):\n    session.config.option.ray_address = "127.0.0.1:1"\n'


@needs_cores
def test_lanes_leave_an_open_claim_open_and_say_how_to_settle_it(suite: pytest.Pytester) -> None:
    """A warning in the table, and below it the command that measures once more."""
    (suite.path / "conftest.py").write_text(CONFTEST)
    result = suite.runpytest_subprocess(
        "bench", "-k", "steady or noisy", "--rounds=4", "--claims=gate", *LANES
    )
    assert result.ret == pytest.ExitCode.OK
    assert sorted(ran(suite)) == ["noisy", "steady"]
    assert len(journal(suite)) == 2
    assert words(suite) == {"steady": "confirmed", "noisy": "inconclusive"}
    result.stdout.fnmatch_lines(
        ["noisy-is-faster * warn *", OPEN.format(option="--lanes") + "*--claim noisy-is-faster"]
    )
    result.stdout.no_fnmatch_line("*measuring*once more: *")
    assert run_dir(suite).is_dir()


def test_a_session_in_one_process_has_nothing_to_say_of_that(suite: pytest.Pytester) -> None:
    """What is open after its rerun was measured once more."""
    gated(suite, "open").stdout.no_fnmatch_line("*left open*")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """One variant that leaves its locked claim open, and a test that is none and runs here."""
    made = make_project(tmp_path / "project")
    bench = made / "bench" / "test_demo.py"
    noisy = bench.read_text().replace(
        "arm(variant, 0.5)",
        "Arm(variant, lambda n=iter([2.1, .5, .5, 2.1] * 9): Measured({'wall_s': next(n)}))",
    )
    bench.write_text(noisy + "\n\ndef test_plain():\n    pass\n")
    (made / "claims.lock").write_text(json.dumps({"pocket": {"one-halves": "confirmed"}}))
    return made


def test_a_cluster_leaves_it_open_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also behind a test that runs here, and when all variants are resumed: this machine is another one."""
    monkeypatch.setattr("test_clusters_spread.CONFTEST", CLUSTER + ASKED)
    options = ("--claims=gate", "--rounds=4", "-k", "one or plain")
    for more in ((), ("--resume",)):
        done, run = spread(project, *options, *more)
        assert done.returncode == 0, done.stdout
        assert [entry.get("attempt", 1) for entry in journal_of(run)] == [1]
        assert OPEN.format(option="--ray-address") in done.stdout
        assert "by measuring" not in done.stdout
