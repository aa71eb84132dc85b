"""The experiment "strategies": what its checks find out, what its values say, and a run as a user has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from fixtures.nodes import specs_of
from fixtures.pool import Pool, Runner
from fixtures.strategies import BatchArm, Graded, Stand, StrategyArm
from fixtures.strategies_checks import check_equal_work, check_outcomes, check_tasks
from fixtures.strategies_tasks import DECIDING, DECIDING_FAMILY, PER_FAMILY, tasks_of
from fixtures.strategies_values import (
    BATCH_METRICS,
    ROUND_METRICS,
    TASK_METRICS,
    k_points,
    round_values,
    task_values,
)
from fixtures.strategies_variants import DECIDED, STRATEGIES, VARIANTS
from harness.errors import UnavailableError
from harness.grading import CodeGrader
from harness.strategies import Call, Candidate, Failure, Outcome
from harness.strategies.estimators import Sample
from harness.strategies.tasks import POCKET_FAMILIES
from harness.workflow.cost import EngineTimePrice
from reports.records import Record

ROOT = Path(__file__).resolve().parents[1]
PRICES = {"nano": EngineTimePrice(usd_per_vcpu_hour=3600.0)}


def candidate(text: str, *, score: float | None = None, temperature: float = 0.8, **more: Any) -> Candidate:
    """An answer of two tokens."""
    return Candidate(
        text=text, answer=text, sampler="nano", temperature=temperature, seed=0, call=0, prompt_tokens=5,
        output_tokens=2, seconds=1.0, finish_reason="stop", mean_logprob=None, min_logprob=None, score=score,
        **more,
    )  # fmt: skip


def call(**changed: Any) -> Call:
    """One batch of two, a second long."""
    told: dict[str, Any] = {
        "sampler": "nano", "num": 2, "temperature": 0.8, "began_s": 0.0, "done_s": 1.0, "prompt_tokens": 5,
        "output_tokens": 4, "engine_s": None, "model": "nano",
    }  # fmt: skip
    return Call(**told | changed)


def outcome(*candidates: Candidate, **changed: Any) -> Outcome:
    """Best of two, drawn in one call."""
    told: dict[str, Any] = {
        "strategy": "best-of-n", "question": "code-000", "candidates": candidates, "chosen": 1,
        "rule": "best score", "calls": (call(),), "failures": (), "began_s": 0.0, "done_s": 1.5,
        "sample_s": 1.0, "verify_s": 0.25,
    }  # fmt: skip
    return Outcome(**told | changed)


GOOD = outcome(candidate("a", score=0.0), candidate("b", score=1.0))


def failing(*outcomes: Outcome, kind: str = "best-of-n") -> list[str]:
    """The names of the checks that do not hold."""
    return [
        check.name for check in check_outcomes(STRATEGIES[kind], outcomes, {"nano": "nano"}) if not check.ok
    ]


def test_an_honest_outcome_passes_every_check() -> None:
    """And each check says what it saw."""
    assert failing(GOOD) == []
    assert all(check.observed for check in check_outcomes(STRATEGIES["best-of-n"], [GOOD], {"nano": None}))


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        (replace(GOOD, chosen=0), "chosen_by_rule"),
        (replace(GOOD, calls=(call(temperature=0.0),)), "temperature_sent"),
        (replace(GOOD, calls=(call(output_tokens=None),)), "counts_from_server"),
        (replace(GOOD, failures=(Failure("nano", "broke"),)), "no_fallback"),
        (replace(GOOD, calls=(call(model="large"),)), "models_as_labelled"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_check_finds_what_it_is_for(changed: Outcome, name: str) -> None:
    """A choice that is not the rule's, a temperature not sent or ignored, an uncounted call, a failure."""
    assert failing(changed) == [name]


def test_a_server_that_names_no_model_is_not_taken_for_the_one_asked_for() -> None:
    """Batches never name theirs; one answer does, or any model may have given it."""
    alone = call(num=1, model=None)
    assert failing(replace(GOOD, calls=(alone,))) == ["models_as_labelled"]
    assert failing(replace(GOOD, calls=(call(model=None),))) == []
    unnamed = check_outcomes(STRATEGIES["best-of-n"], [replace(GOOD, calls=(alone,))], {"nano": None})
    assert all(check.ok for check in unnamed)


def test_a_temperature_without_effect_is_told_by_four_questions() -> None:
    """By fewer it is not: a model that is sure of one answer gives it again, in every round."""
    same = replace(GOOD, candidates=(candidate("a", score=0.0), candidate("a", score=1.0)))
    four = [replace(same, question=f"code-{number:03d}") for number in range(4)]
    assert failing(*four) == ["temperature_effect"]
    assert failing(*four[:3], *four[:3]) == []
    assert failing(*four[:3], GOOD) == []
    checks = check_outcomes(STRATEGIES["best-of-n"], [same, same], {"nano": "nano"})
    assert "0 of 1 questions got different answers, too few to tell" in [check.observed for check in checks]


def test_a_ladder_that_sends_one_temperature_is_found_out() -> None:
    """As the origin's, which sends none."""
    flat = outcome(candidate("a"), candidate("b"), rule="first", chosen=0)
    assert "temperature_sent" in failing(flat, kind="diverse")


def test_ways_of_drawing_are_compared_at_equal_work() -> None:
    """An answer that differs is told of; one that is missing, or much longer, is not equal work."""
    assert check_equal_work([GOOD], [GOOD]).ok
    swapped = check_equal_work([GOOD], [replace(GOOD, candidates=GOOD.candidates[::-1])])
    assert swapped.ok
    assert swapped.observed.startswith("0 of 2 answers are the same")
    longer = replace(GOOD, candidates=(GOOD.candidates[0], candidate("b" * 9)))
    for other in (
        [replace(GOOD, candidates=GOOD.candidates[:1])],
        [longer],
        [replace(GOOD, question="x")],
        [],
    ):
        assert not check_equal_work([GOOD], other).ok
    assert not check_equal_work([], []).ok


def test_values_of_a_task_and_of_a_round() -> None:
    """Solved is the chosen answer's; the gap is what the rule missed; a call costs its seconds."""
    missed = task_values(replace(GOOD, chosen=1), [True, False], PRICES, 2)
    assert (missed["solved"], missed["oracle"], missed["gap"], missed["right_share"]) == (0.0, 1.0, 1.0, 0.5)
    assert (missed["prompt_tokens"], missed["output_tokens"], missed["tokens"]) == (5, 4, 9)
    assert (missed["temperatures"], missed["not_first"], missed["over_cap"]) == (1, 1, 0)
    assert task_values(GOOD, [True, False], PRICES, 1)["over_cap"] == 2
    assert missed["cost_usd"] == pytest.approx(1.0, rel=0.1)
    none = task_values(outcome(chosen=None, failures=(Failure("nano", "x"),)), [], PRICES, 2)
    assert (none["solved"], none["oracle"], none["failed"], none["distinct"]) == (0.0, 0.0, 1.0, None)
    rounds = round_values([GOOD, replace(GOOD, began_s=1.5, done_s=3.0)], PRICES)
    assert (rounds["total_s"], rounds["output_tokens"], rounds["calls"]) == (3.0, 8, 2)
    assert rounds["tokens_per_s"] == pytest.approx(8 / 3)
    assert rounds["other_s"] == pytest.approx(0.25)


def test_curves_over_k_are_by_family_and_over_all() -> None:
    """With the tokens of k answers and one prompt, or none where one was not counted."""
    samples = {
        "code-000": [Sample(True, 1.0, "a"), Sample(False, 0.0, "b")],
        "math-000": [Sample(False, 0.0)] * 2,
    }
    points = k_points(samples, {"code-000": (5.0, 4.0), "math-000": None})
    found = {(point["family"], point["k"]): point for point in points}
    assert set(found) == {(family, k) for family in ("code", "math", "all") for k in (1, 2)}
    assert (found["code", 1]["oracle"], found["code", 2]["best"], found["all", 2]["oracle"]) == (
        0.5,
        1.0,
        0.5,
    )
    assert (found["code", 2]["tokens"], found["all", 2]["tokens"]) == (9.0, None)


def test_a_prompt_that_each_answer_reads_is_counted_for_each() -> None:
    """One request reads it once for all of its answers; several requests read it again."""
    graded = Graded({"batch": GOOD, "each": replace(GOOD, calls=(call(num=1), call(num=1)))}, {}, {})
    assert graded.tokens() == {"batch": (5.0, 4.0), "each": (0.0, 18.0)}


def test_pocket_tasks_come_in_turns_and_elsewhere_the_sources_two() -> None:
    """So that the first few are of every family."""
    found = tasks_of("pocket", 6)
    assert [task.family for task in found.tasks] == [*POCKET_FAMILIES, *POCKET_FAMILIES][:6]
    assert [task.family for task in found.timed] == list(POCKET_FAMILIES)
    assert len(tasks_of("pocket", None).tasks) == PER_FAMILY * len(POCKET_FAMILIES)
    assert check_tasks(found.tasks).ok
    seeds = tasks_of("node", None)
    assert {task.family for task in seeds.tasks} == {"prime_check", "fibonacci"}


def test_a_short_run_decides_by_more_tasks_of_one_family() -> None:
    """As many as its claim asks for, the same ones as a long run's; tables know them by their family."""
    short, long = tasks_of("pocket", None), tasks_of("pocket", 4 * DECIDING)
    found = [task for task in short.graded_by("nano", "best-of-8") if task.family == DECIDING_FAMILY]
    wanted = [task for task in long.tasks if task.family == DECIDING_FAMILY]
    assert [task.question.prompt for task in found] == [task.question.prompt for task in wanted]
    assert {task.question.id.rpartition("-")[0] for task in found} == {"fix", "fix-more"}
    assert len({task.question.id for task in found}) == len(found) == DECIDING
    assert not long.more
    assert not tasks_of("pocket", 8).more
    assert short.graded_by("large", "best-of-8") == short.tasks
    claims = tomllib.loads((ROOT / "bench/claims/strategies.toml").read_text())["claim"]
    for claim in claims:
        if claim.get("min_n") and claim["treatment"].startswith("nano"):
            wide = {claim["treatment"], claim["control"], claim.get("against", claim["control"])}
            assert wide | set(claim.get("also_beats", ())) <= set(DECIDED)
            assert (claim["min_n"], claim["only"]) == (DECIDING, DECIDING_FAMILY)


def test_without_rust_its_tasks_are_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's stay, as a workload that decides no published row: the source's tasks are in Rust."""
    assert tasks_of("pocket", 4).workload == "pocket"
    if which("rustc"):
        assert tasks_of("node", 1).workload == "seed"
    monkeypatch.setenv("PATH", "/nowhere")
    found = tasks_of("node", None)
    assert {task.question.language for task in found.tasks} == {"python"}
    assert "rustup" in str(found.left_out)
    assert found.workload == "seed-python"


def test_what_verifying_costs_is_timed_in_every_language(stand: Stand) -> None:
    """A verdict recalled in a timed round would cost nothing; graders of the timed rounds remember none."""
    found = tasks_of("node", None)
    if found.left_out:
        pytest.skip(found.left_out)
    with CodeGrader() as grader, CodeGrader(remember=False) as scorer:
        timed = Stand(stand.pool, stand.runner, grader, scorer, found).scoring
        for language, wrong, test in (("rust", "fn f() {}", "g() == 1"), ("python", "f = 1", "assert g")):
            assert [timed[language].grade(wrong, [test]).wall_s > 0 for _ in range(2)] == [True, True]


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    """Eight tasks, and engines for whoever asks."""
    pool, runner = Pool(specs_of("pocket", None, []), "pocket"), Runner()
    with CodeGrader() as grader, CodeGrader(remember=False) as scorer:
        found = Stand(pool, runner, grader, scorer, tasks_of("pocket", 8))
        yield found
        found.close()
    runner.close()


def test_rules_differ_and_their_answers_do_not(stand: Stand) -> None:
    """What two strategies draw by the same seeds is drawn once; each then chooses for itself."""
    best, likeliest = stand.graded("nano", "best-of-8"), stand.graded("nano", "likeliest-of-8")
    assert not best.failures
    for task, outcome in best.outcomes.items():
        assert [c.text for c in outcome.candidates] == [c.text for c in likeliest.outcomes[task].candidates]
    for known in stand.task_set.tasks:
        one = best.outcomes[known.question.id]
        by_tests = bool(known.question.visible)
        assert all(score is not None for score in (c.score for c in one.candidates))
        assert all((c.score or 0.0) >= 0 for c in one.candidates) == by_tests
    assert best is stand.graded("nano", "best-of-8")


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "best-of-8"])
def test_every_strategy_passes_its_checks_on_a_real_model(stand: Stand, strategy: str) -> None:
    """Graded on each task, and each value that its record promises."""
    graded = stand.graded("nano", strategy)
    checks = check_outcomes(
        STRATEGIES[strategy], list(graded.outcomes.values()), {"nano": "nano", "large": "large"}
    )
    assert [check.name for check in checks if not check.ok] == []
    assert all(values.keys() == TASK_METRICS.keys() for values in graded.values.values())
    assert max(len(one.candidates) for one in graded.outcomes.values()) <= STRATEGIES[strategy].num


def test_a_recalled_verification_costs_what_it_took(stand: Stand) -> None:
    """Or a strategy would be the cheaper, the more of its answers another had verified before it."""

    def cost() -> float:
        values = stand.graded("code", "best-of-n").values
        return sum(told["cost_usd"] or 0.0 for told in values.values())

    first = cost()
    stand._graded.pop(("code", "best-of-n"))
    assert cost() == pytest.approx(first, rel=0.1)


def test_a_round_times_one_task_of_each_family(stand: Stand) -> None:
    """In its own engine, and in one request per question where answers are drawn together."""
    for arm, metrics in (
        (StrategyArm("nano", "best-of-n", stand), ROUND_METRICS),
        (BatchArm("nano", "batched", stand), BATCH_METRICS),
    ):
        arm.prepare()
        try:
            measured = arm.run()
        finally:
            arm.clean_up()
        assert measured.values.keys() == metrics.keys()
        assert not measured.failures
        assert measured.values["calls"] == len(POCKET_FAMILIES)


def test_filler_is_not_chosen_among(stand: Stand) -> None:
    """A simulated engine says nothing that a strategy could choose by."""
    pool = Pool(specs_of("replay", None, []), "replay")
    other = Stand(pool, stand.runner, CodeGrader(), CodeGrader(), stand.task_set)
    with pytest.raises(UnavailableError, match="simulated ones are filler; use real engines"):
        other.graded("large", "single")


@pytest.mark.nightly
def test_a_user_runs_one_variant_and_finds_its_record(tmp_path: Path) -> None:
    """The record holds tasks, rounds, curves and checks; a model of another profile is skipped by name."""
    assert "code-best-of-8" in VARIANTS
    command = [sys.executable, "-m", "pytest", "bench/test_strategies.py", "--tasks", "8", "--rounds", "1",
               "-k", "code-best-of-8 or small-reread", "--results-dir", str(tmp_path),
               "-p", "no:cacheprovider", "-q"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "small: nano in the pocket profile; here the models are nano, code, math, large" in done.stdout
    [journal] = tmp_path.glob("*/journal.jsonl")
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    [stored] = [e["extra_info"]["assay"] for e in entries if e["outcome"] == "passed"]
    record = Record.from_json(stored)
    assert (record.variant, record.control, len(record.tasks)) == ("code-best-of-8", "code-single", 8)
    assert record.complete
    assert all(check.ok for check in record.checks)
    assert {point["family"] for point in record.sweep} == {*POCKET_FAMILIES, "all"}
    [values] = [r.treatment for r in record.rounds]
    assert values is not None
    assert values.keys() <= record.metrics.keys()
    assert {key for task in record.tasks for key in task.treatment} <= record.metrics.keys()
