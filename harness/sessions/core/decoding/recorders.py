"""How a decode step is run again: asked for kernel by kernel, or replayed from a CUDA graph.

A decode step of Llama-2-7B is some 500 kernels of a few microseconds each; to ask for one takes PyTorch about
as long, so that the processor and not the memory sets the pace. A graph is asked for once.

Traps: what a graph reads and writes must stay where it is, sizes too; nothing in it may wait for the device;
kernels are compiled before, not in it. A recording that fails can leave the allocator unusable: end the
process.

Source: PyTorch, "CUDA semantics", section CUDA Graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import torch

__all__ = ["CudaGraphs", "Recorder", "Step"]

Step = Callable[[], torch.Tensor]
_NUM_WARMUPS = 2


class Recorder(Protocol):
    """Makes a step that can be run again of one that computes."""

    def record(self, step: Step) -> Step:
        """A step that computes the same; what it returns is overwritten by the next one's."""
        ...


class CudaGraphs:
    """Replay graphs, which share one pool of memory: only one of them runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    def record(self, step: Step) -> Step:
        """Run the step for its kernels to be compiled and chosen, then record it.

        Raises
        ------
        RuntimeError, torch.OutOfMemoryError: of PyTorch, where something in the step cannot be recorded or
        there is no memory.
        """
        with torch.cuda.device(self._device):
            graph, result = self._captured(step)
        self._pool = graph.pool()

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay

    def _captured(self, step: Step) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        current, stream = torch.cuda.current_stream(), _stream_of(self._device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(_NUM_WARMUPS):
                step()
        current.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may ask things of the device meanwhile, which is none of the recording's business.
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                return graph, step()
        finally:
            # A recording that failed leaves its own stream behind.
            torch.cuda.set_stream(current)


@cache
def _stream_of(device: torch.device) -> Any:
    """One for all recordings: cuBLAS keeps a workspace for each that it was ever used on."""
    new_stream: Any = torch.cuda.Stream  # which says nothing of its types
    return new_stream(device)
