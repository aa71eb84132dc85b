"""What the arms of a comparison have in common: the models, the arena, the link, and what is asked of them.

The defaults are the pocket's: the published sizes and the published buffer, a thousandth of each, on a link
that is declared and paced. Everything here is plain data, so that a process of its own can be told of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from harness.errors import UsageError

__all__ = ["POCKET_MODELS", "Setting"]

POCKET_MODELS = ("llama-mini", "mistral-mini", "phi-mini")
_POPULARITY = MappingProxyType(dict(zip(POCKET_MODELS, (0.4, 0.4, 0.2), strict=True)))
"""Source: the published mix (see `harness.residency.traces`)."""
_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What an arm is started for."""

    models: tuple[str, ...] = POCKET_MODELS
    arena_bytes: int = 25_000_000
    """Of the device, for weights; `process-per-model` has its keys and values in it too."""
    link_bytes_per_s: float | None = 0.5e9
    """Declared, from host to device and back; None for the machine's own."""
    device: str = "cpu"
    dtype: str = "float32"
    popularity: Mapping[str, float] = field(default_factory=dict)
    """Declared share of requests per model; empty for the published mix, or for equal shares of others."""
    seed: int = 0
    """Of random weights and of prompts."""
    prompt_tokens: int = 8
    new_tokens: int = 2
    threads: int = 1
    """Within one operation of a CPU."""
    folder: str | None = None
    """Where packed files are kept, for the arms that read them; None for a temporary one."""
    evicts: bool = True
    """Whether `process-per-model` stops a process for one that does not fit beside it, or refuses that."""
    servers: Mapping[str, str] = field(default_factory=dict)
    """Model → URL of a vLLM that runs already; empty to start them."""
    vllm_python: str | None = None
    """The interpreter of vLLM's own environment; None for ASSAY_VLLM_PYTHON, or this one."""
    deadline_s: float = 600.0
    """For any one server to come up."""

    def __post_init__(self) -> None:
        self._check_models()
        if self.device != "cpu" and not re.fullmatch(r"cuda(:\d+)?", self.device):
            raise UsageError(f"setting: device {self.device!r}; use cpu, cuda or cuda:NUMBER")
        if self.dtype not in _DTYPES:
            raise UsageError(f"setting: dtype {self.dtype!r}; use one of {', '.join(_DTYPES)}")
        for name in ("arena_bytes", "prompt_tokens", "new_tokens", "threads"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"setting: {name} is {value!r}; give a whole number, 1 or more")
        rate = self.link_bytes_per_s
        if rate is not None and not 0 < rate < math.inf:
            raise UsageError(f"setting: link_bytes_per_s is {rate}; give a positive rate, or none at all")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"setting: seed is {self.seed}; give a whole number from 0 to {2**32 - 1}")
        # Plain dictionaries pickle; what was handed in may be a view that does not.
        object.__setattr__(self, "popularity", self._shares())
        object.__setattr__(self, "servers", dict(self.servers))

    def _check_models(self) -> None:
        if not self.models or len(set(self.models)) < len(self.models):
            raise UsageError(f"setting: models are {', '.join(self.models) or 'none'}; name each once")
        for what, given in (("popularity", self.popularity), ("servers", self.servers)):
            if given and set(given) != set(self.models):
                names = ", ".join(given)
                raise UsageError(f"setting: {what} names {names}; name {', '.join(self.models)}")

    def _shares(self) -> dict[str, float]:
        default = _POPULARITY if set(self.models) == set(_POPULARITY) else dict.fromkeys(self.models, 1.0)
        shares = {model: (self.popularity or default)[model] for model in self.models}
        if not all(0 < share < math.inf for share in shares.values()):
            raise UsageError(f"setting: popularity {shares}; give each model a positive share")
        return shares
