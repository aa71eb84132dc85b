"""The three published models at a thousandth of their size (`minis.toml`), made on the spot.

Physics: a switch takes missing bytes ÷ link, a layer as long as its shapes say; neither asks what the weights
are. So they are random, the same for the same seed and name, and spread widely enough that greedy answers go
on instead of repeating one token.

Nothing here imports the transformers library, whose import takes longer than all else.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from harness.errors import ModelError
from harness.sessions.core.default_model import random_donor
from harness.tables import read_tables

__all__ = ["MINIS", "SCALE", "Mini", "is_mini", "mini", "mini_donor"]

MINIS = ("llama-mini", "mistral-mini", "phi-mini")
SCALE = 0.001
"""Of the published sizes."""
FILE = Path(__file__).with_name("minis.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mini:
    """A `[[mini]]` of `minis.toml`; sizes are named as a checkpoint's configuration names them."""

    name: str
    published_bytes: int
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    initializer_range: float
    source: str

    @property
    def config(self) -> dict[str, Any]:
        """What differs from the default model."""
        row = asdict(self)
        return {key: value for key, value in row.items() if key not in ("name", "published_bytes", "source")}


def is_mini(name: str) -> bool:
    """Whether it is one of them."""
    return name in _rows()


def mini(name: str) -> Mini:
    """The row of that name.

    Raises
    ------
    ModelError: there is none.
    """
    rows = _rows()
    if name not in rows:
        raise ModelError(f"mini {name!r}: unknown; use {', '.join(rows)}")
    return rows[name]


def mini_donor(name: str, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A mini in the form that `core.weights.take_over` takes apart, on the CPU.

    Raises
    ------
    ModelError: there is none of that name.
    """
    config = mini(name).config
    # Two minis of one seed are not to share their first draws; and torch's generator reads 32 bits.
    own_seed = zlib.crc32(f"{name} {seed}".encode())
    return random_donor(own_seed, "cpu", dtype, **config)


@cache
def _rows() -> dict[str, Mini]:
    return read_tables(FILE, "mini", Mini)
