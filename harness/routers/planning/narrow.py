"""A problem on fewer models, for planners whose work doubles with each.

A model is dominated by another that is no larger, no dearer to load, and no worse on any task, unless it
alone is resident: whatever it does the other can do. Leaving out dominated models loses nothing. Where too
many are left, those stay that add most to the best utility of each task, residents first; then a better plan
may exist, and the certificate says so.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harness.routers.planning.base import Certificate, Fleet, Plan, Problem

__all__ = ["Narrowed", "narrowed", "widened"]


class Narrowed(NamedTuple):
    """A problem on some of the models."""

    problem: Problem
    models: tuple[int, ...]
    """of the wider problem, by place in this one"""
    is_lossless: bool
    """whether only dominated models were left out"""


def narrowed(problem: Problem, max_models: int) -> Narrowed:
    """The same problem on at most `max_models` models, all of which fit by themselves."""
    kept = [m for m in problem.fleet.fitting if not _is_dominated(problem, m)]
    is_lossless = len(kept) <= max_models
    models = tuple(sorted(kept if is_lossless else _most_useful(problem, kept, max_models)))
    fleet = problem.fleet
    part = Problem(
        fleet=Fleet(
            models=tuple(fleet.models[m] for m in models),
            size_bytes=tuple(fleet.size_bytes[m] for m in models),
            budget_bytes=fleet.budget_bytes,
        ),
        utility=problem.utility[:, models],
        load_cost=tuple(problem.load_cost[m] for m in models),
        resident=frozenset(models.index(m) for m in problem.resident if m in models),
        layers=problem.layers,
        edges=problem.edges,
        has_more=problem.has_more,
    )
    return Narrowed(part, models, is_lossless)


def widened(plan: Plan, part: Narrowed) -> Plan:
    """The plan in terms of the wider problem; its bound only holds where nothing was lost."""
    certificate: Certificate = plan.certificate
    if not part.is_lossless:
        certificate = certificate._replace(optimal=False, bound=None)
    return plan._replace(
        assignment=tuple(part.models[m] for m in plan.assignment),
        residents=tuple(frozenset(part.models[m] for m in held) for held in plan.residents),
        certificate=certificate,
    )


def _is_dominated(problem: Problem, model: int) -> bool:
    """By another model; of two that are alike, by the first by name."""
    fleet, micro, load, held = problem.fleet, problem.micro, problem.load_micro, problem.resident

    def costs(m: int) -> tuple[float, ...]:
        return fleet.size_bytes[m], load[m], m not in held, *(-micro[:, m]).tolist()

    return any(
        all(there <= here for there, here in zip(costs(other), costs(model), strict=True))
        and (costs(other) != costs(model) or fleet.models[other] < fleet.models[model])
        for other in fleet.fitting
        if other != model
    )


def _most_useful(problem: Problem, models: list[int], num: int) -> list[int]:
    chosen = sorted((m for m in models if m in problem.resident), key=lambda m: -problem.load_micro[m])[:num]
    best = problem.micro[:, chosen].max(axis=1) if chosen else problem.micro[:, models].min(axis=1)
    left = [m for m in models if m not in chosen]
    while len(chosen) < num:
        gains = np.maximum(problem.micro[:, left].T - best, 0).sum(axis=1)
        m = left.pop(int(gains.argmax()))
        best = np.maximum(best, problem.micro[:, m])
        chosen.append(m)
    return chosen
