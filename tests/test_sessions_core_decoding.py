"""Decode steps by our kernels, and recorded: on a GPU, and on a processor by Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import pytest
import torch

from harness.errors import UnavailableError
from harness.hardware.budget import DeviceBudget
from harness.sessions.core import Engine, Model, Slab, Span, Turn
from harness.sessions.core.attention import Attention
from harness.sessions.core.copies import Copies
from harness.sessions.core.decoding import Decoder, ways
from harness.sessions.core.decoding.recorders import CudaGraphs, Recorder
from harness.sessions.core.decoding.rows import MAX_SPLITS, MIN_SPLIT_TOKENS, Rows
from harness.sessions.core.slab import SlabShape
from tests.taped import Kernels, Tape
from tests.tiny_engine import DEVICES, VOCAB_SIZE, run, tiny_model

MODULE = "harness.sessions.core.decoding.kernels"
pytest.importorskip("triton", reason="needs Triton: pip install '.[triton]'")


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where kernels run: compiled on a GPU, interpreted on a processor."""
    if request.param == "cpu":
        if not os.environ.get("TRITON_INTERPRET"):
            pytest.skip("needs TRITON_INTERPRET=1 from the start; where an NVIDIA GPU is, run -m gpu")
        monkeypatch.setitem(sys.modules, MODULE, Kernels(import_module(MODULE)))
    return str(request.param)


@pytest.fixture
def tape(device: str) -> Recorder:
    """What records steps there."""
    if device == "cpu":
        return Tape(sys.modules[MODULE])
    return CudaGraphs(torch.device(device))


class Piece:
    def __init__(self, slab: Slab) -> None:
        self.slab, self.token_ids = slab, [0]


def filled(shape: SlabShape, num_tokens: int, room: int, seed: int) -> Slab:
    slab = Slab(shape, num_tokens + room)
    draws = torch.Generator().manual_seed(seed)
    slab.kv.copy_(torch.randn(slab.kv.shape, generator=draws, dtype=torch.float32))
    slab.num_tokens = num_tokens
    return slab


LENGTHS = [0, 1, 63, 64, 65, MIN_SPLIT_TOKENS - 1, MIN_SPLIT_TOKENS, 2 * MIN_SPLIT_TOKENS + 7]


@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize(("kv_heads", "groups", "dim"), [(1, 1, 16), (2, 3, 24), (2, 1, 128)])
def test_one_kernel_attends_as_slab_by_slab_does(
    device: str, dtype: torch.dtype, most: float, kv_heads: int, groups: int, dim: int
) -> None:
    """Over ragged sessions, in every layer, and leaves the same keys and values behind."""
    if dtype == torch.bfloat16 and device == "cpu":
        pytest.skip("needs an NVIDIA GPU: Triton's interpreter multiplies the bits of bfloat16")
    shape = SlabShape(2, kv_heads, dim, dtype, torch.device(device))
    rows = Rows(shape, groups, max_rows=len(LENGTHS), max_tokens=1024, copies=Copies(shape.device))
    draws = torch.Generator().manual_seed(3)
    heads = groups * kv_heads
    mixed = torch.randn(len(LENGTHS), heads + 2 * kv_heads, dim, generator=draws).to(device, dtype)
    query = mixed[:, :heads].view(-1, kv_heads, groups, dim)
    fresh = mixed[:, heads:].view(-1, 2, kv_heads, dim)
    ours, theirs = ([filled(shape, n, 1 + n % 3, n) for n in LENGTHS] for _ in range(2))
    with torch.inference_mode():
        reference = Attention([Piece(slab) for slab in theirs], groups)
        rows.put([Piece(slab) for slab in ours], len(LENGTHS))
        for layer in range(2):
            found, wanted = rows(layer, query, fresh), reference(layer, query, fresh)
            assert ((found - wanted).abs() <= most * wanted.abs().clamp(min=1)).all()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.kv, other.kv)


def test_a_row_has_the_same_bits_whatever_is_beside_it(device: str) -> None:
    """The division of its tokens is its own."""
    shape = SlabShape(1, 2, 16, torch.float32, torch.device(device))
    rows = Rows(shape, 2, max_rows=4, max_tokens=1024, copies=Copies(shape.device))
    mixed = torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(3)).to(device)
    with torch.inference_mode():
        slabs = [filled(shape, 300 * n + 5, 1, n) for n in range(3)]
        rows.put([Piece(slab) for slab in slabs], 4)
        together = rows(0, mixed[:, :4].view(4, 2, 2, 16), mixed[:, 4:].view(4, 2, 2, 16))
        rows.put([Piece(slabs[2])], 1)
        alone = rows(0, mixed[2:3, :4].view(1, 2, 2, 16), mixed[2:3, 4:].view(1, 2, 2, 16))
    assert torch.equal(together[2], alone[0])


def small(device: str) -> Model:
    return tiny_model(device, torch.float32)


def test_very_long_sessions_have_longer_parts_and_no_more_of_them() -> None:
    """Memory beside the budget stays below a bound, whatever a session may hold."""
    device = torch.device("cpu")
    shape, most = SlabShape(1, 1, 16, torch.float32, device), MAX_SPLITS * MIN_SPLIT_TOKENS
    splits = {}
    for max_tokens in (1, most, most + 1, 131_072):
        rows = Rows(shape, 1, max_rows=1, max_tokens=max_tokens, copies=Copies(device))
        splits[max_tokens] = (rows._num_splits, rows._group["SPLIT_TOKENS"])
        assert rows._num_splits * rows._group["SPLIT_TOKENS"] >= max_tokens
    assert splits[1] == (1, MIN_SPLIT_TOKENS)
    assert splits[most] == (MAX_SPLITS, MIN_SPLIT_TOKENS)
    assert splits[most + 1] == (MAX_SPLITS // 2 + 1, 2 * MIN_SPLIT_TOKENS)
    assert splits[131_072][0] == MAX_SPLITS


def decoded(model: Model, num: int, decoder: Decoder | None = None) -> tuple[list[list[int]], torch.Tensor]:
    """Greedy tokens and logits of five sessions that stop one after the other."""
    slabs = [Slab(model.slab_shape, 40) for _ in range(5)]
    with torch.inference_mode():
        for at, slab in enumerate(slabs):
            model.forward([Span(slab, [(at + j) % VOCAB_SIZE for j in range(1 + 3 * at)], False)])
        tokens, steps, texts = [1, 2, 3, 4, 5], [], [[] for _ in slabs]
        for step in range(num):
            left = slabs[: 5 - step // 2]
            logits = model.forward(
                [Span(slab, [token]) for slab, token in zip(left, tokens, strict=False)], decoder
            )
            tokens = logits.argmax(-1).tolist()
            for text, token in zip(texts, tokens, strict=False):
                text.append(token)
            steps.append(logits)
    return texts, torch.cat(steps).cpu()


def test_recorded_steps_decode_as_those_asked_for_slab_by_slab(device: str, tape: Recorder) -> None:
    """Five sessions of unlike lengths, then four, three …: batches of a size that is recorded, and others."""
    plain = decoded(small(device), 9)
    model = small(device)
    with torch.inference_mode():
        decoder = Decoder(model, max_batch=5, max_tokens=40, recorder=tape)
    recorded = decoded(model, 9, decoder)
    assert recorded[0] == plain[0]
    assert (recorded[1] - plain[1]).abs().max() < 1e-4 * plain[1].std()
    assert (decoder.num_steps, decoder.num_replayed) == (9, 9)
    if isinstance(tape, Tape):
        assert tape.num_replays == 9


def test_a_step_writes_to_its_own_sessions_alone(device: str, tape: Recorder) -> None:
    """Three sessions run in a batch of four: neither the fourth nor recording touches anybody's slab."""
    model = small(device)
    with torch.inference_mode():
        slabs = [Slab(model.slab_shape, 8) for _ in range(4)]
        for slab in slabs:
            slab.kv.fill_(7.0)
        decoder = Decoder(model, max_batch=4, max_tokens=8, recorder=tape)
        assert all(bool((slab.kv == 7).all()) for slab in slabs)
        model.forward([Span(slab, [1]) for slab in slabs[:3]], decoder)
    assert bool((slabs[3].kv == 7).all())
    for slab in slabs[:3]:
        assert slab.num_tokens == 1
        assert bool((slab.kv[:, :, :, 1:] == 7).all())
        assert not bool((slab.kv[:, :, :, 0] == 7).any())


def test_an_engine_that_records_gives_the_same_turns(device: str, tape: Recorder) -> None:
    """While prompts are computed beside decoding, sessions close, and slabs come and go."""
    found = []
    for records in (False, True):
        budget = DeviceBudget.create(1 << 24)
        with Engine(small(device), budget, max_session_tokens=100, prefill_chunk=8) as engine:
            with torch.inference_mode():
                engine._scheduler.decoder = (
                    Decoder(engine.model, max_batch=4, max_tokens=100, recorder=tape) if records else None
                )
            texts: dict[str, list[int]] = {}
            for at in range(5):
                engine.open(f"s{at}", 40 + at)
                engine.submit(Turn(f"s{at}", [(5 * at + j) % VOCAB_SIZE for j in range(1 + 3 * at)], 4))
                for event in engine.step():
                    texts.setdefault(event.session_id, []).append(event.token_id)
            for event in run(engine):
                texts.setdefault(event.session_id, []).append(event.token_id)
            for at in (0, 2, 4):
                engine.close(f"s{at}")
            engine.open("later", 30)
            engine.submit(Turn("later", [3, 1, 4], 6))
            engine.submit(Turn("s1", [9, 9], 6))
            for event in run(engine):
                texts.setdefault(event.session_id, []).append(event.token_id)
            found.append(texts)
        assert budget.used_bytes == 0
        budget.remove()
    assert found[1] == found[0]


READS = """
import torch
from harness.sessions.core.decoding.recorders import CudaGraphs
numbers = torch.ones(2, device="cuda")
before = torch.cuda.current_stream()
try:
    CudaGraphs(torch.device("cuda")).record(lambda: numbers * numbers.sum().item())
except RuntimeError as exc:
    print("captur" in f"{exc} {exc.__context__}", torch.cuda.current_stream() == before)
"""


def test_what_waits_for_the_device_cannot_be_recorded(device: str) -> None:
    """And is an error, where a step that reads a number would go on with the one it read first."""
    if device == "cpu":

        class Reads(Model):
            def rows_logits(self, *args: Any) -> torch.Tensor:
                return super().rows_logits(*args) * self.weights.norm.sum().item()

        model = small(device)
        model.__class__ = Reads
        with pytest.raises(RuntimeError, match="captur"), torch.inference_mode():
            Decoder(model, max_batch=1, max_tokens=8, recorder=Tape(sys.modules[MODULE]))
        return
    # In a process of its own: it is of no use afterwards.
    command = [sys.executable, "-c", READS]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["True"] * 2


@pytest.mark.parametrize("way", ["kernels", "slab-by-slab"])
def test_a_slowed_engine_replays_nothing_meanwhile(device: str, tape: Recorder, way: str) -> None:
    """And goes on as before; its tokens are the same."""
    budget = DeviceBudget.create(1 << 24)
    with Engine(small(device), budget, max_session_tokens=40, decoding="slab-by-slab") as engine:
        with torch.inference_mode():
            decoder = Decoder(engine.model, max_batch=2, max_tokens=40, recorder=tape)
        engine.decoding = ways.Way(decoder, "graphs", "")
        engine._scheduler.decoder = decoder
        texts, replayed = [], []
        for slows in (True, False):
            engine.open("a", 20)
            engine.submit(Turn("a", [1, 2, 3], 4))
            with engine.slowed(way) if slows else nullcontext():
                texts.append([event.token_id for event in run(engine)])
            replayed.append(decoder.num_replayed)
            engine.close("a")
        assert texts[0] == texts[1]
        assert (replayed, engine.stats().graph_steps) == ([0, 3], 3)
        assert engine.stats().row_steps == (6 if way == "kernels" else 3)
        with pytest.raises(UnavailableError, match="tiny: graphs is not before graphs, how its decode steps"):
            engine.slowed("graphs").__enter__()
    assert (engine.decoding.decoder, engine._scheduler.decoder) == (None, None)
    budget.remove()


COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from harness.sessions.core.decoding import kernels

sizes = dict(KV_HEADS=8, GROUPS=4, DIM=128, SPLIT_TOKENS=256, GROUP_BLOCK=16, DIM_BLOCK=128)
for kind in ("fp16", "bf16", "fp32"):
    sums = dict(parts="*fp32", sums="*fp32")
    rows = dict(row_stride="i32", table="*i64", layer="i32")
    args = {
        kernels.store: dict(fresh=f"*{kind}", **rows),
        kernels.attend: dict(query=f"*{kind}", **rows, scale="fp32", **sums, num_splits="i32"),
        kernels.combine: dict(**sums, table="*i64", out=f"*{kind}", num_splits="i32"),
    }
    for kernel, signature in args.items():
        named = {**sizes, "BLOCK": 32 if kind == "fp32" else 64}
        constants = {name: named[name] for name in kernel.arg_names if name in named}
        # As a launch has it: what is allocated is aligned, and rows are.
        aligned = {
            (kernel.arg_names.index(name),): [["tt.divisibility", 16]]
            for name, type in signature.items() if type.startswith("*") or name == "row_stride"
        }
        source = ASTSource(kernel, {**signature, **dict.fromkeys(constants, "constexpr")}, constants, aligned)
        found = triton.compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32))
        print(kernel.__name__, kind, len(found.asm["cubin"]), found.metadata.shared)
        assert found.metadata.shared < 100_000
        assert kernel is not kernels.attend or "ld.global.b16" not in found.asm["ptx"], "read by two bytes"
"""


@pytest.mark.parametrize("capability", [90, pytest.param(80, marks=pytest.mark.nightly)])
def test_kernels_compile_for_gpus_that_are_not_here(capability: int) -> None:
    """To machine code of an A100 and an H100, by the assembler that comes with Triton."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE, str(capability)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert found.returncode == 0, found.stderr[-2000:]
    assert len(found.stdout.splitlines()) == 9
