"""Whole runs drawn again from recorded ones: another session of the same code on the same machine.

Every record keeps its tests, tasks and counts. Its times are drawn anew about their recorded means, with the
spread that its own rounds showed: what a pair shares, and what sets its arms apart. The noise is that of real
rounds, standardised and pooled, so that its tails are those of a machine that others use, too. On top comes
the drift of a session, half of it shared by all tests and half of a test's own, equal in both arms.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import exp, log, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reports.comparing.kinds import COUNT, TIME, kind_of
from reports.records import Record, Round, TaskPair
from reports.runs import Run
from reports.stats import Mean, log_ratio

MIN_POOL = 10
"""Rounds from which a record's residuals show the tails of its noise."""


REFERENCE = Path(__file__).resolve().parents[1] / "reports" / "reference"


def recorded(*names: str, experiments: Sequence[str] = (), is_whole: bool = False) -> Run:
    """The committed runs of these names as one run, of all experiments or of some.

    Arguments: `is_whole`, with tasks and curves, which take most of the time and are the same again.
    """
    runs = [Run.read(REFERENCE / name, judged=False) for name in names]
    entries = [e for run in runs for e in run.entries if not experiments or e.experiment in experiments]
    if not is_whole:
        entries = [replace(e, record=e.record and replace(e.record, tasks=[], sweep=[])) for e in entries]
    return replace(runs[0], entries=tuple(entries))


class Noise:
    """Standardised residuals of recorded rounds, drawn with a little smoothing."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.values = np.asarray([v for run in runs for record in run.records for v in _residuals(record)])

    def __call__(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """n of them, of variance 1 or so."""
        drawn: NDArray[np.float64] = self.values[rng.integers(len(self.values), size=n)]
        return (drawn + 0.1 * rng.standard_normal(n)) / sqrt(1.01)


class Model(NamedTuple):
    """How one metric of a record is drawn: its means, and how rounds and arms scatter about them."""

    metric: str
    kind: str
    is_log: bool
    means: tuple[float | None, float | None]
    together: float
    """sd of what both arms of a round share."""
    apart: float
    """sd of what either arm has alone."""
    turn: float
    """What a slowdown does to it: 1 for times, −1 for rates, 0 for others."""


class Sampler:
    """Draws further sessions of a run."""

    def __init__(self, run: Run, noise: Noise) -> None:
        self.run, self.noise = run, noise
        self.models = {entry.nodeid: _models(entry.record) for entry in run.entries if entry.record}

    def __call__(
        self,
        rng: np.random.Generator,
        *,
        drift: float = 0.05,
        rounds: Mapping[str, int] | None = None,
        slowed: Mapping[str, float] | None = None,
    ) -> Run:
        """Another session.

        Arguments: `drift`, sd of the log of a session's level; `rounds`, variant → how many, instead of its
        own; `slowed`, variant → by how much its times grow.
        """
        shared = float(rng.normal()) * drift * sqrt(0.5)
        entries = []
        for entry in self.run.entries:
            record = entry.record
            if record is not None and record.evidence != "simulated":
                level = shared + float(rng.normal()) * drift * sqrt(0.5)
                slowdown = log(1 + (slowed or {}).get(record.variant, 0.0))
                n = (rounds or {}).get(record.variant, len(record.rounds))
                record = self.redrawn(entry.nodeid, record, rng, level, slowdown, n)
            entries.append(replace(entry, record=record))
        return replace(self.run, entries=tuple(entries), verdicts=())

    def redrawn(
        self, test: str, record: Record, rng: np.random.Generator, level: float, slowdown: float, n: int
    ) -> Record:
        """A record measured again, its session `level` slower and its treatment `slowdown` more, in logs."""
        old = [record.rounds[i % len(record.rounds)] for i in range(n)]
        arms = [
            [None if (values := getattr(r, arm)) is None else dict(values) for r in old]
            for arm in ("treatment", "control")
        ]
        models = self.models[test]
        drawn = self.noise(rng, 3 * n * len(models)).reshape(len(models), 3, n)
        for model, noise in zip(models, drawn, strict=True):
            _redraw(model, arms, noise, level, slowdown)
        kept = [
            Round(order="TC" if i % 2 else "CT", treatment=t, control=c)
            for i, (t, c) in enumerate(zip(*arms, strict=True))
        ]
        return replace(record, rounds=kept, tasks=_graded_again(record, rng, level, slowdown))


def write(run: Run, folder: Path) -> Path:
    """A run's folder with its records as they now are, judged by the claims of the recorded run."""
    folder.mkdir(parents=True)
    shutil.copytree(run.path / "claims", folder / "claims")
    shutil.copy(run.path / "run.json", folder / "run.json")
    lines = []
    for entry in run.entries:
        told = {
            "nodeid": entry.nodeid,
            "outcome": entry.outcome,
            "why": entry.why,
            "params": dict(entry.params),
        }
        record = entry.record.to_json() if entry.record else None
        extra = {"assay": record} if record else {}
        lines.append(json.dumps({**told, "experiment": entry.experiment, "extra_info": extra}))
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def _models(record: Record) -> list[Model]:
    """Everything in the rounds that another session would not repeat."""
    out = []
    for name, metric in record.metrics.items():
        own, others = record.values(name), record.values(name, "control")
        is_constant = len(set(own)) == 1 and len(set(others)) <= 1 and len(own) > 1
        if kind_of(metric) == COUNT or not own or is_constant:
            continue
        pairs, is_log = record.pairs(name), min([*own, *others]) > 0
        made: Callable[[float], float] = log if is_log else float
        apart = _apart(record, name, is_log=is_log)
        alone = _spread([made(v) for v in own])
        means = tuple(fmean(map(made, v)) if v else None for v in (own, others))
        out.append(
            Model(
                metric=name,
                kind=kind_of(metric),
                is_log=is_log,
                means=(means[0], means[1]),
                together=sqrt(max(alone**2 - apart**2 / 2, 0.0)) if pairs else 0.0,
                apart=apart / sqrt(2) if pairs else alone,
                turn=0.0 if kind_of(metric) != TIME else 1.0 if metric.better == "lower" else -1.0,
            )
        )
    return out


def _redraw(
    model: Model,
    arms: list[list[dict[str, Any] | None]],
    noise: NDArray[np.float64],
    level: float,
    slowdown: float,
) -> None:
    """Draw one metric of both arms anew."""
    for side, mean in enumerate(model.means):
        if mean is None:
            continue
        more = model.turn * (level + (0.0 if side else slowdown)) if model.is_log else 0.0
        values = mean + more + model.together * noise[2] + model.apart * noise[side]
        drawn = np.exp(values).tolist() if model.is_log else values.tolist()
        for arm, value in zip(arms[side], drawn, strict=True):
            if arm is not None and arm.get(model.metric) is not None:
                arm[model.metric] = value


def _graded_again(record: Record, rng: np.random.Generator, level: float, slowdown: float) -> list[TaskPair]:
    """The same grades, and other times: a clock gives no task the same seconds twice."""
    timed = [name for name, metric in record.metrics.items() if kind_of(metric) == TIME]
    out = []
    for task in record.tasks:
        if not any(task.treatment.get(name) for name in timed):
            out.append(task)
            continue
        values = dict(task.treatment)
        for name in timed:
            if value := values.get(name):
                values[name] = value * exp(level + slowdown + 0.05 * float(rng.normal()))
        out.append(replace(task, treatment=values))
    return out


def _apart(record: Record, metric: str, *, is_log: bool) -> float:
    """sd of what sets the arms of a pair apart, its order aside."""
    pairs = record.pairs(metric)
    if not is_log:
        return _spread([t - c for t, c in pairs])
    rounds = [r for r in record.rounds if r.treatment and r.control]
    found = log_ratio(pairs, [r.order for r in rounds] if len(rounds) == len(pairs) else None)
    return found.se * sqrt(found.n) if isinstance(found, Mean) else 0.0


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _residuals(record: Record) -> list[float]:
    out = []
    for name, metric in record.metrics.items():
        pairs = record.pairs(name)
        if kind_of(metric) == TIME and len(pairs) >= MIN_POOL and all(v > 0 for pair in pairs for v in pair):
            logs = [log(t / c) for t, c in pairs]
            spread = stdev(logs)
            out += [(v - fmean(logs)) / spread for v in logs] if spread else []
    return out
