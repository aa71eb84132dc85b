"""The arms of switching: the reference's tokens, the simulator's bytes, and what they refuse."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("torch")

from switching_asks import asks, setting

from harness.errors import BudgetError, ModelError, UnavailableError, UsageError
from harness.residency.arms import ARMS, arm
from harness.residency.arms import Setting as Planned
from harness.residency.catalogue import SimModel
from harness.residency.layout import ModelLayout
from harness.residency.simulator import Link, Served, Simulator
from harness.residency.traces.trace import Request
from harness.sessions.ring.loading import load_host
from harness.switching.arms import NAMES, make_arm
from harness.switching.arms.fresh import _memory
from harness.switching.base import Answer, Arm, Ask, answer_all
from harness.switching.setting import POCKET_MODELS, Setting

ASKS = asks(8)
HERE = (*ARMS, "fresh", "serverless-warm", "serverless-cold")
"""Arms that need nothing but this machine."""
RELOADING = ("fresh", "serverless-warm", "serverless-cold")
LOOKAHEAD = tuple(name for name in ARMS if ARMS[name].lookahead)
STREAMING = tuple(name for name in ARMS if name.startswith("home-slot"))
SMALL_BYTES = 9_000_000


@contextmanager
def running(name: str, where: Setting) -> Iterator[Arm]:
    try:
        made = make_arm(name, where)
    except UnavailableError as exc:
        pytest.skip(str(exc))
    try:
        yield made
    finally:
        made.close()


@cache
def expected(wanted: tuple[Ask, ...] = tuple(ASKS)) -> list[tuple[int, ...]]:
    """What the reference answers."""
    with running("reference", setting()) as reference:
        return [answer.token_ids for answer in answer_all(reference, wanted, sees_queue=False)]


@cache
def layout(model: str) -> ModelLayout:
    host = load_host(model)
    host.blob.close()
    return host.blob.manifest.layout


def simulated(name: str, wanted: list[Ask], where: Setting) -> list[Served]:
    """The same requests by the same policy, in no time."""
    layouts = {one: layout(one) for one in where.models}
    known = arm("reload-every" if name in RELOADING else name)
    planned = Planned(
        layouts=layouts,
        capacity_bytes=where.arena_bytes,
        popularity=where.popularity,
        future=[ask.model for ask in wanted],
    )
    models = {one: SimModel(layout=each, prefill_s=0.0, token_s=0.0) for one, each in layouts.items()}
    requests = [Request(0.0, ask.model, len(ask.prompt_ids), ask.new_tokens) for ask in wanted]
    return Simulator(models, Link(bytes_per_s=1e9)).run(
        known.build(planned, warm="fill"), requests, streaming=known.streaming
    )


@pytest.mark.parametrize("name", HERE)
def test_an_arm_gives_the_tokens_of_the_reference(name: str) -> None:
    """And hits and bytes as the simulator has them; nobody has written to a blob, and only one copies out."""
    with running(name, setting()) as one:
        one.reset(warm="fill", future=[ask.model for ask in ASKS])
        answers = answer_all(one, ASKS, sees_queue=True)
        checksums = one.checksums()
    assert [answer.token_ids for answer in answers] == expected()
    assert {model: checksums[model] for model in POCKET_MODELS} == {
        model: checksums[f"packed:{model}"] for model in POCKET_MODELS
    }
    copied_out = sum(answer.bytes_out or 0 for answer in answers)
    assert bool(copied_out) == (name == "fifo-ring-copy-out")
    if name not in LOOKAHEAD:
        assert [counts(answer) for answer in answers] == [
            counts(one) for one in simulated(name, ASKS, setting())
        ]


@pytest.mark.gpu
@pytest.mark.parametrize("name", HERE)
def test_an_arm_on_a_gpu_gives_the_tokens_of_the_reference_there(name: str) -> None:
    """With the same kernels, over the link that there is."""
    where = setting(device="cuda", link_bytes_per_s=None)
    with running("reference", where) as reference:
        right = answer_all(reference, ASKS, sees_queue=False)
    with running(name, where) as one:
        one.reset(warm="fill", future=[ask.model for ask in ASKS])
        answers = answer_all(one, ASKS, sees_queue=True)
    assert [answer.token_ids for answer in answers] == [answer.token_ids for answer in right]


def counts(one: Answer | Served) -> tuple[object, ...]:
    return (one.is_hit, one.bytes_in, one.ahead_bytes, one.bytes_out, one.evicted_bytes, one.needed_bytes)


@pytest.mark.parametrize("name", LOOKAHEAD)
def test_an_arm_that_looks_ahead_copies_for_the_next_request(name: str) -> None:
    """What came ahead and what came after make up the model; who is not told of the queue does not guess."""
    turns = [Ask(model=model, prompt_ids=(1, 2, 3), new_tokens=8) for model in ("llama-mini", "phi-mini")]
    with running(name, setting(models=("llama-mini", "phi-mini"))) as one:
        one.reset()
        _, seen = answer_all(one, turns, sees_queue=True)
        one.reset()
        _, unseen = answer_all(one, turns, sees_queue=False)
    assert seen.ahead_bytes
    assert seen.ahead_bytes + (seen.bytes_in or 0) == unseen.bytes_in
    assert unseen.ahead_bytes == 0
    assert seen.token_ids == unseen.token_ids


@pytest.mark.parametrize("name", ["home-slot", "reload-every", "fresh"])
def test_the_times_of_an_answer_lie_in_order(name: str) -> None:
    """Switching is part of the time to the first token, and its parts make it up."""
    with running(name, setting()) as one:
        one.reset()
        answers = answer_all(one, ASKS[:3], sees_queue=False)
    ends = [0.0, *(answer.done_s for answer in answers)]
    for before_s, answer in zip(ends, answers, strict=False):
        assert before_s <= answer.began_s < answer.first_token_s < answer.done_s
        assert 0 < answer.switch_s <= answer.ttft_s
        parts = (answer.plan_s or 0.0) + (answer.bind_s or 0.0) + (answer.wait_s or 0.0)
        assert answer.switch_s == pytest.approx(parts)


@pytest.mark.parametrize("warm", ["cold", "each", "fill"])
def test_warming_up_makes_the_copies_that_it_says(warm: str) -> None:
    """The first answer finds what the policy's map has, and its tokens are right."""
    with running("home-slot", setting()) as one:
        one.reset(warm=warm)
        first = one.answer(ASKS[0])
    assert first.token_ids == expected()[0]
    assert first.is_hit == (warm == "fill")
    assert (first.bytes_in == layout(ASKS[0].model).num_bytes) == (warm == "cold")


def test_an_arm_begins_every_trace_anew() -> None:
    """A second run of the same trace hits and copies what the first did."""
    with running("chunk-slots", setting()) as one:
        runs = []
        for _ in range(2):
            one.reset(warm="each")
            runs.append([counts(answer) for answer in answer_all(one, ASKS, sees_queue=False)])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", [name for name in HERE if name != "belady"])
def test_a_model_larger_than_the_arena_streams_or_is_refused_with_what_it_needs(name: str) -> None:
    """Who streams gives the reference's tokens; the others name the bytes, and go on with other models."""
    wanted = [Ask(model=model, prompt_ids=(5, 6, 7), new_tokens=2) for model in ("llama-mini", "phi-mini")]
    where = setting(models=("llama-mini", "phi-mini"), arena_bytes=SMALL_BYTES)
    with running(name, where) as one:
        one.reset(future=[ask.model for ask in wanted])
        large, small = answer_all(one, wanted, sees_queue=False)
    tokens = expected(tuple(wanted))
    assert small.token_ids == tokens[1]
    if large.failure is None:
        assert large.token_ids == tokens[0]
        assert name in STREAMING or name == "resident"
    else:
        assert name not in STREAMING
        assert large.failure.startswith("BudgetError: ")
        assert str(layout("llama-mini").num_bytes) in large.failure
        assert large.token_ids == ()


def test_there_is_no_bound_where_a_model_is_larger_than_the_arena() -> None:
    where = setting(models=("llama-mini", "phi-mini"), arena_bytes=SMALL_BYTES)
    with running("belady", where) as one, pytest.raises(BudgetError, match="larger than the arena"):
        one.reset(future=["phi-mini", "llama-mini"])


@pytest.mark.parametrize("name", ["reference", "home-slot", "fresh"])
def test_a_request_for_an_unknown_model_stops_the_trace(name: str) -> None:
    with running(name, setting(models=("phi-mini",))) as one, pytest.raises(UsageError, match="llama-mini"):
        answer_all(one, [Ask(model="llama-mini", prompt_ids=(1,), new_tokens=1)], sees_queue=False)


@pytest.mark.parametrize("name", ["reference", "lru", "fresh"])
def test_a_setting_with_an_unknown_model_makes_no_arm(name: str) -> None:
    with pytest.raises(ModelError, match="no-mini"):
        make_arm(name, setting(models=("phi-mini", "no-mini")))


def test_an_unknown_arm_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"home-slots.*home-slot-sync.*vllm-sleep"):
        make_arm("home-slots", setting())
    assert len(set(NAMES)) == len(NAMES)


def test_an_unknown_warm_up_is_refused() -> None:
    with running("lru", setting(models=("phi-mini",))) as one, pytest.raises(UsageError, match="tepid"):
        one.reset(warm="tepid")


def test_fresh_memory_goes_back_to_the_system() -> None:
    """It is mapped while a request has it, and not afterwards."""
    with _memory(5_000_000, "cpu") as memory:
        memory.fill_(1)
        address = memory.data_ptr()
        assert is_mapped(address)
        del memory
    assert not is_mapped(address)


def test_an_arena_behind_files_goes_back_to_the_system() -> None:
    """When its arm is closed, whoever still has that."""
    made = make_arm("serverless-warm", setting(models=("phi-mini",)))
    address = made._arena.memory.data_ptr()  # type: ignore[attr-defined]
    assert is_mapped(address)
    made.close()
    assert not is_mapped(address)


def is_mapped(address: int) -> bool:
    rows = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
    return any(int(begin, 16) <= address < int(end, 16) for begin, end in rows)


def test_a_cold_file_is_read_from_the_disk_and_a_warm_one_is_not() -> None:
    """By the kernel's own count, request by request."""
    found = {}
    for name in ("serverless-warm", "serverless-cold"):
        with running(name, setting(models=("phi-mini",))) as one:
            one.reset()
            found[name] = answer_all(one, asks(3, models=("phi-mini",)), sees_queue=False)
    size = layout("phi-mini").num_bytes
    assert [answer.disk_bytes for answer in found["serverless-warm"]] == [0, 0, 0]
    assert all((answer.disk_bytes or 0) > 0.9 * size for answer in found["serverless-cold"])


@pytest.mark.skipif(
    not any(" /dev/shm tmpfs " in line for line in Path("/proc/mounts").read_text().splitlines()),
    reason="no tmpfs at /dev/shm",
)
def test_a_file_in_memory_is_not_called_cold() -> None:
    from harness.launchers.scratch import scratch_folder

    with scratch_folder("assay-test", parent="/dev/shm") as folder:
        where = setting(models=("phi-mini",), folder=str(folder))
        with pytest.raises(UnavailableError, match=r"serverless-cold: .*not dropped from memory.*tmpfs"):
            make_arm("serverless-cold", where)


def test_a_folder_keeps_the_files_for_the_next_arm(tmp_path: Path) -> None:
    """Another seed's weights are other files; files that were written over are written again."""
    where = setting(models=("phi-mini",), folder=str(tmp_path))
    for _ in range(2):
        with running("serverless-warm", where) as one:
            assert one.answer(Ask(model="phi-mini", prompt_ids=(1, 2), new_tokens=2)).failure is None
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.blob")}
    with running("serverless-warm", setting(models=("phi-mini",), folder=str(tmp_path), seed=1)):
        pass
    assert len(written) == 1
    assert len(list(tmp_path.rglob("*.blob"))) == 2
    assert all(path.stat().st_mtime_ns == at for path, at in written.items())


def test_a_file_that_is_cut_off_costs_its_own_requests(tmp_path: Path) -> None:
    """It is named, with what it has and what it needs; other models are served on."""
    where = setting(models=("llama-mini", "phi-mini"), folder=str(tmp_path))
    with running("serverless-warm", where) as one:
        (blob,) = tmp_path.glob("llama-mini*/model.blob")
        os.truncate(blob, 1_000_000)
        wanted = [Ask(model=model, prompt_ids=(5, 6, 7), new_tokens=2) for model in where.models]
        broken, sound = answer_all(one, wanted, sees_queue=False)
    assert (broken.failure or "").startswith(f"ModelError: {blob}: truncated")
    assert sound.token_ids == expected(tuple(wanted))[1]


def test_an_arena_that_the_host_has_not_got_is_refused() -> None:
    with pytest.raises(BudgetError, match="bytes"):
        make_arm("reload-every", setting(models=("phi-mini",), arena_bytes=2**60))


def test_the_default_setting_is_the_pockets() -> None:
    """The published sizes and the published buffer, ÷ 1000."""
    sizes = [layout(name).num_bytes / 1e6 for name in Setting().models]
    assert sizes == pytest.approx([12.6, 13.5, 5.2], rel=0.02)
