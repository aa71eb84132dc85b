"""Servers that answer without end: slowly, or too much."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from harness.errors import LaunchError
from harness.launchers import UrlLauncher
from harness.launchers.canned import CannedServer, Exchange
from harness.launchers.probe import served_models


async def drip(exchange: Exchange) -> None:
    """A byte now and then, for ever."""
    exchange.start()
    with contextlib.suppress(ConnectionError):
        while True:
            exchange.send(b" ")
            await asyncio.sleep(0.05)


async def flood(exchange: Exchange) -> None:
    """A list of models that is longer than any."""
    exchange.start()
    with contextlib.suppress(ConnectionError):
        for _ in range(20):
            exchange.send(b" " * 2**20)
            await asyncio.sleep(0)
    exchange.end()


def test_a_dripping_server_is_given_up_at_the_deadline() -> None:
    """The deadline is for the whole answer, not for each read of it."""
    with CannedServer(idle_s=0.1) as server:
        server.behave_at_models = drip
        began_s = time.monotonic()
        with pytest.raises(LaunchError, match=r"large: no server answers at .* within 0\.5 s \(timed out\)"):
            UrlLauncher(name="large", url=server.url, deadline_s=0.5).launch()
        assert time.monotonic() - began_s < 5


def test_an_answer_without_end_is_refused() -> None:
    """More than any list of models takes is not read."""
    with CannedServer(idle_s=0.1) as server:
        server.behave_at_models = flood
        with pytest.raises(ValueError, match="its answer is longer than 16 MiB"):
            served_models(server.url, timeout_s=30)
