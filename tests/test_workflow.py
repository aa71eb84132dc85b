"""The executor carries data along edges, accounts for every second, and turns failures into results."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.base import Completion, EngineTimes, Request
from harness.backends.fake import FakeBackend, prompt_of
from harness.backends.memo import MemoBackend
from harness.errors import BackendBroken, UsageError
from harness.routers import (
    EscalatingRouter,
    FixedRouter,
    HindsightRouter,
    RandomRouter,
    Router,
    assignments,
)
from harness.workflow import (
    PARTS,
    Endpoint,
    EngineTimePrice,
    StageSpec,
    Task,
    TokenPrice,
    Workload,
    attribute,
    run_task,
    run_tasks,
)
from harness.workflow.attribution import critical_path
from harness.workflow.summary import failures, summarize, total

STAGES = ("analysis", "code", "summary")
NEEDS = {"analysis": (), "code": ("analysis",), "summary": ("analysis", "code")}


def stage(name: str, needs: tuple[str, ...] = (), prompt: str = "{issue}", grade: str = "text") -> StageSpec:
    return StageSpec(name=name, needs=needs, max_tokens=20, grade=grade, prompt=prompt)


def task(name: str = "t1") -> Task:
    return Task(
        id=name,
        issue=f"issue of {name}",
        buggy="def f():\n    return 0",
        reference="def f():\n    return 1",
        entry_point="f",
        visible_tests=("assert f() == 1",),
        hidden_tests=("assert f() == 1",),
    )


def workload(stages: tuple[StageSpec, ...] | None = None, num_tasks: int = 1) -> Workload:
    chain = (
        stage("analysis"),
        stage("code", ("analysis",), "fix: {analysis}", "code"),
        stage("summary", ("analysis", "code"), "sum: {analysis} / {code}"),
    )
    tasks = tuple(task(f"t{n}") for n in range(num_tasks))
    return Workload(name="w", source="test", stages=stages or chain, tasks=tasks, sha256="0")


def endpoint(backend: FakeBackend, role: str = "large", slots: int = 1) -> Endpoint:
    return Endpoint(role, [backend], slots=slots, price=EngineTimePrice(usd_per_vcpu_hour=3600.0), label=role)


def fixed(letters: str = "LLL") -> FixedRouter:
    return FixedRouter.from_letters(letters, STAGES)


def run(coroutine: object) -> object:
    return asyncio.run(coroutine)  # type: ignore[arg-type]


def run_one(work: Workload, router: Router, endpoints: Mapping[str, Endpoint]):
    return run(run_task(work, work.tasks[0], router, endpoints))


class TestExecutor:
    def test_a_prompt_holds_the_outputs_of_the_stages_it_needs(self) -> None:
        """The edges carry data: the summary's prompt has the analysis and the code in it."""
        large = FakeBackend(["the defect", "```python\nfixed\n```", "done"])
        result = run_one(workload(), fixed(), {"large": endpoint(large)})
        assert [prompt_of(r) for r in large.requests] == [
            "issue of t0",
            "fix: the defect",
            "sum: the defect / fixed\n",
        ]
        assert result.output("summary") == "done"

    def test_stages_go_to_the_roles_that_the_router_names(self) -> None:
        """SLS sends two requests to the small and one to the large engine."""
        small, large = FakeBackend(["a"], name="small"), FakeBackend(["b"], name="large")
        ends = {"small": endpoint(small, "small"), "large": endpoint(large)}
        result = run_one(workload(), fixed("SLS"), ends)
        assert [a.role for a in result.attempts] == ["small", "large", "small"]
        assert (len(small.requests), len(large.requests)) == (2, 1)

    def test_independent_stages_run_side_by_side(self) -> None:
        """Two stages without an edge between them are in flight together."""
        stages = (stage("left"), stage("right"), stage("join", ("left", "right"), "{left}{right}"))
        slow = FakeBackend(["x"], prefill_s=0.02)
        router = FixedRouter(name="all", roles=dict.fromkeys(("left", "right", "join"), "large"))
        run_one(workload(stages), router, {"large": endpoint(slow, slots=2)})
        assert slow.max_running == 2

    def test_a_failing_stage_is_a_result_and_later_stages_do_not_run(self) -> None:
        """The failure is named with its stage; what came before it is kept."""
        large = FakeBackend(["a", "b", "c"], fail={1: BackendBroken("large: stream ended early")})
        result = run_one(workload(), fixed(), {"large": endpoint(large)})
        assert result.error == "code: BackendBroken: large: stream ended early"
        assert result.output("analysis") == "a"
        assert result.output("code") is None
        assert len(large.requests) == 2
        assert failures([result]) == [("t0", result.error)]

    def test_requests_wait_for_a_slot_and_the_wait_is_counted_as_queueing(self) -> None:
        """With one slot, two tasks at once give one of them queue time."""
        slow = FakeBackend(["x"], prefill_s=0.02)
        work = workload((stage("only"),), num_tasks=2)
        router = FixedRouter(name="r", roles={"only": "large"})
        runs = run(run_tasks(work, work.tasks, router, {"large": endpoint(slow)}, max_concurrency=2))
        assert slow.max_running == 1
        waits = sorted(attribute(r, {"only": ()}).parts["queue_s"] for r in runs)
        assert waits[0] < waits[1]
        assert waits[1] >= 0.015

    def test_concurrency_stays_within_its_bound(self) -> None:
        """Ten tasks at a bound of three never have four in flight."""
        backend = FakeBackend(["x"], prefill_s=0.002)
        work = workload((stage("only"),), num_tasks=10)
        router = FixedRouter(name="r", roles={"only": "large"})
        run(run_tasks(work, work.tasks, router, {"large": endpoint(backend, slots=10)}, max_concurrency=3))
        assert backend.max_running == 3


class TestAttribution:
    def test_the_parts_of_a_task_sum_to_its_wall_clock_time_within_two_percent(self) -> None:
        """Every part is measured by itself; the rest is the harness's own and small."""
        large = FakeBackend(["a b c d"], prefill_s=0.1, token_s=0.05)
        result = run_one(workload(), fixed(), {"large": endpoint(large)})
        account = attribute(result, NEEDS)
        assert set(account.parts) == set(PARTS)
        assert abs(account.unaccounted_s) < 0.02 * account.wall_s
        assert account.parts["decode_s"] == pytest.approx(0.45)

    def test_the_critical_path_follows_the_slower_branch(self) -> None:
        """Of two branches the one that ends last is on the path."""
        stages = (stage("fast"), stage("slow"), stage("join", ("fast", "slow"), "{fast}{slow}"))
        router = FixedRouter(name="r", roles={"fast": "small", "slow": "large", "join": "small"})
        ends = {
            "small": endpoint(FakeBackend(["x"]), "small"),
            "large": endpoint(FakeBackend(["y"], prefill_s=0.03)),
        }
        result = run_one(workload(stages), router, ends)
        path = critical_path(result, {"fast": (), "slow": (), "join": ("fast", "slow")})
        assert [s.stage for s in path] == ["slow", "join"]

    def test_latency_counts_from_the_intended_start(self) -> None:
        """A task that was due before it could start has the wait in its latency, as queueing."""
        backend = FakeBackend(["x"])
        work = workload((stage("only"),))
        router = FixedRouter(name="r", roles={"only": "large"})

        async def late() -> object:
            from time import perf_counter

            due = perf_counter() - 0.5
            return await run_task(work, work.tasks[0], router, {"large": endpoint(backend)}, intended_s=due)

        account = attribute(run(late()), {"only": ()})
        assert account.wall_s > 0.5
        assert account.parts["queue_s"] >= 0.5

    @given(st.lists(st.one_of(st.none(), st.floats(0, 1e6)), max_size=8))
    def test_a_sum_with_an_unknown_summand_is_unknown(self, values: list[float | None]) -> None:
        """Absent is never zero."""
        result = total(values)
        assert (result is None) == (None in values)

    def test_a_summary_keeps_missing_counts_missing(self) -> None:
        """A server without usage gives no token sum, and no zero."""
        large = FakeBackend(["x"], counts_tokens=False)
        work = workload()
        values = summarize(work, [run_one(work, fixed(), {"large": endpoint(large)})])
        assert values["output_tokens"] is None
        assert values["total_s"] > 0


class TestPrices:
    COMPLETION = Completion(
        text="x", prompt_tokens=1000, output_tokens=500, sent_s=0, done_s=2,
        engine=EngineTimes(prefill_s=0.5, decode_s=1.5),
    )  # fmt: skip

    def test_tokens_are_priced_in_and_out_apart(self) -> None:
        """1000 tokens in at 2 and 500 out at 4 dollars a million are 0.004 dollars."""
        price = TokenPrice(input_usd_per_mtok=2.0, output_usd_per_mtok=4.0)
        assert price.usd(self.COMPLETION) == pytest.approx(0.004)

    def test_engine_time_is_priced_by_the_vcpu_hour(self) -> None:
        """Two busy seconds at 3600 dollars an hour are two dollars."""
        assert EngineTimePrice(usd_per_vcpu_hour=3600.0).usd(self.COMPLETION) == pytest.approx(2.0)

    def test_an_answer_without_counts_has_no_cost(self) -> None:
        """Unknown counts give an unknown cost."""
        bare = Completion(text="x", prompt_tokens=None, output_tokens=None, sent_s=0, done_s=1)
        assert TokenPrice(input_usd_per_mtok=1, output_usd_per_mtok=1).usd(bare) is None
        assert EngineTimePrice(usd_per_vcpu_hour=1).usd(bare) is None


class TestRouters:
    def test_three_stages_have_eight_assignments(self) -> None:
        """From all large to all small, each once."""
        assert assignments(3)[0] == "LLL"
        assert assignments(3)[-1] == "SSS"
        assert len(set(assignments(3))) == 8

    @pytest.mark.parametrize("letters", ["SL", "SLSL", "SXS"])
    def test_letters_that_do_not_fit_the_stages_are_refused(self, letters: str) -> None:
        """The message names the letters and the stages."""
        with pytest.raises(UsageError, match=letters):
            FixedRouter.from_letters(letters, STAGES)

    @given(st.integers(1, 30), st.integers())
    def test_the_random_router_makes_as_many_small_calls_as_the_cascade(self, num: int, seed: int) -> None:
        """One of three stages is large in each task, and each stage has its share of the large calls."""
        ids = [f"t{n}" for n in range(num)]
        router = RandomRouter.draw(ids, STAGES, seed=seed)
        roles = [[router.route(task(i), stage(s)) for s in STAGES] for i in ids]
        assert all(sorted(r) == ["large", "small", "small"] for r in roles)
        counts = [sum(r[k] == "large" for r in roles) for k in range(3)]
        assert max(counts) - min(counts) <= 1
        assert router == RandomRouter.draw(ids, STAGES, seed=seed)

    def test_the_escalating_router_redoes_code_that_fails_a_visible_test(self) -> None:
        """A wrong small answer is redone by the large model; both requests are in the result."""
        small, large = FakeBackend(["wrong"], name="small"), FakeBackend(["right"], name="large")
        router = EscalatingRouter(passes=lambda source, tests: source == "right")
        ends = {"small": endpoint(small, "small"), "large": endpoint(large)}
        result = run_one(workload(), router, ends)
        assert [a.role for a in result.stages["code"].attempts] == ["small", "large"]
        assert result.output("code") == "right"

    def test_the_escalating_router_sees_only_visible_tests(self) -> None:
        """The scorer is handed the visible tests and nothing else."""
        seen: list[object] = []
        router = EscalatingRouter(passes=lambda source, tests: bool(seen.append(tests)) or True)
        run_one(workload(), router, {"small": endpoint(FakeBackend(["x"]), "small")})
        assert seen == [("assert f() == 1",)]

    def test_an_unlikely_token_escalates(self) -> None:
        """A text stage whose least likely token is below the threshold is redone."""
        router = EscalatingRouter(passes=lambda s, t: True, min_logprob=-0.5)
        answer = Completion(
            text="x", prompt_tokens=1, output_tokens=2, sent_s=0, done_s=1, token_logprobs=(-0.1, -0.9)
        )
        assert router.review(task(), stage("analysis"), "small", answer, "x") == "large"
        assert router.review(task(), stage("analysis"), "large", answer, "x") is None
        assert router.wants_logprobs

    def test_hindsight_follows_its_map(self) -> None:
        """The oracle sends each task where its map says."""
        router = HindsightRouter(roles={"t1": {"code": "small"}})
        assert router.route(task("t1"), stage("code")) == "small"


class TestMemo:
    def test_a_greedy_request_is_generated_once(self) -> None:
        """The second answer is the first one, and no request was sent for it."""
        inner = FakeBackend(["one", "two"])
        memo = MemoBackend(inner)
        request = Request(prompt="p", max_tokens=5)

        async def twice() -> list[str]:
            return [(await memo.generate(request)).text, (await memo.generate(request)).text]

        assert run(twice()) == ["one", "one"]
        assert (len(inner.requests), memo.num_generated, memo.num_recalled) == (1, 1, 1)

    def test_a_sampled_request_is_refused(self) -> None:
        """What may change is not remembered."""
        memo = MemoBackend(FakeBackend(["x"]))
        with pytest.raises(UsageError, match=r"temperature is 0\.7"):
            run(memo.generate(Request(prompt="p", max_tokens=5, temperature=0.7)))

    def test_a_failure_is_not_remembered(self) -> None:
        """After a failure the next request is sent."""
        inner = FakeBackend(["x"], fail={0: BackendBroken("gone")})
        memo = MemoBackend(inner)
        request = Request(prompt="p", max_tokens=5)

        async def both() -> str:
            with pytest.raises(BackendBroken):
                await memo.generate(request)
            return (await memo.generate(request)).text

        assert run(both()) == "x"

    def test_repeating_finds_an_answer_that_changed(self) -> None:
        """An engine whose greedy answers change is caught."""
        memo = MemoBackend(FakeBackend(["one", "two"]))

        async def check() -> object:
            await memo.generate(Request(prompt="p", max_tokens=5))
            return await memo.repeat(5)

        assert run(check()) == (1, 0)
