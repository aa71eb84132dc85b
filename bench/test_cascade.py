"""The model cascade: which stage of a workflow deserves the large model?

Physics. A stage costs prompt tokens × prefill time + output tokens × decode time, on the model that runs it.
Moving analysis and summary to a model that decodes r times faster saves at most their share s of the
baseline's time: total_cascade / total_baseline ≥ 1 - s (1 - 1/r) (Amdahl). With the published caps of
50 / 150 / 30 output tokens s is about a third, so a third is the ceiling whatever the small model. It cannot
save a *number* of tokens: the caps and the prompts stay. What it saves is priced tokens.

Limits. The pocket models are capability miniatures: that `small` is good enough for two stages and not for
the third is true of them by design, and says nothing of Qwen2.5-0.5B and Mistral-7B. What the pocket profile
measures is the machinery: where time goes, what routing costs, which control does as well.

Usage:

    pytest bench/ -m cascade                                         pocket models, embedded engine
    pytest bench/ -m cascade --profile node --backend large=http://127.0.0.1:30000 \\
                             --backend small=http://127.0.0.1:30001  the published set-up, 20 tasks
    pytest bench/ -m cascade --claim pocket-cascade-saves-time       one claim and what it needs
    pytest bench/ -m cascade --workload my.json                      tasks of your own

Every variant runs beside `baseline` (all stages on the large model), the edge variants beside
`edge-baseline`. Stages on (small, large) are written as letters: the published cascade is SLS.
"""

from __future__ import annotations

import pytest

from fixtures.backends import plain_errors
from fixtures.cascade import BY_QUALITY, EDGE_LARGE, EDGE_SMALL, FILLER, LOAD_VARIANTS, VARIANTS, Cascade
from fixtures.load import LoadPlan
from fixtures.options import Settings
from fixtures.pairing import Pairing
from fixtures.planned import Planned, pool_of, variant_of
from fixtures.pool import Pool, Runner
from fixtures.workflows import Grades
from harness.grading.code import CodeGrader
from harness.routers import LARGE, SMALL
from harness.workflow import Workload
from reports.plugin import RUN_DIR
from reports.records import Record

pytestmark = pytest.mark.cascade


def planned(item: pytest.Function) -> Planned:
    """What a variant would run, and on whom."""
    name, pool = variant_of(item), pool_of(item.config)
    settings = Settings.of_load(item.config) if name in LOAD_VARIANTS else Settings.of(item.config)
    roles: dict[str, tuple[str, ...]] = {
        "baseline": (LARGE,),
        "same": (LARGE,),
        "hybrid": (EDGE_SMALL, LARGE),
        "edge-baseline": (EDGE_LARGE,),
        "edge-cascade": (EDGE_SMALL, EDGE_LARGE),
    }
    why_not = FILLER.format(name) if name in BY_QUALITY and pool.is_simulated else ""
    return Planned(settings, roles.get(name, (LARGE, SMALL)), why_not)


@pytest.fixture(scope="session")
def cascade(
    workload: Workload,
    pool: Pool,
    runner: Runner,
    grades: Grades,
    scorer: CodeGrader,
    request: pytest.FixtureRequest,
) -> Cascade:
    """The experiment on the chosen backends and workload."""
    return Cascade(workload, pool, runner, grades, scorer, request.config.option.profile)


def verify(record: Record) -> None:
    """Fail the test, now that its record is stored, when something failed or did not run as named."""
    assert not record.failures, record.failures[:3]
    broken = [f"{check.name}: {check.observed}" for check in record.checks if not check.ok]
    assert not broken, broken


@pytest.mark.parametrize("variant", VARIANTS)
def test_cascade(variant: str, cascade: Cascade, paired: Pairing) -> None:
    """A variant is graded on every task and timed, pair by pair, beside its control."""
    with plain_errors():
        record = cascade.measure(variant, paired)
    verify(record)


@pytest.mark.parametrize("variant", LOAD_VARIANTS)
def test_cascade_load(
    variant: str, cascade: Cascade, load_plan: LoadPlan, paired: Pairing, request: pytest.FixtureRequest
) -> None:
    """A variant serves arrivals at rising rate beside the baseline, at the same rates and SLO."""
    with plain_errors():
        record = cascade.measure_load(variant, load_plan, paired, Settings.of_load(request.config))
    verify(record)


@pytest.fixture(scope="session")
def load_plan(cascade: Cascade, request: pytest.FixtureRequest) -> LoadPlan:
    """The rates and the SLO, set once per run by the baseline's own unloaded latency."""
    baseline = cascade.variant("baseline")
    path = request.config.stash[RUN_DIR]() / "load-plan.json"

    def measure() -> LoadPlan:
        return LoadPlan.from_unloaded(
            cascade.subset, baseline.router, baseline.roles, cascade.pool, cascade.runner
        )

    with plain_errors():
        return LoadPlan.stored(path, cascade.subset, measure)
