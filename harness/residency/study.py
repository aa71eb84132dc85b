"""Many traces over many arms: what a table or a figure of residency is made of.

Every arm serves the same traces. Times are per request, seed by seed; a quantile is taken within a seed and
averaged over seeds, beside the one over all requests pooled. p99 of 30 requests is their maximum, or nearly
so; only the pooled one is a tail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.residency.arms import Arm, Setting
from harness.residency.catalogue import SimModel
from harness.residency.collate import CollatingQueue
from harness.residency.policies import bound_bytes
from harness.residency.simulator import Link, Served, Simulator
from harness.residency.traces.trace import Trace

__all__ = ["Outcome", "Scenario", "Summary", "bound_gb", "replay", "summary"]

GB = 1e9
_Grid = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What every arm of a comparison shares."""

    models: Mapping[str, SimModel]
    traces: Sequence[Trace]
    """Of one length."""
    capacity_bytes: int
    link: Link
    popularity: Mapping[str, float]
    """Declared to every arm; share per model."""
    warm: str = "cold"
    is_queued: bool = False
    """Arrive by the trace's clock; otherwise each when the one before is answered."""
    max_wait_s: float = 0.0
    """Of the queue: at 0 the order is that of arrival, above that requests are collated by model."""
    min_residency_s: float = 0.0

    def __post_init__(self) -> None:
        lengths = {len(trace.requests) for trace in self.traces}
        if len(lengths) != 1:
            raise UsageError(f"scenario: traces of {sorted(lengths)} requests; give some, all of one length")

    def queue(self) -> CollatingQueue | None:
        """A queue for one trace; None without one."""
        if not self.is_queued:
            return None
        return CollatingQueue(max_wait_s=self.max_wait_s, min_residency_s=self.min_residency_s)

    def setting(self, trace: Trace) -> Setting:
        """What an arm is built for."""
        return Setting(
            layouts={name: model.layout for name, model in self.models.items()},
            capacity_bytes=self.capacity_bytes,
            popularity=self.popularity,
            future=trace.models,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an arm: arrays of traces × requests."""

    arm: str
    is_hit: _Grid
    switch_s: _Grid
    ttft_s: _Grid
    total_s: _Grid
    bytes_in: _Grid
    ahead_bytes: _Grid
    bytes_out: _Grid
    evicted_bytes: _Grid
    needed_bytes: _Grid


class Summary(NamedTuple):
    """An arm in numbers: means over traces, unless pooled."""

    arm: str
    hit_share: float
    """Of requests with nothing left to copy when their turn came."""
    moved_gb: float
    """Per trace, from host to device, ahead or not."""
    blocking_gb: float
    """Of them, after the request's turn came."""
    out_gb: float
    """Per trace, from device to host."""
    evicted_gb: float
    needed_gb: float
    """Of them, what had to go at the least."""
    switch_p50_s: float
    switch_p99_s: float
    switch_pooled_p99_s: float
    ttft_mean_s: float
    ttft_p50_s: float
    ttft_p99_s: float
    ttft_pooled_p99_s: float
    total_mean_s: float
    total_p50_s: float


def replay(arm: Arm, scenario: Scenario) -> Outcome:
    """Serve every trace by a policy of its own.

    Raises
    ------
    BudgetError: a model does not fit, and the arm cannot stream it.
    """
    simulator = Simulator(scenario.models, scenario.link)
    served = [
        simulator.run(
            arm.build(scenario.setting(trace), warm=scenario.warm),
            trace.requests,
            streaming=arm.streaming,
            lookahead=arm.lookahead,
            queue=scenario.queue(),
        )
        for trace in scenario.traces
    ]
    names = [field.name for field in fields(Outcome) if field.name != "arm"]
    cells = np.array([[_row(one) for one in trace] for trace in served], float)
    return Outcome(arm=arm.name, **{name: cells[:, :, i] for i, name in enumerate(names)})


def summary(outcome: Outcome) -> Summary:
    """Sum an outcome up."""
    switch_s, ttft_s = outcome.switch_s, outcome.ttft_s
    moved_bytes = outcome.bytes_in + outcome.ahead_bytes
    return Summary(
        arm=outcome.arm,
        hit_share=float(outcome.is_hit.mean()),
        moved_gb=_per_trace_gb(moved_bytes),
        blocking_gb=_per_trace_gb(outcome.bytes_in),
        out_gb=_per_trace_gb(outcome.bytes_out),
        evicted_gb=_per_trace_gb(outcome.evicted_bytes),
        needed_gb=_per_trace_gb(outcome.needed_bytes),
        switch_p50_s=_quantile(switch_s, 50),
        switch_p99_s=_quantile(switch_s, 99),
        switch_pooled_p99_s=float(np.percentile(switch_s, 99)),
        ttft_mean_s=float(ttft_s.mean()),
        ttft_p50_s=_quantile(ttft_s, 50),
        ttft_p99_s=_quantile(ttft_s, 99),
        ttft_pooled_p99_s=float(np.percentile(ttft_s, 99)),
        total_mean_s=float(outcome.total_s.mean()),
        total_p50_s=_quantile(outcome.total_s, 50),
    )


def bound_gb(scenario: Scenario) -> float:
    """The mean over traces of the least that any policy moves, from where the scenario's warm-up leaves it.

    After `each`, the warm-up is part of the schedule, and its own least bytes are taken off; that is a bound
    for policies that are warmed up at no less.

    Raises
    ------
    BudgetError: a model is larger than the arena.
    """
    sizes = {name: model.layout.num_bytes for name, model in scenario.models.items()}
    once = list(sizes) if scenario.warm == "each" else []
    capacity_bytes, is_warm = scenario.capacity_bytes, scenario.warm == "fill"
    before = bound_bytes(once, sizes, capacity_bytes)
    bounds = [
        bound_bytes([*once, *trace.models], sizes, capacity_bytes, is_warm=is_warm) - before
        for trace in scenario.traces
    ]
    return float(np.mean(bounds)) / GB


def _row(one: Served) -> tuple[float, ...]:
    return (
        one.is_hit,
        one.switch_s,
        one.ttft_s,
        one.total_s,
        one.bytes_in,
        one.ahead_bytes,
        one.bytes_out,
        one.evicted_bytes,
        one.needed_bytes,
    )


def _per_trace_gb(cells: _Grid) -> float:
    return float(cells.sum(axis=1).mean()) / GB


def _quantile(cells: _Grid, percent: float) -> float:
    return float(np.percentile(cells, percent, axis=1).mean())
