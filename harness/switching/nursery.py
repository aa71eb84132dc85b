"""Where arms' processes come from: forks of one that has torch imported, so that each starts in a moment.

It is `multiprocessing`'s fork server, started with the environment that every arm is to have, and before
torch is imported: how memory and threads are handled is read once. Forking it is safe as long as nothing in
it has a thread or has asked a GPU for anything; importing does neither.

Traps: the fork server is one per process, and somebody else may have started it without torch; arms then
start slower, and are otherwise the same. A child imports its parent's `__main__` again, which for pytest
takes longer than all the rest and for a script without a guard runs it twice; none is needed here, so none is
named. The server and its children end when this process does, however it ends; the watchdog removes the
socket's folder, which a killed process leaves.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.launchers.watchdog import the_watchdog

__all__ = ["ENV", "start_process"]

ENV = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "THP_MEM_ALLOC_ENABLE": "1"}
"""Of every arm: one thread, and large pages where the kernel gives them on demand."""
PRELOAD = ["harness.switching.arms.reference", "harness.switching.arms.arena", "harness.switching.arms.fresh"]
_ROOT = Path(__file__).resolve().parents[2]
_lock = threading.Lock()


def start_process(target: Callable[..., None], *args: Any, name: str) -> BaseProcess:
    """Start a process that runs `target`, which must be importable, with arguments that pickle.

    It is a daemon: the end of this process ends it.
    """
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=target, args=args, name=name, daemon=True)
    with _lock, _variables(ENV | {"PYTHONPATH": _paths()}), _no_main():
        context.set_forkserver_preload(PRELOAD)
        _guard(multiprocessing.util.get_temp_dir())
        forkserver.ensure_running()
        process.start()
    return process


@cache
def _guard(folder: str) -> None:
    """Of this process's sockets; `multiprocessing` removes it itself at an end that lets it."""
    the_watchdog().guard("file", folder)
    atexit.register(the_watchdog().release, "file", folder)


def _paths() -> str:
    return os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@contextmanager
def _no_main() -> Iterator[None]:
    """For as long as the child is told what to import, there is no `__main__` to speak of."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
