"""Drawn tokens hang on text, temperature, truncation and seed, and on nothing else that runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("msgspec")

from harness.errors import BackendRejected, UsageError  # noqa: E402
from harness.hardware import DeviceBudget  # noqa: E402
from harness.sessions.address import Address  # noqa: E402
from harness.sessions.client import SessionClient  # noqa: E402
from harness.sessions.core import Engine, Model, Turn  # noqa: E402
from harness.sessions.core.choosing import Draws, chosen  # noqa: E402
from harness.sessions.core.loading import random_llama  # noqa: E402
from harness.sessions.counting import CountingEngine  # noqa: E402
from harness.sessions.hosted import HostedEngine  # noqa: E402
from harness.sessions.sampling import Sampling  # noqa: E402
from harness.sessions.server import serve_in_thread  # noqa: E402

SHAPE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 300,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
WARM = Sampling(0.8, 0.95, 7)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_transformers("tiny", random_llama(0, **SHAPE))


@pytest.fixture
def engine(model: Model) -> Iterator[Engine]:
    budget = DeviceBudget.create(10**8)
    with Engine(model, budget, max_session_tokens=256) as engine:
        yield engine
    budget.remove()


def decode(engine: Engine, *turns: tuple[str, Sampling | None]) -> dict[str, list[int]]:
    """All at once, each in a session of its own, of the same prompt; the sessions are closed again."""
    found: dict[str, list[int]] = {name: [] for name, _ in turns}
    for name, sampling in turns:
        engine.open(name, 64)
        engine.submit(Turn(name, [5, 6, 7], 24, sampling=sampling))
    while not engine.is_idle:
        for event in engine.step():
            found[event.session_id].append(event.token_id)
    for name, _ in turns:
        engine.close(name)
    return found


def test_a_sessions_draws_are_its_own_whoever_is_in_the_batch(engine: Engine) -> None:
    """Beside greedy ones, other seeds and the same seed; and greedy ones stay what they are."""
    alone, greedy = decode(engine, ("a", WARM))["a"], decode(engine, ("a", None))["a"]
    others = [(f"s{seed}", Sampling(1.0, 1.0, seed)) for seed in range(6)]
    found = decode(engine, ("g", None), *others[:3], ("a", WARM), *others[3:], ("twin", WARM))
    assert found["a"] == found["twin"] == alone
    assert found["g"] == greedy != alone
    assert len({tuple(tokens) for tokens in found.values()}) == len(found) - 1


def test_a_temperature_of_zero_is_greedy_and_no_room_for_others_is_too(engine: Engine) -> None:
    """The likeliest token alone reaches a small enough share."""
    greedy = decode(engine, ("a", None))["a"]
    assert decode(engine, ("a", Sampling(0.0, 0.5, 3)))["a"] == greedy
    assert decode(engine, ("a", Sampling(1.0, 1e-9, 3)))["a"] == greedy


def test_draws_follow_the_distribution_and_its_truncation() -> None:
    """Shares of 60, 30 and 10 %: the last is beyond a top_p of 0.8, and half the heat sharpens the rest."""
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log()

    def shares(sampling: Sampling) -> list[float]:
        draws = Draws.of(sampling)
        counts = Counter(chosen(logits, [draws])[0] for _ in range(2000))
        return [counts[token] / 2000 for token in range(3)]

    assert shares(Sampling(1.0)) == pytest.approx([0.6, 0.3, 0.1], abs=0.05)
    assert shares(Sampling(1.0, 0.8)) == pytest.approx([2 / 3, 1 / 3, 0.0], abs=0.05)
    assert shares(Sampling(0.5)) == pytest.approx([36 / 46, 9 / 46, 1 / 46], abs=0.05)


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        (Sampling(-0.1), "temperature -0.1; give 0 to 100"),
        (Sampling(float("nan")), "temperature nan; give"),
        (Sampling(1.0, 0.0), "top_p 0.0; give more than 0"),
        (Sampling(1.0, 1.5), "top_p 1.5; give"),
        (Sampling(1.0, 1.0, -1), "seed -1; give 0 to"),
    ],
)
def test_sampling_that_makes_no_sense_is_refused(engine: Engine, sampling: Sampling, words: str) -> None:
    """Before anything is queued."""
    engine.open("a", 64)
    with pytest.raises(UsageError, match=words):
        engine.submit(Turn("a", [1], 1, sampling=sampling))
    assert engine.is_idle


def test_a_client_draws_through_the_server_and_hears_what_is_wrong(model: Model, tmp_path: Path) -> None:
    """The same seed, the same tokens, also beside another session; a refusal leaves the session as it was."""
    budget = DeviceBudget.create(10**8)
    with (
        serve_in_thread(
            lambda: HostedEngine(Engine(model, budget, max_session_tokens=64)),
            Address.of_path(str(tmp_path / "s")),
        ) as server,
        SessionClient.connect(server.address, timeout_s=60) as client,
    ):
        one, two, plain = (client.open(64) for _ in range(3))
        with pytest.raises(BackendRejected, match=r"top_p 2\.0; give"):
            one.generate([5, 6, 7], max_new_tokens=8, sampling=Sampling(1.0, 2.0))
        streams = [
            session.turn([5, 6, 7], max_new_tokens=12, sampling=sampling)
            for session, sampling in ((one, WARM), (two, WARM), (plain, None))
        ]
        first, second, greedy = (stream.whole().token_ids for stream in streams)
    assert first == second != greedy
    budget.remove()


def test_an_engine_that_counts_refuses_to_draw(tmp_path: Path) -> None:
    """It has no distribution."""
    budget = DeviceBudget.create(10**6)
    with (
        serve_in_thread(lambda: CountingEngine(budget), Address.of_path(str(tmp_path / "s"))) as server,
        SessionClient.connect(server.address, timeout_s=60) as client,
        pytest.raises(BackendRejected, match="nothing to draw from"),
    ):
        client.open(16).generate([1], max_new_tokens=2, sampling=WARM)
    budget.remove()
