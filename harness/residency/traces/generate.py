"""Traces by seed: the published mix, Zipf popularity, bursts, and a cycle that defeats recency.

`published(42, 30)` is the seed's own trace to the last digit: it draws from numpy's and Python's old
generators in the seed's order. It is called Zipfian and is not: 40/40/20, drawn independently.

The others draw from `numpy.random.default_rng(seed)`, whose streams numpy keeps stable for `choice`, `random`
and `exponential` of a released version; a committed trace is what does not depend on that.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np

from harness.errors import UsageError
from harness.residency.traces.trace import Request, Trace

__all__ = [
    "MIN_REQUESTS",
    "PUBLISHED_MIX",
    "bursts",
    "categorical",
    "cycle",
    "published",
    "zipf",
    "zipf_shares",
]

PUBLISHED_MIX = {"llama-7b": 0.4, "mistral-7b": 0.4, "phi-2": 0.2}
"""Source: jaewan/Djinn, exp1 configs/multimodel_7b.yaml, and the counts of its committed trace."""

MIN_REQUESTS = 1
RATE_PER_S = 0.5
THINK_S = (5.0, 15.0)
PROMPT_TOKENS = 512
OUTPUT_TOKENS = 50


def published(seed: int = 42, num_requests: int = 30) -> Trace:
    """The published mix: 40/40/20, Poisson arrivals at 0.5/s, thinking 5 to 15 s, 512 tokens in, 50 out.

    Raises
    ------
    UsageError: there are no requests, or the seed is none.
    Source: jaewan/Djinn, exp1 scripts/generate_multimodel_trace_7b.py at 8953e27.
    """
    _check(num_requests, seed)
    draw, think = np.random.RandomState(seed), random.Random(seed)
    times_s = np.cumsum(draw.exponential(1.0 / RATE_PER_S, num_requests))
    names, shares = list(PUBLISHED_MIX), list(PUBLISHED_MIX.values())
    models = [names[draw.choice(len(names), p=shares)] for _ in range(num_requests)]
    thinks_s = [think.uniform(*THINK_S) for _ in range(num_requests)]
    source = "jaewan/Djinn exp1, generate_multimodel_trace_7b.py at 8953e27: 40/40/20, not Zipf"
    return _trace(f"published-{seed}", source, times_s, models, thinks_s)


def categorical(
    models: Sequence[str], shares: Sequence[float], num_requests: int, *, seed: int, name: str = "categorical"
) -> Trace:
    """Models drawn independently by their shares, Poisson arrivals.

    Raises
    ------
    UsageError: there are no requests or no models, or the shares are not positive, one each.
    """
    _check(num_requests, seed)
    if not models or len(shares) != len(models) or not min(shares) > 0:
        raise UsageError(
            f"trace {name}: {len(shares)} shares for {len(models)} models; give each a positive one"
        )
    draw = np.random.default_rng(seed)
    picked = draw.choice(len(models), size=num_requests, p=np.asarray(shares) / np.sum(shares))
    times_s = np.cumsum(draw.exponential(1.0 / RATE_PER_S, num_requests))
    text = ", ".join(f"{model} {share:.3g}" for model, share in zip(models, shares, strict=True))
    source = f"drawn independently: {text}; numpy default_rng({seed})"
    return _trace(f"{name}-{seed}", source, times_s, [models[i] for i in picked])


def zipf_shares(num_models: int, alpha: float) -> list[float]:
    """Shares of requests by rank: rank^-alpha, normed.

    Raises
    ------
    UsageError: there are no models, or alpha is negative.
    Source: Breslau et al., Web Caching and Zipf-like Distributions, INFOCOM 1999.
    """
    if num_models < 1 or not 0 <= alpha < 100:
        raise UsageError(
            f"zipf: {num_models} models, alpha {alpha}; give a model and an alpha of 0 (uniform) or more"
        )
    weights = [rank**-alpha for rank in range(1, num_models + 1)]
    return [weight / sum(weights) for weight in weights]


def zipf(models: Sequence[str], num_requests: int, *, alpha: float = 1.0, seed: int) -> Trace:
    """Models drawn independently, the first the most popular: share ∝ rank^-alpha; 0 is uniform.

    Raises
    ------
    UsageError: there are no requests or no models, or alpha is negative.
    """
    shares = zipf_shares(len(models), alpha)
    return categorical(models, shares, num_requests, seed=seed, name=f"zipf-{alpha:g}")


def bursts(
    models: Sequence[str], num_requests: int, *, alpha: float = 1.0, mean_burst: float = 5.0, seed: int
) -> Trace:
    """Zipf popularity, but a model comes in bursts of `mean_burst` requests on average (geometric lengths).

    Raises
    ------
    UsageError: there are no requests or no models, or bursts are shorter than a request.
    """
    if not 1 <= mean_burst < 1e6:
        raise UsageError(f"trace bursts: mean_burst is {mean_burst} requests; give at least 1")
    _check(num_requests, seed)
    shares = zipf_shares(len(models), alpha)
    draw = np.random.default_rng(seed)
    picked: list[int] = []
    while len(picked) < num_requests:
        model = int(draw.choice(len(models), p=shares))
        picked += [model] * int(draw.geometric(1.0 / mean_burst))
    times_s = np.cumsum(draw.exponential(1.0 / RATE_PER_S, num_requests))
    source = f"Zipf {alpha:g} in geometric bursts of {mean_burst:g} on average; numpy default_rng({seed})"
    return _trace(f"bursts-{seed}", source, times_s, [models[i] for i in picked[:num_requests]])


def cycle(models: Sequence[str], num_requests: int) -> Trace:
    """Every model in turn, evenly spaced: what recency keeps is what is needed last.

    Raises ------ UsageError: there are no requests or no models. Source: the adversary of Sleator and Tarjan,
    Amortized Efficiency of List Update and Paging Rules, CACM 1985.
    """
    _check(num_requests)
    if not models:
        raise UsageError("trace cycle: no models; name at least one")
    times_s = [i / RATE_PER_S for i in range(num_requests)]
    return _trace(
        "cycle", "each model in turn", times_s, [models[i % len(models)] for i in range(num_requests)]
    )


def _trace(
    name: str,
    source: str,
    times_s: Iterable[float],
    models: Sequence[str],
    thinks_s: Sequence[float] | None = None,
) -> Trace:
    thinks_s = thinks_s or [0.0] * len(models)
    rows = zip(times_s, models, thinks_s, strict=True)
    requests = (Request(float(at), model, PROMPT_TOKENS, OUTPUT_TOKENS, think) for at, model, think in rows)
    return Trace(name=name, source=source, requests=tuple(requests))


def _check(num_requests: int, seed: int = 0) -> None:
    if num_requests < MIN_REQUESTS:
        raise UsageError(f"trace: {num_requests} requests asked for; ask for at least {MIN_REQUESTS}")
    if not 0 <= seed < 2**32:
        raise UsageError(f"trace: seed is {seed}; give a whole number from 0 to {2**32 - 1}")
