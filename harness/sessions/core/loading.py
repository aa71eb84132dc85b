"""From a model's name to weights that are held once.

A name is `llama-34m`, the default that `default_model` makes of random weights, a pocket model, a folder with
a checkpoint, `ORG/NAME` on the Hugging Face hub, or `random:NAME`, a known shape with random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from harness.errors import UsageError
from harness.hardware.memory import give_back
from harness.models.torch_engine import DTYPES, require_torch
from harness.models.torch_engine import load as load_checkpoint
from harness.sessions.core.default_model import DEFAULT_MODEL, random_donor, random_llama
from harness.sessions.core.model import Model

__all__ = ["DEFAULT_MODEL", "LoadedModel", "load", "random_llama"]


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
    require_torch("sessions", device, needs_transformers=name != DEFAULT_MODEL)
    tokenizer: Any = None
    eos_ids: Sequence[int] = ()
    if name == DEFAULT_MODEL:
        kind = torch.float32 if dtype == "auto" else getattr(torch, dtype)
        donor = random_donor(seed, device, kind)
    else:
        loaded = load_checkpoint("sessions", name, device, dtype)
        donor, tokenizer, eos_ids = loaded.model, loaded.tokenizer, loaded.eos_ids
    model = Model.from_transformers(name, donor, packed=packed, release=True)
    give_back()  # what was fused was freed piece by piece, and PyTorch keeps it: of 7 B in half 9 GB
    return LoadedModel(model, tokenizer, tuple(eos_ids), model.shape.max_positions)
