"""Whole runs drawn again from recorded ones: another session of the same code on the same machine.

Every record keeps its tests, tasks and counts. Its times are drawn anew about their recorded means, with the
spread that its own rounds showed: what a pair shares, and what sets its arms apart. The noise is that of real
rounds, standardised and pooled, so that its tails are those of a machine that others use, too. On top comes
the drift of a session, half of it shared by all tests and half of a test's own, equal in both arms.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from math import exp, log, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from reports.comparing.kinds import COUNT, TIME, kind_of
from reports.records import Record, Round, TaskPair
from reports.runs import Run

MIN_POOL = 10
"""Rounds from which a record's residuals show the tails of its noise."""


class Noise:
    """Standardised residuals of recorded rounds, drawn with a little smoothing."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.values = np.asarray([v for run in runs for record in run.records for v in _residuals(record)])

    def __call__(self, rng: np.random.Generator, n: int) -> list[float]:
        drawn = rng.choice(self.values, n) + 0.1 * rng.standard_normal(n)
        return [float(v) for v in drawn / sqrt(1.01)]


def again(run: Run, noise: Noise, rng: np.random.Generator, drift: float = 0.05, **slowed: float) -> Run:
    """Another session of a run.

    Arguments: `drift`, sd of the log of a session's level; `slowed`, variant → by how much its times grow.
    """
    shared = float(rng.normal()) * drift * sqrt(0.5)
    entries = []
    for entry in run.entries:
        record = entry.record
        if record is not None and record.evidence != "simulated":
            level = shared + float(rng.normal()) * drift * sqrt(0.5)
            record = redrawn(record, noise, rng, level, log(1 + slowed.get(record.variant, 0.0)))
        entries.append(replace(entry, record=record))
    return replace(run, entries=tuple(entries), verdicts=())


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


def redrawn(
    record: Record, noise: Noise, rng: np.random.Generator, level: float, slowdown: float, rounds: int = 0
) -> Record:
    """A record measured again, its session `level` slower and its treatment `slowdown` more, in logs."""
    n = rounds or len(record.rounds)
    arms: list[list[dict[str, Any] | None]] = [[], []]
    old = [record.rounds[i % len(record.rounds)] for i in range(n)] if record.rounds else []
    for side, arm in enumerate(("treatment", "control")):
        arms[side] = [None if getattr(r, arm) is None else dict(getattr(r, arm)) for r in old]
    for name, metric in record.metrics.items():
        if kind_of(metric) != COUNT:
            turn = (-1.0 if metric.better == "higher" else 1.0) if kind_of(metric) == TIME else 0.0
            _redraw(record, name, arms, noise, rng, turn * level, turn * slowdown)
    kept = [
        Round(order="TC" if i % 2 else "CT", treatment=t, control=c)
        for i, (t, c) in enumerate(zip(*arms, strict=True))
    ]
    return replace(record, rounds=kept, tasks=_graded_again(record, rng, level, slowdown))


def _redraw(
    record: Record,
    name: str,
    arms: list[list[dict[str, Any] | None]],
    noise: Noise,
    rng: np.random.Generator,
    level: float,
    slowdown: float,
) -> None:
    """Draw one metric of both arms anew, where it has a spread."""
    own, others = record.values(name), record.values(name, "control")
    n, is_log = len(arms[0]), min([*own, *others, 0.0 if not own else 1.0]) > 0
    if not own or (len(set(own)) == 1 and len(set(others)) <= 1 and len(own) > 1):
        return
    pairs = record.pairs(name)
    made = (lambda v: log(v)) if is_log else float
    apart = _spread([made(t) - made(c) for t, c in pairs])
    alone = _spread([made(v) for v in own])
    common = sqrt(max(alone**2 - apart**2 / 2, 0.0)) if pairs else 0.0
    together = [common * v for v in noise(rng, n)]
    for side, (values, more) in enumerate(((own, level + slowdown), (others, level))):
        if not values:
            continue
        mean = fmean(made(v) for v in values)
        parts = noise(rng, n)
        for i, arm in enumerate(arms[side]):
            if arm is not None and arm.get(name) is not None:
                scatter = together[i] + parts[i] * (apart / sqrt(2) if pairs else alone)
                drawn = mean + scatter + (more if is_log else 0.0)
                arm[name] = exp(drawn) if is_log else drawn


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
