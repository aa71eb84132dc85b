"""Where a server does not count what it took from its prefix cache, time tells."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.nodes import specs_of
from fixtures.pool import Pool, Runner
from fixtures.reuse import ReuseProbe, reused_share, with_nonce
from harness.backends import Completion, EngineTimes, Message, OnChunk, Request, connect, parse_backend
from harness.backends.fake import FakeBackend
from harness.routers import FixedRouter
from harness.workflow import TaskRun, load, run_tasks

LONG = "def f(x):\n    return x\n" * 20
PROMPTS = [Request(prompt=f"{name} = 1\n{LONG}", max_tokens=30) for name in "abc"]


class Remembering(FakeBackend):
    """Reads a token a millisecond, but for a share of every prompt that it has seen."""

    def __init__(self, share: float) -> None:
        super().__init__(counts_tokens=False)
        self.share, self.seen = share, set[str]()

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Completion:
        answer = await super().generate(request, on_chunk)
        text = request.prompt or ""
        prefill_s = len(text) * 1e-3 * (1 - self.share if text in self.seen else 1)
        self.seen.add(text)
        return replace(answer, engine=EngineTimes(prefill_s=prefill_s))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_the_share_that_is_saved_is_the_share_that_is_found(share: float) -> None:
    """The same prompts come around again and are compared with prompts as long that nobody saw."""
    found = asyncio.run(reused_share(Remembering(share), PROMPTS))
    assert found == pytest.approx(share)


def test_a_backend_without_times_leaves_it_unknown() -> None:
    """Without prefill and first token nothing can be compared; unknown is not 0."""
    requests = [replace(request, stream=False) for request in PROMPTS]
    silent = FakeBackend(counts_tokens=False)
    silent_times = Untimed(silent)
    assert asyncio.run(reused_share(silent_times, requests)) is None
    assert asyncio.run(reused_share(silent, [])) is None


class Untimed(FakeBackend):
    """Tells nothing of its engine."""

    def __init__(self, inner: FakeBackend) -> None:
        super().__init__()
        self.inner = inner

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Completion:
        return replace(await self.inner.generate(request), engine=EngineTimes())


@pytest.mark.parametrize("request_", [PROMPTS[0], Request(messages=(Message("user", LONG),), max_tokens=1)])
def test_a_nonce_leaves_the_length_and_takes_the_beginning(request_: Request) -> None:
    """As long as before, with other first characters each time."""
    texts = [
        other.prompt or other.messages[0].content for other in (with_nonce(request_), with_nonce(request_))
    ]
    plain = request_.prompt or request_.messages[0].content
    assert {len(text) for text in texts} == {len(plain)}
    assert len({text[:12] for text in (*texts, plain)}) == 3
    assert all(text[12:] == plain[12:] for text in texts)


def test_a_real_engines_cache_is_seen_by_time() -> None:
    """llama.cpp told to reuse prompts saves most of their prefill; its counts are not looked at."""

    async def measure() -> float | None:
        async with connect(parse_backend("small=pocket:nano?n_ctx=4096&n_parallel=3")) as (_, backend):
            return await reused_share(backend, [replace(r, cache_prompt=True) for r in PROMPTS])

    share = asyncio.run(measure())
    assert share is not None
    assert share > 0.5


def test_a_role_is_measured_once_and_only_when_it_is_silent() -> None:
    """An engine that counts is not asked again."""
    workload = load("swe-mini", Path(__file__).parents[1] / "bench" / "workloads").subset(1)
    pool, runner = Pool(specs_of("pocket", None, ()), "pocket"), Runner()
    try:
        runs = runner(_once(pool, workload))
        probe = ReuseProbe(pool, runner)
        assert probe.shares(runs) == {}
        silent = [_silenced(run) for run in runs]
        shares = probe.shares(silent)
        assert shares.keys() == {"small"}
        assert probe.shares(silent) == shares
    finally:
        runner.close()


async def _once(pool: Pool, workload) -> list[TaskRun]:
    lease = await pool.lease(["small"])
    try:
        roles = dict.fromkeys((stage.name for stage in workload.stages), "small")
        return await run_tasks(workload, workload.tasks, FixedRouter(name="r", roles=roles), lease.endpoints)
    finally:
        await lease.aclose()


def _silenced(run: TaskRun) -> TaskRun:
    stages = {
        name: replace(
            stage,
            attempts=tuple(
                replace(a, completion=replace(a.completion, cached_tokens=None)) for a in stage.attempts
            ),
        )
        for name, stage in run.stages.items()
    }
    return replace(run, stages=stages)
