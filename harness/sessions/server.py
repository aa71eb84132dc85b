"""The session server: an event loop that speaks with clients, before one thread that computes.

What a client does wrong ends its connection and nothing else. What the engine does wrong in a step ends the
server, with a word to everyone: after that nobody's keys and values can be trusted.

Traps: `serve_in_thread` shares the interpreter with whoever calls it, so timing through it is not what a
server of its own would give.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

from harness.errors import LaunchError, ProtocolError
from harness.sessions.address import Address, Listener, listen, widen
from harness.sessions.codes import Code
from harness.sessions.connection import Connection
from harness.sessions.contract import Engine, Event, Info, Undone
from harness.sessions.engine_thread import EngineThread
from harness.sessions.limits import Limits
from harness.sessions.link import checked_link_bps
from harness.sessions.registry import HeldSession, Registry
from harness.sessions.turns import cancelled, take

__all__ = ["SessionServer", "serve_in_thread"]

_SWEEP_S = 0.1
_POLL_S = 0.02
_FAREWELL_S = 0.5
_START_GRACE_S = 5.0


class SessionServer:
    """Listens, and serves an engine's sessions until it is stopped. For one event loop."""

    info: Info
    address: Address

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        address: Address,
        *,
        limits: Limits | None = None,
        link_bps: int = 0,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Describe it; `start` makes the engine and listens.

        Parameters
        ----------
        make_engine: called in the engine's thread.
        link_bps: that clients are told to be as slow as, in bits per second; 0 is as fast as it goes.
        log: takes a line for what an operator would want to know.
        """
        self.link_bps = checked_link_bps(link_bps)
        self.limits = (limits or Limits()).behind_link(link_bps)
        self.registry = Registry()
        self.lock = threading.RLock()
        """Held by the loop while it works, and by the engine's thread while it passes tokens on."""
        self.engine = EngineThread(
            make_engine,
            lock=self.lock,
            on_events_here=self._on_events_here,
            on_events=self._on_events,
            on_broken=self._on_broken,
        )
        self.ended = asyncio.Event()
        self.broken: Exception | None = None
        self._wanted = address
        self.log = log
        self._connections: set[Connection] = set()
        self._leaving: set[Connection] = set()
        """Over, but for last words that are not sent yet."""
        self._counts: Counter[str] = Counter()
        self._receiving_bytes = self._bytes_received = self._bytes_sent = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._listener: Listener | None = None

    async def start(self) -> None:
        """Make the engine, then listen.

        Raises
        ------
        LaunchError: the address is taken. And what making the engine raises.
        """
        self.info = await self.engine.start()
        try:
            self._listener = listen(self._wanted)
        except BaseException:
            await self.engine.stop(timeout_s=_START_GRACE_S)
            raise
        self.address = self._listener.address
        self._tasks = [asyncio.create_task(self._accept()), asyncio.create_task(self._sweep())]

    async def stop(self, *, grace_s: float = 5.0) -> None:
        """Take nothing new, let turns end within `grace_s` seconds, say goodbye, give all memory back.

        An operation or a step of the engine that runs by then has as long again; after that it is left alone,
        with its memory, to the end of the process.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        with self.lock:
            for connection in self._connections:
                connection.hold()
        await self._until(lambda: not any(connection.is_busy for connection in self._connections), grace_s)
        with self.lock:
            leaving = list(self._connections)
            for connection in leaving:
                connection.fail(Code.STOPPING, "the server stops; connect again when it is back")
        await self._until(lambda: all(one.transport.is_closed for one in leaving), _FAREWELL_S)
        with self.lock:
            for connection in leaving:
                connection.transport.abort("stopped")
        if not await self.engine.stop(timeout_s=grace_s):
            self.log(f"the engine did not come to an end in {grace_s:g} s; it is left behind")
        self.ended.set()

    def count(self, what: str) -> None:
        """Count an event, for `stats`."""
        self._counts[what] += 1

    def received(self, num_bytes: int) -> None:
        """Buffers are about to be received, or (negative) were.

        Raises
        ------
        ProtocolError: all connections together have too much under way.
        """
        limit = self.limits.max_receiving_bytes
        if num_bytes > 0 and self._receiving_bytes + num_bytes > limit:
            what = f"{num_bytes} bytes beside {self._receiving_bytes} under way"
            raise ProtocolError(f"{what}; the server takes {limit} at once: try later", code=Code.OVERLOADED)
        self._receiving_bytes += num_bytes

    def stats(self) -> dict[str, int | float | str | None]:
        """Counters since the start, and what there is now."""
        living = [connection.transport for connection in self._connections]
        return {
            "server_connections": len(self._connections),
            "server_sessions": len(self.registry),
            "server_sessions_without_owner": self.registry.num_ownerless,
            "server_turns_running": len(self.registry.turns),
            "server_receiving_bytes": self._receiving_bytes,
            "server_unsent_bytes": sum(one.unsent_bytes for one in living),
            "server_bytes_received": self._bytes_received + sum(one.bytes_received for one in living),
            "server_bytes_sent": self._bytes_sent + sum(one.bytes_sent for one in living),
            **{f"server_{what}": num for what, num in sorted(self._counts.items())},
        }

    def disconnected(self, connection: Connection, reason: str) -> None:
        """A connection is over; its sessions wait to be resumed, or end."""
        self._connections.discard(connection)
        if not connection.transport.is_closed:
            self._leaving.add(connection)
        self._bytes_received += connection.transport.bytes_received
        self._bytes_sent += connection.transport.bytes_sent
        self.log(f"{connection.name}: {reason}")
        for session in connection.sessions.values():
            session.owner = None
            session.ends_s = monotonic() + session.linger_s
            if not session.linger_s:
                self._end(session)
        connection.sessions.clear()

    def _end(self, session: HeldSession) -> None:
        """Close a session that nobody has."""
        self.registry.remove(session)
        if session.is_busy and session.turn is not None:
            cancelled(self, session.turn)

        def closed(_: Any, error: Exception | None) -> None:
            if error is not None:
                self.log(f"{session.id}: close failed: {error}")

        self.engine.call(lambda engine: engine.close(session.id), closed)

    def _on_events(self, events: Sequence[Event | Undone]) -> None:
        """Pass tokens on: one write per connection, however many of its sessions had one."""
        for connection in take(self, events):
            connection.flush()

    def _on_events_here(self, events: Sequence[Event | Undone]) -> None:
        """The same in the engine's thread; the loop does what the kernel does not take at once."""
        rest = [connection for connection in take(self, events) if not connection.flush_at_once()]
        if rest:
            self.engine.post(self._flush, rest)

    def _flush(self, connections: Sequence[Connection]) -> None:
        for connection in connections:
            connection.flush()

    def _on_broken(self, error: Exception) -> None:
        self.broken = error
        self.log(f"the engine broke: {type(error).__name__}: {error}")
        for connection in list(self._connections):
            connection.fail(Code.STOPPING, f"the engine broke: {type(error).__name__}: {error}")
        self.ended.set()

    async def _accept(self) -> None:
        assert self._listener is not None
        loop, numbers = asyncio.get_running_loop(), 0
        while True:
            try:
                sock, _ = await loop.sock_accept(self._listener.sock)
            except OSError as exc:
                # Out of descriptors, mostly: others may give some back.
                self.log(f"cannot accept: {exc}")
                await asyncio.sleep(_SWEEP_S)
                continue
            numbers += 1
            with self.lock:
                self._welcome(sock, numbers)

    def _welcome(self, sock: socket.socket, number: int) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        widen(sock)
        limit, is_full = self.limits.max_connections, len(self._connections) >= self.limits.max_connections
        connection = Connection(self, sock, number)
        self._connections.add(connection)
        if is_full:
            connection.fail(Code.OVERLOADED, f"{limit} connections are open; try later")

    async def _sweep(self) -> None:
        """Look now and then for who takes too long, and for sessions that nobody came back for."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            with self.lock:
                self._sweep_once(monotonic())

    def _sweep_once(self, now_s: float) -> None:
        for connection in [*self._connections, *self._leaving]:
            connection.sweep(now_s)
            if connection.transport.is_closed:
                self._leaving.discard(connection)
        for session in self.registry:
            if session.ends_s is not None and now_s > session.ends_s:
                self._end(session)

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        ends_s = monotonic() + timeout_s
        while not condition() and monotonic() < ends_s:
            await asyncio.sleep(_POLL_S)


@contextlib.contextmanager
def serve_in_thread(
    make_engine: Callable[[], Engine], address: Address, *, grace_s: float = 1.0, **settings: Any
) -> Iterator[SessionServer]:
    """A server in a thread of this process, for as long as the context lasts.

    Arguments: `settings` as `SessionServer` takes them.
    """
    found: queue.SimpleQueue[tuple[SessionServer, asyncio.AbstractEventLoop] | BaseException]
    found = queue.SimpleQueue()
    leave = asyncio.Event()

    async def main() -> None:
        server = SessionServer(make_engine, address, **settings)
        await server.start()
        found.put((server, asyncio.get_running_loop()))
        await leave.wait()
        await server.stop(grace_s=grace_s)

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as exc:
            found.put(exc)

    thread = threading.Thread(target=run, name="session server", daemon=True)
    thread.start()
    first = found.get()
    if isinstance(first, BaseException):
        thread.join()
        raise first
    try:
        yield first[0]
    finally:
        first[1].call_soon_threadsafe(leave.set)
        thread.join()
    if not found.empty():
        raise LaunchError(f"the session server ended badly: {found.get()}")
