"""One load from several processes, for when one core does not suffice.

Each worker has its own event loop, its own client and its share of the requests. All begin at one instant
of CLOCK_MONOTONIC, which every process of the machine shares (`perf_counter` is that clock on Linux), named
only when all are ready. A worker that dies ends the load with an error that names it: what it had sent is
not known, so there is no result. The parent's end, of whatever kind, ends the workers: they watch the pipe
to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from harness.backends.connect import connect
from harness.backends.spec import BackendSpec
from harness.clock import now_s
from harness.errors import HarnessError, LoadError
from harness.launchers import Server
from harness.load.descriptors import raise_descriptor_limit
from harness.load.scenario import Driven, Scenario, drive

__all__ = ["Target", "drive_with"]

_LEAD_S = 0.1
"""Between naming the common instant and it."""
_READY_S = 60.0
_GRACE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A running server, as plain data that travels to a worker."""

    spec: BackendSpec
    url: str
    model: str
    engine: str | None = None

    @classmethod
    def of(cls, spec: BackendSpec, server: Server) -> Target:
        """The server's address.

        Raises
        ------
        LoadError: it lives inside this process and has none.
        """
        if server.held is not None or not server.url:
            raise LoadError(f"{spec.role}: {spec.label} lives in this process; use one worker")
        return cls(spec=spec, url=server.url, model=server.model, engine=server.engine)

    def server(self) -> Server:
        """The server, which is not ours to stop."""
        return Server(url=self.url, model=self.model, engine=self.engine, start_s=0.0)


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, share: Scenario, target: Target) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = f"load worker {share.worker} of {share.num_workers}"
        self.pipe, far = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_work, args=(far, share, target), name=self.name)
        self.process.start()
        far.close()

    def receive(self) -> Any:
        """The next message; call it when the pipe is ready to be read.

        Raises
        ------
        LoadError: the worker said what went wrong, or it is gone.
        """
        try:
            what, content = self.pipe.recv()
        except (EOFError, OSError) as exc:
            self.process.join(_GRACE_S)
            raise LoadError(
                f"{self.name} (pid {self.process.pid}) died: {_ending(self.process.exitcode)}; its requests "
                "are lost, so there is no result. See its error above, and run again"
            ) from exc
        if what == "error":
            raise LoadError(f"{self.name}: {content}")
        return content

    def stop(self) -> None:
        """End the process, if need be by force."""
        self.pipe.close()
        self.process.join(_GRACE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


def drive_with(num_workers: int, scenario: Scenario, target: Target) -> Driven:
    """Run a scenario in so many processes; entries come in the order of their intended starts.

    Raises
    ------
    LoadError: a worker died, or could not go on.
    UsageError: there is not a request, or a user, for each worker.
    """
    shares = [scenario.share(worker, num_workers) for worker in range(num_workers)]
    with _started(shares, target) as workers:
        _gather(workers, _READY_S)
        begin_s = now_s() + _LEAD_S
        for worker in workers:
            with contextlib.suppress(OSError):  # gone: named when its answer is read
                worker.pipe.send(begin_s)
        parts: list[Driven] = _gather(workers, None)
    entries = [entry for part in parts for entry in part.entries]
    return Driven(
        sorted(entries, key=lambda entry: (entry.intended_s, entry.index)),
        [samples for part in parts for samples in part.cpu],
    )


@contextmanager
def _started(shares: Sequence[Scenario], target: Target) -> Iterator[list[_Worker]]:
    workers: list[_Worker] = []
    try:
        for share in shares:
            workers.append(_Worker(share, target))
        yield workers
    finally:
        for worker in workers:
            worker.pipe.close()
        for worker in workers:
            worker.stop()


def _gather(workers: Sequence[_Worker], limit_s: float | None) -> list[Any]:
    """One message from each worker, in their order; raises as soon as one has none to give."""
    found: dict[int, Any] = {}
    ends_s = None if limit_s is None else now_s() + limit_s
    while len(found) < len(workers):
        waiting = {w.pipe: i for i, w in enumerate(workers) if i not in found}
        left_s = None if ends_s is None else max(0.0, ends_s - now_s())
        ready = wait(list(waiting), left_s)
        if not ready:
            names = ", ".join(workers[i].name for i in waiting.values())
            raise LoadError(f"{names}: not ready within {limit_s:g} s; free a core, or use fewer workers")
        for pipe in ready:
            index = waiting[pipe]  # type: ignore[index]
            found[index] = workers[index].receive()
    return [found[index] for index in range(len(workers))]


def _ending(exitcode: int | None) -> str:
    if exitcode is None:
        return "it hung up"
    return f"killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"exit status {exitcode}"


def _work(pipe: Connection, share: Scenario, target: Target) -> None:
    """A worker's whole life. Interrupts are the parent's to handle: its end of the pipe closes then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_descriptor_limit()
    try:
        result = asyncio.run(_worker(pipe, share, target))
    except (EOFError, OSError, asyncio.CancelledError):
        return
    except HarnessError as exc:
        result = ("error", str(exc))
    with contextlib.suppress(OSError):
        pipe.send(result)


async def _worker(pipe: Connection, share: Scenario, target: Target) -> tuple[str, Any]:
    async with connect(target.spec, target.server()) as connection:
        pipe.send(("ready", os.getpid()))
        begin_s: float = pipe.recv()
        task = asyncio.current_task()
        assert task is not None
        # Nothing more comes from the parent: a pipe that can be read has ended.
        asyncio.get_running_loop().add_reader(pipe.fileno(), task.cancel)
        driven = await drive(share, connection.backend, begin_s=begin_s)
        asyncio.get_running_loop().remove_reader(pipe.fileno())
        return "done", driven
