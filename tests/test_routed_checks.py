"""What a router's run is checked for: each check holds on a sound run, and fails where it should."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest

from fixtures.job_checks import check_greedy, check_pair, check_runs, check_timed
from fixtures.jobs import Ran, Routing
from harness.backends import Backend, Completion, Message, Request
from harness.backends.memo import MemoBackend
from harness.backends.simulated import SimulatedBackend
from harness.models.simulated import Timing
from harness.models.simulated_engine import SimulatedEngine
from harness.routers.orchestration import JobRun, StepRun
from reports.records import Check
from tests.orchestrated import job_of
from tests.routed_runs import (
    CHAIN,
    FALLBACK,
    FORK,
    GB,
    chain_run,
    decision,
    job_run,
    ran,
    routing,
    step_run,
    task_run,
)

NAMES = {
    "planned_as_named", "statuses_recorded", "fits_budget", "edges_carry_data", "counts_from_server",
    "attribution_sums",
}  # fmt: skip


def failing(router: Routing, passes: Sequence[Ran]) -> set[str]:
    """Names of the checks that do not hold."""
    return {check.name for check in check_runs(router, passes) if not check.ok}


def named(checks: Sequence[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def chain_under(window: int | None, horizons: Sequence[Sequence[str]], status: str = "computed") -> JobRun:
    """The chain, a task per step, each planned with a horizon."""
    steps = [
        step_run(i, [task_run(f"s{i}")], horizon, window=window, made=decision(status))
        for i, horizon in enumerate(horizons)
    ]
    return job_run(CHAIN, steps)


def test_a_sound_run_passes_every_check() -> None:
    """By any window, flat, asked, or refused."""
    assert {check.name for check in check_runs(routing(), [ran(chain_run())])} == NAMES
    assert failing(routing(), [ran(chain_run()), ran(chain_run())]) == set()
    three = [["s0", "s1", "s2"], ["s1", "s2"], ["s2"]]
    assert failing(routing(3), [ran(chain_under(3, three))]) == set()
    assert failing(routing(None), [ran(chain_under(None, three))]) == set()
    assert failing(routing(3, asks=True), [ran(chain_under(3, three, "repaired"))]) == set()
    flat = job_run(CHAIN, [step_run(0, [task_run("s0"), task_run("s1"), task_run("s2")], window=None)])
    assert failing(routing(None, flat=True), [ran(flat)]) == set()
    refused = job_run(FORK, [step_run(0, [task_run("s0")], over_bytes=1), *_fork_rest()])
    assert failing(routing(), [ran(refused)]) == set()


def test_without_a_whole_run_nothing_holds_but_the_budget() -> None:
    """No run at all, and runs that all failed, are no evidence."""
    for passes in ([], [ran(chain_run(error="s0 on small: it broke"))]):
        assert failing(routing(), passes) >= NAMES - {"fits_budget"}
    assert "fits_budget" in failing(routing(), [])


@pytest.mark.parametrize(
    ("window", "horizons"),
    [
        (1, [["s0", "s1"], ["s1", "s2"], ["s2"]]),  # more than named
        (3, [["s0"], ["s1"], ["s2"]]),  # fewer
        (1, [["s0"], ["s0", "s1"], ["s2"]]),  # what is answered already
        (None, [["s0", "s1"], ["s1", "s2"], ["s2"]]),  # not all of it
    ],
)
def test_another_window_than_named_is_found(window: int | None, horizons: list[list[str]]) -> None:
    """Deeper or shallower than the name promises."""
    found = check_runs(routing(window), [ran(chain_under(window, horizons))])
    assert not named(found, "planned_as_named").ok
    assert "saw others than named" in named(found, "planned_as_named").observed


def test_a_window_counts_the_layers_of_what_is_left() -> None:
    """A plan that orders tasks itself leaves layers that are none of the whole job's."""
    branches = job_of(["math"] * 4, [(0, 1), (1, 2)], name="branches")  # s3 stands alone, beside s0
    horizons = [["s0", "s3", "s1"], ["s3", "s1", "s2"], ["s3", "s2"], ["s3"]]
    steps = [
        step_run(i, [task_run(name)], horizon, window=2)
        for i, (name, horizon) in enumerate(zip(("s0", "s1", "s2", "s3"), horizons, strict=True))
    ]
    assert failing(routing(2), [ran(job_run(branches, steps))]) == set()


def test_a_flat_router_plans_once() -> None:
    """Layer by layer it is none."""
    assert failing(routing(None, flat=True), [ran(chain_run())]) == {"planned_as_named"}


def test_statuses_of_the_wrong_kind_are_found() -> None:
    """A computed plan under the asked model's name, and the other way round."""
    one = [["s0"], ["s1"], ["s2"]]
    assert failing(routing(asks=True), [ran(chain_run())]) == {"planned_as_named"}
    for status in ("valid", FALLBACK):
        assert failing(routing(), [ran(chain_under(1, one, status))]) == {"planned_as_named"}
    stands_in = replace(routing(), stands_in=True)
    assert failing(stands_in, [ran(chain_under(1, one, FALLBACK))]) == set()


def test_plans_of_another_solver_are_found() -> None:
    """Whatever status they have."""
    other = replace(routing(), solvers=frozenset({"highs"}))
    assert failing(other, [ran(chain_run())]) == {"planned_as_named"}


def test_a_step_without_a_status_is_found() -> None:
    """And the shares of those that have one are told."""
    run = chain_run()
    run.steps[1].decision = None
    assert failing(routing(), [ran(run)]) == {"statuses_recorded"}
    mixed = chain_under(1, [["s0"], ["s1"], ["s2"]], "valid")
    mixed.steps[0].decision = decision(FALLBACK)
    found = named(check_runs(routing(asks=True), [ran(mixed)]), "statuses_recorded")
    assert found.observed == "3 steps: fallback 33%, valid 67%"


@pytest.mark.parametrize("beyond", [{"peak_bytes": 8 * GB + 1}, {"left_bytes": 1}])
def test_a_ledger_beyond_its_capacity_or_not_given_back_is_found(beyond: dict[str, int]) -> None:
    """In any one pass; exactly full is within."""
    passes = [ran(chain_run()), ran(chain_run(), **beyond)]  # type: ignore[arg-type]
    assert failing(routing(), passes) == {"fits_budget"}


def test_a_prompt_without_the_earlier_answer_is_found() -> None:
    """Or with another one."""
    for prompt in ("task 1 of chain, given: ", "task 1 of chain, given: s9"):
        run = chain_run()
        run.tasks["s1"].prompt = prompt
        found = check_runs(routing(), [ran(run)])
        assert {check.name for check in found if not check.ok} == {"edges_carry_data"}
        assert named(found, "edges_carry_data").observed.startswith("1 of 2 prompts")


def test_an_empty_view_of_a_wrong_answer_is_carried_too() -> None:
    """What follows from a wrong answer may look as if nothing came; the right one would have made another."""
    bare = job_of(["extraction", "math"], [(0, 1)], name="bare")
    look_up = replace(bare.tasks[1], prompt="row: {s0.row}", table={"yes": "3 apples"})
    job = replace(bare, tasks=(bare.tasks[0], look_up))
    wrong = job_run(job, [step_run(0, [task_run("s0")]), step_run(1, [task_run("s1")])])
    assert wrong.tasks["s1"].prompt == "row: "
    assert failing(routing(), [ran(wrong)]) == set()
    deaf = replace(job, tasks=(job.tasks[0], replace(look_up, table={"yes": ""})))
    assert failing(routing(), [ran(replace(wrong, job=deaf))]) == {"edges_carry_data"}


def test_jobs_without_edges_have_nothing_to_carry() -> None:
    """A user's jobs of one task each are sound."""
    alone = job_run(job_of(["math"], [], name="alone"), [step_run(0, [task_run("s0")])])
    found = check_runs(routing(), [ran(alone)])
    assert all(check.ok for check in found)
    assert named(found, "edges_carry_data").observed == "no task waits for another"


@pytest.mark.parametrize("tokens", [(None, 2), (8, None)])
def test_a_missing_count_of_an_answer_is_found(tokens: tuple[int | None, int | None]) -> None:
    """Of its prompt or of what was written."""
    run = job_run(FORK, [step_run(0, [task_run("s0", tokens=tokens)]), *_fork_rest()])
    found = check_runs(routing(), [ran(run)])
    assert {check.name for check in found if not check.ok} == {"counts_from_server"}
    assert named(found, "counts_from_server").observed.startswith("1 of 3 answers")


def test_a_missing_count_of_a_plan_is_found() -> None:
    """Where a model planned; one whose server gave no answer has nothing to count."""
    for status, expected in (("valid", {"counts_from_server"}), (FALLBACK, set())):
        run = chain_under(1, [["s0"], ["s1"], ["s2"]], "valid")
        run.steps[2].decision = decision(status, prompt_tokens=None)
        assert failing(routing(asks=True), [ran(run)]) == expected


def test_seconds_in_no_part_are_found() -> None:
    """Above 2 % of the wall time, whichever way they are wrong."""
    for parts_s, expected in ((9.81, set()), (9.7, {"attribution_sums"}), (10.3, {"attribution_sums"})):
        run = chain_run(parts=(0.0, 0.0, 10.0, 0.0))
        wrong = replace(run, parts={**run.parts, "inference_s": parts_s})
        assert failing(routing(), [ran(wrong)]) == expected


TOLD = {"chain.s0": (0.5, 0.6), "chain.s1": (0.1, 0.2)}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (TOLD, set()),
        ({**TOLD, "chain.s1": (0.1, 0.3)}, {"same_information"}),
        ({}, {"same_information"}),
    ],
)
def test_other_utilities_told_are_found(told: dict[str, tuple[float, ...]], expected: set[str]) -> None:
    """Of one task and model; of none in common nothing is known."""
    checks = check_pair(ran(chain_run(), told=TOLD), ran(chain_run(), told=told), same=True)
    assert {check.name for check in checks if not check.ok} == expected
    learning = check_pair(ran(chain_run(), told=TOLD), ran(chain_run(), told=told), same=False)
    assert [check.name for check in learning] == ["equal_tasks"]


def test_other_tasks_answered_are_found() -> None:
    """One failed, one missing, or none at all."""
    whole, failed = chain_run(), chain_run()
    failed.tasks["s2"].error = "no answer"
    part = job_run(CHAIN, whole.steps[:2])
    for mine, theirs in ((whole, failed), (part, whole)):
        (check, _) = check_pair(ran(mine, told=TOLD), ran(theirs, told=TOLD), same=True)
        assert not check.ok
        assert "2 the same" in check.observed
    assert not check_pair(ran(), ran(), same=False)[0].ok


class Moody:
    """Answers otherwise each time."""

    name, model = "moody", None

    def __init__(self, inner: Backend) -> None:
        self.inner, self.num_said = inner, 0

    async def generate(self, request: Request, on_chunk: object = None) -> Completion:
        self.num_said += 1
        return replace(await self.inner.generate(request), text=f"answer {self.num_said}")


def test_a_greedy_answer_that_changes_is_found() -> None:
    """Of one engine among several; of engines that nobody asked nothing is told."""
    ask = Request(messages=(Message("user", "Hello"),), max_tokens=2)
    with asyncio.Runner() as runner:
        inner = SimulatedBackend(SimulatedEngine(model="m", timing=Timing(read_s=1e-6), slots=1), name="m")
        steady, moody = MemoBackend(inner), MemoBackend(Moody(inner))

        def check(*backends: MemoBackend) -> list[Check]:
            here = SimpleNamespace(runner=runner.run, leases=lambda: dict(enumerate(map(lease, backends))))
            return check_greedy(here)  # type: ignore[arg-type]

        def lease(backend: MemoBackend) -> SimpleNamespace:
            return SimpleNamespace(endpoints=defaultdict(lambda: SimpleNamespace(backends=[backend])))

        assert check(steady, moody) == []
        for backend in (steady, moody):
            runner.run(backend.generate(ask))
        (good,), (bad,) = check(steady), check(steady, moody)
    assert good.ok
    assert (bad.ok, bad.observed) == (False, "1 of 2 repeated answers were the same")


def _fork_rest() -> list[StepRun]:
    return [step_run(1, [task_run("s1", at_s=(1, 2)), task_run("s2", at_s=(1, 2))])]


def test_seconds_and_scores_of_other_choices_are_found() -> None:
    """A timed job whose tasks went elsewhere than in its grading says nothing about that grading."""
    graded, timed = chain_run(), chain_run()
    assert check_timed([ran(timed)], ran(graded)).ok
    timed.steps[0].tasks[0].model = "another"
    found = check_timed([ran(timed)], ran(graded))
    assert (found.name, found.ok) == ("timed_as_graded", False)
    assert found.observed.startswith("0 of 1")
