"""Where the seconds of a task went.

The critical path is the chain of stages that ends last, each starting where the one before it ended. Its
stages are taken apart into parts:

    queue_s     waiting for the task's turn, for the event loop and for a slot of an engine
    plan_s      the router deciding
    load_s      the engine loading weights, where it says so
    prefill_s   the engine reading the prompt, by its own clock (to the first token, where it gives none)
    decode_s    the engine writing the answer, by its own clock (from the first token, where it gives none)
    transfer_s  the rest of a request beyond the engine's own time: writing, sending, waiting, reading
    grade_s     the router checking an answer with the tests it may see
    other_s     writing prompts and reading answers

What is left of the wall-clock time after these is the harness's own machinery. It must stay under 2 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.workflow.executor import Attempt, StageRun, TaskRun

__all__ = ["PARTS", "Attribution", "attribute", "critical_path"]

PARTS = ("plan_s", "queue_s", "load_s", "prefill_s", "decode_s", "transfer_s", "grade_s", "other_s")


class Attribution(NamedTuple):
    """A task's seconds, by part, along its critical path."""

    parts: dict[str, float]
    critical_path: tuple[str, ...]
    wall_s: float

    @property
    def unaccounted_s(self) -> float:
        """Wall-clock seconds that no part explains."""
        return self.wall_s - sum(self.parts.values())


def attribute(run: TaskRun, needs: dict[str, tuple[str, ...]]) -> Attribution:
    """Take a task's wall-clock time apart. `needs` maps each stage to the stages it waits for."""
    path = critical_path(run, needs)
    parts = dict.fromkeys(PARTS, 0.0)
    parts["queue_s"] += run.started_s - run.intended_s
    for stage in path:
        for part, seconds in _stage_parts(stage).items():
            parts[part] += seconds
    return Attribution(parts, tuple(stage.stage for stage in path), run.wall_s)


def critical_path(run: TaskRun, needs: dict[str, tuple[str, ...]]) -> tuple[StageRun, ...]:
    """The chain of stages that decided when the task was done, first to last."""
    if not run.stages:
        return ()
    path: Sequence[StageRun] = (max(run.stages.values(), key=lambda stage: stage.done_s),)
    while needs[path[0].stage]:
        before = max((run.stages[name] for name in needs[path[0].stage]), key=lambda stage: stage.done_s)
        path = (before, *path)
    return tuple(path)


def _stage_parts(stage: StageRun) -> dict[str, float]:
    parts = dict.fromkeys(PARTS, 0.0)
    parts |= {"plan_s": stage.route_s, "grade_s": stage.review_s, "other_s": stage.render_s}
    parts["queue_s"] += stage.wait_s
    for attempt in stage.attempts:
        for part, seconds in _attempt_parts(attempt).items():
            parts[part] += seconds
    return parts


def _attempt_parts(attempt: Attempt) -> dict[str, float]:
    answer, engine = attempt.completion, attempt.completion.engine
    ttft_s = answer.e2e_latency_s if answer.ttft_s is None else answer.ttft_s
    prefill_s = ttft_s if engine.prefill_s is None else engine.prefill_s
    decode_s = answer.e2e_latency_s - ttft_s if engine.decode_s is None else engine.decode_s
    load_s, server_queue_s = engine.load_s or 0.0, engine.queue_s or 0.0
    inside_s = load_s + server_queue_s + prefill_s + decode_s
    return {
        "queue_s": attempt.started_s - attempt.queued_s + server_queue_s,
        "load_s": load_s,
        "prefill_s": prefill_s,
        "decode_s": decode_s,
        "transfer_s": max(0.0, attempt.returned_s - attempt.started_s - inside_s),
    }
