"""The gate's own proof: equal arms are not told apart, unequal ones are, and intervals cover.

The fast half resamples recorded pairs (`data/pairs.json`: both arms of rounds of real runs) and draws
autocorrelated noise, where independent noise would prove the interval by construction. The nightly half pairs
the pocket models on the embedded engine, one arm slowed inside the backend.

    python tests/test_gate_proof.py results/<run> …      records data/pairs.json anew from runs
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from math import exp, log
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
import pytest

from reports.claims import Claim
from reports.records import Metric, Record, Round
from reports.stats import Mean, log_ratio
from reports.verdicts import Stored, judge

PAIRS = Path(__file__).parent / "data" / "pairs.json"
METRICS = ("total_s", "task_s", "analysis_s", "code_s", "summary_s")
REPEATS, ENOUGH = 20, 18
MIN_ROUNDS = 10
"""Recorded series shorter than this are no population to draw from."""

Draw = Callable[[np.random.Generator, int], list[float]]
"""log(treatment / control) of n pairs of two equal arms, in round order, CT first."""


class Series(NamedTuple):
    """One metric of one recorded variant: (order, treatment, control) per round."""

    variant: str
    metric: str
    rounds: list[tuple[str, float, float]]

    @property
    def logs(self) -> dict[str, list[float]]:
        """order → log ratios about the series' own mean, so that its arms are equal on average."""
        by_order = {order: [log(t / c) for o, t, c in self.rounds if o == order] for order in ("CT", "TC")}
        mean = fmean(fmean(logs) for logs in by_order.values())
        return {order: [v - mean for v in logs] for order, logs in by_order.items()}


def recorded() -> list[Series]:
    """The recorded series, or none where the file is not there."""
    if not PAIRS.exists():
        return []
    data = json.loads(PAIRS.read_text())
    return [Series(s["variant"], s["metric"], [(o, t, c) for o, t, c in s["rounds"]]) for s in data["series"]]


def record_pairs(runs: Sequence[Path], target: Path = PAIRS) -> int:
    """Write the pairs of every complete paired record of some runs; the number of series written."""
    series = []
    for run in runs:
        for line in (run / "journal.jsonl").read_text().splitlines():
            data = json.loads(line).get("extra_info", {}).get("assay")
            if data and data["complete"] and data["control"]:
                series += list(_series_of(Record.from_json(data)))
    lines = ",\n".join(json.dumps(s._asdict()) for s in series)
    what = "both arms of paired rounds of real runs: variant, metric, [order, treatment, control] in seconds"
    target.write_text(f'{{"what": {json.dumps(what)}, "series": [\n{lines}\n]}}\n')
    return len(series)


def _series_of(record: Record) -> Iterator[Series]:
    for metric in METRICS:
        rounds = [
            (r.order, t, c)
            for r in record.rounds
            if r.treatment is not None and r.control is not None
            if (t := r.treatment.get(metric)) and (c := r.control.get(metric))
        ]
        if len(rounds) >= MIN_ROUNDS:
            yield Series(record.variant, metric, rounds)


def orders(n: int) -> list[str]:
    return ["TC" if i % 2 else "CT" for i in range(n)]


def resampled(series: Series) -> Draw:
    logs = series.logs

    def draw(rng: np.random.Generator, n: int) -> list[float]:
        return [float(rng.choice(logs[order])) for order in orders(n)]

    return draw


def autocorrelated(rho: float, spread: float = 0.05, drift: float = 0.0, second: float = 0.0) -> Draw:
    """AR(1) noise from one arm to the next, a drift over the run, and a cost of going second."""

    def draw(rng: np.random.Generator, n: int) -> list[float]:
        level, noise = float(rng.normal()), []
        for _ in range(2 * n):
            level = rho * level + (1 - rho**2) ** 0.5 * float(rng.normal())
            noise.append(spread * level)
        times = [e + drift * i / (2 * n) + second * (i % 2) for i, e in enumerate(noise)]
        first_minus_second = [times[2 * i] - times[2 * i + 1] for i in range(n)]
        return [d if order == "TC" else -d for d, order in zip(first_minus_second, orders(n), strict=True)]

    return draw


NOISES: dict[str, Draw] = {
    "independent": autocorrelated(0.0),
    "autocorrelated 0.3": autocorrelated(0.3),
    "autocorrelated 0.5": autocorrelated(0.5),
    "autocorrelated 0.9": autocorrelated(0.9),
    "drift": autocorrelated(0.3, drift=0.2),
    "second is slower": autocorrelated(0.3, second=0.1),
}
RECORDED = {f"{s.variant} {s.metric}": resampled(s) for s in recorded()}
POPULATIONS = [
    *(pytest.param(draw, id=name) for name, draw in {**NOISES, **RECORDED}.items()),
    *(
        []
        if RECORDED
        else [
            pytest.param(None, id="recorded", marks=pytest.mark.skip(reason=f"no {PAIRS.name}: record a run"))
        ]
    ),
]


def mean_of(logs: Sequence[float]) -> Mean:
    found = log_ratio([(exp(v), 1.0) for v in logs], orders(len(logs)))
    assert isinstance(found, Mean)
    return found


def verdict_on(logs: Sequence[float], form: str) -> str:
    """The word on "the treatment is faster" (at_least) or "is slower" (at_most), as a run would give it."""
    rounds = [
        Round(order=o, treatment={"total_s": exp(v)}, control={"total_s": 1.0})
        for o, v in zip(orders(len(logs)), logs, strict=True)
    ]
    record = Record(
        experiment="gate",
        variant="same",
        control="baseline",
        backend="fake",
        profile="pocket",
        metrics={"total_s": Metric(unit="s", better="lower", what="wall-clock time")},
        rounds=rounds,
        complete=True,
    )
    claim = Claim(
        id="gate",
        version=1,
        source="",
        says="",
        form=form,
        metric="total_s",
        quantity="reduction",
        treatment="same",
        control="baseline",
        published=0.0,
        experiment="gate",
    )
    return judge(claim, [Stored("test_gate[same]", "passed", "", {"variant": "same"}, record)]).word


def is_a_difference(logs: Sequence[float]) -> bool:
    return "confirmed" in (verdict_on(logs, "at_least"), verdict_on(logs, "at_most"))


def spread_of(draw: Draw) -> float:
    """The paired spread: the standard deviation of log ratios within each order."""
    logs = draw(np.random.default_rng(0), 400)
    return fmean([stdev(logs[0::2]), stdev(logs[1::2])])


@pytest.mark.parametrize("draw", POPULATIONS)
@pytest.mark.parametrize("n", [5, 10, 20])
def test_equal_arms_are_not_confirmed_as_different_in_18_of_20_repeats(draw: Draw, n: int) -> None:
    rng = np.random.default_rng(n)
    quiet = [sum(not is_a_difference(draw(rng, n)) for _ in range(REPEATS)) for _ in range(5)]
    assert fmean(quiet) >= ENOUGH


@pytest.mark.parametrize("draw", POPULATIONS)
@pytest.mark.parametrize("n", [10, 20])
def test_a_slowdown_of_twice_the_paired_spread_is_found_in_18_of_20_repeats(draw: Draw, n: int) -> None:
    rng, slowdown = np.random.default_rng(n), 2 * spread_of(draw)
    found = sum(
        verdict_on([v + slowdown for v in draw(rng, n)], "at_most") == "confirmed" for _ in range(REPEATS)
    )
    assert found >= ENOUGH


@pytest.mark.parametrize("draw", POPULATIONS)
@pytest.mark.parametrize("n", [5, 10, 20])
def test_intervals_cover_93_to_97_percent(draw: Draw, n: int) -> None:
    rng, draws = np.random.default_rng(n), 4000
    bounds = [mean_of(draw(rng, n)).bounds() for _ in range(draws)]
    coverage = sum(low <= 0 <= high for low, high in bounds) / draws
    assert 0.93 <= coverage <= 0.97


def test_recorded_pairs_are_read_back_as_they_were_measured(tmp_path: Path) -> None:
    rounds = [
        Round(order=o, treatment={"total_s": 1.0 + i}, control={"total_s": 2.0})
        for i, o in enumerate(orders(12))
    ]
    record = Record(
        experiment="cascade",
        variant="same",
        control="baseline",
        backend="llama.cpp",
        profile="pocket",
        rounds=rounds,
        complete=True,
    )
    (tmp_path / "journal.jsonl").write_text(
        json.dumps({"extra_info": {"assay": record.to_json()}}) + "\n{}\n"
    )
    assert record_pairs([tmp_path], tmp_path / "pairs.json") == 1
    (series,) = json.loads((tmp_path / "pairs.json").read_text())["series"]
    assert (series["variant"], series["rounds"][1]) == ("same", ["TC", 2.0, 2.0])


# on the embedded engine


class RealPairs:
    """Pairs of the pocket baseline with itself, the treatment slowed by a share of each answer's time."""

    def __init__(self, workload: Any, pool: Any, runner: Any, tasks: int = 2) -> None:
        self.subset, self.pool, self.runner = workload.subset(tasks), pool, runner
        self.stages = [stage.name for stage in workload.stages]

    def measure(self, n: int, slowdown: float = 0.0) -> list[float]:
        """log(treatment / control) of n pairs, AB BA, after one pair that is dropped."""
        arms = {"T": self._arm(slowdown), "C": self._arm(0.0)}
        logs = []
        for order in ["CT", *orders(n)]:
            seconds = {name: self._time(arms[name]) for name in order}
            logs.append(log(seconds["T"] / seconds["C"]))
        return logs[1:]

    def _arm(self, slowdown: float) -> Any:
        from fixtures.workflows import WorkflowArm
        from harness.routers import LARGE, FixedRouter

        router = FixedRouter(name="baseline", roles=dict.fromkeys(self.stages, LARGE))
        return WorkflowArm("same", router, (LARGE,), self.subset, self.pool, self.runner, slowdown=slowdown)

    def _time(self, arm: Any) -> float:
        arm.prepare()
        try:
            measured = arm.run()
        finally:
            arm.clean_up()
        assert not measured.failures
        return float(measured.values["total_s"])


@pytest.fixture
def real_pairs(workload: Any, pool: Any, runner: Any) -> RealPairs:
    return RealPairs(workload, pool, runner)


@pytest.mark.nightly
def test_equal_arms_on_the_real_engine_are_not_told_apart(real_pairs: RealPairs) -> None:
    quiet = sum(not is_a_difference(real_pairs.measure(10)) for _ in range(REPEATS))
    assert quiet >= ENOUGH


@pytest.mark.nightly
def test_a_slowdown_inside_the_real_backend_is_found(real_pairs: RealPairs) -> None:
    logs = real_pairs.measure(20)
    slowdown = exp(2 * fmean([stdev(logs[0::2]), stdev(logs[1::2])])) - 1
    found = sum(
        verdict_on(real_pairs.measure(10, slowdown), "at_most") == "confirmed" for _ in range(REPEATS)
    )
    assert found >= ENOUGH


if __name__ == "__main__":
    print(record_pairs([Path(run) for run in sys.argv[1:]]), "series written to", PAIRS)
