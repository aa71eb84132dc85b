"""Jobs: small graphs of tasks whose answers travel along the edges, and how each answer is graded."""

from harness.workflow.jobs.file import load, published
from harness.workflow.jobs.grade import Grade, grade_answer
from harness.workflow.jobs.graph import TASK_TYPES, TaskGraph, TaskNode, in_sequence, merged
from harness.workflow.jobs.instances import CALIBRATION_SEED, GRADING_SEED, STYLES, instances
from harness.workflow.jobs.job import Job, JobFile, JobTask, answer_of, render, right_answer

__all__ = [
    "CALIBRATION_SEED",
    "GRADING_SEED",
    "STYLES",
    "TASK_TYPES",
    "Grade",
    "Job",
    "JobFile",
    "JobTask",
    "TaskGraph",
    "TaskNode",
    "answer_of",
    "grade_answer",
    "in_sequence",
    "instances",
    "load",
    "merged",
    "published",
    "render",
    "right_answer",
]
