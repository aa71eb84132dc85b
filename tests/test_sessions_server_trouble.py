"""Clients that break the rules, are slow, or ask for too much: each loses its connection, and that is all."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import (
    BackendBroken,
    BackendRejected,
    BackendTimeout,
    BackendUnreachable,
    LaunchError,
    UsageError,
)
from harness.hardware.budget import DeviceBudget
from harness.sessions.address import Address, dial, listen
from harness.sessions.client import SessionClient
from harness.sessions.counting import CountingEngine, continuation
from harness.sessions.framing import Frame, FrameParser
from harness.sessions.limits import MIB, FrameLimits, Limits
from harness.sessions.messages import (
    SERVER_FRAMES,
    VERSION,
    Code,
    Failed,
    Hello,
    Message,
    Ok,
    Open,
    Opened,
    Ping,
    PutKv,
    Turn,
    Welcome,
)
from harness.sessions.protocol import MAGIC, PREFIX, encode
from harness.sessions.server import SessionServer, serve_in_thread

STRICT = Limits(
    frame=FrameLimits(max_header_bytes=4096, max_buffers=2, max_buffer_bytes=MIB, max_frame_bytes=2 * MIB),
    max_connections=8,
    max_sessions_per_connection=3,
    max_turn_tokens=500,
    max_receiving_bytes=MIB,
    max_unsent_bytes=MIB,
    hello_timeout_s=0.7,
    frame_timeout_s=0.7,
    min_bytes_per_s=1e9,
    write_timeout_s=0.5,
    idle_timeout_s=1.0,
)


class Unhurried(CountingEngine):
    def step(self) -> list:
        time.sleep(0.001)
        return super().step()


class Raw:
    """A client that sends whatever it likes."""

    def __init__(self, server: SessionServer, *, greets: bool = True) -> None:
        self.sock = dial(server.address, timeout_s=10)
        self._parser = FrameParser(SERVER_FRAMES, FrameLimits())
        self._frames: list[Frame] = []
        if greets:
            self.send(Hello())
            assert isinstance(self.receive(), Welcome)

    def send(self, message: Message, *buffers: bytes) -> None:
        self.sock.sendall(b"".join(encode(message, buffers)))

    def receive(self) -> Message | None:
        """The next message, None at the end of the connection."""
        while not self._frames:
            data = self.sock.recv(2**16)
            if not data:
                return None
            for one in self._parser.feed(data):
                assert isinstance(one, Frame)
                self._frames.append(one)
        return self._frames.pop(0).message

    def last_words(self) -> Failed:
        """What the server said before it closed."""
        while not isinstance(message := self.receive(), Failed):
            assert message is not None
        assert self.receive() is None
        self.sock.close()
        return message


@pytest.fixture
def budget() -> Iterator[DeviceBudget]:
    budget = DeviceBudget.create(10**6)
    yield budget
    budget.remove()


@pytest.fixture
def server(budget: DeviceBudget, tmp_path: Path) -> Iterator[SessionServer]:
    address = Address.of_path(str(tmp_path / "s"))
    with serve_in_thread(lambda: Unhurried(budget), address, limits=STRICT) as server:
        yield server


@contextlib.contextmanager
def bystander(server: SessionServer) -> Iterator[None]:
    """Another client, in the middle of a turn while something happens; its tokens are right."""
    with SessionClient.connect(server.address, timeout_s=10) as client:
        stream = client.open(4000).turn([7], max_new_tokens=300)
        first = stream.next()
        yield
        tokens = [first, *stream]
        assert [token.token_id for token in tokens if token is not None] == continuation([7], 300)


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    ends_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends_s:
            return False
        time.sleep(0.01)
    return True


def prefix(kind: int, num_buffers: int = 0, header_len: int = 1) -> bytes:
    return PREFIX.pack(MAGIC, VERSION, kind, num_buffers, header_len)


class TestHostileFrames:
    @pytest.mark.parametrize(
        ("stream", "code"),
        [
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Code.MALFORMED),
            (bytes(100), Code.MALFORMED),
            (PREFIX.pack(MAGIC, 77, 4, 0, 1), Code.VERSION),
            (prefix(250), Code.MALFORMED),
            (prefix(67), Code.MALFORMED),
            (prefix(Turn.kind, header_len=2**32 - 1), Code.TOO_LARGE),
            (prefix(PutKv.kind, 2**16 - 1), Code.TOO_LARGE),
            (prefix(PutKv.kind, 1) + struct.pack("<Q", 2**63), Code.TOO_LARGE),
            (prefix(Turn.kind, 0, 9) + b"\x94\x01\x01\xdd\xff\xff\xff\xff\x01", Code.MALFORMED),
            (prefix(Turn.kind, 0, 4000) + b"\x91" * 4000, Code.MALFORMED),
            (b"".join(encode(Hello())), Code.UNEXPECTED),
        ],
        ids=[
            "http", "zeros", "version", "kind", "server-kind", "header", "buffers", "buffer", "list",
            "nested", "second-hello",
        ],
    )  # fmt: skip
    def test_a_frame_that_is_none_ends_its_connection_with_the_reason(
        self, server: SessionServer, stream: bytes, code: Code
    ) -> None:
        """And leaves a turn of somebody else alone."""
        with bystander(server):
            raw = Raw(server)
            raw.sock.sendall(stream)
            assert raw.last_words().code == code

    def test_a_client_that_goes_on_sending_still_gets_the_reason(self, server: SessionServer) -> None:
        """The server takes in some of what follows before it closes: a reset would destroy its words."""
        raw = Raw(server)
        raw.sock.sendall(bytes(100_000))
        assert raw.last_words().code == Code.MALFORMED

    def test_what_was_asked_before_the_malformed_frame_is_answered(self, server: SessionServer) -> None:
        """In order, even in one packet."""
        raw = Raw(server)
        raw.sock.sendall(b"".join([*encode(Ping(5)), *encode(Ping(6))]) + bytes(50))
        assert [raw.receive(), raw.receive()] == [Ok(5), Ok(6)]
        assert raw.last_words().code == Code.MALFORMED

    def test_nothing_is_done_for_who_has_not_said_hello(self, server: SessionServer) -> None:
        """Not even a ping, and buffers are not received."""
        raw = Raw(server, greets=False)
        raw.send(Ping(1))
        assert raw.last_words().code == Code.UNEXPECTED
        raw = Raw(server, greets=False)
        raw.sock.sendall(prefix(PutKv.kind, 1))
        assert raw.last_words().code == Code.TOO_LARGE

    def test_a_client_of_another_version_is_told_which_is_spoken(self, server: SessionServer) -> None:
        """In the error's message."""
        raw = Raw(server, greets=False)
        raw.send(Hello(VERSION + 1, VERSION + 5))
        words = raw.last_words()
        assert (words.code, f"{VERSION} here" in words.message) == (Code.VERSION, True)

    def test_a_truncated_frame_leaves_nothing(self, server: SessionServer, budget: DeviceBudget) -> None:
        """A client that dies in the middle of a buffer: what was reserved for it is free again."""
        raw = Raw(server)
        raw.send(Open(1, 100))
        opened = raw.receive()
        assert isinstance(opened, Opened)
        frame = b"".join(encode(PutKv(2, opened.session, 0, [1] * 100), [bytes(6400)]))
        raw.sock.sendall(frame[:-10])
        assert within(5, lambda: server.stats()["server_receiving_bytes"] == 6400)
        raw.sock.close()
        assert within(5, lambda: server.stats()["server_receiving_bytes"] == 0)
        assert within(5, lambda: budget.used_bytes == 0)

    def test_numbers_of_nothing_are_refused_one_by_one(self, server: SessionServer) -> None:
        """Well-formed frames about sessions that are not there: the connection lives."""
        raw = Raw(server)
        for message in (Turn(1, 99, [1], 1), Turn(2, 2**32 - 1, [1], 1)):
            raw.send(message)
            answer = raw.receive()
            assert isinstance(answer, Failed)
            assert (answer.request, answer.code) == (message.request, Code.NO_SESSION)
        raw.send(Ping(3))
        assert raw.receive() == Ok(3)
        raw.sock.close()


class TestSlowClients:
    def test_who_says_nothing_is_let_go(self, server: SessionServer) -> None:
        """No hello within the time."""
        words = Raw(server, greets=False).last_words()
        assert (words.code, "no hello" in words.message) == (Code.TIMEOUT, True)

    def test_who_sends_half_a_frame_is_let_go(self, server: SessionServer) -> None:
        """Whether it stops or sends a byte now and then."""
        with bystander(server):
            still, trickling = Raw(server), Raw(server)
            still.sock.sendall(prefix(Turn.kind, 0, 1000))
            trickling.sock.sendall(prefix(Turn.kind, 0, 1000))
            with contextlib.suppress(OSError):
                for _ in range(200):
                    trickling.sock.sendall(b"\x90")
                    time.sleep(0.01)
            for raw in (still, trickling):
                words = raw.last_words()
                assert (words.code, "half a frame" in words.message) == (Code.TIMEOUT, True)

    def test_who_is_idle_is_let_go_and_who_pings_is_not(self, server: SessionServer) -> None:
        """A running turn counts as company."""
        idle, lively, busy = Raw(server), Raw(server), Raw(server)
        busy.send(Open(1, 4000))
        assert isinstance(busy.receive(), Opened)
        busy.send(Turn(2, 1, [1], 2000))
        for _ in range(8):
            time.sleep(0.2)
            lively.send(Ping(1))
            assert lively.receive() == Ok(1)
        assert idle.last_words().code == Code.TIMEOUT
        assert busy.receive() is not None
        for raw in (lively, busy):
            raw.sock.close()

    def test_who_does_not_read_is_let_go(self, server: SessionServer, budget: DeviceBudget) -> None:
        """Logits of a turn pile up to the limit, then the connection ends and its session with it."""
        with bystander(server):
            raw = Raw(server)
            raw.send(Open(1, 4000))
            assert isinstance(raw.receive(), Opened)
            raw.send(Turn(2, 1, [1], 450, True))
            assert within(10, lambda: server.stats().get("server_ended_timeout", 0) == 1)
            raw.sock.close()
        assert within(5, lambda: budget.used_bytes == 0)

    def test_who_asks_without_reading_is_read_no_more(self, server: SessionServer) -> None:
        """Answers fill the kernel's buffers and a little of ours; then the client has to wait, then to go."""
        raw = Raw(server)
        raw.sock.settimeout(0.2)
        flood = b"".join(encode(Ping(1))) * 2000
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 50 * MIB:
                sent += raw.sock.send(flood)
        assert sent < 50 * MIB
        unsent = server.stats()["server_unsent_bytes"]
        assert isinstance(unsent, int)
        assert unsent < MIB
        assert within(5, lambda: server.stats()["server_connections"] == 0)
        raw.sock.close()


class TestTooMuch:
    def test_one_connection_too_many_is_told_so(self, server: SessionServer) -> None:
        """The others go on; when one leaves, there is room."""
        raws = [Raw(server) for _ in range(STRICT.max_connections)]
        words = Raw(server, greets=False).last_words()
        assert (words.code, "8 connections are open" in words.message) == (Code.OVERLOADED, True)
        raws[0].send(Ping(1))
        assert raws[0].receive() == Ok(1)
        for raw in raws:
            raw.sock.close()
        assert within(5, lambda: server.stats()["server_connections"] == 0)
        Raw(server).sock.close()

    def test_one_session_too_many_is_refused(self, server: SessionServer) -> None:
        """Also when they are asked for at once."""
        raw = Raw(server)
        raw.sock.sendall(b"".join(part for at in range(1, 6) for part in encode(Open(at, 10))))
        answers = [raw.receive() for _ in range(5)]
        refused = [one.code for one in answers if isinstance(one, Failed)]
        assert refused == [Code.TOO_MANY] * 2
        raw.sock.close()

    def test_all_connections_together_may_send_only_so_much(self, server: SessionServer) -> None:
        """Two frames of which one would fit: the second is refused when its length is declared."""
        one, two = Raw(server), Raw(server)
        head = b"".join(encode(PutKv(1, 1, 0, [1]), [bytes(600_000)]))[:-600_000]
        one.sock.sendall(head)
        assert within(5, lambda: server.stats()["server_receiving_bytes"] == 600_000)
        two.sock.sendall(head)
        assert two.last_words().code == Code.OVERLOADED
        one.sock.close()
        assert within(5, lambda: server.stats()["server_receiving_bytes"] == 0)

    def test_refused_keys_and_values_are_not_kept(self, server: SessionServer) -> None:
        """For a session that is not there, again and again."""
        raw = Raw(server)
        for at in range(1, 6):
            raw.send(PutKv(at, 1, 0, [1]), bytes(600_000))
            answer = raw.receive()
            assert isinstance(answer, Failed)
            assert answer.code == Code.NO_SESSION
        assert within(5, lambda: server.stats()["server_receiving_bytes"] == 0)
        raw.sock.close()


class TestBrokenEngine:
    def test_an_engine_that_breaks_in_a_step_ends_the_server_with_a_word(
        self, budget: DeviceBudget, tmp_path: Path
    ) -> None:
        """Nobody waits for tokens that never come, and memory returns."""

        class Breaking(Unhurried):
            def step(self) -> list:
                if self.stats()["tokens"] > 20:
                    raise RuntimeError("out of luck")
                return super().step()

        with serve_in_thread(lambda: Breaking(budget), Address.of_path(str(tmp_path / "s"))) as server:
            with SessionClient.connect(server.address, timeout_s=10) as client:
                stream = client.open(100).turn([1], max_new_tokens=50)
                with pytest.raises(
                    BackendBroken, match="stopping: the engine broke: RuntimeError: out of luck"
                ):
                    stream.whole()
            assert within(5, server.ended.is_set)
            assert within(5, lambda: budget.used_bytes == 0)

    def test_an_engine_that_fails_at_a_request_fails_that_request(
        self, budget: DeviceBudget, tmp_path: Path
    ) -> None:
        """Its bug is told, by name; the connection and the others live."""

        class Failing(Unhurried):
            def read_kv(self, session_id: str, start: int, most: int) -> None:  # type: ignore[override]
                raise ZeroDivisionError("by zero")

        address = Address.of_path(str(tmp_path / "s"))
        with (
            serve_in_thread(lambda: Failing(budget), address),
            SessionClient.connect(address, timeout_s=10) as client,
        ):
            session = client.open(100)
            with pytest.raises(BackendRejected, match="failed: the engine failed: ZeroDivisionError"):
                session.get_kv()
            assert session.generate([1], max_new_tokens=2).token_ids == continuation([1], 2)

    def test_an_engine_that_cannot_be_made_is_an_error_of_the_start(self, tmp_path: Path) -> None:
        """As it was raised; nothing listens."""

        def make() -> CountingEngine:
            raise UsageError("no such model")

        path = tmp_path / "s"
        with pytest.raises(UsageError, match="no such model"):
            serve_in_thread(make, Address.of_path(str(path))).__enter__()
        assert not path.exists()


class TestTroubleAtTheClient:
    """What a client sees of servers that are none, hang, or say no."""

    @contextlib.contextmanager
    def answering(self, path: Path, answer: bytes) -> Iterator[Address]:
        """Something that listens, says this, and then nothing."""
        address = Address.of_path(str(path))
        listener = listen(address)
        listener.sock.setblocking(True)
        taken: list[socket.socket] = []

        def accept() -> None:
            taken.append(listener.sock.accept()[0])
            taken[0].sendall(answer)

        thread = threading.Thread(target=accept)
        thread.start()
        yield address
        thread.join()
        taken[0].close()
        listener.close()

    def test_a_server_that_hangs_is_given_up(self, tmp_path: Path) -> None:
        """After the time that the caller gave."""
        with (
            self.answering(tmp_path / "s", b"") as address,
            pytest.raises(BackendTimeout, match=r"nothing within 0\.2 s"),
        ):
            SessionClient.connect(address, timeout_s=0.2)

    def test_a_server_of_something_else_is_told_apart(self, tmp_path: Path) -> None:
        """By the first bytes that it says."""
        with (
            self.answering(tmp_path / "s", b"220 mail ready\r\n") as address,
            pytest.raises(BackendBroken, match="begins with b'22'"),
        ):
            SessionClient.connect(address, timeout_s=5)

    def test_a_server_of_another_version_is_told_apart(self, tmp_path: Path) -> None:
        """Before anything of it is understood wrongly."""
        answer = PREFIX.pack(MAGIC, VERSION + 1, Welcome.kind, 0, 0)
        with (
            self.answering(tmp_path / "s", answer) as address,
            pytest.raises(BackendBroken, match=f"version {VERSION + 1}; spoken here is {VERSION}"),
        ):
            SessionClient.connect(address, timeout_s=5)

    @pytest.mark.parametrize("address", [Address(), None], ids=["tcp", "unix"])
    def test_who_sends_too_much_is_told_why_while_it_sends(
        self, budget: DeviceBudget, tmp_path: Path, address: Address | None
    ) -> None:
        """The refusal comes in the middle of the frame, and is read there."""
        address = address or Address.of_path(str(tmp_path / "s"))
        with (
            serve_in_thread(lambda: CountingEngine(budget), address, limits=STRICT) as server,
            SessionClient.connect(server.address, timeout_s=10) as client,
        ):
            session = client.open(100)
            with pytest.raises(
                BackendBroken, match="too_large: PutKv: buffer of 33554432 bytes; the limit is"
            ):
                session.put_kv(0, [1], bytes(2**25))


class TestLimits:
    @pytest.mark.parametrize("value", [-1, float("nan")])
    def test_a_limit_below_nothing_is_refused(self, value: float) -> None:
        """With its name."""
        with pytest.raises(UsageError, match="limit idle_timeout_s = "):
            Limits(idle_timeout_s=value)


class TestAddresses:
    def test_a_socket_of_a_dead_server_is_replaced(self, tmp_path: Path) -> None:
        """A file that nobody answers at."""
        path = tmp_path / "s"
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(path))
        dead.close()
        listener = listen(Address.of_path(str(path)))
        dial(listener.address, timeout_s=1).close()
        listener.close()
        assert not path.exists()

    def test_a_socket_of_a_living_server_is_not(self, tmp_path: Path) -> None:
        """It goes on listening."""
        address = Address.of_path(str(tmp_path / "s"))
        listener = listen(address)
        with pytest.raises(LaunchError, match="a server listens there"):
            listen(address)
        dial(address, timeout_s=1).close()
        listener.close()

    def test_a_file_that_is_no_socket_is_left_alone(self, tmp_path: Path) -> None:
        """It may be dear to somebody."""
        path = tmp_path / "s"
        path.write_text("dear")
        with pytest.raises(UsageError, match="is not a socket"):
            listen(Address.of_path(str(path)))
        assert path.read_text() == "dear"

    def test_a_server_does_not_delete_the_socket_of_its_successor(self, tmp_path: Path) -> None:
        """The file was replaced while it ran."""
        path = tmp_path / "s"
        first = listen(Address.of_path(str(path)))
        path.unlink()
        second = listen(Address.of_path(str(path)))
        first.close()
        assert path.exists()
        second.close()

    def test_only_its_owner_may_connect_to_a_unix_socket(self, tmp_path: Path) -> None:
        """From the first moment."""
        path = tmp_path / "s"
        listener = listen(Address.of_path(str(path)))
        assert path.stat().st_mode & 0o777 == 0o600
        listener.close()

    def test_a_port_that_is_taken_is_an_error(self) -> None:
        """With the address in it."""
        listener = listen(Address())
        with pytest.raises(LaunchError, match=str(listener.address)):
            listen(listener.address)
        listener.close()

    def test_where_nobody_listens_is_an_error_that_says_where(self, tmp_path: Path) -> None:
        """Path or port."""
        for address in (Address.of_path(str(tmp_path / "none")), Address(port=1)):
            with pytest.raises(BackendUnreachable, match=f"no session server at {address}"):
                SessionClient.connect(address, timeout_s=1)

    @pytest.mark.parametrize("text", ["", "5556", "host:", "host:0", "host:x", ":5", "host:70000", "unix:"])
    def test_an_address_that_is_none_is_refused(self, text: str) -> None:
        """With what it should be."""
        with pytest.raises(UsageError, match="give"):
            Address.parse(text)

    def test_a_path_too_long_for_a_socket_is_refused(self) -> None:
        """The kernel's own message would not say so."""
        with pytest.raises(UsageError, match="give 1 to 107"):
            Address.of_path("/" + "x" * 107)

    @pytest.mark.parametrize("text", ["unix:/tmp/x.sock", "localhost:5556", "[::1]:5556"])
    def test_an_address_is_written_as_it_is_read(self, text: str) -> None:
        """Both ways."""
        assert str(Address.parse(text)) == text
        assert Address.parse(text).is_loopback
