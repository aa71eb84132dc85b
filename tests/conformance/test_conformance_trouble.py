"""What the HTTP backends make of servers that fail, of connections that go, and of time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from typing import Any

import aiohttp
import pytest

from harness.backends import Request
from harness.backends.llamacpp import LlamaCppBackend
from harness.backends.openai import OpenAIBackend
from harness.backends.slowing import wait_until
from harness.errors import (
    BackendBroken,
    BackendError,
    BackendRejected,
    BackendTimeout,
    BackendUnreachable,
    ClientExhausted,
)
from harness.launchers.canned import (
    CannedServer,
    answering,
    breaking_off,
    hanging,
    hanging_up,
    refusing,
    replaying,
)
from tests.conformance.frames import CHAT, event, piece
from tests.conformance.subjects import run, use


class TestBrokenServers:
    """Servers that fail; each failure is one kind of error, with its cause, naming role and URL."""

    @pytest.mark.parametrize(
        ("behave", "error", "says"),
        [
            (refusing(500, "out of memory"), BackendBroken, "500.*out of memory"),
            (refusing(503, "loading model"), BackendBroken, "503.*loading model"),
            (refusing(400, "prompt too long"), BackendRejected, "400.*prompt too long"),
            (refusing(401, "no key"), BackendRejected, "401.*key_env"),
            (refusing(404, "no such model"), BackendRejected, "404.*no such model"),
            (breaking_off(2), BackendBroken, "broke"),
            (hanging_up, BackendBroken, "broke the connection off"),
            (replaying(piece("a"), b"data: {nonsense\n\n"), BackendBroken, "no valid answer.*nonsense"),
            (replaying(b"data: [1, 2]\n\n"), BackendBroken, "no valid answer"),
            (replaying(b'data: "\xff\xfe"\n\n'), BackendBroken, "no valid answer"),
            (replaying(piece("a"), event(error={"message": "slot lost"})), BackendBroken, "slot lost"),
            (replaying(piece("a"), piece("", "abort")), BackendBroken, "the server gave it up .abort."),
            (replaying(piece("a")), BackendBroken, "broke off after 1 chunks"),
            (replaying(piece("a"), b"data: [DONE]\n\n"), BackendBroken, "ended after 1 chunks"),
            (replaying(), BackendBroken, "broke off after 0 chunks"),
            (replaying(b"<html>", content_type="text/html"), BackendBroken, "no valid answer"),
            (replaying(b"{}", content_type="application/json"), BackendBroken, "no valid answer"),
        ],
        ids=[
            "500",
            "503",
            "400",
            "401",
            "404",
            "breaks off",
            "hangs up",
            "no JSON",
            "no object",
            "no UTF-8",
            "error in stream",
            "given up",
            "no end",
            "DONE too soon",
            "empty",
            "HTML",
            "no choices",
        ],
    )
    def test_a_failure_is_one_clear_error(
        self, client: OpenAIBackend, canned: CannedServer, behave: Any, error: type[BackendError], says: str
    ) -> None:
        """The error has the kind that fits, and says who failed and how."""
        canned.behave = behave
        with pytest.raises(error, match=f"(?s)small: .*{says}") as caught:
            run(client, CHAT)
        assert canned.url in str(caught.value)
        assert len(canned.exchanges) == 1, "the request was sent more than once"

    @pytest.mark.parametrize("behave", [hanging, answering(token_s=0.1)], ids=["silent", "too slow"])
    def test_a_server_too_slow_is_given_up_at_the_deadline(
        self, client: OpenAIBackend, canned: CannedServer, behave: Any
    ) -> None:
        """The deadline holds for the whole answer, begun or not, and the connection is closed."""
        canned.behave = behave
        backend = type(client)(canned.url, model="canned", name="small", timeout_s=0.25)
        began_s = time.monotonic()
        with pytest.raises(BackendTimeout, match=r"0\.25 s") as caught:
            run(backend, Request(prompt="x", max_tokens=100))
        assert time.monotonic() - began_s < 3
        assert caught.value.__cause__ is not None

    def test_a_refused_connection_names_the_remedy(self, client: OpenAIBackend) -> None:
        """Nobody at the address: the error says where, why, and what to do."""
        client.url = "http://127.0.0.1:9"
        with pytest.raises(BackendUnreachable) as caught:
            run(client, CHAT)
        assert str(caught.value) == (
            "small: no connection to http://127.0.0.1:9 (Connection refused); "
            "start the server or pass --backend small=URL"
        )
        assert isinstance(caught.value.__cause__, OSError)

    @pytest.mark.parametrize("kind", [LookupError, OSError, TimeoutError, aiohttp.ClientError])
    def test_errors_of_the_callers_own_are_not_translated(
        self, client: OpenAIBackend, kind: type[Exception]
    ) -> None:
        """What `on_chunk` raises reaches the caller as it is, of whatever class it is."""
        raised = kind("the caller's own")

        def fail(_: object) -> None:
            raise raised

        with pytest.raises(kind) as caught:
            use(client, lambda: client.generate(CHAT, fail))
        assert caught.value is raised

    @pytest.mark.skipif(sys.platform == "win32", reason="has no limit of descriptors")
    def test_a_client_without_descriptors_blames_itself(
        self, client: OpenAIBackend, canned: CannedServer
    ) -> None:
        """What this process ran out of is no word on the server: the error says so, and what to raise."""
        with pytest.raises(ClientExhausted, match=r"small: this client ran out.*Too many open files.*ulimit"):
            use(client, lambda: without_descriptors(client))
        assert not canned.exchanges


async def without_descriptors(client: OpenAIBackend) -> None:
    """Ask while every descriptor that this process may have is in use."""
    import resource

    # The loop and its thread pool have theirs already; a lower limit spares opening a million.
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 3, limits[1]))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        await client.generate(CHAT)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class TestConnections:
    """Connections are opened for one request and never outlive it."""

    def test_idle_connections_dropped_by_the_server_harm_nothing(self, client: OpenAIBackend) -> None:
        """A server that drops connections between requests gets each request once, and all are answered."""
        with CannedServer(idle_s=0.005) as dropping:
            client.url = dropping.url

            async def converse() -> list[int | None]:
                counts = []
                for i in range(50):
                    counts.append((await client.generate(CHAT)).output_tokens)
                    await asyncio.sleep(0.002 * (i % 5))
                return counts

            assert use(client, converse) == [3] * 50
            assert len(dropping.exchanges) == 50

    def test_cancelling_closes_the_connection(self, client: OpenAIBackend, canned: CannedServer) -> None:
        """The server sees that nobody waits any more."""
        canned.behave = answering(token_s=0.01)

        async def cancel() -> None:
            task = asyncio.create_task(client.generate(Request(prompt="x", max_tokens=1000)))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            ends_s = time.monotonic() + 1
            while not canned.exchanges[0].is_abandoned and time.monotonic() < ends_s:
                await asyncio.sleep(0.01)

        use(client, cancel)
        assert canned.exchanges[0].is_abandoned

    @pytest.mark.parametrize(
        ("behave", "error"),
        [
            (refusing(503, "Loading model"), BackendUnreachable),
            (hanging_up, BackendUnreachable),
            (hanging, BackendUnreachable),
            (refusing(401, "no key"), BackendRejected),
        ],
        ids=["loads", "hangs up", "hangs", "wants a key"],
    )
    def test_a_server_that_cannot_serve_yet_is_not_ready(
        self, canned: CannedServer, behave: Any, error: type[BackendError]
    ) -> None:
        """`ready` tells a server that may come from one that wants a key."""
        canned.behave_at_models = behave
        backend = OpenAIBackend(canned.url, model="m", name="small", timeout_s=0.2)
        with pytest.raises(error, match="small: "):
            use(backend, backend.ready)


@pytest.mark.parametrize("client_class", [LlamaCppBackend, OpenAIBackend], ids=lambda cls: cls.__name__)
def test_a_slowed_backend_answers_later_by_its_share(
    canned: CannedServer, client_class: type[OpenAIBackend]
) -> None:
    """The caller waits the declared share longer, and the answer's own times say so."""
    canned.behave = answering(token_s=0.02)
    request = Request(prompt="x", max_tokens=10)
    [slowed] = run(client_class(canned.url, model="m", slowdown=0.5), request)
    answered_s = slowed.chunk_times_s[-1] - slowed.sent_s
    assert 1.5 <= slowed.e2e_latency_s / answered_s < 2.5


@pytest.mark.parametrize("wait_s", [0.0003, 0.0025, 0.01])
def test_a_slowdown_waits_exactly(wait_s: float) -> None:
    """The wait never ends early, and can end on time where an event loop's timer is too coarse for it."""

    async def overshoot_s() -> float:
        deadline_s = time.perf_counter() + wait_s
        await wait_until(deadline_s)
        return time.perf_counter() - deadline_s

    overshoots_s = sorted(asyncio.run(overshoot_s()) for _ in range(31))
    assert overshoots_s[0] >= 0
    assert overshoots_s[0] < 0.0002
