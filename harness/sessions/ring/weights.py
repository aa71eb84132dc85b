"""A model whose weights are views of an arena, into which they come chunk by chunk.

The forward pass waits for a chunk right before it computes with it and says so right after it has: layer i
runs while layer i + 1 arrives. What it computes has the same bits as with the same weights in tensors of
their own.

Physics: to bind a chunk is to make some nine objects, about 20 µs a layer; where every chunk has one place
for good that is done once, and a switch binds nothing. Nothing here waits for a device: on a GPU, waiting for
a chunk is the stream's.

Traps: a tied head has no bytes of its own, so its embedding is needed until the pass ends, and must not be
written over within it. What is not resident is bytes of another model: nothing is computed outside of a
request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F

from harness.errors import BudgetError, UsageError
from harness.residency.policies.base import Plan
from harness.residency.store.base import Manifest, TensorSpec
from harness.sessions.core.linear import Linear
from harness.sessions.core.model import Model
from harness.sessions.core.weights import Layer, Weights
from harness.sessions.ring.packed import NORMS, PARTS, Skeleton, check, layer_name

__all__ = ["RunningPass", "StreamedModel"]


class RunningPass(Protocol):
    """What the forward pass needs of `harness.residency.live.Pass`."""

    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def plan(self) -> Plan: ...  # noqa: D102
    @property
    def places(self) -> tuple[int, ...]:
        """Where each chunk lies in the arena."""
        ...

    def wait(self, chunk: int) -> None:
        """Have what is computed from now on come after the chunk."""
        ...

    def done(self, chunk: int) -> None:
        """Behind what computes with it."""
        ...

    def again(self) -> None:
        """Before every forward pass but the first."""
        ...


class StreamedModel(Model):
    """A model over an arena; it computes between `begin` and `end`. For one thread, in inference mode."""

    is_in_place = False

    def __init__(self, name: str, skeleton: Skeleton, manifest: Manifest, arena: torch.Tensor) -> None:
        """Make views of `arena` for the tensors of `manifest`, once their places are known.

        arena: flat, uint8, on the device that computes.

        Raises
        ------
        ModelError: the manifest's tensors are not those of the skeleton.
        """
        check(name, skeleton, manifest)
        self._binders = _binders(skeleton, manifest, arena)
        self._parts: list[Any] = [None] * len(self._binders)
        self._places: tuple[int, ...] | None = None
        self._last = len(self._parts) - 1
        self._is_tied = skeleton.is_tied
        self._pass: RunningPass | None = None
        self._is_again = False
        self.manifest = manifest
        num_bytes = manifest.layout.num_bytes
        super().__init__(name, _hollow(skeleton, manifest, arena, num_bytes))

    def begin(self, running: RunningPass) -> None:
        """Compute what follows in a request that has begun; binds what lies elsewhere than before.

        Raises
        ------
        BudgetError: the head is tied, and the embedding would be written over before it is needed again.
        """
        if self._is_tied and any(copy.after == 0 for copy in running.plan.copies):
            num_bytes = self.manifest.layout.num_bytes
            raise BudgetError(
                f"{self.name}: its head is its embedding, which the arena cannot keep for a whole pass; give "
                f"the arena a chunk more, or {num_bytes} bytes for all of the model"
            )
        self.bind(running.places)
        self._pass, self._is_again = running, False

    def end(self) -> None:
        """Compute nothing more in that request; to end it is the caller's."""
        self._pass = None

    @contextlib.contextmanager
    def using(self, running: RunningPass) -> Iterator[None]:
        """`begin`, and `end` with the context."""
        self.begin(running)
        try:
            yield
        finally:
            self.end()

    def bind(self, places: Sequence[int]) -> int:
        """Make views of the chunks that lie elsewhere than when they were bound last; how many these are."""
        places = tuple(places)
        before = self._places
        if places == before:
            return 0
        moved = [i for i, at in enumerate(places) if before is None or before[i] != at]
        for index in moved:
            self._parts[index] = self._binders[index].bind(places[index])
        self._places = places
        return len(moved)

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        self.blocked_s = 0.0
        if self._is_again:
            self._running.again()
        self._is_again = True
        self._wait(0)
        x = F.embedding(tokens, self._parts[0].embedding)
        if not self._is_tied:
            self._running.done(0)
        return x

    def _layers(self) -> Iterable[Layer]:
        for index in range(1, self._last):
            self._wait(index)
            yield self._parts[index]
            self._running.done(index)

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        self._wait(self._last)
        norm, head = self._parts[self._last]
        logits: torch.Tensor = (head or self._parts[0].head)(self._norm(x, norm))
        self._end()
        return logits

    def _without_logits(self, x: torch.Tensor) -> torch.Tensor:
        # Waited for all the same: whoever plans the next pass may rely on all of this one having landed.
        self._wait(self._last)
        self._end()
        return super()._without_logits(x)

    def _end(self) -> None:
        self._running.done(self._last)
        if self._is_tied:
            self._running.done(0)

    def _wait(self, chunk: int) -> None:
        began_s = perf_counter()
        self._running.wait(chunk)
        self.blocked_s += perf_counter() - began_s

    @property
    def _running(self) -> RunningPass:
        if self._pass is None:
            raise UsageError(f"{self.name}: its weights are not in the arena; begin a request first")
        return self._pass


class _Embed(NamedTuple):
    embedding: torch.Tensor
    head: Linear | None
    """Where it is tied."""


class _End(NamedTuple):
    norm: torch.Tensor
    head: Linear | None
    """None where it is tied."""


class _View(NamedTuple):
    """How to make a tensor of the bytes at a chunk's place."""

    typed: torch.Tensor
    """The arena, as elements of its type."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    first: int
    """Element, from the start of the chunk."""

    @classmethod
    def of(cls, spec: TensorSpec, arena: torch.Tensor) -> _View:
        dtype = getattr(torch, spec.dtype)
        typed = arena[: len(arena) // dtype.itemsize * dtype.itemsize].view(dtype)
        strides = tuple(torch.empty(spec.shape, device="meta").stride())
        return cls(typed, spec.shape, strides, spec.offset_bytes // dtype.itemsize)

    def at(self, place: int) -> torch.Tensor:
        first, rest = divmod(place, self.typed.itemsize)
        if rest:
            raise UsageError(
                f"arena: a chunk at byte {place} is no place for {self.typed.dtype}; align chunks"
            )
        first += self.first
        return self.typed.as_strided(self.shape, self.strides, first)


class _Binder(NamedTuple):
    """How to make what a pass uses of a chunk."""

    kind: type[Any]
    views: tuple[tuple[_View | None, _View | None, bool], ...]
    """Per field of `kind`: weight, bias, and whether it is multiplied with; None where it is missing."""

    def bind(self, place: int) -> Any:
        return self.kind(*(_part(weight, bias, is_matrix, place) for weight, bias, is_matrix in self.views))


def _part(weight: _View | None, bias: _View | None, is_matrix: bool, place: int) -> Any:
    if weight is None:
        return None
    tensor = weight.at(place)
    if not is_matrix:
        return tensor
    return Linear(tensor, None if bias is None else bias.at(place), packed=False)


def _binders(skeleton: Skeleton, manifest: Manifest, arena: torch.Tensor) -> list[_Binder]:
    views = {spec.name: _View.of(spec, arena) for spec in manifest.tensors}

    def one(name: str, *, is_matrix: bool) -> tuple[_View | None, _View | None, bool]:
        return views.get(name), views.get(f"{name}.bias"), is_matrix

    tied = ("embedding" if skeleton.is_tied else "", "" if skeleton.is_tied else "head")
    embed = _Binder(_Embed, (one("embedding", is_matrix=False), one(tied[0], is_matrix=True)))
    end = _Binder(_End, (one("norm", is_matrix=False), one(tied[1], is_matrix=True)))
    layers = [
        _Binder(
            Layer, tuple(one(f"{layer_name(index)}.{part}", is_matrix=part not in NORMS) for part in PARTS)
        )
        for index in range(skeleton.shape.num_layers)
    ]
    return [embed, *layers, end]


def _hollow(skeleton: Skeleton, manifest: Manifest, arena: torch.Tensor, num_bytes: int) -> Weights:
    """Weights without tensors, which say what is computed on, and in which type."""
    nothing = arena[:0].view(getattr(torch, manifest.tensors[0].dtype))
    embed_bytes = 0 if skeleton.is_tied else manifest.layout.chunks[0].num_bytes
    return Weights(
        shape=skeleton.shape,
        embedding=nothing,
        layers=(),
        norm=nothing,
        head=Linear(nothing, packed=False),
        is_tied=skeleton.is_tied,
        epsilon=skeleton.epsilon,
        inverse_frequencies=skeleton.inverse_frequencies.to(arena.device),
        rope_scale=skeleton.rope_scale,
        num_bytes=num_bytes,
        step_bytes=num_bytes - embed_bytes,
    )
