"""The one thread that an engine lives in, and how an event loop talks to it.

The loop hands over operations; the thread runs them in order between two steps, and steps as long as there is
work. Results come back into the loop, in the order in which they arose.

A step's events are passed on in the engine's own thread if nothing is in the way: to wake the loop for them
would have it contend for the interpreter just when the next step begins, which on busy cores costs
milliseconds. What the two threads share is guarded by one lock, which the loop holds while it works and the
engine never waits for: if the loop is at work, or has not yet taken what came earlier, events go through it.

Traps: what wakes the loop is a byte in a socket that signals are written into too. It holds some 280 bytes,
and a signal that finds it full is lost: so the loop is woken once for all that waits for it. An operation or
a step cannot be interrupted: `stop` waits for it only so long.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeAlias

from harness.sessions.contract import Engine, Event, Info, Undone

__all__ = ["EngineThread"]

OnDone: TypeAlias = Callable[[Any, Exception | None], None]
"""Called in the loop with an operation's result, or with what it raised."""

_BLOCKED_WAIT_S = 2e-3
_POLL_S = 5e-3


class EngineThread:
    """Makes an engine in a thread of its own, and runs it there until it is stopped."""

    def __init__(
        self,
        make: Callable[[], Engine],
        *,
        lock: threading.RLock,
        on_events_here: Callable[[Sequence[Event | Undone]], None],
        on_events: Callable[[Sequence[Event | Undone]], None],
        on_broken: Callable[[Exception], None],
    ) -> None:
        """Describe it; `start` makes it.

        Parameters
        ----------
        make: called in the thread.
        lock: held whenever one of the following is called.
        on_events_here: called in the thread after a step, when that is possible.
        on_events: called in the loop after a step, when it is not.
        on_broken: called in the loop, once, when `step` raised; the thread has ended then.
        """
        self._make = make
        self._lock = lock
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_waking = self._is_stopping = False
        self._on_events_here = on_events_here
        self._on_events = on_events
        self._on_broken = on_broken
        self._operations: queue.SimpleQueue[tuple[Callable[[Engine], Any], OnDone] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="session engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[Info] | None = None

    async def start(self) -> Info:
        """Make the engine; what it serves. Raises what making it raised."""
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        self._thread.start()
        return await self._ready

    def call(self, operation: Callable[[Engine], Any], done: OnDone) -> None:
        """Have an operation run between two steps, after all earlier ones."""
        self._operations.put((operation, done))

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Have the loop call something, behind all that waits for it. For the engine's thread."""
        self._posted.append((callback, args))
        self._wake()

    @property
    def has_ended(self) -> bool:
        """Whether the thread does not run, or not any more."""
        return not self._thread.is_alive()

    async def stop(self, *, timeout_s: float) -> bool:
        """Shut the engine down after the operation or step that runs; whether the thread has ended in time.

        What waits is not run any more: the server has nobody left to answer.
        """
        self._is_stopping = True
        self._operations.put(None)
        ends_s = monotonic() + timeout_s
        while not self.has_ended and monotonic() < ends_s:
            await asyncio.sleep(_POLL_S)
        return self.has_ended

    def _run(self) -> None:
        assert self._ready is not None
        try:
            engine = self._make()
        except Exception as exc:
            self.post(_settle, self._ready, None, exc)
            return
        self.post(_settle, self._ready, engine.info, None)
        try:
            wait_s = None
            while self._operate(engine, wait_s):
                wait_s = self._step(engine)
        except Exception as exc:
            self.post(self._on_broken, exc)
        finally:
            with contextlib.suppress(Exception):
                engine.shutdown()

    def _operate(self, engine: Engine, wait_s: float | None) -> bool:
        """Run what waits; wait so long for something, None for as long as it takes; whether to go on."""
        if wait_s == 0 and self._operations.empty():
            return True
        done: list[tuple[OnDone, Any, Exception | None]] = []
        goes_on = True
        with contextlib.suppress(queue.Empty):
            entry = self._operations.get(block=wait_s != 0, timeout=wait_s or None)
            while entry is not None and not self._is_stopping:
                done.append(_outcome(engine, *entry))
                entry = self._operations.get_nowait()
            goes_on = False
        if done:
            self.post(_deliver, done)
        return goes_on

    def _step(self, engine: Engine) -> float | None:
        """Compute for a moment; how long to wait for an operation before the next step."""
        if engine.is_idle:
            return None
        events = engine.step()
        if events and not self._pass_on_here(events):
            self.post(self._on_events, events)
        if engine.is_blocked:
            # An operation can free memory, or another process.
            return _BLOCKED_WAIT_S
        return None if engine.is_idle else 0.0

    def _pass_on_here(self, events: Sequence[Event | Undone]) -> bool:
        """Whether that was possible."""
        # Only this thread posts; and what was taken is dealt with by the time that we have the lock.
        if self._posted or not self._lock.acquire(blocking=False):
            return False
        try:
            self._on_events_here(events)
        finally:
            self._lock.release()
        return True

    def _wake(self) -> None:
        assert self._loop is not None
        if not self._is_waking:
            self._is_waking = True
            # The loop may be closed, when its owner did not wait for us.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._arrive)

    def _arrive(self) -> None:
        # First this: what is posted from here on wakes the loop again.
        self._is_waking = False
        try:
            for _ in range(len(self._posted)):
                with self._lock:
                    callback, args = self._posted.popleft()
                    callback(*args)
        finally:
            # What stands behind a callback that raised.
            if self._posted:
                self._wake()


def _outcome(
    engine: Engine, operation: Callable[[Engine], Any], done: OnDone
) -> tuple[OnDone, Any, Exception | None]:
    try:
        return done, operation(engine), None
    except Exception as exc:
        return done, None, exc


def _deliver(done: Sequence[tuple[OnDone, Any, Exception | None]]) -> None:
    for callback, result, error in done:
        callback(result, error)


def _settle(ready: asyncio.Future[Info], info: Info | None, error: Exception | None) -> None:
    if ready.cancelled():
        return
    if error is not None:
        ready.set_exception(error)
    elif info is not None:
        ready.set_result(info)
