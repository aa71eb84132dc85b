"""A run that is killed again and again is finished by --resume, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest

from tests import spawned_runs
from tests.spawned_runs import ROOT, marked

VARIANTS = ("baseline", "same", "cascade", "all-small")
KILLS = 10
MARK = "ASSAY_KILL_TEST"


def command(results: Path, *more: str) -> list[str]:
    names = [f"bench/test_cascade.py::test_cascade[{variant}]" for variant in VARIANTS]
    return spawned_runs.command(names, results, "--rounds", "2", *more)


def finished(results: Path) -> list[str]:
    lines = [x for path in results.glob("*/journal.jsonl") for x in path.read_text().splitlines()]
    return [json.loads(line)["params"]["variant"] for line in lines if line.endswith("}")]


@pytest.mark.nightly
def test_ten_kills_at_random_moments_lose_nothing_that_was_finished(tmp_path: Path) -> None:
    """Every variant is measured once, benchmark.json is whole, and no process of the run is left."""
    mark, draw = uuid.uuid4().hex, random.Random(7)
    env = {**os.environ, MARK: mark}
    for _ in range(KILLS):
        more = ["--resume"] if list(tmp_path.glob("*/run.json")) else []
        process = subprocess.Popen(command(tmp_path, *more), cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.5, 12.0))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 10
        while marked(MARK, mark) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert marked(MARK, mark) == []
    done = subprocess.run(command(tmp_path, "--resume"), cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert len(list(tmp_path.glob("*/run.json"))) == 1
    assert Counter(finished(tmp_path)) == Counter(VARIANTS)
    whole = json.loads(next(tmp_path.glob("*/benchmark.json")).read_text())["benchmarks"]
    assert {b["params"]["variant"] for b in whole} == set(VARIANTS)
    assert all(len(b["stats"]["data"]) == 2 for b in whole)
    assert marked(MARK, mark) == []
