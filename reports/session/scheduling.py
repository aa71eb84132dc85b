"""Which lane runs which tests: pytest-xdist's scheduler for blocks that stay on one lane.

A lane takes a block, is told two tests of it at a time, and takes the next block when it is through. A worker
that crashes loses the test that it ran: nothing runs twice, and what it had not begun goes on in the worker
that replaces it on the same lane. A lane whose worker crashes twice with no finished test between is broken:
what is left of its block goes to the others, for as long as there are others.

Trap: a worker begins a test only when it knows the one after it, or that there is none. So two are told at a
time, and a lane for which nothing is left is shut down at once, with its last test still to run.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest

__all__ = ["BlockScheduling"]

TOLD = 2
"""Tests that a worker knows of: the one that it runs and the one after it."""
CRASHES = 2
"""In a row, after which a lane is broken."""


@dataclass(slots=True, kw_only=True)
class _Lane:
    """A worker's share."""

    name: str
    places: dict[str, int] | None = None
    """Test → its place in the worker's own collection; `None` while it collects."""
    told: deque[str] = field(default_factory=deque)
    """What the worker was told to run and has not finished; the first of it runs."""
    rest: deque[str] = field(default_factory=deque)
    """What is left of its block."""
    module: str = ""
    """Of the test told last: its fixtures are up."""


class BlockScheduling:
    """pytest-xdist's `Scheduling`, which is asked and told by its controller alone.

    Arguments: `blocks`, of node ids; `lane_of`, the name of a worker's lane; `num_lanes`, how many workers
    come up at first; `is_replaced`, whether one that crashes is followed by another; `scheduled`, called when
    tests are given out.
    """

    def __init__(
        self,
        blocks: Iterable[Sequence[str]],
        *,
        lane_of: Callable[[Any], str],
        num_lanes: int = 1,
        is_replaced: bool = True,
        scheduled: Callable[[], None] = lambda: None,
    ) -> None:
        self._blocks = deque(tuple(block) for block in blocks)
        self._wanted = {nodeid for block in self._blocks for nodeid in block}
        self._lane_of, self._is_replaced, self._scheduled = lane_of, is_replaced, scheduled
        self._num_lanes, self._has_begun = num_lanes, False
        self._lanes: dict[Any, _Lane] = {}
        self._kept: dict[str, tuple[str, ...]] = {}
        self._crashes: Counter[str] = Counter()

    @property
    def left(self) -> list[str]:
        """Tests that no worker has begun."""
        held = [nodeid for lane in self._lanes.values() for nodeid in (*lane.told, *lane.rest)]
        waiting = (*self._kept.values(), *self._blocks)
        return held + [nodeid for block in waiting for nodeid in block]

    # what pytest-xdist's controller asks

    @property
    def nodes(self) -> list[Any]:
        """The workers that are up."""
        return list(self._lanes)

    @property
    def collection_is_completed(self) -> bool:
        """Whether tests can be given out: to each lane as soon as its worker has collected.

        To none before all have where no worker is replaced: after a crash, the controller ends every worker
        that is not up.
        """
        ready = [lane for lane in self._lanes.values() if lane.places is not None]
        return bool(ready) if self._is_replaced else len(ready) >= self._num_lanes or self._has_begun

    @property
    def tests_finished(self) -> bool:
        """Whether nothing is left to run."""
        return not self.left

    @property
    def has_pending(self) -> bool:
        """Whether something is left to run."""
        return bool(self.left)

    # what it tells

    def add_node(self, node: Any) -> None:
        """A worker is up, and collects."""
        self._lanes[node] = _Lane(name=self._lane_of(node))

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """A worker has collected. Raises UsageError if it found other tests than the controller."""
        if unknown := sorted(self._wanted - set(collection)):
            raise pytest.UsageError(
                f"--lanes: the worker of lane {self._lanes[node].name} did not collect {unknown[0]} "
                f"({len(unknown)} missing); were test files changed while this ran? "
                "Run again, with --resume if nothing that measures has changed"
            )
        self._lanes[node].places = {nodeid: place for place, nodeid in enumerate(collection)}

    def schedule(self) -> None:
        """Give every lane that is ready its first tests."""
        self._has_begun = True
        self._scheduled()
        for node, lane in list(self._lanes.items()):
            if lane.places is not None:
                self._feed(node, lane)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """A worker is through with a test."""
        lane = self._lanes[node]
        lane.told.popleft()
        self._crashes[lane.name] = 0
        self._feed(node, lane)

    def remove_node(self, node: Any) -> str | None:
        """A worker is gone; returns the test that it ran if it was in the middle of one."""
        lane = self._lanes.pop(node)
        crashed = lane.told.popleft() if lane.told else None
        rest = (*lane.told, *lane.rest)
        if crashed is not None:
            self._crashes[lane.name] += 1
        if rest and self._is_replaced and not self._is_broken(lane.name):
            self._kept[lane.name] = rest
        elif rest:
            self._blocks.appendleft(rest)
        if not self._is_replaced and crashed is not None:
            self._give_out_all()
        if self._has_begun:
            self.schedule()
        return crashed

    def mark_test_pending(self, item: str) -> NoReturn:
        """No plugin here asks for a test to run again."""
        raise NotImplementedError("lanes run every test once")

    def remove_pending_tests_from_node(self, node: Any, indices: Sequence[int]) -> NoReturn:
        """No test is ever taken back from a worker."""
        raise NotImplementedError("lanes take no test back")

    def _feed(self, node: Any, lane: _Lane, most: float = TOLD) -> None:
        if node.shutting_down or lane.places is None:
            return
        chosen = []
        while len(lane.told) < most:
            if not lane.rest:
                lane.rest = deque(self._next_block(lane))
            if not lane.rest:
                break
            chosen.append(lane.rest.popleft())
            lane.told.append(chosen[-1])
            lane.module = _module(chosen[-1])
        if chosen:
            node.send_runtest_some([lane.places[nodeid] for nodeid in chosen])
        if len(lane.told) < TOLD:
            node.shutdown()

    def _next_block(self, lane: _Lane) -> tuple[str, ...]:
        """The lane's own, or one of the module whose fixtures are up, or the first."""
        if lane.name in self._kept:
            return self._kept.pop(lane.name)
        if not self._blocks or self._is_broken(lane.name):
            return ()
        near = (block for block in self._blocks if _module(block[0]) == lane.module)
        chosen = next(near, self._blocks[0])
        self._blocks.remove(chosen)
        return chosen

    def _is_broken(self, name: str) -> bool:
        """Whether a lane crashes all the time while another one can work in its place."""
        others = [n for n, lane in self._lanes.items() if lane.name != name and not n.shutting_down]
        return self._crashes[name] >= CRASHES and bool(others)

    def _give_out_all(self) -> None:
        """Tell the lanes that are left everything: the controller shuts them down after a last crash."""
        ready = [(n, lane) for n, lane in self._lanes.items() if lane.places and not n.shutting_down]
        while self._blocks and ready:
            node, lane = min(ready, key=lambda pair: len(pair[1].told) + len(pair[1].rest))
            lane.rest.extend(self._blocks.popleft())
        for node, lane in ready:
            self._feed(node, lane, most=float("inf"))


def _module(nodeid: str) -> str:
    return nodeid.partition("::")[0]
