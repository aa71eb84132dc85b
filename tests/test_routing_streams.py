"""What planners are graded on: streams told job by job, and a ceiling for what a window can know."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest

from fixtures.foresight import foreseen
from fixtures.plans import PLANNERS, Graded
from fixtures.published import PUBLISHED, published_streams
from fixtures.streams import cold, executed, layered, merged_gains, outcomes, regrets, streams
from harness.routers.planning import (
    ExactPlanner,
    LPPlanner,
    OrderFreePlanner,
    SequentialPlanner,
    WarmLPPlanner,
    offline_optimum,
)

SOME = streams()[:8]


def test_a_streams_jobs_add_up_to_the_stream() -> None:
    """Values, loads and steps by job are those of the whole, layer by layer and in a free order."""
    for stream in SOME:
        for planner, is_whole in ((SequentialPlanner(), False), (OrderFreePlanner(), True)):
            done = executed(planner, stream, is_whole=is_whole)
            jobs = outcomes(stream, done)
            assert [job.job for job in jobs] == [job for job, _ in stream.jobs]
            assert sum(job.value for job in jobs) == pytest.approx(done.value, abs=1e-9)
            assert sum(job.memory.num_steps for job in jobs) == len(done.executed)


def test_the_offline_optimum_has_no_regret_and_nothing_has_less() -> None:
    """On every kind of stream, as planned over all layers or as runs see it."""
    for found in (SOME, cold()[:20], layered(0.5)[:10]):
        assert regrets(offline_optimum(), found) == pytest.approx([0.0] * len(found), abs=1e-9)
        for planner in (ExactPlanner(), SequentialPlanner(), SequentialPlanner(window=1)):
            assert min(regrets(planner, found)) >= -1e-9
            assert min(regrets(planner, found, as_live=True)) >= -1e-9


def test_a_window_of_three_sees_all_of_a_cold_job() -> None:
    """So planning over time loses nothing there."""
    assert max(regrets(SequentialPlanner(), cold())) == pytest.approx(0.0, abs=1e-9)


def test_crediting_what_stays_loaded_loses_less() -> None:
    """On streams at window 1, and where windows end with their job."""
    for window, as_live in ((1, False), (3, True)):
        planner = SequentialPlanner(window=window)
        credited, plain = (
            fmean(regrets(each, streams(), as_live=as_live))
            for each in (planner, replace(planner, kept_share=0))
        )
        assert credited < plain / 2


def test_even_knowing_what_follows_three_layers_lose_more_than_the_asked_regret() -> None:
    """.0005 per task cannot be had on streams; more layers than there are lose nothing."""
    best = [executed(offline_optimum(), stream).value for stream in streams()]
    lost = [
        (ceiling - foreseen(stream, 3).value) / stream.problem.num_tasks
        for ceiling, stream in zip(best, streams(), strict=True)
    ]
    assert min(lost) >= -1e-9
    assert 0.001 < fmean(lost) < fmean(regrets(SequentialPlanner(), streams()))
    assert foreseen(streams()[0], 12).value == pytest.approx(best[0], abs=1e-9)


def test_a_free_order_gains_with_every_job_beside() -> None:
    """Nothing on jobs alone, more with each that runs beside them, at the price of steps."""
    gains = [point["gain_share"] for point in merged_gains()]
    assert gains[0] == pytest.approx(0.0, abs=1e-9)
    assert gains == sorted(gains)
    assert gains[-1] > 0.01


def test_the_published_rows_come_out_as_they_do() -> None:
    """Depth 1 whole; of depth 3 two jobs by the origin's own constants, all three by the fitted table."""
    shares = {
        (variant, fleet): fmean(
            value
            for value in PUBLISHED[variant].as_published(published_streams(fleet, is_flat=False)).values()
            if value is not None
        )
        for variant in ("published-lp-1", "published-lp-3")
        for fleet in ("agents_heavy", "fitted")
    }
    assert shares == {
        ("published-lp-1", "agents_heavy"): 1.0,
        ("published-lp-1", "fitted"): 1.0,
        ("published-lp-3", "agents_heavy"): pytest.approx(2 / 3),
        ("published-lp-3", "fitted"): 1.0,
    }


def test_graded_plans_say_who_made_them_and_what_violates() -> None:
    """The LP's violations are of its own plans, its value that of what can run."""
    graded = Graded.on(PLANNERS["lp"], SOME)
    assert graded.solvers == ("highs",)
    assert len(graded.tasks) == 4 * len(SOME)
    over = [values for values in graded.tasks.values() if values["violates"]]
    assert over
    assert all((values["step_peak_gb"] or 0) > 8.0 and not values["optimal"] for values in over)
    exact = Graded.on(PLANNERS["exact"], SOME)
    assert not any(values["violates"] for values in exact.tasks.values())
    assert all(values["optimal"] == 1.0 == values["same_again"] for values in exact.tasks.values())


def test_the_warm_program_is_the_compiled_one() -> None:
    """Both relaxations have one value on every layer of a stream."""
    problem = SOME[0].problem
    warm = WarmLPPlanner(problem.fleet, problem.num_tasks).plan(problem).certificate.bound
    assert warm == pytest.approx(LPPlanner().plan(problem).certificate.bound, abs=1e-6)
