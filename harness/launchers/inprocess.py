"""Engines that live in this process and have no URL: PyTorch, and a simulation.

Their servers carry the engine itself (`Server.held`) for the backend of the same name. Nothing outlives the
process, and `stop` gives the memory back.
"""

from __future__ import annotations

import atexit
import re
import time
from dataclasses import dataclass

from harness.errors import UsageError
from harness.launchers.base import Server

__all__ = ["TransformersLauncher"]

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
