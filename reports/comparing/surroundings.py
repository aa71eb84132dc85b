"""What two runs differ in besides what they measured: machine, settings, code, packages, tests.

Said first, since it decides what the rest means. Two machines are never equally fast, so that times of two
machines are not compared; two settings of one test measure two things, so that nothing of that test is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from reports.places import machine_of
from reports.records import Record
from reports.runs import Entry, Run

__all__ = ["Surroundings", "chosen_differences", "surroundings_of"]

CHOSEN_ANEW = ("rounds", "warmup_rounds", "seeds", "per_session")
"""Settings that say how often something was measured, and not what."""
MEASURED = (
    "arrival_rate_per_s",
    "costs",
    "formula",
    "lp_less_sequential",
    "saturation_concurrency",
    "saturation_per_s",
    "slo_s",
    "unloaded_s",
)
"""Settings that were measured before the rounds, so that no two sessions have the same."""
MACHINE = ("machine", "environment")
CODE = ("commit", "code", "data", "weights")
PACKAGES = ("packages", "python", "versions")
SKIPPED = "skipped"
CLOCKS = ("settings.profile:", "settings.lanes:")
"""Settings that decide what of a machine a round has for itself."""
TOLD_APART = (*MACHINE, *CODE, *PACKAGES, "workload")


class Surroundings(NamedTuple):
    """Differences as "name: before → after", most weighty first."""

    machine: list[str]
    settings: list[str]
    code: list[str]
    packages: list[str]
    tests: list[str]
    """Tests of one run only, and tests that ended otherwise."""
    lost: list[str]
    """Tests that the later run lacks although it ran others of their experiment, or that fail in it."""
    places: list[str]
    """Tests that were measured on another lane or node: devices of one kind are not equally fast."""
    is_machine_told: bool = True
    """Whether either run says on what it was measured."""

    @property
    def has_equal_clocks(self) -> bool:
        """Whether times can be compared: one machine, one profile, as much of the machine to a lane."""
        return not self.machine and not any(what.startswith(CLOCKS) for what in self.settings)


def surroundings_of(before: Run, after: Run) -> Surroundings:
    """What two runs differ in, but for their numbers."""
    told = _told(before), _told(after)
    found = list(_differences(*told))
    settings = [f"{name}: {what}" for name, what in found if name.split(".")[0] not in TOLD_APART]
    code = [f"{name}: {what}" for name, what in found if name.split(".")[0] in (*CODE, "workload")]
    return Surroundings(
        machine=[f"{name}: {what}" for name, what in found if name.split(".")[0] in MACHINE],
        settings=settings,
        code=code,
        packages=[f"{name}: {what}" for name, what in found if name.split(".")[0] in PACKAGES],
        tests=list(_tests(before, after)),
        lost=_lost(before, after),
        places=list(_places(before, after)),
        is_machine_told=any("machine" in one for one in told),
    )


def chosen_differences(before: Record, after: Record) -> list[str]:
    """What makes two records of one test measurements of different things."""
    names = ("variant", "control", "backend", "evidence", "models")
    skipped = (*CHOSEN_ANEW, *MEASURED)
    old, new = (
        {name: getattr(r, name) for name in names} | {k: v for k, v in r.settings.items() if k not in skipped}
        for r in (before, after)
    )
    return [f"{name}: {what}" for name, what in _differences(old, new)]


def _told(run: Run) -> Mapping[str, Any]:
    """The plan, and what stands beside it; of a file of pytest-benchmark, what that notes of the machine."""
    about = {key: value for key, value in run.about.items() if key not in ("started", "machine_info")}
    plan = about.get("plan", about)
    beside = {key: about[key] for key in ("commit", "versions") if about.get(key) is not None}
    noted = _noted(run.about.get("machine_info"))
    return {**noted, **plan, **beside} if isinstance(plan, Mapping) else {**noted, **beside}


def _noted(info: Any) -> dict[str, Any]:
    """pytest-benchmark's notes of a machine, worded as a plan words them; empty where there are none."""
    if not isinstance(info, Mapping) or not info.get("node"):
        return {}
    found = info.get("cpu")
    cpu: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    words = (info["node"], info.get("machine"), f"{cpu.get('count')} CPUs", cpu.get("brand_raw"))
    return {"machine": ", ".join(map(str, words)), "python": info.get("python_version")}


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """(name, "before → after") of every leaf that differs."""
    for key in sorted(before.keys() | after.keys()):
        old, new, name = before.get(key), after.get(key), f"{prefix}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{name}.")
        elif old != new:
            yield name, f"{old} → {new}"


def _tests(before: Run, after: Run) -> Iterator[str]:
    """Experiments of one run only, then tests of one run only, then tests that ended otherwise."""
    old, new = ({e.nodeid: e for e in run.entries} for run in (before, after))
    for which, mine, others, run in (("first", old, new, after), ("second", new, old, before)):
        alone = [entry for name, entry in mine.items() if name not in others and entry.outcome != SKIPPED]
        experiments = {e.experiment for e in run.entries}
        for experiment in dict.fromkeys(e.experiment for e in alone if e.experiment not in experiments):
            num = sum(e.experiment == experiment for e in alone)
            yield f"only in the {which}: experiment {experiment}, {num} test{'s' if num > 1 else ''}"
        yield from (f"only in the {which}: {e.nodeid}" for e in alone if e.experiment in experiments)
    for name in (name for name in old if name in new):
        ended = old[name].outcome, new[name].outcome
        if ended[0] != ended[1]:
            yield f"{name}: {ended[0]} → {ended[1]}" + (f" ({new[name].why})" if new[name].why else "")


def _lost(before: Run, after: Run) -> list[str]:
    """Tests of an experiment that both runs hold which the later run does not have, or in which they fail."""
    new, experiments = {e.nodeid: e for e in after.entries}, {e.experiment for e in after.entries}
    out = []
    for entry in before.entries:
        now = new.get(entry.nodeid)
        is_gone = now is None and entry.experiment in experiments and entry.outcome != SKIPPED
        if is_gone or (entry.outcome == "passed" and now is not None and now.outcome == "failed"):
            out.append(entry.nodeid)
    return out


def _places(before: Run, after: Run) -> Iterator[str]:
    """Tests with the lanes or nodes of either run, where both tell them and they differ."""
    new = {entry.nodeid: _machines(entry) for entry in after.entries}
    for entry in before.entries:
        old, now = _machines(entry), new.get(entry.nodeid)
        if old and now and old != now:
            yield f"{entry.nodeid}: {', '.join(old)} → {', '.join(now)}"


def _machines(entry: Entry) -> list[str]:
    """Each lane or machine that measured it, once."""
    return sorted({machine_of(place) for place in entry.where if place is not None})
