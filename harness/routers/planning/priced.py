"""The best set of models when there are too many sets to value: price the tasks, keep what can still win.

For any prices u, a set S of models is worth at most a sum over its models alone (Erlenkotter 1978, Operations
Research 26, for the uncapacitated problem):

    Σ_i max_{m∈S} U_im − Σ_{m∈S} c_m  ≤  Σ_i u_i + Σ_{m∈S} ρ_m,    ρ_m = Σ_i max(0, U_im − u_i) − c_m

With a price λ per byte, a set that departs from the sign of r_m = ρ_m − λ·v_m in some models loses at least
their |r_m|. Only sets that lose no more than the gap between bound and best known plan are looked at; there
are a few tens of them where the prices are good. Prices are improved by subgradient steps towards the best
known plan (Polyak 1969, USSR Computational Mathematics 9), and every step's prices bound the sets once more.

Prices are whole millionths, so that bounds and values are exact; only r and λ are rounded, and SLACK covers
them. A set is dropped when its bound is below the best known plan, never when it is equal: ties stay decided
by preference.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.routers.planning.base import MICRO, Array, Problem

__all__ = ["Found", "search"]

STAGES = ((5, 150), (12, 2000), (60, None))
"""Steps of pricing, and how many sets may be left then; None: the node limit."""
SLACK = 1e-12
"""Of the bound, for what floating point rounds."""
MOMENTUM, SHRINK = 0.5, 0.85
"""Of a step: the share of the last one, and its length where it did not help."""
FEW = 8
"""Sets that are sooner valued one by one."""
BATCH = 64
"""Sets valued at once, before the best known plan is looked at again."""


class Found(NamedTuple):
    """What the search found."""

    assignment: tuple[int, ...]
    value: float
    bound: float
    """equal to the value where the search was completed"""
    complete: bool
    num_nodes: int


class _Relaxed(NamedTuple):
    """The program relaxed at some prices."""

    bound: float
    used: list[int]
    """columns that the relaxed choice holds"""
    share: list[float]
    """of each of them, 0 to 1"""
    byte_price: float
    worth: Array
    """ρ of each model"""


class _Sets(NamedTuple):
    """Sets that are left, as columns."""

    members: npt.NDArray[np.bool_]
    """[sets × columns]"""
    complete: bool


def search(problem: Problem, due: list[float], max_nodes: int) -> Found:
    """The best plan on one set of models that fits; `complete` tells whether it is proven.

    due: what loading each model would cost, in millionths. max_nodes: sets kept at once; where more are left,
    those that lose least are.
    """
    return _Search(problem, due).run(max_nodes)


class _Search:
    def __init__(self, problem: Problem, due: list[float]) -> None:
        fleet = problem.fleet
        self.fleet, self.problem, self.columns = fleet, problem, fleet.fitting
        self.utility = np.ascontiguousarray(problem.micro.T[list(self.columns)])
        self.cost = np.array([due[m] for m in self.columns])
        self.sizes = np.array([float(fleet.size_bytes[m]) for m in self.columns])
        self.budget = float(fleet.budget_bytes)
        self.size_of: list[float] = self.sizes.tolist()
        self.value = -np.inf
        self.chosen: tuple[int, ...] = ()
        self.seen: set[tuple[int, ...]] = set()
        self.num_nodes = 0
        self.bounds: list[tuple[float, Array]] = []
        """Σ u and ρ at every step's prices"""

    def run(self, max_nodes: int) -> Found:
        """Price, expand what is left, and value it."""
        prices = self._begin()
        best = self._relax(prices)
        for steps, limit in STAGES:
            best, prices = self._price(best, prices, steps)
            sets = self._expand(best, min(limit or max_nodes, max_nodes))
            if sets.complete:
                break
        self._value(sets.members)
        is_proven = sets.complete or best.bound - self.value < 1  # whole numbers: nothing lies between
        bound = self.value if is_proven else max(best.bound, self.value)
        models = [self.columns[k] for k in self.chosen]
        within = self.problem.micro[:, models].argmax(axis=1).tolist()
        assignment = tuple(models[k] for k in within)
        return Found(assignment, self.value / MICRO, bound / MICRO, is_proven, self.num_nodes)

    def _begin(self) -> Array:
        """First prices: between a task's best and second best in the plan that rough prices make."""
        floor, top = self.utility.min(axis=0), self.utility.max(axis=0)
        self._relax(np.rint((self.utility.mean(axis=0) + top) / 2))
        if not self.chosen:
            self._offer((min(range(len(self.size_of)), key=self.size_of.__getitem__),))
        two = np.partition(np.vstack([self.utility[list(self.chosen)], floor]), -2, axis=0)[-2:]
        prices: Array = np.rint(two.mean(axis=0))
        return prices

    def _offer(self, members: tuple[int, ...]) -> None:
        """Value one set; it is kept where it is better, or equal and preferred."""
        if not members or members in self.seen:
            return
        self.seen.add(members)
        at = list(members)
        self._keep(float(self.utility[at].max(axis=0).sum() - self.cost[at].sum()), members)

    def _keep(self, value: float, members: tuple[int, ...]) -> None:
        if value > self.value or (value == self.value and self._rank(members) < self._rank(self.chosen)):
            self.value, self.chosen = value, members

    def _rank(self, members: tuple[int, ...]) -> tuple[float, int, tuple[int, ...]]:
        """The same preference as in `Subsets.ranked`: columns are in order of name."""
        return sum(self.size_of[k] for k in members), len(members), members

    def _relax(self, prices: Array) -> _Relaxed:
        """The fractional knapsack of what each model is worth at these prices.

        Few models, so lists are faster than arrays here. Models that fit beside a cut one make a plan too.
        """
        total = float(prices.sum())
        worth = np.maximum(self.utility, prices).sum(axis=1) - (self.cost + total)
        self.bounds.append((total, worth))
        worths: list[float] = worth.tolist()
        density = [each / size for each, size in zip(worths, self.size_of, strict=True)]
        room, byte_price, bound = self.budget, 0.0, total
        whole: list[int] = []
        used: list[int] = []
        share: list[float] = []
        for k in sorted(range(len(worths)), key=density.__getitem__, reverse=True):
            if worths[k] <= 0:
                break
            fits = self.size_of[k] <= room
            if not byte_price:
                part = 1.0 if fits else room / self.size_of[k]
                byte_price = 0.0 if fits else density[k]
                used.append(k)
                share.append(part)
                bound += worths[k] * part
            if fits:
                whole.append(k)
                room -= self.size_of[k]
        self._offer(tuple(sorted(whole)))
        return _Relaxed(bound, used, share, byte_price, worth)

    def _price(self, best: _Relaxed, prices: Array, steps: int) -> tuple[_Relaxed, Array]:
        """Move prices down the bound; the best relaxation found, and the last prices."""
        at, length, slope = best, 1.0, np.zeros(len(prices))
        for _ in range(steps):
            taken = np.array(at.share) @ (self.utility[at.used] > prices)
            slope = MOMENTUM * slope + 1 - taken
            norm = float(slope @ slope)
            if not norm or best.bound - self.value < 1:
                break
            prices = np.rint(prices - length * (at.bound - self.value) / norm * slope)
            at = self._relax(prices)
            if at.bound < best.bound:
                best = at
            else:
                length *= SHRINK
        return best, prices

    def _expand(self, best: _Relaxed, limit: int) -> _Sets:
        """Sets that lose no more than the gap, model by model, the dearest decision first."""
        reduced = best.worth - best.byte_price * self.sizes
        allowed = best.bound - self.value + 1 + SLACK * abs(best.bound)
        fixed = reduced > allowed
        free = np.flatnonzero(abs(reduced) <= allowed)
        loss, size, complete = np.zeros(1), np.full(1, self.sizes[fixed].sum()), True
        levels = []
        for k in free[np.argsort(-abs(reduced[free]), kind="stable")].tolist():
            apart = float(reduced[k])
            without, grown = loss + max(0.0, apart), loss - min(0.0, apart)
            taken = size + self.sizes[k]
            out = np.flatnonzero(without <= allowed)
            into = np.flatnonzero((grown <= allowed) & (taken <= self.budget))
            loss = np.concatenate([without[out], grown[into]])
            size = np.concatenate([size[out], taken[into]])
            parent, is_in = np.concatenate([out, into]), np.arange(len(loss)) >= len(out)
            if len(loss) > limit:
                complete = False
                least = np.argsort(loss, kind="stable")[:limit]
                parent, is_in, loss, size = parent[least], is_in[least], loss[least], size[least]
            levels.append((k, parent, is_in))
            self.num_nodes += len(loss)
        return _Sets(_unrolled(levels, fixed, len(loss)), complete)

    def _value(self, members: npt.NDArray[np.bool_]) -> None:
        """Value the sets whose bound is not below the best known plan, the highest bound first."""
        if len(members) <= FEW:
            for row in members:
                self._offer(tuple(np.flatnonzero(row).tolist()))
            return
        totals, worths = zip(*self.bounds, strict=True)
        bound = (members @ np.array(worths).T + np.array(totals)).min(axis=1)
        order = np.argsort(-bound, kind="stable")
        members, bound = members[order], bound[order]
        at = 0
        while at < len(bound) and bound[at] >= self.value:
            batch = members[at : at + BATCH]
            values = self._values(batch)
            for row in np.flatnonzero(values >= max(self.value, values.max())):
                self._keep(float(values[row]), tuple(np.flatnonzero(batch[row]).tolist()))
            at += BATCH

    def _values(self, members: npt.NDArray[np.bool_]) -> Array:
        """What sets are worth: gathered model by model, the first again where a set has fewer."""
        count = members.sum(axis=1)
        first = np.argsort(~members, axis=1, kind="stable")[:, : count.max()]
        first = np.where(np.arange(first.shape[1]) < count[:, None], first, first[:, :1])
        best = self.utility[first[:, 0]]
        for column in first.T[1:]:
            np.maximum(best, self.utility[column], out=best)
        values: Array = best.sum(axis=1) - members @ self.cost
        return values


def _unrolled(
    levels: list[tuple[int, npt.NDArray[np.intp], npt.NDArray[np.bool_]]],
    fixed: npt.NDArray[np.bool_],
    num: int,
) -> npt.NDArray[np.bool_]:
    """[sets × columns], from what each level decided about the sets of the one before; none is empty."""
    members, row = np.tile(fixed, (num, 1)), np.arange(num)
    for k, parent, is_in in reversed(levels):
        members[:, k] = is_in[row]
        row = parent[row]
    return members[members.any(axis=1)]
