"""Comparisons find what changed, and keep quiet when nothing did.

The sessions that are compared are drawn again from the committed reference runs (`resampled_runs`): the
spread of each metric is the recorded one, the noise is that of real rounds, and every session drifts by 5 %.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from reports.compare import Comparison, Terms, compare
from reports.comparing.changes import shifted
from reports.comparing.kinds import COUNT, OTHER, SHARE, TIME, kind_of_unit
from reports.comparing.rows import Row
from reports.comparing.spreads import p_values
from reports.records import Check, Failure, Record, TaskPair
from reports.stats import Mean
from tests.compared import row, run_of, timed
from tests.resampled_runs import Noise, Sampler, recorded
from tests.synthetic_runs import METRICS, record

PAIRS, QUIET = 100, 95
ALARMS = ("improved", "regressed", "changed")


@pytest.fixture(scope="module")
def noise() -> Noise:
    """Residuals of the runs with the longest series."""
    return Noise([recorded("pocket-switching")])


def alarms(found: Comparison) -> list[Row]:
    return [r for r in found.rows if r.word in ALARMS]


# no change


def test_no_change_gives_no_alarm_in_95_of_100_pairs_of_runs(noise: Noise) -> None:
    """Each session beside the one before: every metric of two experiments, 5 % drift."""
    draw = Sampler(recorded("pocket", experiments=["agents", "decode"]), noise)
    assert quiet_pairs(draw, PAIRS) >= QUIET


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["pocket", "pocket-strategies", "pocket-switching"])
def test_no_change_gives_no_alarm_in_95_of_100_pairs_of_whole_runs(noise: Noise, name: str) -> None:
    """The same with every test, task and curve of the committed runs."""
    assert quiet_pairs(Sampler(recorded(name, is_whole=True), noise), PAIRS) >= QUIET


def test_a_short_run_beside_a_long_one_gives_no_more_alarms_than_allowed() -> None:
    """Far out in the tails, where Holm looks: 3 rounds and 12, one spread."""
    rng, num, level = np.random.default_rng(1), 20_000, 1e-3
    short, long = rng.standard_normal((num, 3)), rng.standard_normal((num, 12))
    changes = [shifted(_mean(a), _mean(b)) for a, b in zip(short, long, strict=True)]
    alarms = sum(p <= level for p in p_values(changes, [0.0] * num))
    assert alarms <= 1.5 * level * num


def _mean(values: NDArray[np.float64]) -> Mean:
    n = len(values)
    return Mean(float(values.mean()), float(values.std(ddof=1)) / n**0.5, n - 1, n, "t")


def test_a_simulated_control_is_compared_exactly() -> None:
    """It has no session whose drift could hide a change by 4 %."""
    values = [1.0, 1.1, 1.2, 1.3]
    runs = [
        run_of(replace(timed(values, [v * more for v in values]), evidence="simulated"))
        for more in (1.0, 1.04)
    ]
    own = row(compare(*runs), "total_s", "baseline", "controls")
    assert (own.word, own.scale, own.interval) == ("regressed", "exact", (own.change, own.change))


def quiet_pairs(draw: Sampler, num: int, drift: float = 0.05) -> int:
    rng = np.random.default_rng(20)
    before, quiet = draw(rng, drift=drift), 0
    for _ in range(num):
        after = draw(rng, drift=drift)
        quiet += not alarms(compare(before, after))
        before = after
    return quiet


def test_the_same_run_is_equal_in_everything() -> None:
    run = recorded("pocket", is_whole=True)
    words = Counter(r.word for r in compare(run, run).metrics)
    assert set(words) == {"equal"}


# a change


def test_an_injected_regression_is_named_with_its_interval(noise: Noise) -> None:
    """10 % slower: every such row is named, nothing else is, and its interval holds the 10 %."""
    draw = Sampler(recorded("pocket-switching"), noise)
    rng = np.random.default_rng(3)
    found = compare(draw(rng), draw(rng, slowed={"fresh": 0.1}))
    named = alarms(found)
    assert {r.word for r in named} == {"regressed"}
    assert all("[fresh]" in r.name for r in named)
    total = row(found, "total_mean_s", "[fresh]")
    assert total.word == "regressed"
    assert total.interval is not None
    assert 0.05 < total.interval[0] < 0.1 < total.interval[1] < 0.15


def test_an_improvement_of_a_rate_is_one() -> None:
    """More per second is better, less time is."""
    rng = np.random.default_rng(1)
    before, after = (list(np.exp(level + 0.01 * rng.standard_normal(10))) for level in (0.0, 0.3))
    other = [1.0 + 0.001 * i for i in range(10)]
    slower = compare(run_of(timed(before, other)), run_of(timed(after, other)))
    assert row(slower, "total_s").word == "regressed"
    faster = compare(run_of(timed(after, other)), run_of(timed(before, other)))
    assert row(faster, "total_s").word == "improved"


def test_what_changed_too_little_to_matter_is_equivalent() -> None:
    """2 % at a spread of 1 % is surely a change, and surely within 5 %."""
    rng = np.random.default_rng(1)
    values = [list(np.exp(level + 0.01 * rng.standard_normal(10))) for level in (0.0, 0.02)]
    runs = [run_of(timed(v, [1.0 + 0.001 * i for i in range(10)])) for v in values]
    assert row(compare(*runs), "total_s").word == "equivalent"
    assert row(compare(*runs, Terms(margin=0.005)), "total_s").word == "regressed"


def test_a_drift_that_both_arms_share_cancels() -> None:
    """A machine that is 30 % slower changes own numbers, and no ratio."""
    rng = np.random.default_rng(1)
    level = np.exp(0.02 * rng.standard_normal(12))
    runs = [
        run_of(timed(list(speed * level), list(speed * np.exp(0.002 * rng.standard_normal(12)) * level)))
        for speed in (1.0, 1.3)
    ]
    found = compare(*runs)
    assert row(found, "total_s").word == "equivalent"
    own = row(found, "total_s", "baseline", "controls")
    assert own.change == pytest.approx(0.3, abs=0.02)
    assert own.word == "regressed"


def test_sessions_measure_the_drift_of_controls_too() -> None:
    """Three sessions of each run, 12 % slower in both arms: the ratios say nothing, the control says so."""
    rng = np.random.default_rng(1)

    def sessions(speed: float) -> Record:
        levels = [speed * float(np.exp(0.005 * rng.standard_normal())) for _ in range(3)]
        arms = [
            [lv * float(np.exp(0.005 * rng.standard_normal())) for lv in levels for _ in range(6)]
            for _ in "tc"
        ]
        return timed(arms[0], arms[1], session=[i // 6 for i in range(18)])

    found = compare(run_of(sessions(1.0)), run_of(sessions(1.12)))
    assert row(found, "total_s").word == "equivalent"
    own = row(found, "total_s", "baseline", "controls")
    assert (own.word, own.drift) == ("regressed", 0.0)


@pytest.mark.parametrize(("change", "word"), [(0.12, "inconclusive"), (0.5, "regressed")])
def test_own_numbers_of_one_session_each_hold_its_drift(change: float, word: str) -> None:
    """Below 15 % or so one session each cannot tell, however many rounds it has."""
    rng = np.random.default_rng(1)
    runs = [run_of(timed(list(speed * np.exp(0.01 * rng.standard_normal(30))))) for speed in (1, 1 + change)]
    found = row(compare(*runs), "total_s")
    assert found.word == word
    assert found.drift == pytest.approx(0.05 * 2**0.5)
    assert row(compare(*runs, Terms(drift=0.0)), "total_s").word == "regressed"


def test_several_sessions_measure_the_drift() -> None:
    """From three sessions of each run on, their own spread decides."""
    rng = np.random.default_rng(2)

    def sessions(speed: float) -> Record:
        levels = [speed * float(np.exp(0.01 * rng.standard_normal())) for _ in range(6)]
        values = [level * float(np.exp(0.01 * rng.standard_normal())) for level in levels for _ in range(4)]
        return timed(values, session=[i // 4 for i in range(24)])

    found = row(compare(run_of(sessions(1.0)), run_of(sessions(1.12))), "total_s")
    assert (found.word, found.drift) == ("regressed", 0.0)


def test_a_server_that_stays_up_holds_its_sessions_drift_in_ratios_too() -> None:
    """What is launched once per session is observed once."""
    rng = np.random.default_rng(2)
    control = [1.0 + 0.001 * i for i in range(10)]
    rows = []
    for launch in ("round", "session"):
        runs = [
            run_of(timed(list(speed * np.exp(0.01 * rng.standard_normal(10))), control, launch=launch))
            for speed in (1.0, 1.12)
        ]
        rows.append(row(compare(*runs), "total_s"))
    assert [r.word for r in rows] == ["regressed", "inconclusive"]


# counts, shares, tasks


def graded(solved: list[float], tokens: list[float]) -> Record:
    tasks = [
        TaskPair(id=f"t{i}", treatment={"solved": s, "output_tokens": t})
        for i, (s, t) in enumerate(zip(solved, tokens, strict=True))
    ]
    made = record("cascade", num_rounds=0, num_graded=0, tasks=tasks)
    about = {"output_tokens": replace(METRICS["total_s"], unit="tokens"), "solved": METRICS["solved"]}
    return replace(made, metrics=about)


def test_tasks_are_paired_by_their_id() -> None:
    """40 of 200 tasks lost is a regression; the same grades in another order are none."""
    solved = [1.0] * 120 + [0.0] * 80
    tokens = [float(50 + i % 7) for i in range(200)]
    before, worse = graded(solved, tokens), graded([0.0] * 40 + solved[40:], tokens)
    found = compare(run_of(before), run_of(worse))
    assert row(found, "solved").word == "regressed"
    assert row(found, "solved").change == pytest.approx(-0.2)
    assert row(found, "output_tokens").word == "equal"
    turned = replace(before, tasks=before.tasks[::-1])
    assert row(compare(run_of(before), run_of(turned)), "solved").word == "equal"


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ([7.0] * 4, [7.0] * 4, "equal"),
        ([7.0] * 4, [8.0] * 4, "regressed"),
        ([7.0] * 4, [6.0] * 3, "improved"),
        ([7.0, 9.0, 8.0, 7.0], [7.0, 9.0, 8.0], "equal"),
        ([7.0] * 3, [7.0, 7.0, 7.0, 9.0, 9.0], "inconclusive"),
        ([7.0], [8.0], "inconclusive"),
        ([7.0, 9.0, 8.0, 7.0], [9.0, 7.0, 7.0, 8.0], "inconclusive"),
    ],
)
def test_a_count_that_repeats_is_compared_exactly(before: list[float], after: list[float], word: str) -> None:
    """One that was seen once, or that varies, is not."""
    about = {"total_s": replace(METRICS["total_s"], unit="tokens")}
    runs = [run_of(replace(timed(values), metrics=about)) for values in (before, after)]
    assert row(compare(*runs), "total_s").word == word


def test_a_number_that_is_none_takes_no_part_in_the_family() -> None:
    """One foreign value, and every other number is called as it would be without it."""
    rng = np.random.default_rng(1)
    arms = [list(np.exp(level + 0.01 * rng.standard_normal(10))) for level in (0.0, 0.3)]
    runs = [run_of(timed(values, [1.0 + 0.001 * i for i in range(10)])) for values in arms]
    bad = replace(timed([float("nan")] * 4, [1.0] * 4), variant="foreign")
    found = compare(*(replace(run, entries=(*run_of(bad).entries, *run.entries)) for run in runs))
    assert row(found, "total_s").word == "regressed"
    assert row(found, "total_s", "foreign").word == "inconclusive"


def test_a_failure_and_a_broken_check_are_regressions() -> None:
    good = record("cascade", num_graded=5)
    failure = Failure(arm="treatment", round=0, where="code", error="timeout")
    bad = replace(good, failures=[failure], checks=[Check(name="tokens_equal", ok=False, observed="3 of 9")])
    found = compare(run_of(good), run_of(bad))
    assert row(found, "failures").word == "regressed"
    broken = row(found, "check tokens_equal")
    assert (broken.word, broken.why) == ("regressed", "3 of 9")


@pytest.mark.parametrize(
    ("unit", "kind"),
    [
        ("s", TIME),
        ("tok/s", TIME),
        ("USD", TIME),
        ("B", COUNT),
        ("loads", COUNT),
        ("share", SHARE),
        ("times", OTHER),
    ],
)
def test_units_say_what_can_drift(unit: str, kind: str) -> None:
    assert kind_of_unit(unit) == kind


def test_every_unit_of_the_reference_runs_has_a_kind_that_suits_it() -> None:
    """No unit of seconds or dollars is taken for a count, which would be compared exactly."""
    counts = {
        m.unit
        for name in ("pocket", "pocket-strategies", "pocket-switching")
        for r in recorded(name).records
        for m in r.metrics.values()
        if kind_of_unit(m.unit) == COUNT
    }
    assert counts <= {
        "B", "GB", "agents", "answers", "calls", "loads", "models", "requests", "sessions", "steps",
        "switches", "temperatures", "tokens",
    }  # fmt: skip
