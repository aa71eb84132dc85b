"""When requests are due."""

from __future__ import annotations

import random

from harness.errors import UsageError

__all__ = ["poisson"]


def poisson(rate_per_s: float, num_arrivals: int, *, seed: int) -> tuple[float, ...]:
    """Due times in seconds from the start: a Poisson process, given how many arrive in its window.

    The window is num_arrivals / rate_per_s long, and given their number the arrivals of a Poisson process are
    uniform in it, so that the rate offered is the rate asked for even when they are few. The seed fixes the
    pattern and the rate only scales it.

    Raises
    ------
    UsageError: the rate is not positive, or there are no arrivals.
    Source: Kingman, Poisson Processes (1993), section 2.4.
    """
    if rate_per_s <= 0 or num_arrivals < 1:
        raise UsageError(f"arrivals: rate {rate_per_s}/s and {num_arrivals} arrivals must both be positive")
    draw = random.Random(seed)
    window_s = num_arrivals / rate_per_s
    return tuple(sorted(draw.random() * window_s for _ in range(num_arrivals)))
