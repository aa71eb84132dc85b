"""When requests are due: seconds from the start of the load, rising.

Every pattern has a window of num_arrivals / rate_per_s seconds, and all its arrivals fall into it, so that
the rate offered is the rate asked for even when arrivals are few. The seed fixes the pattern and the rate
only scales it.
"""

from __future__ import annotations

import math
import random
from itertools import accumulate

from harness.errors import UsageError

__all__ = ["constant", "gamma", "poisson"]


def poisson(rate_per_s: float, num_arrivals: int, *, seed: int) -> tuple[float, ...]:
    """Due times in seconds from the start: a Poisson process, given how many arrive in its window.

    The window is num_arrivals / rate_per_s long, and given their number the arrivals of a Poisson process are
    uniform in it.

    Raises
    ------
    UsageError: the rate is not positive, or there are no arrivals.
    Source: Kingman, Poisson Processes (1993), section 2.4.
    """
    window_s = _window_s(rate_per_s, num_arrivals)
    draw = random.Random(seed)
    return tuple(sorted(draw.random() * window_s for _ in range(num_arrivals)))


def gamma(rate_per_s: float, num_arrivals: int, *, burstiness: float, seed: int) -> tuple[float, ...]:
    """Due times in seconds from the start, with gaps drawn from a gamma distribution.

    `burstiness` is the shape of that distribution, as in vLLM's `--burstiness`: its scale is
    1 / (rate × shape), so that the mean gap is 1 / rate whatever the shape, and the coefficient of variation
    of the gaps is 1 / sqrt(shape). Below 1 is burstier than Poisson, 1 is Poisson, above 1 more even.

    The gaps before, between and after the arrivals together fill the window; vLLM scales them so that its
    last request falls on the window's end. For shape 1 this is `poisson`'s distribution.

    Raises
    ------
    UsageError: rate or burstiness is not positive and finite, or there are no arrivals.
    Source: vLLM, vllm/benchmarks/serve.py, `get_request`, at 009e6d4.
    """
    window_s = _window_s(rate_per_s, num_arrivals)
    if not 0 < burstiness < math.inf:
        raise UsageError(f"arrivals: burstiness is {burstiness}; give a positive shape (1 is Poisson)")
    draw = random.Random(seed)
    gaps = [draw.gammavariate(burstiness, 1.0) for _ in range(num_arrivals + 1)]
    *ends, total = accumulate(gaps)
    if not total:
        raise UsageError(f"arrivals: burstiness {burstiness} gives only gaps of 0; give at least 0.01")
    return tuple(end / total * window_s for end in ends)


def constant(rate_per_s: float, num_arrivals: int) -> tuple[float, ...]:
    """Due times in seconds from the start, 1 / rate_per_s apart, the first at once.

    Raises
    ------
    UsageError: the rate is not positive, or there are no arrivals.
    """
    _window_s(rate_per_s, num_arrivals)
    return tuple(index / rate_per_s for index in range(num_arrivals))


def _window_s(rate_per_s: float, num_arrivals: int) -> float:
    if not 0 < rate_per_s < math.inf or num_arrivals < 1:
        raise UsageError(f"arrivals: rate {rate_per_s}/s and {num_arrivals} arrivals must both be positive")
    return num_arrivals / rate_per_s
