"""Jobs: small graphs of tasks whose answers travel along the edges, and how each answer is graded."""

from harness.workflow.jobs.graph import TASK_TYPES, TaskGraph, TaskNode, in_sequence, merged

__all__ = ["TASK_TYPES", "TaskGraph", "TaskNode", "in_sequence", "merged"]
