"""Running jobs under a memory budget: plan, evict, load, answer, step by step."""

from harness.routers.orchestration.base import Computed, Decider, Decision
from harness.routers.orchestration.estimates import Estimates
from harness.routers.orchestration.grades import Grader, graded_by
from harness.routers.orchestration.priors import ModelPrior, Weights, noisy, priors_of, shuffled, weights_of
from harness.routers.orchestration.record import JobRun, StepRun, TaskRun
from harness.routers.orchestration.residency import Change, Residency
from harness.routers.orchestration.run import run_job, run_jobs

__all__ = [
    "Change",
    "Computed",
    "Decider",
    "Decision",
    "Estimates",
    "Grader",
    "JobRun",
    "ModelPrior",
    "Residency",
    "StepRun",
    "TaskRun",
    "Weights",
    "graded_by",
    "noisy",
    "priors_of",
    "run_job",
    "run_jobs",
    "shuffled",
    "weights_of",
]
