"""The forward pass of the session engine, against the transformers library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import ModelError, UnavailableError, UsageError
from harness.sessions.core import Model, Slab, Span, load
from harness.sessions.core.linear import can_pack
from harness.sessions.core.loading import random_llama

ROOT = Path(__file__).parents[1]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SMALL = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
BATCH_FREE = pytest.mark.skipif(not can_pack(torch.zeros(2, 2)), reason="needs oneDNN")


def small_llama(**changes: Any) -> Any:
    return random_llama(3, **{**SMALL, **HEADS, "initializer_range": 0.2, **changes})


def qwen2() -> Any:
    transformers = pytest.importorskip("transformers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SMALL, **HEADS)).eval()
        for parameter in model.parameters():
            # Biases of zero would hide that they are forgotten.
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def mistral() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.MistralConfig(
        **SMALL, **HEADS, head_dim=32, sliding_window=None, initializer_range=0.2
    )
    return transformers.MistralForCausalLM(config).eval()


DONORS = {
    "default": random_llama,
    "grouped-tied-llama3": lambda: small_llama(rope_parameters=LLAMA3, tie_word_embeddings=True),
    "biases-linear": lambda: small_llama(
        attention_bias=True,
        mlp_bias=True,
        rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
    ),
    "one-key-head": lambda: small_llama(num_key_value_heads=1),
    "qwen2": qwen2,
    "mistral": mistral,
}


@pytest.fixture(scope="module")
def default() -> Model:
    """The model of the server's default, made once: it takes a second."""
    return load().model


def test_the_default_model_is_that_of_the_library_to_the_bit(default: Model) -> None:
    """It is made without transformers, whose import takes longer than all the rest of a start."""
    donor = random_llama()
    assert sum(each.numel() for each in donor.parameters()) == 33_694_208
    theirs, prompt = Model.from_transformers("theirs", donor), tokens_of(default, 40)
    with torch.inference_mode():
        rows = [model.forward([Span(slab_of(model), prompt)]) for model in (default, theirs)]
    assert torch.equal(*rows)


def test_the_default_model_needs_no_transformers() -> None:
    """A process that serves it has not imported the library."""
    program = (
        "import sys; from harness.sessions.core import load; load(); print('transformers' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"


def tokens_of(model: Model, num: int, seed: int = 1) -> list[int]:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.shape.vocab_size, (num,), generator=draws).tolist()


def slab_of(model: Model, max_tokens: int = 160) -> Slab:
    return Slab(model.slab_shape, max_tokens)


def decode(model: Model, prompts: list[list[int]], num: int) -> tuple[list[list[int]], torch.Tensor]:
    """Greedy tokens of a batch, and the logits of each step: [rows, num, vocab_size]."""
    with torch.inference_mode():
        slabs = [slab_of(model) for _ in prompts]
        logits = [torch.cat([model.forward([Span(s, p)]) for s, p in zip(slabs, prompts, strict=True)])]
        for _ in range(num - 1):
            tokens = logits[-1].argmax(-1).tolist()
            logits.append(model.forward([Span(s, [t]) for s, t in zip(slabs, tokens, strict=True)]))
    steps = torch.stack(logits, 1)
    return steps.argmax(-1).tolist(), steps


@pytest.mark.parametrize("name", DONORS)
@pytest.mark.parametrize("packed", [None, False], ids=["packed", "plain"])
def test_logits_are_those_of_transformers(name: str, packed: bool | None) -> None:
    """Whole, in chunks, token by token and beside other sessions, to 1e-4 of their spread."""
    donor = DONORS[name]()
    model = Model.from_transformers(name, donor, packed=packed)
    ids = tokens_of(model, 130)
    whole, chunked, beside = (slab_of(model) for _ in range(3))
    with torch.inference_mode():
        wanted = donor(torch.tensor([ids])).logits[0]
        found = {129: model.forward([Span(whole, ids)])[0]}
        assert model.forward([Span(chunked, ids[:40], wants_logits=False)]).shape == (0, len(wanted[0]))
        found[98] = model.forward([Span(chunked, ids[40:99])])[0]
        model.forward([Span(beside, ids[:30])])
        found[99], found[59] = model.forward([Span(chunked, [ids[99]]), Span(beside, ids[30:60])])
    assert [whole.num_tokens, chunked.num_tokens, beside.num_tokens] == [130, 100, 60]
    for place, logits in found.items():
        assert (logits - wanted[place]).abs().max() < 1e-4 * wanted.std(), place


@pytest.mark.parametrize("name", [pytest.param("default", marks=pytest.mark.nightly), "grouped-tied-llama3"])
def test_greedy_tokens_are_those_of_generate(name: str) -> None:
    """24 tokens of three prompts, each alone."""
    donor = DONORS[name]()
    model = Model.from_transformers(name, donor)
    for seed in range(3):
        ids = tokens_of(model, 20 + 7 * seed, seed)
        whole = donor.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=24, do_sample=False
        )
        assert decode(model, [ids], 24)[0] == [whole[0, len(ids) :].tolist()]


@BATCH_FREE
def test_logits_have_the_same_bits_in_any_batch(default: Model) -> None:
    """Of ten ragged sessions together, and of each alone."""
    model = default
    prompts = [tokens_of(model, 3 + 9 * seed, seed) for seed in range(10)]
    tokens, logits = decode(model, prompts, 6)
    for row, prompt in enumerate(prompts):
        alone, alone_logits = decode(model, [prompt], 6)
        assert alone == [tokens[row]]
        assert torch.equal(alone_logits[0], logits[row])


def test_default_sessions_can_be_told_apart(default: Model) -> None:
    """The answers of random weights neither repeat a token nor are those of another prompt."""
    model = default
    tokens, logits = decode(model, [tokens_of(model, 20, seed) for seed in range(6)], 24)
    assert len({tuple(row) for row in tokens}) == 6
    assert min(len(set(row)) for row in tokens) > 12
    best = logits.topk(2, -1).values
    assert ((best[..., 0] - best[..., 1]) / logits.std()).min() > 1e-5


def test_a_span_of_one_token_may_stand_anywhere() -> None:
    """Behind a longer one it sees its own past all the same."""
    model = Model.from_transformers("small", small_llama())
    ids = tokens_of(model, 20)
    with torch.inference_mode():
        one, two, long = (slab_of(model) for _ in range(3))
        model.forward([Span(one, ids[:-1])])
        model.forward([Span(two, ids[:-1])])
        alone = model.forward([Span(one, ids[-1:])])[0]
        behind = model.forward([Span(long, ids), Span(two, ids[-1:])])[1]
    assert (alone - behind).abs().max() < 1e-5


def test_taking_over_leaves_the_donor_whole_unless_it_is_released() -> None:
    """And released, it has no layer and no head left."""
    donor = small_llama()
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        before = donor(ids).logits
        Model.from_transformers("kept", donor)
        assert torch.equal(donor(ids).logits, before)
    Model.from_transformers("taken", donor, release=True)
    assert sum(p.numel() for p in donor.parameters()) == donor.model.embed_tokens.weight.numel() + 64


def test_weights_are_counted_as_they_are_held() -> None:
    """Fused or not, the bytes are the checkpoint's; a tied table that is packed as well counts twice."""
    donor = small_llama()
    num_bytes = sum(p.nbytes for p in donor.parameters())
    table_bytes = donor.lm_head.weight.nbytes
    plain = Model.from_transformers("plain", donor, packed=False)
    assert plain.weight_bytes == num_bytes == sum(t.nbytes for t in plain.tensors())
    assert plain.step_bytes == num_bytes - table_bytes
    tied = small_llama(tie_word_embeddings=True)
    plain = Model.from_transformers("tied", tied, packed=False)
    assert plain.weight_bytes == plain.step_bytes == sum(t.nbytes for t in plain.tensors())
    packed = Model.from_transformers("tied", tied)
    assert packed.weight_bytes - plain.weight_bytes == (table_bytes if can_pack(torch.zeros(2, 2)) else 0)


def test_plain_weights_can_be_replaced_in_place() -> None:
    """The model then decodes as the one they came from."""
    one, other = (Model.from_transformers("m", small_llama(), packed=False) for _ in range(2))
    with torch.inference_mode():
        for tensor in one.tensors():
            tensor.mul_(0.5)
        ids = tokens_of(one, 10)
        assert decode(one, [ids], 4)[1].ne(decode(other, [ids], 4)[1]).any()
        for tensor, source in zip(one.tensors(), other.tensors(), strict=True):
            tensor.copy_(source)
    assert torch.equal(decode(one, [ids], 4)[1], decode(other, [ids], 4)[1])


@BATCH_FREE
def test_packed_weights_are_not_given_out() -> None:
    """The error says how to get them."""
    with pytest.raises(UsageError, match="packed=False"):
        Model.from_transformers("packed", small_llama()).tensors()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_act": "gelu"}, "activation is 'gelu'"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "rope type 'dynamic'",
        ),
    ],
)
def test_a_llama_computed_otherwise_is_refused(changes: dict[str, Any], said: str) -> None:
    """Rather than computed wrongly."""
    with pytest.raises(ModelError, match=said):
        Model.from_transformers("odd", small_llama(**changes))


def test_another_architecture_is_refused() -> None:
    """GPT-2 is not Llama, and a Mistral with a window sees less."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=20)
    with pytest.raises(ModelError, match="'gpt2', not Llama's; choose"):
        Model.from_transformers("gpt2", transformers.GPT2LMHeadModel(config))
    config = transformers.MistralConfig(**SMALL, **HEADS, sliding_window=16)
    with pytest.raises(ModelError, match="a window of 16 tokens"):
        Model.from_transformers("windowed", transformers.MistralForCausalLM(config))


def test_pocket_models_and_checkpoints_are_loaded(tmp_path: Any) -> None:
    """With their tokenizer and the tokens that end an answer; a name of nothing is refused."""
    nano = load("nano")
    assert nano.eos_ids
    assert nano.tokenizer.encode("one two")
    assert decode(nano.model, [nano.tokenizer.encode("one two")], 3)[0]
    with pytest.raises(ModelError, match="unknown model 'nothing'"):
        load("nothing")


def test_a_dtype_or_device_that_is_not_there_is_refused() -> None:
    """Before anything is loaded."""
    with pytest.raises(UsageError, match="dtype 'float99' is unknown; choose one of float32"):
        load(dtype="float99")
    with pytest.raises(UnavailableError, match="device is cuda:99"):
        load(device="cuda:99")


@pytest.mark.parametrize("packed", [None, False], ids=["packed", "plain"])
def test_sixteen_bits_are_those_of_transformers(packed: bool | None) -> None:
    """To the three digits that bfloat16 has."""
    donor = small_llama().to(torch.bfloat16)
    model = Model.from_transformers("bfloat16", donor, packed=packed)
    ids = tokens_of(model, 40)
    with torch.inference_mode():
        slab = slab_of(model)
        wanted = donor(torch.tensor([ids])).logits[0]
        model.forward([Span(slab, ids[:39])])
        found = model.forward([Span(slab, ids[39:])])[0]
    assert slab.num_bytes == 160 * model.slab_shape.token_bytes == 160 * 2 * 2 * 2 * 16 * 2
    assert (found - wanted[-1]).abs().max() < 0.05 * wanted.std()


def test_the_default_model_depends_on_its_seed_alone(default: Model) -> None:
    """Another seed gives other weights, and making one leaves the caller's draws alone."""
    torch.manual_seed(5)
    one, two, three = default, load().model, load(seed=1).model
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(one.weights.embedding, two.weights.embedding)
    assert not torch.equal(one.weights.embedding, three.weights.embedding)
    assert 33e6 < one.weight_bytes / 4 < 35e6
