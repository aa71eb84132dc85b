"""Tiny models for the tests of the ring: in double precision, so that no tie between tokens is rounding's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch

from harness.hardware.budget import DeviceBudget
from harness.residency.arms import Setting, arm
from harness.residency.device.cpu import CpuLane
from harness.residency.live import LiveArena
from harness.sessions.core.default_model import random_donor
from harness.sessions.core.model import Model, Span
from harness.sessions.core.slab import Slab
from harness.sessions.ring.engine import RingEngine
from harness.sessions.ring.loading import HostModel
from harness.sessions.ring.packed import Skeleton, pack_model
from harness.sessions.ring.serve import greedy
from harness.sessions.ring.weights import StreamedModel

__all__ = [
    "NAMES", "VOCAB_SIZE", "LaneFailingFor", "arena_over", "bytes_of", "continuation", "hosts", "logits_of",
    "ring", "run", "tiny_donor", "tiny_hosts", "tiny_model", "tokens_of",
]  # fmt: skip

NAMES = ("ada", "ben", "cyd")
VOCAB_SIZE = 67
_SHAPES = {
    "ada": {"num_hidden_layers": 4, "hidden_size": 32, "intermediate_size": 48, "num_key_value_heads": 4},
    "ben": {"num_hidden_layers": 3, "hidden_size": 32, "intermediate_size": 64, "num_key_value_heads": 2},
    "cyd": {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32, "num_key_value_heads": 1},
}


def tiny_donor(name: str, *, is_tied: bool = False, has_biases: bool = False) -> Any:
    """A model as `take_over` wants it."""
    config = {"vocab_size": VOCAB_SIZE, "num_attention_heads": 4, "initializer_range": 0.3}
    positions = {"max_position_embeddings": 256}
    donor = random_donor(len(name), "cpu", torch.float64, **config, **positions, **_SHAPES[name])
    if is_tied:
        donor.lm_head = donor.model.embed_tokens
    if has_biases:
        draws = torch.Generator().manual_seed(1)
        for layer in donor.model.layers:
            for part in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                part.bias = torch.randn(len(part.weight), generator=draws, dtype=torch.float64)
    return donor


@cache
def tiny_model(name: str, *, is_tied: bool = False, has_biases: bool = False) -> Model:
    """In tensors of its own."""
    donor = tiny_donor(name, is_tied=is_tied, has_biases=has_biases)
    return Model.from_transformers(name, donor, packed=False)


def tiny_hosts(**kind: bool) -> dict[str, HostModel]:
    """Packed anew."""
    return {name: host_of(tiny_model(name, **kind)) for name in NAMES}


@contextlib.contextmanager
def hosts(**kind: bool) -> Iterator[dict[str, HostModel]]:
    """Packed, and closed with the context, their bytes as they were."""
    made = tiny_hosts(**kind)
    try:
        yield made
        for one in made.values():
            one.blob.verify()
    finally:
        for one in made.values():
            one.blob.close()


def host_of(model: Model) -> HostModel:
    blob = pack_model(model.name, model.weights)
    return HostModel(model.name, Skeleton.of(model.weights), blob, model.shape.max_positions)


@contextlib.contextmanager
def arena_over(
    models: Mapping[str, HostModel],
    capacity_bytes: int,
    *,
    arm_name: str = "home-slot-lookahead",
    lane: CpuLane | None = None,
    future: Sequence[str] = (),
) -> Iterator[LiveArena]:
    """A live arena of that size; an arm may take more if it is made so."""
    made = arm(arm_name)
    layouts = {name: host.blob.manifest.layout for name, host in models.items()}
    shares = dict.fromkeys(models, 1.0)
    policy = made.build(
        Setting(layouts=layouts, capacity_bytes=capacity_bytes, popularity=shares, future=future)
    )
    lane = lane or CpuLane(policy.arena.capacity_bytes)
    arena = LiveArena(
        policy, lane, {name: host.blob for name, host in models.items()}, streaming=made.streaming
    )
    try:
        yield arena
    finally:
        arena.close()


class LaneFailingFor(CpuLane):
    """The CPU's lane; copies of the models in `fails` fail."""

    def __init__(self, capacity_bytes: int, **options: Any) -> None:
        super().__init__(capacity_bytes, **options)
        self.fails: set[str] = set()
        self.kills = False
        """Whether the copier ends at such a copy."""

    def _move(self, job: Any) -> None:
        if job.what.split(":")[0] in self.fails:
            if self.kills:
                raise SystemExit("told to die")
            raise OSError(5, "Input/output error")
        super()._move(job)


def continuation(name: str, text: Sequence[int], num: int) -> list[int]:
    """What the resident reference answers."""
    return list(greedy(tiny_model(name), text, num))


def logits_of(model: Model, texts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Of texts computed together, from nothing, as one batch and then a token more of each."""
    with torch.inference_mode():
        slabs = [Slab(model.slab_shape, len(text) + 1) for text in texts]
        first = model.forward([Span(slab, text) for slab, text in zip(slabs, texts, strict=True)])
        return torch.cat([first, model.forward([Span(slab, [1]) for slab in slabs])])


@contextlib.contextmanager
def ring(
    num_arena_bytes: int,
    num_kv_bytes: int,
    *,
    arm_name: str = "home-slot-lookahead",
    lane_kind: type[CpuLane] = CpuLane,
    names: Sequence[str] = NAMES,
    **settings: Any,
) -> Iterator[RingEngine]:
    """An engine over tiny models, its budget in `engine.budget`; nothing may be left of it afterwards."""
    budget = DeviceBudget.create(num_arena_bytes + num_kv_bytes)
    with hosts() as made:
        models = {name: made[name] for name in names}
        lane = lane_kind(num_arena_bytes, budget=budget)
        with arena_over(models, num_arena_bytes, arm_name=arm_name, lane=lane) as arena:
            streamed = {
                name: StreamedModel(name, host.skeleton, host.blob.manifest, lane.arena)
                for name, host in models.items()
            }
            engine = RingEngine(arena, streamed, budget, looks_ahead=arm(arm_name).lookahead, **settings)
            try:
                yield engine
            finally:
                engine.shutdown()
    assert budget.used_bytes == 0, budget.holders()
    budget.remove()


def run(engine: RingEngine, limit: int = 2000) -> list[Any]:
    """Every event until no turn is left."""
    events: list[Any] = []
    for _ in range(limit):
        if engine.is_idle:
            return events
        events += engine.step()
    raise AssertionError(f"not idle after {limit} steps: {engine.stats()}")


def tokens_of(events: Sequence[Any], turn_id: int) -> list[int]:
    """What a turn gave."""
    return [event.token_id for event in events if event.turn_id == turn_id]


@cache
def bytes_of(name: str, **kind: bool) -> int:
    """Of a tiny model, packed."""
    with hosts(**kind) as made:
        return made[name].blob.num_bytes
