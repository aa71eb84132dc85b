"""The thread that copies: one queue, first come first served, and nobody who waits for it is left waiting.

What copying is, the lane says (`carry`). A copy that fails is its own affair; a copier that ends, however,
fails everything it had, and the next copy that is asked for gets a new one. Who waits while nobody copies
copies himself, one at a time and in the order of the queue like the thread: on a busy machine a thread takes
milliseconds to wake up.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from harness.errors import ArenaError

__all__ = ["Copier", "Job"]

_LOOK_S = 0.5
"""How often a waiting caller looks whether the copier is alive, should it ever end without a word."""


class Job:
    """A copy, from being queued to its end. What changes does so under the copier's lock."""

    __slots__ = ("asked_s", "error", "has_begun", "is_carried", "num_bytes", "what")

    def __init__(self, what: str, num_bytes: int) -> None:
        self.what = what
        self.num_bytes = num_bytes
        self.asked_s = time.perf_counter()
        self.has_begun = False
        """Whether it is too late to call it off."""
        self.is_carried = False
        self.error: BaseException | str | None = None

    @property
    def has_failed(self) -> bool:
        """Whether it will never land."""
        return self.error is not None


class Copier:
    """A queue of jobs and the thread that carries them, begun with the first one. Safe from any thread."""

    def __init__(self, carry: Callable[[Job], None]) -> None:
        self.closing = threading.Event()
        """What a job should sleep on, so that closing wakes it."""
        self._carry = carry
        self._queue: deque[Job] = deque()
        self._current: Job | None = None
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, job: Job) -> None:
        """Queue a job.

        Raises
        ------
        ArenaError: the copier is closed, or the host has no memory for its thread.
        """
        with self._news:
            self.check_open()
            self._bury()
            if self._thread is None:
                self._thread = _started(self._run)
            self._queue.append(job)
            self._news.notify_all()

    def wait(self, job: Job) -> None:
        """Block until a job was carried.

        Raises
        ------
        ArenaError: it failed, was called off, or the copier ended.
        """
        if job.is_carried:
            return
        while (own := self._helped(job)) is not None:
            with contextlib.suppress(SystemExit):  # it is the job's, as it would be on the thread
                self._carry_out(own)
        if job.error is not None:
            cause = job.error if isinstance(job.error, BaseException) else None
            why = f"{type(cause).__name__}: {cause}" if cause else job.error
            raise ArenaError(f"{job.what} did not land ({why}); ask for the model again") from cause

    def call_off(self, jobs: Sequence[Job]) -> int:
        """Call off jobs; return how many had begun, which are carried to their end."""
        with self._news:
            gone = {id(job) for job in jobs if not job.has_begun}
            for job in self._queue:
                if id(job) in gone:
                    job.error = "called off"
            self._queue = deque(job for job in self._queue if id(job) not in gone)
            self._news.notify_all()
        return len(jobs) - len(gone)

    def check_open(self) -> None:
        """Check that jobs are taken.

        Raises
        ------
        ArenaError: the copier is closed.
        """
        if self.closing.is_set():
            raise ArenaError("arena: the lane is closed; make another one")

    def close(self) -> None:
        """End the thread behind its current job and fail what is queued; a second call does nothing."""
        with self._news:
            self.closing.set()
            thread = self._thread
            self._news.notify_all()
        if thread is not None:
            thread.join()
        with self._news:
            self._fail("the lane was closed")

    def _run(self) -> None:
        """Carry what is queued; the thread's whole life."""
        try:
            while (job := self._next()) is not None:
                self._carry_out(job)
        except BaseException:  # it is the waiting caller's to raise
            with self._news:
                self._thread = None

    def _next(self) -> Job | None:
        """The thread's next job; None when it is to end."""
        with self._news:
            while not self.closing.is_set():
                if self._queue and self._current is None:
                    return self._take()
                self._news.wait()
            return None

    def _helped(self, job: Job) -> Job | None:
        """What a caller who waits for a job should carry himself; None when the job is over.

        When nobody copies yet, or just now, to do it is quicker than to wait for the thread to wake up.
        """
        with self._news:
            while not job.is_carried and job.error is None:
                if self._queue and self._current is None and not self.closing.is_set():
                    return self._take()
                if not self._news.wait(_LOOK_S):
                    self._bury()
            return None

    def _take(self) -> Job:
        self._current = job = self._queue.popleft()
        job.has_begun = True
        return job

    def _carry_out(self, job: Job) -> None:
        """Carry a job that was taken; a failure is its own, what ends a thread is everyone's."""
        error = None
        try:
            self._carry(job)
        except Exception as exc:
            error = exc
        except BaseException as exc:
            with self._news:
                self._fail(exc)
            raise
        with self._news:
            job.error, job.is_carried = error, error is None
            self._current = None
            self._news.notify_all()

    def _bury(self) -> None:
        """Notice a thread that is gone without a word, as after a fork."""
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
            self._fail("the copier thread is gone")

    def _fail(self, why: BaseException | str) -> None:
        """Nobody will carry what is queued, nor finish what had begun."""
        for job in (self._current, *self._queue):
            if job is not None:
                job.error = why
        self._current = None
        self._queue.clear()
        self._news.notify_all()


def _started(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name="arena-copier", daemon=True)
    try:
        thread.start()
    except RuntimeError as exc:
        raise ArenaError(f"arena: no thread that copies ({exc}); stop what else runs here") from exc
    return thread
