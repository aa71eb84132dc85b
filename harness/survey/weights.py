"""Which models' weights are here: in a folder of the user's, or in the hub's cache; no network is asked.

A folder of weights holds ORG/NAME, NAME, or ORG--NAME as the hub's client names it. The cache may hold a
configuration without weights, and half a download: what counts is every file that the index names. A folder
that is marked as random weights is none, whatever it is called: random ones are made where they are needed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from harness.errors import UsageError
from harness.models import hub
from harness.models.random_marks import mark_of
from harness.models.shapes import RANDOM, random_of, shapes

__all__ = ["VARIABLE", "Weights", "find_weights", "require_folder", "seed_models", "weights_here"]

VARIABLE = "ASSAY_WEIGHTS"
"""Names a folder of weights."""
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


class Weights(NamedTuple):
    """A model, and where its weights are."""

    model: str
    path: Path | None
    """Of the checkpoint's folder; None where random weights must do."""
    is_cached: bool = False
    """Whether it is the hub's cache that has it, so that its name finds it."""

    @property
    def name(self) -> str:
        """What to load: the hub's name, the folder, or the shape with random weights."""
        if self.path is None:
            return random_of(self.model)
        return self.model if self.is_cached else str(self.path)


def seed_models() -> tuple[str, ...]:
    """The models of the sources, as the hub names them."""
    return tuple(name for name in shapes() if "/" in name)


def weights_here(folder: Path | None = None) -> list[Weights]:
    """Every model of the sources, with its weights where they are here."""
    return [find_weights(name, folder) for name in seed_models()]


def require_folder(folder: Path | None) -> None:
    """Refuse a folder of weights that is not there: random ones would stand in for what was asked for.

    Arguments: `folder`, of `--weights`; None for that of ASSAY_WEIGHTS, if it is set.

    Raises
    ------
    UsageError: there is no such folder.
    """
    given = _given(folder)
    if given is not None and not given.is_dir():
        asked = VARIABLE if folder is None else "--weights"
        raise UsageError(f"{asked} {given}: no such folder; give one that holds ORG/NAME")


def find_weights(model: str, folder: Path | None = None) -> Weights:
    """Where a model's weights are. `folder`, of weights, in the place of ASSAY_WEIGHTS."""
    model = model.removeprefix(RANDOM)
    given = _given(folder)
    short = model.rpartition("/")[2]
    names = (model, short, model.replace("/", "--"))
    places = [given / name for name in names] if given is not None else []
    found = next(filter(_is_trained, places), None)
    if found is not None:
        return Weights(model, found)
    found = next(filter(_is_trained, hub.snapshots(model)), None)
    return Weights(model, found, is_cached=found is not None)


def is_whole(folder: Path) -> bool:
    """Whether a folder is a checkpoint with all of its weights."""
    if not (folder / "config.json").is_file():
        return False
    if any((folder / name).is_file() for name in _SINGLE):
        return True
    for name in _INDEXES:
        try:
            files = set(json.loads((folder / name).read_text())["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            continue
        return bool(files) and all((folder / file).is_file() for file in files)
    return False


def _is_trained(folder: Path) -> bool:
    return is_whole(folder) and mark_of(folder) is None


def _given(folder: Path | None) -> Path | None:
    return folder or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
