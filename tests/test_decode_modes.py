"""The modes of decoding over a server in a process of its own: equal tokens, counted bytes, and troubles."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("msgspec")

from fixtures.decode_gpu import Steps, engine_counters  # noqa: E402
from harness.errors import BackendBroken, BackendRejected, BudgetError, LaunchError  # noqa: E402
from harness.hardware import DeviceBudget  # noqa: E402
from harness.sessions.client import SessionClient  # noqa: E402
from harness.sessions.core import (  # noqa: E402
    Engine,
    Stats,
    load,
)
from harness.sessions.core.loading import random_llama  # noqa: E402
from harness.sessions.core.scheduler import Counts  # noqa: E402
from harness.sessions.launch import ServerProcess  # noqa: E402
from harness.sessions.modes.base import Decoded, Mode  # noqa: E402
from harness.sessions.modes.batched import Batch  # noqa: E402
from harness.sessions.modes.full import Full  # noqa: E402
from harness.sessions.modes.native import Native  # noqa: E402
from harness.sessions.modes.partially_aware import PartiallyAware  # noqa: E402
from harness.sessions.modes.semantic_blind import SemanticBlind  # noqa: E402
from harness.sessions.modes.transformers import Generate, GenerateBatch  # noqa: E402

PROMPT = [3, 14, 15, 92, 65, 35, 89, 79, 32, 38]
NUM_NEW = 12
KV_TOKEN_BYTES = 3 * 2 * 2 * 16 * 4
ENV = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in a folder, as a user's own."""
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "vocab_size": 300}
    donor = random_llama(0, **shape, num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3)
    folder = tmp_path_factory.mktemp("tiny")
    donor.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _tokenizer() -> object:
    tokenizers = pytest.importorskip("tokenizers")
    words = {f"w{at}": at for at in range(300)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="w0", eos_token="w1")


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[ServerProcess]:
    with ServerProcess(["--model", str(checkpoint), "--allow-weights"], env=ENV) as server:
        yield server


@pytest.fixture(scope="module")
def native(checkpoint: Path, server: ServerProcess) -> Iterator[Native]:
    budget = DeviceBudget.create(10**8)
    with Engine(load(str(checkpoint), packed=False).model, budget, max_session_tokens=256) as engine:
        yield Native(engine)
    budget.remove()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[SessionClient]:
    with SessionClient.connect(server.address, timeout_s=60) as client:
        yield client


def weights_of(native: Native) -> dict[str, memoryview]:
    return {str(at): tensor.numpy().data for at, tensor in enumerate(native.engine.model.tensors())}


def remote(name: str, client: SessionClient, native: Native) -> Mode:
    return {
        "full": lambda: Full(client),
        "full-logits": lambda: Full(client, wants_logits=True),
        "partially-aware": lambda: PartiallyAware(client),
        "partially-aware-both-ways": lambda: PartiallyAware(client, both_ways=True),
        "semantic-blind": lambda: SemanticBlind(client, weights_of(native)),
    }[name]()


def rows(first: int, num: int) -> int:
    """Bytes of keys and values of `first`, `first` + 1, … tokens, so many times."""
    return sum(first + at for at in range(num)) * KV_TOKEN_BYTES


CROSSED = {
    "full": (0, 0, 0, 0),
    "full-logits": (0, 0, 0, NUM_NEW * 300 * 4),
    "partially-aware": (0, rows(10, NUM_NEW - 1), (10 + NUM_NEW - 1) * KV_TOKEN_BYTES, 0),
    "partially-aware-both-ways": (0, rows(10, NUM_NEW - 1), rows(10, NUM_NEW), 0),
    "semantic-blind": (NUM_NEW, rows(10, NUM_NEW - 1), rows(10, NUM_NEW), 0),
}
"""Weights (times), keys and values up and down, logits: by the shapes alone."""


@pytest.mark.parametrize("name", CROSSED)
def test_modes_give_equal_tokens_and_differ_in_what_crosses(
    name: str, client: SessionClient, native: Native
) -> None:
    """Each ships just what its name says, and its seconds fit into each other."""
    found = remote(name, client, native).decode(PROMPT, NUM_NEW)
    assert found.token_ids == native.decode(PROMPT, NUM_NEW).token_ids
    crossed = found.crossed
    weight_bytes = sum(view.nbytes for view in weights_of(native).values())
    times, *others = CROSSED[name]
    assert crossed.weight_bytes == times * weight_bytes
    assert [crossed.kv_up_bytes, crossed.kv_down_bytes, crossed.logits_bytes] == others
    rest = found.num_bytes - crossed.state_bytes - crossed.logits_bytes
    assert 0 < rest < 1000 * NUM_NEW
    assert found.remote_tokens == NUM_NEW
    assert found.first_s is not None
    # A client that was held up finds all tokens at once.
    assert found.began_s < found.first_s <= found.done_s
    assert found.transfer_s is not None
    assert 0 <= crossed.crossing_s <= found.transfer_s


def test_full_needs_at_most_64_bytes_per_token(client: SessionClient) -> None:
    """Opening, the prompt's ids and closing among them, at 50 tokens after 72."""
    found = Full(client).decode([at % 300 for at in range(72)], 50)
    assert found.num_bytes / 50 <= 64


def test_a_second_turn_reuses_all_that_was_computed(client: SessionClient) -> None:
    """By the server's count; the second turn is in no time and in no bytes."""
    alone, goes_on = Full(client).decode(PROMPT, 8), Full(client, goes_on=True).decode(PROMPT, 8)
    assert (alone.reuse_gap_tokens, goes_on.reuse_gap_tokens) == (None, 0)
    assert abs(goes_on.num_bytes - alone.num_bytes) <= 8


def test_native_tells_where_its_time_went(native: Native) -> None:
    """Queue and steps are within its own clock, and nothing crossed."""
    found = native.decode(PROMPT, NUM_NEW)
    assert (found.num_bytes, found.crossed.state_bytes) == (0, 0)
    assert found.transfer_s is not None
    assert 0 <= found.transfer_s < found.total_s
    assert native.logits(PROMPT) == native.logits(PROMPT)


def test_the_librarys_generate_gives_the_same_tokens(checkpoint: Path, native: Native) -> None:
    """The peer decodes the same model."""
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    generate = Generate(model)
    found: Decoded = generate.decode(PROMPT, NUM_NEW)
    assert found.token_ids == native.decode(PROMPT, NUM_NEW).token_ids
    assert (found.first_s, found.queue_s, found.transfer_s) == (None, None, None)


def test_sessions_together_decode_as_each_alone_however_often(
    client: SessionClient, checkpoint: Path, native: Native
) -> None:
    """Rewound between passes; the library's batch too."""
    prompts = [[(7 * at + k) % 300 for k in range(1, 11)] for at in range(8)]
    expected = [native.decode(prompt, 7).token_ids for prompt in prompts]
    batch = Batch(client, prompts, 6)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    peer = GenerateBatch(model, prompts, batch.firsts, 6)
    for run, rewind in (
        (batch.together, batch.rewind), (batch.one_by_one, batch.rewind),
        (batch.together, batch.rewind), (peer.together, peer.rewind), (peer.together, peer.rewind),
    ):  # fmt: skip
        rewind()
        found = run()
        assert [(first, *rest) for first, rest in zip(batch.firsts, found.token_ids, strict=True)] == expected
        assert found.tokens_per_s > 0
    batch.close()


def test_a_declared_link_takes_the_time_of_its_bytes(server: ServerProcess) -> None:
    """Each way: no transfer is faster than the link."""
    link_bps = 5_000_000
    with SessionClient.connect(server.address, timeout_s=60, link_bps=link_bps) as client:
        found = PartiallyAware(client, both_ways=True).decode(PROMPT, 4)
    assert found.crossed.crossing_s >= 8 * found.crossed.state_bytes / link_bps


def test_a_server_that_is_killed_is_an_error_for_its_client_and_leaves_nothing(checkpoint: Path) -> None:
    """In the middle of a mode; the group is gone afterwards, and so are its files."""
    with ServerProcess(["--model", "counting"], env=ENV) as server:
        path = Path(server.address.path or "")
        with SessionClient.connect(server.address, timeout_s=60) as client:
            pid = _peer(client)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(BackendBroken, match=r"connection ended|reset by peer"):
                PartiallyAware(client).decode(PROMPT, NUM_NEW)
        _wait_until_dead(server)
        assert path.exists()
    assert not path.exists()
    server.stop()


def _peer(client: SessionClient) -> int:
    from fixtures.decode import server_pid

    return server_pid(client)


def _wait_until_dead(server: ServerProcess) -> None:
    until_s = time.monotonic() + 60
    while server._group.exit_status() is None and time.monotonic() < until_s:
        time.sleep(0.01)
    assert server._group.exit_status() is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ("--model", "counting", "--budget", "/no/such/folder/at-all"),
        pytest.param(("--model", "no/such/folder/at-all"), marks=pytest.mark.nightly),
    ],
    ids=["budget", "model"],
)
def test_a_server_that_cannot_start_says_so(arguments: tuple[str, ...]) -> None:
    """Its own last words are in the error, and its files are gone."""
    server = ServerProcess(arguments, env=ENV)
    with pytest.raises(LaunchError, match=r"(?s)exited with status 2.*no/such/folder"):
        _ = server.address
    server.stop()


def test_a_server_that_is_not_ready_in_time_is_given_up() -> None:
    """With the line that would allow more."""
    with (
        ServerProcess(["--model", "counting"], env=ENV, deadline_s=0.0) as server,
        pytest.raises(LaunchError, match="is not ready after 0 s; allow more"),
    ):
        _ = server.address


def test_refusals_reach_the_caller(client: SessionClient, native: Native) -> None:
    """Weights of another model, a token that the model lacks, a session that is too long."""
    with pytest.raises(BackendRejected, match="weight"):
        SemanticBlind(client, {"0": bytes(12)}).decode(PROMPT, 1)
    with pytest.raises(BackendRejected, match="300"):
        Full(client).decode([300], 1)
    with pytest.raises((BackendRejected, BudgetError)):
        Full(client).decode(PROMPT, 10**6)
    assert Full(client).decode(PROMPT, 3).token_ids == native.decode(PROMPT, 3).token_ids


def test_a_servers_counters_of_its_engine_have_the_engines_own_names(client: SessionClient) -> None:
    """As an engine's in this process, beside which they are read."""
    found = engine_counters(client.stats())
    assert {*Stats._fields, *Counts._fields} - {"counts"} <= set(found)
    assert Steps.of(found)._replace(num_decoding=0) == ("slab-by-slab", 0, None, None)
