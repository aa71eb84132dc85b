"""A workflow: stages as a DAG with data on its edges, its tasks, and where its seconds went."""

from harness.workflow.attribution import PARTS, Attribution, attribute, critical_path
from harness.workflow.cost import EngineTimePrice, Price, TokenPrice, UnknownPrice
from harness.workflow.endpoints import Endpoint
from harness.workflow.executor import Attempt, StageRun, TaskRun, run_task, run_tasks
from harness.workflow.pricing import price_of
from harness.workflow.workload import StageSpec, Task, Workload, load, render

__all__ = [
    "PARTS",
    "Attempt",
    "Attribution",
    "Endpoint",
    "EngineTimePrice",
    "Price",
    "StageRun",
    "StageSpec",
    "Task",
    "TaskRun",
    "TokenPrice",
    "UnknownPrice",
    "Workload",
    "attribute",
    "critical_path",
    "load",
    "price_of",
    "render",
    "run_task",
    "run_tasks",
]
