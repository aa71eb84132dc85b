"""A tiny Llama of random weights in a folder, as a user's own checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

__all__ = ["VOCAB_SIZE", "save_tiny_llama"]

VOCAB_SIZE = 300


def save_tiny_llama(folder: Path) -> Path:
    """Save one, 0.3 MB; the same for every call."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    from harness.sessions.core import loading

    donor = loading.random_llama(
        0,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        vocab_size=VOCAB_SIZE,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    donor.save_pretrained(folder)
    words = {f"w{at}": at for at in range(VOCAB_SIZE)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="w0", eos_token="w1")
    tokenizer.save_pretrained(folder)
    return folder
