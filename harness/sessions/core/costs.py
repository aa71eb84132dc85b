"""What computing a token and copying a byte cost here: measured at the start, then as the engine runs.

Exponential means: a machine gets busy, and what counts is what a session evicted now will pay soon.
"""

from __future__ import annotations

from time import perf_counter

import torch

from harness.sessions.core.decoding import Decoder
from harness.sessions.core.model import Model, Span
from harness.sessions.core.slab import Slab

__all__ = ["Costs"]

_WEIGHT = 0.2
"""Of the newest measurement."""
_PROBE_TOKENS = 16
_PROBE_COPIES = 64


class Costs:
    """Seconds per prefilled token and per copied byte."""

    def __init__(self, prefill_s_per_token: float, copy_s_per_byte: float) -> None:
        self.prefill_s_per_token = prefill_s_per_token
        self.copy_s_per_byte = copy_s_per_byte

    @classmethod
    def measure(cls, model: Model, decoder: Decoder | None = None) -> Costs:
        """Compute and copy a few tokens in memory of no session; this also warms the model up.

        Arguments: `decoder`, what runs its decode steps.
        """
        slab = Slab(model.slab_shape, _PROBE_TOKENS)
        tokens = [0] * _PROBE_TOKENS
        for _ in range(2):
            slab.cut(0)
            began_s = perf_counter()
            model.forward([Span(slab, tokens)]).argmax(-1).tolist()
            prefill_s = perf_counter() - began_s
        slab.cut(1)
        model.forward([Span(slab, [0])], decoder)
        model.synchronize()
        if decoder is not None:
            decoder.num_steps = decoder.num_replayed = 0  # which count sessions' steps
        slab.num_tokens = _PROBE_TOKENS
        began_s = perf_counter()
        for _ in range(_PROBE_COPIES):
            num_bytes = slab.read(0, _PROBE_TOKENS).to(torch.device("cpu")).nbytes
        copy_s = (perf_counter() - began_s) / _PROBE_COPIES
        return cls(prefill_s / _PROBE_TOKENS, copy_s / num_bytes)

    def prefilled(self, num_tokens: int, seconds: float) -> None:
        """Learn from a step of prefilled tokens only."""
        self.prefill_s_per_token += _WEIGHT * (seconds / num_tokens - self.prefill_s_per_token)

    def copied(self, num_bytes: int, seconds: float) -> None:
        """Learn from a copy."""
        self.copy_s_per_byte += _WEIGHT * (seconds / num_bytes - self.copy_s_per_byte)
