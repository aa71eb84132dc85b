"""The values of routed rounds, subtasks and jobs, each by a run written by hand."""

from __future__ import annotations

import pytest

from fixtures.job_values import agreement, job_values, lead_points, round_values, task_values
from fixtures.metrics import JOB_METRICS, SUBTASK_METRICS, WHOLE_JOB_METRICS
from tests.orchestrated import prior
from tests.routed_runs import (
    CHAIN,
    FALLBACK,
    FORK,
    GB,
    chain_run,
    decision,
    job_run,
    step_run,
    task_run,
)


def test_a_rounds_values_are_means_per_job() -> None:
    """Seconds and loads by job, shares of all seconds, and each shape's own answers."""
    quick = chain_run(parts=(0.0, 1.0, 2.0, 1.0))
    slow = chain_run(parts=(2.0, 3.0, 10.0, 1.0))
    values = round_values([quick, slow])
    assert values["job_s"] == 10.0
    assert (values["plan_s"], values["load_s"], values["inference_s"]) == (1.0, 2.0, 6.0)
    assert (values["plan_share"], values["inference_share"]) == (0.1, 0.6)
    assert values["answers_s"] == values["test_answers_s"] == 8.0
    assert (values["prompt_tokens"], values["output_tokens"]) == (24.0, 6.0)
    assert values["critical_path_s"] == 3.0


def test_a_round_in_which_a_job_failed_has_no_values() -> None:
    """Not the means of those that ended."""
    assert round_values([chain_run(), chain_run(error="s2 on big: it broke")]) == {}


def test_a_count_that_one_answer_lacks_is_absent_from_the_round() -> None:
    """It is None and not a smaller sum."""
    steps = [step_run(0, [task_run("s0", tokens=(8, None))])]
    values = round_values([job_run(CHAIN, steps)])
    assert values["output_tokens"] is None
    assert values["prompt_tokens"] == 8.0
    assert values["critical_path_s"] is None


def test_loading_the_asked_model_is_no_part_of_the_answers() -> None:
    """Answers take their loads and their tokens; the planning model's load is its own."""
    run = chain_run()
    run.steps[0].planner_change = run.steps[0].change._replace(load_s={"big": 1.5})  # type: ignore[union-attr]
    assert round_values([run])["answers_s"] == 2.0 + 6.0 - 1.5


def test_a_subtasks_values_are_its_own() -> None:
    """Score, right, memory and cost; math by itself; a refused step marks its tasks alone."""
    steps = [
        step_run(0, [task_run("s0", "big", score=0.5)], over_bytes=GB),
        step_run(1, [task_run("s1", token_cost=None)]),
        step_run(2, [task_run("s2", score=None)]),
    ]
    values = task_values(job_run(CHAIN, steps), None)
    assert values["s0"] == {
        "score": 0.5, "right": 0.0, "model_gb": 6.0, "token_cost": 0.5, "violates": 1.0
    }  # fmt: skip
    assert values["s1"]["math_score"] == 1.0
    assert values["s1"]["token_cost"] is None
    assert values["s1"]["violates"] == 0.0
    assert values["s2"]["score"] is values["s2"]["right"] is None
    assert not {"same_model", "diverged", "better_where_differs"} & values["s0"].keys()


@pytest.mark.parametrize(
    ("mine", "theirs", "word"),
    [(1.0, 0.5, "better"), (0.0, 0.5, "worse"), (0.5, 0.5, "tied")],
)
def test_arms_are_compared_only_where_their_models_differ(mine: float, theirs: float, word: str) -> None:
    """One of better, worse and tied where they do; none of them, nor a 0, where the same model answered."""
    run = chain_run(("big", "small", "small"), (mine, 1.0, None))
    other = chain_run(("small", "small", "big"), (theirs, 0.0, 1.0))
    values = task_values(run, other)
    words = {each: values["s0"][f"{each}_where_differs"] for each in ("better", "worse", "tied")}
    assert words == {each: float(each == word) for each in words}
    assert (values["s0"]["same_model"], values["s0"]["diverged"]) == (0.0, 1.0)
    assert (values["s1"]["same_model"], values["s1"]["diverged"]) == (1.0, 0.0)
    assert values["s2"]["diverged"] == 1.0
    for name in ("s1", "s2"):  # the same model; not graded
        assert not [key for key in values[name] if key.endswith("_where_differs")]


@pytest.mark.parametrize(
    ("mine", "theirs", "word"), [(1.0, 0.5, "won"), (0.5, 1.0, "lost"), (0.5, 0.5, "tied")]
)
def test_a_job_is_won_lost_or_tied(mine: float, theirs: float, word: str) -> None:
    """By the mean over its tasks."""
    values = job_values(chain_run(scores=(mine, 0, 0)), chain_run(scores=(0, theirs, 0)))
    assert {each for each in ("won", "lost", "tied") if values[each]} == {word}


def test_a_job_that_was_not_graded_is_neither_won_nor_lost() -> None:
    """Nor has it a score, or one per cost."""
    whole, partly = chain_run(), chain_run(scores=(1.0, None, 1.0))
    for mine, theirs in ((whole, partly), (partly, whole), (whole, None)):
        assert not {"won", "lost", "tied"} & job_values(mine, theirs).keys()
    values = job_values(partly, None)
    assert values["score"] is values["score_per_token_cost"] is values["score_per_answer_cost"] is None


def test_scores_are_told_per_thousand_tokens_of_cost() -> None:
    """As published without the planning model's tokens, and with them; absent where a cost is."""
    values = job_values(chain_run(scores=(1.0, 0.5, 0.0), planner_token_cost=1.0), None)
    assert values["token_cost"] == 2.5
    assert values["score_per_answer_cost"] == pytest.approx(0.5 / 1500)
    assert values["score_per_token_cost"] == pytest.approx(0.5 / 2500)
    unknown = job_values(chain_run(planner_token_cost=None), None)
    assert unknown["token_cost"] is unknown["score_per_token_cost"] is None
    assert unknown["score_per_answer_cost"] == pytest.approx(1 / 1500)
    free = chain_run()
    for task in free.tasks.values():
        task.token_cost = 0.0
    assert job_values(free, None)["score_per_answer_cost"] is None


def test_a_jobs_memory_and_refusals_are_those_of_its_steps() -> None:
    """The peak of what answers together, all that answered, and the worst refused plan."""
    steps = [
        step_run(0, [task_run("s0")], loaded=["small"]),
        step_run(1, [task_run("s1", "big"), task_run("s2")], over_bytes=GB, loaded=["big"]),
    ]
    values = job_values(job_run(FORK, steps), None)
    assert values["answers_peak_gb"] == values["step_peak_gb"] == values["sum_distinct_gb"] == 8.0
    assert (values["violations"], values["num_steps"], values["over_gb"]) == (1.0, 2.0, 1.0)
    assert (values["loads"], values["distinct_models"]) == (2.0, 2.0)


def test_where_nothing_was_answered_there_is_no_peak() -> None:
    """It is None, not 0 GB."""
    values = job_values(job_run(CHAIN, [step_run(0, [], ["s0"])], error="it broke"), None)
    assert values["answers_peak_gb"] is values["step_peak_gb"] is None


def test_a_job_is_layered_when_each_layer_waits_for_the_one_before() -> None:
    """Not when a task begins while one of an earlier layer is being answered."""
    first = step_run(0, [task_run("s0", at_s=(0, 1))])
    for began_s, expected in ((1.0, 1.0), (0.9, 0.0)):
        second = step_run(1, [task_run("s1", at_s=(began_s, 3)), task_run("s2", at_s=(1, 2))])
        assert job_values(job_run(FORK, [first, second]), None)["layered"] == expected


@pytest.mark.parametrize(
    ("window", "horizons", "expected"),
    [
        (1, [["s0"], ["s1"], ["s2"]], 1.0),
        (2, [["s0", "s1"], ["s1", "s2"], ["s2"]], 1.0),
        (None, [["s0", "s1", "s2"], ["s1", "s2"], ["s2"]], 1.0),
        (2, [["s0", "s1"], ["s1"], ["s2"]], 0.0),  # one too few
        (1, [["s0"], ["s0", "s1"], ["s2"]], 0.0),  # what is answered stays in
    ],
)
def test_a_horizon_is_the_window_over_what_is_left(
    window: int | None, horizons: list[list[str]], expected: float
) -> None:
    """As many layers as the window, never an answered task."""
    steps = [step_run(i, [task_run(f"s{i}")], names, window=window) for i, names in enumerate(horizons)]
    assert job_values(job_run(CHAIN, steps), None)["horizon_as_window"] == expected


def test_a_step_that_runs_more_than_the_ready_layer_is_not_as_its_window() -> None:
    """A flat plan, for one."""
    steps = [step_run(0, [task_run("s0"), task_run("s1"), task_run("s2")], window=None)]
    assert job_values(job_run(CHAIN, steps), None)["horizon_as_window"] == 0.0


def test_only_of_an_asked_model_is_told_whether_it_planned_itself() -> None:
    """A repaired answer is its own, a fallback is not; an answer that overran counts though mended."""
    steps = [
        step_run(0, [task_run("s0")], made=decision("valid")),
        step_run(1, [task_run("s1")], made=decision("repaired", overran=True)),
        step_run(2, [task_run("s2")], made=decision(FALLBACK)),
    ]
    values = job_values(job_run(CHAIN, steps, planner="big"), None)
    assert values["planned_itself"] == pytest.approx(2 / 3)
    assert values["answer_violates"] == 1.0
    assert not {"planned_itself", "answer_violates"} & job_values(chain_run(), None).keys()


def test_agreement_is_with_the_best_prior_that_fits() -> None:
    """By type; models that tie are both the best, one that cannot be loaded is none."""
    priors = [prior("small", extraction=0.9, math=0.5), prior("big", math=0.9)]
    run = chain_run(("small", "small", "big"))
    assert agreement(run, priors) == pytest.approx(2 / 3)  # the other two: best, and a tie
    for step in run.steps:
        step.budget_bytes = 5 * GB
    assert agreement(run, priors) == pytest.approx(2 / 3)  # math is right now, and big does not fit


def test_leads_are_told_of_jobs_that_both_arms_graded() -> None:
    """With the other arm's agreement, not the router's own."""
    priors = [prior("small", other=0.9), prior("big", other=0.5)]
    leading, asked = chain_run(("big", "big", "big"), (1.0, 1.0, 0.4)), chain_run(scores=(1.0, 0.5, 0.0))
    (point,) = lead_points([leading], {"chain": asked}, priors)
    assert point == {
        "name": "lead", "job": "chain", "lp_lead": pytest.approx(0.3), "planner_agreement": 1.0
    }  # fmt: skip
    assert lead_points([leading], {"chain": chain_run(scores=(1.0, None, 0.0))}, priors) == []


def test_every_value_has_its_metric() -> None:
    """What a record does not declare, no table shows."""
    run = job_run(FORK, [step_run(0, [task_run("s0")]), step_run(1, [task_run("s1", "big")])], planner="big")
    other = job_run(FORK, [step_run(0, [task_run("s0", "big")]), step_run(1, [task_run("s1")])])
    shape_s = {"test_answers_s"}  # jobs of the user's own shapes
    assert round_values([chain_run()]).keys() <= JOB_METRICS.keys() | shape_s
    for values in task_values(run, other).values():
        assert values.keys() <= SUBTASK_METRICS.keys()
    declared = WHOLE_JOB_METRICS.keys() | SUBTASK_METRICS.keys() | JOB_METRICS.keys()
    assert job_values(run, other).keys() <= declared
