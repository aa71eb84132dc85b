"""The sessions' default model as a GGUF file: the same random weights, for llama.cpp.

llama.cpp wants a vocabulary: each id gets an invented word, so that streams are never held back in the middle
of a character. It also wants an end of text, and would take a token of its choosing: one is added behind the
others, with zeros for its rows. Its logit is 0, where the greatest of 8192 random ones is far above, so it
ends nothing, and no bias against it has to be asked for.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from harness.models.gguf import cached

__all__ = ["GgufModel", "random_gguf"]


class GgufModel(NamedTuple):
    """A file, and what it takes in memory."""

    path: Path
    vocab_size: int
    """Without the end of text."""
    weight_bytes: int
    kv_token_bytes: int
    """Keys and values of a token in all layers, 4 bytes per element."""


def random_gguf(seed: int = 0, **changes: Any) -> GgufModel:
    """Convert `random_llama(seed, **changes)` to GGUF in f32; the file is cached by its content."""
    import numpy as np
    from safetensors.numpy import save_file

    from harness.sessions.core.loading import random_llama

    donor = random_llama(seed, **changes)
    config = donor.config
    tensors = {name: tensor.numpy() for name, tensor in donor.state_dict().items()}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = np.pad(tensors[name], ((0, 1), (0, 0)))
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "random-llama"
        folder.mkdir()
        _write_description(folder, config)
        save_file(tensors, folder / "model.safetensors")
        path = cached(folder, "f32")
    head_dim = config.hidden_size // config.num_attention_heads
    return GgufModel(
        path=path,
        vocab_size=config.vocab_size,
        weight_bytes=sum(tensor.nbytes for tensor in tensors.values()),
        kv_token_bytes=2 * config.num_hidden_layers * config.num_key_value_heads * head_dim * 4,
    )


def _write_description(folder: Path, config: Any) -> None:
    """The files beside the weights, as `harness.models.gguf` reads them."""
    end = config.vocab_size
    copied = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "max_position_embeddings", "rms_norm_eps",
    )  # fmt: skip
    fields = {name: getattr(config, name) for name in copied}
    fields |= {"vocab_size": end + 1, "eos_token_id": end, "pad_token_id": end}
    fields["rope_theta"] = config.rope_parameters["rope_theta"]
    words = {f"t{number}": number for number in range(end)} | {"<end>": end}
    tokenizer = {
        "model": {"vocab": words, "merges": ["t 0"]},
        "added_tokens": [{"id": end, "special": True}],
    }
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
