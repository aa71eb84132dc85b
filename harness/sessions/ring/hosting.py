"""From names of models to an engine that serves them all from one arena."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from harness.errors import UsageError
from harness.hardware.budget import DeviceBudget
from harness.models.torch_engine import require_torch
from harness.residency.arms import Setting, arm
from harness.residency.collate import CollatingQueue
from harness.residency.device.base import Lane
from harness.residency.live import LiveArena
from harness.residency.policies import Belady
from harness.sessions.ring.engine import RingEngine
from harness.sessions.ring.loading import HostModel, load_hosts
from harness.sessions.ring.weights import StreamedModel

__all__ = ["DEFAULT_ARM", "HostedRing", "make_lane"]

DEFAULT_ARM = "home-slot-lookahead"
"""A server sees who waits."""


class HostedRing(RingEngine):
    """A ring engine with blobs of its own, for the server's engine thread."""

    def __init__(self, hosts: Mapping[str, HostModel], arena: LiveArena, *args: Any, **settings: Any) -> None:
        self._hosts = hosts
        super().__init__(arena, *args, **settings)

    @classmethod
    def load(
        cls,
        names: Sequence[str],
        budget: DeviceBudget,
        *,
        arena_bytes: int,
        link_bytes_per_s: float | None = None,
        arm_name: str = DEFAULT_ARM,
        popularity: Mapping[str, float] | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        seed: int = 0,
        threads: int = 1,
        max_wait_s: float = 1.0,
        min_residency_s: float = 0.0,
        **settings: Any,
    ) -> HostedRing:
        """Load models in this thread, pack them, and draw an arena for them from the budget.

        Arguments: `link_bytes_per_s`, declared, on a CPU; `arm_name`, one of `residency.arms`; `popularity`,
        share of requests per model, None for equal ones; `threads`, within one operation; `settings` as
        `RingEngine` takes them.

        Raises
        ------
        UsageError: a name is unknown or given twice, or a setting makes no sense.
        BudgetError: budget or host have no room, or a model is too large for the arena.
        """
        if not names:
            raise UsageError("models: none named; name at least one")
        queue = CollatingQueue(max_wait_s=max_wait_s, min_residency_s=min_residency_s)
        chosen = arm(arm_name)
        if arm_name == Belady.name:
            raise UsageError("arm belady: a bound, which has to know what will be asked for; use another")
        require_torch("sessions", device, needs_transformers=False)
        torch.set_num_threads(threads)
        with contextlib.ExitStack() as undo:
            hosts = load_hosts(names, dtype=dtype, seed=seed)
            for host in hosts.values():
                undo.callback(host.blob.close)
            policy = chosen.build(
                Setting(
                    layouts={name: host.blob.manifest.layout for name, host in hosts.items()},
                    capacity_bytes=arena_bytes,
                    popularity=dict(popularity) if popularity else dict.fromkeys(hosts, 1.0),
                )
            )
            lane = make_lane(device, policy.capacity_bytes, bytes_per_s=link_bytes_per_s, budget=budget)
            undo.callback(lane.close)
            blobs = {name: host.blob for name, host in hosts.items()}
            arena = LiveArena(policy, lane, blobs, streaming=chosen.streaming)
            models = {
                name: StreamedModel(name, host.skeleton, host.blob.manifest, lane.arena)
                for name, host in hosts.items()
            }
            engine = cls(hosts, arena, models, budget, queue=queue, looks_ahead=chosen.lookahead, **settings)
            undo.pop_all()
        return engine

    def shutdown(self) -> None:
        """Give all memory back, the blobs' too."""
        super().shutdown()
        for host in self._hosts.values():
            host.blob.close()


def make_lane(
    device: str, capacity_bytes: int, *, bytes_per_s: float | None, budget: DeviceBudget | None
) -> Lane:
    """An arena on a device and the way into it.

    Raises
    ------
    UsageError: a link is declared for a device that has its own.
    BudgetError: budget or device have no room.
    """
    if device == "cpu":
        from harness.residency.device.cpu import CpuLane

        return CpuLane(capacity_bytes, bytes_per_s=bytes_per_s, budget=budget)
    if bytes_per_s is not None:
        raise UsageError(
            f"link: {bytes_per_s} bytes/s declared for {device}, which has its own; leave it out"
        )
    from harness.residency.device.cuda import CudaLane

    return CudaLane(capacity_bytes, device=device, budget=budget)
