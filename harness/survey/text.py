"""What was found, as lines for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from harness.hardware.nvml import GpuFacts
from harness.survey.ceilings import Ceiling
from harness.survey.found import Survey

__all__ = ["ceiling_line", "lines"]

WIDTH = 110
NAME = 36
NO_WEIGHTS = "  What is not here is stood for by random weights of its shape, for times and memory alone."
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def lines(found: Survey) -> Iterator[str]:
    """All but the ceilings, which come as they are measured."""
    machine = found.machine
    yield f"{machine.processor}, {machine.usable_cores} of {machine.cores} cores"
    limit = "" if machine.limit_bytes is None else f", {_gb(machine.limit_bytes)} for this process"
    yield f"{_gb(machine.memory_bytes)} of memory, {_gb(machine.available_bytes)} available{limit}"
    yield f"{machine.system}, Python {machine.python}"
    yield from ["", "GPUs", *map(_gpu, found.gpus)]
    if found.no_gpus:
        yield from _row("not all" if found.gpus else "none", found.no_gpus)
    seen = ", ".join(found.cuda) or f"none: {found.no_cuda}"
    yield from _row("PyTorch computes on", seen)
    yield from ["", "engines"]
    for engine in found.engines:
        yield from _row(engine.name, engine.found or f"– not here: {engine.remedy}")
    yield from ["", "servers that answer"]
    for server in found.servers:
        yield from _row(server.url, f"{server.engine or 'unknown engine'}: {', '.join(server.models)}")
    if not found.servers:
        yield from _row("none", "at the ports of SGLang, vLLM, llama.cpp and Ollama on this machine")
    yield from ["", "weights of the sources' models"]
    for weights in found.weights:
        yield from _row(weights.model, str(weights.path) if weights.path is not None else "– not here")
    if any(weights.path is None for weights in found.weights):
        yield NO_WEIGHTS


def ceiling_line(ceiling: Ceiling) -> str:
    """A rate with its unit, or why there is none."""
    rate = "–" if ceiling.value is None else _rate(ceiling.value, ceiling.unit)
    return "\n".join(_row(ceiling.name, f"{rate:>14}  {ceiling.note}"))


def _gpu(gpu: GpuFacts) -> str:
    link = f"PCIe {gpu.pcie_generation} × {gpu.pcie_lanes}" if gpu.pcie_generation else "link unknown"
    power = "" if gpu.power_limit_w is None else f", {gpu.power_limit_w:.0f} W"
    sliced = ", cut into slices (MIG)" if gpu.is_sliced else ""
    used = "" if not gpu.used_bytes else f", {_gb(gpu.used_bytes)} in use"
    about = f"{_gb(gpu.memory_bytes)}{used}{power}, {link}{sliced}; driver {gpu.driver}, CUDA {gpu.cuda}"
    return "\n".join(_row(gpu.name, about))


def _row(name: str, text: str) -> list[str]:
    head = f"  {name:<{NAME}} "
    return textwrap.wrap(
        f"{head}{text}", WIDTH, subsequent_indent=" " * len(head), break_long_words=False,
        break_on_hyphens=False, drop_whitespace=True,
    )  # fmt: skip


def _gb(num_bytes: int | None) -> str:
    return "unknown" if num_bytes is None else f"{num_bytes / 1e9:.1f} GB"


def _rate(value: float, unit: str) -> str:
    for scale, letter in _SCALES:
        if value >= scale:
            return f"{value / scale:.3g} {letter}{unit}"
    return f"{value:.3g} {unit}"
