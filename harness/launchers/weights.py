"""What a model's name becomes for an engine: a checkpoint, a GGUF file, or a name left to the engine."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from harness.errors import ModelError, UsageError
from harness.launchers.recipe import Recipe

__all__ = ["Weights", "weights_of"]

_DEFAULT_QUANT = "f16"


class Weights(NamedTuple):
    """What an engine is given to load."""

    text: str
    """A path of this machine, or a name that the engine fetches."""
    model: str
    """The short name to serve it under."""
    is_local: bool


def weights_of(known: Recipe, model: str | None, name: str, path: str | None = None) -> Weights:
    """What the engine is given to load for a model's name.

    Parameters
    ----------
    name: the role's, for errors.
    path: a folder or file that holds the model, so that its name is but a name.

    Raises
    ------
    UsageError: no model is named.
    ModelError: the pocket model's weights are missing or corrupt, or the engine cannot load such a model.
    """
    from harness.models import checkpoint, gguf_path, names

    if model is None:
        raise UsageError(f"{name}: {known.name} needs a model; name one with model=NAME")
    if path is not None:
        return _local_weights(known, Path(path).resolve(), name)._replace(model=model)
    pocket, _, quant = model.partition("@")
    if known.weights == "library" or (pocket not in names("pocket") and not Path(model).exists()):
        if known.weights == "gguf":
            what = f"{model} is no GGUF file and no pocket model"
            raise ModelError(f"{name}: {what}; use one of {', '.join(names('pocket'))}")
        return Weights(model, model, is_local=False)
    if pocket not in names("pocket"):
        return _local_weights(known, Path(model).resolve(), name)
    if known.weights == "gguf":
        return Weights(str(gguf_path(pocket, quant or _DEFAULT_QUANT).resolve()), pocket, is_local=True)
    if quant:
        raise ModelError(f"{name}: {known.name} loads checkpoints, not {quant}; name the model {pocket}")
    return Weights(str(checkpoint(pocket).resolve()), pocket, is_local=True)


def _local_weights(known: Recipe, path: Path, name: str) -> Weights:
    if not path.exists():
        raise ModelError(f"{name}: {path} does not exist; give a {known.weights}")
    if known.weights == "gguf" and not path.is_file():
        raise ModelError(f"{name}: {path} is a folder; {known.name} needs a GGUF file")
    if known.weights == "checkpoint" and not (path / "config.json").is_file():
        raise ModelError(f"{name}: {path} has no config.json; {known.name} needs a checkpoint's folder")
    return Weights(str(path), path.stem if path.is_file() else path.name, is_local=True)
