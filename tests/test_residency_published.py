"""The policy study of switching is found again: 100 Zipf traces at 25 GB and 25 GB/s.

Where a number differs from the study's, the docstring says by how much and why.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from harness.residency.arms import ARMS
from harness.residency.catalogue import published
from harness.residency.simulator import Link
from harness.residency.study import Outcome, Scenario, Summary, bound_gb, replay, summary
from harness.residency.traces import PUBLISHED_MIX, categorical, committed, cycle, zipf_shares

NAMES = list(published())


def scenario(
    warm: str = "each", capacity_gb: float = 25, mix: str = "zipf", num_seeds: int = 100
) -> Scenario:
    """Traces of 30 requests for the published models."""
    shares = zipf_shares(3, 1.0) if mix == "zipf" else list(PUBLISHED_MIX.values())
    return Scenario(
        models=published(),
        traces=[categorical(NAMES, shares, 30, seed=seed) for seed in range(num_seeds)],
        capacity_bytes=round(capacity_gb * 1e9),
        link=Link(bytes_per_s=25e9),
        popularity=dict(zip(NAMES, shares, strict=True)),
        warm=warm,
    )


@cache
def outcome(
    name: str, warm: str = "each", capacity_gb: float = 25, mix: str = "zipf", num_seeds: int = 100
) -> Outcome:
    """What came of an arm."""
    return replay(ARMS[name], scenario(warm, capacity_gb, mix, num_seeds))


def found(name: str, warm: str = "each", capacity_gb: float = 25, mix: str = "zipf") -> Summary:
    """The same in numbers."""
    return summary(outcome(name, warm, capacity_gb, mix))


@pytest.mark.parametrize(
    ("name", "warm", "hits", "moved_gb", "p50_s", "p99_s"),
    [
        ("reload-every", "each", 0.00, 343, 0.504, 0.540),
        ("keep-last", "cold", 0.39, 201, 0.263, 0.540),
        ("fifo-ring-copy-out", "each", 0.64, 142, 0.063, 1.044),
        ("fifo-ring", "each", 0.64, 142, 0.030, 0.540),
        ("lru", "each", 0.55, 156, 0.084, 0.540),
    ],
)
def test_policies_of_whole_models_do_as_the_study_says(
    name: str, warm: str, hits: float, moved_gb: float, p50_s: float, p99_s: float
) -> None:
    """To the last printed digit, and keep-last from a cold start, as there."""
    one = found(name, warm)
    assert round(one.hit_share, 2) == hits
    assert one.moved_gb == pytest.approx(moved_gb, abs=0.6)
    assert round(one.switch_p50_s, 3) == p50_s
    assert round(one.switch_p99_s, 3) == p99_s


@pytest.mark.parametrize(
    ("name", "warm", "seeds"),
    [
        ("lru", "cold", [1, 4, 5, 7, 9, 10, 15]),
        ("lru", "each", [6, 25, 28, 31]),
        ("fifo-ring", "cold", [1, 5, 18, 32]),
    ],
)
def test_sixteen_hits_of_thirty_are_an_ordinary_draw(name: str, warm: str, seeds: list[int]) -> None:
    """The very seeds of the study, out of the first 33, give the published 16 hits."""
    hits = outcome(name, warm).is_hit[:33].sum(axis=1)
    assert [seed for seed, count in enumerate(hits) if count == 16] == seeds


@pytest.mark.parametrize(
    ("name", "hits", "moved_gb"),
    [
        ("chunk-lru", 0.54, 52),
        ("chunk-slots", 0.51, 48),
        ("home-slot", 0.51, 46),
        ("home-slot-lookahead", 0.60, 46),
    ],
)
def test_policies_by_layers_come_close_to_the_study(name: str, hits: float, moved_gb: float) -> None:
    """Filled at the start, as there: hits agree within a point, bytes are 2 to 9 % more.

    There models were fluids, which these policies would move 52.1 and 47.7 GB of; here a chunk of 0.4 GB is
    whole and lies in one piece.
    """
    one = found(name, "fill")
    assert one.hit_share == pytest.approx(hits, abs=0.012)
    assert 1.0 <= one.moved_gb / moved_gb <= 1.09


def test_beladys_bound_is_the_studys() -> None:
    """39.5 GB over fluids after each model ran once, 39.6 by layers from the best start; 40 there."""
    assert bound_gb(scenario("each")) == pytest.approx(40, abs=0.6)
    assert found("belady", "fill").moved_gb == pytest.approx(40, abs=0.6)


def test_nothing_in_sight_beats_dynamic_places_with_lookahead() -> None:
    """70 % hits, as in the study, and 16.1 GB that block (11 there, of fluids): the least of all arms."""
    blocking_gb = {name: found(name, "fill").blocking_gb for name in ARMS if name != "resident"}
    assert min(blocking_gb, key=lambda name: blocking_gb[name]) == "chunk-slots-lookahead"
    assert blocking_gb["chunk-slots-lookahead"] == pytest.approx(16.1, abs=0.05)
    assert found("chunk-slots-lookahead", "fill").hit_share == pytest.approx(0.70, abs=0.01)


def test_the_published_speed_up_of_the_median_is_a_threshold() -> None:
    """At the seed's 4.4 GB/s the median total is 3.1 times as fast: half the requests hit, and only compute.

    The mean gains less, and on a real link the median does: 1.4 and 1.2 times at 25 and 55 GB/s.
    """
    gains = {}
    for gb_s in (4.4, 25, 55):
        one = replace(scenario(mix="zipf"), link=Link(bytes_per_s=gb_s * 1e9))
        ours, reload = replay(ARMS["home-slot"], one).total_s, replay(ARMS["reload-every"], one).total_s
        gains[gb_s] = np.median(reload) / np.median(ours), reload.mean() / ours.mean()
    assert [round(gains[gb_s][0], 1) for gb_s in gains] == [3.1, 1.4, 1.2]
    assert round(gains[4.4][1], 1) == 2.3


@pytest.mark.parametrize(
    ("warm", "capacity_gb", "mix"),
    [
        ("each", 25, "zipf"),
        ("cold", 25, "zipf"),
        ("cold", 25, "published"),
        ("each", 20, "zipf"),
        ("each", 20, "published"),
    ],
)
def test_the_default_is_within_a_fifth_of_beladys_bytes(warm: str, capacity_gb: float, mix: str) -> None:
    """On the three-model traces, against Belady by layers, who pays nothing for places.

    It is not where popularity is flat: at 25 GB warmed up, 1.25 on the published mix, 1.44 on a uniform one.
    """
    ours, best = (found(name, warm, capacity_gb, mix).moved_gb for name in ("home-slot", "belady"))
    assert ours <= 1.2 * best


def test_every_streaming_arm_beats_keep_last_at_mean_and_tail() -> None:
    """The mandatory control is worse in mean and P99 of the time to the first token."""
    control = found("keep-last")
    for name in ("chunk-lru", "chunk-slots", "home-slot", "home-slot-lookahead", "chunk-slots-lookahead"):
        assert found(name).ttft_mean_s < control.ttft_mean_s
        assert found(name).ttft_pooled_p99_s < control.ttft_pooled_p99_s


def test_no_request_is_slower_than_a_reload_unless_weights_are_copied_out() -> None:
    """The published tail is the copying back: request by request no other arm is behind reload-every."""
    reload_s = outcome("reload-every", "cold", num_seeds=10).ttft_s
    for name in ARMS:
        slower = np.max(outcome(name, "cold", num_seeds=10).ttft_s - reload_s)
        assert (slower > 0.3) if name == "fifo-ring-copy-out" else (slower < 1e-9), name


def test_twenty_and_twenty_five_gigabytes_are_one_to_policies_of_whole_models() -> None:
    """12.6 + 13.5 fits neither, 13.5 + 5.2 fits both."""
    for name in ("fifo-ring", "lru", "gdsf"):
        small, large = outcome(name, "each", 20), outcome(name, "each", 25)
        assert np.allclose(small.switch_s, large.switch_s, atol=1e-9)
        assert np.array_equal(small.bytes_in, large.bytes_in)


def test_forty_gigabytes_hit_always_only_when_warmed_up() -> None:
    """Cold, each model's first request misses: at most 27 of 30."""
    assert found("fifo-ring", "fill", 40).hit_share == 1.0
    assert outcome("home-slot", "cold", 40).is_hit.sum(axis=1).max() <= 27


def test_the_published_trace_itself_is_no_outlier() -> None:
    """The seed's 30 requests lie within three standard deviations of 100 draws of its mix."""
    draws = outcome("fifo-ring", "cold", 25, "published").is_hit.sum(axis=1)
    one = Scenario(
        models=published(), traces=[committed()], capacity_bytes=25 * 10**9, link=Link(bytes_per_s=25e9),
        popularity=PUBLISHED_MIX,
    )  # fmt: skip
    hits = replay(ARMS["fifo-ring"], one).is_hit.sum()
    assert abs(hits - draws.mean()) < 3 * draws.std()


def test_a_cycle_defeats_recency_and_not_places() -> None:
    """With each model in turn LRU never hits and moves all; homes move only what overlaps."""
    one = Scenario(
        models=published(),
        traces=[cycle(NAMES, 30)],
        capacity_bytes=25 * 10**9,
        link=Link(bytes_per_s=25e9),
        popularity=dict.fromkeys(NAMES, 1.0),
        warm="each",
    )
    lru, homes = summary(replay(ARMS["lru"], one)), summary(replay(ARMS["home-slot"], one))
    assert lru.hit_share == 0.0
    assert lru.moved_gb == pytest.approx(10 * 31.3, abs=0.01)
    assert homes.moved_gb < 0.5 * lru.moved_gb
