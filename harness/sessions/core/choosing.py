"""The next token of each row of logits: the likeliest, or one drawn by the turn's own generator.

A row is drawn alone and by one number of its turn, so that what else is in the batch is in no token of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from harness.models.torch_engine.sampling import choose, generator
from harness.sessions.sampling import Sampling

__all__ = ["Draws", "chosen"]


class Draws(NamedTuple):
    """A turn's sampling, and where its numbers come from."""

    sampling: Sampling
    source: Any
    """numpy's Generator; each token takes one number of it."""

    @classmethod
    def of(cls, sampling: Sampling | None) -> Draws | None:
        """For a new turn; None where its tokens are the likeliest."""
        if sampling is None or sampling.temperature == 0:
            return None
        return cls(sampling, generator(sampling.seed, 0))


def chosen(logits: torch.Tensor, draws: Sequence[Draws | None]) -> list[int]:
    """A token for each row of [rows, vocab_size]."""
    tokens = _likeliest(logits)
    for row, each in enumerate(draws):
        if each is not None:
            temperature, top_p, _ = each.sampling
            alone = logits[row : row + 1]
            tokens[row] = choose(alone, temperature=temperature, top_p=top_p, draws=[each.source]).tokens[0]
    return tokens


def _likeliest(logits: torch.Tensor) -> list[int]:
    # On a CPU, numpy finds the greatest of 32 × 8192 ten times as fast.
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        return list(map(int, logits.numpy().argmax(-1)))
    return list(map(int, logits.argmax(-1).tolist()))
