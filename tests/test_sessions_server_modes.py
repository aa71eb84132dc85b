"""The four modes over one server and a real (tiny) model: the same tokens, whatever crosses the wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from harness.errors import BackendRejected, BudgetError  # noqa: E402
from harness.hardware.budget import DeviceBudget  # noqa: E402
from harness.sessions.address import Address  # noqa: E402
from harness.sessions.client import ClientSession, SessionClient  # noqa: E402
from harness.sessions.codes import Code  # noqa: E402
from harness.sessions.core import Engine, Model, Turn  # noqa: E402
from harness.sessions.core.loading import random_llama  # noqa: E402
from harness.sessions.hosted import HostedEngine  # noqa: E402
from harness.sessions.server import SessionServer, serve_in_thread  # noqa: E402
from tests.hostile_sessions import talk_nonsense  # noqa: E402

PROMPT = [3, 14, 15, 92, 65, 35, 89, 79, 32, 38]
NUM_NEW = 12
CAPACITY_BYTES = 10**8


def tiny(seed: int = 0) -> Model:
    """Unpacked, so that its weights can cross."""
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "vocab_size": 300}
    donor = random_llama(seed, **shape, num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3)
    return Model.from_transformers("tiny", donor, packed=False)


def native(model: Model, token_ids: list[int], num_new: int) -> list[int]:
    """What the engine gives without a server."""
    with Engine(model, DeviceBudget.create(CAPACITY_BYTES)) as engine:
        engine.open("native", 256)
        engine.submit(Turn("native", token_ids, num_new))
        found = []
        while not engine.is_idle:
            found += [event.token_id for event in engine.step()]
        return found


@pytest.fixture(scope="module")
def expected() -> list[int]:
    return native(tiny(), PROMPT, NUM_NEW)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SessionServer]:
    budget = DeviceBudget.create(CAPACITY_BYTES)

    def make() -> HostedEngine:
        return HostedEngine(Engine(tiny(), budget), takes_weights=True)

    with serve_in_thread(make, Address.of_path(str(tmp_path / "s"))) as server:
        yield server
    assert budget.used_bytes == 0
    budget.remove()


@pytest.fixture
def client(server: SessionServer) -> Iterator[SessionClient]:
    with SessionClient.connect(server.address, timeout_s=60) as client:
        yield client


def weights_of(model: Model) -> dict[str, Any]:
    return {str(at): tensor.numpy().data for at, tensor in enumerate(model.tensors())}


class Held:
    """Keys and values on the client, a row per token."""

    def __init__(self, client: SessionClient) -> None:
        self.row_bytes = client.welcome.kv_token_bytes
        self.rows = bytearray()
        self.token_ids: list[int] = []

    def take(self, session: ClientSession, start: int) -> None:
        kv = session.get_kv(start)
        self.rows[start * self.row_bytes :] = kv.rows
        self.token_ids[start:] = kv.token_ids


def decode_with_crossing(
    client: SessionClient, *, weights: dict[str, Any] | None, is_delta: bool
) -> list[int]:
    """A token per turn; before it everything goes up, after it comes back."""
    held, found = Held(client), []
    for at in range(NUM_NEW):
        session = client.open(64)
        if weights is not None:
            client.put_weights(weights)
        if at:
            session.put_kv(0, held.token_ids, bytes(held.rows))
        token_ids = found[-1:] if at else PROMPT
        found += session.generate(token_ids, max_new_tokens=1).token_ids
        held.take(session, len(held.token_ids) if is_delta else 0)
        session.close()
    return found


class TestModes:
    def test_only_token_ids_cross(self, client: SessionClient, expected: list[int]) -> None:
        """Full: a turn, and what comes of it."""
        assert client.open(64).generate(PROMPT, max_new_tokens=NUM_NEW).token_ids == expected

    @pytest.mark.parametrize("is_delta", [True, False], ids=["delta", "both-ways"])
    def test_keys_and_values_cross(self, client: SessionClient, expected: list[int], is_delta: bool) -> None:
        """Partially aware: a fresh session for every token, nothing stays on the server."""
        assert decode_with_crossing(client, weights=None, is_delta=is_delta) == expected

    def test_weights_cross_too(self, client: SessionClient, expected: list[int]) -> None:
        """Semantic-blind: and the server really computes with what it was sent."""
        weights = weights_of(tiny())
        sent = client.bytes_sent
        assert decode_with_crossing(client, weights=weights, is_delta=False) == expected
        assert client.bytes_sent - sent > NUM_NEW * sum(view.nbytes for view in weights.values())
        other = tiny(seed=1)
        client.put_weights(weights_of(other))
        generated = client.open(64).generate(PROMPT, max_new_tokens=NUM_NEW)
        assert generated.token_ids == native(other, PROMPT, NUM_NEW) != expected

    def test_a_weight_of_another_size_changes_nothing(
        self, client: SessionClient, expected: list[int]
    ) -> None:
        """Even those that were right in the same frame."""
        weights = weights_of(tiny(seed=1))
        weights["1"] = bytes(7)
        with pytest.raises(BackendRejected, match=r"weight 1 has \d+ bytes, not 7"):
            client.put_weights(weights)
        with pytest.raises(BackendRejected, match="weight '999'"):
            client.put_weights({"999": bytes(4)})
        assert client.open(64).generate(PROMPT, max_new_tokens=NUM_NEW).token_ids == expected

    def test_logits_cross_as_they_are(self, client: SessionClient) -> None:
        """The token chosen has the largest, of as many as there are words."""
        for token in client.open(64).generate(PROMPT, max_new_tokens=4, want_logits=True).tokens:
            assert token.logits is not None
            assert (len(token.logits), int(token.logits.argmax())) == (300, token.token_id)


def test_sessions_decoded_together_are_as_each_alone(client: SessionClient) -> None:
    """Sixteen at once over one connection; prompts of all lengths."""
    prompts = [[(7 * at + k) % 300 for k in range(1, 3 + at)] for at in range(16)]
    model = tiny()
    sessions = [client.open(64) for _ in prompts]
    streams = [s.turn(p, max_new_tokens=20) for s, p in zip(sessions, prompts, strict=True)]
    found = [[token.token_id for token in stream] for stream in streams]
    assert found == [native(model, prompt, 20) for prompt in prompts]


def test_well_formed_nonsense_harms_nobody_else(
    server: SessionServer, client: SessionClient, expected: list[int]
) -> None:
    """Any bits as keys and values, turns and cancels in any order: the engine lives, and others are right."""
    codes: set[int] = set()
    for seed in range(4):
        stream = client.open(64).turn(PROMPT, max_new_tokens=NUM_NEW)
        codes |= talk_nonsense(server.address, seed, num=250, kv_token_bytes=client.welcome.kv_token_bytes)
        assert stream.whole().token_ids == expected
    assert {Code.BAD_REQUEST, Code.NO_SESSION, Code.BUSY} <= codes
    assert not codes & {Code.FAILED, Code.MALFORMED, Code.STOPPING}
    assert server.broken is None


def test_a_server_that_takes_no_weights_says_so(tmp_path: Path) -> None:
    """What one client sends would change the model of the others."""
    budget = DeviceBudget.create(CAPACITY_BYTES)
    address = Address.of_path(str(tmp_path / "s"))
    with (
        serve_in_thread(lambda: HostedEngine(Engine(tiny(), budget)), address),
        SessionClient.connect(address) as client,
    ):
        assert not client.welcome.takes_weights
        with pytest.raises(BackendRejected, match="not_offered: this server takes no weights"):
            client.put_weights(weights_of(tiny()))
    budget.remove()


def test_a_short_budget_moves_sessions_out_and_keeps_their_tokens(tmp_path: Path) -> None:
    """Room for two slabs, five sessions: each goes on as if it had been alone."""
    model = tiny()
    slab_bytes = 64 * model.slab_shape.token_bytes
    budget = DeviceBudget.create(model.weight_bytes + 2 * slab_bytes + slab_bytes // 2)
    address = Address.of_path(str(tmp_path / "s"))
    with (
        serve_in_thread(lambda: HostedEngine(Engine(model, budget)), address) as server,
        SessionClient.connect(server.address, timeout_s=60) as client,
    ):
        sessions = [client.open(64) for _ in range(5)]
        texts = [[at + 1, 2, 3] for at in range(5)]
        dones = []
        for _ in range(3):
            for session, text in zip(sessions, texts, strict=True):
                generated = session.generate([9], max_new_tokens=3) if len(text) > 3 else None
                generated = generated or session.generate(text, max_new_tokens=3)
                text += [9] * (len(text) > 3) + generated.token_ids
                dones.append(generated.done)
        for text in texts:
            assert text[-3:] == native(tiny(), text[:-3], 3)
        moved = [(done.restored_tokens or 0) + (done.recomputed_tokens or 0) for done in dones]
        assert sum(moved) > 0
        with pytest.raises(BudgetError):
            client.open(1024)
    budget.remove()
