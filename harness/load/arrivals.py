"""When requests are due."""

from __future__ import annotations

import random

from harness.errors import UsageError

__all__ = ["poisson"]


def poisson(rate_per_s: float, num_arrivals: int, *, seed: int) -> tuple[float, ...]:
    """Due times in seconds from the start: a Poisson process, the same for the same seed.

    The seed fixes the shape and the rate only scales it, so that two rates offer the same pattern.

    Raises
    ------
    UsageError: the rate is not positive, or there are no arrivals.
    """
    if rate_per_s <= 0 or num_arrivals < 1:
        raise UsageError(f"arrivals: rate {rate_per_s}/s and {num_arrivals} arrivals must both be positive")
    draw = random.Random(seed)
    due, now = [], 0.0
    for _ in range(num_arrivals):
        now += draw.expovariate(1.0)
        due.append(now / rate_per_s)
    return tuple(due)
