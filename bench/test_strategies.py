"""Test-time strategies: what more than one answer to a question buys, and what it costs.

Physics. Eight answers cost eight times the output tokens, whatever the rule that chooses among them; drawn in
one batch they read the prompt once and share every read of the weights, so they cost less than eight times
the time. What they can gain is bounded by the oracle (was any of them right?) and, below that, by what the
verifier sees. A model that is always right or always wrong gains nothing: samples must differ and be right
sometimes. Re-reading adds prompt tokens and no call.

Limits. The pocket models are capability miniatures of 0.3 to 3.5 million parameters: they show where on the
scale from unskilled to saturated a strategy pays, and the machinery that shows it. They are all below 4B, so
that nothing here says at which size of a real model strategies begin to pay: `--profile node` does, with a
model on either side. No pocket model was trained on a question given twice: what `reread` loses here is an
artefact of that, and no result about re-reading.

Usage:

    pytest bench/ -m strategies                            every strategy on four pocket models
    pytest bench/ -m strategies --tasks 800                the nightly table: 200 tasks of each family
    pytest bench/ -m strategies --profile node --backend small=ollama:///tinyllama --backend large=http://…
                                                           the source's two tasks, in Rust and Python

A variant is a strategy on a model, `nano-best-of-8`, beside the same model's `single`: one greedy answer.
Each is graded on every task and timed on one of each family. By default that is 20 tasks of a family, too few
to decide most rows. So nano's variants of eight answers are graded on 200 of `fix`, which decides what a
verifier gains; the further 180 are called `fix-more-…`, and are in no table. `MODEL-batched-8` times eight
answers in one request beside eight requests. fixtures/strategies_variants.py says what each strategy is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from fixtures.backends import plain_errors
from fixtures.options import Settings
from fixtures.pairing import Pairing
from fixtures.planned import Planned, pool_of, variant_of
from fixtures.pool import Pool, Runner
from fixtures.provenance import merged
from fixtures.strategies import FILLER, BatchArm, Stand, StrategyArm
from fixtures.strategies_checks import check_equal_work, check_outcomes, check_tasks
from fixtures.strategies_tasks import tasks_of
from fixtures.strategies_values import BATCH_METRICS, ROUND_METRICS, TASK_METRICS, k_points
from fixtures.strategies_variants import (
    BATCHED,
    MODELS,
    NODE,
    NUM,
    POCKET,
    SEED,
    SINGLE,
    STRATEGIES,
    TEMPERATURE,
    VARIANTS,
)
from harness.errors import UnavailableError
from harness.grading.code import CodeGrader
from reports.records import ARMS, Check, Failure, Record, TaskPair

pytestmark = pytest.mark.strategies

RULES_ALONE = ("likeliest-of-8", "majority-of-8")
"""The answers of `best-of-8` by another rule: what they take is known from its rounds, so two are enough."""
FEW = 2
TIMED_BY_CLAIMS = "large"
"""The model whose strategies' times a claim compares; the others' are told with their interval, from half as
many rounds."""
MORE_ROUNDS = {"nano": 3}
"""Times the profile's rounds of `MODEL-batched-8`: one of nano's takes 0.2 s, in which whatever else the
machine does weighs the more."""
POOLED = ("best-of-8", "likeliest-of-8")
"""Strategies whose eight samples all have a score: their records hold the curves over k."""


def planned(item: pytest.Function) -> Planned:
    """What a variant would run, and on whom."""
    role, _, strategy = variant_of(item).partition("-")
    option, pool = item.config.option, pool_of(item.config)
    roles = (role, *(STRATEGIES[strategy].asks if strategy in STRATEGIES else ()))
    settings = _settings(role, strategy, item.config)
    unknown = (_unknown(one, option.profile) for one in roles)
    filler = (FILLER.format(one) for one in roles if one in pool.rows and pool.spec(one).is_simulated)
    return Planned(settings, roles, next(filter(None, (*unknown, *filler)), ""))


@pytest.mark.parametrize("variant", VARIANTS)
def test_strategies(variant: str, stand: Stand, paired: Pairing, request: pytest.FixtureRequest) -> None:
    """A strategy answers every task, is graded by what it was not shown, and is timed beside one answer."""
    role, _, strategy = variant.partition("-")
    with plain_errors():
        timed = _settings(role, strategy, request.config)
        record = _measure(role, strategy, stand, paired, timed, request.config.option.profile)
    _verify(record)


@pytest.mark.parametrize("variant", [f"{model}-{BATCHED}" for model in MODELS])
def test_batched(variant: str, stand: Stand, paired: Pairing, request: pytest.FixtureRequest) -> None:
    """Eight answers in one request are timed beside eight requests, by the same seeds."""
    role, profile = variant.partition("-")[0], request.config.option.profile
    with plain_errors():
        _check_role(role, profile, stand)
        batched, alone = BatchArm(role, "batched", stand), BatchArm(role, "sequential", stand)
        record = _record(role, BATCHED, f"{role}-one-by-one-8", stand, profile)
        record.metrics = dict(BATCH_METRICS)
        record.settings |= {"says": "8 answers in one request", "temperature": TEMPERATURE}
        settings = _settings(role, BATCHED, request.config)
        paired.run(record, batched.arm(), alone.arm(), settings=settings)
        record.checks = [check_equal_work(alone.outcomes, batched.outcomes), _in_one_call(batched)]
        paired.store(record)
    _verify(record)


@pytest.fixture(scope="session")
def stand(
    pool: Pool, runner: Runner, code_grader: CodeGrader, scorer: CodeGrader, request: pytest.FixtureRequest
) -> Iterator[Stand]:
    """The tasks and engines of the session."""
    option = request.config.option
    found = Stand(pool, runner, code_grader, scorer, tasks_of(option.profile, option.tasks))
    yield found
    found.close()


def _measure(
    role: str, strategy: str, stand: Stand, paired: Pairing, timed: Settings, profile: str
) -> Record:
    """Grade and time a variant beside its control, and return its record, checks and all."""
    for one in (role, *STRATEGIES[strategy].asks):
        _check_role(one, profile, stand)
    control = None if strategy == SINGLE else SINGLE
    record = _record(role, strategy, control and f"{role}-{control}", stand, profile)
    sides = [strategy, *([control] if control else [])]
    graded = [stand.graded(role, side, _progress(paired, f"{role}-{side}", stand)) for side in sides]
    theirs = graded[1].values if control else {}
    record.tasks = [
        TaskPair(id=task, treatment=values, control=theirs.get(task))
        for task, values in graded[0].values.items()
    ]
    if strategy in POOLED:
        record.sweep = k_points(graded[0].samples(), graded[0].tokens())
    arms = [StrategyArm(role, side, stand) for side in sides]
    models = {one: stand.pool.model(one) for one in record.models}
    paired.run(record, *(arm.arm() for arm in arms), settings=timed)
    for side, found, arm, label in zip(sides, graded, arms, ARMS, strict=False):
        outcomes = [*found.outcomes.values(), *arm.outcomes]
        record.checks += check_outcomes(STRATEGIES[side], outcomes, models)
        record.failures += [
            Failure(arm=label, round=None, where=f"graded {task}", error=error)
            for task, error in found.failures
        ]
    record.checks = [*merged(record.checks), check_tasks(stand.task_set.graded_by(role, strategy))]
    paired.store(record)
    return record


def _record(role: str, strategy: str, control: str | None, stand: Stand, profile: str) -> Record:
    kind = STRATEGIES.get(strategy)
    roles = (role, *(kind.asks if kind else ()))
    graded = stand.task_set.graded_by(role, strategy)
    left_out = {"left_out": stand.task_set.left_out} if stand.task_set.left_out else {}
    return Record(
        experiment="strategies",
        variant=f"{role}-{strategy}",
        control=control,
        backend="+".join(sorted({stand.pool.engine(one) for one in roles})),
        profile=profile,
        evidence=stand.pool.evidence(roles),
        settings={
            "workload": stand.task_set.workload,
            "tasks": len(stand.task_set.timed),
            "graded": len(stand.task_set.tasks),
            "graded_beside": len(graded) - len(stand.task_set.tasks),
            "families": list(dict.fromkeys(task.family for task in stand.task_set.tasks)),
            "at_once": NUM,
            "seed": SEED,
            "max_tokens": {task.family: task.question.max_tokens for task in stand.task_set.timed},
            **(
                {"says": kind.says, "temperatures": list(kind.temperatures), "answers": kind.num}
                if kind
                else {}
            ),
            **left_out,
        },
        models={one: stand.pool.label(one) for one in roles},
        metrics={**ROUND_METRICS, **TASK_METRICS},
        launch=stand.pool.launch(roles),
    )


def _check_role(role: str, profile: str, stand: Stand) -> None:
    """Raise `UnavailableError` where a role is no model of this profile, or answers in filler."""
    if unknown := _unknown(role, profile):
        raise UnavailableError(unknown)
    stand.check(role)


def _unknown(role: str, profile: str) -> str:
    known = POCKET if profile == "pocket" else NODE
    if role in known:
        return ""
    what = "a pocket model" if role in POCKET else "nano in the pocket profile"
    return f"{role}: {what}; here the models are {', '.join(known)}"


def _settings(role: str, strategy: str, config: pytest.Config) -> Settings:
    """How often a variant is timed: as asked, or as often as something depends on it."""
    usual, is_asked = Settings.of(config), bool(config.option.rounds)
    if strategy in RULES_ALONE:
        return usual.at_most(FEW, warmup_rounds=0)
    if is_asked:
        return usual
    if strategy == BATCHED:
        return replace(usual, rounds=MORE_ROUNDS.get(role, 1) * usual.rounds)
    return usual if role == TIMED_BY_CLAIMS else replace(usual, rounds=max(3, usual.rounds // 2))


def _progress(paired: Pairing, name: str, stand: Stand) -> Callable[[int], None]:
    num = len(stand.task_set.graded_by(*name.split("-", 1)))

    def step(done: int) -> None:
        if paired.progress:
            paired.progress.step(f"{name}, tasks graded", done, num)

    return step


def _in_one_call(arm: BatchArm) -> Check:
    calls = {len(outcome.calls) for outcome in arm.outcomes}
    text = f"{', '.join(map(str, sorted(calls)))} requests per question, {NUM} answers each"
    return Check(name="drawn_in_one_call", ok=calls == {1}, observed=text)


def _verify(record: Record) -> None:
    """Fail the test, now that its record is stored, when something failed or did not run as named."""
    assert not record.failures, record.failures[:3]
    broken = [f"{check.name}: {check.observed}" for check in record.checks if not check.ok]
    assert not broken, broken
