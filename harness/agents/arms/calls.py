"""What is asked of Ray's processes, waited for with a deadline, and how it fails: mapped here, once.

What the harness raised over there is raised here as itself. A process that died, a raylet or a GCS that is
gone, and an answer that does not come are a `BackendError` that names the cause.

Ray passes each token on as an object of its own, small enough to travel in the message that announces it:
1.5 to 1.7 ms (p50; 0.9 to 7.5) from the engine to the driver's `await`, on two cores that others used too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from importlib import import_module
from time import perf_counter
from typing import Any

from harness.agents.cluster import RayCluster
from harness.errors import BackendBroken, BackendError, BackendTimeout, HarnessError
from harness.hardware.processes import Process, is_alive

__all__ = ["end_process", "stream", "value"]

_LOOK_S = 0.25
_CAUSE_S = 2.0
"""That a raylet's end may be seen later than that of the connections through it."""
_END = object()


async def value(cluster: RayCluster, ref: Any, *, who: str, timeout_s: float) -> Any:
    """What a call gave.

    Raises
    ------
    HarnessError: as it was raised over there.
    BackendBroken: the process died or broke, or Ray did.
    BackendTimeout: no answer in time.
    """
    return await _settled(cluster, _awaited(ref), who, timeout_s)


async def stream(
    cluster: RayCluster, refs: Any, *, who: Callable[[], str], timeout_s: float
) -> AsyncIterator[Any]:
    """What a call yields, each within `timeout_s` of the one before. Raises as `value`.

    Arguments: `who`, as known by then.
    """
    while (item := await _settled(cluster, _next(refs), who(), timeout_s)) is not _END:
        yield item


async def end_process(process: Process | None, *, within_s: float = 10.0) -> None:
    """Return when a process that was told to end has, and the device budget has its bytes back.

    Raises
    ------
    BackendTimeout: it lives on.
    """
    ends_s = perf_counter() + within_s
    while process is not None and is_alive(process):
        if perf_counter() > ends_s:
            raise BackendTimeout(f"process {process.pid} of Ray's was killed, and lives after {within_s:g} s")
        await asyncio.sleep(0.01)


async def _awaited(ref: Any) -> Any:
    return await ref


async def _next(refs: Any) -> Any:
    try:
        return await (await anext(refs))
    except StopAsyncIteration:
        return _END


async def _settled(cluster: RayCluster, waiting: Coroutine[Any, Any, Any], who: str, timeout_s: float) -> Any:
    task = asyncio.create_task(waiting)
    ends_s = perf_counter() + timeout_s
    try:
        while not task.done():
            await asyncio.wait((task,), timeout=_LOOK_S)
            if task.done():
                break
            cluster.require(who)
            if perf_counter() > ends_s:
                raise BackendTimeout(f"{who}: no answer for {timeout_s:g} s")
        error = task.exception()
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait((task,), timeout=_LOOK_S)
    if error is None:
        return task.result()
    raise await _mapped(cluster, error, who) from error


async def _mapped(cluster: RayCluster, error: BaseException, who: str) -> BaseException:
    errors: Any = import_module("ray.exceptions")
    if isinstance(error, errors.RayTaskError):
        cause = error.cause
        return cause if isinstance(cause, HarnessError) else BackendBroken(f"{who}: {_one_line(cause)}")
    if not isinstance(error, errors.RayError):
        return error
    return await _death(cluster, error, who)


async def _death(cluster: RayCluster, error: Exception, who: str) -> BackendError:
    """Of a worker, or of all of Ray, which shows a moment later."""
    errors: Any = import_module("ray.exceptions")
    ends_s = perf_counter() + _CAUSE_S
    # The actor's own death is certain at once.
    while not isinstance(error, errors.ActorDiedError) and perf_counter() < ends_s:
        if cluster.failure is not None:
            break
        await asyncio.sleep(0.05)
    if (cause := cluster.failure) is not None:
        return BackendBroken(f"{who}: {cause}")
    if isinstance(error, errors.OutOfMemoryError):
        return BackendBroken(f"{who}: killed by Ray, since the machine was out of memory")
    said = _one_line(error).partition("Some common causes")[0].strip()
    return BackendBroken(f"{who}: its process is gone ({said[:300]})")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:600]
