"""Pocket models, and facts about models, devices and prices.

    get(name)                 shape and origin of a model: a ModelSpec
    names(kind)               the known models
    checkpoint(name)          folder of a pocket model's weights, verified
    gguf_path(name, quant)    the same as a GGUF file, cached
    devices(), prices()       data-sheet rows and list prices, each with its source

The pocket models are made by `recipes.toml`, described by `CARD.md`, trained and graded by
`python -m harness.models`. Nothing imported here needs torch.
"""

from __future__ import annotations

from harness.models.registry import (
    ComputePrice,
    Device,
    ModelSpec,
    Prices,
    TokenPrice,
    checkpoint,
    devices,
    get,
    gguf_path,
    names,
    prices,
)

__all__ = [
    "ComputePrice",
    "Device",
    "ModelSpec",
    "Prices",
    "TokenPrice",
    "checkpoint",
    "devices",
    "get",
    "gguf_path",
    "names",
    "prices",
]
