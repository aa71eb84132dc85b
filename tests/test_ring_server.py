"""A session server of several models: concurrent clients, refusals, failures, peers that know of one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BackendRejected, BudgetError, LaunchError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.residency.collate import CollatingQueue
from harness.sessions.aclient import AsyncSessionClient
from harness.sessions.address import Address
from harness.sessions.client import SessionClient
from harness.sessions.codes import Code
from harness.sessions.counting import CountingEngine, continuation
from harness.sessions.launch import ServerProcess
from harness.sessions.messages import Failed, Open, Opened
from harness.sessions.ring.engine import RingEngine
from harness.sessions.ring.loading import load_resident
from harness.sessions.ring.minis import MINIS
from harness.sessions.ring.serve import greedy
from harness.sessions.server import SessionServer, serve_in_thread
from tests.raw_sessions import Raw
from tests.session_servers import within
from tests.tiny_ring import NAMES, VOCAB_SIZE, LaneFailingFor, bytes_of, ring
from tests.tiny_ring import continuation as ring_continuation

ONE = max(bytes_of(name) for name in NAMES) + 64
KV_BYTES = 1 << 20
Talk = tuple[str, list[list[int]], list[list[int]]]
"""A model, what was said, what was answered."""


@pytest.fixture
def engine() -> Iterator[RingEngine]:
    """Tiny models, an arena for one of them, a lane that can be broken."""
    with ring(ONE, KV_BYTES, lane_kind=LaneFailingFor, queue=CollatingQueue(max_wait_s=0)) as engine:
        yield engine


@pytest.fixture
def server(engine: RingEngine, tmp_path: Path) -> Iterator[SessionServer]:
    with serve_in_thread(lambda: engine, Address.of_path(str(tmp_path / "s"))) as server:
        yield server


@pytest.fixture
def client(server: SessionServer) -> Iterator[SessionClient]:
    with SessionClient.connect(server.address, timeout_s=60) as client:
        yield client


async def talk(address: Address, seed: int, num_sessions: int) -> list[Talk]:
    """A closed-loop client: sessions of changing models, two turns each."""
    draw = random.Random(seed)
    found: list[Talk] = []
    async with await AsyncSessionClient.connect(address) as client:
        for _ in range(num_sessions):
            model = draw.choice(client.welcome.models)
            session = await client.open(64, model=model.name)
            said, answered = [], []
            for num_tokens in (8, 3):
                said.append([draw.randrange(model.vocab_size) for _ in range(num_tokens)])
                answered.append((await session.turn(said[-1], max_new_tokens=4).whole()).token_ids)
            await session.close()
            found.append((model.name, said, answered))
    return found


async def talks(address: Address, num_clients: int, num_sessions: int) -> list[Talk]:
    every = await asyncio.gather(*(talk(address, seed, num_sessions) for seed in range(num_clients)))
    return [one for talks in every for one in talks]


class TestProcess:
    """The minis in a process of its own, behind a declared link."""

    def test_eight_clients_on_three_models_get_the_resident_reference_s_tokens(self) -> None:
        """Every turn completes; nothing is copied out; a client that leaves in the midst takes its turn."""
        arguments = ["--models", ",".join(MINIS), "--arena-mb", "20", "--link-mb-s", "2000",
                     "--max-wait-s", "0.05", "--budget-gb", "0.06"]  # fmt: skip
        with ServerProcess(arguments) as process:
            leaver = SessionClient.connect(process.address)
            left = leaver.open(2000, model=MINIS[1]).turn([1], max_new_tokens=1500)
            left.next()
            leaver.close()
            found = asyncio.run(talks(process.address, 8, 2))
            with SessionClient.connect(process.address) as client:
                assert within(lambda: client.stats()["server_sessions"] == 0)
                stats = client.stats()
                # 57 MB, and 40 are left beside the arena.
                with pytest.raises(BudgetError, match=r"bytes asked, \d+ of 60000000 are free"):
                    client.open(4096, model="llama-mini")
        assert len(found) == 16
        assert {model for model, _, _ in found} == set(MINIS)
        models = {name: load_resident(name) for name in MINIS}
        for model, said, answered in found:
            text: list[int] = []
            for new, answer in zip(said, answered, strict=True):
                text += new
                assert answer == list(greedy(models[model], text, 4)), model
                text += answer
        assert stats["engine_finished_turns"] == 32
        assert stats["engine_num_sessions"] == 0
        assert stats["engine_num_switches"] > 3
        assert stats["engine_bytes_out"] == 0
        assert stats["engine_turns_undone"] == 0

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--models", "llama-mini"], "--models needs --arena-mb"),
            (["--arena-mb", "25"], "--arena-mb is for several models; name them with --models A,B,C"),
            (["--models", "a,a", "--arena-mb", "25"], "give names with commas between, each once"),
            (["--models", "a,b", "--arena-mb", "25", "--popularity", "1"], "--popularity has 1 shares"),
            (["--models", "a", "--arena-mb", "25", "--allow-weights"], "--allow-weights is for one model"),
        ],
    )
    def test_options_that_make_no_sense_together_are_refused(
        self, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Before a model is loaded, in one line."""
        from harness.sessions.__main__ import main

        try:
            status = main(["serve", "--port", "0", *arguments])
        except SystemExit as exc:
            status = int(str(exc.code))
        assert status == 2
        assert says in capsys.readouterr().err

    @pytest.mark.nightly
    def test_a_model_too_large_for_the_arena_does_not_start_the_server(self) -> None:
        """The last words say what it needs."""
        with (
            ServerProcess(["--models", "llama-mini", "--arena-mb", "5", "--arm", "lru"]) as process,
            pytest.raises(LaunchError, match="give the arena 12548160, or use home-slot, which streams it"),
        ):
            _ = process.address


class TestModels:
    """What a client may ask for."""

    def test_clients_are_told_of_the_models(self, client: SessionClient) -> None:
        """With their vocabularies; the first stands where one did."""
        assert [one.name for one in client.welcome.models] == list(NAMES)
        assert client.welcome.model == NAMES[0]
        assert {one.vocab_size for one in client.welcome.models} == {VOCAB_SIZE}
        assert client.welcome.kv_token_bytes == 0

    def test_a_session_has_the_model_that_it_asks_for(self, client: SessionClient) -> None:
        """And the first when it does not ask; all at once."""
        asked = {"": NAMES[0], **{name: name for name in NAMES}}
        streams = {
            (model, is_by): client.open(40, model=model).turn([3, 4], max_new_tokens=6)
            for model, is_by in asked.items()
        }
        for (_, model), stream in streams.items():
            assert stream.whole().token_ids == ring_continuation(model, [3, 4], 6)

    def test_a_model_that_is_not_served_is_refused_by_name(self, server: SessionServer) -> None:
        """By the client, who was told of them, and by the server, should a client ask all the same."""
        client = SessionClient.connect(server.address, timeout_s=60)
        with client, pytest.raises(UsageError, match="'dan' is not served there; ask for ada, ben, cyd"):
            client.open(40, model="dan")
        raw = Raw(server)
        raw.send(Open(1, 40, 0, "dan"))
        failed = raw.receive()
        assert isinstance(failed, Failed)
        assert (failed.request, failed.code) == (1, Code.BAD_REQUEST)
        assert failed.message == "model 'dan' is not served here; ask for ada, ben, cyd"
        raw.send(Open(2, 40))
        assert isinstance(raw.receive(), Opened)
        raw.sock.close()

    def test_a_server_of_one_model_tells_of_no_others(self, tmp_path: Path) -> None:
        """Its own may be asked for by name, and nothing else, by either client."""
        budget = DeviceBudget.create(64_000)
        where = Address.of_path(str(tmp_path / "s"))
        with serve_in_thread(lambda: CountingEngine(budget), where) as server:
            with SessionClient.connect(server.address, timeout_s=60) as client:
                assert client.welcome.models == []
                session = client.open(40, model="counting")
                assert session.generate([1], max_new_tokens=3).token_ids == continuation([1], 3)

            async def ask() -> None:
                async with await AsyncSessionClient.connect(server.address) as client:
                    with pytest.raises(UsageError, match="model 'ada' is not served there; ask for counting"):
                        await client.open(40, model="ada")

            asyncio.run(ask())
            raw = Raw(server)
            raw.send(Open(1, 40, 0, "ada"))
            failed = raw.receive()
            assert isinstance(failed, Failed)
            assert failed.message == "model 'ada' is not served here; ask for counting"
            raw.sock.close()
        budget.remove()

    def test_keys_and_values_do_not_cross(self, client: SessionClient) -> None:
        """The server says why; the session lives."""
        session = client.open(40)
        answer = session.generate([1, 2], max_new_tokens=2).token_ids
        with pytest.raises(BackendRejected, match="not_offered: keys and values do not cross where several"):
            session.get_kv()
        with pytest.raises(BackendRejected, match="they do not cross on this server"):
            session.put_kv(0, [1], b"")
        again = session.generate([3], max_new_tokens=2).token_ids
        assert again == ring_continuation(NAMES[0], [1, 2, *answer, 3], 2)


class TestFailures:
    """A copy that fails is one model's trouble."""

    def test_a_turn_that_cannot_go_on_is_refused_and_has_not_happened(
        self, engine: RingEngine, client: SessionClient
    ) -> None:
        """Its client is told why; the others' turns complete; then its session goes on."""
        lane: Any = engine.arena.lane
        sessions = {name: client.open(60, model=name) for name in NAMES}
        before = {name: one.generate([1], max_new_tokens=2).token_ids for name, one in sessions.items()}
        lane.fails = {"ben"}
        streams = {name: one.turn([2], max_new_tokens=9) for name, one in sessions.items()}
        with pytest.raises(BackendRejected, match=r"failed: ben: chunk \d.*Input/output error"):
            streams["ben"].whole()
        for name in ("ada", "cyd"):
            expected = ring_continuation(name, [1, *before[name], 2], 9)
            assert streams[name].whole().token_ids == expected
        lane.fails = set()
        expected = ring_continuation("ben", [1, *before["ben"], 2], 3)
        assert sessions["ben"].generate([2], max_new_tokens=3).token_ids == expected
        assert client.stats()["server_turns_undone"] == 1

    def test_who_resumes_a_session_is_told_that_its_turn_failed(
        self, engine: RingEngine, server: SessionServer
    ) -> None:
        """The turn went on when its client left, and failed with nobody there."""
        lane: Any = engine.arena.lane
        first = SessionClient.connect(server.address, timeout_s=60)
        session = first.open(60, linger_s=60, model="ben")
        first.open(60, model="ada").generate([1], max_new_tokens=1)
        lane.fails = {"ben"}
        number = session.turn([2], max_new_tokens=9).number
        first.ping()
        first.close()
        with SessionClient.connect(server.address, timeout_s=60) as second:
            assert within(lambda: second.stats().get("server_turns_undone") == 1)
            resumed = second.resume(session.secret, turn=number)
            with pytest.raises(BackendRejected, match="Input/output error"):
                resumed.rest_of_turn().whole()
            lane.fails = set()
            expected = ring_continuation("ben", [2], 3)
            assert resumed.generate([2], max_new_tokens=3).token_ids == expected

    def test_a_cancelled_turn_of_one_model_leaves_the_others(self, client: SessionClient) -> None:
        """In the midst of all three."""
        sessions = {name: client.open(200, model=name) for name in NAMES}
        streams = {name: one.turn([5], max_new_tokens=150) for name, one in sessions.items()}
        streams["ada"].next()
        streams["ada"].cancel()
        assert streams["ada"].whole().done.reason == "cancelled"
        for name in ("ben", "cyd"):
            assert streams[name].whole().token_ids == ring_continuation(name, [5], 150)
        assert sessions["ada"].generate([6], max_new_tokens=4).token_ids == ring_continuation("ada", [6], 4)
