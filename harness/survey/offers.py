"""What a machine offers, in the words in which claims ask: "profile:node", "device:NVIDIA H200".

A model that is offered as `random:NAME` has the trained one's times, bytes and memory, and no quality.
"""

from __future__ import annotations

from harness.models.registry import names
from harness.survey.found import Survey

__all__ = ["offers"]

_ANY_GPU = "cuda"
"""What every GPU that PyTorch computes on offers beside its name, as it does in a record."""
_RANDOM_POCKET = ("llama-34m",)
"""Made on the spot wherever PyTorch is."""


def offers(found: Survey) -> list[str]:
    """Every offer once, in the order of the kinds: profiles, devices, backends, models."""
    installed = {engine.name for engine in found.engines if engine.found is not None}
    engines = [server.engine for server in found.servers if server.engine is not None]
    has_device = bool(found.cuda)
    profiles = ["pocket", "replay"] + ["node"] * (has_device or bool(found.servers))
    devices = [*(gpu.name for gpu in found.gpus), _ANY_GPU] if has_device else []
    backends = [*_backends(installed, has_device=has_device), *engines]
    models = [*names("pocket"), *(model for server in found.servers for model in server.models)]
    if "torch" in installed:
        models += _RANDOM_POCKET
        # A processor has no use for them: seven billion parameters take minutes a token there.
        models += [
            weights.name if weights.path is None else weights.model for weights in found.weights if has_device
        ]
    kinds = {"profile": profiles, "device": devices, "backend": backends, "model": models}
    return list(dict.fromkeys(f"{kind}:{value}" for kind, values in kinds.items() for value in values))


def _backends(installed: set[str], *, has_device: bool) -> list[str]:
    found = ["simulated"]
    found += ["llama.cpp"] * ("llama.cpp" in installed)
    found += ["transformers", "sessions", "arena"] if "torch" in installed else []
    found += ["ray"] * ("ray" in installed)
    return found + [name for name in ("vllm", "sglang") if name in installed and has_device]
