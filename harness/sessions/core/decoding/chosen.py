"""Whether a model's decode steps have kernels and graphs of their own here, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import UnavailableError
from harness.hardware.memory import out_of_memory
from harness.sessions.core.decoding.decoder import Decoder
from harness.sessions.core.decoding.recorders import CudaGraphs, EachTime, Recorder
from harness.sessions.core.decoding.rows import DTYPES

if TYPE_CHECKING:
    from harness.sessions.core.model import Model

__all__ = ["WAYS", "Chosen", "choose"]

WAYS = ("slab-by-slab", "kernels", "graphs")
"""To run a decode step, the slowest first."""

_MOST_DIM = 256
"""Of a head: larger ones take more registers than a program has."""


class Chosen(NamedTuple):
    """How decode steps are run."""

    decoder: Decoder | None
    name: str
    """Of WAYS."""
    why_not: str
    """Why nothing faster was chosen; empty where that is the fastest there is."""

    @property
    def graph_steps(self) -> int | None:
        """Steps replayed since the start; None where none is recorded."""
        return self.decoder.num_replayed if self.decoder is not None and self.name == "graphs" else None

    @contextmanager
    def slowed(self, model: Model, way: str) -> Iterator[None]:
        """Run the model's decode steps in a slower way meanwhile, to measure what the faster one brings.

        Raises
        ------
        UnavailableError: that way is not slower than the one chosen.
        """
        if WAYS.index(way) >= WAYS.index(self.name):
            raise UnavailableError(
                f"{model.name}: {way} is no slower than {self.name}, how its decode steps are run here"
                + (f": {self.why_not}" if self.why_not else "")
            )
        decoder = self.decoder
        assert decoder is not None
        decoder.replays = False
        model.decoder = None if way == "slab-by-slab" else decoder
        try:
            yield
        finally:
            decoder.replays, model.decoder = True, decoder


def choose(model: Model, *, max_batch: int, max_tokens: int, fastest: str = "graphs") -> Chosen:
    """How a model's decode steps are run on its device; to record them takes some seconds.

    Arguments: `fastest`, of WAYS, the one that is asked for; `max_batch`, rows of the largest step;
    `max_tokens`, the most that a session holds.

    Raises
    ------
    BudgetError: the device has no memory for it.
    UnavailableError: a step cannot be recorded here.
    """
    why_not = _why_slab_by_slab(model) or _not_asked("kernels", fastest)
    if why_not:
        return Chosen(None, "slab-by-slab", why_not)
    if not model.stays:
        why_not = "the weights are elsewhere in every request"
    else:
        why_not = _not_asked("graphs", fastest)
    decoder = _decoder(model, max_batch, max_tokens, EachTime() if why_not else CudaGraphs(model.device))
    return Chosen(decoder, "kernels" if why_not else "graphs", why_not)


def _decoder(model: Model, max_batch: int, max_tokens: int, recorder: Recorder) -> Decoder:
    try:
        with out_of_memory():
            return Decoder(model, max_batch=max_batch, max_tokens=max_tokens, recorder=recorder)
    except RuntimeError as exc:
        said = " ".join(str(exc).split())[:300]
        raise UnavailableError(
            f"{model.name}: its decode step cannot be recorded as a CUDA graph: {said}; "
            "serve with --decoding kernels"
        ) from exc


def _not_asked(way: str, fastest: str) -> str:
    return "" if WAYS.index(fastest) >= WAYS.index(way) else f"{fastest} was asked for"


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
    return ""
