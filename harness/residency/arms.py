"""The arms of the comparison by name: a policy, and how its plans are carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from harness.errors import UsageError
from harness.residency import policies as p
from harness.residency.homes import Home, by_popularity, find_homes
from harness.residency.layout import ModelLayout

__all__ = ["ARMS", "CONTROL", "DEFAULT", "WARM", "Arm", "Prepared", "Setting", "arm"]

CONTROL = "reload-every"
DEFAULT = "home-slot"
WARM = ("cold", "each", "fill")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What an arm is built for."""

    layouts: Mapping[str, ModelLayout]
    capacity_bytes: int
    popularity: Mapping[str, float]
    """Declared share of requests per model; what it is used for is each policy's affair."""
    future: Sequence[str] = ()
    """The models to be asked for; only the bound may look."""


class Prepared(NamedTuple):
    """A policy that is cold, and what warms it up."""

    policy: p.Policy
    asked: tuple[str, ...]
    """Models to be asked for, first."""
    filled: tuple[str, ...]
    """Models to fill the arena with, then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A policy, with or without lookahead and streaming."""

    name: str
    make: Callable[[Setting], p.Policy]
    lookahead: bool = False
    streaming: bool | None = None
    """None: as the policy is made for."""

    def build(self, setting: Setting, *, warm: str = "cold") -> p.Policy:
        """Make the policy, and warm it up without a clock.

        warm: `cold`, not at all; `each`, every model asked for once, in the order of the layouts; `fill`, the
        most popular of what fits without evicting anything.

        Raises
        ------
        BudgetError: the models need a larger arena.
        UsageError: there is no such warm-up.
        """
        policy, asked, filled = self.prepare(setting, warm=warm)
        for model in asked:
            policy.request(model)
        policy.fill(filled)
        return policy

    def prepare(self, setting: Setting, *, warm: str = "cold") -> Prepared:
        """Make the policy, and leave warming up to whoever has to copy for it; raises as `build`."""
        if warm not in WARM:
            raise UsageError(f"warm {warm!r}: unknown; use {', '.join(WARM)}")
        asked = tuple(setting.layouts) if warm == "each" else ()
        policy = self.make(replace(setting, future=(*asked, *setting.future)))
        return Prepared(policy, asked, tuple(self._best_first(setting)) if warm == "fill" else ())

    def _best_first(self, setting: Setting) -> list[str]:
        if self.name == "belady":
            return sorted(set(setting.future), key=list(setting.future).index)
        return by_popularity(setting.popularity)


def arm(name: str) -> Arm:
    """The arm of that name.

    Raises
    ------
    UsageError: there is none.
    """
    if name not in ARMS:
        raise UsageError(f"arm {name!r}: unknown; use {', '.join(ARMS)}")
    return ARMS[name]


def _home_slot(setting: Setting) -> p.Policy:
    popularity = tuple(setting.popularity.items())
    homes = _homes(tuple(setting.layouts.values()), setting.capacity_bytes, popularity)
    return p.HomeSlot(setting.layouts, setting.capacity_bytes, homes=homes)


def _home_slot_blind(setting: Setting) -> p.Policy:
    homes = _homes(tuple(setting.layouts.values()), setting.capacity_bytes, None)
    return p.HomeSlot(setting.layouts, setting.capacity_bytes, homes=homes)


def _resident(setting: Setting) -> p.Policy:
    needed_bytes = sum(layout.num_bytes for layout in setting.layouts.values())
    return p.Resident(setting.layouts, max(needed_bytes, setting.capacity_bytes))


def _of(kind: Callable[[Mapping[str, ModelLayout], int], p.Policy]) -> Callable[[Setting], p.Policy]:
    return lambda setting: kind(setting.layouts, setting.capacity_bytes)


@lru_cache(maxsize=256)
def _homes(
    layouts: tuple[ModelLayout, ...], capacity_bytes: int, popularity: tuple[tuple[str, float], ...] | None
) -> Mapping[str, Home]:
    named = {layout.name: layout for layout in layouts}
    return find_homes(named, capacity_bytes, dict(popularity) if popularity else None)


ARMS: dict[str, Arm] = {
    one.name: one
    for one in (
        Arm(name="reload-every", make=_of(p.ReloadEvery)),
        Arm(name="keep-last", make=_of(p.KeepLast)),
        Arm(name="fifo-ring-copy-out", make=_of(p.FifoRingCopyOut)),
        Arm(name="fifo-ring", make=_of(p.FifoRing)),
        Arm(name="lru", make=_of(p.LRU)),
        Arm(name="gdsf", make=_of(p.GDSF)),
        Arm(name="chunk-lru", make=_of(p.ChunkLRU)),
        Arm(name="chunk-slots", make=_of(p.ChunkLFU)),
        Arm(name="chunk-slots-lookahead", make=_of(p.ChunkLFU), lookahead=True),
        Arm(name="home-slot", make=_home_slot),
        Arm(name="home-slot-sync", make=_home_slot, streaming=False),
        Arm(name="home-slot-blind", make=_home_slot_blind),
        Arm(name="home-slot-lookahead", make=_home_slot, lookahead=True),
        Arm(name="belady", make=lambda s: p.Belady(s.layouts, s.capacity_bytes, future=s.future)),
        Arm(name="resident", make=_resident),
    )
}
"""From the least to the most that is done; `home-slot-blind` is the default without a declared popularity."""
