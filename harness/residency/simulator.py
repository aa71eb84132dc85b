"""Replays a trace over a policy: what a link of so many bytes per second makes of its plans.

One request runs at a time. Its missing chunks cross the link in layer order; with
streaming, a layer runs as soon as it and the one before it are done:

    prefill ends = max(began + prefill, max over missing chunks c (c landed + compute from c on))
    switch_s     = what of that is not compute: the time blocked
    ttft_s       = first token − arrival,  total_s = last token − arrival

Without streaming, the first layer waits for the last chunk. With lookahead, the next request's chunks cross
the link as soon as it is known whose turn is next and the link is free; what has not begun when its turn
comes is planned anew. Without a queue, each request is sent when the one before is answered, and the next is
always known (the published mode). With one, requests arrive when the trace says, wait, and are known from
then on; a guess that proves wrong costs the bytes that had begun.

Traps: hits and bytes are exact and depend on the policy alone (with lookahead also on the clock); seconds are
as good as the link and the compute times that were declared. Compute is not slowed by copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.errors import UsageError
from harness.residency.catalogue import SimModel
from harness.residency.collate import CollatingQueue
from harness.residency.policies import Policy
from harness.residency.replay import Replay, ends_s
from harness.residency.served import Link, Served
from harness.residency.traces.trace import Request

__all__ = ["Link", "Served", "Simulator"]


class Simulator:
    """Serves traces on a link; holds what does not change from trace to trace."""

    def __init__(self, models: Mapping[str, SimModel], link: Link) -> None:
        self.models = models
        self.link = link
        self._ends = {name: ends_s(model, link) for name, model in models.items()}

    def run(
        self,
        policy: Policy,
        requests: Sequence[Request],
        *,
        streaming: bool | None = None,
        lookahead: bool = False,
        queue: CollatingQueue | None = None,
    ) -> list[Served]:
        """Serve every request, and return them in the order of their turns; the policy goes on as it is.

        streaming: None for what the policy is made for. queue: decides whose turn is next; None to send each
        request when the one before is answered.

        Raises
        ------
        UsageError: lookahead is asked of a policy that has none, or a model is unknown.
        BudgetError: a model does not fit, and the policy cannot stream it.
        """
        if lookahead and not policy.can_look_ahead:
            raise UsageError(f"{policy.name}: cannot look ahead; leave lookahead out")
        streaming = policy.is_streaming if streaming is None else streaming
        replay = Replay(self.models, self._ends, self.link, policy, streaming)
        if queue is None:
            return _in_sequence(replay, requests, lookahead)
        return _from_queue(replay, requests, queue, lookahead)


def _in_sequence(replay: Replay, requests: Sequence[Request], lookahead: bool) -> list[Served]:
    served: list[Served] = []
    for i, request in enumerate(requests):
        following = requests[i + 1].model if lookahead and i + 1 < len(requests) else None
        began_s = replay.now_s
        served.append(replay.serve(request, began_s, following))
        if following is not None and replay.now_s > began_s:
            replay.look_ahead(following, request.model, began_s)
    return served


def _from_queue(
    replay: Replay, requests: Sequence[Request], queue: CollatingQueue, lookahead: bool
) -> list[Served]:
    served: list[Served] = []
    waiting: dict[int, Request] = {}
    coming = list(reversed(requests))

    def admit(until_s: float) -> None:
        while coming and coming[-1].at_s <= until_s:
            request = coming.pop()
            waiting[queue.put(request.model, request.at_s).number] = request

    while coming or waiting:
        admit(replay.now_s)
        turn = queue.take(replay.now_s)
        if turn is None:
            times = [queue.due_s(), coming[-1].at_s if coming else None]
            replay.now_s = min(at_s for at_s in times if at_s is not None)
            continue
        request, began_s = waiting.pop(turn.number), replay.now_s
        next_up = queue.peek(began_s) if lookahead else None
        served.append(replay.serve(request, request.at_s, next_up.model if next_up else None))
        known_s = began_s
        while lookahead and next_up is None and coming and coming[-1].at_s < replay.now_s:
            known_s = coming[-1].at_s
            admit(known_s)
            next_up = queue.peek(known_s)
        if next_up is not None:
            replay.look_ahead(next_up.model, request.model, known_s)
    return served
