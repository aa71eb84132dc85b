"""Models of which only the shape is here: `random:NAME` is one with random weights in place of trained ones.

Physics: how long a step takes, what it reads and what it holds hang on shapes and types, not on what the
weights say. So times, bytes and memory of random weights are those of the trained model, at the same number
of tokens. What its answers are worth is not: they are noise, and no quality is measured of them.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

from harness.errors import ModelError
from harness.tables import read_tables

__all__ = ["RANDOM", "ShapeRow", "is_random", "random_of", "shape_of", "shapes"]

RANDOM = "random:"
"""Before a model's name: its shape, with random weights."""
FILE = Path(__file__).with_name("shapes.toml")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShapeRow:
    """A `[[shape]]` of `shapes.toml`; sizes are named as a checkpoint's config.json names them."""

    name: str
    model_type: str
    params: int
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    source: str


def is_random(name: str) -> bool:
    """Whether a model's name says that its weights are to be random."""
    return name.startswith(RANDOM)


def random_of(name: str) -> str:
    """The name of the same shape with random weights.

    Raises
    ------
    ModelError: no such shape is known.
    """
    return f"{RANDOM}{shape_of(name).name}"


def shape_of(name: str) -> ShapeRow:
    """The row of a model, with `random:` before its name or without.

    Raises
    ------
    ModelError: there is none of that name.
    """
    bare = name.removeprefix(RANDOM)
    rows = _rows()
    if bare not in rows:
        raise ModelError(f"{RANDOM}{bare}: no shape of that name; use one of {', '.join(rows)}")
    return rows[bare]


def shapes() -> tuple[str, ...]:
    """Names of all shapes, in the order of the file."""
    return tuple(_rows())


@cache
def _rows() -> dict[str, ShapeRow]:
    return read_tables(FILE, "shape", ShapeRow)
