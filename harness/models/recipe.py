"""The recipes of the pocket models, read from `recipes.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ModelError

__all__ = ["Recipe", "Settings", "Stage", "read"]

_FILE = Path(__file__).with_name("recipes.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What all recipes share."""

    batch_tokens: int
    warmup_steps: int
    weight_decay: float
    betas: tuple[float, float]
    clip_norm: float
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stretch of training at one depth."""

    layers: int
    mix: dict[str, float]
    """Relative number of examples per family."""
    tokens: int
    lr: float
    final_lr: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides a model's weights, apart from the machine's rounding."""

    name: str
    settings: Settings
    width: int
    heads: int
    ffn: int
    seed: int
    stages: tuple[Stage, ...]


def read(name: str, path: Path = _FILE) -> Recipe:
    """Return the recipe of a model. Raises ModelError for a name without one."""
    table = tomllib.loads(path.read_text())
    row = table["models"].get(name)
    if row is None:
        raise ModelError(f"{path.name}: no recipe for {name!r}; choose one of {', '.join(table['models'])}")
    settings = table["training"]
    return Recipe(
        **{
            **row,
            "name": name,
            "settings": Settings(**{**settings, "betas": tuple(settings["betas"])}),
            "stages": tuple(
                Stage(**{**stage, "mix": table["mixes"][stage["mix"]]}) for stage in row["stages"]
            ),
        }
    )
