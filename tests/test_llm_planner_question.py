"""What a planning model is told: the whole problem, in either form, and no more than its context holds."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backends.fake import FakeBackend
from harness.errors import UsageError
from harness.routers.orchestration.asked import LLMPlanner
from harness.routers.orchestration.asked_prompt import compact_prompt, full_prompt
from harness.routers.planning import Fleet, Problem, SequentialPlanner, fleet, job, problem_of, random_problem
from harness.workflow.jobs.graph import TASK_TYPES, TaskNode

TASKS = job("wb2").tasks
PROBLEM = problem_of(job("wb2"), *fleet("agents_heavy"))
LONGEST = "qwen2.5-coder:7b"


def tasks_for(problem: Problem) -> Sequence[TaskNode]:
    """Some task for each row."""
    return [
        TaskNode(id=f"t{i}", type=TASK_TYPES[i % 6], difficulty=1 + i / 2, num_tokens=100 + i)
        for i in range(problem.num_tasks)
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99))
def test_it_holds_the_problem(num_tasks: int, num_models: int, num_layers: int, seed: int) -> None:
    """From the text of either form the same problem is read back, and planned the same."""
    num_layers = min(num_layers, num_tasks)
    problem = random_problem(num_tasks, num_models, num_layers=num_layers, seed=seed)
    problem = replace(problem, resident=frozenset({problem.fleet.fitting[0]}))
    tasks = tasks_for(problem)
    for text, read in ((full_prompt, read_full), (compact_prompt, read_compact)):
        again = read(text(problem, tasks))
        assert (again.fleet, again.layers, again.resident) == (
            problem.fleet,
            problem.layers,
            problem.resident,
        )
        assert again.load_micro == problem.load_micro
        assert (again.micro == problem.micro).all()
        assert SequentialPlanner().plan(again) == SequentialPlanner().plan(problem)


def test_it_holds_the_tasks() -> None:
    """Type, difficulty and tokens stand beside the utilities."""
    assert "- s0: code, difficulty 3, 450 tokens, layer 1. Utility: gemma2:2b 0.24," in full_prompt(
        PROBLEM, TASKS
    )
    assert "s1 2 math 2 120 0.366 0.518 0.576 0.72" in compact_prompt(PROBLEM, TASKS)


def test_small_sizes_have_a_unit_of_their_own() -> None:
    """Pocket models are told in MB, exactly."""
    small = Fleet(
        models=PROBLEM.fleet.models, size_bytes=(558_208, 1_083_072, 2_000_000, 9), budget_bytes=1_500_000
    )
    text = full_prompt(replace(PROBLEM, fleet=small), TASKS)
    assert "- gemma2:2b: 0.558208 MB," in text
    assert "must fit into 1.5 MB together" in text


def test_the_same_problem_is_the_same_request() -> None:
    """Nothing of an earlier decision is in the next."""
    planner, backend = LLMPlanner(seed=7), FakeBackend(["none"])
    for _ in range(2):
        asyncio.run(planner.decide(PROBLEM, TASKS, backend))
    first, _, second, _ = backend.requests
    assert first == second
    assert (first.temperature, first.seed, first.cache_prompt) == (0, 7, False)


def test_the_short_form_is_asked_where_the_long_one_does_not_fit() -> None:
    """A conversation with its repair must fit; a token is at least a byte."""

    def prompt(**options: int) -> str:
        return LLMPlanner(**options).request(PROBLEM, TASKS).messages[0].content  # type: ignore[arg-type]

    assert prompt() == prompt(context_tokens=4096) == full_prompt(PROBLEM, TASKS)
    assert prompt(context_tokens=1024) == prompt(compact=True) == compact_prompt(PROBLEM, TASKS)


def test_the_models_own_count_is_taken() -> None:
    """With a tokenizer of four bytes a token the long form fits 1024."""
    planner = LLMPlanner(context_tokens=1024, count_tokens=lambda text: -(-len(text) // 4))
    assert planner.request(PROBLEM, TASKS).messages[0].content == full_prompt(PROBLEM, TASKS)


def test_a_question_that_fits_no_form_is_not_asked() -> None:
    """The error says how much there is and how much it takes."""
    backend = FakeBackend(["none"])
    with pytest.raises(UsageError, match=r"3 tasks and 4 models takes up to \d+ tokens, .* holds 512; raise"):
        asyncio.run(LLMPlanner(context_tokens=512).decide(PROBLEM, TASKS, backend))
    assert not backend.requests


@pytest.mark.parametrize("indent", [None, 2, 4])
def test_the_longest_right_answer_fits(indent: int | None) -> None:
    """Were every byte a token."""
    longest = json.dumps({task.id: LONGEST for task in TASKS}, indent=indent)
    assert len(longest.encode()) <= LLMPlanner().request(PROBLEM, TASKS).max_tokens


def read_compact(text: str) -> Problem:
    """The problem that the short form tells."""
    head, rest = text.split("\ntasks: ")
    unit, *models = head.removeprefix("models: ").splitlines()
    rows = [line.split() for line in rest.splitlines()[1:-2]]
    budget = re.search(r"models of a layer fit (\S+)\n", text)
    assert budget is not None
    return problem_from(
        [line.split() for line in models],
        [(row[1], row[5:]) for row in rows],
        unit.split(",")[0],
        budget[1],
    )


def read_full(text: str) -> Problem:
    """The problem that the long form tells."""
    models = re.findall(
        r"^- (\S+): (\S+) (\S+), (loaded|not loaded), loading cost (\S+)$", text, re.MULTILINE
    )
    rows = re.findall(r", layer (\d+)\. Utility: (.*)$", text, re.MULTILINE)
    budget = re.search(r"exactly (\S+) \S+ still fits", text)
    assert budget is not None
    return problem_from(
        [[name, size, cost, *["loaded"] * (state == "loaded")] for name, size, _, state, cost in models],
        [(layer, [each.split()[1] for each in utilities.split(", ")]) for layer, utilities in rows],
        models[0][2],
        budget[1],
    )


def problem_from(
    models: Sequence[Sequence[str]], rows: Sequence[tuple[str, Sequence[str]]], unit: str, budget: str
) -> Problem:
    """A problem from what was read."""
    scale = {"GB": 10**9, "MB": 10**6, "bytes": 1}[unit]
    layers = sorted({int(layer) for layer, _ in rows})
    return Problem(
        fleet=Fleet(
            models=tuple(row[0] for row in models),
            size_bytes=tuple(round(float(row[1]) * scale) for row in models),
            budget_bytes=round(float(budget) * scale),
        ),
        utility=np.array([[float(cell) for cell in cells] for _, cells in rows]),
        load_cost=tuple(float(row[2]) for row in models),
        resident=frozenset(m for m, row in enumerate(models) if row[-1] == "loaded"),
        layers=tuple(tuple(i for i, (at, _) in enumerate(rows) if int(at) == layer) for layer in layers),
    )


def test_both_forms_say_when_more_follows() -> None:
    """As the optimiser is told, so is the model."""
    for form in (full_prompt, compact_prompt):
        assert "follow" not in form(PROBLEM, TASKS)
        assert "follow" in form(replace(PROBLEM, has_more=True), TASKS)
