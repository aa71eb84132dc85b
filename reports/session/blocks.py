"""Which tests stay together when a session is spread: on one machine, in one process, one after the other.

A claim compares a variant with its rivals. Measured on different machines, what differs between them would be
part of the comparison; so all that one claim names is one block, and claims that share a variant share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from reports import claims
from reports.session.items import ClaimItem, experiment_of, is_variant

__all__ = ["blocks"]

SHARED = ("load_plan",)
"""Fixtures that set what several tests are measured at, once for a run's folder."""


def blocks(
    items: Sequence[pytest.Item], is_shared: Callable[[pytest.Item], bool] = lambda item: False
) -> list[list[pytest.Item]]:
    """The variants among `items` by block, each in the order of `items`; the longest block first.

    Arguments: `items`, a session's, claims included: without claims every variant is a block of its own.
    `is_shared`, whether an item uses a server that all of them would use: those are one block.
    """
    variants = [item for item in items if is_variant(item)]
    groups = _Groups()
    for item in items:
        if isinstance(item, ClaimItem):
            groups.join([(item.experiment, name) for name in claims.needed_variants(item.claim)])
    for fixture in SHARED:
        groups.join([_name(item) for item in variants if fixture in getattr(item, "fixturenames", ())])
    groups.join([_name(item) for item in variants if is_shared(item)])
    found: dict[Any, list[pytest.Item]] = {}
    for item in variants:
        found.setdefault(groups.of(_name(item)), []).append(item)
    return sorted(found.values(), key=len, reverse=True)


class _Groups:
    """Disjoint sets that are joined."""

    def __init__(self) -> None:
        self._parent: dict[Any, Any] = {}

    def of(self, name: Any) -> Any:
        """What stands for the set that `name` is in."""
        while (parent := self._parent.setdefault(name, name)) != name:
            name = parent
        return name

    def join(self, names: Iterable[Any]) -> None:
        """Make one set of all that these are in."""
        first, *rest = [*names] or [None]
        for name in rest:
            self._parent[self.of(name)] = self.of(first)


def _name(item: pytest.Item) -> tuple[str, Any]:
    """Experiment and variant; a test without a variant is its own."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return experiment_of(item), params.get("variant", item.nodeid)
