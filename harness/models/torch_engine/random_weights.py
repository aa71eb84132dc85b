"""A model of a known shape whose weights are random: the same for the same name and seed, on every device.

One block of numbers is drawn and repeated, for drawing 7·10⁹ of them anew in each of a dozen processes takes
longer than what is measured. Its length is a prime, so that rows of a matrix do not repeat each other, and
each tensor begins elsewhere in it.

Traps: a model made on the meta device lacks what is no weight, the frequencies of its positions: they are
computed again. Half precision has a largest number: weights are spread the less the wider they are, so that
what is added up stays as large as in a small model.
"""

from __future__ import annotations

import math
import zlib
from importlib import import_module
from typing import Any

from harness.models.shapes import ShapeRow

__all__ = ["config_of", "random_model"]

BLOCK = 4_194_319
"""Numbers drawn: the next prime above 2 ** 22."""
SPREAD, AT_WIDTH = 0.05, 512
"""Standard deviation of weights at a width: greedy answers then go on, instead of repeating one token."""
_NAMED = ("model_type", "params", "name", "source", "rope_theta")


def config_of(row: ShapeRow) -> Any:
    """The configuration that the transformers library makes a model of; it has no token that ends a text."""
    transformers: Any = import_module("transformers")
    sizes = {name: getattr(row, name) for name in row.__slots__ if name not in _NAMED}
    more = {"sliding_window": None} if row.model_type == "mistral" else {}
    return transformers.AutoConfig.for_model(
        row.model_type,
        **sizes,
        **more,
        rope_parameters={"rope_type": "default", "rope_theta": row.rope_theta},
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def random_model(row: ShapeRow, device: str, dtype: str, *, seed: int = 0) -> Any:
    """The model as the transformers library has it, its weights in memory once, ready to answer.

    Arguments: `dtype`, as PyTorch calls it; `auto` is bfloat16, as such checkpoints have it.
    """
    import torch

    transformers: Any = import_module("transformers")
    kind = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
    config = config_of(row)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=kind)
    model = model.to_empty(device=device)
    model.tie_weights()
    body = model.model
    body.rotary_emb = type(body.rotary_emb)(config=config).to(device)
    spread = SPREAD * math.sqrt(AT_WIDTH / row.hidden_size)
    draws = torch.Generator().manual_seed(zlib.crc32(f"{row.name} {seed}".encode()))
    block = (torch.randn(BLOCK, generator=draws) * spread).to(device=device, dtype=kind)
    with torch.inference_mode():
        for name, tensor in model.named_parameters():  # a tied head is there once
            _fill(name, tensor, block)
    model.generation_config = transformers.GenerationConfig.from_model_config(config)
    return model.requires_grad_(False).eval()


def _fill(name: str, tensor: Any, block: Any) -> None:
    if name.endswith("norm.weight"):
        tensor.fill_(1.0)
        return
    flat, first = tensor.view(-1), zlib.crc32(name.encode()) % BLOCK
    head = block[first : first + len(flat)]
    flat[: len(head)] = head
    for at in range(len(head), len(flat), BLOCK):
        part = flat[at : at + BLOCK]
        part.copy_(block[: len(part)])
