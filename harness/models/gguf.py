"""Convert a Hugging Face Llama checkpoint to GGUF, the format of llama.cpp, without torch.

Converted files are cached by content: a file's name holds the hash of everything that it was made
from, so a changed checkpoint or converter never meets an old file. They are written under a
temporary name and renamed, so processes may convert the same model at the same time and be killed
at any moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import ModelError

__all__ = ["QUANTS", "cache_dir", "cached", "convert"]

QUANTS = ("f16", "q8_0", "f32")
"""The element types that the converter writes; one-dimensional tensors stay f32."""

_CONVERTER_VERSION = 1
"""Part of every cached file's key: raise it when the converter's output changes."""
_PRE_TOKENIZER = "qwen2"
"""llama.cpp's name of the splitting rule in `tokenizer.py`."""
_SOURCE_FILES = ("config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors")
_TENSORS = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def cache_dir() -> Path:
    """Where converted files are kept: `$ASSAY_CACHE`, or `~/.cache/assay`."""
    return Path(os.environ.get("ASSAY_CACHE") or Path.home() / ".cache" / "assay")


def cached(folder: Path, quant: str = "f16") -> Path:
    """Return the GGUF file of a checkpoint folder, converting it if no file of its content is cached.

    Raises ModelError for an unknown quantisation, or a file missing from the folder.
    """
    _check(folder, quant)
    digest = hashlib.sha256(f"{_CONVERTER_VERSION}/{quant}".encode())
    for name in _SOURCE_FILES:
        digest.update((folder / name).read_bytes())
    path = cache_dir() / "gguf" / f"{folder.name}-{quant}-{digest.hexdigest()[:16]}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
        os.close(handle)
        try:
            convert(folder, Path(name), quant)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    return path


def convert(folder: Path, path: Path, quant: str = "f16") -> None:
    """Write the checkpoint in `folder` as one GGUF file.

    Raises ModelError for an unknown quantisation, a missing file, or a tensor of another
    architecture.
    """
    import gguf

    _check(folder, quant)
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    _write_shape(writer, config, folder.name, quant)
    _write_tokenizer(writer, config, folder)
    for tensor in _tensors(folder, config):
        _write_tensor(writer, tensor, quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    values: np.ndarray[Any, np.dtype[np.float32]]


def _check(folder: Path, quant: str) -> None:
    if quant not in QUANTS:
        raise ModelError(f"{folder.name}: no quantisation {quant!r}; choose one of {', '.join(QUANTS)}")
    for name in _SOURCE_FILES:
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder.name}: {folder / name} is missing; restore it, or train the model again"
            )


def _write_shape(writer: Any, config: dict[str, Any], name: str, quant: str) -> None:
    import gguf

    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    types = gguf.LlamaFileType
    file_type = {"f16": types.MOSTLY_F16, "q8_0": types.MOSTLY_Q8_0, "f32": types.ALL_F32}[quant]
    writer.add_name(name)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(file_type)


def _write_tokenizer(writer: Any, config: dict[str, Any], folder: Path) -> None:
    import gguf

    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    by_id = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    special = {added["id"] for added in tokenizer["added_tokens"] if added["special"]}
    kinds = gguf.TokenType
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_PRE_TOKENIZER)
    writer.add_token_list([by_id[number] for number in range(len(by_id))])
    writer.add_token_types([kinds.CONTROL if n in special else kinds.NORMAL for n in range(len(by_id))])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())


def _tensors(folder: Path, config: dict[str, Any]) -> Iterator[_Tensor]:
    from safetensors.numpy import load_file

    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, stored in load_file(folder / "model.safetensors").items():
        values = stored.astype(np.float32)
        projection = name.split(".")[-2]
        if projection in heads:
            values = _interleave(values, heads[projection])
        yield _Tensor(_gguf_name(folder.name, name), np.ascontiguousarray(values))


def _gguf_name(model: str, name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in _TENSORS:
        return f"{_TENSORS[stem]}.weight"
    parts = stem.split(".")
    kind = _TENSORS.get(".".join(parts[3:]))
    if kind is None:
        raise ModelError(f"{model}: tensor {name!r} is none of a Llama's; convert Llama checkpoints only")
    return f"blk.{parts[2]}.{kind}.weight"


def _interleave(values: Any, heads: int) -> Any:
    """Reorder the rows of a head from halves (Hugging Face's rotary pairs) to neighbours (llama.cpp's)."""
    rows = values.shape[0]
    return values.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(values.shape)


def _write_tensor(writer: Any, tensor: _Tensor, quant: str) -> None:
    import gguf

    if tensor.values.ndim == 1 or quant == "f32":
        writer.add_tensor(tensor.name, tensor.values)
    elif quant == "f16":
        writer.add_tensor(tensor.name, tensor.values.astype(np.float16))
    else:
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(tensor.name, gguf.quants.quantize(tensor.values, kind), raw_dtype=kind)
