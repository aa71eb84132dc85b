"""Two hundred sessions and everything that goes wrong at once: no token lost or crossed, and nothing kept."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from harness.errors import BackendBroken, BackendRejected, BudgetError
from harness.hardware.budget import Allocation, DeviceBudget
from harness.sessions.address import Address, dial
from harness.sessions.client import SessionClient
from harness.sessions.codes import Code
from harness.sessions.counting import CountingEngine, continuation
from harness.sessions.limits import Limits
from harness.sessions.messages import Hello, PutKv, Turn
from harness.sessions.protocol import encode
from harness.sessions.server import serve_in_thread
from tests.hostile_sessions import talk_nonsense
from tests.session_servers import within

NUM_SESSIONS = 200
NUM_WORKERS = 8
TOKENS = 120
TOKEN_BYTES = 64
LIMITS = Limits(frame_timeout_s=60, hello_timeout_s=60)


class Unhurried(CountingEngine):
    def step(self) -> list:
        time.sleep(0.0005)
        return super().step()


class Life:
    """A session through its turns: it checks every token against the definition."""

    def __init__(self, address: Address, seed: int) -> None:
        self._address = address
        self._random = random.Random(seed)
        self._seed = seed
        self._history: list[int] = []
        self._is_left = self._random.random() < 0.2
        """To time out, as by a client that never comes back."""
        self.num_tokens = self.num_returns = self.num_refusals = 0

    def live(self) -> None:
        client = SessionClient.connect(self._address, timeout_s=60)
        try:
            session = self._open(client)
            for _ in range(3):
                token_ids = [self._seed % 1000, self._random.randrange(1000)]
                num = self._random.randrange(1, 25)
                stream = session.turn(token_ids, max_new_tokens=num)
                got: list[int] = []
                breaks_at = None if self._is_left else self._random.choice([None, 0, 1, num // 2])
                while (token := None if breaks_at == len(got) else stream.next()) is not None:
                    got.append(token.token_id)
                if stream.done is None:
                    # Gone without a word, in the middle of the turn; then back for the rest.
                    client.close()
                    client = SessionClient.connect(self._address, timeout_s=60)
                    session = client.resume(session.secret, turn=stream.number, received=len(got))
                    if session.last_turn != stream.number:
                        # The server had not yet read the turn when the connection ended: it says so.
                        assert not got
                        stream = session.turn(token_ids, max_new_tokens=num)
                        got += stream.whole().token_ids
                    else:
                        got += session.rest_of_turn().whole().token_ids
                    self.num_returns += 1
                self._history += token_ids
                assert got == continuation(self._history, num), f"session {self._seed}"
                self._history += got
                self.num_tokens += num
            if not self._is_left:
                session.close()
        finally:
            client.close()

    def _open(self, client: SessionClient):
        while True:
            try:
                return client.open(TOKENS, linger_s=1 if self._is_left else 60)
            except BudgetError:
                self.num_refusals += 1
                time.sleep(self._random.uniform(0.005, 0.03))


def vandalise(address: Address, ends: threading.Event) -> None:
    """Half-sent frames, garbage, and connections that end at once, as long as the others live."""
    rnd = random.Random(1)
    hello = b"".join(encode(Hello()))
    turn = b"".join(encode(Turn(1, 1, list(range(50)), 5)))
    kv = b"".join(encode(PutKv(1, 1, 0, [1] * 500), [bytes(500 * TOKEN_BYTES)]))
    while not ends.wait(0.01):
        sock = dial(address, timeout_s=60)
        stream = rnd.choice(
            [turn[:9], hello + turn[:-3], hello + rnd.randbytes(300), hello + kv[:20_000], b""]
        )
        try:
            sock.sendall(stream)
            if rnd.random() < 0.1:
                time.sleep(0.05)
        except OSError:
            pass
        sock.close()


KILLED_CLIENT = """
import sys
from harness.sessions.address import Address
from harness.sessions.client import SessionClient
client = SessionClient.connect(Address.parse(sys.argv[1]))
streams = [client.open(120).turn([at], max_new_tokens=100) for at in range(4)]
print(streams[0].next().token_id, flush=True)
while True:
    streams[0].next()
    streams = [client.open(1).turn([1], max_new_tokens=1)] if streams[0].done else streams
"""


def hold_until_refused(held: Allocation, budget: DeviceBudget) -> None:
    """Leave no room until every worker can have been told so, however slow the machine is."""
    with held:
        within(lambda: budget.num_refusals >= NUM_WORKERS)


def run_lives(lives: list[Life]) -> list[BaseException]:
    """Live them all, a few at a time; what went wrong."""
    waiting, wrong = list(lives), []

    def work() -> None:
        while waiting:
            try:
                life = waiting.pop()
                life.live()
            except IndexError:
                return
            except BaseException as exc:
                wrong.append(exc)

    workers = [threading.Thread(target=work) for _ in range(NUM_WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return wrong


@pytest.mark.parametrize("transport", ["unix", pytest.param("tcp", marks=pytest.mark.nightly)])
def test_nothing_is_lost_or_crossed_or_kept_whatever_goes_wrong(transport: str, tmp_path: Path) -> None:
    """Sessions that break off and return, vandals, a killed client and a full budget, all at once."""
    address = Address.of_path(str(tmp_path / "s")) if transport == "unix" else Address()
    budget = DeviceBudget.create(24 * TOKENS * TOKEN_BYTES)
    with serve_in_thread(lambda: Unhurried(budget), address, limits=LIMITS) as server:
        killed = subprocess.Popen(
            [sys.executable, "-c", KILLED_CLIENT, str(server.address)], stdout=subprocess.PIPE, text=True
        )
        assert killed.stdout is not None
        assert int(killed.stdout.readline()) == continuation([0], 1)[0]
        held = budget.allocate(budget.free_bytes, owner="the rest")
        rest = threading.Thread(target=hold_until_refused, args=(held, budget))
        rest.start()
        ends = threading.Event()
        vandal = threading.Thread(target=vandalise, args=(server.address, ends))
        vandal.start()
        killer = threading.Timer(0.05, os.kill, (killed.pid, signal.SIGKILL))
        killer.start()
        lives = [Life(server.address, seed) for seed in range(NUM_SESSIONS)]
        wrong = run_lives(lives)
        killer.join()
        rest.join()
        ends.set()
        vandal.join()
        killed.communicate()
        assert wrong == []
        assert sum(life.num_returns for life in lives) > 50
        assert sum(life.num_refusals for life in lives) > 0
        with SessionClient.connect(server.address) as client:
            tokens = sum(life.num_tokens for life in lives)
            made = client.stats()["engine_tokens"]
            assert isinstance(made, int)
            assert made >= tokens
        assert within(lambda: budget.used_bytes == 0)
        assert within(lambda: server.stats()["server_connections"] == 0)
        stats = server.stats()
        kept = ("sessions", "turns_running", "receiving_bytes", "unsent_bytes")
        assert {name: stats[f"server_{name}"] for name in kept} == dict.fromkeys(kept, 0)
        with SessionClient.connect(server.address) as client:
            assert client.open(TOKENS).generate([1], max_new_tokens=5).token_ids == continuation([1], 5)
    budget.remove()


def test_memory_and_descriptors_return_to_where_they_were(tmp_path: Path) -> None:
    """After hundreds of sessions that came and broke off, the process is as large as after a hundred."""
    budget = DeviceBudget.create(50 * TOKENS * TOKEN_BYTES)
    process = psutil.Process()
    address = Address.of_path(str(tmp_path / "s"))

    def visit(num: int) -> None:
        for at in range(num):
            with SessionClient.connect(address, timeout_s=60) as client:
                session = client.open(TOKENS)
                session.generate([at % 1000] * 100, max_new_tokens=1)
                kv = session.get_kv()
                session.put_kv(0, kv.token_ids, kv.rows)
                session.turn([1], max_new_tokens=10)

    with serve_in_thread(lambda: CountingEngine(budget), address) as server:
        visit(100)
        assert within(lambda: server.stats()["server_connections"] == 0)
        gc.collect()
        files, memory_bytes = process.num_fds(), process.memory_info().rss
        visit(250)
        assert within(lambda: server.stats()["server_connections"] == 0)
        assert within(lambda: budget.used_bytes == 0)
        gc.collect()
        assert process.num_fds() <= files
        # A session's rows are 6.4 kB and its scratch 64 kB: kept, they would be 17 MB.
        assert process.memory_info().rss - memory_bytes < 8e6
    budget.remove()


def test_well_formed_nonsense_harms_nobody_else(tmp_path: Path) -> None:
    """Right frames with wrong numbers, a few thousand of them; the tokens of another session stay right."""
    budget = DeviceBudget.create(500 * TOKENS * TOKEN_BYTES)
    address = Address.of_path(str(tmp_path / "s"))
    with (
        serve_in_thread(lambda: Unhurried(budget), address) as server,
        SessionClient.connect(address, timeout_s=60) as client,
    ):
        stream = client.open(4000).turn([5], max_new_tokens=1000)
        codes: set[int] = set()
        for seed in range(12):
            codes |= talk_nonsense(address, seed, num=250, kv_token_bytes=TOKEN_BYTES)
        assert {Code.BAD_REQUEST, Code.NO_SESSION, Code.BUSY} <= codes
        assert not codes & {Code.FAILED, Code.MALFORMED, Code.STOPPING}
        assert stream.whole().token_ids == continuation([5], 1000)
        client.close()
        assert within(lambda: budget.used_bytes == 0)
        assert server.broken is None
    budget.remove()


def test_a_client_that_is_refused_can_go_on(tmp_path: Path) -> None:
    """A full budget, a wrong turn, then a right one: the connection is the same."""
    budget = DeviceBudget.create(TOKENS * TOKEN_BYTES)
    with (
        serve_in_thread(lambda: CountingEngine(budget), Address.of_path(str(tmp_path / "s"))) as server,
        SessionClient.connect(server.address) as client,
    ):
        session = client.open(TOKENS)
        for _ in range(3):
            with pytest.raises(BudgetError):
                client.open(1)
            with pytest.raises(BackendRejected):
                session.generate([1], max_new_tokens=TOKENS)
        assert session.generate([1], max_new_tokens=5).token_ids == continuation([1], 5)
    with pytest.raises(BackendBroken):
        client.ping()
    budget.remove()
