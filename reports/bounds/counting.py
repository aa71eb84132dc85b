"""Bounds that follow from counting: what fits a memory budget, and what a table's own counts allow.

They need no hardware. Sizes are GB as the source gives them, and "fits" is ≤.
"""

from __future__ import annotations

from collections.abc import Mapping

from reports.bounds.base import Bound

__all__ = ["compliant_sum", "counted_gap", "held_at_once"]


def held_at_once(*, models_gb: Mapping[str, float], budget_gb: float) -> Bound:
    """The memory that the named models take when they are loaded together.

    Raises
    ------
    ValueError: no model is named.
    """
    if not models_gb:
        raise ValueError("name at least one model with its GB")
    value = sum(models_gb.values())
    parts = " + ".join(f"{gb:g} GB ({name})" for name, gb in models_gb.items())
    whole = f" = {value:g} GB" if len(models_gb) > 1 else ""
    return Bound(
        name="held_at_once",
        side="at_least",
        value=value,
        unit="GB",
        inputs={"models_gb": dict(models_gb), "budget_gb": budget_gb},
        arithmetic=f"{parts}{whole}, and the budget is {budget_gb:g} GB",
        condition=f"possible with a budget of ≥ {value:g} GB, or with another model in its place",
    )


def compliant_sum(*, models_gb: Mapping[str, float], budget_gb: float, tasks: int) -> Bound:
    """The most that the distinct models of a job can take in sum when none is larger than the budget.

    Each task is answered by one model, and models may follow one another, so only their sizes one by one are
    held to the budget, which helps the claim.

    Raises
    ------
    ValueError: no model fits, or there is no task.
    """
    fitting = sorted((gb, name) for name, gb in models_gb.items() if gb <= budget_gb)
    if not fitting or tasks < 1:
        raise ValueError(f"{len(fitting)} of the models fit {budget_gb:g} GB, for {tasks} tasks")
    used = [gb for gb, _ in fitting[-tasks:]]
    value, parts = sum(used), " + ".join(f"{gb:g}" for gb in used)
    over = ", ".join(f"{name} ({gb:g} GB)" for name, gb in models_gb.items() if gb > budget_gb) or "no model"
    return Bound(
        name="compliant_sum",
        side="at_most",
        value=value,
        unit="GB",
        inputs={"models_gb": dict(models_gb), "budget_gb": budget_gb, "tasks": tasks},
        arithmetic=(
            f"without a violation no job uses {over}; {tasks} tasks use at most "
            f"{parts} = {value:g} GB of distinct models, and so does the mean of any jobs"
        ),
        condition=f"more is possible where {over} is used, which violates {budget_gb:g} GB by itself",
    )


def counted_gap(*, tasks: int, better: int, worse: int) -> Bound:
    """How far two mean scores of 0 to 1 can lie apart when one arm was better on so many of the tasks.

    A task on which it was better gains at most 1, and one on which it was worse loses something, let be 0.

    Raises
    ------
    ValueError: more tasks differ than there are.
    """
    if tasks < 1 or better < 0 or worse < 0 or better + worse > tasks:
        raise ValueError(f"{better} better and {worse} worse of {tasks} tasks")
    value = better / tasks
    counts = f"better on {better} of {tasks} tasks" + (f" and worse on {worse}" if worse else "")
    gains = "less than" if worse else "at most"
    return Bound(
        name="counted_gap",
        side="at_most",
        value=value,
        unit="score",
        inputs={"tasks": tasks, "better": better, "worse": worse},
        arithmetic=f"{counts}: the mean gains {gains} {better} × 1 ÷ {tasks} = {value:.3f}",
        condition="more is possible only if something else than the tasks' scores entered the mean",
    )
