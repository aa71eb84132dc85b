"""Models of a session engine over an arena on a GPU: the tokens of weights that are always there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch

from harness.hardware.budget import DeviceBudget
from harness.residency.arms import Setting, arm
from harness.residency.device.cuda import CudaLane
from harness.residency.live import LiveArena
from harness.sessions.contract import Turn
from harness.sessions.core.model import Model
from harness.sessions.ring.hosting import HostedRing
from harness.sessions.ring.loading import HostModel, load_hosts
from harness.sessions.ring.minis import MINIS, mini_donor
from harness.sessions.ring.serve import RingGenerator, greedy
from tests.tiny_ring import run, tokens_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]
ARENA_BYTES = 20_000_000
ORDER = [MINIS[(number * number + number // 3) % 3] for number in range(18)]


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, HostModel]]:
    made = load_hosts(MINIS)
    yield made
    for host in made.values():
        host.blob.verify()
        host.blob.close()


@pytest.fixture(scope="module")
def resident() -> dict[str, Model]:
    """The same weights on the device, in tensors of their own."""
    found = {}
    for name in MINIS:
        donor = mini_donor(name)
        state = [donor.model.embed_tokens, donor.model.norm, donor.lm_head]
        for layer in donor.model.layers:
            state += [layer.input_layernorm, layer.post_attention_layernorm]
            state += [*vars(layer.self_attn).values(), *vars(layer.mlp).values()]
        for part in state:
            part.weight = part.weight.cuda()
        donor.model.rotary_emb.inv_freq = donor.model.rotary_emb.inv_freq.cuda()
        found[name] = Model.from_transformers(name, donor, packed=False)
    return found


@pytest.mark.parametrize(
    "arm_name", ["home-slot-lookahead", "chunk-slots-lookahead", "fifo-ring", "reload-every"]
)
def test_every_token_is_the_resident_reference_s(
    hosts: dict[str, HostModel], resident: dict[str, Model], arm_name: str
) -> None:
    """Models in turns through an arena that holds no two of the large ones."""
    made = arm(arm_name)
    layouts = {name: host.blob.manifest.layout for name, host in hosts.items()}
    shares = dict.fromkeys(hosts, 1.0)
    policy = made.build(Setting(layouts=layouts, capacity_bytes=ARENA_BYTES, popularity=shares))
    blobs = {name: host.blob for name, host in hosts.items()}
    arena = LiveArena(policy, CudaLane(ARENA_BYTES), blobs, streaming=made.streaming)
    try:
        generator = RingGenerator.over(arena, hosts)
        for number, name in enumerate(ORDER):
            following = ORDER[number + 1] if made.lookahead and number + 1 < len(ORDER) else None
            prompt = [number, 7, 300]
            found = generator.generate(name, prompt, 12, upcoming=following)
            assert found.token_ids == greedy(resident[name], prompt, 12), number
    finally:
        arena.close()


def test_binding_and_waiting_do_not_stop_the_caller(hosts: dict[str, HostModel]) -> None:
    """Nothing from a request's begin to its last layer waits for the device."""
    layouts = {name: host.blob.manifest.layout for name, host in hosts.items()}
    shares = dict.fromkeys(hosts, 1.0)
    made = arm("chunk-slots")
    policy = made.build(Setting(layouts=layouts, capacity_bytes=ARENA_BYTES, popularity=shares))
    arena = LiveArena(policy, CudaLane(ARENA_BYTES), {name: host.blob for name, host in hosts.items()})
    try:
        generator = RingGenerator.over(arena, hosts)
        for name in MINIS * 2:
            running = arena.begin(name)
            model = generator.models[name]
            x = torch.ones(1, model.shape.width, device=model.device)
            torch.cuda.synchronize()
            with warnings.catch_warnings():
                # That the mode is a prototype; here a warning is an error.
                warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
                torch.cuda.set_sync_debug_mode("error")
            try:
                with torch.inference_mode(), model.using(running):
                    for chunk, layer in enumerate(model._layers(), start=1):
                        x = x + layer.out(layer.qkv(x)[:, : model.shape.num_heads * model.shape.head_dim])
                        assert chunk < len(running.places)
            finally:
                torch.cuda.set_sync_debug_mode("default")
            torch.cuda.synchronize()
            assert x.isfinite().all()
    finally:
        arena.close()


def test_sessions_of_three_models_share_a_budget_on_the_device(resident: dict[str, Model]) -> None:
    """Twelve turns at once; what is left of the budget afterwards is all of it."""
    budget = DeviceBudget.create(10**8)
    engine = HostedRing.load(MINIS, budget, arena_bytes=ARENA_BYTES, device="cuda", max_wait_s=0.0)
    try:
        turns = {}
        for number in range(12):
            engine.open(f"s{number}", 64, model=MINIS[number % 3])
            turns[number] = engine.submit(Turn(f"s{number}", [number, 5], 8))
        events = run(engine)
        for number, turn_id in turns.items():
            expected = greedy(resident[MINIS[number % 3]], [number, 5], 8)
            assert tokens_of(events, turn_id) == list(expected), number
    finally:
        engine.shutdown()
    assert budget.used_bytes == 0
    budget.remove()
