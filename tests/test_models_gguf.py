from __future__ import annotations

from pathlib import Path

import pytest

from harness import models
from harness.errors import ModelError
from harness.models import engine, gguf
from harness.models.tasks import FAMILIES, held_out

PROMPTS = [
    held_out(FAMILIES[name], count=2, seed=9)[n].prompt for name in ("extract", "fix", "math") for n in (0, 1)
]


@pytest.mark.parametrize("quant", ["f16", "f32"])
@pytest.mark.parametrize("name", ["nano", "large"])
def test_llama_cpp_says_what_transformers_says(name: str, quant: str, tmp_path: Path) -> None:
    """Greedy answers of the converted model equal those of the checkpoint, token for token."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = models.checkpoint(name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    path = tmp_path / "model.gguf"
    gguf.convert(folder, path, quant)
    with engine.Engine(path) as loaded:
        for prompt in PROMPTS:
            chat = [{"role": "user", "content": prompt}]
            ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
            output = model.generate(**ids, max_new_tokens=64, do_sample=False)
            expected = tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
            assert loaded.answer(prompt, max_tokens=64).text == expected


@pytest.mark.parametrize("quant", gguf.QUANTS)
def test_every_quantisation_answers(quant: str, tmp_path: Path) -> None:
    """llama.cpp loads each kind of file and answers an easy question in words of the task."""
    path = tmp_path / "model.gguf"
    gguf.convert(models.checkpoint("nano"), path, quant)
    prompt = "Brief the issue.\nIssue: Bob asked twice. Step 2 of scan should sort the items."
    with engine.Engine(path) as loaded:
        assert loaded.answer(prompt, max_tokens=32).text == "Step 2 of scan: sort the items"


def test_smaller_types_make_smaller_files(tmp_path: Path) -> None:
    """A quantised file is smaller than a half-precision one, and that smaller than a full one."""
    sizes = []
    for quant in ("q8_0", "f16", "f32"):
        gguf.convert(models.checkpoint("large"), tmp_path / quant, quant)
        sizes.append((tmp_path / quant).stat().st_size)
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3


def test_an_incomplete_checkpoint_names_the_missing_file(tmp_path: Path) -> None:
    """A folder without weights is refused before anything is written."""
    with pytest.raises(ModelError, match="is missing; restore it"):
        gguf.convert(tmp_path, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()
