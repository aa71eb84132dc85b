"""A real experiment in lanes: routing on published constants, whose plans are pure computation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.demo_suites import ROOT
from tests.laned import needs_cores

CHOSEN = "greedy-plans or random-plans or best-single-plans or preference-plans or exact-plans"
TIMED = "_s"
"""Ends the name of a metric of this machine's time: no two runs agree on one."""


def claims_of(results: Path, *options: str) -> dict[str, dict[str, Any]]:
    """Claim → what was decided, in a session of its own."""
    command = [sys.executable, "-m", "pytest", "bench", "-m", "routing", "--profile", "replay", "-k", CHOSEN]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    subprocess.run([*command, "--results-dir", str(results), *options], cwd=ROOT, env=env, check=True)
    run = max(results.iterdir())
    return {row["id"]: row for row in json.loads((run / "claims.json").read_text())["claims"]}


@needs_cores
@pytest.mark.nightly
def test_two_lanes_decide_the_claims_on_plans_as_one_process_does(tmp_path: Path) -> None:
    """Every claim on what is counted is the same to the last byte, and there are some that are decided."""
    laned = claims_of(tmp_path / "laned", "-n", "2", "--lanes", "cpu")
    alone = claims_of(tmp_path / "alone")
    assert laned.keys() == alone.keys()
    counted = [id for id, row in alone.items() if not row["metric"].endswith(TIMED)]
    assert {id: laned[id] for id in counted} == {id: alone[id] for id in counted}
    assert {"confirmed", "refuted"} <= {alone[id]["verdict"] for id in counted}
