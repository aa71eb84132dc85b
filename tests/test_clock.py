"""Virtual time jumps, keeps its order, and notices when nobody is left to wake anybody."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends import Request
from harness.backends.fake import FakeBackend
from harness.backends.openai import OpenAIBackend
from harness.clock import call_at_rest, now_s, run_virtual
from harness.errors import UsageError
from harness.load import offer, poisson


def test_an_hour_of_sleeping_takes_no_time() -> None:
    """Sleeps jump, and the clock shows them to the last digit."""

    async def sleep() -> tuple[float, float]:
        began_s = now_s()
        for _ in range(3600):
            await asyncio.sleep(1)
        return began_s, now_s()

    real_s = time.perf_counter()
    assert run_virtual(sleep()) == (0.0, 3600.0)
    assert time.perf_counter() - real_s < 60


def test_outside_it_is_the_machines_clock() -> None:
    """Without a loop, and on an ordinary one, time is `perf_counter`'s."""

    async def read() -> list[float]:
        return [time.perf_counter(), now_s(), time.perf_counter()]

    marks = [time.perf_counter(), now_s(), time.perf_counter(), *asyncio.run(read()), now_s()]
    assert marks == sorted(marks)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 3.0, -1.0]), max_size=30))
def test_what_is_due_runs_in_order_of_time_then_of_asking(delays_s: list[float]) -> None:
    """Equal times keep the order in which they were asked for."""

    async def wait() -> list[int]:
        loop, seen = asyncio.get_running_loop(), []
        for number, delay_s in enumerate(delays_s):
            loop.call_later(delay_s, seen.append, number)
        await asyncio.sleep(4)
        return seen

    expected = sorted(range(len(delays_s)), key=lambda i: max(0.0, delays_s[i]))
    assert run_virtual(wait()) == expected


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.randoms())
def test_a_decision_at_rest_sees_all_that_happens_at_its_time(steps: list[int], draw: random.Random) -> None:
    """Asked for first or last, it comes after every chain of tasks that runs at that time."""
    order = list(range(len(steps)))
    draw.shuffle(order)

    async def chain(num: int, seen: list[str]) -> None:
        await asyncio.sleep(1)
        for _ in range(num):
            await asyncio.sleep(0)
        seen.append("task")

    async def run() -> list[str]:
        seen: list[str] = []

        def due() -> None:
            call_at_rest(lambda: seen.append("rest"))

        asyncio.get_running_loop().call_later(1, due)
        await asyncio.gather(*(chain(steps[i], seen) for i in order))
        await asyncio.sleep(0.5)
        return seen

    assert run_virtual(run()) == ["task"] * len(steps) + ["rest"]


def test_on_an_ordinary_loop_a_decision_comes_soon() -> None:
    """There is no rest to wait for."""

    async def run() -> list[int]:
        seen: list[int] = []
        call_at_rest(lambda: seen.append(1))
        await asyncio.sleep(0)
        return seen

    assert asyncio.run(run()) == [1]


def test_a_deadlock_is_an_error_that_says_so() -> None:
    """Tasks that wait for each other end the run, at the time they do, and are cancelled."""
    cancelled = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(now_s())
            raise

    async def run() -> None:
        await asyncio.sleep(2)
        await asyncio.gather(wait(), wait())

    with pytest.raises(UsageError, match="virtual time: 3 tasks wait at 2 s and nothing is due"):
        run_virtual(run())
    assert cancelled == [2.0, 2.0]


def test_a_cancelled_sleep_does_not_move_time() -> None:
    """A timeout that was not needed leaves no trace."""

    async def run() -> float:
        async with asyncio.timeout(1000):
            await asyncio.sleep(1)
        await asyncio.sleep(1)
        return now_s()

    assert run_virtual(run()) == 2.0


def test_a_timeout_comes_at_its_time() -> None:
    """Deadlines are virtual too."""

    async def run() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.sleep(1000)
        return now_s()

    assert run_virtual(run()) == 5.0


def test_time_stands_still_while_a_thread_works() -> None:
    """A thread's result is waited for, and what is due meanwhile comes after it."""

    async def run() -> list[Any]:
        seen: list[Any] = []
        sleeper = asyncio.create_task(asyncio.sleep(1))
        sleeper.add_done_callback(lambda _: seen.append("slept"))
        seen.append(await asyncio.to_thread(lambda: time.sleep(0.05) or "worked"))
        seen.append(now_s())
        await sleeper
        return seen

    assert run_virtual(run()) == ["worked", 0.0, "slept"]


def test_a_real_server_cannot_be_reached() -> None:
    """A connection from a virtual loop is refused in one line, past the client's own translation."""
    backend = OpenAIBackend("http://127.0.0.1:9", model="m", name="small")

    async def ask() -> None:
        try:
            await backend.generate(Request(prompt="x", max_tokens=1))
        finally:
            await backend.aclose()

    with pytest.raises(UsageError, match=r"a server at .* takes real time.*; use a simulated engine"):
        run_virtual(ask())


def test_errors_and_interrupts_end_the_run() -> None:
    """What a coroutine raises comes out, an interrupt too."""

    async def fail(exc: BaseException) -> None:
        await asyncio.sleep(1)
        raise exc

    for kind in (ValueError, KeyboardInterrupt):
        with pytest.raises(kind):
            run_virtual(fail(kind()))


def test_an_open_loop_keeps_its_times_exactly() -> None:
    """Arrivals come at their due times to the last digit, and latencies are what the script says."""
    due_s = poisson(100.0, 500, seed=1)
    backend = FakeBackend(["a b c"], prefill_s=0.5, token_s=0.125)

    async def work(index: int, intended_s: float) -> tuple[float, float]:
        answer = await backend.generate(Request(prompt="x", max_tokens=10))
        return answer.sent_s - intended_s, answer.e2e_latency_s

    results = run_virtual(offer(due_s, work)).results
    assert max(late for late, _ in results) < 1e-9
    assert all(latency == pytest.approx(0.75) for _, latency in results)


def test_a_run_repeats_exactly() -> None:
    """The same program gives the same times, whatever the machine does."""

    async def run() -> list[float]:
        draw, seen = random.Random(1), []

        async def wander() -> None:
            for _ in itertools.repeat(None, 20):
                await asyncio.sleep(draw.random())
                seen.append(now_s())

        await asyncio.gather(*(wander() for _ in range(10)))
        return seen

    assert run_virtual(run()) == run_virtual(run())
