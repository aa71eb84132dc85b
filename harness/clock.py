"""Time, as whoever asks has it: the machine's, or that of a simulation.

`now_s()` is `time.perf_counter()`, except in a task of a `VirtualTimeLoop`, where it is the loop's own time.
So the executor, the open loop and the endpoints run unchanged on either.

On a `VirtualTimeLoop` time passes only when nothing else is left to do, and then at once to the next time
that anything is due: an hour of sleeping takes no time, and the same program gives the same times. What is
due at one time runs in the order in which it was asked for.

Traps: computing takes no virtual time. Threads (`asyncio.to_thread`) are waited for while time stands still.
There are no sockets and no subprocesses: a real engine cannot be reached from a virtual loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from time import perf_counter
from typing import Any, TypeVar

from harness.errors import UsageError

__all__ = ["VirtualTimeLoop", "call_at_rest", "call_at_time", "now_s", "require_real_time", "run_virtual"]

T = TypeVar("T")

_NORMAL, _AT_REST = 0, 1


def now_s() -> float:
    """Seconds on the clock of the running event loop if it is virtual, else on `perf_counter`'s."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return perf_counter()
    return loop.time() if isinstance(loop, VirtualTimeLoop) else perf_counter()


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time, beginning at 0 s, as `asyncio.run` does in real time.

    Raises
    ------
    UsageError: every task waits, and nothing is due that could wake one.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def require_real_time(who: str) -> None:
    """Return unless the running loop is virtual, where what takes real time would be timed at nothing.

    Raises
    ------
    UsageError: it is.
    """
    if isinstance(asyncio.get_running_loop(), VirtualTimeLoop):
        raise UsageError(f"{who} takes real time, and virtual time has none of it; use a simulated engine")


def call_at_rest(callback: Callable[[], None]) -> asyncio.Handle:
    """Call back when nothing else is left to do at this time, on a virtual loop; else soon.

    For a decision that is to see everything that happens at one time, in whatever order it happens.
    """
    loop = asyncio.get_running_loop()
    return loop.call_at_rest(callback) if isinstance(loop, VirtualTimeLoop) else loop.call_soon(callback)


def call_at_time(when_s: float, callback: Callable[[], None]) -> asyncio.Handle:
    """Call back at a time of `now_s`'s clock: to the last digit on a virtual loop, a little late else."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualTimeLoop):
        return loop.call_at(when_s, callback)
    return loop.call_later(max(0.0, when_s - perf_counter()), callback)


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """An event loop whose time jumps to the next thing due."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._due: list[tuple[float, int, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        self._in_threads = 0
        self._from_thread = threading.Event()

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now_s

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back at a time; at equal times in the order of these calls."""
        return self._push(when, _NORMAL, callback, args, context)

    def call_at_rest(self, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back at this time, when all that is due at it is done, and what that led to."""
        return self._push(self._now_s, _AT_REST, callback, (), None)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run a function in a thread; no time passes until it has returned."""
        future = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._returned)
        return future

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Refuse: there are no sockets here."""
        require_real_time(f"virtual time: a server at {address}")

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        """Wait for the threads to end, which is told by one of them."""
        self._in_threads += 1
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self._in_threads -= 1

    def close(self) -> None:
        """Forget what is due, and close."""
        self._due.clear()
        super().close()

    def _returned(self, _: asyncio.Future[Any]) -> None:
        self._in_threads -= 1

    def _write_to_self(self) -> None:
        """Wake the loop up: a thread has something for it."""
        self._from_thread.set()

    def _push(
        self,
        when: float,
        rank: int,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> asyncio.TimerHandle:
        self._check_closed()  # type: ignore[attr-defined]
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        # What was due before now is due now, behind what is there already.
        heapq.heappush(self._due, (max(when, self._now_s), rank, next(self._order), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave it where it is: it is skipped when its time comes."""

    def _run_once(self) -> None:
        """One turn of `run_forever`: run what is ready; if nothing is, go on to what is due next."""
        ready = self._ready  # type: ignore[attr-defined]
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if self._in_threads:
                self._from_thread.wait()
                self._from_thread.clear()
            else:
                self._advance()
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def _advance(self) -> None:
        """Make ready the next thing due."""
        while self._due:
            when, _, _, handle = heapq.heappop(self._due)
            if not handle.cancelled():
                self._now_s = when
                self._ready.append(handle)  # type: ignore[attr-defined]
                return
        waiting = len(asyncio.all_tasks(self))
        raise UsageError(
            f"virtual time: {waiting} tasks wait at {self._now_s:g} s and nothing is due that could wake "
            "them; use simulated engines, and look for a lock or a queue that nobody serves"
        )
