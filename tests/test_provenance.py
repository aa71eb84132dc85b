"""Each check sees the fault that it is named after, and says what it saw."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from fixtures.provenance import check_runs, routed_as_named
from harness.backends.fake import FakeBackend
from harness.errors import BackendBroken
from harness.routers import FixedRouter
from harness.workflow import Attempt, Endpoint, EngineTimePrice, StageSpec, Task, TaskRun, Workload, run_tasks

STAGES = ("analysis", "summary")
PROMPTS = ("{issue}", "sum: {analysis}")


def workload() -> Workload:
    stages = tuple(
        StageSpec(name=name, needs=STAGES[:n], max_tokens=5, grade="text", prompt=PROMPTS[n])
        for n, name in enumerate(STAGES)
    )
    task = Task(
        id="t",
        issue="i",
        buggy="b",
        reference="r",
        entry_point="f",
        visible_tests=("pass",),
        hidden_tests=("pass",),
    )
    return Workload(name="w", source="s", stages=stages, tasks=(task,), sha256="0")


def runs(backend: FakeBackend | None = None, role: str = "large") -> list[TaskRun]:
    backend = backend or FakeBackend(["the defect"], model="m", prefill_s=0.1, token_s=0.05)
    ends = {role: Endpoint(role, [backend], slots=1, price=EngineTimePrice(usd_per_vcpu_hour=1), label="m")}
    router = FixedRouter(name="r", roles=dict.fromkeys(STAGES, role))
    return asyncio.run(run_tasks(workload(), workload().tasks, router, ends))


def check(name: str, done: list[TaskRun], **models: str | None):
    found = {c.name: c for c in check_runs(workload(), done, models or {"large": "m"})}
    return found[name]


def test_a_sound_run_passes_every_check() -> None:
    """Nothing is reported where nothing is wrong."""
    assert [c.name for c in check_runs(workload(), runs(), {"large": "m"}) if not c.ok] == []


def test_another_model_than_the_labelled_one_is_seen() -> None:
    """The server's own word counts, not the label."""
    found = check("models_as_labelled", runs(), large="mistral")
    assert not found.ok
    assert found.observed == "large: asked mistral, got m"


def test_any_model_will_do_where_none_was_named() -> None:
    """A URL without a model takes what the server serves, and the check says what that was."""
    found = check("models_as_labelled", runs(), large=None)
    assert found.ok
    assert found.observed == "large is m"


def test_a_server_without_counts_is_seen() -> None:
    """Costs and token claims need the server's counts."""
    found = check("counts_from_server", runs(FakeBackend(["x"], model="m", counts_tokens=False)))
    assert not found.ok
    assert found.observed == "2 of 2 answers without a token count"


def test_a_prompt_that_lost_its_input_is_seen() -> None:
    """A summary that never saw the analysis is no summary of it."""
    done = runs()
    stage = done[0].stages["summary"]
    first = done[0].stages["analysis"].attempts[0].request
    bare = replace(stage.attempts[0], request=first)
    broken = replace(done[0], stages={**done[0].stages, "summary": replace(stage, attempts=(bare,))})
    assert not check("edges_carry_data", [broken]).ok


def test_an_answer_beyond_its_cap_is_seen() -> None:
    """A server that ignores max_tokens breaks the comparison of times."""
    done = runs()
    stage = done[0].stages["analysis"]
    longer = replace(stage.attempts[0], completion=replace(stage.attempts[0].completion, output_tokens=6))
    broken = replace(done[0], stages={**done[0].stages, "analysis": replace(stage, attempts=(longer,))})
    assert check("caps_sent", [broken]).observed == "1 of 2 answers beyond their cap"


def test_seconds_in_no_part_are_seen() -> None:
    """A task whose parts explain only half of its time is not accounted for."""
    done = runs()
    longer = replace(done[0], done_s=done[0].done_s + done[0].wall_s)
    assert not check("attribution_sums", [longer]).ok


def test_a_prompt_taken_from_the_servers_cache_is_seen() -> None:
    """A repeated prompt that the server remembers costs no prefill, and no arm may profit from it."""
    done = runs()
    stages = {
        name: replace(stage, attempts=tuple(_cached(attempt) for attempt in stage.attempts))
        for name, stage in done[0].stages.items()
    }
    assert not check("prompts_not_cached", [replace(done[0], stages=stages)]).ok


def test_a_server_that_says_nothing_of_its_cache_is_seen() -> None:
    """Unknown is not "none": the check fails and says how many answers were silent."""
    found = check("prompts_not_cached", runs(FakeBackend(["x"], model="m", counts_tokens=False)))
    assert not found.ok
    assert found.observed == "2 of 2 answers say nothing of the prefix cache"


@pytest.mark.parametrize(("share", "ok"), [(0.04, True), (-0.02, True), (0.3, False), (None, False)])
def test_a_silent_server_is_held_to_what_was_measured_by_time(share: float | None, ok: bool) -> None:
    """Where tokens are not counted, the prefill that repeated prompts saved decides."""
    done = runs(FakeBackend(["x"], model="m", counts_tokens=False))
    checks = check_runs(workload(), done, {"large": "m"}, reuse={"large": share})
    found = next(c for c in checks if c.name == "prompts_not_cached")
    assert found.ok is ok
    assert share is None or f"large saved {share:.0%} of prefill" in found.observed


def test_log_probabilities_that_were_asked_for_and_not_given_are_seen() -> None:
    """A router that defers by confidence never defers to silence, and must not pass for one that was sure."""
    done = runs()
    asked = replace(done[0].attempts[0].request, logprobs=True)
    stages = {
        name: replace(stage, attempts=tuple(replace(a, request=asked) for a in stage.attempts))
        for name, stage in done[0].stages.items()
    }
    found = check("logprobs_answered", [replace(done[0], stages=stages)])
    assert not found.ok
    assert found.observed == "2 of 2 answers lack the log-probabilities that were asked for"
    assert check("logprobs_answered", done).ok


def test_edges_without_a_single_output_are_seen() -> None:
    """Empty outputs are in every prompt, and prove nothing."""
    assert not check("edges_carry_data", runs(FakeBackend([""], model="m"))).ok


def test_a_failed_task_is_seen() -> None:
    """A failure is a fallback from what was to be measured."""
    done = runs(FakeBackend(["x"], model="m", fail={0: BackendBroken("gone")}))
    assert check("no_fallback", done).observed == "1 of 1 tasks failed"


def test_a_stage_on_another_role_than_the_map_names_is_seen() -> None:
    """The label SLS is checked against who really answered."""
    assert not routed_as_named(runs(), {"analysis": "small", "summary": "large"}, {}).ok
    assert routed_as_named(runs(), dict.fromkeys(STAGES, "large"), {}).ok


@pytest.mark.parametrize(("calls", "ok"), [(2.0, True), (1.0, False)])
def test_a_router_without_a_map_is_held_to_its_number_of_calls(calls: float, ok: bool) -> None:
    """The random control must make as many large calls as it claims."""
    assert routed_as_named(runs(), None, {"large": calls}).ok is ok


def _cached(attempt: Attempt) -> Attempt:
    tokens = attempt.completion.prompt_tokens
    return replace(attempt, completion=replace(attempt.completion, cached_tokens=tokens))
