"""A model in this process and the one thread that runs it.

Jobs are answered one at a time in the order in which they came: the others wait, and their waiting is told as
`queue_s`. A batch is one job. The thread holds the model, so stopping it gives the memory back.

Threads within an operation are a setting of PyTorch's for the calling thread; it is made in the engine's
thread, so two engines of one process may differ, and nothing else changes.
"""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

from harness.errors import LaunchError
from harness.models.torch_engine.decoding import Decoder
from harness.models.torch_engine.jobs import Job, Outcome, Piece
from harness.models.torch_engine.loading import Loaded

__all__ = ["Answered", "Deliver", "EngineStopped", "Ticket", "TorchEngine"]


class EngineStopped(Exception):
    """The engine was stopped, and answers no more."""


class Answered(NamedTuple):
    """The end of a job."""

    outcome: Outcome
    queue_s: float
    """From submitting the job to its turn."""


Deliver = Callable[[Piece | Answered | BaseException], None]
"""Called in the engine's thread: with the pieces if they are wanted, then once with the end."""


class _Cancelled(Exception):
    pass


class Ticket:
    """A job in the engine."""

    __slots__ = ("_deliver", "is_cancelled", "job", "submitted_s")

    def __init__(self, job: Job, deliver: Deliver) -> None:
        self.job = job
        self.submitted_s = perf_counter()
        self.is_cancelled = False
        self._deliver = deliver

    def cancel(self) -> None:
        """Have the engine stop within a token, or skip the job; nothing more is delivered."""
        self.is_cancelled = True

    def deliver(self, event: Piece | Answered | BaseException) -> None:
        """Hand something to whoever submitted the job, unless nobody waits."""
        if not self.is_cancelled:
            self._deliver(event)


class TorchEngine:
    """Loads a model in a thread of its own, and answers jobs there until it is stopped."""

    def __init__(self, *, name: str, model: str, load: Callable[[], Loaded], threads: int = 1) -> None:
        """Describe the engine; `start` loads it.

        Parameters
        ----------
        name: the role that errors call it by.
        model: the model's name, as users gave it.
        load: gives the model; called in the engine's thread.
        threads: within an operation, on the CPU.
        """
        self.name = name
        self.model = model
        self._load = load
        self._threads = threads
        self._jobs: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._num_running = 0
        self._is_stopped = False
        self._is_loaded = threading.Event()
        self._failure: BaseException | None = None
        self._loaded: Loaded | None = None
        self._decoder: Decoder | None = None
        self._thread = threading.Thread(target=self._run, name=f"torch-{name}", daemon=True)

    @property
    def num_running(self) -> int:
        """Jobs that wait or are worked on."""
        return self._num_running

    @property
    def is_stopped(self) -> bool:
        """Whether it answers no more."""
        return self._is_stopped

    def start(self, deadline_s: float) -> None:
        """Load the model and return when it can answer.

        Raises
        ------
        LaunchError: it is not loaded within the deadline; what loading raises comes as it is.
        """
        self._thread.start()
        try:
            if not self._is_loaded.wait(deadline_s):
                raise LaunchError(
                    f"{self.name}: {self.model} was not loaded within {deadline_s:g} s; raise deadline_s"
                )
            if self._failure is not None:
                raise self._failure
        except BaseException:
            # Loading cannot be interrupted: the thread ends when it has.
            self._is_stopped = True
            self._jobs.put(None)
            raise

    def submit(self, job: Job, deliver: Deliver) -> Ticket:
        """Queue a job.

        Raises
        ------
        EngineStopped: the engine is stopped.
        """
        with self._lock:
            if self._is_stopped:
                raise EngineStopped(self.model)
            self._num_running += 1
            ticket = Ticket(job, deliver)
            self._jobs.put(ticket)
        return ticket

    def forget(self) -> None:
        """Drop the kept keys and values; for an engine that works on nothing."""
        if self._decoder is not None:
            self._decoder.forget()

    def count_tokens(self, text: str) -> int:
        """Tokens of a raw prompt."""
        if self._loaded is None:
            raise EngineStopped(self.model)
        return len(self._loaded.encode(Job(prompt=text, max_tokens=1)))

    def stop(self) -> None:
        """End the job in work within a token, fail those that wait, and give the memory back."""
        with self._lock:
            self._is_stopped = True
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()
        gc.collect()

    def _run(self) -> None:
        try:
            self._prepare()
        except BaseException as exc:
            self._failure = exc
            return
        finally:
            self._is_loaded.set()
        try:
            while not self._is_stopped and (ticket := self._jobs.get()) is not None:
                self._answer(ticket)
                del ticket
        finally:
            self._leave()

    def _prepare(self) -> None:
        import torch

        torch.set_num_threads(self._threads)
        self._loaded = self._load()
        self._decoder = Decoder(self._loaded)
        self._decoder.warm_up()

    def _answer(self, ticket: Ticket) -> None:
        assert self._decoder is not None

        def check() -> None:
            if ticket.is_cancelled:
                raise _Cancelled
            if self._is_stopped:
                raise EngineStopped(self.model)

        def on_text(text: str, time_s: float) -> None:
            if ticket.job.pieces:
                ticket.deliver(Piece(text, time_s))

        event: Answered | BaseException
        try:
            check()
            queue_s = perf_counter() - ticket.submitted_s
            event = Answered(self._decoder.run(ticket.job, on_text=on_text, check=check), queue_s)
        except BaseException as exc:
            event = exc
        with self._lock:
            self._num_running -= 1
        ticket.deliver(event)

    def _leave(self) -> None:
        """Fail what waits, and let go of the model."""
        while not self._jobs.empty():
            ticket = self._jobs.get()
            if ticket is not None:
                with self._lock:
                    self._num_running -= 1
                ticket.deliver(EngineStopped(self.model))
        was_cuda = self._loaded is not None and self._loaded.device.type == "cuda"
        self._decoder = self._loaded = None
        gc.collect()
        if was_cuda:
            import torch

            torch.cuda.empty_cache()
