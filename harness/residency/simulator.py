"""Replays a trace over a policy: what a link of so many bytes per second makes of its plans.

One request runs at a time, in the order of arrival. Its missing chunks cross the link in layer order; with
streaming, a layer runs as soon as it and the one before it are done:

    prefill ends = max(began + prefill, max over missing chunks c (c landed + compute from c on))
    switch_s     = what of that is not compute: the time blocked
    ttft_s       = first token − arrival,  total_s = last token − arrival

Without streaming, the first layer waits for the last chunk. With lookahead, the next request's chunks cross
the link as soon as it is known whose turn is next and the link is free; what has not begun when its turn
comes is planned anew. `sequential` requests arrive when the one before is answered, and the next is always
known (the published mode); otherwise they arrive when the trace says, queue, and are known from then on.

Traps: hits and bytes are exact and depend on the policy alone (with lookahead also on the clock); seconds are
as good as the link and the compute times that were declared. Compute is not slowed by copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.errors import UsageError
from harness.residency.catalogue import SimModel
from harness.residency.policies import Plan, Policy
from harness.residency.traces.trace import Request

__all__ = ["Link", "Served", "Simulator"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """From host to device, and back."""

    bytes_per_s: float
    copy_s: float = 0.0
    """What each copy costs besides its bytes."""

    def __post_init__(self) -> None:
        if not (self.bytes_per_s > 0 and self.copy_s >= 0):
            raise UsageError(
                f"link: {self.bytes_per_s} bytes/s, {self.copy_s} s per copy; give a positive rate"
            )


class Served(NamedTuple):
    """One request as it went. Seconds are since the trace began."""

    model: str
    is_hit: bool
    """Nothing was left to copy when its turn came."""
    arrived_s: float
    began_s: float
    first_token_s: float
    done_s: float
    switch_s: float
    """Blocked: from its turn to the first token, less the compute."""
    bytes_in: int
    """Copied after its turn came."""
    ahead_bytes: int
    """Copied before, by lookahead."""
    bytes_out: int
    """From device to host."""
    evicted_bytes: int
    needed_bytes: int
    """Of them, what had to go at the least."""
    copied_s: tuple[float, float] | None
    """When its copies began and ended; None without any."""
    ahead_s: tuple[float, float] | None
    """The same of those made ahead."""

    @property
    def ttft_s(self) -> float:
        """To the first token, queueing included."""
        return self.first_token_s - self.arrived_s

    @property
    def total_s(self) -> float:
        """To the last token, queueing included."""
        return self.done_s - self.arrived_s


class Simulator:
    """Serves traces on a link; holds what does not change from trace to trace."""

    def __init__(self, models: Mapping[str, SimModel], link: Link) -> None:
        self.models = models
        self.link = link
        self.ends_s = {
            name: [
                at / link.bytes_per_s + rest_s
                for at, rest_s in zip(model.layout.starts[1:], model.from_here_s, strict=True)
            ]
            for name, model in models.items()
        }
        """Per chunk: landed, and computed from there to the end, if the blob's first byte left at 0."""

    def run(
        self,
        policy: Policy,
        requests: Sequence[Request],
        *,
        streaming: bool | None = None,
        lookahead: bool = False,
        sequential: bool = True,
    ) -> list[Served]:
        """Serve every request; the policy goes on from what it holds.

        streaming: None for what the policy is made for.

        Raises
        ------
        UsageError: lookahead is asked of a policy that has none, or a model is unknown.
        BudgetError: a model does not fit, and the policy cannot stream it.
        """
        if lookahead and not policy.can_look_ahead:
            raise UsageError(f"{policy.name}: cannot look ahead; leave lookahead out")
        replay = _Replay(self, policy, policy.is_streaming if streaming is None else streaming, sequential)
        served = []
        for i, request in enumerate(requests):
            following = requests[i + 1] if lookahead and i + 1 < len(requests) else None
            served.append(replay.serve(request, following))
        return served


class _Ahead(NamedTuple):
    """Copies made before their request's turn."""

    plan: Plan
    began_s: float
    done_s: float
    num_bytes: int
    evicted_bytes: int
    late_end_s: float | None = None
    """End of the prefill as far as the chunk decides that was under way when the turn came."""


class _Replay:
    """A run: the policy, the time, and when the link is free."""

    def __init__(self, simulator: Simulator, policy: Policy, streaming: bool, sequential: bool) -> None:
        self.simulator = simulator
        self.policy = policy
        self.streaming = streaming
        self.sequential = sequential
        self.now_s = 0.0
        self.free_s = 0.0
        self.ahead: _Ahead | None = None

    def serve(self, request: Request, following: Request | None) -> Served:
        """Serve a request, and begin to copy for the one that follows."""
        model = self._model(request.model)
        arrived_s = self.now_s if self.sequential else request.at_s
        began_s = max(self.now_s, arrived_s)
        ahead = self._settle(began_s, model)
        plan = self.policy.request(request.model, upcoming=following.model if following else None)
        first_token_s, copied_s = self._prefill(model, plan, began_s, ahead)
        decode_s, decode_bytes = self._decode(model, request.output_tokens - 1)
        self.now_s = first_token_s + decode_s
        served = Served(
            model=request.model,
            is_hit=not plan.copies and (ahead is None or ahead.done_s <= began_s),
            arrived_s=arrived_s,
            began_s=began_s,
            first_token_s=first_token_s,
            done_s=self.now_s,
            switch_s=first_token_s - began_s - model.prefill_s,
            bytes_in=plan.num_bytes + decode_bytes,
            ahead_bytes=ahead.num_bytes if ahead else 0,
            bytes_out=plan.copy_out_bytes,
            evicted_bytes=plan.evicted_bytes + (ahead.evicted_bytes if ahead else 0),
            needed_bytes=plan.needed_bytes + (ahead.plan.needed_bytes if ahead else 0),
            copied_s=copied_s,
            ahead_s=(ahead.began_s, ahead.done_s) if ahead else None,
        )
        if following is not None:
            self._look_ahead(following, request.model, began_s)
        return served

    def _model(self, name: str) -> SimModel:
        model = self.simulator.models.get(name)
        if model is None:
            raise UsageError(f"model {name!r}: not simulated; there are {', '.join(self.simulator.models)}")
        return model

    def _look_ahead(self, following: Request, running: str, began_s: float) -> None:
        known_s = began_s if self.sequential else max(began_s, following.at_s)
        if known_s >= self.now_s:
            return
        plan = self.policy.lookahead(following.model, running=running)
        if plan.copies:
            begin_s = max(known_s, self.free_s)
            link = self.simulator.link
            done_s = begin_s + plan.num_bytes / link.bytes_per_s + link.copy_s * len(plan.copies)
            self.ahead = _Ahead(plan, begin_s, done_s, plan.num_bytes, plan.evicted_bytes)

    def _settle(self, began_s: float, model: SimModel) -> _Ahead | None:
        """What came of the copies made ahead: what has not begun when the turn comes is called off."""
        ahead, self.ahead = self.ahead, None
        if ahead is None:
            return None
        if ahead.done_s > began_s:
            ahead = self._cut_off(ahead, began_s, model)
        if not ahead.num_bytes:
            return None
        self.free_s = ahead.done_s
        return ahead

    def _cut_off(self, ahead: _Ahead, began_s: float, model: SimModel) -> _Ahead:
        link = self.simulator.link
        firsts = {copy.first for copy in ahead.plan.copies}
        at_s, num_bytes, num_started, late_end_s = ahead.began_s, 0, 0, None
        for load in ahead.plan.loads:
            if at_s >= began_s:
                break
            at_s += load.num_bytes / link.bytes_per_s + (link.copy_s if load.chunk in firsts else 0.0)
            num_bytes += load.num_bytes
            num_started += 1
            late_end_s = at_s + model.from_here_s[load.chunk] if at_s > began_s else None
        restored = self.policy.undo(ahead.plan, num_started)
        evicted_bytes = ahead.evicted_bytes - sum(placed.num_bytes for placed in restored)
        return _Ahead(ahead.plan, ahead.began_s, at_s, num_bytes, evicted_bytes, late_end_s)

    def _prefill(
        self, model: SimModel, plan: Plan, began_s: float, ahead: _Ahead | None
    ) -> tuple[float, tuple[float, float] | None]:
        """When the first token is there, and when the copies began and ended."""
        end_s = began_s + model.prefill_s
        if ahead is not None and ahead.done_s > began_s:
            whole_s = ahead.done_s + model.prefill_s
            end_s = max(end_s, ahead.late_end_s or 0.0) if self.streaming else whole_s
        if not plan.copies:
            return end_s, None
        link = self.simulator.link
        begin_s = max(began_s, self.free_s)
        copy_s = begin_s + plan.copy_out_bytes / link.bytes_per_s
        if plan.copies[-1].after is not None:
            end_s, self.free_s = _pass(model.chunk_s, plan, link, began_s, copy_s)
            return end_s, (begin_s, self.free_s)
        ends_s, starts = self.simulator.ends_s[model.layout.name], model.layout.starts
        for copy in plan.copies:
            copy_s += link.copy_s
            latest_s = max(ends_s[copy.first : copy.last]) - starts[copy.first] / link.bytes_per_s
            end_s = max(end_s, copy_s + latest_s)
            copy_s += copy.num_bytes / link.bytes_per_s
        self.free_s = copy_s
        return end_s if self.streaming else copy_s + model.prefill_s, (begin_s, copy_s)

    def _decode(self, model: SimModel, num_tokens: int) -> tuple[float, int]:
        """How long further tokens take, and what they copy: nothing, unless the model streams."""
        plan = self.policy.again(model.layout.name) if num_tokens else None
        if plan is None or not plan.copies:
            return num_tokens * model.token_s, 0
        scale = model.token_s / model.prefill_s if model.prefill_s else 0.0
        chunk_s = [seconds * scale for seconds in model.chunk_s]
        # Every pass copies the same chunks: the window never holds what the next pass begins with.
        pass_s, _ = _pass(chunk_s, plan, self.simulator.link, 0.0, 0.0)
        self.free_s = max(self.free_s, self.now_s)
        return num_tokens * pass_s, num_tokens * plan.num_bytes


def _pass(
    chunk_s: Sequence[float], plan: Plan, link: Link, began_s: float, copy_s: float
) -> tuple[float, float]:
    """When a pass ends whose copies wait for its own chunks, and when its last copy does."""
    loads = {load.chunk: load for load in plan.loads}
    computed_s: list[float] = []
    at_s = began_s
    for chunk, seconds in enumerate(chunk_s):
        load = loads.get(chunk)
        if load is not None:
            copy_s = max(copy_s, computed_s[load.after] if load.after is not None else copy_s)
            copy_s += link.copy_s + load.num_bytes / link.bytes_per_s
            at_s = max(at_s, copy_s)
        at_s += seconds
        computed_s.append(at_s)
    return at_s, copy_s
