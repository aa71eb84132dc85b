"""What a system delivered at one offered rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["LoadPoint", "Served", "summarize"]


class Served(NamedTuple):
    """One piece of work: when it was due, when it was dispatched, when it was done."""

    intended_s: float
    dispatched_s: float
    done_s: float
    failed: bool


class LoadPoint(NamedTuple):
    """One offered rate and its outcome."""

    offered_per_s: float
    throughput_per_s: float
    """Finished work per second, over the window of arrivals or until the last end, whichever is longer."""
    goodput_per_s: float
    """Finished within the SLO, per second over the same span."""
    p50_s: float | None
    p95_s: float | None
    """Nearest-rank percentiles of latency from the intended start; a failure counts as infinitely late."""
    num: int
    num_failed: int


def summarize(served: Sequence[Served], *, begin_s: float, offered_per_s: float, slo_s: float) -> LoadPoint:
    """Reduce the log of one rate.

    Arguments: `served`, at least one entry; `begin_s`, when the window of arrivals began; `slo_s`, the
    latency that still counts as good.
    """
    span_s = max(len(served) / offered_per_s, max(s.done_s for s in served) - begin_s)
    latency_s = sorted(math.inf if s.failed else s.done_s - s.intended_s for s in served)
    return LoadPoint(
        offered_per_s=offered_per_s,
        throughput_per_s=sum(not s.failed for s in served) / span_s,
        goodput_per_s=sum(value <= slo_s for value in latency_s) / span_s,
        p50_s=_percentile(latency_s, 0.50),
        p95_s=_percentile(latency_s, 0.95),
        num=len(served),
        num_failed=sum(s.failed for s in served),
    )


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    value = ordered[max(0, math.ceil(share * len(ordered)) - 1)]
    return None if math.isinf(value) else value
