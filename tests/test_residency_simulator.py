"""The simulator: what blocks is what the link cannot hide, and time only ever comes from link and compute."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.residency import policies as p
from harness.residency.__main__ import main
from harness.residency.arms import ARMS, Setting, arm
from harness.residency.catalogue import SimModel, links, many, published
from harness.residency.collate import CollatingQueue
from harness.residency.layout import ModelLayout
from harness.residency.policies import Policy
from harness.residency.simulator import Link, Served, Simulator
from harness.residency.study import Scenario, bound_gb, replay, summary
from harness.residency.traces import Request, cycle, dumps, zipf
from tests.residency_cases import POLICIES, UNIT, cases, layouts_of

Case = tuple[dict[str, ModelLayout], int, list[str]]

RATE = 64.0
"""Bytes per second: a unit takes a second."""


def serve(
    policy: Policy,
    models: Sequence[str],
    *,
    prefill_s: float = 1.0,
    token_s: float = 0.0,
    at_s: Sequence[float] | None = None,
    output_tokens: int = 1,
    lookahead: bool = False,
    link: Link | None = None,
    max_wait_s: float = 0.0,
) -> list[Served]:
    """Serve requests for these models, one after the other or when they arrive."""
    known = {
        name: SimModel(layout=one, prefill_s=prefill_s, token_s=token_s)
        for name, one in policy.arena.layouts.items()
    }
    times = at_s or [0.0] * len(models)
    requests = [Request(at, model, 1, output_tokens) for at, model in zip(times, models, strict=True)]
    queue = CollatingQueue(max_wait_s=max_wait_s) if at_s else None
    return Simulator(known, link or Link(bytes_per_s=RATE)).run(
        policy, requests, lookahead=lookahead, queue=queue
    )


def test_a_miss_blocks_for_its_bytes_and_a_hit_not_at_all() -> None:
    """Without streaming: four units at a unit per second, then nothing."""
    miss, hit = serve(p.KeepLast(layouts_of([1, 1, 1, 1]), 4 * UNIT), ["m0", "m0"])
    assert (miss.switch_s, miss.ttft_s, miss.is_hit) == (4.0, 5.0, False)
    assert (hit.switch_s, hit.ttft_s, hit.is_hit) == (0.0, 1.0, True)


def test_streaming_hides_the_compute_of_all_layers_but_the_last() -> None:
    """Four layers of half a second each behind a link of a second each: the last one's half second is
    left."""
    (miss,) = serve(p.HomeSlot(layouts_of([1, 1, 1, 1]), 4 * UNIT), ["m0"], prefill_s=2.0)
    assert miss.ttft_s == 4.5
    assert miss.switch_s == 2.5


@given(case=cases(), prefill_s=st.floats(0.0, 20.0), copy_s=st.sampled_from([0.0, 0.5]))
@settings(max_examples=30, deadline=None)
def test_blocked_time_is_that_of_walking_through_the_layers(
    case: Case, prefill_s: float, copy_s: float
) -> None:
    """The closed form is the recursion: a layer begins when it has landed and the one before it is done."""
    layouts, capacity_bytes, models = case
    link = Link(bytes_per_s=RATE, copy_s=copy_s)
    served = serve(p.ChunkLFU(layouts, capacity_bytes), models, prefill_s=prefill_s, link=link)
    again = p.ChunkLFU(layouts, capacity_bytes)
    for one, model in zip(served, models, strict=True):
        plan = again.request(model)
        landed_s: dict[int, float] = {}
        at_s = 0.0
        for copy in plan.copies:
            at_s += copy_s
            for load in plan.loads:
                if copy.first <= load.chunk < copy.last:
                    at_s += load.num_bytes / RATE
                    landed_s[load.chunk] = at_s
        now_s = 0.0
        for chunk, one_chunk in enumerate(layouts[model].chunks):
            now_s = max(now_s, landed_s.get(chunk, 0.0))
            now_s += prefill_s * one_chunk.num_bytes / layouts[model].num_bytes
        assert one.first_token_s - one.began_s == pytest.approx(now_s, abs=1e-9)


@pytest.mark.parametrize("name", POLICIES)
@given(case=cases())
@settings(max_examples=10, deadline=None)
def test_requests_follow_each_other_and_nothing_is_faster_than_compute(name: str, case: Case) -> None:
    """None blocks longer than its bytes take, and every request is served."""
    layouts, capacity_bytes, models = case
    served = serve(POLICIES[name](layouts, capacity_bytes, models), models, output_tokens=3, token_s=0.5)
    assert len(served) == len(models)
    done_s = 0.0
    for one in served:
        assert one.began_s == pytest.approx(done_s)
        assert one.first_token_s >= one.began_s + 1.0 - 1e-9
        assert one.switch_s <= (one.bytes_in + one.bytes_out) / RATE + 1e-9
        assert one.done_s == pytest.approx(one.first_token_s + 1.0)
        assert one.is_hit == (one.bytes_in == 0)
        done_s = one.done_s


@given(
    case=cases(),
    token_s=st.sampled_from([0.0, 0.3, 2.0, 100.0]),
    name=st.sampled_from(["home-slot", "chunk-slots"]),
)
@settings(max_examples=40, deadline=None)
def test_lookahead_moves_no_more_than_it_plans_and_blocks_for_less(
    case: Case, token_s: float, name: str
) -> None:
    """Copies made ahead leave fewer bytes to wait for in home slots, whose plan cannot change."""
    layouts, capacity_bytes, models = case
    plain = serve(POLICIES[name](layouts, capacity_bytes, models), models, token_s=token_s, output_tokens=4)
    eager = serve(
        POLICIES[name](layouts, capacity_bytes, models),
        models,
        token_s=token_s,
        output_tokens=4,
        lookahead=True,
    )
    for one in eager:
        assert one.evicted_bytes >= 0
        assert not one.is_hit or one.bytes_in == 0
    if name == "home-slot":
        assert [one.bytes_in + one.ahead_bytes for one in eager] == [one.bytes_in for one in plain]
        assert sum(one.switch_s for one in eager) <= sum(one.switch_s for one in plain) + 1e-6


def test_what_perfect_lookahead_cannot_hide_is_what_does_not_fit_beside_the_running_model() -> None:
    """Of 4 and 3 units in turn in an arena of 5, exactly 2 block: next + running − capacity."""
    policy = p.ChunkLFU(layouts_of([1] * 4, [1] * 3), 5 * UNIT)
    served = serve(policy, ["m0", "m1"] * 4, token_s=100.0, output_tokens=2, lookahead=True)
    assert [one.bytes_in for one in served[1:]] == [2 * UNIT] * 7


def test_a_lookahead_cut_short_goes_on_in_layer_order() -> None:
    """Two of four units landed before the turn, one was under way, the last is planned anew: 1.5 s block."""
    policy = p.HomeSlot(layouts_of([1], [1, 1, 1, 1]), 5 * UNIT)
    first, second = serve(policy, ["m0", "m1"], prefill_s=0.0, token_s=2.5, output_tokens=2, lookahead=True)
    assert (first.switch_s, first.done_s) == (1.0, 3.5)
    assert second.ahead_s == (1.0, 4.0)
    assert (second.ahead_bytes, second.bytes_in) == (3 * UNIT, UNIT)
    assert second.switch_s == 1.5
    assert not second.is_hit


def test_requests_that_queue_wait_and_are_known_ahead() -> None:
    """Latency counts from arrival; the next is copied for once it has arrived, not before."""
    layouts = layouts_of([1, 1], [1, 1])
    served = serve(
        p.HomeSlot(layouts, 4 * UNIT), ["m0", "m1"], prefill_s=0.0, token_s=10.0, output_tokens=2,
        at_s=[0.0, 5.0], lookahead=True,
    )  # fmt: skip
    assert served[0].done_s == 12.0
    assert served[1].ahead_s == (5.0, 7.0)
    assert (served[1].switch_s, served[1].ttft_s, served[1].total_s) == (0.0, 7.0, 17.0)
    late = serve(p.HomeSlot(layouts, 4 * UNIT), ["m0", "m1"], at_s=[0.0, 99.0], prefill_s=0.0, lookahead=True)
    assert (late[1].ahead_s, late[1].switch_s) == (None, 2.0)


def test_a_wrong_guess_costs_what_had_begun_and_no_more() -> None:
    """Copies for m1 begin, then m0 asks again and goes first: the rest of m1 is called off until later."""
    policy = p.HomeSlot(layouts_of([1], [1, 1, 1, 1, 1, 1, 1, 1]), 9 * UNIT)
    served = serve(
        policy, ["m0", "m1", "m0"], at_s=[0.0, 1.0, 2.0], prefill_s=0.0, token_s=3.5, output_tokens=2,
        lookahead=True, max_wait_s=100.0,
    )  # fmt: skip
    assert [one.model for one in served] == ["m0", "m0", "m1"]
    assert served[1].ahead_bytes == 4 * UNIT  # landed at 2, 3, 4 and 5; the turn came at 4.5
    assert served[1].is_hit
    assert served[1].switch_s == 0.0
    assert (served[2].ahead_bytes, served[2].bytes_in) == (3 * UNIT, UNIT)


def test_collating_serves_the_same_requests_with_fewer_switches() -> None:
    """Eight at once, ABAACABC: two switches in place of six, nobody left out."""
    models = [{"A": "m0", "B": "m1", "C": "m2"}[name] for name in "ABAACABC"]
    moved = {}
    for max_wait_s in (0.0, 1e9):
        policy = p.KeepLast(layouts_of([1], [1], [1]), UNIT)
        served = serve(policy, models, at_s=[0.0] * 8, max_wait_s=max_wait_s)
        assert sorted(one.model for one in served) == sorted(models)
        moved[max_wait_s] = sum(one.bytes_in for one in served)
    assert moved == {0.0: 7 * UNIT, 1e9: 3 * UNIT}


@given(
    case=cases(),
    gaps=st.lists(st.sampled_from([0.0, 0.5, 2.0, 30.0]), min_size=14, max_size=14),
    max_wait_s=st.sampled_from([0.0, 2.0, 1e9]),
    lookahead=st.booleans(),
    name=st.sampled_from(["home-slot", "chunk-slots", "chunk-lru"]),
)
@settings(max_examples=60, deadline=None)
def test_a_queue_leaves_nobody_out_and_time_runs_forward(
    case: Case, gaps: list[float], max_wait_s: float, lookahead: bool, name: str
) -> None:
    """Whatever arrives when: all are served, one at a time, none before it arrived, none twice."""
    layouts, capacity_bytes, models = case
    at_s = list(accumulate(gaps[: len(models)]))
    served = serve(
        POLICIES[name](layouts, capacity_bytes, models), models, at_s=at_s, max_wait_s=max_wait_s,
        lookahead=lookahead, output_tokens=3, token_s=0.7,
    )  # fmt: skip
    assert sorted((one.arrived_s, one.model) for one in served) == sorted(zip(at_s, models, strict=True))
    done_s = 0.0
    for one in served:
        assert one.began_s >= max(done_s, one.arrived_s) - 1e-9
        done_s = one.done_s
    if max_wait_s == 0.0:
        assert [one.arrived_s for one in served] == at_s


def test_copying_out_blocks_before_the_first_byte_comes_in() -> None:
    """The published ring writes 3 units back, then reads 4."""
    served = serve(p.FifoRingCopyOut(layouts_of([1] * 3, [1] * 4), 5 * UNIT), ["m0", "m1"])
    assert (served[1].switch_s, served[1].bytes_out, served[1].evicted_bytes) == (7.0, 3 * UNIT, 3 * UNIT)
    assert served[1].needed_bytes == 2 * UNIT


def test_a_model_that_streams_copies_in_every_pass() -> None:
    """Ten chunks in seven: ten for the first token, six for each further one, at the link's pace."""
    (one,) = serve(
        p.HomeSlot(layouts_of([1] * 10), 7 * UNIT), ["m0"], prefill_s=1.0, token_s=1.0, output_tokens=4
    )
    assert one.bytes_in == (10 + 3 * 6) * UNIT
    assert one.done_s - one.first_token_s >= 3 * 6.0


def test_lookahead_is_not_asked_of_a_policy_that_has_none() -> None:
    """The control stays what its label says."""
    with pytest.raises(UsageError, match="keep-last: cannot look ahead"):
        serve(p.KeepLast(layouts_of([1]), UNIT), ["m0"], lookahead=True)


def test_a_faster_link_blocks_less() -> None:
    """At the four declared links, from 4.4 to 55 GB/s, time blocked falls by exactly the ratio without
    overlap."""
    models = published()
    trace = zipf(list(models), 30, seed=0)
    blocked_s = []
    for link in links().values():
        policy = p.LRU({name: model.layout for name, model in models.items()}, 25 * 10**9)
        served = Simulator(models, Link(bytes_per_s=link.bytes_per_s)).run(policy, trace.requests)
        blocked_s.append(sum(one.switch_s for one in served) * link.bytes_per_s)
    assert blocked_s == pytest.approx([blocked_s[0]] * 4)


@pytest.mark.parametrize("num_models", [3, 20])
def test_every_arm_serves_many_models(num_models: int) -> None:
    """3 to 20 models in 70 GB: every arm completes, and none moves less than the bound."""
    models = many(num_models)
    scenario = Scenario(
        models=models,
        traces=[zipf(list(models), 30, seed=0)],
        capacity_bytes=70 * 10**9,
        link=Link(bytes_per_s=25e9),
        popularity=dict.fromkeys(models, 1.0),
    )
    least_gb = bound_gb(scenario)
    for one in ARMS.values():
        found = summary(replay(one, scenario))
        assert found.moved_gb >= least_gb - 1e-6 or one.name == "resident"
        assert found.out_gb == 0 or one.name == "fifo-ring-copy-out"
        assert found.needed_gb <= found.evicted_gb + found.moved_gb


def test_an_unknown_arm_or_warm_up_is_named() -> None:
    """With what there is."""
    with pytest.raises(UsageError, match="arm 'ring': unknown; use reload-every, keep-last"):
        arm("ring")
    layouts = layouts_of([1])
    setting = Setting(layouts=layouts, capacity_bytes=UNIT, popularity={"m0": 1.0})
    with pytest.raises(UsageError, match="warm 'hot': unknown; use cold, each, fill"):
        arm("lru").build(setting, warm="hot")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--buffer-gb", "0"], "--buffer-gb 0: give positive numbers"),
        (["--link-gb-s", "fast"], "--link-gb-s fast: give positive numbers"),
        (["--arms", "ring"], "arm 'ring': unknown"),
        (["--seeds", "0"], "--seeds 0: give at least 1"),
        (["--models", "0"], "models: 0 asked for"),
        (["--models", "4", "--mix", "published"], "--mix published: is of three models, not 4"),
        (["--buffer-gb", "10", "--seeds", "1"], "in an arena of 10000000000; give the arena 12600000896"),
        (["--workload", "nowhere.json"], "nowhere.json: cannot be read"),
        (["--max-wait-s", "3"], "--max-wait-s, --min-residency-s: have no effect without --queued"),
        (["--queued", "--max-wait-s", "-3", "--seeds", "1"], "queue: max_wait_s -3.0"),
    ],
)
def test_the_command_says_what_makes_no_sense(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, with status 2."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_the_command_replays_a_users_own_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a table, or as JSON with the same numbers."""
    path = tmp_path / "mine.json"
    path.write_text(dumps(cycle(list(published()), 9)))
    assert main(["--workload", str(path), "--arms", "home-slot", "--warm", "cold", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [one["arm"] for one in found["arms"]] == ["reload-every", "home-slot"]
    assert found["arms"][0]["moved_gb"] == pytest.approx(3 * 31.3, abs=0.01)
    assert main(["--workload", str(path), "--arms", "home-slot", "--warm", "cold"]) == 0
    assert f"{found['arms'][1]['moved_gb']:8.1f}" in capsys.readouterr().out
