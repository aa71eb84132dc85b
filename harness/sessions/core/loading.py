"""From a model's name to weights that are held once.

A name is `llama-34m`, a pocket model, a folder with a checkpoint, or `ORG/NAME` on the Hugging Face hub. The
first is the default: a Llama of random weights, made on the spot from a seed. How long a step takes depends
on the shapes and not on what the weights say, so it stands for a trained model of its size in everything but
text.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import torch

from harness.errors import UsageError
from harness.models.torch_engine import DTYPES, require_torch
from harness.models.torch_engine import load as load_checkpoint
from harness.sessions.core.model import Model

__all__ = ["DEFAULT_MODEL", "LoadedModel", "load", "random_llama"]

DEFAULT_MODEL = "llama-34m"


class LoadedModel(NamedTuple):
    """A model for sessions, with what its files say of it."""

    model: Model
    tokenizer: Any
    """None where there is none: token ids are all that the default model knows."""
    eos_ids: tuple[int, ...]
    max_positions: int


def load(
    name: str = DEFAULT_MODEL,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    seed: int = 0,
    packed: bool | None = None,
) -> LoadedModel:
    """Load a model, its weights in memory once.

    Arguments: `dtype`, of the weights in memory (`auto` is the checkpoint's own); `seed`, of the default
    model's weights; `packed`, whether matrices are held in oneDNN's layout, None for wherever that is
    possible.

    Raises
    ------
    UsageError: the dtype is unknown.
    UnavailableError: the device is not there.
    ModelError: the name means nothing, weights are corrupt, or the architecture is not Llama's.
    LaunchError: there is no checkpoint, or it cannot be loaded.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    require_torch("sessions", device)
    tokenizer: Any = None
    eos_ids: Sequence[int] = ()
    if name == DEFAULT_MODEL:
        kind = torch.float32 if dtype == "auto" else getattr(torch, dtype)
        donor = random_llama(seed).to(device=device, dtype=kind)
    else:
        loaded = load_checkpoint("sessions", name, device, dtype)
        donor, tokenizer, eos_ids = loaded.model, loaded.tokenizer, loaded.eos_ids
    model = Model.from_transformers(name, donor, packed=packed, release=True)
    return LoadedModel(model, tokenizer, tuple(eos_ids), model.shape.max_positions)


def random_llama(seed: int = 0, **changes: Any) -> Any:
    """Make the default model as transformers has it: 33.7 M weights, the same for the same seed.

    Arguments: `changes`, fields of transformers' `LlamaConfig` that are to differ.
    """
    transformers: Any = import_module("transformers")
    config = transformers.LlamaConfig(
        **{
            "vocab_size": 8192,
            "hidden_size": 512,
            "intermediate_size": 1376,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "max_position_embeddings": 4096,
            # At transformers' 0.02, greedy answers soon repeat one token, and no two sessions could be told
            # apart; at 0.05 they go on.
            "initializer_range": 0.05,
            "bos_token_id": None,
            "eos_token_id": None,
            **changes,
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.LlamaForCausalLM(config).eval()
