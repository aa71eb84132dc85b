"""What a load showed, as one object that table and JSON both print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.load.client import ClientCheck, check_client
from harness.load.cpu import cpu_share
from harness.load.log import Entry
from harness.load.metrics import FORMULAS, SLO, Distribution, Rates, distributions, late, rates
from harness.load.scenario import ClosedLoop, Driven, OpenLoop
from harness.load.window import Steadiness, Window, counted, steadiness

__all__ = ["LoadReport", "report"]

_NUM_ERRORS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """One load."""

    offered: str
    """The pattern, in words."""
    window: Window
    num_requests: int
    """Of the load; those outside of the window are not counted below."""
    num_counted: int
    num_failed: int
    """Of those counted."""
    num_unsent: int
    """Of the whole load: those that failed for want of something on this machine."""
    errors: Mapping[str, int]
    """What went wrong, the most frequent first, over the whole load."""
    prompt_tokens: float | None
    output_tokens: float | None
    """Means of the answers counted, as the server counted them."""
    cached_share: float | None
    """Prompt tokens that the server took from its cache, of all that it counted; `None` where it does not
    count them."""
    latencies: Mapping[str, Distribution]
    rates: Rates
    slo: SLO
    steadiness: Steadiness
    cpu_shares: tuple[float, ...]
    """Of a core, of each client process, over the window."""
    client: ClientCheck
    seed: int | None = None
    """Of arrivals and prompts."""

    @property
    def is_valid(self) -> bool:
        """Whether it measures the server: false when the client was what was slow."""
        return self.client.ok

    def to_json(self) -> dict[str, Any]:
        """Everything, in seconds, with the formulas; what is not known is null."""
        return {
            "schema": 1,
            "valid": self.is_valid,
            "client_not_bottleneck": self.client._asdict(),
            "offered": self.offered,
            "window": self.window._asdict(),
            "num_requests": self.num_requests,
            "num_counted": self.num_counted,
            "num_failed": self.num_failed,
            "num_unsent": self.num_unsent,
            "errors": dict(self.errors),
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "cached_share": self.cached_share,
            "seed": self.seed,
            "latencies": {
                name: {"n": found.n, "mean": found.mean, "quantiles": [q._asdict() for q in found.quantiles]}
                for name, found in self.latencies.items()
            },
            "rates": self.rates._asdict(),
            "slo": self.slo._asdict(),
            "steadiness": self.steadiness._asdict(),
            "cpu_shares": list(self.cpu_shares),
            "formulas": dict(FORMULAS),
        }


def report(
    loop: OpenLoop | ClosedLoop, driven: Driven, *, warmup_s: float = 0.0, slo: SLO, seed: int | None = None
) -> LoadReport:
    """Reduce what came of a load; `seed` is that of its arrivals and prompts.

    Raises
    ------
    UsageError: the warm-up leaves no window to measure in.
    """
    entries = driven.entries
    window = Window.after(warmup_s, _end_s(loop, entries))
    within = counted(entries, window)
    answered = [entry for entry in within if not entry.is_failed]
    num_unsent = sum(entry.is_clients_fault for entry in entries)
    shares = tuple(cpu_share(samples, *window) for samples in driven.cpu)
    return LoadReport(
        offered=_words(loop),
        window=window,
        num_requests=len(entries),
        num_counted=len(within),
        num_failed=len(within) - len(answered),
        num_unsent=num_unsent,
        errors=dict(Counter(entry.error for entry in entries if entry.error).most_common(_NUM_ERRORS)),
        prompt_tokens=_mean([entry.prompt_tokens for entry in answered]),
        output_tokens=_mean([entry.output_tokens for entry in answered]),
        cached_share=_cached_share(answered),
        seed=seed,
        latencies=distributions(within),
        rates=rates(entries, window, slo),
        slo=slo,
        steadiness=steadiness(entries, window),
        cpu_shares=shares,
        client=check_client(
            shares,
            [entry.dispatch_delay_s for entry in within],
            [_first_s(entry) for entry in within],
            num_unsent,
        ),
    )


def _end_s(loop: OpenLoop | ClosedLoop, entries: Sequence[Entry]) -> float:
    if isinstance(loop, OpenLoop):
        return loop.window_s
    return max((entry.intended_s for entry in entries), default=0.0)


def _first_s(entry: Entry) -> float:
    """The TTFT; of an answer that came whole, its latency."""
    found = late(entry, entry.e2e_latency_s if entry.ttft_s is None else entry.ttft_s)
    assert found is not None
    return found


def _words(loop: OpenLoop | ClosedLoop) -> str:
    if isinstance(loop, OpenLoop):
        # Recorded arrivals end with the last, so their gaps are one fewer than they.
        gaps = len(loop.due_s) - (loop.due_s[-1] >= loop.window_s)
        rate = gaps / loop.window_s
        return f"open loop, {loop.pattern}, {rate:.4g}/s for {loop.window_s:.4g} s"
    think = f", {loop.think_s:g} s of thought" if loop.think_s else ""
    return f"closed loop, {loop.concurrency} users{think}"


def _cached_share(answered: Sequence[Entry]) -> float | None:
    counts = [(entry.cached_tokens, entry.prompt_tokens) for entry in answered]
    known = [(cached, prompt) for cached, prompt in counts if cached is not None and prompt]
    if not known or len(known) < len(counts):
        return None
    return sum(cached for cached, _ in known) / sum(prompt for _, prompt in known)


def _mean(counts: Sequence[int | None]) -> float | None:
    known = [count for count in counts if count is not None]
    return sum(known) / len(known) if known and len(known) == len(counts) else None
