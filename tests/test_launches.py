"""Where what is measured stays up for a session, the session is the observation."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import exp, log
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest

from reports.claims import Claim
from reports.decisions.evidence import by_request
from reports.intervals import tails
from reports.intervals.estimates import measure
from reports.intervals.launches import launches_of, log_ratio_of_sessions, mean_of_sessions, quantiles
from reports.merging import merge_records
from reports.records import Metric, Record, Round
from reports.runs import Run
from reports.stats import Interval, Mean, Unsupported, log_ratio
from reports.verdicts import Stored, Verdict, judge

METRICS = {
    "total_s": Metric(unit="s", better="lower", what="wall-clock time"),
    "ttft_s": Metric(unit="s", better="lower", what="time to the first token"),
    "sent_bytes": Metric(unit="B", better="lower", what="bytes sent"),
}
TRIALS, ROUNDS = 1000, 50
REFERENCE = Path(__file__).parents[1] / "reports" / "reference"


def session(seed: int, *, launch: str | None = "session", rounds: int = 6, ratio: float = 0.5) -> Record:
    """One session: a launch with an effect of 5 % of its own, and rounds that spread by 3 % within it."""
    noise = Random(seed)
    effect = noise.gauss(0, 0.05)
    pairs = [ratio * exp(effect + noise.gauss(0, 0.03)) for _ in range(rounds)]
    return Record(
        experiment="demo", variant="shared", control="alone", backend="sessions", profile="pocket",
        launch=launch, metrics=METRICS, complete=True,
        rounds=[
            Round(
                order="TC" if at % 2 else "CT",
                treatment={"total_s": value, "sent_bytes": 50.0},
                control={"total_s": 1.0, "sent_bytes": 100.0},
            )
            for at, value in enumerate(pairs)
        ],
        sweep=[
            {"name": "request", "arm": arm, "round": at, "agent": agent, "phase": "step", "ttft_s": time_s}
            for at, value in enumerate(pairs)
            for agent in range(20)
            for arm, time_s in (("treatment", value * exp(noise.gauss(0, 0.1))), ("control", 1.0))
        ],
    )  # fmt: skip


def sessions(num: int, **changes: Any) -> Record:
    """So many sessions as one record."""
    return merge_records([session(seed, **changes) for seed in range(num)])


def claim(**changes: Any) -> Claim:
    """ "Twice as fast", or what the changes make of it."""
    given: dict[str, Any] = {
        "id": "faster", "version": 1, "source": "here", "says": "it is faster", "form": "at_least",
        "metric": "total_s", "treatment": "shared", "control": "alone", "experiment": "demo",
        "published": 1.5,
    }  # fmt: skip
    return Claim(**{**given, **changes})


def verdict(record: Record, **changes: Any) -> Verdict:
    """What is said of the claim."""
    return judge(claim(**changes), [Stored("n", "passed", "", {"variant": record.variant}, record)])


@cache
def recorded_residuals() -> tuple[float, ...]:
    """How the log ratios of real rounds lie about the mean of their variant."""
    out: list[float] = []
    for record in Run.read(REFERENCE / "pocket").records:
        logs = [log(treatment / control) for treatment, control in record.pairs("total_s")]
        out += [value - fmean(logs) for value in logs] if record.experiment == "cascade" else []
    return tuple(out)


@pytest.mark.parametrize("launches", [3, 5, 10])
def test_an_interval_over_sessions_covers_and_one_over_their_rounds_does_not(launches: int) -> None:
    """With launch effects of 5 % sessions cover 95 % of the time from three on; pooled rounds fall far short.

    The noise of rounds is drawn from recorded pairs. The bounds are four standard errors of a share of 0.95
    over so many trials.
    """
    noise, residuals = Random(launches), recorded_residuals()
    held = pooled = 0
    for _ in range(TRIALS):
        effects = [noise.gauss(0, 0.05) for _ in range(launches)]
        pairs = [(exp(e + noise.choice(residuals)), 1.0) for e in effects for _ in range(ROUNDS)]
        orders = ["CT", "TC"] * (ROUNDS * launches // 2)
        of_sessions = [at for at in range(launches) for _ in range(ROUNDS)]
        for found, is_pooled in (
            (log_ratio_of_sessions(pairs, orders, of_sessions), False),
            (log_ratio(pairs, orders), True),
        ):
            assert isinstance(found, Mean)
            low, high = found.bounds()
            pooled += is_pooled and low <= 0 <= high
            held += not is_pooled and low <= 0 <= high
    assert 0.922 <= held / TRIALS <= 0.978
    assert pooled / TRIALS < 0.75


@pytest.mark.parametrize(
    ("num", "launch", "expected"),
    [
        (1, "session", ("confirmed", 6, 1)),
        (2, "session", ("inconclusive", None, 2)),
        (3, "session", ("confirmed", 3, 3)),
        (2, "round", ("confirmed", 12, 12)),
        (1, "round", ("confirmed", 6, 6)),
        (2, None, ("inconclusive", None, None)),
        (1, None, ("confirmed", 6, None)),
    ],
)
def test_a_verdict_tells_its_launches(
    num: int, launch: str | None, expected: tuple[str, int | None, int | None]
) -> None:
    """One session is judged by its rounds and says that it is one launch; two are too few to judge by."""
    found = verdict(sessions(num, launch=launch) if num > 1 else session(0, launch=launch))
    assert (found.verdict, found.n, found.launches) == expected
    assert found.launch == launch
    if found.verdict == "inconclusive":
        assert (found.reason, found.more) == ("2 of at least 3 launches", 1)


def test_what_is_open_needs_more_sessions_and_not_more_rounds() -> None:
    """The number that would settle a claim counts sessions."""
    found = verdict(sessions(3), published=1.95)
    assert (found.verdict, found.n) == ("inconclusive", 3)
    assert found.reason.endswith("more sessions")


def test_a_count_that_is_the_same_in_every_round_needs_no_third_launch() -> None:
    """Bytes have no launch effect, and are exact."""
    found = verdict(sessions(2), metric="sent_bytes", published=2.0)
    assert (found.verdict, found.estimate, found.method) == ("confirmed", 2.0, "exact, no spread")
    value = verdict(sessions(2), metric="sent_bytes", quantity="value", form="at_most", published=50.0)
    assert value.verdict == "confirmed"


def test_what_every_session_gave_alike_is_judged_by_one_of_them() -> None:
    """Bytes that differ from trace to trace and not from session to session keep the spread of the traces."""
    parts = [session(at) for at in range(3)]
    for part in parts:
        part.rounds = [
            replace(r, treatment={**(r.treatment or {}), "sent_bytes": 40.0 + at})
            for at, r in enumerate(part.rounds)
        ]
        for point in part.sweep:
            point |= {"seed": point["round"], "sent_bytes": 40.0 + point["round"] + point["agent"] / 20}
    for over in ("rounds", "requests"):
        row = {
            "metric": "sent_bytes",
            "over": over,
            "quantity": "value",
            "form": "at_most",
        }
        alone = verdict(parts[0], **row, published=50.0)
        merged = verdict(merge_records(parts), **row, published=50.0)
        assert (merged.verdict, merged.interval, merged.n) == ("confirmed", alone.interval, alone.n)
        assert (alone.launches, merged.launches) == (1, 3)


def test_a_sessions_mean_weighs_both_orders_alike() -> None:
    """An effect of the order cancels in every session, also where one order ran more often."""
    effect = {"CT": 0.2, "TC": -0.2}
    orders = ["CT", "TC", "CT"] * 3
    pairs = [(exp(effect[order] + 1e-6 * at), 1.0) for at, order in enumerate(orders)]
    found = log_ratio_of_sessions(pairs, orders, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert isinstance(found, Mean)
    assert abs(found.value) < 1e-4
    assert found.n == 3


@pytest.mark.parametrize("quantity", ["ratio", "difference", "reduction", "value"])
def test_every_quantity_over_rounds_counts_sessions(quantity: str) -> None:
    """Ratios, differences, reductions and own values all have as many observations as sessions."""
    row = claim(quantity=quantity, form="at_most", published=9.0)
    found = measure(row, sessions(4))
    assert isinstance(found, Interval)
    assert (found.n, "sessions" in found.method) == (4, True)
    assert isinstance(measure(row, sessions(2)), Unsupported)


def test_requests_of_merged_sessions_count_by_session() -> None:
    """A mean and a quantile over requests have as many observations as sessions; two sessions are too few."""
    for changes in (
        {"quantity": "value", "form": "at_most", "published": 0.7},
        {"quantity": "ratio"},
        {"quantity": "value", "form": "at_most", "published": 0.9, "quantile": 0.9},
        {"quantity": "ratio", "published": 1.2, "quantile": 0.9},
    ):
        row = {"metric": "ttft_s", "over": "requests", **changes}
        found = verdict(sessions(4), **row)
        assert (found.verdict, found.n, found.launches) == ("confirmed", 4, 4), changes
        assert verdict(sessions(2), **row).reason == "2 of at least 3 launches"


def test_a_quantile_over_sessions_is_the_mean_of_theirs() -> None:
    """Each session's 90th percentile by nearest rank, of the arms' logarithms the difference."""
    record = by_request([Stored("n", "passed", "", {}, sessions(4))], by_round=True)[0].record
    assert record is not None
    row = claim(metric="ttft_s", over="tasks", quantile=0.9)
    found = tails.measure(row, record)
    assert isinstance(found, Interval)
    values = [task.treatment["ttft_s"] or 0.0 for task in record.tasks]
    of_sessions = [int(task.id.partition("@")[2] or 0) for task in record.tasks]
    each = quantiles(values, of_sessions, 0.9)
    assert not isinstance(each, Unsupported)
    assert log(found.estimate) == pytest.approx(-sum(map(log, each.values())) / 4)


def test_two_variants_of_merged_sessions_are_paired_by_round_within_their_sessions() -> None:
    """Records with unlike numbers of rounds still meet request by request."""
    few = merge_records([session(at, rounds=2) for at in range(3)])
    many = replace(merge_records([session(9 + at, rounds=4) for at in range(3)]), variant="other")
    ids = [
        {task.id for task in found.record.tasks}
        for found in by_request([Stored("n", "passed", "", {}, r) for r in (few, many)])
        if found.record is not None
    ]
    assert ids[0] < ids[1]


def test_a_trace_that_is_replayed_again_is_the_same_trace() -> None:
    """Of rounds that each launched, those of one seed are one unit however many sessions replayed it."""
    parts = [session(at, launch="round", rounds=4) for at in range(2)]
    for part in parts:
        for point in part.sweep:
            point["seed"] = 7 + point["round"]
    (found,) = by_request([Stored("n", "passed", "", {}, merge_records(parts))])
    assert found.record is not None
    assert tails.rounds_of(found.record) == ["7", "8", "9", "10"]
    assert len(found.record.tasks) == 2 * 4 * 20
    (once,) = by_request([Stored("n", "passed", "", {}, parts[0])])
    assert once.record is not None
    assert {t.id for t in once.record.tasks} < {t.id for t in found.record.tasks}


def test_rounds_that_each_launched_stay_observations_with_their_order() -> None:
    """Merging what is relaunched per round adds rounds, and keeps the order as a covariate."""
    found = measure(claim(), sessions(3, launch="round"))
    assert isinstance(found, Interval)
    assert (found.n, found.method) == (18, "t on log ratios of AB BA pairs")


def test_the_rarest_launch_counts_and_only_over_rounds_and_requests() -> None:
    """A claim over two records has the fewest launches of those that stay up."""
    one, three = session(0), sessions(3)
    assert launches_of("rounds", [one, three]) == 1
    assert launches_of("requests", [three, session(1, launch="round")]) == 3
    assert launches_of("tasks", [three]) is None
    assert launches_of("rounds", [three, session(1, launch=None)]) == 3


def test_a_value_that_has_no_logarithm_is_unsupported_and_not_nan() -> None:
    """As everywhere, what cannot be computed says so."""
    assert isinstance(log_ratio_of_sessions([(0.0, 1.0)] * 6, ["CT"] * 6, [0, 0, 1, 1, 2, 2]), Unsupported)
    assert isinstance(mean_of_sessions([], [], "rounds"), Unsupported)
