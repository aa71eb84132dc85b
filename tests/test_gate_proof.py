"""The gate's own proof: equal arms are not told apart, unequal ones are, and intervals cover.

Noise comes from recorded pairs, resampled (`data/pairs.json`: real rounds of the baseline beside itself), and
from autocorrelated draws; independent ones alone would prove the interval by construction. The proof on a
running engine is in `test_gate_real.py`.

    pytest bench/test_cascade.py -k "same and not load" --rounds 60
    python -m tests.test_gate_proof results/<run> …      records data/pairs.json anew
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from math import exp, log
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
import pytest

from reports.claims import Claim
from reports.decisions.forms import decided
from reports.records import Metric, Record, Round
from reports.stats import Mean, log_ratio
from reports.verdicts import Stored, judge

PAIRS = Path(__file__).parent / "data" / "pairs.json"
EQUAL_ARMS = ("same",)
METRICS = ("total_s", "analysis_s", "code_s", "summary_s")
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
    def logs(self) -> list[float]:
        """log(second / first) of every pair. The arms are equal: either could have been the treatment."""
        return [log(t / c) if order == "CT" else log(c / t) for order, t, c in self.rounds]


def recorded() -> list[Series]:
    """The recorded series, or none where the file is not there."""
    if not PAIRS.exists():
        return []
    data = json.loads(PAIRS.read_text())
    return [Series(s["variant"], s["metric"], [(o, t, c) for o, t, c in s["rounds"]]) for s in data["series"]]


def record_pairs(runs: Sequence[Path], target: Path = PAIRS) -> int:
    """Write the pairs of equal arms of some runs; the number of series written."""
    series = []
    for run in runs:
        for line in (run / "journal.jsonl").read_text().splitlines():
            data = json.loads(line).get("extra_info", {}).get("assay")
            if data and data["complete"] and data["variant"] in EQUAL_ARMS:
                series += list(_series_of(Record.from_json(data)))
    lines = ",\n".join(json.dumps(s._asdict()) for s in series)
    what = (
        "paired rounds of the baseline beside itself: variant, metric, [order, treatment, control] in seconds"
    )
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
    """Pairs drawn with replacement; whether the second to run is the treatment is the order's choice."""
    logs = series.logs

    def draw(rng: np.random.Generator, n: int) -> list[float]:
        return [float(rng.choice(logs)) * (1 if order == "CT" else -1) for order in orders(n)]

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


def claimed(logs: Sequence[float], form: str) -> tuple[Claim, Record]:
    """The claim "the treatment is faster" (at_least) or "is slower" (at_most), and what a run recorded."""
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
    return claim, record


def verdict_on(logs: Sequence[float], form: str) -> str:
    """The word on it, as a run would give it."""
    claim, record = claimed(logs, form)
    return judge(claim, [Stored("test_gate[same]", "passed", "", {"variant": "same"}, record)]).word


def is_a_difference(logs: Sequence[float]) -> bool:
    """By the rule alone, which `judge` follows: a p value beside each word would take 20 times as long."""
    words = [decided(*claimed(logs, form), ())[1].verdict for form in ("at_least", "at_most")]
    return "confirmed" in words


@pytest.mark.parametrize("draw", NOISES.values(), ids=NOISES)
def test_the_rule_alone_says_what_a_run_says(draw: Draw) -> None:
    rng = np.random.default_rng(5)
    for shift in (0.0, 0.04, -0.1):
        logs = [v + shift for v in draw(rng, 10)]
        words = {verdict_on(logs, "at_least"), verdict_on(logs, "at_most")}
        assert is_a_difference(logs) == ("confirmed" in words)


def spread_of(draw: Draw) -> float:
    """The paired spread: the standard deviation of log ratios within each order."""
    logs = draw(np.random.default_rng(0), 400)
    return fmean([stdev(logs[0::2]), stdev(logs[1::2])])


@pytest.mark.parametrize("draw", POPULATIONS)
@pytest.mark.parametrize("n", [5, 10, 20])
def test_equal_arms_are_not_confirmed_as_different_in_18_of_20_repeats(draw: Draw, n: int) -> None:
    rng = np.random.default_rng(n)
    quiet = [sum(not is_a_difference(draw(rng, n)) for _ in range(REPEATS)) for _ in range(25)]
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


if __name__ == "__main__":
    print(record_pairs([Path(run) for run in sys.argv[1:]]), "series written to", PAIRS)
