"""One test in the place of another: the nightly one that measures the same variants more often.

A claim is decided by the one test that ran its variant. Where a nightly test measures what a daily one does,
with more rounds, both together leave nothing to decide by, so that the daily one gives way:

    @pytest.mark.stands_in_for("test_switching")
    @pytest.mark.parametrize("variant", ARMS)
    def test_all_seeds(variant): …
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

__all__ = ["MARKER", "lines", "superseded"]

MARKER = "stands_in_for"


def superseded(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Those of `items` that another of them stands in for: same file, same parameters, the function named."""
    named = {(*key, name) for key, name in ((_where(item), _stands_in_for(item)) for item in items) if name}
    return [item for item in items if (*_where(item), _function(item)) in named]


def lines(items: Sequence[pytest.Item]) -> list[str]:
    """What the terminal says of it, a line for each function that stands in."""
    found: dict[tuple[str, str], int] = {}
    for item in items:
        if name := _stands_in_for(item):
            pair = (_function(item), name)
            found[pair] = found.get(pair, 0) + 1
    return [f"{own} runs in the place of {other}: {num} variants" for (own, other), num in found.items()]


def _stands_in_for(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker(MARKER)
    return str(marker.args[0]) if marker else None


def _where(item: pytest.Item) -> tuple[Path, str]:
    """The file, and the parameters as the item's name tells them."""
    return item.path, item.name.partition("[")[2]


def _function(item: pytest.Item) -> str:
    return item.name.partition("[")[0]
