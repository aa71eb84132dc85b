"""What the fixtures of decoding make of runs: metrics, checks that can fail, and variants by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("msgspec")

from fixtures import decode_gpu
from fixtures import decode_values as given
from fixtures.decode import Side
from fixtures.decode_gpu import GpuMeter, Steps, copied, metrics_of, sampled
from fixtures.decode_lines import too_late
from fixtures.decode_links import formula, link_points, on_link
from fixtures.decode_values import Multiplies, Reads, Sizes
from fixtures.decode_variants import ENV, PROMPT_TOKENS, Variant
from harness.hardware.utilisation import Usage
from harness.sessions.modes.base import Crossed, Decoded

READS = Reads(step_bytes=1000, kv_token_bytes=10, bandwidth_bytes_per_s=1e6, threads=1)
SIZES = Sizes(weight_bytes=500, kv_token_bytes=10, vocab_size=20)


class Said:
    """A mode that gives what it was told to."""

    def __init__(self, runs: Sequence[Decoded]) -> None:
        self._runs = iter(runs)

    def decode(self, prompt: Sequence[int], num_new: int) -> Decoded:
        return next(self._runs)


def run(**changes: Any) -> Decoded:
    """Two tokens in a second, of which a quarter crossing."""
    usual: dict[str, Any] = {
        "token_ids": (7, 8), "began_s": 10.0, "first_s": 10.25, "done_s": 11.0, "queue_s": 0.25,
        "compute_s": 0.5, "bytes_up": 30, "bytes_down": 20, "crossed": Crossed(),
    }  # fmt: skip
    return Decoded(**{**usual, **changes})


def side(*runs: Decoded, prompts: int = 1) -> Side:
    found = Side("full", Said(runs))
    for _ in runs:
        found.decode([[1]] * prompts, 2)
    return found


def test_a_variants_name_says_what_a_round_is() -> None:
    """Mode, link, and fewer tokens where each is dear."""
    found = {
        name: (Variant(name=name).mode, Variant(name=name).link_bps, Variant(name=name).new_tokens)
        for name in ("full", "full-100mbps", "partially-aware-both-ways-2gbps", "semantic-blind-1gbps")
    }
    assert found == {
        "full": ("full", None, 50),
        "full-100mbps": ("full", 10**8, 4),
        "partially-aware-both-ways-2gbps": ("partially-aware-both-ways", 2 * 10**9, 16),
        "semantic-blind-1gbps": ("semantic-blind", 10**9, 4),
    }


def test_metrics_of_a_run_are_what_their_words_say() -> None:
    """Parts sum to the whole; floors count the weights and the context."""
    crossed = Crossed(weight_bytes=1000, kv_up_bytes=500, kv_down_bytes=500, crossing_s=0.2)
    values = given.values_of(run(crossed=crossed), READS, 72, 10**5)
    assert values == {
        "token_s": 0.5, "total_s": 1.0, "ttft_s": 0.25, "tpot_s": 0.75, "queue_s": 0.25, "compute_s": 0.5,
        "transfer_s": 0.25, "compute_share": 0.5, "tokens_generated": 2.0, "tokens_per_s": 2.0,
        "client_server_bytes_per_token": 25.0, "memory_bandwidth_bytes_per_s": 2000 + 1450,
        "bandwidth_floor_share": pytest.approx(0.00345), "link_rate_share": pytest.approx(0.8),
    }  # fmt: skip
    assert set(values) <= given.ROUND_METRICS.keys()
    silent = given.values_of(run(queue_s=None, compute_s=None, first_s=None), READS, 72, None)
    assert [silent[name] for name in ("ttft_s", "queue_s", "transfer_s", "compute_share")] == [None] * 4
    assert "link_rate_share" not in silent


def test_sessions_together_share_the_weights_floor() -> None:
    """Not that of keys and values."""
    alone, shared = READS.floor(72, 2), READS.floor(72, 2, 4)
    assert alone.value == pytest.approx((1000 + 725) / 1e6)
    assert shared.value == pytest.approx((250 + 725) / 1e6)


UP, DOWN_ALL, DOWN_NEW = 10 * PROMPT_TOKENS, 10 * (2 * PROMPT_TOKENS + 1), 10 * (PROMPT_TOKENS + 1)


@pytest.mark.parametrize(
    ("mode", "crossed"),
    [
        ("full", Crossed()),
        ("full-logits", Crossed(logits_bytes=160)),
        ("partially-aware", Crossed(kv_up_bytes=UP, kv_down_bytes=DOWN_NEW)),
        ("partially-aware-both-ways", Crossed(kv_up_bytes=UP, kv_down_bytes=DOWN_ALL)),
        ("semantic-blind", Crossed(weight_bytes=1000, kv_up_bytes=UP, kv_down_bytes=DOWN_ALL)),
    ],
)
def test_a_mode_that_ships_what_another_does_is_found(mode: str, crossed: Crossed) -> None:
    """Each passes under its own name alone; and nothing else of size may cross."""
    size = crossed.state_bytes + crossed.logits_bytes
    one = run(crossed=crossed, bytes_up=size + 40, bytes_down=0)
    names = ("full", "full-logits", "partially-aware", "partially-aware-both-ways", "semantic-blind")
    assert [name for name in names if given.modes_as_named(side(one), name, SIZES).ok] == [mode]
    assert not given.modes_as_named(side(replace(one, bytes_down=10**4)), mode, SIZES).ok
    assert not given.modes_as_named(side(), mode, SIZES).ok


def test_parts_that_overlap_are_found() -> None:
    """More in the engine than there was time, or crossings longer than what is left for them."""
    assert given.attribution_sums(side(run())).ok
    assert not given.attribution_sums(side(run(), run(compute_s=0.8))).ok
    assert not given.attribution_sums(side(run(queue_s=-0.1, compute_s=0.5))).ok
    assert not given.attribution_sums(side(run(crossed=Crossed(crossing_s=0.3)))).ok
    assert not given.attribution_sums(side()).ok


def test_tokens_that_differ_are_found() -> None:
    """From native's, or from the same prompt's before; a shorter run is compared as far as it goes."""
    short, other = run(token_ids=(7,)), run(token_ids=(7, 9))
    assert given.greedy_deterministic([side(run(), short, run())]).ok
    assert given.greedy_deterministic([side(run(), other, prompts=2)]).ok
    assert not given.greedy_deterministic([side(run(), other)]).ok
    assert given.same_tokens(side(run(), short), {0: (7, 8, 9)}).ok
    assert not given.same_tokens(side(run(), other), {0: (7, 8, 9)}).ok
    assert not given.same_tokens(side(), {}).ok


def test_unequal_work_is_found() -> None:
    """Another length, another prompt, or a run that is missing."""
    assert given.equal_tasks([side(run(), run()), side(run(), run())]).ok
    assert not given.equal_tasks([side(run()), side(run(token_ids=(7,)))]).ok
    assert not given.equal_tasks([side(run(), run()), side(run(), run(), prompts=2)]).ok
    assert not given.equal_tasks([side(run(), run()), side(run())]).ok


def test_a_link_that_did_not_pace_is_found() -> None:
    """Transfers that took less than the link needs for their bytes."""
    assert given.link_paced(side(run()), 1600).ok
    assert not given.link_paced(side(run()), 1599).ok
    assert not given.link_paced(side(run(bytes_down=0)), 10**6).ok


def test_links_too_fast_to_be_paced_are_modelled_and_labelled() -> None:
    """By the formula, beside what was measured; a paced link needs no model."""
    measured, *modelled = link_points(Variant(name="partially-aware"), 0.02, 0.01, 1.25e6)
    assert (measured["evidence"], measured["ratio"], measured["along"]) == ("measured", 2.0, None)
    assert {point["evidence"] for point in modelled} == {"modelled"}
    assert [(p["along"], p["ratio"]) for p in modelled] == [
        (10.0, pytest.approx(1.1)), (25.0, pytest.approx(1.04)), (100.0, pytest.approx(1.01))
    ]  # fmt: skip
    assert len(link_points(Variant(name="full-1gbps"), 0.02, 0.01, 20.0)) == 1


def test_a_modelled_link_adds_its_bytes_to_each_token() -> None:
    """All else is native's; the formula says the same."""
    native = given.values_of(run(), READS, 72, None)
    found = on_link(native, 1.25e6, 10**7)
    assert (found["token_s"], found["total_s"], found["transfer_s"]) == (1.5, 3.0, 2.25)
    assert (found["compute_s"], found["queue_s"], found["tokens_per_s"]) == (0.5, 0.25, pytest.approx(2 / 3))
    assert found["client_server_bytes_per_token"] == 1.25e6
    assert set(found) <= given.ROUND_METRICS.keys()
    busy = on_link(native | {"gpu_util_share": 0.9, "memory_util_share": None}, 1.25e6, 10**7)
    assert (busy["gpu_util_share"], busy["memory_util_share"]) == (pytest.approx(0.3), None)
    assert formula(1.25e6, 10**7, 0.5) == "1 + 8 × 1.25 MB ÷ (0.01 Gbps × 500 ms) = 3 × native"
    assert formula(20.0, 25 * 10**9, 0.005).startswith("1 + 8 × 20 B ÷ (25 Gbps × 5 ms) = 1 ×")
    peer = on_link(given.values_of(run(queue_s=None, compute_s=None), READS, 72, None), 10.0, 10**7)
    assert (peer["transfer_s"], peer["compute_share"]) == (None, None)
    assert [Variant(name=f"full-{link}").is_modelled for link in ("2gbps", "25gbps")] == [False, True]
    assert not Variant(name="full").is_modelled


def test_the_first_token_and_the_prompt_are_not_in_the_time_per_output_token() -> None:
    """Nor is there one of a single token."""
    assert given.values_of(run(), READS, 72, None)["tpot_s"] == 0.75
    assert given.values_of(run(token_ids=(7,)), READS, 72, None)["tpot_s"] is None


def test_the_arithmetics_floor_counts_weights_and_context() -> None:
    """Twice each weight, and four times the context by layers and width."""
    multiplies = Multiplies(step_weights=250, attended=5, flop_per_s=1e6, how="here")
    assert multiplies.flop(72, 3) == 500 + 20 * 73
    floor = multiplies.floor(72, 3)
    assert (floor.name, floor.value, floor.unit) == ("compute_floor", pytest.approx(0.00196), "s")


def test_a_gpus_stretch_is_told_by_its_tokens_and_what_it_lacks_is_absent() -> None:
    """Joules per token; no energy, no tokens or no readings leave nothing to say."""
    told = Usage(50, 0.9, 0.5, 300.0, 600.0, 7 * 10**9)
    assert metrics_of(told, 200) == {
        "gpu_util_share": 0.9, "memory_util_share": 0.5, "power_w": 300.0, "energy_j_per_token": 3.0,
        "device_used_gb": 7.0,
    }  # fmt: skip
    assert set(metrics_of(told, 200)) <= given.ROUND_METRICS.keys()
    silent = Usage(2, None, None, None, None, None)
    assert set(metrics_of(silent, 200).values()) == {None}
    assert metrics_of(told, 0)["energy_j_per_token"] is None
    assert sampled([told, told], "").ok
    assert not sampled([told, silent], "").ok
    assert not sampled([], "").ok
    lost = sampled([told], "gpu metrics: reading (lost): reboot")
    assert (lost.ok, lost.observed.endswith("gpu metrics: reading (lost): reboot")) == (False, True)


def test_without_a_gpu_nothing_is_watched_and_no_check_is_made() -> None:
    """On a CPU there is nothing to ask; its counters hold nothing either."""
    meter = GpuMeter("cpu")
    assert (meter.is_watching, meter.watch(lambda: 1), meter.check(), meter.lacks) == (False, {}, None, "")
    meter.close()
    nothing = {"host_to_device_bytes": None, "device_to_host_bytes": None}
    assert copied(nothing, nothing, 5) == {}
    before = {"host_to_device_bytes": 100, "device_to_host_bytes": 10}
    after = {"host_to_device_bytes": 180, "device_to_host_bytes": 30}
    assert copied(before, after, 5) == {
        "host_to_device_bytes": 80.0, "device_to_host_bytes": 20.0, "host_device_bytes_per_token": 20.0
    }  # fmt: skip


class Watchful(GpuMeter):
    """Says that it watched, and how many tokens it saw."""

    def watch(self, decode: Any) -> dict[str, float | None]:
        return {"power_w": float(decode())}


def test_a_gpu_is_watched_behind_a_run_and_not_in_its_time() -> None:
    """The benchmark's own number is the run's; what watching found joins its values before they are kept."""
    arm = Watchful("cpu").arm("full", lambda: {"token_s": 1.0}, lambda: 7)
    measured = arm.run()
    assert measured.values == {"token_s": 1.0}
    arm.clean_up()
    assert measured.values == {"token_s": 1.0, "power_w": 7.0}
    arm.clean_up()
    assert measured.values == {"token_s": 1.0, "power_w": 7.0}


def test_a_run_that_is_long_enough_is_watched_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a link of 1 Gbit/s the weights of 7 B take seven minutes a run, and would take them twice."""

    class Looking(GpuMeter):
        def seen(self, began_s: float, done_s: float, tokens: float) -> dict[str, float | None]:
            assert began_s < done_s
            return {"power_w": tokens}

    def again() -> int:
        raise AssertionError("repeated")

    monkeypatch.setattr(decode_gpu, "WATCH_S", 0.0)
    arm = Looking("cpu").arm("full", lambda: {"tokens_generated": 4.0}, again)
    measured = arm.run()
    arm.clean_up()
    assert measured.values == {"tokens_generated": 4.0, "power_w": 4.0}


def test_a_run_that_failed_is_not_watched() -> None:
    """Nor does what is watched later join the values of the run before."""

    def fail() -> int:
        raise AssertionError("nothing to watch")

    arm = Watchful("cpu").arm("full", lambda: {"token_s": 1 / 0}, fail)
    with pytest.raises(ZeroDivisionError):
        arm.run()
    arm.clean_up()


def test_what_was_watched_behind_a_modelled_link_is_modelled_as_well() -> None:
    """The record has what the change makes of both."""

    def double(values: dict[str, float | None]) -> dict[str, float | None]:
        return {name: 2 * (value or 0.0) for name, value in values.items()}

    arm = Watchful("cpu").arm("full", lambda: {"token_s": 1.0}, lambda: 7, change=double)
    measured = arm.run()
    arm.clean_up()
    assert measured.values == {"token_s": 2.0, "power_w": 14.0}


def test_pytorch_that_came_before_its_variables_is_told() -> None:
    """It looks for large pages once, so servers would have them and native would not."""
    assert "THP_MEM_ALLOC_ENABLE=1" in too_late({"torch"}, {"OMP_NUM_THREADS": "1"})
    assert (too_late({"numpy"}, {}), too_late({"torch"}, ENV)) == ("", "")


@pytest.mark.parametrize(
    ("way", "decoding", "rows", "replayed", "slowed", "ok"),
    [
        ("graphs", 8, 8, 8, None, True),
        ("graphs", 0, 8, 8, None, True),
        ("graphs", 8, 8, 7, None, False),
        ("graphs", 0, 0, 0, None, False),
        ("graphs", 8, None, None, None, False),
        ("graphs", 8, 8, 4, "kernels", True),
        ("graphs", 8, 8, 8, "kernels", False),
        ("graphs", 8, 8, 0, "kernels", False),
        ("graphs", 8, 4, 4, "slab-by-slab", True),
        ("graphs", 8, 8, 8, "slab-by-slab", False),
        ("kernels", 8, 8, None, None, True),
        ("kernels", 8, 0, None, None, False),
        ("slab-by-slab", 8, None, None, None, True),
    ],
)
def test_steps_are_run_as_is_said(
    way: str, decoding: int, rows: int | None, replayed: int | None, slowed: str | None, ok: bool
) -> None:
    """All that can be are replayed, but for those of an arm that asks for each kernel, or each session."""
    before = Steps(way, 5, None if rows is None else 3, None if replayed is None else 2)
    after = Steps(
        way, 5 + decoding, None if rows is None else 3 + rows, None if replayed is None else 2 + replayed
    )
    assert after.check(before, slowed=slowed).ok is ok
