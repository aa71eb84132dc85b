"""The registry: what is known about models, devices and prices, and where their files are.

The facts live in `registry.toml`; this module holds their schema and refuses what it does not
know. Nothing here needs torch.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from harness.errors import ModelError
from harness.models import gguf
from harness.tables import read_file

__all__ = [
    "ComputePrice",
    "Device",
    "ModelSpec",
    "Prices",
    "Registry",
    "TokenPrice",
    "checkpoint",
    "devices",
    "get",
    "gguf_path",
    "load",
    "names",
    "prices",
    "sha256_of",
    "verify",
]

REGISTRY_FILE = Path(__file__).with_name("registry.toml")
WEIGHTS_DIR = Path(__file__).with_name("weights")
_KINDS = ("pocket", "published")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Shape and origin of one model."""

    name: str
    kind: str
    """`pocket` (weights are here) or `published` (only its facts are)."""
    params: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab_size: int
    tied_embeddings: bool
    tokenizer: str
    source: str
    sha256: str | None = None
    """Of `model.safetensors`; None for published models."""

    @property
    def quants(self) -> tuple[str, ...]:
        """Quantisations that `gguf_path` can make; none for published models."""
        return gguf.QUANTS if self.kind == "pocket" else ()

    def kv_bytes_per_token(self, bytes_per_element: int = 2) -> int:
        """Size of one token's keys and values over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_per_element


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a piece of hardware can do at most, by its data sheet."""

    name: str
    memory_bytes: int
    memory_bandwidth_bytes_per_s: float
    peak_flops_per_s: dict[str, float]
    """By element type, dense."""
    source: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrice:
    """List price of a published model."""

    model: str
    usd_per_million_input: float
    usd_per_million_output: float
    as_of: datetime.date
    source: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ComputePrice:
    """Price of renting a piece of a machine."""

    name: str
    usd_per_hour: float
    as_of: datetime.date
    source: str


class Prices(NamedTuple):
    """All prices: tokens by model, compute by what is rented (`vcpu`)."""

    tokens: dict[str, TokenPrice]
    compute: dict[str, ComputePrice]


class Registry(NamedTuple):
    """The whole file, each table by its rows' names."""

    models: dict[str, ModelSpec]
    devices: dict[str, Device]
    prices: Prices


def load(path: Path = REGISTRY_FILE) -> Registry:
    """Read a registry file.

    Raises ModelError that names file, row and key: for an unknown or missing key, a value of the
    wrong type, a name given twice, or an unknown table.
    """
    kinds = {"model": ModelSpec, "device": Device, "token_price": TokenPrice, "compute_price": ComputePrice}
    tables = read_file(path, kinds, key={"token_price": "model"}, error=ModelError)
    models: dict[str, ModelSpec] = tables["model"]
    for spec in models.values():
        if spec.kind not in _KINDS:
            raise ModelError(
                f"{path.name}: model {spec.name}: kind is {spec.kind!r}; use one of {', '.join(_KINDS)}"
            )
        if (spec.kind == "pocket") != (spec.sha256 is not None):
            raise ModelError(
                f"{path.name}: model {spec.name}: sha256 belongs to pocket models, and only to them"
            )
    return Registry(models, tables["device"], Prices(tables["token_price"], tables["compute_price"]))


@lru_cache(maxsize=1)
def _registry() -> Registry:
    return load()


def names(kind: str | None = None) -> tuple[str, ...]:
    """Names of all models, or of those of one kind, in the order of the file."""
    return tuple(spec.name for spec in _registry().models.values() if kind in (None, spec.kind))


def get(name: str) -> ModelSpec:
    """Return the facts of a model. Raises ModelError for an unknown name."""
    try:
        return _registry().models[name]
    except KeyError:
        raise ModelError(f"unknown model {name!r}; choose one of {', '.join(names())}") from None


def devices() -> dict[str, Device]:
    """All devices by name."""
    return _registry().devices


def prices() -> Prices:
    """All prices."""
    return _registry().prices


def checkpoint(name: str) -> Path:
    """Return the folder of a pocket model's checkpoint, for transformers or the converter.

    The weights' hash is checked once per process. Raises ModelError for an unknown or published
    model, and for weights that are missing or differ from the registry.
    """
    spec = get(name)
    if spec.sha256 is None:
        raise ModelError(
            f"{name}: its weights are not shipped; reach it through a backend (--backend NAME=URL)"
        )
    folder = WEIGHTS_DIR / name
    verify(folder, spec.sha256)
    return folder


def gguf_path(name: str, quant: str = "f16") -> Path:
    """Return a pocket model as a GGUF file, converted on first use and cached.

    Raises ModelError as `checkpoint` does, and for a quantisation that the converter lacks.
    """
    return gguf.cached(checkpoint(name), quant)


@cache
def verify(folder: Path, sha256: str) -> None:
    """Check a checkpoint's weights. Raises ModelError when they are missing or differ."""
    path = folder / "model.safetensors"
    remedy = f"restore it from the repository, or run `python -m harness.models train {folder.name}`"
    if not path.is_file():
        raise ModelError(f"{folder.name}: {path} is missing; {remedy}")
    found = sha256_of(folder)
    if found != sha256:
        raise ModelError(
            f"{folder.name}: {path} is corrupt (sha256 {found[:12]}…, registry {sha256[:12]}…); {remedy}"
        )


def sha256_of(folder: Path) -> str:
    """Hash of a checkpoint's weights, as `registry.toml` records it."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
