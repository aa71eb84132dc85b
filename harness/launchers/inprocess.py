"""Engines that live in this process and have no URL: PyTorch, and a simulation.

Their servers carry the engine itself (`Server.held`) for the backend of the same name. Nothing outlives the
process, and `stop` gives the memory back.
"""

from __future__ import annotations

import atexit
import re
import time
from dataclasses import dataclass

from harness.errors import ModelError, UsageError
from harness.launchers.base import Server

__all__ = ["SimulatedLauncher", "TransformersLauncher"]

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersLauncher:
    """Loads a model with the transformers library, on the CPU or a CUDA device."""

    model: str
    """A pocket model, the folder of a checkpoint, or ORG/NAME on the Hugging Face hub."""
    name: str = "transformers"
    device: str = "cpu"
    dtype: str = "float32"
    """Of the weights in memory; `auto` is the checkpoint's own."""
    threads: int = 1
    """Threads within an operation, on the CPU."""
    deadline_s: float = 600.0
    """Until the model is loaded, a download included."""

    def __post_init__(self) -> None:
        from harness.models.torch_engine import DTYPES

        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"{self.name}: device is {self.device!r}; use cpu, cuda or cuda:N")
        if self.dtype not in DTYPES:
            raise UsageError(f"{self.name}: dtype is {self.dtype!r}; use {', '.join(DTYPES)}")
        if self.threads < 1:
            raise UsageError(f"{self.name}: threads is {self.threads}, and must be at least 1")

    def launch(self) -> Server:
        """Load the model and return when it can answer; see `Launcher.launch`.

        Raises
        ------
        ModelError: a pocket model's weights are missing or corrupt, or the name means nothing.
        """
        from harness.models.torch_engine import TorchEngine, load, require_torch

        began_s = time.perf_counter()
        require_torch(self.name, self.device)
        engine = TorchEngine(
            name=self.name,
            model=self.model,
            load=lambda: load(self.name, self.model, self.device, self.dtype),
            threads=self.threads,
        )
        engine.start(self.deadline_s)

        def stop() -> None:
            atexit.unregister(stop)
            engine.stop()

        # A thread inside PyTorch must not outlive the interpreter.
        atexit.register(stop)
        return Server(
            url=f"in-process:transformers/{self.model}",
            model=self.model,
            start_s=time.perf_counter() - began_s,
            stop=stop,
            engine="transformers",
            held=engine,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedLauncher:
    """Makes an engine of published constants: it computes nothing, and its evidence is `simulated`."""

    model: str
    """A model of `harness/models/simulated.toml`, by its name or the beginning of it."""
    name: str = "simulated"
    device: str | None = None
    """Likewise; `None` takes the file's first for the model."""
    slots: int | None = None
    """Requests decoded together; `None` takes the file's."""
    output: str = "cap"
    """The distribution of answers' lengths, by its name in the file."""

    def __post_init__(self) -> None:
        if self.slots is not None and self.slots < 1:
            raise UsageError(f"{self.name}: slots is {self.slots}, and must be at least 1")

    def launch(self) -> Server:
        """Make the engine. No time is spent on loading: `start_s` is what the constants say, 0 if nothing.

        Raises
        ------
        ModelError: no model, device or distribution, or more than one, has that name.
        """
        from harness.models import simulated
        from harness.models.simulated_engine import SimulatedEngine

        try:
            row = simulated.find(self.model, self.device)
            lengths = simulated.find_output(self.output)
        except ModelError as exc:
            raise ModelError(f"{self.name}: {exc}") from exc
        timing = simulated.timing(row)
        engine = SimulatedEngine(
            model=row.model,
            timing=timing,
            slots=self.slots or row.slots,
            context_tokens=row.context_tokens,
            mean_tokens=lengths.mean_tokens,
        )
        return Server(
            url=f"simulated:{row.model}?device={row.device}",
            model=row.model,
            start_s=timing.load_s or 0.0,
            stop=engine.stop,
            engine="simulated",
            held=engine,
        )
