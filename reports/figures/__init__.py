"""The figures of a run, each from its folder alone.

A figure is a module with `data(run, experiment)`, which computes, and `draw(data)`, which only draws.
Where `data` finds nothing and returns None, the figure is left out. `write` makes all of them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from reports.runs import Run

__all__ = ["AGENTS", "DECODE", "NAMES", "ROUTING", "STRATEGIES", "SWITCHING", "Job", "jobs_of", "write"]

NAMES = ("stages", "pareto", "goodput", "claims")
"""The figures of an experiment; each is written as <experiment>-<name>.svg and .png."""
ROUTING = ("timeline", "score-cost", "regret", "solve-time", "violations", "sweeps", "claims")
"""Those of the experiment "routing", whose jobs have no stages and which is offered no load."""
DECODE = ("decoding", "roofline", "claims")
"""Those of the experiment "decode"."""
AGENTS = ("scaling", "reflect", "arrivals", "density", "claims")
"""Those of the experiment "agents"."""
SWITCHING = ("latency-cdf", "latency-modes", "buffers", "policies", "links", "requests-timeline", "claims")
"""Those of the experiment "switching"."""
STRATEGIES = ("front", "samples", "tokens", "claims")
"""Those of the experiment "strategies"."""
OWN = {
    "routing": ROUTING,
    "decode": DECODE,
    "agents": AGENTS,
    "switching": SWITCHING,
    "strategies": STRATEGIES,
}
"""Experiment → its figures; others have `NAMES`."""


MANY = 8
"""Figures from which on several processes draw them: each takes a second to begin."""
MOST_PROCESSES = 4


class Job(NamedTuple):
    """A figure to draw."""

    experiment: str
    name: str

    @property
    def stem(self) -> str:
        """The name of its files, in their folder whatever the experiment is called."""
        return re.sub(r"[^\w.-]+", "-", f"{self.experiment}-{self.name}")


def jobs_of(run: Run) -> list[Job]:
    """Every figure that a run may have, by experiment."""
    return [Job(experiment, name) for experiment in run.experiments for name in OWN.get(experiment, NAMES)]


def write(
    run: Run, folder: Path, *, kinds: Sequence[str] = ("svg", "png"), without: Sequence[str] = ()
) -> list[Path]:
    """Draw the figures of every experiment of `run` into `folder`; returns the files written, in order.

    `without` names figures to leave out. Many are drawn by several processes.
    """
    jobs = [job for job in jobs_of(run) if job.name not in without]
    num_processes = min(os.cpu_count() or 1, MOST_PROCESSES, len(jobs) // (MANY // 2))
    if len(jobs) >= MANY and num_processes > 1:
        with contextlib.suppress(OSError, BrokenExecutor):  # no processes or no semaphores to be had
            return _drawn_by_several(run, jobs, folder, kinds, num_processes)
    return _drawn(run, jobs, folder, kinds)


def _drawn(run: Run, jobs: Sequence[Job], folder: Path, kinds: Sequence[str]) -> list[Path]:
    from reports.figures import base

    out: list[Path] = []
    with base.style():
        for job in jobs:
            module = import_module(f"reports.figures.{job.name.replace('-', '_')}")
            found = module.data(run, job.experiment)
            if found is not None:
                out += base.save(module.draw(found), folder, job.stem, kinds)
    return out


def _drawn_by_several(
    run: Run, jobs: Sequence[Job], folder: Path, kinds: Sequence[str], num_processes: int
) -> list[Path]:
    with ProcessPoolExecutor(num_processes, get_context(_how_to_begin()), _take, (run,)) as pool:
        found = [pool.submit(_draw_one, job, folder, kinds) for job in jobs]
        return [path for future in found for path in future.result()]


def _how_to_begin() -> str:
    """By a fork where no thread would be lost by it; what is spawned imports everything again."""
    threads = Path("/proc/self/task")
    if not threads.is_dir() or len(list(threads.iterdir())) > 1:
        return "spawn"
    for heavy in ("matplotlib.figure", "matplotlib.backends.backend_svg", "scipy.stats"):
        import_module(heavy)
    return "fork"


_runs: list[Run] = []
"""The run that a drawing process was begun with."""


def _take(run: Run) -> None:
    _runs.append(run)


def _draw_one(job: Job, folder: Path, kinds: Sequence[str]) -> list[Path]:
    return _drawn(_runs[0], [job], folder, kinds)
