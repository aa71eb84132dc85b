"""Where a test was measured, of a machine in lanes or a cluster of nodes: one place per session.

lane               of an entry that a worker left: "gpu 0"
extra_info.node    of one that came home from a node: {"name": "gpu1/3f2a9c1e", "lost": […]}
where              of a merged one: a place for each session, null where it was the whole machine
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["WHERE", "Places", "machine_of", "places_of", "together"]

WHERE = "where"
"""The key of a merged entry."""
Places = tuple[str | None, ...]
"""One per session; empty where nothing was spread."""


def places_of(line: Mapping[str, Any]) -> Places:
    """The places of an entry of a journal."""
    if isinstance(told := line.get(WHERE), list):
        return together(place if isinstance(place, str) else None for place in told)
    node = (line.get("extra_info") or {}).get("node")
    name = node.get("name") if isinstance(node, Mapping) else line.get("lane")
    return (name,) if isinstance(name, str) else ()


def together(places: Iterable[str | None]) -> Places:
    """Those of several sessions; none where no session was spread."""
    found = tuple(places)
    return found if any(place is not None for place in found) else ()


def machine_of(place: str) -> str:
    """A place without the number that a node has only for as long as its cluster runs."""
    return place.partition("/")[0]
