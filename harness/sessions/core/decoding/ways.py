"""How a model's decode steps are run here, and why not with fewer requests to the device."""

from __future__ import annotations

from importlib.util import find_spec
from subprocess import CalledProcessError
from typing import TYPE_CHECKING, NamedTuple

import torch

from harness.errors import UnavailableError, UsageError
from harness.hardware.memory import out_of_memory
from harness.sessions.core.decoding.decoder import Decoder
from harness.sessions.core.decoding.recorders import CudaGraphs, Recorder
from harness.sessions.core.decoding.rows import DTYPES
from harness.sessions.decoding_ways import WAYS

if TYPE_CHECKING:
    from harness.sessions.core.model import Model

__all__ = ["Way", "check_way", "way_of"]

_MOST_DIM = 256
"""Of a head: larger ones take more registers than a program has."""
_LEAST_CAPABILITY = (8, 0)
"""Of an NVIDIA GPU: bfloat16, and copies beside computing."""


class Way(NamedTuple):
    """How decode steps are run."""

    decoder: Decoder | None
    name: str
    """Of WAYS."""
    why_not: str
    """Why not with fewer requests; empty where that cannot be."""

    @property
    def row_steps(self) -> int | None:
        """Steps that decoded all their rows at once, since the start; None slab by slab."""
        return None if self.decoder is None else self.decoder.num_steps

    @property
    def graph_steps(self) -> int | None:
        """Of them those replayed; None where none is recorded."""
        return self.decoder.num_replayed if self.decoder is not None and self.name == "graphs" else None


def check_way(name: str) -> None:
    """Raise UsageError unless it is one of WAYS."""
    if name not in WAYS:
        raise UsageError(f"decoding {name!r} is unknown; choose one of {', '.join(WAYS)}")


def way_of(model: Model, *, max_batch: int, max_tokens: int, most: str = WAYS[-1]) -> Way:
    """How a model's decode steps are run on its device; to record them takes some seconds.

    Arguments: `most`, of WAYS, the last one that may be chosen; `max_batch`, rows of the largest step;
    `max_tokens`, the most that a session holds.

    Raises
    ------
    BudgetError: the device has no memory for it.
    UnavailableError: kernels cannot be compiled, or a step cannot be recorded here.
    """
    why_not = _why_slab_by_slab(model) or _not_asked("kernels", most)
    if why_not:
        return Way(None, "slab-by-slab", why_not)
    if not model.is_in_place:
        why_not = "the weights are elsewhere in every request"
    else:
        why_not = _not_asked("graphs", most)
    _try_kernels(model, max_tokens)
    decoder = _decoder(model, max_batch, max_tokens, None if why_not else CudaGraphs(model.device))
    return Way(decoder, "kernels" if why_not else "graphs", why_not)


def _try_kernels(model: Model, max_tokens: int) -> None:
    """Compile and run them once: for that Triton needs a C compiler, Python's headers, and a folder."""
    from triton.errors import TritonError

    shape = model.shape
    heads, kv_heads, dim = shape.num_heads, shape.num_kv_heads, shape.head_dim
    try:
        with out_of_memory():
            mixed = torch.zeros(1, heads + 2 * kv_heads, dim, dtype=model.dtype, device=model.device)
            rows = Decoder(model, max_batch=1, max_tokens=max_tokens, recorder=None).rows
            rows.put((), 1)
            rows(0, mixed[:, :heads].view(1, kv_heads, -1, dim), mixed[:, heads:].view(1, 2, kv_heads, dim))
    except (RuntimeError, OSError, CalledProcessError, TritonError) as exc:
        raise UnavailableError(
            f"{model.name}: the attention kernels cannot be compiled here: {_said(exc)}; "
            "install a C compiler and Python's headers, set TRITON_CACHE_DIR to a folder that can be "
            "written, or serve with --decoding slab-by-slab"
        ) from exc


def _decoder(model: Model, max_batch: int, max_tokens: int, recorder: Recorder | None) -> Decoder:
    try:
        with out_of_memory():
            return Decoder(model, max_batch=max_batch, max_tokens=max_tokens, recorder=recorder)
    except RuntimeError as exc:
        # What ends a recording that failed fails too, and says less.
        raise UnavailableError(
            f"{model.name}: its decode step cannot be recorded as a CUDA graph: "
            f"{_said(exc.__context__ or exc)}; serve with --decoding kernels"
        ) from exc


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _not_asked(way: str, most: str) -> str:
    return "" if WAYS.index(most) >= WAYS.index(way) else f"{most} was asked for"


def _why_slab_by_slab(model: Model) -> str:
    """What is missing for kernels of its own; empty where nothing is."""
    if model.device.type != "cuda":
        return f"the device is {model.device.type!r}, no GPU"
    if model.dtype not in DTYPES:
        return f"the kernels do not compute in {model.dtype}"
    if model.shape.head_dim > _MOST_DIM:
        return f"heads are {model.shape.head_dim} wide, and the kernels take {_MOST_DIM}"
    if find_spec("triton") is None:
        return "Triton is not installed; it comes with PyTorch's CUDA builds, or: pip install triton"
    if torch.version.hip or torch.cuda.get_device_capability(model.device) < _LEAST_CAPABILITY:
        return "the kernels are for NVIDIA GPUs from compute capability 8.0 on"
    return ""
