"""What crosses between host and device is counted where it is copied; and the engine on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from harness.hardware import DeviceBudget  # noqa: E402
from harness.sessions.core import Engine, Event, Model, Turn  # noqa: E402
from harness.sessions.core.copies import Copies  # noqa: E402
from harness.sessions.core.loading import random_llama  # noqa: E402

SHAPE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 300,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3,
}  # fmt: skip
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a PyTorch that is built with CUDA"
)


@contextmanager
def engine_on(device: str, dtype: torch.dtype = torch.float32) -> Iterator[Engine]:
    donor = random_llama(0, **SHAPE).to(device=device, dtype=dtype)
    model = Model.from_transformers("tiny", donor, packed=False)
    budget = DeviceBudget.create(10**8)
    try:
        with Engine(model, budget, max_session_tokens=128, prefill_chunk=8) as engine:
            yield engine
    finally:
        budget.remove()


def run(engine: Engine, session_id: str, prompt: list[int], num: int, **turn: bool) -> list[Event]:
    engine.submit(Turn(session_id, prompt, num, **turn))
    events = []
    while not engine.is_idle:
        events += engine.step()
    return events


def test_a_device_counts_each_way_and_a_cpu_has_nothing_to_count() -> None:
    """Absent, not 0: a CPU's memory is the host's."""
    gpu, cpu = Copies(torch.device("cuda")), Copies(torch.device("cpu"))
    for copies in (gpu, cpu):
        copies.up(3)
        copies.up(4)
        copies.down(5)
    assert (gpu.up_bytes, gpu.down_bytes) == (7, 5)
    assert (cpu.up_bytes, cpu.down_bytes) == (None, None)


def test_every_crossing_of_a_session_is_counted() -> None:
    """By the engine's own calls: ids and positions, chosen ids, logits, keys and values."""
    with engine_on("cpu") as engine:
        engine.model.copies = engine._store._copies = copies = Copies(torch.device("cuda"))
        engine.open("a", 64)
        run(engine, "a", [5, 6, 7], 4, want_logits=True)
        # Ids and positions of 3 tokens, then of 1 three times; the row of the prompt that gives logits.
        assert (copies.up_bytes, copies.down_bytes) == (8 * (2 * 6 + 1), 4 * 8 + 4 * 4 * 300)
        kv = engine.read_kv("a")
        assert copies.down_bytes == 4 * 8 + 4 * 4 * 300 + kv.nbytes
        engine.write_kv("a", [5, 6, 7, 8, 9, 10], kv)
        assert copies.up_bytes == 8 * 13 + kv.nbytes
        assert engine.stats().host_to_device_bytes == copies.up_bytes
    with engine_on("cpu") as engine:
        assert (engine.stats().host_to_device_bytes, engine.stats().device_to_host_bytes) == (None, None)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
def test_a_gpu_decodes_what_the_library_does(kind: str) -> None:
    """Logits within rounding; prompts in chunks, with logits, read back and written again."""
    dtype = getattr(torch, kind)
    with engine_on("cuda", dtype) as engine:
        prompt = list(range(3, 40))
        engine.open("a", 96)
        first = run(engine, "a", prompt, 1, want_logits=True)[0]
        donor = random_llama(0, **SHAPE).to(device="cuda", dtype=dtype)
        with torch.inference_mode():
            expected = donor(torch.tensor([prompt], device="cuda")).logits[0, -1].float().cpu()
        most = 1e-4 if dtype == torch.float32 else 0.05
        assert float((first.logits - expected).abs().max() / expected.std()) < most
        kv = engine.read_kv("a")
        assert (kv.device.type, kv.dtype) == ("cpu", dtype)
        more = [event.token_id for event in run(engine, "a", [], 8)]
        engine.write_kv("a", prompt, kv)
        assert [event.token_id for event in run(engine, "a", [first.token_id], 8)] == more
        assert engine.stats().host_to_device_bytes > kv.nbytes


@pytest.mark.gpu
@needs_gpu
def test_a_chunk_of_a_prompt_takes_its_time_on_a_gpu() -> None:
    """Steps are waited for, also those that give no token: their compute time is in the first event."""
    with engine_on("cuda") as engine:
        engine.open("a", 128)
        timings = run(engine, "a", list(range(1, 100)), 1)[0].timings
        assert timings.compute_s > 0
        assert engine.stats().counts.compute_s == pytest.approx(timings.compute_s, rel=0.01)
