from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import models
from harness.errors import ModelError
from harness.models import gguf, registry


def _registry_with(tmp_path: Path, old: str, new: str) -> Path:
    text = registry.REGISTRY_FILE.read_text()
    assert old in text
    path = tmp_path / "registry.toml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_every_row_has_a_source() -> None:
    """Models, devices and prices all say where their numbers come from."""
    facts = registry.load()
    rows = [
        *facts.models.values(),
        *facts.devices.values(),
        *facts.prices.tokens.values(),
        *facts.prices.compute.values(),
    ]
    assert all(row.source for row in rows)


@pytest.mark.parametrize("name", registry.load().models)
def test_parameters_follow_from_the_shape(name: str) -> None:
    """The stated number of parameters is the sum over the stated shapes (biases of Qwen2 included)."""
    spec = models.get(name)
    query, key = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    layer = spec.width * (2 * query + 2 * key + 3 * spec.ffn + 2)
    biases = query + 2 * key if name.startswith("Qwen2.5") else 0
    embeddings = spec.vocab_size * spec.width * (1 if spec.tied_embeddings else 2)
    assert spec.params == spec.layers * (layer + biases) + embeddings + spec.width


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("layers = 4", "layerz = 4", ["model nano", "layerz"]),
        ("layers = 4\n", "", ["model nano", "layers", "missing"]),
        ("layers = 4", 'layers = "4"', ["model nano", "layers", "int"]),
        ('kind = "pocket"\nparams', 'kind = "huge"\nparams', ["model nano", "huge", "pocket"]),
        ('name = "large"', 'name = "nano"', ["model nano", "twice"]),
        ("[[device]]", "[[gadget]]", ["gadget"]),
        ("usd_per_hour = 0.0425", "usd_per_hour = 0.0425\neur = 1", ["compute_price vcpu", "eur"]),
    ],
)
def test_a_bad_registry_names_file_row_and_key(tmp_path: Path, old: str, new: str, says: list[str]) -> None:
    """Unknown, missing or mistyped keys stop the run, and the message finds them."""
    with pytest.raises(ModelError) as caught:
        registry.load(_registry_with(tmp_path, old, new))
    for part in ["registry.toml", *says]:
        assert part in str(caught.value)


def test_an_unknown_model_is_named_with_those_that_exist() -> None:
    """A misspelt name is answered with the known ones."""
    with pytest.raises(ModelError, match="unknown model 'nanno'; choose one of nano, large"):
        models.get("nanno")


def test_published_models_have_no_weights() -> None:
    """Asking for the weights of a published model says how to reach it instead."""
    with pytest.raises(ModelError, match="--backend"):
        models.checkpoint("Qwen2.5-0.5B-Instruct")


@pytest.mark.parametrize("name", models.names("pocket"))
def test_committed_weights_are_those_of_the_registry(name: str) -> None:
    """Every pocket model's weights are present and have the recorded hash."""
    assert (models.checkpoint(name) / "model.safetensors").is_file()


def test_missing_weights_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    """A checkpoint without weights is one clear error."""
    with pytest.raises(ModelError, match=r"nano: .*model\.safetensors is missing; restore it"):
        registry.verify(tmp_path / "nano", "0" * 64)


def test_corrupt_weights_name_both_hashes(tmp_path: Path) -> None:
    """One changed byte is found before the weights are used."""
    folder = tmp_path / "nano"
    shutil.copytree(models.checkpoint("nano"), folder)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    expected = models.get("nano").sha256
    assert expected is not None
    with pytest.raises(ModelError, match=f"corrupt .*registry {expected[:12]}"):
        registry.verify(folder, expected)


def test_an_unknown_quantisation_names_the_known_ones() -> None:
    """The converter says which element types it writes."""
    with pytest.raises(ModelError, match="no quantisation 'q2'; choose one of f16, q8_0, f32"):
        models.gguf_path("nano", "q2")


def test_all_weights_together_are_small() -> None:
    """The committed checkpoints take at most 12 MB."""
    total = sum(path.stat().st_size for path in registry.WEIGHTS_DIR.rglob("*") if path.is_file())
    assert total <= 12_000_000


def test_no_path_to_a_gguf_file_imports_torch(tmp_path: Path) -> None:
    """Facts, checks and conversion work in an environment without torch."""
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "from harness import models\n"
        "print(models.gguf_path('nano', 'q8_0'), models.devices(), models.prices())"
    )
    environment = {"ASSAY_CACHE": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
    assert [path.suffix for path in (tmp_path / "gguf").iterdir()] == [".gguf"]


def test_a_conversion_is_cached_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same checkpoint gives the same file, untouched; a changed one gives another."""
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    folder = tmp_path / "nano"
    shutil.copytree(models.checkpoint("nano"), folder)
    first = gguf.cached(folder)
    written = first.stat().st_mtime_ns
    assert gguf.cached(folder) == first
    assert first.stat().st_mtime_ns == written
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert gguf.cached(folder) != first
    assert not list(first.parent.glob("*.tmp"))
