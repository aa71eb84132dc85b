"""A record of random weights has times and memory and no quality; a claim about quality is out of scope."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fixtures.metrics import JOB_METRICS, LOAD_METRICS, SUBTASK_METRICS, TASK_METRICS, WHOLE_JOB_METRICS
from fixtures.random_weights import is_of_answers, labelled, without_quality
from reports.claims import Claim
from reports.records import Metric, Record, Round, TaskPair
from reports.verdicts import Stored, judge

RANDOM = "transformers random:mistralai/Mistral-7B-Instruct-v0.3"


def record(label: str) -> Record:
    """Two arms, of which the treatment is twice as fast and solves as much."""
    return Record(
        experiment="cascade",
        variant="cascade",
        control="baseline",
        backend="transformers",
        profile="node",
        models={"large": label},
        metrics={
            "total_s": Metric(unit="s", better="lower", what="wall-clock time"),
            "solved": Metric(unit="share", better="higher", what="passes its tests"),
        },
        rounds=[Round(order="CT", treatment={"total_s": 1.0 + i / 99}, control={"total_s": 2.0 + i / 99})
                for i in range(6)],
        tasks=[TaskPair(id=f"t{i}", treatment={"solved": 1.0, "cost_usd": 0.1}, control={"solved": 1.0})
               for i in range(40)],
        sweep=[{"name": "job", "job": "wb1", "score": 0.5, "job_s": 2.0}],
        complete=True,
    )  # fmt: skip


def claim(metric: str, **changes: object) -> Claim:
    fields = {
        "id": f"of-{metric}", "version": 1, "source": "a test", "says": "a test", "form": "at_least",
        "metric": metric, "experiment": "cascade", "treatment": "cascade", "control": "baseline",
    } | changes  # fmt: skip
    return Claim(**fields)  # type: ignore[arg-type]


SPEEDUP = claim("total_s", quantity="ratio", published=1.5)
QUALITY = claim(
    "solved", form="no_worse_than", over="tasks", quantity="difference", margin=0.1, published=0.0
)


def stored(found: Record) -> list[Stored]:
    again = Record.from_json(json.loads(json.dumps(found.to_json())))
    return [Stored("test_cascade[cascade]", "passed", "", {"variant": "cascade"}, again)]


def test_what_answers_are_worth_is_taken_out_and_named() -> None:
    """Of rounds, tasks, points and definitions; nothing else is touched."""
    found = without_quality(record(RANDOM))
    assert (found.settings["weights"], found.settings["without"]) == ("random", ["score", "solved"])
    assert list(found.metrics) == ["total_s"]
    assert found.tasks[0] == TaskPair(id="t0", treatment={"cost_usd": 0.1}, control={})
    assert found.sweep == [{"name": "job", "job": "wb1", "job_s": 2.0}]
    assert found.rounds == record(RANDOM).rounds


MINIS = "llama-mini (random weights), mistral-mini (random weights) @float32"


@pytest.mark.parametrize("label", ["transformers nano", "llama-34m@float32 (random weights)", MINIS])
def test_other_records_are_left_as_they_are(label: str) -> None:
    """The pocket profile's own random model among them: none of its claims is about answers."""
    assert without_quality(record(label)) == record(label)


@pytest.mark.parametrize("label", ["vllm mistral-mini (random weights)", f"{MINIS}, random:tiny-llama"])
def test_a_served_model_of_a_minis_name_is_none_of_ours(label: str) -> None:
    """Somebody's server may call anything so; nor does one of ours excuse another beside it."""
    assert without_quality(record(label)).settings["weights"] == "random"


def test_a_claim_about_quality_needs_trained_weights_and_one_about_time_does_not() -> None:
    """The same record, judged twice; trained weights decide both."""
    random, trained = (
        stored(without_quality(record(label))) for label in (RANDOM, "transformers Mistral-7B")
    )
    quality = judge(QUALITY, random)
    assert (quality.verdict, quality.reason) == ("out of scope", "needs weights:trained")
    assert judge(QUALITY, trained).verdict == "confirmed"
    assert judge(SPEEDUP, random).verdict == judge(SPEEDUP, trained).verdict == "confirmed"


def test_a_rival_with_random_weights_decides_nothing_about_quality() -> None:
    """It would be beaten by anything; about time it is a rival as any."""
    mine, rival = record("transformers Mistral-7B"), replace(record(RANDOM), variant="all-small")
    both = [*stored(mine), stored(without_quality(rival))[0]._replace(params={"variant": "all-small"})]
    quality = judge(replace(QUALITY, also_beats=("all-small",)), both)
    assert (quality.verdict, quality.reason) == ("out of scope", "needs weights:trained")
    assert judge(replace(SPEEDUP, also_beats=("all-small",)), both).verdict != "out of scope"


def test_a_claim_may_ask_for_trained_weights_itself() -> None:
    """As any need: what a record says of its weights is an offer."""
    asking = claim("total_s", quantity="ratio", published=1.5, requires=("weights:trained",))
    assert judge(asking, stored(without_quality(record(RANDOM)))).verdict == "out of scope"


def test_metrics_of_answers_are_told_by_name() -> None:
    """And times, tokens, bytes and memory are none of them."""
    named = {*TASK_METRICS, *JOB_METRICS, *SUBTASK_METRICS, *WHOLE_JOB_METRICS, *LOAD_METRICS}
    hidden = {name for name in named if is_of_answers(name)}
    assert {"solved", "score", "right", "math_score", "won", "lp_lead", "score_per_token_cost"} <= hidden
    assert not hidden & {"job_s", "loads", "cost_usd", "prompt_tokens", "violates", "step_peak_gb", "p95_s"}
    assert is_of_answers("summary_ok")
    assert not is_of_answers("summary_s")


def test_a_label_says_that_weights_are_random() -> None:
    """Once, whatever the dtype."""
    assert labelled("llama-34m@float32") == "llama-34m@float32 (random weights)"
    assert labelled("random:tiny-llama@float16") == "random:tiny-llama@float16 (random weights)"
    assert labelled("mistralai/Mistral-7B-v0.3") == "mistralai/Mistral-7B-v0.3"
