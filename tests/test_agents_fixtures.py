"""What the fixtures of agents make of steps: names, metrics, and checks that can fail."""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("msgspec")

from fixtures import agents_arms, clusters
from fixtures import agents_checks as checks
from fixtures import agents_options as options
from fixtures.agents_values import METRICS, Round, Taken, request_of, values_of
from fixtures.agents_variants import (
    ALL_COUNTS,
    ARMS,
    LONG_PROMPTS,
    Variant,
    Work,
    counts_of,
    long_prompts_of,
)
from fixtures.decode_variants import Chosen
from harness.agents.base import Phase, Step
from harness.agents.load import Refusal
from harness.errors import UnavailableError
from harness.hardware import memory
from harness.hardware.budget import DeviceBudget
from harness.sessions.address import socket_folder

REASON, REFLECT = Phase


def step(**changes: Any) -> Step:
    """A step asked 0.5 s late; the first of two tokens after 1 s more, the second after another."""
    usual: dict[str, Any] = {
        "token_ids": (7, 8), "asked_s": 10.5, "first_token_s": 11.5, "done_s": 12.5, "queue_s": 0.25,
        "compute_s": 1.5, "reused_tokens": 0, "prefilled_tokens": 10, "pid": 100,
    }  # fmt: skip
    return Step(**{**usual, **changes})


def taken(agent: int = 0, phase: Phase = REASON, num_new: int = 10, **changes: Any) -> Taken:
    return Taken(agent, phase, 10.0, step(**changes), num_new)


def pair(agent: int = 0, pids: tuple[int, int] = (100, 100), **changes: Any) -> list[Taken]:
    """Both steps of an agent whose history was kept: 10 ids and 2 tokens, then 3 ids more."""
    kept = {"reused_tokens": 11, "prefilled_tokens": 4, "first_token_s": 10.7, **changes}
    return [taken(agent, pid=pids[0]), taken(agent, REFLECT, 3, pid=pids[1], **kept)]


def a_round(*steps: Taken, **changes: Any) -> Round:
    usual: dict[str, Any] = {"begin_s": 10.0, "peak_bytes": 50, "capacity_bytes": 100}
    return Round(steps, **{**usual, **changes})


REFUSED = Refusal(3, None, 0.0, "no room", 60, 40, 100)
EXPECTED = {(0, REASON): (7, 8), (0, REFLECT): (7, 8)}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shared-32", ("shared", 32, None, "shared-recompute-32")),
        ("shared-recompute-4", ("shared-recompute", 4, None, None)),
        ("engine-prefix-cache-1", ("engine-prefix-cache", 1, None, "shared-recompute-1")),
        ("ray-keepalive-4", ("ray-keepalive", 4, None, None)),
        ("shared-prompt-512", ("shared", 1, 512, "shared-recompute-prompt-512")),
        ("curve-rate", ("", 1, None, None)),
    ],
)
def test_a_variants_name_says_arm_count_prompt_and_control(
    name: str, said: tuple[str, int, int | None, str | None]
) -> None:
    """Ray's arms run beside nothing, the control neither."""
    found = Variant(name)
    assert (found.arm, found.agents, found.prompt_tokens, found.control) == said


def test_a_laptop_leaves_large_counts_to_the_night_and_a_node_runs_the_published_ones() -> None:
    """What is asked for is run."""
    pocket = {arm: [n for n, is_nightly in counts_of("pocket", arm, None) if not is_nightly] for arm in ARMS}
    assert pocket["ray-keepalive"] == pocket["ray-serverless"] == [1, 2, 4]
    assert max(pocket["shared"]) == 32
    assert [n for n, _ in counts_of("pocket", "ray-serverless", None)] == list(ALL_COUNTS)
    assert counts_of("node", "ray-keepalive", None)[:4] == [(1, False), (2, False), (3, False), (4, False)]
    assert counts_of("pocket", "ray-keepalive", (3, 9)) == [(3, False), (9, False)]
    assert counts_of("node", "ray-keepalive", None)[-1] == (16, False)


def test_a_node_has_more_long_prompts_than_the_pocket_each_beside_the_same_without_memory() -> None:
    """By their names."""
    assert long_prompts_of("pocket") == LONG_PROMPTS
    more = [Variant(name) for name in set(long_prompts_of("node")) - set(LONG_PROMPTS)]
    assert {(one.prompt_tokens, one.control) for one in more} == {
        (256, "shared-recompute-prompt-256"), (1024, "shared-recompute-prompt-1024")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("agent_bytes", "finished", "holds", "as_arithmetic"),
    [(40, 2, 2.0, 1.0), (33, 2, 3.0, 1.0), (24, 2, 4.0, 0.0), (60, 2, 1.0, 0.0), (None, 2, None, None)],
)
def test_who_is_refused_is_held_to_what_the_bytes_say(
    agent_bytes: int | None, finished: int, holds: float | None, as_arithmetic: float | None
) -> None:
    """As many as fit, or one fewer; where agents share a model there is no such number."""
    steps = [one for agent in range(finished) for one in pair(agent)]
    values = values_of(a_round(*steps, refusals=[REFUSED], oom_at=4, agent_bytes=agent_bytes))
    assert (values.get("arithmetic_agents"), values.get("oom_as_arithmetic")) == (holds, as_arithmetic)
    alone = values_of(a_round(*steps, agent_bytes=agent_bytes))
    assert "oom_as_arithmetic" not in alone


@pytest.mark.parametrize(
    ("capacity_bytes", "finished", "failures", "as_arithmetic"),
    [(100, 2, [("agent 2", "its process died")], None), (30, 0, [], 0.0), (100, 2, [], 1.0)],
)
def test_an_agent_that_was_lost_was_not_refused(
    capacity_bytes: int, finished: int, failures: list[tuple[str, str]], as_arithmetic: float | None
) -> None:
    """So that the count says nothing; and where nobody finished nothing was held."""
    steps = [one for agent in range(finished) for one in pair(agent)]
    found = a_round(
        *steps, refusals=[REFUSED], agent_bytes=40, capacity_bytes=capacity_bytes, failures=failures
    )
    assert values_of(found)["oom_as_arithmetic"] == as_arithmetic


def test_the_usual_work_fits_32_sessions_and_3_models() -> None:
    """By the arithmetic that the budget was chosen by."""
    work = Work(chosen=Chosen())
    weight_bytes, kv_bytes = 134_776_832, work.max_tokens * 32_768
    assert work.budget_bytes // (weight_bytes + kv_bytes) == 3
    assert (work.budget_bytes - weight_bytes) // kv_bytes >= 32


def test_metrics_of_a_round_are_what_their_words_say() -> None:
    """Latency counts from when a step was due; parts sum to the step; both steps count."""
    values = values_of(a_round(*pair()))
    assert values.keys() <= METRICS.keys()
    assert (values["reason_ttft_s"], values["reflect_ttft_s"]) == (1.5, pytest.approx(0.7))
    assert (values["reason_total_s"], values["step_s"], values["slowest_step_s"]) == (2.5, 2.5, 2.5)
    assert values["queue_s"] == 0.75, "late by half a second, and a quarter in the server"
    assert (values["compute_s"], values["other_s"], values["load_s"]) == (1.5, 0.25, None)
    assert (values["reused_tokens"], values["prefilled_tokens"], values["recomputed_tokens"]) == (11, 4, 0)
    assert values["reason_over_reflect_ttft"] == pytest.approx(1.5 / 0.7)
    assert (values["tokens_in"], values["tokens_out"], values["finished_agents"]) == (13, 4, 1)
    assert (values["oom"], "oom_at" in values, values["agents_per_s"]) == (0, False, 1 / 2.5)


def test_a_history_that_is_computed_again_is_counted() -> None:
    """Of 14 tokens before the first, 3 are new and one had never been computed."""
    values = values_of(a_round(*pair(reused_tokens=0, prefilled_tokens=14)))
    assert values["recomputed_tokens"] == 10


def test_a_refusal_is_a_finding_with_its_bytes() -> None:
    """And a round in which nobody finished has no latency, not one of 0."""
    values = values_of(a_round(refusals=[REFUSED], oom_at=4))
    assert (values["oom"], values["oom_at"], values["refused_bytes"], values["free_bytes"]) == (1, 4, 60, 40)
    assert (values["finished_agents"], values["step_s"], values["reflect_ttft_s"]) == (0, None, None)


def test_a_step_is_a_request_of_its_record() -> None:
    """Its times count from the round's begin."""
    point = request_of(pair()[1], "treatment", 2, 10.0)
    assert (point["name"], point["arm"], point["round"], point["phase"]) == (
        "request", "treatment", 2, "reflect"
    )  # fmt: skip
    assert (point["due_s"], point["asked_s"], point["done_s"]) == (0.0, 0.5, 2.5)
    assert (point["ttft_s"], point["total_s"]) == (pytest.approx(0.7), 2.5)


def test_tokens_that_differ_are_found() -> None:
    """Another engine's may part after the first, its lengths may not."""
    good, other = a_round(*pair()), a_round(taken(), taken(0, REFLECT, 3, token_ids=(7, 9)))
    shorter, longer = a_round(*pair(token_ids=(7,))), a_round(taken(num_new=11), *pair())
    arms = {name: {"shared": [(one, EXPECTED)]} for name, one in
            {"good": good, "other": other, "shorter": shorter, "longer": longer}.items()}  # fmt: skip
    assert [checks.equal_tokens(arms[name]).ok for name in arms] == [True, False, False, False]
    loose = [checks.equal_tokens(arms[name], is_exact=False).ok for name in arms]
    assert loose == [True, True, False, False]
    assert not checks.equal_tokens({"shared": [(a_round(), EXPECTED)]}).ok
    assert not checks.equal_tokens({"shared": [(good, {})]}).ok


def test_a_process_that_serves_twice_is_not_fresh() -> None:
    """Nor is the driver's own, nor one that is not known."""
    assert checks.fresh_process([a_round(*pair(pids=(100, 101)))], 1).ok
    assert not checks.fresh_process([a_round(*pair())], 1).ok
    assert not checks.fresh_process([a_round(*pair(pids=(100, 101)))], 101).ok
    assert not checks.fresh_process([a_round(taken(pid=None))], 1).ok
    assert not checks.fresh_process([a_round()], 1).ok


def test_an_agents_own_process_is_no_other_agents() -> None:
    """And it keeps it."""
    two = [*pair(0, (100, 100)), *pair(1, (101, 101))]
    assert checks.own_process([a_round(*two)], 1).ok
    assert not checks.own_process([a_round(*pair(0), *pair(1))], 1).ok
    assert not checks.own_process([a_round(*pair(pids=(100, 101)))], 1).ok
    assert not checks.own_process([a_round(*two)], 100).ok
    assert not checks.own_process([a_round()], 1).ok


def test_reuse_is_all_of_the_history_or_none() -> None:
    """A server that kept a part of it is neither."""
    kept, gone, part = (a_round(*pair(reused_tokens=num)) for num in (11, 0, 5))
    assert [checks.reuse_counted([one], keeps=True).ok for one in (kept, gone, part)] == [True, False, False]
    assert [checks.reuse_counted([one], keeps=False).ok for one in (kept, gone, part)] == [False, True, False]
    assert not checks.reuse_counted([a_round()], keeps=False).ok


def test_a_refusal_that_the_ledger_does_not_know_of_is_not_physical() -> None:
    """One with room for what was asked neither."""
    assert checks.oom_is_physical([a_round(refusals=[REFUSED], num_refusals=1)]).ok
    assert not checks.oom_is_physical([a_round(refusals=[REFUSED], num_refusals=0)]).ok
    roomy = REFUSED._replace(free_bytes=60)
    assert not checks.oom_is_physical([a_round(refusals=[roomy], num_refusals=1)]).ok
    assert not checks.oom_is_physical(
        [a_round(refusals=[REFUSED._replace(asked_bytes=None)], num_refusals=1)]
    ).ok
    assert checks.oom_is_physical([a_round()]).observed == "nobody was refused"


def test_a_refusal_of_the_devices_own_allocator_is_physical() -> None:
    """It says no numbers, and the ledger does not count it; one of the ledger's beside it is looked at."""
    own = REFUSED._replace(cause=f"{memory.REFUSED}: CUDA out of memory", asked_bytes=None, free_bytes=None)
    found = checks.oom_is_physical([a_round(refusals=[own])])
    assert found.ok
    assert "CUDA out of memory" in found.observed
    assert checks.oom_is_physical([a_round(refusals=[own, REFUSED], num_refusals=1)]).ok
    assert not checks.oom_is_physical([a_round(refusals=[own, REFUSED])]).ok


def test_an_engine_that_shares_whole_blocks_may_miss_the_last_one() -> None:
    """Not more than that, and nothing that was not there."""
    counts = {reused: a_round(*pair(reused_tokens=reused)) for reused in (7, 8, 11, 12)}
    found = {n: checks.reuse_counted([one], keeps=True, block_tokens=4).ok for n, one in counts.items()}
    assert found == {7: False, 8: True, 11: True, 12: False}


def test_a_prefix_cache_of_another_model_is_asked_for_by_url() -> None:
    """llama.cpp is given the default model on a processor alone; other work beside it would be unequal."""
    other = Work(chosen=Chosen(model_id="ORG/NAME"))
    with pytest.raises(UnavailableError, match=r"ORG/NAME.*--prefix-cache-url") as caught:
        agents_arms.require("engine-prefix-cache", other)
    assert "\n" not in str(caught.value)
    for unequal in (Chosen(dtype="float16"), Chosen(device="cuda")):
        with pytest.raises(UnavailableError, match="llama-34m in float32 on a processor"):
            agents_arms.require("engine-prefix-cache", Work(chosen=unequal))
    agents_arms.require("engine-prefix-cache", replace(other, prefix_cache_url="http://gpu1:8000"))
    agents_arms.require("shared", other)
    assert (other.block_tokens("shared"), other.block_tokens("engine-prefix-cache")) == (1, 1)
    assert replace(other, prefix_cache_url="http://gpu1:8000").block_tokens("engine-prefix-cache") == 64


def test_a_session_may_hold_what_the_longest_prompt_needs() -> None:
    """Whatever --prompt-tokens says."""
    assert Work(chosen=Chosen()).most_tokens == 4096
    assert Work(chosen=Chosen(), prompt_tokens=5000).most_tokens == 5000 + 32 + 2 * 16


def test_a_budget_that_was_exceeded_or_never_drawn_on_is_found() -> None:
    """By its peak."""
    assert checks.fits_budget([a_round()]).ok
    assert not checks.fits_budget([a_round(peak_bytes=101)]).ok
    assert not checks.fits_budget([a_round(peak_bytes=0)]).ok
    assert checks.residents([a_round()], 5, 10).ok
    assert not checks.residents([a_round(), a_round(peak_bytes=49)], 5, 10).ok


def test_what_is_held_or_alive_after_the_agents_closed_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes beyond what the arm holds anyway, or a process of an agent's own."""
    monkeypatch.setattr(checks, "GONE_WITHIN_S", 0.1)
    budget = DeviceBudget.create(100)
    with budget.allocate(60, owner="weights"):
        assert checks.nothing_left(budget, 60, set()).ok
        assert not checks.nothing_left(budget, 50, set()).ok
        assert not checks.nothing_left(budget, 60, {os.getpid()}).ok
    budget.remove()


def test_a_rate_is_to_be_half_of_the_saturation_and_below_it() -> None:
    """At it, arrivals queue without end."""
    assert [checks.rate_below_saturation([rate], 10.0).ok for rate in (4.9, 5.0, 9.9, 10.0)] == [
        False, True, True, False
    ]  # fmt: skip
    assert not checks.rate_below_saturation([4.9, 6.0], 10.0).ok
    assert not checks.rate_below_saturation([], 10.0).ok


def test_arrivals_are_counted_by_when_they_were_sent() -> None:
    """A driver that is late sends at a lower rate than it was to."""
    sent = [taken(agent, asked_s=at_s) for agent, at_s in enumerate((10.5, 11.0, 14.0))]
    assert checks.arrived_per_s(a_round(*sent)) == 3 / 4
    assert checks.arrived_per_s(a_round(taken(0, REFLECT))) == 0.0


@pytest.mark.parametrize(
    ("parse", "text", "hint"),
    [
        (options._counts, "1,x", "separated by commas"),
        (options._counts, "0", "give 1 to"),
        (options._count, "0", "count of tokens"),
        (options._seconds, "-1", "seconds, 0 or more"),
        (options._seconds, "soon", "seconds, 0 or more"),
        (options._rate, "0", "agents per second above 0"),
        (options._rate, "nan", "agents per second above 0"),
        (options._gb, "inf", "GB above 0"),
        (clusters._address, "gpu1", "HOST:PORT"),
        (clusters._address, "ray://gpu1:10001", "HOST:PORT"),
        (clusters._address, "gpu1:99999", "HOST:PORT"),
        (options._url, "gpu1:8000", "http://HOST:PORT"),
        (options._url, "http://", "http://HOST:PORT"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_line(parse: Any, text: str, hint: str) -> None:
    """With what was given, and what would do."""
    with pytest.raises(argparse.ArgumentTypeError, match=hint) as caught:
        parse(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_are_read_as_they_are_meant() -> None:
    """Counts once each, in order."""
    assert options._counts("4,1,4") == (1, 4)
    assert (options._seconds("0"), options._rate("2.5"), clusters._address("gpu1:6379")) == (
        0.0, 2.5, "gpu1:6379"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "model_id", "dtype"),
    [
        ("llama-34m", "llama-34m", "float32"),
        ("ORG/NAME@bfloat16", "ORG/NAME", "bfloat16"),
        ("/a@b/model", "/a@b/model", "float32"),
        ("@float16", "@float16", "float32"),
    ],
)
def test_a_dtype_may_stand_behind_the_model(given: str, model_id: str, dtype: str) -> None:
    """So that the row that needs Llama-2-7B in fp32 can be decided; what is no dtype is the model's name."""
    found = Chosen.of("pocket", given)
    assert (found.model_id, found.dtype) == (model_id, dtype)


def test_sockets_stand_where_their_paths_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for temporary files may have a name too long for one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    assert socket_folder() == Path("/tmp")
    monkeypatch.setattr(tempfile, "tempdir", "/short")
    assert socket_folder() == Path("/short")
