"""A known shape with random weights stands for the trained model in everything but what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from harness.errors import HarnessError, ModelError  # noqa: E402
from harness.models.__main__ import main  # noqa: E402
from harness.models.random_marks import MARK, mark_of  # noqa: E402
from harness.models.registry import get  # noqa: E402
from harness.models.shapes import RANDOM, is_random, random_of, shape_of, shapes  # noqa: E402
from harness.models.torch_engine import load as load_checkpoint  # noqa: E402
from harness.models.torch_engine.random_weights import BLOCK, config_of, random_model  # noqa: E402
from harness.sessions.core import load  # noqa: E402
from harness.sessions.ring.loading import load_host  # noqa: E402

TINY = ("random:tiny-llama", "random:tiny-qwen")
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(
                not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a PyTorch built with CUDA"
            ),
        ],
    ),
]


@pytest.mark.parametrize("name", shapes())
def test_a_shape_has_the_parameters_that_it_says(name: str) -> None:
    """Counted on the meta device, where they take no memory."""
    row = shape_of(name)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config_of(row))
    assert sum(one.numel() for one in model.parameters()) == row.params


@pytest.mark.parametrize("name", ["Mistral-7B-Instruct-v0.3", "Qwen2.5-0.5B-Instruct"])
def test_a_shape_agrees_with_the_registry(name: str) -> None:
    """Where both know the model."""
    row, spec = next(shape_of(one) for one in shapes() if one.endswith(name)), get(name)
    assert (row.params, row.num_hidden_layers, row.hidden_size) == (spec.params, spec.layers, spec.width)
    assert (row.num_key_value_heads, row.intermediate_size) == (spec.kv_heads, spec.ffn)
    assert (row.vocab_size, row.tie_word_embeddings) == (spec.vocab_size, spec.tied_embeddings)


def test_the_published_sizes_are_those_of_the_switched_models() -> None:
    """12.6, 13.5 and 5.2 GB of the source, which are GiB, in half precision."""
    names = ("meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-v0.3", "phi-2-as-llama")
    sizes = [2 * shape_of(name).params / 2**30 for name in names]
    assert sizes == [pytest.approx(gib, rel=0.01) for gib in (12.6, 13.5, 5.2)]


def test_a_name_that_is_no_shape_is_one_line() -> None:
    """With those that there are."""
    assert is_random("random:x")
    assert not is_random("llama-34m")
    assert random_of("tiny-llama") == "random:tiny-llama"
    with pytest.raises(ModelError, match="no shape of that name; use one of meta-llama/Llama-2-7b-hf"):
        load("random:llama-9")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", TINY)
def test_sessions_compute_what_the_library_does_with_the_same_weights(name: str, device: str) -> None:
    """On every device: the same names give the same weights to both."""
    ours = load(name, device=device, packed=False).model
    theirs = load_checkpoint("test", name, device, "float32").model
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]], device=device)
    with torch.inference_mode():
        expected = theirs(ids).logits[0, -1].float()
    from harness.hardware import DeviceBudget
    from harness.sessions.core import Engine

    budget = DeviceBudget.create(10**9)
    try:
        with Engine(ours, budget, max_session_tokens=64) as engine:
            from harness.sessions.modes.native import Native

            found = Native(engine).decode(ids[0].tolist(), 1).token_ids
    finally:
        budget.remove()
    assert found == (int(expected.argmax()),)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_same_name_gives_the_same_weights_in_any_process(dtype: str) -> None:
    """Another seed gives others; norms are ones, a tied head is the embedding."""
    row = shape_of("tiny-qwen")
    one, again, other = (random_model(row, "cpu", dtype, seed=seed) for seed in (0, 0, 1))
    for (name, first), (_, second) in zip(one.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(first, second), name
        assert first.dtype is getattr(torch, dtype)
    assert not torch.equal(one.model.layers[0].mlp.up_proj.weight, other.model.layers[0].mlp.up_proj.weight)
    assert bool((one.model.norm.weight == 1).all())
    assert one.lm_head.weight.data_ptr() == one.model.embed_tokens.weight.data_ptr()


def test_tensors_longer_than_the_block_go_on_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each element is one of the block's, and rows do not repeat."""
    from harness.models.torch_engine import random_weights

    monkeypatch.setattr(random_weights, "BLOCK", 2003)
    weight = random_model(shape_of("tiny-llama"), "cpu", "float32").lm_head.weight
    assert weight.numel() > 20 * 2003
    assert len(weight.flatten().unique()) <= 2003
    assert len(weight.unique(dim=0)) == len(weight)
    assert BLOCK > 2003


def test_greedy_answers_go_on_and_do_not_repeat_one_token() -> None:
    """So that two prompts can be told apart by what follows."""
    made = random_model(shape_of("tiny-llama"), "cpu", "float32")
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    found = made.generate(ids, max_new_tokens=16, do_sample=False)[:, 3:]
    assert found.shape == (2, 16)
    assert not torch.equal(found[0], found[1])
    assert min(len(row.unique()) for row in found) > 2


def test_an_arena_holds_them_too() -> None:
    """Packed, in half precision, as switching has models on a host."""
    host = load_host("random:tiny-llama", dtype="float16")
    assert host.blob.manifest.layout.num_bytes >= 2 * shape_of("tiny-llama").params
    assert host.eos_ids == ()
    host.blob.close()


def test_a_checkpoint_of_them_can_be_written_for_other_engines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which transformers loads again, to the same weights."""
    folder = tmp_path / "made"
    assert main(["random", "tiny-llama", "--output", str(folder), "--dtype", "float32"]) == 0
    again = load_checkpoint("test", str(folder), "cpu", "float32")
    made = load_checkpoint("test", "random:tiny-llama", "cpu", "float32")
    for name, tensor in made.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    assert mark_of(folder) == "random:tiny-llama"
    assert "its name does not say that its weights are random" in capsys.readouterr().out
    assert main(["random", "tiny-llama", "--output", str(folder)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["random", "llama-9", "--output", str(folder)]) == 2


def test_without_a_folder_the_checkpoint_is_called_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that whoever serves it by its folder's name says so; a file in its way is one line."""
    monkeypatch.chdir(tmp_path)
    assert main(["random", "tiny-qwen"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["random--tiny-qwen"]
    assert len(capsys.readouterr().out.splitlines()) == 1
    config = transformers.AutoConfig.from_pretrained(tmp_path / "random--tiny-qwen")
    assert getattr(config, MARK) == "random:tiny-qwen"
    (tmp_path / "a-file").touch()
    assert main(["random", "tiny-qwen", "--output", "a-file"]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_the_transformers_engine_answers_with_as_many_tokens_as_asked() -> None:
    """There is no token that ends a text; unknown ids are no error."""
    import asyncio

    from harness.backends import Message, Request, connect, launcher_for, parse_backend

    async def ask() -> tuple[int | None, str | None]:
        spec = parse_backend("small=transformers:random:tiny-llama")
        server = launcher_for(spec).launch()
        try:
            async with connect(spec, server) as connection:
                told = Request(messages=(Message("user", "Hello"),), max_tokens=12)
                answer = await connection.backend.generate(told)
                return answer.output_tokens, answer.model
        finally:
            server.stop()

    assert asyncio.run(ask()) == (12, "random:tiny-llama")
    with pytest.raises(HarnessError):
        load_checkpoint("test", f"{RANDOM}no-such", "cpu", "float32")


def test_tokens_that_the_tokenizer_lacks_are_text_all_the_same() -> None:
    """Of 32,000 it knows 1,024: the others would be nothing, and the next stage's prompt as short."""
    loaded = load_checkpoint("test", "random:tiny-llama", "cpu", "float32")
    known = loaded.num_written
    assert known == len(loaded.tokenizer) == 1024
    ids = [known - 1, 40, 300, 500]
    assert loaded.decode([one + known * at for at, one in enumerate(ids)]) == loaded.decode(ids) != ""
    own = load_checkpoint("test", "nano", "cpu", "float32")
    assert own.num_written is None
