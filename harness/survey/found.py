"""Everything that is here, in one value: what is printed, written as JSON, and made offers of."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UnavailableError
from harness.hardware.gpus import open_visible
from harness.hardware.machine import Machine, this_machine
from harness.hardware.nvml import GpuFacts
from harness.launchers.detect import Found
from harness.survey.ceilings import Ceiling
from harness.survey.software import Engine, engines_here, servers_here
from harness.survey.weights import Weights, weights_here

__all__ = ["Survey", "cuda_devices", "survey", "to_json"]


WHY_LEN = 300
"""Characters of another library's reason that are told."""


class Survey(NamedTuple):
    """What was found."""

    machine: Machine
    gpus: list[GpuFacts]
    no_gpus: str
    """Why the driver tells of none, or not of all, with the remedy; empty where it does."""
    cuda: list[str]
    """Devices as PyTorch sees them: "cuda:0"."""
    no_cuda: str
    engines: list[Engine]
    servers: list[Found]
    weights: list[Weights]
    ceilings: list[Ceiling]
    """Empty until they are measured."""


def survey(weights: Path | None = None) -> Survey:
    """Look at all of it; about a second. `weights`, a folder of checkpoints."""
    gpus, no_gpus = _gpus()
    cuda, no_cuda = cuda_devices()
    return Survey(
        machine=this_machine(),
        gpus=gpus,
        no_gpus=no_gpus,
        cuda=cuda,
        no_cuda=no_cuda,
        engines=engines_here(),
        servers=servers_here(),
        weights=weights_here(weights),
        ceilings=[],
    )


def cuda_devices() -> tuple[list[str], str]:
    """The GPUs that PyTorch can compute on, or why there are none."""
    try:
        import torch
    except ImportError:
        return [], "PyTorch is missing; run: pip install 'assay[torch]'"
    with warnings.catch_warnings(record=True) as told:  # of a driver that is too old, in place of an error
        warnings.simplefilter("always")
        is_there = torch.cuda.is_available()
    if not is_there:
        built = torch.version.cuda
        seen = f"sees no device{_why(told)}" if built else "is built without CUDA"
        return [], f"PyTorch {torch.__version__} {seen}"
    for one in told:  # not of what is missing: whoever asked is to hear it
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())], ""


def _why(told: list[warnings.WarningMessage]) -> str:
    """The warning that speaks of a driver or of CUDA, else the first, in one line."""
    texts = [" ".join(str(one.message).split())[:WHY_LEN] for one in told]
    texts.sort(key=lambda text: "driver" not in text and "CUDA" not in text)
    return "".join(f": {text}" for text in texts[:1])


def to_json(found: Survey) -> dict[str, Any]:
    """As plain JSON values."""
    return {
        "machine": found.machine._asdict(),
        "gpus": [one._asdict() for one in found.gpus],
        "no_gpus": found.no_gpus,
        "cuda": found.cuda,
        "no_cuda": found.no_cuda,
        "engines": [one._asdict() for one in found.engines],
        "servers": [
            {"url": one.url, "engine": one.engine, "models": list(one.models), "state": one.state}
            for one in found.servers
        ],
        "weights": [
            {"model": one.model, "path": None if one.path is None else str(one.path), "load": one.name}
            for one in found.weights
        ],
        "ceilings": [one._asdict() for one in found.ceilings],
    }


def _gpus() -> tuple[list[GpuFacts], str]:
    try:
        opened = open_visible(os.environ)
    except UnavailableError as exc:
        return [], str(exc)
    facts, silent = [], []
    for gpu in opened:
        with gpu:
            try:
                facts.append(gpu.facts())
            except UnavailableError as exc:  # of one that is lost; the others can be told
                silent.append(str(exc))
    hidden = "" if facts else "CUDA_VISIBLE_DEVICES leaves none"
    return facts, "; ".join(silent) or hidden
