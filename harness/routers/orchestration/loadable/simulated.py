"""A model of published constants: a load takes its published time, a token the time that it is given.

In virtual time (`harness.clock.run_virtual`) a job of minutes takes none; on an ordinary loop it sleeps.

The text of a simulated answer is filler, so it cannot be graded. Its grade is drawn: right with the
probability that the priors give (model, type, difficulty). The draw is a function of seed, job, task and
model alone, so that every router that gives the task to the model meets the same outcome. The draws of two
models at one task are independent.
"""

from __future__ import annotations

import asyncio
import random
from typing import Protocol

from harness.backends.base import Backend
from harness.backends.simulated import SimulatedBackend
from harness.errors import ModelError, UsageError
from harness.models.registry import devices
from harness.models.simulated import Timing
from harness.models.simulated_engine import SimulatedEngine
from harness.routers.planning.published import BYTES_PER_GB, ModelRow
from harness.workflow.jobs.grade import Grade
from harness.workflow.jobs.job import Job, JobTask

__all__ = ["DrawnOutcomes", "SimulatedModel", "TrueQuality"]


class SimulatedModel:
    """An engine that computes nothing."""

    is_kept = False

    def __init__(self, name: str, num_bytes: int, *, load_s: float, timing: Timing, slots: int = 1) -> None:
        """Describe the model.

        Parameters
        ----------
        load_s: seconds of a load. timing: of its engine's iterations; its own `load_s` is not read.

        Raises
        ------
        UsageError: bytes or slots are below 1, or the load takes a negative time.
        """
        if num_bytes < 1 or slots < 1 or not load_s >= 0:
            raise UsageError(
                f"{name}: {num_bytes} bytes, {slots} slots, load of {load_s} s; give ≥ 1, ≥ 1, ≥ 0"
            )
        self.name = name
        self.num_bytes = num_bytes
        self.slots = slots
        self.load_s = load_s
        self.timing = timing
        self._engine: SimulatedEngine | None = None

    @classmethod
    def published(cls, row: ModelRow, *, device: str = "RTX-4090", slots: int = 1) -> SimulatedModel:
        """A model of a published fleet: its size and load time as published; its tokens by a roofline.

        A step reads the weights once: gb ÷ the device's memory bandwidth. A prompt costs one step, so that
        times are floors.

        Raises
        ------
        ModelError: the row has no load time, or the registry no such device.
        """
        if row.load_ms is None:
            raise ModelError(f"{row.name}: load_ms is missing; use a fleet that gives load times")
        if device not in devices():
            raise ModelError(f"no device {device!r}; use {', '.join(devices())}")
        num_bytes = round(row.gb * BYTES_PER_GB)
        read_s = num_bytes / devices()[device].memory_bandwidth_bytes_per_s
        name = row.name.partition("/")[2]
        return cls(name, num_bytes, load_s=row.load_ms / 1000, timing=Timing(read_s=read_s), slots=slots)

    async def load(self) -> Backend:
        """Wait as long as a load takes."""
        await asyncio.sleep(self.load_s)
        self._engine = SimulatedEngine(model=self.name, timing=self.timing, slots=self.slots)
        return SimulatedBackend(self._engine, name=self.name)

    async def unload(self) -> None:
        """Stop the engine: it answers no more."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.stop()


class TrueQuality(Protocol):
    """What is true of the models; `Estimates.quality` of the priors, for one."""

    def __call__(self, model: str, kind: str, difficulty: float) -> float:
        """The share of right answers of a model at tasks of a type and difficulty, 0 to 1."""


class DrawnOutcomes:
    """A grader of filler: whether an answer is right is drawn from what is true of the models."""

    def __init__(self, quality: TrueQuality, *, seed: int) -> None:
        self.quality = quality
        self.seed = seed

    def __call__(self, job: Job, task: JobTask, model: str, text: str) -> Grade:
        """The outcome of a task on a model, whatever the text; the same whenever it is asked."""
        drawn = random.Random(repr((self.seed, job.id, task.id, model))).random()
        quality = self.quality(model, task.type, task.difficulty)
        is_right = drawn < quality
        return Grade(
            float(is_right), is_right, None if is_right else f"drawn {drawn:.3f}, right below {quality:.3f}"
        )
