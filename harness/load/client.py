"""Was the client what was slow? Then its numbers say nothing of the server, and are invalid.

The rule has three limits, and each is enough:

    CPU              the busiest client process used 70 % of a core or more: it may have been late in reading
                     what the server sent, and every latency holds that lateness
    dispatch delay   its 99th percentile is above 10 % of the median TTFT of the answers: requests went out
                     late, and the latencies, which count from the intended start, hold a client's wait; where
                     whole tasks are judged by an SLO, above 10 % of that
    exhaustion       one request was not sent, since this machine had no descriptor or port left for it

The percentile is the nearest rank: with fewer than 100 requests it is the largest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["MAX_CLIENT_CPU", "MAX_DISPATCH_SHARE", "ClientCheck", "check_client", "nearest_rank"]

MAX_CLIENT_CPU = 0.70
"""Of one core, per client process."""
MAX_DISPATCH_SHARE = 0.10
"""The 99th percentile of dispatch delay, as a share of the median TTFT."""


class ClientCheck(NamedTuple):
    """Whether the client kept out of the way, and what was seen."""

    ok: bool
    observed: str


def check_client(
    cpu_shares: Sequence[float],
    dispatch_delay_s: Sequence[float],
    ttft_s: Sequence[float],
    num_unsent: int = 0,
    *,
    slo_s: float | None = None,
) -> ClientCheck:
    """Apply the rule.

    Arguments: `cpu_shares`, CPU time ÷ wall time of each client process; `dispatch_delay_s` and `ttft_s`, of
    every request, counted from its intended start; a failed request's TTFT is infinite and left out, since a
    server that fails must not excuse the client, and where answers come whole their latency stands in for it;
    `num_unsent`, requests that failed by `ClientExhausted`; `slo_s`, what the delay is held against where
    whole workflows are judged by an SLO and no first token is.
    """
    if num_unsent:
        what = f"the client ran out of what {num_unsent} requests needed, and never sent them"
        return ClientCheck(False, what)
    answered_s = [value for value in ttft_s if math.isfinite(value)]
    if not dispatch_delay_s or not cpu_shares:
        return ClientCheck(False, "nothing was dispatched")
    if not answered_s:
        return ClientCheck(
            False, "nothing was answered, so there is no TTFT to hold the client's delay against"
        )
    cpu, late_s = max(cpu_shares), nearest_rank(dispatch_delay_s, 0.99)
    median_s = nearest_rank(answered_s, 0.5)
    against, against_s = ("the median TTFT", median_s) if slo_s is None else ("the SLO", slo_s)
    observed = (
        f"client used {cpu:.0%} of a core (limit {MAX_CLIENT_CPU:.0%}), dispatched "
        f"{late_s * 1e3:.2f} ms late (p99; limit {MAX_DISPATCH_SHARE:.0%} of {against}, "
        f"{against_s * 1e3:.1f} ms; median TTFT {median_s * 1e3:.1f} ms)"
    )
    return ClientCheck(cpu < MAX_CLIENT_CPU and late_s <= MAX_DISPATCH_SHARE * against_s, observed)


def nearest_rank(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
