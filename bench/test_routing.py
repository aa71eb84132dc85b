"""Jobs of dependent tasks under a memory budget: does optimising who answers beat asking a model to decide?

Physics. A model answers only while it is loaded, and what is loaded at once must fit: Σ bytes ≤ budget, at
every moment, by an allocator that refuses. Loading takes seconds in which nothing is answered, so a router
pays for every swap. Planning takes microseconds where it is computed, and a request or two where a model is
asked, whose weights need room within the same budget.

The published router rounds a linear program: its relaxed plan loads parts of models, its rounded plan whole
ones, and so it may not fit, at any window. Such a plan is refused here, and greedy's runs in its place; the
refusal counts as a violation. The published runs charged the asked model nothing; here its seconds, tokens
and bytes count.

Limits. The pocket models are specialists of 0.3 to 3.5 million parameters, and none of them can plan: what
the asked arm shows here is the machinery (schema, repair, fallback, charging), never what a language model
of some size would decide. Priors were measured on other jobs than those graded. `--profile node` runs the
published models on Ollama; `--profile replay` runs their published sizes, load times and priors in virtual
time, where every answer is right with the probability that the priors give: it is labelled `simulated`.

Usage:

    pytest bench/test_routing.py                                  pocket specialists, embedded engine
    pytest bench/ -m routing --profile node                       the published models, on Ollama
    pytest bench/ -m routing --vram-gb 0.012                      another budget
    pytest bench/ -m routing --workload my-jobs.json              jobs of your own: docs/jobs.md

Every variant runs beside `planner`, the model that is asked. Quality is graded once per router over all jobs;
seconds are measured in paired rounds over one job of each shape, each round cold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fixtures.backends import plain_errors
from fixtures.fleets import PLANNER, FleetHere, roles_of
from fixtures.job_checks import check_greedy, check_pair, check_runs, check_timed
from fixtures.job_values import job_values, lead_points, task_values
from fixtures.jobs import JobArm, JobGrades, Ran, Routing, Telemetry
from fixtures.metrics import JOB_METRICS, SUBTASK_METRICS, SWEPT_METRICS, WHOLE_JOB_METRICS
from fixtures.options import Settings
from fixtures.pairing import Pairing
from fixtures.planned import Planned, variant_of
from fixtures.provenance import merged
from fixtures.routers import ROUTERS, routing_of
from fixtures.sweeps import LEADING, SWEEPS, Setting, job_scores, leads, point
from harness.routers.orchestration import JobRun
from harness.routers.planning.published import BYTES_PER_GB
from harness.workflow.jobs import Job, JobFile
from reports.records import ARMS, Failure, Metric, Record, TaskPair

pytestmark = pytest.mark.routing

VARIANTS = (*ROUTERS, PLANNER)


def planned(item: pytest.Function) -> Planned:
    """What a variant would run, and on whom."""
    is_sweep = variant_of(item).startswith("sweep-")
    settings = Settings(rounds=1, warmup_rounds=0) if is_sweep else Settings.of(item.config)
    return Planned(settings, roles_of(item.config.option.profile))


class RoutedJobs:
    """Builds the variants of this experiment and measures them."""

    def __init__(self, here: FleetHere, jobs: JobFile, grades: JobGrades, telemetry: Telemetry) -> None:
        self.here, self.jobs, self.grades, self.telemetry = here, jobs, grades, telemetry
        self.beliefs = grades.beliefs
        shapes = {job.shape: job for job in reversed(jobs.jobs)}
        self.timed = [job for job in jobs.jobs if shapes[job.shape] is job]
        """The first job of each shape."""
        self.passes: list[tuple[tuple[str, int, Setting], Ran]] = []
        """What sweeps graded: router, number of jobs and setting, with what came of them."""

    def measure(self, name: str, paired: Pairing) -> Record:
        """Grade and time a variant beside the model that is asked, and return its record, checks and all."""
        self.here.check_room()
        names = (name,) if name == PLANNER else (name, PLANNER)
        self.here.measure()
        sides = [routing_of(each, self.here) for each in names]
        record = self._record(sides, JOB_METRICS | SUBTASK_METRICS | WHOLE_JOB_METRICS)
        graded = [self.grades.of(side) for side in sides]
        self._fill(record, graded[0], graded[1] if len(graded) > 1 else None)
        arms = [
            JobArm(side, self.grades, self.timed, warmup_rounds=paired.settings.warmup_rounds)
            for side in sides
        ]
        paired.run(record, *(arm.arm() for arm in arms))
        for label, side, arm, ran in zip(ARMS, sides, arms, graded, strict=False):
            record.checks += check_runs(side, [*arm.passes, ran])
            record.checks += [] if side.learns else [check_timed(arm.passes, ran)]
            record.failures += [
                Failure(arm=label, round=None, where=f"graded {job}", error=error)
                for job, error in ran.failures
            ]
        if len(graded) == 2:
            record.checks += check_pair(*graded, same=not sides[0].learns)
        record.checks = merged([*record.checks, *check_greedy(self.here)])
        paired.store(record)
        return record

    def sweep(self, name: str, paired: Pairing) -> Record:
        """Vary one setting and grade some routers at each of its values."""
        self.here.check_room()
        sweep = SWEEPS[name]
        routers = [routing_of(each, self.here) for each in sweep.routers]
        record = self._record(routers[-1:], SWEPT_METRICS | WHOLE_JOB_METRICS)
        record.variant, record.control = f"sweep-{name}", PLANNER
        jobs = self.jobs.jobs[: sweep.num_jobs]
        record.settings |= {
            "along": sweep.what, "jobs": len(jobs), "tasks": sum(len(job.tasks) for job in jobs),
            "draws": sweep.num_draws, "window": None,
        }  # fmt: skip
        base = Setting(beliefs=self.beliefs, budget_bytes=self.here.budget_bytes)
        passes: dict[str, list[Ran]] = {router.name: [] for router in routers}

        def run() -> None:
            for value in sweep.values:
                settings = [sweep.at(base, value, draw) for draw in range(sweep.num_draws)]
                for router in routers:
                    rans = self._under(router, settings, jobs)
                    passes[router.name] += rans
                    record.sweep.append(point(router.name, value, rans))
                leading, asked = (passes[name][-sweep.num_draws :] for name in (LEADING, PLANNER))
                record.sweep += leads(value, leading, asked)
                if value == min(sweep.values):
                    record.sweep += job_scores(leading, asked)

        paired.once(record, run)
        for router in routers:
            record.checks += check_runs(router, passes[router.name])
            record.failures += [
                Failure(arm="treatment", round=None, where=f"{router.name}: {job}", error=error)
                for ran in passes[router.name]
                for job, error in ran.failures
            ]
        record.checks = merged(record.checks)
        paired.store(record)
        return record

    def _under(self, router: Routing, settings: Sequence[Setting], jobs: Sequence[Job]) -> list[Ran]:
        """A pass per setting; equal settings share one, in another sweep too: the fleet's own is in each."""
        out = []
        for setting in settings:
            key = (router.name, len(jobs), setting)
            same = next((ran for known, ran in self.passes if known == key), None)
            if same is None:
                same = self.grades.under(router, setting.beliefs, jobs, budget_bytes=setting.budget_bytes)
                self.passes.append((key, same))
            out.append(same)
        return out

    def _record(self, sides: Sequence[Routing], metrics: Mapping[str, Metric]) -> Record:
        roles = [*self.here.roles, *([PLANNER] if any(side.is_model for side in sides) else [])]
        pool = self.here.pool
        return Record(
            experiment="routing",
            variant=sides[0].name,
            control=sides[1].name if len(sides) > 1 else None,
            backend="simulated" if pool.is_simulated else "+".join(sorted({pool.engine(r) for r in roles})),
            profile=pool.profile,
            evidence="simulated" if pool.is_simulated else pool.evidence(roles),
            settings={
                "workload": self.jobs.name,
                "workload_sha256": self.jobs.sha256,
                "jobs": len(self.jobs.jobs),
                "tasks": sum(len(job.tasks) for job in self.jobs.jobs),
                "timed_jobs": [job.id for job in self.timed],
                "fleet": self.here.row.name,
                "budget_gb": self.here.budget_bytes / BYTES_PER_GB,
                "window": sides[0].window,
                "flat": sides[0].flat,
                "learns": sides[0].learns,
                "planner_stands_in": any(side.stands_in for side in sides),
                "temperature": 0.0,
                "unit": "job",
            },
            models=dict(zip(self.here.roles, self.here.names, strict=True))
            if pool.is_simulated
            else {role: pool.label(role) for role in roles},
            metrics=dict(metrics),
            launch="round" if pool.is_simulated else pool.launch(roles),
        )

    def _fill(self, record: Record, mine: Ran, theirs: Ran | None) -> None:
        """The graded subtasks and jobs of both arms."""
        others = {run.job.id: run for run in theirs.runs} if theirs else {}
        for run in mine.runs:
            other = others.get(run.job.id)
            beside = task_values(other, run) if other else {}
            record.tasks += [
                TaskPair(id=f"{run.job.id}.{task}", treatment=values, control=beside.get(task))
                for task, values in task_values(run, other).items()
            ]
            record.sweep += self._job_points(run, other)
        if others:
            record.sweep += lead_points(mine.runs, others, self.beliefs.priors)

    def _job_points(self, run: JobRun, other: JobRun | None) -> list[dict[str, Any]]:
        sides = [("treatment", run, other)] + ([("control", other, run)] if other else [])
        return [
            {
                "name": "job",
                "arm": arm,
                "job": each.job.id,
                "shape": each.job.shape,
                # Engines that stay up take no time to load, so that a graded job's seconds say nothing.
                "job_s": each.wall_s if self.here.pool.is_simulated else None,
                "planner_status": each.statuses,
                **job_values(each, beside),
            }
            for arm, each, beside in sides
        ]


def verify(record: Record) -> None:
    """Fail the test, now that its record is stored, when something failed or did not run as named."""
    assert not record.failures, record.failures[:3]
    broken = [f"{check.name}: {check.observed}" for check in record.checks if not check.ok]
    assert not broken, broken


@pytest.fixture(scope="session")
def routed(fleet_here: FleetHere, jobs: JobFile, job_grades: JobGrades, telemetry: Telemetry) -> RoutedJobs:
    """The experiment on this fleet and these jobs."""
    return RoutedJobs(fleet_here, jobs, job_grades, telemetry)


@pytest.mark.parametrize("variant", VARIANTS)
def test_routing(variant: str, routed: RoutedJobs, paired: Pairing) -> None:
    """A router is graded on every job and timed, pair by pair, beside the model that is asked."""
    with plain_errors():
        record = routed.measure(variant, paired)
    verify(record)


@pytest.mark.parametrize("variant", [f"sweep-{name}" for name in SWEEPS])
def test_routing_sweep(variant: str, routed: RoutedJobs, paired: Pairing) -> None:
    """Routers under one setting varied, all else equal."""
    with plain_errors():
        record = routed.sweep(variant.removeprefix("sweep-"), paired)
    verify(record)
