"""Session servers for tests: in processes of their own, or with an engine that takes its time."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.sessions.address import Address
from harness.sessions.client import SessionClient
from harness.sessions.counting import CountingEngine
from harness.sessions.server import SessionServer

__all__ = ["COMMAND", "TOKEN_BYTES", "Unhurried", "connect", "serving", "within"]

COMMAND = (sys.executable, "-m", "harness.sessions", "serve", "--model", "counting")
ROOT = Path(__file__).parents[1]
TOKEN_BYTES = 64
"""Keys and values of a token of the counting engine."""


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], Address]]:
    """A server that is ready."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:1] == ["ready"], process.stderr and process.stderr.read()
        yield process, Address.parse(words[1])
    finally:
        process.kill()
        process.communicate()


def connect(server: SessionServer) -> SessionClient:
    return SessionClient.connect(server.address, timeout_s=60)


class Unhurried(CountingEngine):
    """A millisecond per step, so that something can happen during a turn."""

    def step(self) -> list:
        time.sleep(0.001)
        return super().step()


def within(condition: Callable[[], bool], *, seconds: float = 60) -> bool:
    """Whether it comes true; the time is only there so that nothing hangs."""
    ends_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends_s:
            return False
        time.sleep(0.01)
    return True
