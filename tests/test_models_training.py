from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from harness import models
from harness.errors import ModelError
from harness.models import recipe
from harness.models.__main__ import main
from harness.models.tasks import FAMILIES


@pytest.mark.parametrize("name", models.names("pocket"))
def test_every_pocket_model_has_a_recipe_of_its_shape(name: str) -> None:
    """The recipe ends at the registered shape, and its mixes name known families."""
    found, spec = recipe.read(name), models.get(name)
    assert (found.width, found.heads, found.ffn) == (spec.width, spec.heads, spec.ffn)
    assert found.stages[-1].layers == spec.layers
    assert all(set(stage.mix) <= set(FAMILIES) for stage in found.stages)


def test_the_generalists_are_trained_on_the_same_mixes() -> None:
    """Nano and large see the same families in the same shares, first the one mix, then the other."""
    mixes = [list(dict.fromkeys(str(s.mix) for s in recipe.read(name).stages)) for name in ("nano", "large")]
    assert mixes[0] == mixes[1]


def test_a_model_without_recipe_is_named_with_those_that_have_one() -> None:
    """An unknown name is answered with the known ones."""
    with pytest.raises(ModelError, match="no recipe for 'huge'; choose one of nano, large"):
        recipe.read("huge")


def test_the_command_line_says_what_is_wrong_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A bad name ends with status 2 and one message, not a traceback."""
    assert main(["convert", "huge"]) == 2
    assert capsys.readouterr().err.startswith("harness.models: unknown model 'huge'")


def test_the_committed_tokenizer_is_the_one_that_the_recipe_builds() -> None:
    """Building the tokenizer again gives the committed vocabulary and merges."""
    pytest.importorskip("tokenizers")
    from harness.models import tokenizer

    built = json.loads(tokenizer.build().to_str())
    for name in models.names("pocket"):
        committed = json.loads((models.checkpoint(name) / "tokenizer.json").read_text())
        assert committed["model"] == built["model"]


def _tiny() -> recipe.Recipe:
    nano = recipe.read("nano")
    stages = tuple(
        dataclasses.replace(nano.stages[0], layers=layers, tokens=6_000, mix={"math": 1}) for layers in (1, 3)
    )
    return dataclasses.replace(nano, name="tiny", stages=stages)


def test_a_recipe_makes_a_checkpoint_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training grows the network between stages; finished stages are not run again."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from harness.models import tokenizer, training

    committed: Any = tokenizer.load(models.checkpoint("nano"))
    monkeypatch.setattr(tokenizer, "build", lambda: committed)
    training.train(_tiny(), tmp_path / "first", scratch=tmp_path / "scratch")
    monkeypatch.setattr(training, "_run_stage", lambda *arguments: pytest.fail("a finished stage ran again"))
    training.train(_tiny(), tmp_path / "second", scratch=tmp_path / "scratch")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert weights[0] == weights[1]
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "first")
    assert loaded.config.num_hidden_layers == 3
    chat = transformers.AutoTokenizer.from_pretrained(tmp_path / "first").apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert chat == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_the_training_network_is_the_llama_of_transformers() -> None:
    """The fused forward pass gives the hidden states of `LlamaModel` on the committed weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import load_file

    from harness.models import network

    spec, folder = models.get("nano"), models.checkpoint("nano")
    shape = network.Shape(
        vocab_size=spec.vocab_size,
        width=spec.width,
        layers=spec.layers,
        heads=spec.heads,
        head_dim=spec.head_dim,
        ffn=spec.ffn,
    )
    ours = network.Network(shape)
    network.from_hugging_face(ours, load_file(folder / "model.safetensors"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = torch.arange(3, 60).reshape(3, 19)
    with torch.no_grad():
        expected = theirs.model(input_ids=tokens).last_hidden_state
        assert torch.allclose(ours(tokens), expected, atol=1e-4)
