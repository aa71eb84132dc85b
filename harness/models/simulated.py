"""Constants of the simulated engines: read from `simulated.toml`, and completed by a roofline.

The model of an engine is four numbers (`Timing`), and it leaves out much: attention's own arithmetic (a few
per cent below some thousand tokens of context), kernel launches, scheduling, tokenizing, the network, and
memory running out. So a simulated time is a floor where it was derived, and no measurement anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.errors import ModelError
from harness.models.registry import Device, ModelSpec, devices, get
from harness.tables import read_file

__all__ = ["Constants", "EngineRow", "OutputRow", "Timing", "find", "find_output", "load", "timing"]

FILE = Path(__file__).with_name("simulated.toml")
_ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRow:
    """A model on a device, as published or to be derived."""

    name: str
    model: str
    device: str
    """Of the registry; or, with a published `decode_step_s`, where that was seen."""
    slots: int
    """Requests decoded together."""
    context_tokens: int
    """Prompt and answer together, at most."""
    source: str
    dtype: str = "bf16"
    load_bytes_per_s: float | None = None
    decode_step_s: float | None = None
    """Published seconds per token of a single answer."""
    prefill_tokens_per_s: float | None = None
    load_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRow:
    """How long an answer is that is not told to go on."""

    name: str
    source: str
    mean_tokens: float | None = None
    """Of a geometric distribution, cut at `max_tokens`; `None` is always `max_tokens`."""


class Constants(NamedTuple):
    """The whole file, each table by its rows' names."""

    engines: dict[str, EngineRow]
    outputs: dict[str, OutputRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long an engine's iterations take.

    Source of the form: Williams et al., "Roofline" (2009); weights are read once per step whatever the batch,
    Pope et al., "Efficiently Scaling Transformer Inference" (2022), section 2.
    """

    read_s: float
    """One reading of the weights: what a step takes at least."""
    token_s: float = 0.0
    """Computing one token."""
    kv_s: float = 0.0
    """Reading one token's keys and values."""
    load_s: float | None = None
    """Bringing the weights to the device."""

    def __post_init__(self) -> None:
        if not self.read_s > 0 or self.token_s < 0 or self.kv_s < 0:
            raise ValueError(f"{self}: read_s must be positive, the others not negative")

    def prefill_s(self, num_tokens: int) -> float:
        """Seconds until a prompt's first token."""
        return max(self.read_s, num_tokens * self.token_s)

    def step_s(self, batch_size: int, context_tokens: int) -> float:
        """Seconds of a decode step; `context_tokens` is the sum over the batch."""
        return max(self.read_s, batch_size * self.token_s) + context_tokens * self.kv_s


@cache
def load(path: Path = FILE) -> Constants:
    """Read a file of constants.

    Raises ModelError that names file, row and key: as the registry does, and for a row that cannot be
    completed, that no device can hold, or that makes no sense.
    """
    tables = read_file(path, {"engine": EngineRow, "output": OutputRow}, error=ModelError)
    for row in tables["engine"].values():
        _check(f"{path.name}: engine {row.name}", row)
    return Constants(tables["engine"], tables["output"])


def find(model: str, device: str | None = None, engines: Mapping[str, EngineRow] | None = None) -> EngineRow:
    """The row of a model on a device, each by its name or the beginning of it; the file's first by default.

    Raises ModelError when nothing or more than one model or device fits.
    """
    known = load().engines if engines is None else engines
    of_model = _pick("model", model, {row.model: row for row in known.values()})
    here = {row.device: row for row in known.values() if row.model == of_model.model}
    return next(iter(here.values())) if device is None else _pick(f"{of_model.model} on", device, here)


def find_output(name: str) -> OutputRow:
    """A distribution of lengths by its name. Raises ModelError for an unknown one."""
    known = load().outputs
    if name not in known:
        raise ModelError(f"no distribution of lengths {name!r}; choose one of {', '.join(known)}")
    return known[name]


def timing(row: EngineRow) -> Timing:
    """A row's iteration times: what it publishes, and for the rest the roofline of its device."""
    if row.decode_step_s is not None:
        rate = row.prefill_tokens_per_s
        return Timing(read_s=row.decode_step_s, token_s=0.0 if rate is None else 1 / rate, load_s=row.load_s)
    spec, device = get(row.model), devices()[row.device]
    rate = row.prefill_tokens_per_s or device.peak_flops_per_s[row.dtype] / (2 * spec.params)
    weights_bytes = spec.params * _ELEMENT_BYTES[row.dtype]
    load_s = row.load_s
    if load_s is None and row.load_bytes_per_s is not None:
        load_s = weights_bytes / row.load_bytes_per_s
    return Timing(
        read_s=weights_bytes / device.memory_bandwidth_bytes_per_s,
        token_s=1 / rate,
        kv_s=spec.kv_bytes_per_token(_ELEMENT_BYTES[row.dtype]) / device.memory_bandwidth_bytes_per_s,
        load_s=load_s,
    )


def _pick(what: str, wanted: str, known: Mapping[str, EngineRow]) -> EngineRow:
    if wanted in known:
        return known[wanted]
    fits = [row for name, row in known.items() if name.lower().startswith(wanted.lower())]
    if wanted and len(fits) == 1:
        return fits[0]
    how = "more than one" if fits else "no"
    raise ModelError(f"{how} simulated {what} {wanted!r}; choose one of {', '.join(known)}")


def _check(label: str, row: EngineRow) -> None:
    spec = get(row.model)
    for key in (
        "slots",
        "context_tokens",
        "load_bytes_per_s",
        "decode_step_s",
        "prefill_tokens_per_s",
        "load_s",
    ):
        value = getattr(row, key)
        if value is not None and not value > 0:
            raise ModelError(f"{label}: {key} is {value}; it must be positive")
    device = devices().get(row.device)
    if device is None:
        if row.decode_step_s is None:
            raise ModelError(f"{label}: unknown device {row.device!r}; use {', '.join(devices())}")
        return
    if row.dtype not in _ELEMENT_BYTES or row.dtype not in device.peak_flops_per_s:
        raise ModelError(f"{label}: {row.device} has no peak for dtype {row.dtype!r}; use another")
    _check_fits(label, row, spec, device)


def _check_fits(label: str, row: EngineRow, spec: ModelSpec, device: Device) -> None:
    size = _ELEMENT_BYTES[row.dtype]
    needed = spec.params * size + row.slots * row.context_tokens * spec.kv_bytes_per_token(size)
    if needed > device.memory_bytes:
        raise ModelError(
            f"{label}: weights and {row.slots} contexts of {row.context_tokens} tokens need "
            f"{needed / 1e9:.1f} GB of {device.memory_bytes / 1e9:.1f}; lower slots or context_tokens"
        )
