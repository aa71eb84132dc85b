"""Agents on one server, replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agents.base import Phase
from harness.agents.replay import MAX_PASSED, Costs, Observed, Replayed, Work, _Server, replay
from harness.errors import UsageError
from harness.load.arrivals import constant, poisson

COSTS = Costs(step_s=4e-3, prefill_token_s=3e-4, decode_token_s=5e-4, chunk_tokens=64)
WORK = Work(prompt_tokens=192, observation_tokens=32, new_tokens=16, sleep_s=0.5)
ONE_EACH = replace(WORK, prompt_tokens=64, new_tokens=1, sleep_s=1e6)
"""A step per prompt and nothing to decode, REFLECT after all else: one queue, one server, fixed times."""


def mean_s(found: Sequence[Replayed], phase: Phase, kind: str = "ttft_s") -> float:
    return fmean(getattr(one, kind) for one in found if one.phase is phase)


def test_one_agent_alone_takes_what_its_steps_take() -> None:
    """Three chunks of prompt, then 15 steps of one; REFLECT computes its observation and the last token."""
    reason, reflect = replay(COSTS, WORK, [0.25])
    decode_s = 15 * (4e-3 + 5e-4)
    assert reason.ttft_s == pytest.approx(3 * 4e-3 + 192 * 3e-4)
    assert reason.total_s == pytest.approx(reason.ttft_s + decode_s)
    assert reflect.due_s == pytest.approx(reason.done_s + 0.5)
    assert reflect.ttft_s == pytest.approx(4e-3 + 33 * 3e-4)
    forgotten = replay(COSTS, replace(WORK, keeps=False), [0.25])[1]
    assert forgotten.ttft_s == pytest.approx(4 * 4e-3 + (192 + 16 + 32) * 3e-4)


@pytest.mark.parametrize("load", [0.4, 0.8])
def test_random_arrivals_wait_as_in_an_m_d_1_queue(load: float) -> None:
    """Pollaczek and Khinchine: ρ ÷ (2 (1 − ρ)) services in the mean, within the noise of 20,000 arrivals."""
    service_s = COSTS.seconds(64, 0)
    waits = [
        mean_s(replay(COSTS, ONE_EACH, poisson(load / service_s, 10_000, seed=seed)), Phase.REASON)
        for seed in range(2)
    ]
    assert fmean(waits) - service_s == pytest.approx(load / (2 * (1 - load)) * service_s, rel=0.1)


def test_even_arrivals_wait_not_at_all_below_saturation_and_ever_longer_above() -> None:
    """D/D/1: the k-th waits k times what a service takes beyond the gap."""
    service_s = COSTS.seconds(64, 0)
    calm = replay(COSTS, ONE_EACH, constant(0.9 / service_s, 500))
    assert max(one.ttft_s for one in calm if one.phase is Phase.REASON) == pytest.approx(service_s)
    busy = replay(COSTS, ONE_EACH, constant(1.25 / service_s, 500))
    last = next(one for one in busy if one.agent == 499)
    assert last.ttft_s == pytest.approx(service_s + 499 * 0.2 * service_s)


def test_a_shorter_queue_makes_reflect_faster_where_nothing_is_reused() -> None:
    """So a faster REFLECT does not prove reuse: agents that begin together come back spread out."""
    found = replay(COSTS, replace(WORK, keeps=False, sleep_s=10.0), [0.0] * 32)
    alone = replay(COSTS, replace(WORK, keeps=False), [0.0])
    assert mean_s(alone, Phase.REFLECT) > mean_s(alone, Phase.REASON)
    assert mean_s(found, Phase.REASON) > 2 * mean_s(found, Phase.REFLECT)


def test_who_reflects_is_read_before_the_long_prompts_that_wait() -> None:
    """As the scheduler has it: an observation waits for a chunk, and not for every prompt before it."""
    assert MAX_PASSED == pytest.importorskip("harness.sessions.core.scheduler").MAX_PASSED
    crowd = [0.0, *[1.0] * 20]  # the first one's tool answers just after all others came
    work = replace(WORK, sleep_s=1.0 - replay(COSTS, WORK, [0.0])[0].done_s + 1e-3)
    found = replay(COSTS, work, crowd)
    reflect = next(one for one in found if (one.agent, one.phase) == (0, Phase.REFLECT))
    chunk_s, last = COSTS.seconds(64, 0), max(one.first_token_s for one in found)
    assert reflect.due_s == pytest.approx(1.001)
    assert reflect.ttft_s < 2 * chunk_s + COSTS.seconds(33, 0) < 0.1 * (last - 1.0)


def test_a_long_prompt_is_passed_over_for_a_while_only() -> None:
    """A stream of short ones that never ends would keep it out for ever."""
    costs = Costs(step_s=1e-3, prefill_token_s=1e-4, decode_token_s=0.0, chunk_tokens=64)
    short = Work(prompt_tokens=64, observation_tokens=8, new_tokens=1, sleep_s=1e6)
    server = _Server(costs, short, [0.0, *constant(1 / costs.seconds(64, 0), 400)])
    first = server._coming[0][2]
    first.left = 128
    while first.first_s == 0.0:
        assert server.step()
    assert server._steps <= 2 * (MAX_PASSED + 1) + 1


def test_ten_thousand_agents_all_finish() -> None:
    """With places for forty at a time, below saturation; every step is there once."""
    rate = 0.5 / (COSTS.seconds(192 + 33, 0) + 30 * COSTS.decode_token_s)
    found = replay(COSTS, replace(WORK, places=40), poisson(rate, 10_000, seed=3))
    assert len({(one.agent, one.phase) for one in found}) == len(found) == 20_000


def test_who_finds_no_place_waits_for_one() -> None:
    """The wait is in its latency, and nobody is lost."""
    roomy = replay(COSTS, WORK, [0.0] * 8)
    narrow = replay(COSTS, replace(WORK, places=1), [0.0] * 8)
    assert len(narrow) == 16
    last = max(one.first_token_s for one in narrow if one.phase is Phase.REASON)
    assert last > 7 * 0.5 > max(one.first_token_s for one in roomy if one.phase is Phase.REASON)


works = st.builds(
    Work,
    prompt_tokens=st.integers(1, 300),
    observation_tokens=st.integers(1, 64),
    new_tokens=st.integers(1, 20),
    sleep_s=st.floats(0, 2),
    keeps=st.booleans(),
    places=st.none() | st.integers(1, 8),
)
arrivals = st.lists(st.floats(0, 5), min_size=1, max_size=20)


@given(works, arrivals)
def test_every_step_ends_once_and_in_order(work: Work, due_s: list[float]) -> None:
    """Due, first token, last token; REFLECT a sleep after REASON; never faster than alone."""
    found = {(one.agent, one.phase): one for one in replay(COSTS, work, due_s)}
    assert len(found) == 2 * len(due_s)
    alone = {one.phase: one for one in replay(COSTS, work, [0.0])}
    for agent, due in enumerate(due_s):
        reason, reflect = (found[agent, phase] for phase in Phase)
        assert (reason.due_s, reflect.due_s) == (due, reason.done_s + work.sleep_s)
        for one in (reason, reflect):
            assert one.due_s < one.first_token_s <= one.done_s
            assert one.ttft_s >= alone[one.phase].ttft_s * (1 - 1e-9)


@given(works, arrivals)
def test_the_server_computes_no_more_than_it_has_time_for(work: Work, due_s: list[float]) -> None:
    """All work fits between the first arrival and the last end."""
    found = replay(COSTS, work, due_s)
    tokens = len(due_s) * sum(work.prefill_tokens(phase) for phase in Phase)
    decoded = 2 * len(due_s) * (work.new_tokens - 1)
    least_s = tokens * COSTS.prefill_token_s + decoded * COSTS.decode_token_s
    assert max(one.done_s for one in found) - min(due_s) >= least_s * (1 - 1e-9)


@settings(deadline=None)  # the first call imports the solver
@given(st.floats(1e-4, 1e-1), st.floats(1e-6, 1e-2), st.floats(1e-6, 1e-2))
def test_costs_are_found_again_from_what_they_made(step_s: float, prefill_s: float, decode_s: float) -> None:
    """Prompts alone, and decoding at several widths."""
    true = Costs(step_s=step_s, prefill_token_s=prefill_s, decode_token_s=decode_s, chunk_tokens=64)
    made = [Observed(-(-n // 64), n, 0, -(-n // 64) * step_s + n * prefill_s) for n in (33, 192, 512)]
    made += [Observed(1, 0, width, true.seconds(0, width)) for width in (1, 8, 32)]
    found = Costs.fitted(made, 64)
    assert found.step_s == pytest.approx(step_s, rel=1e-4)
    assert found.seconds(64, 32) == pytest.approx(true.seconds(64, 32), rel=1e-4)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: replay(COSTS, WORK, []), "0 agents"),
        (lambda: replay(COSTS, WORK, [-1.0]), "from 0 on"),
        (lambda: replace(WORK, places=0), "0 places"),
        (lambda: replace(WORK, new_tokens=0), "at least 1"),
        (lambda: replace(COSTS, step_s=-1.0), "0 or more"),
        (lambda: replace(COSTS, step_s=0.0, prefill_token_s=0.0), "takes no time"),
        (lambda: Costs.fitted([Observed(1, 1, 0, 0.1)] * 2, 64), "2 observations"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(wrong: object, says: str) -> None:
    """With what was given."""
    assert callable(wrong)
    with pytest.raises(UsageError, match=says):
        wrong()
