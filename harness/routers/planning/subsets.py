"""Sets of models that fit together, computed once per fleet.

Sets are bit masks over the models that fit by themselves, in order of name, so that nothing depends on the
order in which models are given. Every subset of a fitting set fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from harness.routers.planning.base import Array, Fleet

__all__ = ["Subsets", "Tree", "set_values", "subsets_of", "tree_of", "tree_values"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subsets:
    """Every set of a fleet's fitting models."""

    columns: tuple[int, ...]
    """models that fit by themselves, in order of name; bit k of a mask is the k-th"""
    gather: npt.NDArray[np.intp] | None
    """`columns` as an index; None where it would change nothing"""
    fits: npt.NDArray[np.bool_]
    """[sets]"""
    bits: Array
    """[sets × columns] 0 or 1"""
    ranked: npt.NDArray[np.intp]
    """non-empty fitting sets, the preferred among equals first: fewest bytes, fewest models, names"""
    members: tuple[tuple[int, ...], ...]
    """columns of each set"""
    num_bytes: npt.NDArray[np.int64]
    """[sets]"""


@lru_cache(maxsize=256)
def subsets_of(fleet: Fleet) -> Subsets:
    """All sets of the fleet's fitting models; 2ᵏ of them, so for at most some 16."""
    columns = fleet.fitting
    masks = np.arange(1 << len(columns))
    bits = (masks[:, None] >> np.arange(len(columns))) & 1
    num_bytes = bits @ np.array([fleet.size_bytes[m] for m in columns], dtype=np.int64)
    fits = num_bytes <= fleet.budget_bytes
    members = tuple(tuple(int(k) for k in np.flatnonzero(row)) for row in bits)
    ranked = sorted(
        (int(s) for s in masks[1:] if fits[s]), key=lambda s: (int(num_bytes[s]), len(members[s]), members[s])
    )
    straight = columns == tuple(range(len(fleet.models)))
    return Subsets(
        columns=columns,
        gather=None if straight else np.array(columns, dtype=np.intp),
        fits=fits,
        bits=bits.astype(np.float64),
        ranked=np.array(ranked, dtype=np.intp),
        members=members,
        num_bytes=num_bytes,
    )


def set_values(columns: Array) -> Array:
    """Σ over tasks of the best utility within each set; −inf for the empty one.

    columns: utilities [columns × tasks]. Each set's best is that of the set without its highest model, or
    that model's: one vector operation per model.
    """
    num, num_tasks = columns.shape
    best = np.empty((1 << num, num_tasks))
    best[0] = -np.inf
    for k, column in enumerate(columns):
        np.maximum(best[: 1 << k], column, out=best[1 << k : 2 << k])
    total: Array = best.sum(axis=1)
    return total


def pick(utility: Array, subsets: Subsets | Tree, chosen: int) -> list[int]:
    """The best model within a set for each task, by index of the fleet; the first by name among equals."""
    members = subsets.members[chosen]
    columns: Sequence[int] = [subsets.columns[k] for k in members]
    if len(columns) == 1:
        return [columns[0]] * len(utility)
    return [columns[k] for k in utility[:, columns].argmax(axis=1).tolist()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The fitting sets of a large fleet alone: each is an earlier one and one model more."""

    columns: tuple[int, ...]
    """models that fit by themselves, in order of name"""
    parents: tuple[npt.NDArray[np.intp], ...]
    """by size of set, from 2 on: place among the sets of one model less"""
    added: tuple[npt.NDArray[np.intp], ...]
    """by size of set, from 1 on: the column added"""
    bits: Array
    """[sets × columns], by size of set"""
    ranked: npt.NDArray[np.intp]
    """all sets, the preferred among equals first, as in `Subsets`"""
    members: tuple[tuple[int, ...], ...]


@lru_cache(maxsize=64)
def tree_of(fleet: Fleet, max_sets: int) -> Tree | None:
    """All fitting sets, or None where there are more than `max_sets`."""
    columns = fleet.fitting
    sizes = [fleet.size_bytes[m] for m in columns]
    level: list[tuple[tuple[int, ...], int]] = [((k,), sizes[k]) for k in range(len(columns))]
    every, parents, added = list(level), [], [np.arange(len(columns), dtype=np.intp)]
    while level:
        grown = [
            (at, (*members, k), size + sizes[k])
            for at, (members, size) in enumerate(level)
            for k in range(members[-1] + 1, len(columns))
            if size + sizes[k] <= fleet.budget_bytes
        ]
        if len(every) + len(grown) > max_sets:
            return None
        level = [(members, size) for _, members, size in grown]
        every += level
        if grown:
            parents.append(np.array([at for at, _, _ in grown], dtype=np.intp))
            added.append(np.array([members[-1] for _, members, _ in grown], dtype=np.intp))
    bits = np.zeros((len(every), len(columns)))
    for row, (members, _) in enumerate(every):
        bits[row, members] = 1
    ranked = sorted(range(len(every)), key=lambda s: (every[s][1], len(every[s][0]), every[s][0]))
    return Tree(
        columns=columns,
        parents=tuple(parents),
        added=tuple(added),
        bits=bits,
        ranked=np.array(ranked, dtype=np.intp),
        members=tuple(members for members, _ in every),
    )


def tree_values(columns: Array, tree: Tree) -> Array:
    """Σ over tasks of the best utility within each set of the tree; columns: [columns × tasks]."""
    best = columns
    values = [best.sum(axis=1)]
    for parents, added in zip(tree.parents, tree.added[1:], strict=True):
        best = np.maximum(best[parents], columns[added])
        values.append(best.sum(axis=1))
    return np.concatenate(values)
