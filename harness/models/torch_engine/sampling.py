"""The next token of each row: greedy, or drawn from the tempered and truncated distribution.

One uniform number decides a draw (inversion of the cumulative distribution), taken from a generator that
belongs to the row. So an answer depends on its seed alone: not on what runs beside it, not on how many
answers are drawn together, and not on the device's own generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Chosen", "choose", "generator"]

_SEED_BITS = (1 << 64) - 1


class Chosen(NamedTuple):
    """The next token of each row, in this process's memory: the device is done when this exists."""

    tokens: list[int]
    logprobs: list[float] | None


def generator(seed: int | None, row: int) -> np.random.Generator:
    """The source of a row's draws: the same for the same seed and row, fresh without a seed."""
    return np.random.default_rng() if seed is None else np.random.default_rng((seed & _SEED_BITS, row))


def choose(
    logits: Any,
    *,
    temperature: float,
    top_p: float,
    draws: Sequence[np.random.Generator],
    forbidden: Any = None,
    logprobs: bool = False,
) -> Chosen:
    """Choose a token for each row.

    Arguments: `logits` [rows, vocabulary]; `draws`, one generator per row; `forbidden`, ids (a tensor) that
    are not to be chosen; `logprobs`, whether to give the chosen tokens' log-probabilities, which are the
    model's own: before temperature, truncation and `forbidden`.

    Source for `top_p`: Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020), section 3.1.
    """
    scores = logits.float()
    allowed = scores if forbidden is None else scores.index_fill(1, forbidden, float("-inf"))
    if temperature == 0:
        tokens = allowed.argmax(dim=-1)
    else:
        tokens = _draw(allowed / temperature, top_p, [draw.random() for draw in draws])
    values = None
    if logprobs:
        values = scores.log_softmax(dim=-1).gather(1, tokens[:, None])[:, 0].tolist()
    return Chosen(tokens.tolist(), values)


def _draw(scores: Any, top_p: float, uniform: list[float]) -> Any:
    import torch

    likely, order = scores.softmax(dim=-1, dtype=torch.float64).sort(dim=-1, descending=True, stable=True)
    total = likely.cumsum(dim=-1)
    if top_p < 1:
        likely = likely.masked_fill(total - likely >= top_p, 0.0)
        total = likely.cumsum(dim=-1)
    mark = total[:, -1:] * torch.tensor(uniform, dtype=torch.float64, device=scores.device)[:, None]
    place = torch.searchsorted(total, mark, right=True)
    # A mark rounded up to the total would fall behind the last token that may be chosen.
    place = torch.minimum(place, (likely > 0).sum(dim=-1, keepdim=True) - 1)
    return order.gather(1, place)[:, 0]
