"""The gate's one rerun: what a held claim fell by is measured once more, before the first claim is judged.

The variants behind claims that fell where another measurement may lift them (`reports.gate`) follow the last
variant in pytest's own loop, with fixtures of their own. Both attempts stay in the journal, and count
together (`reports.attempts`). pytest-benchmark keeps the first attempt's times and gets the record of both.

A run that was asked to be short, by `--rounds` below 4, stays short: as many again would settle little.
Where variants run elsewhere, on lanes or on the nodes of a cluster, nothing is measured again: what runs
there is not of pytest's own loop, and what would run here is of another machine. `left_open` says so.

Trap: what stays up for a session is not launched again by a rerun, so that both attempts are one launch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from reports import attempts
from reports.claims import Claim, needed_variants
from reports.gate import Ruling
from reports.session import resume
from reports.session.items import ClaimItem, experiment_of, is_variant

if TYPE_CHECKING:
    from reports.session.judge import Judge

__all__ = ["Rerun"]

LEAST_ROUNDS = 4
"""`--rounds` below which nothing is measured again."""
ELSEWHERE = ("lanes", "ray_address")
"""Options under which variants run in other processes than this one."""


class Rerun:
    """One session's; it happens at most once."""

    def __init__(self, judge: Judge, found: Mapping[str, dict[str, Any]], config: pytest.Config) -> None:
        """Arguments: `found`, the journal's entries by their test, which grows."""
        rounds = config.getoption("rounds", None)
        self.is_done = rounds is not None and rounds < LEAST_ROUNDS
        """Whether there is nothing more to be done."""
        self._config = config
        self._judge = judge
        self._found = found
        self._first: dict[str, dict[str, Any]] = {}

    def queue(
        self, item: pytest.Item, next_item: pytest.Item | None, say: Callable[[str], None]
    ) -> list[str]:
        """Put what the gate wants measured once more right behind `item`; returns its node ids.

        Does something only where the claims are about to begin, so that all that they need has run.
        """
        is_due = isinstance(next_item, ClaimItem) and not isinstance(item, ClaimItem)
        is_off = self.is_done or self._elsewhere
        if is_off or not is_due or item.session.shouldfail or item.session.shouldstop:
            return []
        self.is_done = True
        rulings = self._judge.open_rulings()
        again = self._items(item.session.items, rulings)
        if not again:
            return []
        claims, variants = _num(len(rulings), "claim"), _num(len(again), "variant")
        names = ", ".join(sorted(rulings))
        say(f"gate: {claims} to settle by measuring {variants} once more: {names}")
        for other in again:
            resume.disarm(other)
            self._first[other.nodeid] = self._found[other.nodeid]
        at = item.session.items.index(item) + 1
        item.session.items[at:at] = again
        self._judge.forget()
        return [other.nodeid for other in again]

    @property
    def _elsewhere(self) -> str | None:
        """The option by which variants run elsewhere."""
        given = [name for name in ELSEWHERE if self._config.getoption(name, None)]
        return f"--{given[0].replace('_', '-')}" if given else None

    def left_open(self) -> str | None:
        """What to do about claims that were not measured once more, since their variants run elsewhere."""
        names = sorted(self._judge.open_rulings()) if self._elsewhere else []
        if not names:
            return None
        return (
            f"gate: {_num(len(names), 'claim')} left open, since nothing is measured once more with "
            f"{self._elsewhere}; to settle them, without it: pytest bench/ --claims=gate "
            + " ".join(f"--claim {name}" for name in names)
        )

    def holds(self, nodeid: str) -> bool:
        """Whether a test is being measured once more, or was."""
        return nodeid in self._first

    def joined(self, entry: dict[str, Any]) -> dict[str, Any]:
        """An entry together with the first attempt's, where there was one."""
        first = self._first.get(entry["nodeid"])
        return entry if first is None else attempts.with_rerun(first, entry)

    def keep_first(self, config: pytest.Config) -> None:
        """Leave one benchmark of each test among pytest-benchmark's, the first, with the record of both."""
        if not self._first:
            return
        benchmarks: list[Any] = config._benchmarksession.benchmarks  # type: ignore[attr-defined]
        kept = {bench.fullname: bench for bench in reversed(benchmarks)}
        benchmarks[:] = [bench for bench in benchmarks if kept[bench.fullname] is bench]
        for bench in benchmarks:
            if self.holds(bench.fullname):
                bench.extra_info |= self._found[bench.fullname]["extra_info"]

    def _items(self, items: Sequence[pytest.Item], rulings: Mapping[str, Ruling]) -> list[pytest.Item]:
        """The variants that speak for the claims, of those that were measured whole and not yet twice."""
        wanted = {
            (experiment, name)
            for experiment, claim in self._judge.rows
            if claim.id in rulings
            for name in _variants(claim, rulings[claim.id])
        }
        return [
            item
            for item in items
            if is_variant(item)
            and (experiment_of(item), _variant(item)) in wanted
            and _is_whole(self._found.get(item.nodeid))
        ]


def _variants(claim: Claim, ruling: Ruling) -> tuple[str, ...]:
    """Those that decide it; its alternatives too where only they are open."""
    if ruling.now == "confirmed, but":
        return needed_variants(claim)
    return tuple(name for name in needed_variants(claim) if name not in claim.also_beats)


def _is_whole(entry: Mapping[str, Any] | None) -> bool:
    record = entry["extra_info"].get(attempts.RECORD) if entry else None
    return bool(record and record["complete"]) and not attempts.is_rerun(entry or {})


def _variant(item: pytest.Item) -> Any:
    return item.callspec.params.get("variant") if hasattr(item, "callspec") else None


def _num(num: int, what: str) -> str:
    return f"{num} {what}" if num == 1 else f"{num} {what}s"
