"""What a load delivered, from its log, with the formula of each number.

Engines and tools mean different things by the same words; `FORMULAS` says what these mean and is printed with
them. Two points matter when numbers are compared:

- `itl_s` is per gap between *chunks*. A server that puts several tokens into a chunk (speculation, a network
  that joins frames) has few long gaps; one whose frames arrive together has gaps of 0. It is never divided by
  tokens: `tokens_per_chunk` stands beside it, and `tpot_s` is the number per token.
- `tpot_s` leaves the first token out, and is a mean per request.

Percentiles are nearest ranks. A failed request counts as infinitely late in every latency; a percentile that
falls on one is no number. A percentile is given only where enough requests support it: below n the two-sided
95 % interval of order statistics does not exist (n ≥ ln 0.025 / ln share: 72 for p95, 368 for p99). Gaps of
one request are not independent, so requests are what counts for `itl_s` too.

Source: order-statistic intervals, Conover, Practical Nonparametric Statistics, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from types import MappingProxyType
from typing import NamedTuple

from scipy.stats import binom

from harness.load.log import Entry
from harness.load.window import Window, counted

__all__ = [
    "FORMULAS",
    "SHARES",
    "SLO",
    "Distribution",
    "Quantile",
    "Rates",
    "distributions",
    "late",
    "rates",
    "tail",
]

SHARES = (0.5, 0.9, 0.95, 0.99)
LEVEL = 0.95

FORMULAS: Mapping[str, str] = MappingProxyType({
    "ttft_s": "first chunk with text - intended start",
    "tpot_s": "(done - first chunk) / (output tokens - 1), per request",
    "itl_s": "gap between neighbouring chunks, whatever tokens they hold; pooled over requests",
    "e2e_latency_s": "done - intended start",
    "dispatch_delay_s": "written - intended start: the client's own lateness, and the time to connect",
    "tokens_per_chunk": "output tokens / chunks, over all answers counted",
    "request_throughput": "answers that ended in the window / its length",
    "output_throughput": "output tokens in the window / its length; an answer's tokens count evenly "
    "over its chunks",
    "goodput": "requests due in the window whose answers met the SLO / its length",
})  # fmt: skip


class SLO(NamedTuple):
    """What an answer must keep to count as good; `None` is no limit. A failed one is never good."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    """An answer of one token has none, and keeps any."""
    e2e_latency_s: float | None = None

    def __bool__(self) -> bool:
        return any(limit is not None for limit in self)


class Quantile(NamedTuple):
    """A percentile with its 95 % interval; what is `None` has its reason in `why`."""

    share: float
    value: float | None
    low: float | None = None
    high: float | None = None
    """Infinite ends, which lie on failures, are `None` too."""
    why: str | None = None


class Distribution(NamedTuple):
    """One metric over the requests counted."""

    n: int
    mean: float | None
    """Of those that were answered."""
    quantiles: tuple[Quantile, ...]


class Rates(NamedTuple):
    """What was delivered per second of the window."""

    request_throughput: float
    output_throughput: float | None
    """`None` when the server did not count the tokens of an answer."""
    goodput: float | None
    """`None` without an SLO, or when an answer lacks what the SLO limits."""
    tokens_per_chunk: float | None
    why: str | None = None


def distributions(entries: Sequence[Entry]) -> dict[str, Distribution]:
    """Each latency over these entries, by the name of its formula."""
    found = {
        name: _distribution([late(entry, getattr(entry, name)) for entry in entries], len(entries))
        for name in ("ttft_s", "tpot_s", "e2e_latency_s")
    }
    gaps_s = [gap for entry in entries for gap in ((math.inf,) if entry.is_failed else entry.itl_s)]
    found["itl_s"] = _distribution(gaps_s, len(entries))
    found["dispatch_delay_s"] = _distribution([entry.dispatch_delay_s for entry in entries], len(entries))
    return {name: found[name] for name in FORMULAS if name in found}


def rates(entries: Sequence[Entry], window: Window, slo: SLO) -> Rates:
    """What was delivered in the window; `entries` are all of the load, warm-up included."""
    answered = [entry for entry in entries if not entry.is_failed]
    ended = sum(window.start_s <= entry.done_s <= window.end_s for entry in answered)
    tokens = [_tokens_in(entry, window) for entry in answered]
    within = counted(entries, window)
    good = [_is_good(entry, slo) for entry in within]
    why = []
    if None in tokens:
        why.append(f"{tokens.count(None)} answers came without a count of tokens")
    if None in good:
        why.append(f"{good.count(None)} answers lack what the SLO limits")
    per_chunk = [
        (e.output_tokens, len(e.chunk_times_s)) for e in within if e.output_tokens and e.chunk_times_s
    ]
    return Rates(
        request_throughput=ended / window.length_s,
        output_throughput=None if None in tokens else sum(t or 0.0 for t in tokens) / window.length_s,
        goodput=sum(map(bool, good)) / window.length_s if slo and None not in good else None,
        tokens_per_chunk=sum(t for t, _ in per_chunk) / sum(c for _, c in per_chunk) if per_chunk else None,
        why="; ".join(why) or None,
    )


def tail(values: Sequence[float], share: float, num_requests: int | None = None) -> Quantile:
    """A percentile with its interval, of values that may be infinite.

    Arguments: `num_requests`, how many requests gave the values, when not one each.
    """
    n = len(values) if num_requests is None else min(num_requests, len(values))
    needed = _needed(share)
    if n < needed:
        return Quantile(share, None, why=f"{n} of the {needed} requests that it needs")
    ordered = sorted(values)
    n_values = len(ordered)
    value = ordered[math.ceil(share * n_values) - 1]
    # Ranks of the interval by the number of requests, spread over the values.
    low = int(binom.ppf((1 - LEVEL) / 2, n, share)) / n
    high = (int(binom.ppf((1 + LEVEL) / 2, n, share)) + 1) / n
    low_value, high_value = (
        ordered[min(n_values, max(1, math.ceil(end * n_values))) - 1] for end in (low, high)
    )
    why = "it falls on a failed request" if math.isinf(value) else None
    return Quantile(share, _finite(value), _finite(low_value), _finite(high_value), why)


def _needed(share: float) -> int:
    """The fewest observations whose extremes bracket the quantile with 95 %."""
    return math.ceil(math.log((1 - LEVEL) / 2) / math.log(max(share, 1 - share)))


def _distribution(values: Sequence[float | None], num_requests: int) -> Distribution:
    known = [value for value in values if value is not None]
    answered = [value for value in known if math.isfinite(value)]
    quantiles = tuple(tail(known, share, num_requests) for share in SHARES)
    return Distribution(len(known), fmean(answered) if answered else None, quantiles)


def late(entry: Entry, value: float | None) -> float | None:
    """A latency, or infinity when the request failed."""
    return math.inf if entry.is_failed else value


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value


def _tokens_in(entry: Entry, window: Window) -> float | None:
    """The share of an answer's tokens that arrived in the window."""
    if entry.output_tokens is None:
        return None
    times_s = entry.chunk_times_s or (entry.done_s,)
    return entry.output_tokens * sum(window.start_s <= t <= window.end_s for t in times_s) / len(times_s)


def _is_good(entry: Entry, slo: SLO) -> bool | None:
    """Whether an answer met every limit; `None` when it lacks a number that is limited."""
    if entry.is_failed:
        return False
    for name, limit in slo._asdict().items():
        value = getattr(entry, name)
        if limit is None or (name == "tpot_s" and entry.output_tokens == 1):
            continue
        if value is None:
            return None
        if value > limit:
            return False
    return True
