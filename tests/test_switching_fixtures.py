"""What the fixtures of switching make of answers: names, traces, metrics, points, and a simulator."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures import switching_options as options
from fixtures.switching_beside import Timed, calibrated
from fixtures.switching_simulated import Case, cases_of, points_of
from fixtures.switching_traces import asks_of, is_trace, trace_of
from fixtures.switching_values import METRICS, POINT_METRICS, Resting, request_of, values_of
from fixtures.switching_variants import (
    ARMS,
    CONTROL,
    LOOKAHEAD,
    NODE_ARMS,
    RELOADING,
    SIMULATED,
    SIMULATED_AS,
    Work,
    names_of,
    seeds_of,
)
from harness.errors import UsageError, WorkloadError
from harness.residency import arms as policies
from harness.residency.traces import committed
from harness.switching.base import Ask, failed
from tests.switching_answers import HIT, LAYOUTS, RESTING, SIZES, answer, played


def config(workload: str | None, markexpr: str = "", **more: Any) -> Any:
    option = {"workload": workload, "markexpr": markexpr, "models": None, "profile": "pocket", **more}
    return SimpleNamespace(option=SimpleNamespace(**option))


def encode(model: str, text: str) -> list[int]:
    return list(f"{model}: {text}".encode())


def trace_file(folder: Path, model: str = "phi-2", **changes: Any) -> str:
    document = {
        "schema": 1, "name": "mine", "source": "a test", "prompt_tokens": 4, "output_tokens": 2,
        "requests": [{"at_s": 0.0, "model": "llama-7b"}, {"at_s": 1.0, "model": model, "prompt": "Why?"}],
    }  # fmt: skip
    path = folder / "trace.json"
    path.write_text(json.dumps({**document, **changes}))
    return str(path)


def test_metrics_of_a_trace_are_what_their_words_say() -> None:
    """Times over requests, bytes summed, the bound of any policy beside them."""
    values = values_of(played(answer(), answer(began_s=14.0, **HIT), answer("b", 18.0, bytes_in=64)), RESTING)
    assert values.keys() <= METRICS.keys()
    assert (values["ttft_p50_s"], values["total_max_s"], values["switch_mean_s"]) == (3.0, 4.0, 4 / 3)
    assert (values["hits"], values["hit_share"], values["completed_share"]) == (1, 1 / 3, 1)
    assert (values["partial_hits"], values["cold_switches"]) == (1, 1)
    assert (values["bytes_in"], values["belady_bytes_in"]) == (704, 960)
    assert values["bytes_over_belady"] == pytest.approx(704 / 960)
    assert (values["blocked_s"], values["wall_s"], values["simulated_blocked_s"]) == (4.0, 12.0, None)


def test_a_request_that_failed_has_no_latency_and_is_not_completed() -> None:
    """And what is not known of it is not known of the sum."""
    broken = failed(Ask(model="a", prompt_ids=(1,), new_tokens=2), 14.0, "BudgetError: no room")
    found = played(answer(), broken)
    values = values_of(found, RESTING)
    assert (values["ttft_max_s"], values["completed_share"], values["bytes_in"]) == (3.0, 0.5, None)
    point = request_of(broken, "treatment", 0, 1, found)
    assert (point["ttft_s"], point["total_s"], point["failure"]) == (None, None, "BudgetError: no room")
    none = values_of(played(broken), RESTING)
    assert (none["ttft_p50_s"], none["completed_share"]) == (None, 0)


def test_a_request_is_a_point_whose_times_count_from_the_traces_begin() -> None:
    """Of one phase, and numbered, so that requests of both arms can be paired."""
    found = played(answer(), answer(began_s=14.0))
    point = request_of(found.answers[1], "control", 2, 1, found)
    assert (point["name"], point["arm"], point["round"], point["index"]) == ("request", "control", 2, 1)
    assert (point["agent"], point["phase"], point["began_s"], point["copied_s"]) == (
        1,
        "request",
        4.0,
        [4.0, 6.0],
    )
    assert (point["first_token_s"], point["done_s"], point["ttft_s"]) == (7.0, 8.0, 3.0)


def test_a_model_larger_than_the_arena_has_no_bound() -> None:
    """How it streams decides its bytes."""
    assert values_of(played(answer()), Resting(SIZES, 320, is_warm=False))["belady_bytes_in"] is None


def test_the_simulator_beside_a_live_arm_has_its_policy_and_this_machines_times() -> None:
    """Hits and bytes by the policy, seconds by what was timed; another system's arm has none."""
    work = Work(models=("a", "b"), buffer_gb=640e-9, scale=1.0, link_gb_s=320e-9, warm="cold")
    asks = [Ask(model=name, prompt_ids=(1,), new_tokens=2) for name in SIZES]
    resident = [answer(name, **HIT, first_token_s=10.5, done_s=10.75) for name in SIZES]
    copied = [answer(name, copied_s=(10.0, 10.0 + size / 320 + 0.125)) for name, size in SIZES.items()]
    beside = calibrated(work, LAYOUTS, Timed(asks, resident), copied)
    assert (beside.models["a"].prefill_s, beside.models["a"].token_s) == (0.5, 0.25)
    assert (beside.link.bytes_per_s, beside.link.copy_s) == (320.0, pytest.approx(0.125))
    trace = played(answer(), answer("b"), answer("a")).trace
    served = beside.replay(CONTROL, trace)
    assert served is not None
    assert [(one.is_hit, one.bytes_in) for one in served] == [(False, 640), (False, 320), (False, 640)]
    assert served[0].switch_s == pytest.approx(640 / 320 + 0.125)
    assert beside.replay("vllm-sleep", trace) is None
    assert beside.replay("fresh", trace) == served
    kept = beside.replay("keep-last", played(answer(), answer()).trace)
    assert kept is not None
    assert [one.is_hit for one in kept] == [False, True]


def test_every_arm_that_is_measured_is_an_arm_somewhere() -> None:
    """Of the simulator, or of what has another policy's bytes, or of a GPU."""
    known = {*policies.ARMS, *SIMULATED_AS, *NODE_ARMS}
    assert {*ARMS, *LOOKAHEAD, *RELOADING} <= known
    assert all(policies.arm(name).lookahead == (name in LOOKAHEAD) for name in ARMS if name in policies.ARMS)


def test_the_night_has_all_seeds_and_an_option_has_its_own() -> None:
    """The default arm has them by day, keep-last enough for a P99."""
    assert seeds_of("home-slot", is_night=False) == seeds_of("keep-last", is_night=True) == 30
    assert 30 * min(seeds_of("keep-last", is_night=False), seeds_of("lru", is_night=True)) >= 368
    assert seeds_of("lru", is_night=False) < 5
    assert seeds_of("home-slot", is_night=True, asked=2) == 2
    assert seeds_of("home-slot", is_night=False, has_trace=True) == 3


def test_the_same_seed_gives_the_same_requests_and_prompts_come_again() -> None:
    """Another seed another order; no more than four prompts per model."""
    work, vocab = Work(), dict.fromkeys(Work().models, 512)
    first = asks_of(work.trace_of(3), vocab, 7, encode)
    assert first == asks_of(work.trace_of(3), vocab, 7, encode)
    other = asks_of(work.trace_of(4), vocab, 7, encode)
    assert [ask.model for ask in first] != [ask.model for ask in other]
    assert len({*first, *other}) <= 12 < len(first)
    assert {(len(ask.prompt_ids), ask.new_tokens) for ask in first} == {(8, 2)}
    assert work.workload == "published-mix"


def test_the_pocket_is_a_thousandth_of_what_is_declared() -> None:
    """25 GB are 25 MB; the link is as declared."""
    work = Work(buffer_gb=32)
    assert (work.buffer_bytes, work.link_bytes_per_s) == (32_000_000, 0.5e9)
    assert sum(work.popularity.values()) == pytest.approx(1)
    assert Work(models=("x", "y")).workload == "zipf-2"


def test_the_published_mix_is_of_the_published_sizes() -> None:
    """Where the smallest model is asked for most, or others stand in, no row on the mix is decided."""
    assert Work(models=("phi-mini", "llama-mini", "mistral-mini")).workload == "published-shares"
    assert Work(models=("x", "y", "z")).workload == "published-shares"
    assert Work(models=("x", "y", "z"), scale=1.0).workload == "published-mix"


def test_a_users_trace_is_told_from_other_workloads(tmp_path: Path) -> None:
    """By what it holds; a name, or a file that is nothing yet, only where switching is asked for."""
    path = trace_file(tmp_path)
    assert is_trace(config(path))
    jobs = tmp_path / "jobs.json"
    jobs.write_text('{"jobs": []}')
    assert not is_trace(config(str(jobs), "switching"))
    assert not is_trace(config("swe20"))
    assert not is_trace(config(None, "switching"))
    assert is_trace(config(str(tmp_path / "none.json"), "switching"))


def test_a_users_trace_may_name_the_published_models_or_those_here(tmp_path: Path) -> None:
    """Its requests go to the models here; what a user asks becomes ids."""
    trace = trace_of(config(trace_file(tmp_path)))
    assert trace is not None
    work = Work(trace=trace)
    assert work.trace_of(0).models == ("llama-mini", "phi-mini")
    assert work.popularity["mistral-mini"] < work.popularity["phi-mini"]
    ask = asks_of(work.trace_of(0), dict.fromkeys(work.models, 64), 7, encode)[1]
    assert ask.prompt_ids == tuple(b"phi-mini: Why?")
    assert trace_of(config(trace_file(tmp_path, "phi-mini"))) is not None


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"model": "gpt-5"}, "there is no such model"), ({"requests": []}, "requests"), ({"more": 1}, "more")],
)
def test_a_malformed_trace_says_what_is_wrong(changes: dict[str, Any], what: str, tmp_path: Path) -> None:
    """In one line, with the file."""
    with pytest.raises(WorkloadError, match=what) as caught:
        trace_of(config(trace_file(tmp_path, **changes), "switching"))
    assert "\n" not in str(caught.value)
    assert "trace.json" in str(caught.value)


def test_a_trace_for_other_models_is_refused() -> None:
    """Where the reader was not asked."""
    with pytest.raises(UsageError, match="no name for phi-2"):
        committed().renamed(names_of(("x", "y")))


@pytest.mark.parametrize("text", ["", "a", "a,a", "a,,b", ",".join(map(str, range(21)))])
def test_models_are_two_to_twenty_different_ones(text: str) -> None:
    """Anything else is an error that says so."""
    with pytest.raises(argparse.ArgumentTypeError, match="give 2 to 20"):
        options._models(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x"])
def test_an_arena_and_a_link_are_above_nothing(text: str) -> None:
    """And finite."""
    with pytest.raises(argparse.ArgumentTypeError, match="above 0"):
        options._gb(text)
    with pytest.raises(argparse.ArgumentTypeError, match="above 0"):
        options._rate(text)


def test_points_say_what_they_were_simulated_for() -> None:
    """Every policy, compared with the control over all requests."""
    found = points_of(Case(seeds=2))
    points = {point["policy"]: point for point, _ in found}
    assert points.keys() == policies.ARMS.keys()
    head = {"name", "policy", "buffer_gb", "link_gb_s", "models", "mix", "warm", "seeds"}
    assert all(point.keys() == head | POINT_METRICS.keys() for point in points.values())
    control, own = points[CONTROL], points["home-slot"]
    assert own["ttft_ratio_mean"] == pytest.approx(control["ttft_mean_s"] / own["ttft_mean_s"])
    assert own["bytes_over_belady"] == pytest.approx(own["bytes_in_gb"] / own["belady_bytes_gb"])
    assert points["resident"]["hit_share"] == 1
    assert points["fifo-ring-copy-out"]["bytes_out_gb"] > 0 == own["bytes_out_gb"]


def test_every_simulated_variant_moves_along_its_own_setting() -> None:
    """Buffers, links and models, with everything else as it was."""
    along = {"sim-buffers": "buffer_gb", "sim-links": "link_gb_s", "sim-models": "num_models"}
    for variant in SIMULATED:
        cases = cases_of(variant)
        assert len({case._replace(trace=None) for case in cases}) == len(cases)
        levels = {getattr(case, along[variant]) for case in cases if variant in along}
        assert len(levels) >= 4 or variant not in along
    assert 30.0 in {case.buffer_gb for case in cases_of("sim-buffers", 30.0)}
    assert {case.mix for case in cases_of("sim-policies")} == {"published", "zipf"}
    mine = replace(committed(), name="mine")
    assert {case.workload for case in cases_of("sim-trace", trace=mine)} == {"mine"}
