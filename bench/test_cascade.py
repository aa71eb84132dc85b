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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from fixtures.backends import plain_errors
from fixtures.load import LoadArm, LoadPlan
from fixtures.metrics import LOAD_METRICS, TASK_METRICS, round_metrics
from fixtures.options import Settings
from fixtures.pairing import Pairing
from fixtures.planned import Planned, pool_of, variant_of
from fixtures.pool import Pool, Runner
from fixtures.provenance import check_runs, merged, routed_as_named
from fixtures.reuse import ReuseProbe
from fixtures.workflows import Grades, WorkflowArm
from harness.errors import UnavailableError
from harness.grading.code import CodeGrader
from harness.routers import (
    LARGE,
    SMALL,
    EscalatingRouter,
    FixedRouter,
    HindsightRouter,
    RandomRouter,
    Router,
    assignments,
)
from harness.workflow import TaskRun, Workload
from reports.plugin import RUN_DIR
from reports.records import ARMS, Check, Failure, Metric, Record, TaskPair

pytestmark = pytest.mark.cascade

EDGE_SMALL, EDGE_LARGE = "edge-small", "edge-large"
NAMED = {"baseline": "LLL", "same": "LLL", "cascade": "SLS", "all-small": "SSS"}
OTHERS = ("SSL", "SLL", "LSS", "LSL", "LLS")
ROUTED = ("random", "escalate", "hybrid", "oracle")
EDGE = ("edge-baseline", "edge-cascade")
VARIANTS = (*NAMED, *OTHERS, *ROUTED, *EDGE)
LOAD_VARIANTS = ("load-cascade", "load-all-small", "load-replicated")
CONTROL = {"baseline": None, "edge-baseline": None, "edge-cascade": "edge-baseline"}

BY_QUALITY = ("escalate", "oracle")
FILLER = "{}: chooses by the quality of answers, and simulated ones are filler; use real engines"

LATENCY_TASKS = {"pocket": 8, "node": 20, "replay": 20}
ESCALATE_BELOW = -0.693
"""A token that the model itself thought less likely than not (ln ½)."""
SEED = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A router and the roles that it may call."""

    name: str
    router: Router
    roles: tuple[str, ...]
    expected: Mapping[str, str] | None = None
    """stage → role, where the map is fixed."""
    calls: Mapping[str, float] | None = None
    """role → calls per task, where only their number is."""


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


class Cascade:
    """Builds the variants of this experiment and measures them."""

    def __init__(
        self, workload: Workload, pool: Pool, runner: Runner, grades: Grades, scorer: CodeGrader, profile: str
    ) -> None:
        self.workload, self.pool, self.runner = workload, pool, runner
        self.grades, self.scorer, self.profile = grades, scorer, profile
        self.reuse = ReuseProbe(pool, runner)
        self.subset = workload.subset(min(LATENCY_TASKS[profile], len(workload.tasks)))

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return tuple(stage.name for stage in self.workload.stages)

    def variant(self, name: str) -> Variant:
        """The router behind a variant's name."""
        others = {s: SMALL for s in self.stages if s != self.workload.code_stage.name}
        cascade = {**others, self.workload.code_stage.name: LARGE}
        match name:
            case "baseline" | "same":
                return self._fixed(name, dict.fromkeys(self.stages, LARGE))
            case "cascade":
                return self._fixed(name, cascade)
            case "all-small":
                return self._fixed(name, dict.fromkeys(self.stages, SMALL))
            case "hybrid":
                return self._fixed(name, {s: EDGE_SMALL if r == SMALL else r for s, r in cascade.items()})
            case "edge-baseline":
                return self._fixed(name, dict.fromkeys(self.stages, EDGE_LARGE))
            case "edge-cascade":
                return self._fixed(name, {s: f"edge-{r}" for s, r in cascade.items()})
            case "random":
                calls = {SMALL: len(self.stages) - 1.0, LARGE: 1.0}
                ids = [task.id for task in self.workload.tasks]
                at_random = RandomRouter.draw(ids, self.stages, seed=SEED)
                return Variant(name=name, router=at_random, roles=(SMALL, LARGE), calls=calls)
            case "escalate" | "oracle" if self.pool.is_simulated:
                raise UnavailableError(FILLER.format(name))
            case "escalate":
                deferring = EscalatingRouter(passes=self._passes, min_logprob=ESCALATE_BELOW)
                return Variant(name=name, router=deferring, roles=(SMALL, LARGE), calls={})
            case "oracle":
                return Variant(name=name, router=self._oracle(), roles=(SMALL, LARGE), calls={})
        return self._letters(name)

    def measure(self, name: str, paired: Pairing) -> Record:
        """Grade and time a variant beside its control, and return its record, checks and all."""
        variant = self.variant(name)
        control_name = CONTROL.get(name, "baseline")
        control = self.variant(control_name) if control_name else None
        record = self._record(variant, control, round_metrics(self.stages))
        record.tasks = self._task_pairs(variant, control)
        sides = [(side, self._arm(side)) for side in (variant, control) if side]
        paired.run(record, *(arm.arm() for _, arm in sides))
        for (side, arm), label in zip(sides, ARMS, strict=False):
            graded = self.grades.of(side.router, side.roles)
            record.checks += self._checks(side, arm.runs, list(graded.runs.values()))
            record.failures += [
                Failure(arm=label, round=None, where=f"graded {task}", error=error)
                for task, error in graded.failures
            ]
        record.checks.append(self.grades.check_greedy(self._roles(variant, control)))
        record.checks = merged(record.checks)
        paired.store(record)
        return record

    def measure_load(self, name: str, plan: LoadPlan, paired: Pairing, settings: Settings) -> Record:
        """Offer the plan's rates to a variant beside the baseline, and return the record.

        `load-replicated` is the baseline on two servers: as many engines as the cascade has.
        """
        replicas = 2 if name == "load-replicated" else 1
        variant = self.variant("baseline" if replicas > 1 else name.removeprefix("load-"))
        control = self.variant("baseline")
        self.pool.check_replicas(variant.roles, replicas)
        arms = [
            LoadArm(name, variant.router, variant.roles, self.pool, self.runner, plan, replicas=replicas),
            LoadArm(
                "load-baseline", control.router, control.roles, self.pool, self.runner, plan, beside=name
            ),
        ]
        record = self._record(variant, control, LOAD_METRICS)
        record.variant, record.control = name, "load-baseline"
        record.settings |= plan.settings
        paired.run(record, *(arm.arm() for arm in arms), settings=settings)
        for arm, side, label in zip(arms, (variant, control), ARMS, strict=True):
            record.sweep += arm.points(label)
            record.checks += [arm.check(), *self._checks(side, arm.runs)]
        record.checks = merged(record.checks)
        paired.store(record)
        return record

    def _record(self, variant: Variant, control: Variant | None, metrics: Mapping[str, Metric]) -> Record:
        roles = self._roles(variant, control)
        words = {
            f"{s.name}_{what}": Metric(unit="share", better="higher", what=f"{s.name} stage: {text}")
            for s in self.workload.stages
            if s.grade in ("text", "exact")
            for what, text in (
                ("score", "ROUGE-L F against the reference"),
                ("ok", "1 when every fact is present"),
            )
        }
        edge = variant.name in EDGE
        return Record(
            experiment="cascade",
            variant=variant.name,
            control=control.name if control else None,
            backend="+".join(sorted({self.pool.engine(role) for role in roles})),
            profile=self.profile,
            evidence=self.pool.evidence(roles),
            settings={
                "workload": self.workload.name,
                "workload_sha256": self.workload.sha256,
                "tasks": len(self.subset.tasks),
                "graded": len(self.workload.tasks),
                "platform": self.pool.platform(EDGE_LARGE if edge else LARGE),
                "max_tokens": {stage.name: stage.max_tokens for stage in self.workload.stages},
                "temperature": 0.0,
                "seed": SEED,
            },
            models={role: self.pool.label(role) for role in roles},
            metrics={**metrics, **TASK_METRICS, **words},
            launch=self.pool.launch(roles),
        )

    def _arm(self, variant: Variant) -> WorkflowArm:
        return WorkflowArm(variant.name, variant.router, variant.roles, self.subset, self.pool, self.runner)

    def _checks(
        self, variant: Variant, timed: Sequence[TaskRun], graded: Sequence[TaskRun] = ()
    ) -> list[Check]:
        models = {role: self.pool.model(role) for role in variant.roles}
        named = routed_as_named([*timed, *graded], variant.expected, variant.calls or {})
        checks = check_runs(self.workload, timed, models, graded, reuse=self.reuse.shares(timed))
        return [*checks, named]

    def _roles(self, *variants: Variant | None) -> list[str]:
        return sorted({role for variant in variants if variant for role in variant.roles})

    def _task_pairs(self, variant: Variant, control: Variant | None) -> list[TaskPair]:
        mine = self.grades.of(variant.router, variant.roles).values
        theirs = self.grades.of(control.router, control.roles).values if control else {}
        if self.pool.evidence(self._roles(variant, control)) == "simulated":
            mine, theirs = without_quality(mine), without_quality(theirs)
        return [TaskPair(id=t, treatment=values, control=theirs.get(t)) for t, values in mine.items()]

    def _fixed(self, name: str, roles: Mapping[str, str]) -> Variant:
        router = FixedRouter(name="baseline" if name == "same" else name, roles=roles)
        return Variant(name=name, router=router, roles=tuple(sorted(set(roles.values()))), expected=roles)

    def _letters(self, letters: str) -> Variant:
        if len(letters) != len(self.stages):
            raise UnavailableError(
                f"assignment {letters} is for {len(letters)} stages; workload {self.workload.name} has "
                f"{len(self.stages)}"
            )
        return self._fixed(letters, FixedRouter.from_letters(letters, self.stages).roles)

    def _passes(self, source: str, tests: Sequence[str]) -> bool:
        return self.scorer.grade(source, tests).is_solved

    def _oracle(self) -> HindsightRouter:
        """For each task the cheapest assignment that solved it; the cheapest of all where none did."""
        by_letters = {
            letters: FixedRouter.from_letters(letters, self.stages)
            for letters in assignments(len(self.stages))
        }
        graded = {
            letters: self.grades.of(self._named(r), (SMALL, LARGE)).values
            for letters, r in by_letters.items()
        }

        def rank(task_id: str, letters: str) -> tuple[bool, float]:
            values = graded[letters][task_id]
            if values["cost_usd"] is None:
                raise UnavailableError(
                    "the cheapest assignment: needs a price of every model (registry.toml)"
                )
            return not values["solved"], values["cost_usd"]

        best = {task.id: min(by_letters, key=lambda x: rank(task.id, x)) for task in self.workload.tasks}
        return HindsightRouter(
            roles={task_id: by_letters[letters].roles for task_id, letters in best.items()}
        )

    def _named(self, router: FixedRouter) -> FixedRouter:
        """The same router under the variant's name, so that it is graded once."""
        names = {letters: name for name, letters in NAMED.items() if name != "same"}
        return FixedRouter(name=names.get(router.name, router.name), roles=router.roles)


def without_quality(graded: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float | None]]:
    """The same values less those that judge the text: an engine that writes filler has no quality, not 0."""
    return {
        task: {k: v for k, v in values.items() if k != "solved" and not k.endswith(("_score", "_ok"))}
        for task, values in graded.items()
    }


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
