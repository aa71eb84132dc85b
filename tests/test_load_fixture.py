"""The cascade's open loop logs every request, and holds its client to the rule of every load."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import pytest

from fixtures.load import LoadArm, LoadPlan
from harness.backends import Completion, OnChunk, Request
from harness.backends.fake import FakeBackend
from harness.errors import BackendBroken, ClientExhausted
from harness.load import read_log
from harness.routers import FixedRouter
from harness.workflow import Endpoint, EngineTimePrice, StageSpec, Task, Workload

TASK = Task(
    id="t1",
    issue="an issue",
    buggy="def f():\n    return 0",
    reference="def f():\n    return 1",
    entry_point="f",
    visible_tests=(),
    hidden_tests=("assert f() == 1",),
)
STAGES = (
    StageSpec(name="analysis", needs=(), max_tokens=5, grade="text", prompt="{issue}"),
    StageSpec(name="code", needs=("analysis",), max_tokens=5, grade="code", prompt="{analysis}"),
)
WORKLOAD = Workload(name="w", source="test", stages=STAGES, tasks=(TASK,), sha256="0")
ROUTER = FixedRouter.from_letters("LL", ("analysis", "code"))


class OnePool:
    """Leases one scripted engine."""

    is_simulated = False

    def __init__(self, backend: FakeBackend) -> None:
        price = EngineTimePrice(usd_per_vcpu_hour=1)
        self.endpoints = {"large": Endpoint("large", [backend], slots=4, price=price, label="large")}

    async def lease(self, roles: Sequence[str], **options: Any) -> OnePool:
        return self

    async def aclose(self) -> None:
        """Keep it for the next round."""


@pytest.fixture
def runner() -> Iterator[Any]:
    with asyncio.Runner() as runner:
        yield runner.run


def measured(backend: FakeBackend, runner: Any, log: Path, **options: Any) -> LoadArm:
    plan = LoadPlan(
        workload=WORKLOAD, unloaded_s=0.01, rates_per_s=(100.0, 200.0), slo_s=1.0, arrivals=5, log=log
    )
    pool: Any = OnePool(backend)
    arm = LoadArm("load-x", ROUTER, ("large",), pool, runner, plan, **options)
    for _ in range(2):
        arm.prepare()
        arm.run()
        arm.clean_up()
    return arm


def answers(arm: LoadArm) -> list[Any]:
    return [one.completion for run in arm.runs for one in run.attempts]


def test_every_request_of_every_round_is_logged(runner: Any, tmp_path: Path) -> None:
    """Two rounds of two rates of five tasks of two stages are 40 requests, each with its labels."""
    path = tmp_path / "requests.jsonl"
    measured(FakeBackend(("one two",)), runner, path, beside="load-y")
    entries = read_log(path)
    assert len(entries) == 40
    assert {(e.labels["round"], e.labels["rate_per_s"]) for e in entries} == {
        (r, f) for r in (0, 1) for f in (100.0, 200.0)
    }
    assert {e.labels["stage"] for e in entries} == {"analysis", "code"}
    assert {(e.labels["variant"], e.labels["beside"]) for e in entries} == {("load-x", "load-y")}
    assert all(e.output_tokens == 2 and e.intended_s >= e.labels["task_intended_s"] for e in entries)


def test_a_round_counts_its_tokens_and_its_tasks(runner: Any, tmp_path: Path) -> None:
    """Of all its rates, for the energy of each: two rates of five tasks of two stages of two tokens."""
    plan = LoadPlan(workload=WORKLOAD, unloaded_s=0.01, rates_per_s=(100.0, 200.0), slo_s=1.0, arrivals=5)
    pool: Any = OnePool(FakeBackend(("one two",)))
    arm = LoadArm("load-x", ROUTER, ("large",), pool, runner, plan)
    for _ in range(2):
        arm.prepare()
        found = arm.run()
        arm.clean_up()
    assert (found.tokens, found.tasks) == (sum(one.output_tokens or 0 for one in answers(arm)) / 2, 10)
    assert found.tokens


def test_a_failed_request_is_logged_with_its_error(runner: Any, tmp_path: Path) -> None:
    """Its task ends there: the stage after it asks nothing."""
    path = tmp_path / "requests.jsonl"
    measured(FakeBackend(("one two",), fail={0: BackendBroken("no")}), runner, path)
    failed = [e for e in read_log(path) if e.is_failed]
    assert [e.error for e in failed] == ["BackendBroken: no"]
    assert failed[0].first_token_s is None
    assert len(read_log(path)) == 39


def test_the_client_is_held_to_the_rule_of_every_load(runner: Any, tmp_path: Path) -> None:
    """The words are those of `check_client`, with the limit in them."""
    arm = measured(FakeBackend(("one two",), prefill_s=0.01), runner, tmp_path / "requests.jsonl")
    check = arm.check()
    assert check.name == "client_not_bottleneck"
    assert "limit 10% of the SLO, 1000.0 ms; median TTFT" in check.observed
    arm.cpu_shares.append(0.71)
    assert not arm.check().ok


class Written(FakeBackend):
    """Comes to its requests as late as it is told."""

    late_s = 0.0

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Completion:
        answer = await super().generate(request, on_chunk)
        return replace(answer, written_s=answer.sent_s + self.late_s)


def test_a_late_request_counts_though_its_task_began_in_time(runner: Any, tmp_path: Path) -> None:
    """The rule looks at when requests were written, as in every load."""
    backend = Written(("one two",), prefill_s=0.05)
    arm = measured(backend, runner, tmp_path / "requests.jsonl")
    late_ms = delay_ms(arm.check())
    backend.late_s = 1.0
    arm = measured(backend, runner, tmp_path / "later.jsonl")
    assert late_ms < 1000 <= delay_ms(arm.check())
    assert not arm.check().ok


def delay_ms(check: Any) -> float:
    return float(check.observed.split("dispatched ")[1].split(" ms")[0])


def test_a_request_that_was_never_sent_spoils_the_round(runner: Any, tmp_path: Path) -> None:
    """The client ran out: that is no failure of the arm."""
    backend = FakeBackend(("one two",), fail={0: ClientExhausted("no descriptor")})
    arm = measured(backend, runner, tmp_path / "requests.jsonl")
    assert not arm.check().ok
    assert "ran out of what 1 requests needed" in arm.check().observed


class Computing(FakeBackend):
    """Takes 6 ms of this thread's time for the first request of each task, before it waits."""

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Completion:
        ends_s = thread_time() + 0.006
        while TASK.issue in str(request.messages) and thread_time() < ends_s:
            pass
        return await super().generate(request, on_chunk)


def test_the_drain_after_the_arrivals_hides_no_busy_client(runner: Any, tmp_path: Path) -> None:
    """A client that computes while tasks arrive, and then waits for answers, is judged by the arrivals."""
    cpu_s, wall_s = thread_time(), perf_counter()
    arm = measured(Computing(("one two",), prefill_s=0.5), runner, tmp_path / "requests.jsonl")
    whole = (thread_time() - cpu_s) / (perf_counter() - wall_s)
    assert len(arm.cpu_shares) == 4
    assert max(arm.cpu_shares) > 2 * whole


def test_an_arm_that_never_ran_is_not_valid(runner: Any, tmp_path: Path) -> None:
    """Nothing seen is not seen to be good."""
    plan = LoadPlan(workload=WORKLOAD, unloaded_s=1.0, rates_per_s=(1.0,), slo_s=1.0)
    pool: Any = OnePool(FakeBackend())
    assert not LoadArm("load-x", ROUTER, ("large",), pool, runner, plan).check().ok


def test_a_resumed_run_keeps_its_plan_and_its_log(tmp_path: Path) -> None:
    """The second call measures nothing, and both log beside the plan."""
    path = tmp_path / "load-plan.json"
    plan = LoadPlan(workload=WORKLOAD, unloaded_s=1.0, rates_per_s=(1.0, 2.0), slo_s=3.0)
    first = LoadPlan.stored(path, WORKLOAD, lambda: plan)

    def never() -> LoadPlan:
        raise AssertionError("measured again")

    assert LoadPlan.stored(path, WORKLOAD, never) == first
    assert first.log == tmp_path / "requests.jsonl"
