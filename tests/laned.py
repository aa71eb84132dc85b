"""A suite of one experiment for the tests of lanes: its variants say where they ran, and die when told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests import demo_suites
from tests.demo_suites import claim, conftest, run_dir, verdict_rows

__all__ = [
    "BENCH",
    "CONFTEST",
    "LANES",
    "claims",
    "journal",
    "make_suite",
    "needs_cores",
    "ran",
    "run_dir",
]

CONFTEST = conftest("fixtures.lanes")

BENCH = """
import os, signal, time
import pytest
from fixtures.lines import TerminalLines
from fixtures.pairing import Arm, Measured
from reports.plugin import RUN_DIR
from reports.records import Check, Metric, Record

pytestmark = pytest.mark.demo
SETUP_S = 0.2
FACTOR = {"half": 0.5, "same": 1.0, "slower": 1.2, "third": 0.33, "quarter": 0.25, "broken": 1.0}


class Lines(TerminalLines):
    title = "what demo says"


@pytest.fixture(scope="session")
def lines(request):
    time.sleep(SETUP_S)
    made = Lines()
    request.config.pluginmanager.register(made, "demo-lines")
    return made


def arm(name, factor, fail):
    noise = iter([1.01, 0.99, 1.02, 0.98] * 100)

    def run():
        if fail:
            raise RuntimeError("engine went away")
        return Measured({"wall_s": factor * next(noise)})

    return Arm(name, run)


@pytest.mark.parametrize("variant", FACTOR)
def test_demo(variant, paired, lines, request):
    with open("ran.txt", "a") as log:
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        log.write(f"{variant} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')} {cores}" + chr(10))
    if os.environ.get("DIES") == variant:
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("STOPS") == variant:
        os.kill(os.getppid(), signal.SIGINT)
    time.sleep(float(os.environ.get("SLEEP", "0")))
    lines.lines.append(f"told by {variant}")
    (request.config.stash[RUN_DIR]() / f"{variant}.txt").write_text("left in the run's folder")
    record = Record(experiment="demo", variant=variant, control="full", backend="fake", profile="pocket",
                    metrics={"wall_s": Metric(unit="s", better="lower", what="wall")})
    record.checks.append(Check(name="labelled", ok=True, observed="the label"))
    paired.run(record, arm(variant, FACTOR[variant], variant == "broken"), arm("full", 1.0, False))
    assert not record.failures, record.failures[:1]
"""

CLAIMS = (
    claim("half-is-faster", "half", 1.5, more='also_beats = ["same", "slower"]')
    + claim("half-is-5x", "half", 5.0)
    + claim("third-is-faster", "third", 1.5, more='provenance = ["labelled"]')
    + claim("quarter-is-faster", "quarter", 1.5)
    + claim("broken-is-faster", "broken", 1.5)
    + claim("needs-a-node", "half", 1.5, more='requires = ["profile:node"]')
    + claim("nobody-runs-it", "ghost", 1.5)
)
LANES = ("-n", "2", "--lanes", "cpu", "-p", "xdist")

needs_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="two lanes need two CPU cores and a system that pins processes to them (Linux)",
)


def make_suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    markers = ("nightly", "overhead", "gpu")
    return demo_suites.make_suite(
        pytester, monkeypatch, BENCH, CLAIMS, plugins=["fixtures.lanes"], markers=markers
    )


def journal(suite: pytest.Pytester) -> dict[str, dict[str, Any]]:
    return {entry["params"]["variant"]: entry for entry in demo_suites.journal(suite)}


def claims(folder: Path) -> dict[str, Any]:
    return {row["id"]: row for row in verdict_rows(folder)}


def ran(suite: pytest.Pytester) -> list[list[str]]:
    return [line.split() for line in (suite.path / "ran.txt").read_text().splitlines()]
