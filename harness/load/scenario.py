"""One load on one server: what is offered, and its run on one event loop.

    OpenLoop      requests at due times
    ClosedLoop    so many users, each with one request at a time

A request that fails is an entry with its error, never an exception: the load goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from harness.backends.base import Backend
from harness.clock import now_s
from harness.errors import BackendError, UsageError
from harness.load.alarm import Alarm
from harness.load.asking import Asking
from harness.load.closed_loop import hold
from harness.load.cpu import CpuMeter, Sample
from harness.load.log import Entry, RequestLog
from harness.load.open_loop import offer

__all__ = ["ClosedLoop", "Driven", "OpenLoop", "Scenario", "drive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """Arrivals, and the length of their window."""

    due_s: tuple[float, ...]
    window_s: float
    pattern: str = "arrivals"
    """What tables call it."""

    def share(self, worker: int, num_workers: int) -> OpenLoop:
        """Every `num_workers`-th arrival: together the workers offer them all, each once."""
        return replace(self, due_s=self.due_s[worker::num_workers])


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """Users, what ends the loop, and the pause of a user between two requests."""

    concurrency: int
    num_requests: int | None = None
    duration_s: float | None = None
    think_s: float = 0.0

    def share(self, worker: int, num_workers: int) -> ClosedLoop:
        """An even share of the users and of the requests."""
        share = replace(self, concurrency=_part(self.concurrency, worker, num_workers))
        if self.num_requests is None:
            return share
        return replace(share, num_requests=_part(self.num_requests, worker, num_workers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is asked, when, and where it is logged. Plain data: it travels to worker processes."""

    loop: OpenLoop | ClosedLoop
    asking: Asking
    log: str | None = None
    """The path of a `RequestLog`."""
    labels: Mapping[str, Any] = field(default_factory=dict, hash=False)
    worker: int = 0
    num_workers: int = 1

    def share(self, worker: int, num_workers: int) -> Scenario:
        """What one of several workers does; indices stay those of the whole load.

        Raises
        ------
        UsageError: there is not a request, or a user, for each worker.
        """
        most = len(self.loop.due_s) if isinstance(self.loop, OpenLoop) else self.loop.concurrency
        if most < num_workers:
            what = "arrivals" if isinstance(self.loop, OpenLoop) else "users"
            raise UsageError(f"load: {most} {what} are too few for {num_workers} workers; use fewer workers")
        loop = self.loop.share(worker, num_workers)
        return replace(self, loop=loop, worker=worker, num_workers=num_workers)


class Driven(NamedTuple):
    """What came of a load, or of a worker's share of it."""

    entries: list[Entry]
    cpu: list[list[Sample]]
    """CPU samples of each client process."""


async def drive(scenario: Scenario, backend: Backend, *, begin_s: float | None = None) -> Driven:
    """Run a scenario, or a worker's share of it, on this event loop.

    Arguments: `begin_s`, when the load begins on `now_s`'s clock; now, if not given.

    Raises
    ------
    LoadError: the log cannot be written.
    """
    begin_s = now_s() if begin_s is None else begin_s
    log = RequestLog(scenario.log, mend=False) if scenario.log else None

    async def work(number: int, intended_s: float) -> Entry:
        index = number * scenario.num_workers + scenario.worker
        entry = await _ask(scenario, backend, index, intended_s, begin_s)
        if log is not None:
            log.append(entry)
        return entry

    try:
        with Alarm() as alarm:
            async with CpuMeter(begin_s) as meter:
                entries = await _run(scenario.loop, work, begin_s, alarm)
    finally:
        if log is not None:
            log.close()
    return Driven(entries, [meter.samples])


async def _run(loop: OpenLoop | ClosedLoop, work: Any, begin_s: float, alarm: Alarm) -> list[Entry]:
    if isinstance(loop, OpenLoop):
        return (await offer(loop.due_s, work, begin_s=begin_s, until=alarm.until)).results
    held = await hold(
        loop.concurrency, work, num_requests=loop.num_requests, duration_s=loop.duration_s,
        think_s=loop.think_s, begin_s=begin_s, until=alarm.until,
    )  # fmt: skip
    return held.results


async def _ask(scenario: Scenario, backend: Backend, index: int, intended_s: float, begin_s: float) -> Entry:
    dispatched_s = now_s()
    try:
        answer = await backend.generate(scenario.asking.request(index))
    except BackendError as exc:
        return Entry(
            index=index,
            intended_s=intended_s - begin_s,
            dispatched_s=dispatched_s - begin_s,
            done_s=now_s() - begin_s,
            error=f"{type(exc).__name__}: {exc}",
            worker=scenario.worker,
            labels=scenario.labels,
        )
    return Entry.of(
        answer, index=index, intended_s=intended_s, dispatched_s=dispatched_s, begin_s=begin_s,
        worker=scenario.worker, labels=scenario.labels,
    )  # fmt: skip


def _part(number: int, worker: int, num_workers: int) -> int:
    return number // num_workers + (worker < number % num_workers)
