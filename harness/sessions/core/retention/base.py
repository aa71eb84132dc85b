"""Retention of waiting sessions: the physics, and what a policy decides.

A session that waits for its agent's tool holds memory without using it. Three things can be done, and each
wastes memory × time (byte seconds):

    keep      its slab, for as long as it will still wait
    drop      its slab and that of all that run, for as long as recomputing its tokens will take
    offload   the same, for as long as copying its used bytes out and in again takes

The copies are made between steps, so all that run wait for them, as they do for recomputing. Unlike the
paper's paged cache, a slab frees all its bytes or none; what is copied or recomputed is only what is used.

Source: Abhyankar et al., "InferCept: Efficient Intercept Support for Augmented Large Language Model
Inference", ICML 2024, arXiv 2402.01869: the waste of discard, preserve and swap, and the choice of the
least.

Only the need for room leads to an eviction: while there is room, keeping costs nobody anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum
from typing import ClassVar, NamedTuple

__all__ = ["Action", "Candidate", "Eviction", "Prices", "Retention"]


class Action(Enum):
    """What is done with a slab that has to go."""

    DROP = "drop"
    OFFLOAD = "offload"


class Candidate(NamedTuple):
    """A session that waits and holds a slab."""

    session_id: str
    num_tokens: int
    """Valid in its slab."""
    slab_bytes: int
    used_bytes: int
    pause_s: float
    """How long it is expected to wait from now on."""
    idle_s: float = 0.0
    """How long it has waited; 0 with a turn in the queue."""

    @property
    def keep_waste(self) -> float:
        """Byte seconds of leaving it where it is."""
        return self.pause_s * self.slab_bytes


class Prices(NamedTuple):
    """What moving and computing costs now, as measured."""

    recompute_s_per_token: float
    copy_s_per_byte: float
    """One way."""
    running_bytes: int
    """Slabs of the sessions that run: they stand still meanwhile."""
    host_free_bytes: float
    """Room for offloaded sessions; infinite without a limit."""

    def drop_waste(self, candidate: Candidate) -> float:
        """Byte seconds of dropping a session and computing its tokens again."""
        recompute_s = candidate.num_tokens * self.recompute_s_per_token
        return recompute_s * (candidate.slab_bytes + self.running_bytes)

    def offload_waste(self, candidate: Candidate) -> float:
        """Byte seconds of copying a session to the host and back."""
        copies_s = 2 * candidate.used_bytes * self.copy_s_per_byte
        return copies_s * (candidate.slab_bytes + self.running_bytes)


class Eviction(NamedTuple):
    """A slab that goes, how, and what that wastes."""

    candidate: Candidate
    action: Action
    waste: float
    """Byte seconds."""

    @property
    def extra_waste_per_byte(self) -> float:
        """Seconds: waste beyond that of keeping it, per byte that it frees."""
        return (self.waste - self.candidate.keep_waste) / self.candidate.slab_bytes


class Retention(ABC):
    """A policy; it remembers nothing of the sessions."""

    name: ClassVar[str]

    @abstractmethod
    def eviction(self, candidate: Candidate, prices: Prices) -> Eviction | None:
        """How this session's slab would go, None where it must stay."""

    def rank(self, offer: Eviction) -> float:
        """Who goes before whom, the least first: by default, whose going wastes least per freed byte."""
        return offer.extra_waste_per_byte

    def plan(self, need_bytes: int, candidates: Sequence[Candidate], prices: Prices) -> list[Eviction]:
        """Choose who goes so that `need_bytes` more are free: the first by `rank`.

        Returns nothing when that many cannot be freed: nobody goes in vain.
        """
        chosen: list[Eviction] = []
        left = list(candidates)
        freed_bytes = 0
        while freed_bytes < need_bytes:
            offers = [offer for candidate in left if (offer := self.eviction(candidate, prices))]
            if not offers:
                return []
            best = min(offers, key=lambda offer: (self.rank(offer), offer.candidate.session_id))
            chosen.append(best)
            left.remove(best.candidate)
            freed_bytes += best.candidate.slab_bytes
            if best.action is Action.OFFLOAD:
                prices = prices._replace(host_free_bytes=prices.host_free_bytes - best.candidate.used_bytes)
        return chosen
