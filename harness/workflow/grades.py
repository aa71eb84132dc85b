"""What a task's outputs were worth, stage by stage."""

from __future__ import annotations

from harness.grading.code import CodeGrader
from harness.grading.exact import grade_exact
from harness.grading.text import grade_text
from harness.workflow.executor import TaskRun
from harness.workflow.summary import tally
from harness.workflow.workload import StageSpec, Task, Workload

__all__ = ["grade_task"]

Values = dict[str, float | None]
ESCALATED_FROM = 2


def grade_task(workload: Workload, task: Task, run: TaskRun, grader: CodeGrader) -> Values:
    """Grade every stage of one task, and count its calls.

    Returns `solved` (1 when the code stage passes every hidden test), `<stage>_score` and `<stage>_ok` of
    each text stage, small_calls, large_calls, escalated, and the tokens and cost of all its requests. A stage
    that failed is worth 0: failures count.
    """
    values: Values = {}
    for stage in workload.stages:
        output = run.output(stage.name)
        if stage.grade == "code":
            values["solved"] = (
                0.0 if output is None else float(grader.grade(output, task.hidden_tests).is_solved)
            )
        elif stage.grade != "none":
            score, ok = (0.0, False) if output is None else _grade_words(stage, task, output)
            values |= {f"{stage.name}_score": score, f"{stage.name}_ok": float(ok)}
    roles = [attempt.role for attempt in run.attempts]
    values["small_calls"] = float(sum(role.endswith("small") for role in roles))
    values["large_calls"] = float(sum(role.endswith("large") for role in roles))
    values["escalated"] = float(any(len(stage.attempts) >= ESCALATED_FROM for stage in run.stages.values()))
    return values | tally([run])


def _grade_words(stage: StageSpec, task: Task, output: str) -> tuple[float, bool]:
    reference = task.references.get(stage.name, "")
    if stage.grade == "exact":
        grade = grade_exact(output, reference)
        return grade.score, grade.ok
    grade = grade_text(output, reference, task.facts.get(stage.name, ()))
    return grade.score, grade.ok
