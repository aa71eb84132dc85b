"""A model that plans: what it is asked, how its answers are judged, and what stands in when it fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backends import Backend
from harness.backends.fake import FakeBackend
from harness.backends.llamacpp import LlamaCppBackend
from harness.backends.openai import OpenAIBackend
from harness.errors import (
    BackendBroken,
    BackendError,
    BackendRejected,
    BackendTimeout,
    BackendUnreachable,
    ClientExhausted,
    UsageError,
)
from harness.launchers import EmbeddedLauncher
from harness.launchers.canned import CannedServer, breaking_off, hanging, refusing, replaying
from harness.models import gguf_path
from harness.routers.orchestration import Decider, Decision
from harness.routers.orchestration.asked import LLMPlanner
from harness.routers.orchestration.base import FALLBACK, REPAIRED, VALID
from harness.routers.planning import (
    GreedyPlanner,
    Problem,
    fleet,
    job,
    problem_of,
    random_problem,
)
from harness.routers.planning.base import total_bytes
from harness.workflow.jobs.graph import TaskNode

MODELS = ("gemma2:2b", "qwen2.5-coder:7b", "llama3.1:8b", "phi4:14b")
GEMMA, QWEN, LLAMA, PHI = MODELS
ROW, FLEET = fleet("agents_heavy")
TASKS = job("wb2").tasks
PROBLEM = problem_of(job("wb2"), ROW, FLEET)
"""s0, then s1 and s2 at once; 8 GB hold any one of the first three models, and no two of the fleet."""
GREEDY = GreedyPlanner().plan(PROBLEM)


def saying(*models: str) -> str:
    """The answer that gives the job's tasks these models."""
    return json.dumps({task.id: model for task, model in zip(TASKS, models, strict=True)})


GOOD = saying(QWEN, QWEN, QWEN)
OVER = saying(QWEN, GEMMA, QWEN)
"""layer 2 needs 8.5 GB"""


def decide(planner: Decider, backend: Backend | None, problem: Problem = PROBLEM) -> Decision:
    """One decision about a problem."""
    return asyncio.run(planner.decide(problem, TASKS, backend))


def asked(answers: Sequence[str], planner: LLMPlanner | None = None) -> tuple[Decision, FakeBackend]:
    """What comes of these answers, and who gave them."""
    backend = FakeBackend(answers, model="phi")
    return decide(planner or LLMPlanner(), backend), backend


def fits(problem: Problem, assignment: Sequence[int]) -> bool:
    """Whether the models of each layer fit together."""
    layers = [{assignment[i] for i in layer} for layer in problem.layers]
    return all(total_bytes(problem.fleet, used) <= problem.fleet.budget_bytes for used in layers)


FAULTS = {
    "empty": ("", "the answer is empty"),
    "prose before": ("Sure!\n" + GOOD, "not one JSON object and nothing else"),
    "prose after": (GOOD + " I chose qwen.", "nothing else (Extra data"),
    "code fence": (f"```json\n{GOOD}\n```", "nothing else"),
    "a list": ("[1, 2]", "no object but a list"),
    "a string": ('"qwen"', "no object but 'qwen'"),
    "deeply nested": ("[" * 100_000, "nothing else ("),
    "huge number": ("9" * 5000, "nothing else ("),
    "another key": (GOOD[:-1] + ', "s3": "phi4:14b"}', "no such task: 's3'"),
    "unknown model": (saying(QWEN, "gpt-4", QWEN), "s1: 'gpt-4' is no model; use gemma2:2b"),
    "other kinds": ('{"s0": 1, "s1": null, "s2": [[]]}', "s0: 1 is no model; s1: None"),
    "missing tasks": ('{"s0": "gemma2:2b"}', "no model for s1, s2"),
    "a key twice": ('{"s0": "phi4:14b", ' + GOOD[1:], "'s0' stands twice"),
    "over budget": (OVER, "layer 2 (s1, s2) needs gemma2:2b + qwen2.5-coder:7b = 8.5 GB"),
    "too large": (saying(PHI, QWEN, QWEN), "layer 1 (s0) needs phi4:14b = 12.5 GB, over"),
    "half a character": ('{"s0\\ud800": "\\u2028"}', r"no such task: 's0\ud800'"),
}
"""What is answered, and what is said of it."""


class TestAnswers:
    """What is taken, what is corrected, and what is replaced."""

    def test_an_answer_that_holds_is_the_plan(self) -> None:
        """One request, its counts, and the plan as any planner gives it."""
        decision, backend = asked([GOOD])
        assert (decision.status, decision.num_requests, decision.complaint) == (VALID, 1, None)
        assert decision.plan.assignment == (1, 1, 1)
        assert decision.plan.residents == (frozenset({1}),) * 2
        assert decision.plan.objective == pytest.approx(PROBLEM.value_of((1, 1, 1)))
        assert decision.plan.certificate.solver == "llm:phi"
        assert not decision.plan.certificate.violates
        assert decision.output_tokens == len(GOOD.split())
        assert decision.plan_s > 0
        assert len(backend.requests) == 1

    def test_the_second_answer_is_a_repair(self) -> None:
        """The conversation goes on with the answer and what is wrong with it, and both are charged."""
        decision, backend = asked(["no idea", GOOD])
        assert (decision.status, decision.num_requests) == (REPAIRED, 2)
        assert decision.plan.assignment == (1, 1, 1)
        assert "not one JSON object" in str(decision.complaint)
        assert decision.output_tokens == 2 + len(GOOD.split())
        first, second = backend.requests
        assert [m.role for m in second.messages] == ["user", "assistant", "user"]
        assert second.messages[:1] == first.messages
        assert second.messages[1].content == "no idea"
        assert str(decision.complaint) in second.messages[2].content
        assert replace(second, messages=first.messages) == first

    def test_after_the_second_the_greedy_plan_stands_in(self) -> None:
        """There is one repair and no more; the plan says whose it is."""
        decision, backend = asked(["no idea", "still none", GOOD])
        assert (decision.status, decision.num_requests, len(backend.requests)) == (FALLBACK, 2, 2)
        assert decision.plan == GREEDY

    @pytest.mark.parametrize(("answer", "complaint"), FAULTS.values(), ids=FAULTS.keys())
    def test_what_does_not_hold_is_said(self, answer: str, complaint: str) -> None:
        """Each fault is named in one short line, and a right answer to that is a repair."""
        decision, _ = asked([answer, GOOD])
        assert decision.status == REPAIRED
        assert complaint in str(decision.complaint)
        assert len(str(decision.complaint)) <= 200
        assert "\n" not in str(decision.complaint)

    def test_white_space_is_no_fault(self) -> None:
        """An indented object is the same object."""
        decision, _ = asked(["\n " + json.dumps(json.loads(GOOD), indent=4) + "\n"])
        assert decision.status == VALID

    def test_an_answer_that_runs_out_of_tokens_is_called_so(self) -> None:
        """The model is told that it was cut off, not that its JSON is wrong."""
        decision, backend = asked(['{"s0": ' + '"gemma2:2b" ' * 300, GOOD])
        assert "cut off" in str(decision.complaint)
        assert decision.status == REPAIRED
        assert decision.output_tokens == backend.requests[0].max_tokens + len(GOOD.split())

    def test_a_huge_answer_is_not_repeated_to_the_model(self) -> None:
        """A server that ignores max_tokens does not fill the next prompt."""
        keys = json.dumps(
            {f"k{i}": "ü" * 100 for i in range(20_000)}, separators=(",", ":"), ensure_ascii=False
        )
        decision, backend = asked([keys, GOOD])
        assert len(str(decision.complaint)) <= 200
        echo = backend.requests[1].messages[1].content
        assert len(echo.encode()) <= backend.requests[1].max_tokens
        assert decision.status == REPAIRED

    def test_models_may_be_swapped_between_layers(self) -> None:
        """Only a layer's models must fit together; each load on the way is paid."""
        decision, _ = asked([saying(LLAMA, QWEN, QWEN)])
        assert decision.status == VALID
        assert decision.plan.residents == (frozenset({2}), frozenset({1}))
        loads = PROBLEM.load_cost[2] + PROBLEM.load_cost[1]
        gained = PROBLEM.utility[0, 2] + PROBLEM.utility[1, 1] + PROBLEM.utility[2, 1]
        assert decision.plan.objective == pytest.approx(gained - loads, abs=1e-5)

    def test_a_model_that_is_loaded_again_is_paid_again(self) -> None:
        """llama fills the budget, so that qwen goes and comes back."""
        problem = replace(PROBLEM, layers=((0,), (1,), (2,)), edges=())
        plan = decide(LLMPlanner(), FakeBackend([saying(QWEN, LLAMA, QWEN)]), problem).plan
        gained = sum(PROBLEM.utility[i, m] for i, m in enumerate(plan.assignment))
        loads = 2 * PROBLEM.load_cost[1] + PROBLEM.load_cost[2]
        assert plan.objective == pytest.approx(gained - loads, abs=1e-5)

    def test_the_origin_kept_what_does_not_fit(self) -> None:
        """On request such a plan stands, with one request and its certificate saying that it violates."""
        decision, backend = asked([OVER], LLMPlanner(allow_violations=True))
        assert (decision.status, len(backend.requests)) == (VALID, 1)
        assert decision.plan.assignment == (1, 0, 1)
        assert decision.plan.certificate.violates
        decision, _ = asked(["no idea", "none"], LLMPlanner(allow_violations=True))
        assert decision.status == FALLBACK


class TestFailures:
    """A backend that breaks costs the model its say, not the job."""

    @pytest.mark.parametrize("error", [BackendTimeout, BackendRejected, BackendBroken])
    def test_an_error_gives_the_greedy_plan(self, error: type[BackendError]) -> None:
        """It is named, and not answered with a repair; what it cost in tokens is not known."""
        backend = FakeBackend([GOOD], fail={0: error("phi: it broke; mend it")})
        decision = decide(LLMPlanner(), backend)
        assert (decision.status, decision.num_requests, len(backend.requests)) == (FALLBACK, 1, 1)
        assert decision.plan == GREEDY
        assert decision.complaint == "phi: it broke; mend it"
        assert (decision.prompt_tokens, decision.output_tokens) == (None, None)

    def test_an_error_amid_a_repair_names_both(self) -> None:
        """The complaint holds what the answer lacked and what then broke."""
        backend = FakeBackend(["", GOOD], fail={1: BackendUnreachable("phi: gone; start it")})
        decision = decide(LLMPlanner(), backend)
        assert (decision.status, decision.num_requests) == (FALLBACK, 2)
        assert decision.complaint == "the answer is empty; then phi: gone; start it"
        assert decision.output_tokens is None

    def test_a_server_never_reached_stops_the_run(self) -> None:
        """A wrong address is no planner's failure; one that was reached before may be gone."""
        gone = {0: BackendUnreachable("phi: no server; start it")}
        planner = LLMPlanner()
        with pytest.raises(BackendUnreachable, match="no server"):
            decide(planner, FakeBackend([GOOD], fail=gone))
        assert decide(planner, FakeBackend([GOOD])).status == VALID
        assert decide(planner, FakeBackend([GOOD], fail=gone)).status == FALLBACK

    def test_a_refusal_is_an_answer(self) -> None:
        """A server that refused was reached: gone later, it is replaced."""
        planner = LLMPlanner()
        for error in (BackendRejected("phi: too long; shorten"), BackendUnreachable("phi: gone; start it")):
            assert decide(planner, FakeBackend([GOOD], fail={0: error})).status == FALLBACK

    def test_our_own_exhaustion_is_not_the_planners(self) -> None:
        """Without a descriptor left the server was not asked, so nothing is charged to the model."""
        planner, error = LLMPlanner(), ClientExhausted("phi: no descriptor; raise ulimit")
        assert decide(planner, FakeBackend([GOOD])).status == VALID
        with pytest.raises(ClientExhausted):
            decide(planner, FakeBackend([GOOD], fail={0: error}))

    def test_what_was_not_counted_is_none(self) -> None:
        """A server without usage leaves the counts open."""
        decision = decide(LLMPlanner(), FakeBackend([GOOD], counts_tokens=False))
        assert (decision.status, decision.prompt_tokens, decision.output_tokens) == (VALID, None, None)

    def test_cancelling_passes_through(self) -> None:
        """A cancelled decision gives no plan, and its request is cancelled with it."""
        backend = FakeBackend([GOOD], prefill_s=60)

        async def cancel() -> None:
            task = asyncio.ensure_future(LLMPlanner().decide(PROBLEM, TASKS, backend))
            await asyncio.sleep(0)
            task.cancel()
            await task

        with pytest.raises(asyncio.CancelledError):
            asyncio.run(cancel())
        assert backend.num_cancelled == 1

    def test_what_makes_no_sense_is_refused(self) -> None:
        """No backend, tasks of another problem, two of one name, a window that sees nothing."""
        with pytest.raises(UsageError, match="was given no backend"):
            decide(LLMPlanner(), None)
        backend = FakeBackend([GOOD])
        with pytest.raises(UsageError, match="2 tasks for a problem of 3"):
            asyncio.run(LLMPlanner().decide(PROBLEM, TASKS[:2], backend))
        with pytest.raises(UsageError, match="two tasks have one id"):
            asyncio.run(LLMPlanner().decide(PROBLEM, [TASKS[0]] * 3, backend))
        with pytest.raises(UsageError, match="window 0"):
            LLMPlanner(window=0)
        with pytest.raises(UsageError, match="context_tokens 0"):
            LLMPlanner(context_tokens=0)
        assert not backend.requests


class TestServers:
    """The same over HTTP, at a canned server that behaves badly."""

    @staticmethod
    def answering(text: str, finish_reason: str = "stop") -> bytes:
        """A whole answer in the OpenAI API's form."""
        choice = {"index": 0, "finish_reason": finish_reason, "message": {"content": text}}
        usage = {"prompt_tokens": 200, "completion_tokens": 30}
        return json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()

    def decide(self, server: CannedServer, timeout_s: float = 10) -> Decision:
        """One decision asked of the server."""

        async def ask() -> Decision:
            backend = OpenAIBackend(server.url, model="m", name="planner", timeout_s=timeout_s)
            try:
                return await LLMPlanner().decide(PROBLEM, TASKS, backend)
            finally:
                await backend.aclose()

        return asyncio.run(ask())

    def test_what_is_sent_binds_the_server(self) -> None:
        """Temperature 0, a seed, and a schema with one required enum per task and no other key."""
        with CannedServer(replaying(self.answering(GOOD), content_type="application/json")) as server:
            decision = self.decide(server)
        body = server.exchanges[0].body
        assert (decision.status, decision.prompt_tokens, decision.output_tokens) == (VALID, 200, 30)
        assert (body["temperature"], body["seed"]) == (0.0, 0)
        schema = body["response_format"]["json_schema"]["schema"]
        assert schema["required"] == ["s0", "s1", "s2"]
        assert schema["additionalProperties"] is False
        assert all(each == {"type": "string", "enum": list(MODELS)} for each in schema["properties"].values())

    @pytest.mark.parametrize(
        ("behave", "complaint"),
        [
            pytest.param(refusing(400, "context size exceeded"), "context size exceeded", id="refused"),
            pytest.param(refusing(500, "out of memory"), "out of memory", id="broken"),
            pytest.param(breaking_off(2), "planner: ", id="broken off"),
            pytest.param(replaying(b"{", content_type="application/json"), "planner: ", id="no answer"),
            pytest.param(hanging, "within 0.3 s; raise timeout_s", id="silent"),
        ],
    )
    def test_a_bad_server_gives_the_greedy_plan(self, behave: object, complaint: str) -> None:
        """Whatever is wrong with it is named."""
        with CannedServer(behave) as server:  # type: ignore[arg-type]
            decision = self.decide(server, timeout_s=0.3)
        assert (decision.status, decision.num_requests, decision.plan) == (FALLBACK, 1, GREEDY)
        assert complaint in str(decision.complaint)

    def test_no_server_at_all_is_an_error(self) -> None:
        """Nothing listens at the address."""
        with CannedServer() as server:
            pass
        with pytest.raises(BackendUnreachable, match="planner: no connection"):
            self.decide(server)


ASSIGNMENTS = st.dictionaries(
    st.sampled_from(["s0", "s1", "s2", "s3"]), st.sampled_from([*MODELS, "gpt-4"]), max_size=4
)
ANYTHING = st.one_of(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=6,
    ).map(json.dumps),
    ASSIGNMENTS.map(json.dumps),
    st.tuples(*[st.sampled_from(MODELS)] * 3).map(lambda models: saying(*models)),
    st.integers(0, len(GOOD)).map(lambda end: GOOD[:end]),
)


class TestWhatever:
    """No answer breaks a run."""

    @settings(max_examples=300, deadline=None)
    @given(ANYTHING, ANYTHING)
    def test_any_two_answers_give_a_plan_that_fits(self, first: str, second: str) -> None:
        """The status is that of the first answer that holds, read here by the plainest means."""
        decision, _ = asked([first, second])
        assert fits(PROBLEM, decision.plan.assignment)
        held = [assignment_in(first), assignment_in(second)]
        status = VALID if held[0] else REPAIRED if held[1] else FALLBACK
        assert decision.status == status
        assert decision.plan.assignment == (held[0] or held[1] or GREEDY.assignment)

    def test_every_assignment_is_judged_by_its_layers(self) -> None:
        """All 64 of them: valid exactly where each layer fits."""
        for assignment in product(range(4), repeat=3):
            decision, _ = asked([saying(*(MODELS[m] for m in assignment))] * 2)
            assert decision.status == (VALID if fits(PROBLEM, assignment) else FALLBACK)


class TestPocket:
    """The real engine on a laptop, whose grammar leaves a model no way out of the schema."""

    @pytest.mark.parametrize("models", [MODELS, ("large", "nano", "code", "math")], ids=["long", "short"])
    def test_a_model_of_no_understanding_answers_in_form(self, models: tuple[str, ...]) -> None:
        """Blanks and all, every answer ends, and only the budget can fault it; the second time likewise."""
        problem = replace(PROBLEM, fleet=replace(PROBLEM.fleet, models=models))
        problems = [replace(problem, resident=frozenset({m})) for m in (0, 1)] * 2
        decisions = self.decisions(LLMPlanner(context_tokens=1024), [(each, TASKS) for each in problems])
        assert [each.plan for each in decisions[:2]] == [each.plan for each in decisions[2:]]
        for decision in decisions:
            assert fits(problem, decision.plan.assignment)
            assert decision.status == VALID or "over the budget" in str(decision.complaint)
            assert 0 < (decision.prompt_tokens or 0) < 2 * 1024

    def test_a_question_longer_than_the_context_is_refused_there(self) -> None:
        """Not told of the context, the planner asks; the engine's refusal is named, and greedy stands in."""
        problem = random_problem(12, 4, seed=1)
        tasks = [replace(TASKS[0], id=f"t{i}") for i in range(12)]
        [decision] = self.decisions(LLMPlanner(), [(problem, tasks)])
        assert (decision.status, decision.plan) == (FALLBACK, GreedyPlanner().plan(problem))
        assert "context" in str(decision.complaint)

    @staticmethod
    def decisions(
        planner: LLMPlanner, questions: Sequence[tuple[Problem, Sequence[TaskNode]]]
    ) -> list[Decision]:
        """Decisions of one planner at one engine."""

        async def ask(url: str) -> list[Decision]:
            backend = LlamaCppBackend(url, model="nano", name="planner")
            try:
                return [await planner.decide(problem, tasks, backend) for problem, tasks in questions]
            finally:
                await backend.aclose()

        with EmbeddedLauncher(gguf=gguf_path("nano"), model="nano").launch() as server:
            return asyncio.run(ask(server.url))


def assignment_in(text: str) -> tuple[int, ...] | None:
    """The assignment that a text gives, where it is whole, known and fits."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or set(value) != {task.id for task in TASKS}:
        return None
    if not all(model in MODELS for model in value.values()):
        return None
    assignment = tuple(MODELS.index(value[task.id]) for task in TASKS)
    return assignment if fits(PROBLEM, assignment) else None
