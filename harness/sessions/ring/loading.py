"""From a model's name to a blob on the host, and to the same model in tensors of its own.

A name is one of the minis, or anything that `core.loading` loads. Weights are read on the CPU, in the type
that they are to be computed in, and packed; on a GPU only the arena holds any.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from harness.errors import UsageError
from harness.models.torch_engine import DTYPES
from harness.residency.store.blob import HostBlob
from harness.sessions.core.loading import load
from harness.sessions.core.model import Model
from harness.sessions.ring.minis import is_mini, mini_donor
from harness.sessions.ring.packed import Skeleton, pack_model

__all__ = ["HostModel", "load_host", "load_hosts", "load_resident"]


class HostModel(NamedTuple):
    """A model on the host, ready for an arena."""

    name: str
    skeleton: Skeleton
    blob: HostBlob
    max_positions: int
    eos_ids: tuple[int, ...] = ()
    """After which a text ends; none where the model has no such token."""


def load_host(name: str, *, dtype: str = "float32", seed: int = 0) -> HostModel:
    """Load a model and pack it.

    Arguments: `seed`, of weights that are random.

    Raises
    ------
    UsageError: the dtype is unknown, and what `core.load` raises.
    BudgetError: the host has no room for a second copy while it is packed.
    """
    model, eos_ids = _load(name, dtype, seed)
    blob = pack_model(name, model.weights)
    return HostModel(name, Skeleton.of(model.weights), blob, model.shape.max_positions, eos_ids)


def load_hosts(names: Iterable[str], *, dtype: str = "float32", seed: int = 0) -> dict[str, HostModel]:
    """Load and pack several, or none of them.

    Raises
    ------
    UsageError: a name is given twice; and as `load_host`.
    """
    found: dict[str, HostModel] = {}
    try:
        for name in names:
            if name in found:
                raise UsageError(f"models: {name} is named twice; name each once")
            found[name] = load_host(name, dtype=dtype, seed=seed)
    except BaseException:
        for one in found.values():
            one.blob.close()
        raise
    return found


def load_resident(name: str, *, dtype: str = "float32", seed: int = 0) -> Model:
    """The same weights in tensors of their own, on the CPU: what every answer is compared with."""
    return _load(name, dtype, seed)[0]


def _load(name: str, dtype: str, seed: int) -> tuple[Model, tuple[int, ...]]:
    if not is_mini(name):
        loaded = load(name, dtype=dtype, seed=seed, packed=False)
        return loaded.model, loaded.eos_ids
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    kind = torch.float32 if dtype == "auto" else getattr(torch, dtype)
    donor = mini_donor(name, seed=seed, dtype=kind)
    return Model.from_transformers(name, donor, packed=False, release=True), ()
