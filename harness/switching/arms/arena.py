"""The arms whose models take turns in one arena: every policy of the simulator, with its copies really made.

All of them have the same arena, link, blobs and forward pass; what differs is the policy, whether a pass may
begin before the whole model is there, and whether the next request is looked ahead to. Between `reload-every`
and the rest lies what keeping is worth.

Traps: `resident` has an arena of its own size, since it is the ceiling. So has `belady`, which pays nothing
for places: it may keep no more bytes than the others, but wherever they lie. Both move what their plans say,
and no more. Warming up makes its copies and waits for them before the trace begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.residency.arms import Setting as Planned
from harness.residency.arms import arm
from harness.residency.live import LiveArena
from harness.residency.policies.belady import Belady, bound_bytes
from harness.sessions.ring.hosting import make_lane
from harness.sessions.ring.loading import HostModel, load_hosts
from harness.sessions.ring.serve import Generated, RingGenerator
from harness.switching.arms.models import require_model
from harness.switching.base import Answer, Ask
from harness.switching.setting import Setting

__all__ = ["ArenaArm", "answer_of", "checksums_of", "close_all"]


class ArenaArm:
    """An arm of `harness.residency.arms`, live."""

    def __init__(self, name: str, setting: Setting) -> None:
        """Pack the models and take the arena.

        Raises
        ------
        UsageError: there is no such arm; ModelError, no such model.
        BudgetError: the host has no room for blobs and arena, or a model can neither fit nor stream.
        UnavailableError: the device is not there.
        """
        self.name = name
        self._arm = arm(name)
        self._hosts = load_hosts(setting.models, dtype=setting.dtype, seed=setting.seed)
        self._planned = Planned(
            layouts={model: host.blob.manifest.layout for model, host in self._hosts.items()},
            capacity_bytes=setting.arena_bytes,
            popularity=setting.popularity,
        )
        try:
            policy = self._arm.make(self._planned)
            lane = make_lane(
                setting.device,
                policy.arena.capacity_bytes,
                bytes_per_s=setting.link_bytes_per_s,
                budget=None,
            )
            try:
                blobs = {model: host.blob for model, host in self._hosts.items()}
                self._arena = LiveArena(policy, lane, blobs, streaming=self._arm.streaming)
                self._generator = RingGenerator.over(self._arena, self._hosts)
            except BaseException:
                lane.close()
                raise
        except BaseException:
            close_all(self._hosts)
            raise

    def reset(self, *, warm: str = "cold", future: Sequence[str] = ()) -> None:
        """Empty the arena, and warm it up.

        Raises
        ------
        UsageError: there is no such warm-up.
        BudgetError: one of the future is larger than the arena, and there is no bound for that.
        """
        if self.name == Belady.name:
            # A request that is refused would put it out of step with the future.
            sizes = {model: layout.num_bytes for model, layout in self._planned.layouts.items()}
            bound_bytes(future, sizes, self._planned.capacity_bytes)
        prepared = self._arm.prepare(replace(self._planned, future=tuple(future)), warm=warm)
        self._arena.reset(prepared.policy)
        for model in prepared.asked:
            self._visit(model)
        self._arena.fill(prepared.filled)

    def answer(self, ask: Ask, *, upcoming: str | None = None) -> Answer:
        """Answer a request; the queue is for those that look ahead."""
        require_model(ask.model, self._hosts)
        upcoming = upcoming if self._arm.lookahead else None
        return answer_of(
            ask, self._generator.generate(ask.model, ask.prompt_ids, ask.new_tokens, upcoming=upcoming)
        )

    def checksums(self) -> Mapping[str, str]:
        """Of every blob, now and when it was packed."""
        return checksums_of(self._hosts)

    def close(self) -> None:
        """Give the arena and the blobs back."""
        self._arena.close()
        close_all(self._hosts)

    def _visit(self, model: str) -> None:
        """Ask for a model as a request would, and compute nothing."""
        running = self._arena.begin(model)
        for chunk in range(len(running.places)):
            running.wait(chunk)
            running.done(chunk)
        running.end()


def answer_of(ask: Ask, generated: Generated) -> Answer:
    """What a generator says, as an arm does."""
    stats = generated.stats
    return Answer(
        model=ask.model,
        token_ids=generated.token_ids,
        began_s=generated.began_s,
        first_token_s=generated.first_token_s,
        done_s=generated.done_s,
        switch_s=stats.plan_s + generated.bind_s + stats.wait_s,
        plan_s=stats.plan_s,
        bind_s=generated.bind_s,
        wait_s=stats.wait_s,
        is_hit=stats.is_hit,
        bytes_in=stats.bytes_in,
        ahead_bytes=stats.ahead_bytes,
        bytes_out=stats.bytes_out,
        evicted_bytes=stats.evicted_bytes,
        needed_bytes=stats.needed_bytes,
        copied_s=stats.copied_s,
        ahead_s=stats.ahead_s,
    )


def checksums_of(hosts: Mapping[str, HostModel]) -> dict[str, str]:
    """Of every blob, now and when it was packed."""
    now = {model: host.blob.checksum() for model, host in hosts.items()}
    return now | {f"packed:{model}": host.blob.manifest.checksum for model, host in hosts.items()}


def close_all(hosts: Mapping[str, Any]) -> None:
    """Give the blobs back."""
    for host in hosts.values():
        host.blob.close()
