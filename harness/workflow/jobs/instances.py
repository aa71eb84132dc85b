"""Seeded jobs of WorkflowBench's three shapes: the published three are too few to tell routers apart.

    workflowbench  other numbers, functions and dates, for real models
    pocket         the templates that the pocket models were trained on

Ten points at a fifth of discordant pairs need about 160 paired tasks: 60 jobs are 180. Jobs of one seed never
change with their number: the first 60 of 90 are the 60.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from functools import cache

from harness.errors import UsageError
from harness.workflow.jobs.job import Job, JobFile

__all__ = ["CALIBRATION_SEED", "GRADING_SEED", "NUM_JOBS", "STYLES", "instances"]

NUM_JOBS = 60
CALIBRATION_SEED = 1
"""What priors are measured on."""
GRADING_SEED = 2
"""What routers are graded on; never the seed of the priors."""
SHAPES = ("wb1", "wb2", "wb3")


def _workflowbench(name: str, shape: str, rng: random.Random) -> Job:
    from harness.workflow.jobs.worded import worded_job

    return worded_job(name, shape, rng)


def _pocket(name: str, shape: str, rng: random.Random) -> Job:
    from harness.workflow.jobs.pocket import pocket_job

    return pocket_job(name, shape, rng)


STYLES: Mapping[str, Callable[[str, str, random.Random], Job]] = {
    "workflowbench": _workflowbench,
    "pocket": _pocket,
}


@cache
def instances(style: str, *, num_jobs: int = NUM_JOBS, seed: int = GRADING_SEED) -> JobFile:
    """Draw jobs, the shapes in turns; ids are "wb1-000", "wb2-001", …

    Raises
    ------
    UsageError: an unknown style, or no job.
    """
    if style not in STYLES:
        raise UsageError(f"no jobs in style {style!r}; use {', '.join(STYLES)}")
    if num_jobs < 1:
        raise UsageError(f"{num_jobs} jobs asked for; ask for at least 1")
    jobs = tuple(_draw(style, place, seed) for place in range(num_jobs))
    return JobFile(
        name=f"{style}-{seed}",
        source=f"harness/workflow/jobs/instances.py: {style}, seed {seed}",
        jobs=jobs,
        sha256=hashlib.sha256(repr(jobs).encode()).hexdigest(),
    )


def _draw(style: str, place: int, seed: int) -> Job:
    shape = SHAPES[place % len(SHAPES)]
    return STYLES[style](f"{shape}-{place:03d}", shape, random.Random(f"jobs/{style}/{seed}/{place}"))
