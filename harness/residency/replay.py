"""One run of a trace: the policy, the time, and when the link is free.

`harness.residency.simulator` drives it and has the formulas. A lookahead is settled when the next turn comes:
what has not begun to cross the link is called off and planned anew, in layer order; what has begun for
another model than the one whose turn it is was copied for nothing, and is counted with the request that found
it so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.errors import UsageError
from harness.residency.catalogue import SimModel
from harness.residency.policies import Plan, Policy
from harness.residency.served import Link, Served
from harness.residency.traces.trace import Request

__all__ = ["Replay", "ends_s"]


class _Ahead(NamedTuple):
    """Copies made before their request's turn."""

    plan: Plan
    began_s: float
    done_s: float
    num_bytes: int
    evicted_bytes: int
    needed_bytes: int
    late_end_s: float = 0.0
    """End of the prefill as far as the chunk decides that was under way when the turn came."""


class Replay:
    """Serves one request after the other."""

    def __init__(
        self,
        models: Mapping[str, SimModel],
        ends: Mapping[str, Sequence[float]],
        link: Link,
        policy: Policy,
        streaming: bool,
    ) -> None:
        self.models = models
        self.ends = ends
        self.link = link
        self.policy = policy
        self.streaming = streaming
        self.now_s = 0.0
        self.free_s = 0.0
        self.ahead: _Ahead | None = None

    def serve(self, request: Request, arrived_s: float, upcoming: str | None) -> Served:
        """Serve a request whose turn is now; `upcoming` is the model that would be next."""
        model, began_s = self._model(request.model), self.now_s
        ahead = self._settle(began_s)
        plan = self.policy.request(request.model, upcoming=upcoming)
        first_token_s, copied_s = self._prefill(model, plan, began_s, ahead)
        decode_s, decode_bytes = self._decode(model, request.output_tokens - 1)
        self.now_s = first_token_s + decode_s
        self.free_s = self.now_s if decode_bytes else self.free_s
        late = ahead is not None and ahead.plan.model == request.model and ahead.done_s > began_s
        return Served(
            model=request.model,
            is_hit=not plan.copies and not late,
            arrived_s=arrived_s,
            began_s=began_s,
            first_token_s=first_token_s,
            done_s=self.now_s,
            switch_s=max(0.0, first_token_s - began_s - model.prefill_s),
            bytes_in=plan.num_bytes + decode_bytes,
            ahead_bytes=ahead.num_bytes if ahead else 0,
            bytes_out=plan.copy_out_bytes,
            evicted_bytes=plan.evicted_bytes + (ahead.evicted_bytes if ahead else 0),
            needed_bytes=plan.needed_bytes + (ahead.needed_bytes if ahead else 0),
            copied_s=copied_s,
            ahead_s=(ahead.began_s, ahead.done_s) if ahead else None,
        )

    def look_ahead(self, model: str, running: str, known_s: float) -> None:
        """Begin to copy for the next turn, from when it is known and the link is free."""
        plan = self.policy.lookahead(model, running=running)
        if plan.copies:
            begin_s = max(known_s, self.free_s)
            done_s = begin_s + plan.num_bytes / self.link.bytes_per_s + self.link.copy_s * len(plan.copies)
            amounts = plan.num_bytes, plan.evicted_bytes, plan.needed_bytes
            self.ahead = _Ahead(plan, begin_s, done_s, *amounts)

    def _model(self, name: str) -> SimModel:
        model = self.models.get(name)
        if model is None:
            raise UsageError(f"model {name!r}: not simulated; there are {', '.join(self.models)}")
        return model

    def _settle(self, began_s: float) -> _Ahead | None:
        """What came of the copies made ahead: what has not begun when the turn comes is called off."""
        ahead, self.ahead = self.ahead, None
        if ahead is None:
            return None
        if ahead.done_s > began_s:
            ahead = self._cut_off(ahead, began_s)
        if not ahead.num_bytes:
            return None
        self.free_s = ahead.done_s
        return ahead

    def _cut_off(self, ahead: _Ahead, began_s: float) -> _Ahead:
        own = self.models[ahead.plan.model]
        link = self.link
        firsts = {copy.first for copy in ahead.plan.copies}
        at_s, num_bytes, num_started, late_end_s = ahead.began_s, 0, 0, 0.0
        for load in ahead.plan.loads:
            if at_s >= began_s:
                break
            at_s += load.num_bytes / link.bytes_per_s + (link.copy_s if load.chunk in firsts else 0.0)
            num_bytes += load.num_bytes
            num_started += 1
            late_end_s = at_s + own.from_here_s[load.chunk] if at_s > began_s else 0.0
        restored = self.policy.undo(ahead.plan, num_started)
        evicted_bytes = ahead.evicted_bytes - sum(placed.num_bytes for placed in restored)
        needed_bytes = ahead.plan.needed_for(num_started)
        return _Ahead(ahead.plan, ahead.began_s, at_s, num_bytes, evicted_bytes, needed_bytes, late_end_s)

    def _prefill(
        self, model: SimModel, plan: Plan, began_s: float, ahead: _Ahead | None
    ) -> tuple[float, tuple[float, float] | None]:
        """When the first token is there, and when the copies began and ended."""
        end_s = began_s + model.prefill_s
        if ahead is not None and ahead.plan.model == plan.model and ahead.done_s > began_s:
            end_s = max(end_s, ahead.late_end_s) if self.streaming else ahead.done_s + model.prefill_s
        if not plan.copies:
            return end_s, None
        link = self.link
        begin_s = max(began_s, self.free_s)
        copy_s = begin_s + plan.copy_out_bytes / link.bytes_per_s
        if plan.copies[-1].after is not None:
            end_s, self.free_s = _pass(model.chunk_s, plan, link, began_s, copy_s)
            return end_s, (begin_s, self.free_s)
        ends_s, starts = self.ends[model.layout.name], model.layout.starts
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
        pass_s, _ = _pass(chunk_s, plan, self.link, 0.0, 0.0)
        return num_tokens * pass_s, num_tokens * plan.num_bytes


def ends_s(model: SimModel, link: Link) -> list[float]:
    """Per chunk: landed, and computed from there to the end, if the blob's first byte left at 0."""
    return [
        at / link.bytes_per_s + rest_s
        for at, rest_s in zip(model.layout.starts[1:], model.from_here_s, strict=True)
    ]


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
