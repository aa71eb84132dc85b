"""The record of a routed variant: what is measured and checked goes in, and what fails is told, not lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.test_routing import RoutedJobs, verify
from fixtures.fleets import PLANNER, FleetHere
from fixtures.jobs import Beliefs, JobGrades, Telemetry
from fixtures.options import Settings
from fixtures.pairing import Pairing
from fixtures.pool import Runner
from fixtures.sweeps import SWEEPS
from harness.backends import Backend
from harness.errors import LaunchError, UnavailableError
from harness.routers.orchestration import Estimates
from harness.routers.orchestration.loadable import DrawnOutcomes, Loadable, SimulatedModel
from harness.workflow.jobs import JobFile, instances, published
from reports.records import Record
from tests.routed_runs import pool_of


class Broken(SimulatedModel):
    """Does not come up."""

    async def load(self) -> Backend:
        raise LaunchError(f"{self.name}: no memory left on the device; free some")


class Breaking(FleetHere):
    """The published fleet, of which qwen and its like do not come up."""

    broken: str | None = None

    def loadables(self, **options: bool) -> list[Loadable]:
        return [self._or_broken(model) for model in super().loadables(**options)]

    def kept(self, names: Sequence[str]) -> list[Loadable]:
        return [self._or_broken(model) for model in super().kept(names)]

    def _or_broken(self, model: Loadable) -> Loadable:
        if model.name != self.broken:
            return model
        assert isinstance(model, SimulatedModel)
        return Broken(model.name, model.num_bytes, load_s=0.0, timing=model.timing)


class Bench:
    """The part of pytest-benchmark that pairing uses."""

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}
        self.enabled, self.has_error = True, False

    def pedantic(
        self,
        target: Callable[[], None],
        *,
        setup: Callable[[], None] = lambda: None,
        teardown: Callable[[], None] = lambda: None,
        rounds: int,
        warmup_rounds: int,
    ) -> None:
        for _ in range(rounds + warmup_rounds):
            setup()
            target()
            teardown()


@pytest.fixture
def here() -> Iterator[Breaking]:
    """In virtual time."""
    runner = Runner(is_virtual=True)
    yield Breaking(pool_of("replay"), runner)
    runner.close()


def routed(here: FleetHere, folder: Path, jobs: JobFile | None = None) -> RoutedJobs:
    beliefs = Beliefs.of(here)
    grade = DrawnOutcomes(Estimates(beliefs.priors, beliefs.weights).quality, seed=1)
    telemetry, jobs = Telemetry(lambda: folder), jobs or published()
    return RoutedJobs(here, jobs, JobGrades(here, beliefs, jobs.jobs, grade, telemetry), telemetry)


def pairing() -> Pairing:
    return Pairing(Bench(), Settings(rounds=2, warmup_rounds=1))


def test_the_first_job_of_each_shape_is_timed(here: Breaking, tmp_path: Path) -> None:
    """In their order, once each."""
    drawn = instances("workflowbench")
    again = replace(drawn, jobs=(*drawn.jobs[1:5], drawn.jobs[0]))
    assert [job.id for job in routed(here, tmp_path, again).timed] == ["wb2-001", "wb3-002", "wb1-003"]


@pytest.mark.parametrize("variant", ["sequential", PLANNER])
def test_a_record_holds_rounds_tasks_jobs_and_checks(here: Breaking, tmp_path: Path, variant: str) -> None:
    """Beside the asked model but for itself; it is stored whole."""
    paired = pairing()
    record = routed(here, tmp_path).measure(variant, paired)
    verify(record)
    assert Record.from_json(paired.benchmark.extra_info["assay"]) == record
    assert (record.complete, record.control) == (True, None if variant == PLANNER else PLANNER)
    assert len(record.rounds) == 2
    assert all(pair.treatment and (pair.control is None) == (variant == PLANNER) for pair in record.rounds)
    assert len(record.tasks) == 9
    kinds = [(point["name"], point.get("arm")) for point in record.sweep]
    assert kinds.count(("job", "treatment")) == 3
    assert kinds.count(("job", "control")) == kinds.count(("lead", None)) == (0 if variant == PLANNER else 3)
    names = [check.name for check in record.checks]
    assert len(names) == len(set(names))
    assert ({"equal_tasks", "same_information"} <= set(names)) == (variant != PLANNER)


def test_models_that_do_not_come_up_are_failures_of_the_record(here: Breaking, tmp_path: Path) -> None:
    """Each with its job and its reason, in rounds and in grading; nothing is measured, and the test fails."""
    here.broken = "qwen2.5-coder:7b"
    record = routed(here, tmp_path).measure("sequential", pairing())
    where = [failure.where for failure in record.failures]
    assert any(place.startswith("graded wb") for place in where)
    assert any(place in ("wb1", "wb2", "wb3") for place in where)
    assert all("no memory left on the device" in failure.error for failure in record.failures)
    assert all(not pair.treatment for pair in record.rounds)
    with pytest.raises(AssertionError, match="no memory left"):
        verify(record)


def test_a_sweep_tells_each_router_at_each_value(here: Breaking, tmp_path: Path) -> None:
    """A point for each, the leads job by job, and whole jobs at the lowest value."""
    record = routed(here, tmp_path).sweep("num_models", pairing())
    verify(record)
    values = SWEEPS["num_models"].values
    points = [point for point in record.sweep if point["name"] == "point"]
    assert [(point["along"], point["planner"]) for point in points] == [
        (v, name) for v in values for name in SWEEPS["num_models"].routers
    ]
    assert sum(point["name"] == "lead" for point in record.sweep) == 3 * len(values)
    assert sum(point["name"] == "job" for point in record.sweep) == 2 * 3
    assert len({point["token_cost"] for point in points if point["along"] == 1.0}) == 1


def test_a_sweep_in_which_a_model_does_not_come_up_says_so(here: Breaking, tmp_path: Path) -> None:
    """As failures with their reason; the values without that model are measured."""
    here.broken = "qwen2.5-coder:7b"
    record = routed(here, tmp_path).sweep("num_models", pairing())
    assert record.failures
    assert all("no memory left on the device" in failure.error for failure in record.failures)
    scores = {point["along"]: point["score"] for point in record.sweep if point["name"] == "point"}
    assert scores[1.0] is not None
    with pytest.raises(AssertionError, match="no memory left"):
        verify(record)


def test_a_budget_that_nothing_fits_is_told_before_anything_runs(tmp_path: Path) -> None:
    """By every variant and sweep, in one and the same line."""
    runner = Runner(is_virtual=True)
    jobs = routed(FleetHere(pool_of("replay"), runner, budget_gb=1.0), tmp_path)
    told = set()
    for measure in (lambda p: jobs.measure("lp", p), lambda p: jobs.sweep("budget", p)):
        with pytest.raises(UnavailableError) as exc:
            measure(SimpleNamespace())
        told.add(str(exc.value))
    assert len(told) == 1
    assert list(tmp_path.iterdir()) == []
    runner.close()
