"""The collating queue: requests for what runs go first, everyone's turn comes, and nobody is served twice."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.residency.collate import CollatingQueue


def drained(queue: CollatingQueue, now_s: float = 0.0) -> str:
    """The models in the order of their turns, a second apart."""
    order = []
    while (waiting := queue.take(now_s)) is not None:
        order.append(waiting.model)
        now_s += 1.0
    return "".join(order)


def test_requests_for_the_running_model_go_first() -> None:
    """ABAACABC is served as AAAABBCC."""
    queue = CollatingQueue()
    for model in "ABAACABC":
        queue.put(model, 0.0)
    assert drained(queue) == "AAAABBCC"


def test_without_patience_the_order_is_that_of_arrival() -> None:
    """A maximum wait of 0 collates nothing."""
    queue = CollatingQueue(max_wait_s=0.0)
    for at, model in enumerate("ABAACABC"):
        queue.put(model, float(at))
    assert drained(queue, 10.0) == "ABAACABC"


def test_who_has_waited_too_long_is_next() -> None:
    """All came at once: after three turns of A everyone is overdue, and the oldest is B."""
    queue = CollatingQueue(max_wait_s=3.0)
    for model in "ABAAAAB":
        queue.put(model, 0.0)
    assert drained(queue) == "AAABAAB"


def test_a_model_that_came_stays_a_while() -> None:
    """With only others waiting it is left when its time is up, or their patience is."""
    queue = CollatingQueue(max_wait_s=8.0, min_residency_s=5.0)
    queue.put("A", 0.0)
    assert queue.take(0.0) is not None
    queue.put("B", 1.0)
    assert queue.take(4.0) is None
    assert queue.due_s() == 5.0
    queue.put("A", 4.5)
    assert drained(queue, 4.6) == "AB"
    hasty = CollatingQueue(max_wait_s=2.0, min_residency_s=100.0)
    hasty.put("A", 0.0)
    hasty.take(0.0)
    hasty.put("B", 1.0)
    assert hasty.due_s() == 3.0
    assert hasty.take(3.0) is not None


@given(
    arrivals=st.lists(st.tuples(st.integers(0, 30), st.sampled_from("ABCD")), min_size=1, max_size=30),
    max_wait_s=st.sampled_from([0.0, 3.0, 10.0, math.inf]),
    min_residency_s=st.sampled_from([0.0, 2.0, 20.0]),
    service_s=st.sampled_from([0.5, 3.0]),
)
@settings(max_examples=100, deadline=None)
def test_everyone_is_served_once_and_in_time(
    arrivals: list[tuple[int, str]], max_wait_s: float, min_residency_s: float, service_s: float
) -> None:
    """All complete; a model's requests keep their order; nobody overdue is passed over by a younger one."""
    queue = CollatingQueue(max_wait_s=max_wait_s, min_residency_s=min_residency_s)
    coming = sorted(arrivals)
    waiting, served, now_s = [], [], 0.0
    while coming or len(queue):
        while coming and coming[0][0] <= now_s:
            at, model = coming.pop(0)
            waiting.append(queue.put(model, float(at)))
        overdue = [one for one in waiting if now_s >= one.arrived_s + max_wait_s]
        peeked, turn = queue.peek(now_s), queue.take(now_s)
        assert peeked == turn
        if turn is None:
            due_s = queue.due_s()
            ahead = [float(coming[0][0])] if coming else []
            assert due_s is None or due_s > now_s
            now_s = min([*ahead, *([due_s] if due_s is not None else [])])
            continue
        assert not overdue or turn == min(overdue)
        waiting.remove(turn)
        served.append(turn)
        now_s += service_s
    assert len(served) == len(arrivals)
    for model in "ABCD":
        own = [one.number for one in served if one.model == model]
        assert own == sorted(own)


def test_a_client_that_left_is_dropped() -> None:
    """Once, and only while it waits."""
    queue = CollatingQueue()
    first, second = queue.put("A", 0.0), queue.put("A", 0.0)
    assert queue.drop(first)
    assert not queue.drop(first)
    assert queue.take(1.0) == second
    assert not queue.drop(second)
    assert len(queue) == 0


@pytest.mark.parametrize(
    ("key", "value"), [("max_wait_s", -1.0), ("max_wait_s", math.nan), ("min_residency_s", math.inf)]
)
def test_bounds_are_seconds(key: str, value: float) -> None:
    """A negative wait or an endless residency makes no sense."""
    with pytest.raises(UsageError, match="give seconds, 0 or more"):
        CollatingQueue(**{key: value})
