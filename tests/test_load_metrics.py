"""Metrics follow their printed formulas; what is not supported or not known is no number."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.load import Entry, check_client
from harness.load.client import nearest_rank
from harness.load.cpu import Sample, cpu_share
from harness.load.metrics import SLO, distributions, rates, tail
from harness.load.window import Window, counted, mean_in_flight, steadiness

STEP_S = 0.01


def entry(intended_s: float, *, num_tokens: int = 5, late_s: float = 0.0, **other: Any) -> Entry:
    """A request answered with a token each 10 ms, the first 10 ms after it was sent."""
    sent_s = intended_s + late_s
    times_s = tuple(sent_s + STEP_S * (i + 1) for i in range(num_tokens))
    known: dict[str, Any] = {
        "index": 0, "intended_s": intended_s, "dispatched_s": sent_s, "sent_s": sent_s,
        "first_token_s": times_s[0], "chunk_times_s": times_s, "done_s": times_s[-1],
        "prompt_tokens": 3, "output_tokens": num_tokens,
    }  # fmt: skip
    return Entry(**{**known, **other})


def failed(intended_s: float) -> Entry:
    """A request that got no answer."""
    return Entry(
        index=0, intended_s=intended_s, dispatched_s=intended_s, done_s=intended_s + 1, error="Broken: x"
    )


def test_latencies_count_from_the_intended_start() -> None:
    """A client that was 0.5 s late adds 0.5 s to TTFT and latency, and nothing to what follows the first."""
    found = entry(1.0, late_s=0.5)
    assert found.dispatch_delay_s == pytest.approx(0.5)
    assert found.ttft_s == pytest.approx(0.51)
    assert found.e2e_latency_s == pytest.approx(0.55)
    assert found.tpot_s == pytest.approx(STEP_S)
    assert found.itl_s == pytest.approx([STEP_S] * 4)


def test_a_chunk_of_several_tokens_is_one_gap() -> None:
    """ITL is per gap and TPOT per token: with two tokens a chunk they differ by two or so."""
    pair = entry(0.0, num_tokens=5, output_tokens=10)
    assert pair.itl_s == pytest.approx([STEP_S] * 4)
    assert pair.tpot_s == pytest.approx(4 * STEP_S / 9)
    found = rates([pair], Window(0, 1), SLO())
    assert found.tokens_per_chunk == 2


@pytest.mark.parametrize(("share", "needed"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368)])
def test_a_percentile_wants_enough_requests(share: float, needed: int) -> None:
    """One fewer, and the cell says how many it needs in place of a number."""
    enough = tail([1.0] * needed, share)
    assert enough.value == 1.0
    assert enough.why is None
    too_few = tail([1.0] * (needed - 1), share)
    assert too_few.value is None
    assert too_few.why == f"{needed - 1} of the {needed} requests that it needs"


def test_many_gaps_of_few_requests_support_no_tail() -> None:
    """5 requests give 500 gaps, and no p99 of them: the gaps of a request are not independent."""
    found = distributions([entry(0.0, num_tokens=101) for _ in range(5)])["itl_s"]
    assert found.n == 500
    assert [q.value for q in found.quantiles] == [None] * 4


@given(st.lists(st.floats(0, 100), min_size=6, max_size=400), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_a_value_and_lies_in_its_interval(values: list[float], share: float) -> None:
    """Nearest rank: so many values are at most it, and no smaller value has that."""
    found = tail(values, share)
    if found.value is None:
        return
    assert found.value in values
    assert sum(v <= found.value for v in values) >= share * len(values) * (1 - 1e-12)
    assert sum(v < found.value for v in values) < share * len(values)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high


def test_the_interval_of_a_percentile_covers_it_19_times_in_20() -> None:
    """Over 2,000 samples of 100 uniform values the interval of p90 holds 0.9 in 94 % or more."""
    import random

    draw = random.Random(5)
    hits = 0
    for _ in range(2000):
        found = tail([draw.random() for _ in range(100)], 0.9)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.9 <= found.high
    assert hits >= 0.94 * 2000


def test_a_failure_is_infinitely_late() -> None:
    """With 10 % failed the median is a number, p95 falls on a failure and says so; the mean leaves it out."""
    entries = [entry(0.0) for _ in range(90)] + [failed(0.0) for _ in range(10)]
    found = distributions(entries)
    for name in ("ttft_s", "tpot_s", "e2e_latency_s"):
        median, _, p95, _ = found[name].quantiles
        assert median.value is not None, name
        assert p95.value is None, name
        assert p95.why == "it falls on a failed request"
        assert found[name].n == 100
    assert found["ttft_s"].mean == pytest.approx(STEP_S)


def test_goodput_holds_every_limit_and_counts_no_failure() -> None:
    """Of four requests in two seconds one is good: others are late, slow, or failed."""
    entries = [entry(0.0), entry(0.1, late_s=1.0), entry(0.2, done_s=9.0), failed(0.3)]
    found = rates(entries, Window(0, 2), SLO(ttft_s=0.1, e2e_latency_s=1.0))
    assert found.goodput == 0.5
    assert rates(entries, Window(0, 2), SLO()).goodput is None


def test_goodput_is_no_number_when_an_answer_lacks_what_is_limited() -> None:
    """An answer that came whole has no TTFT: it neither met the limit nor missed it."""
    whole = entry(0.0, first_token_s=None, chunk_times_s=())
    found = rates([whole, entry(0.1)], Window(0, 2), SLO(ttft_s=1.0))
    assert found.goodput is None
    assert found.why == "1 answers lack what the SLO limits"
    assert rates([whole], Window(0, 2), SLO(e2e_latency_s=1.0)).goodput == 0.5


def test_an_answer_of_one_token_keeps_any_tpot() -> None:
    """It has none."""
    assert rates([entry(0.0, num_tokens=1)], Window(0, 1), SLO(tpot_s=1e-9)).goodput == 1


def test_tokens_that_were_not_counted_give_no_throughput() -> None:
    """Absent is never 0."""
    found = rates([entry(0.0, output_tokens=None)], Window(0, 1), SLO())
    assert found.output_throughput is None
    assert found.why == "1 answers came without a count of tokens"
    assert found.request_throughput == 1


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60), st.floats(0.1, 9))
def test_adjoining_windows_share_out_every_token(starts: list[float], cut_s: float) -> None:
    """Tokens of two windows that meet add up to all tokens, whatever the cut."""
    entries = [entry(start) for start in starts]
    whole = rates(entries, Window(0, 20), SLO()).output_throughput
    parts = [Window(0, cut_s), Window(math.nextafter(cut_s, 99), 20)]
    found = [rates(entries, part, SLO()).output_throughput for part in parts]
    assert whole is not None
    total = sum((f or 0) * part.length_s for f, part in zip(found, parts, strict=True))
    assert total == pytest.approx(5 * len(entries))
    assert whole * 20 == pytest.approx(5 * len(entries))


@given(st.lists(st.floats(0, 10), max_size=50), st.floats(0, 4), st.floats(5, 10))
def test_the_window_counts_by_intended_start(starts: list[float], begin_s: float, end_s: float) -> None:
    """However late an answer ends, it is counted when it was due in the window, and only then."""
    entries = [entry(start, done_s=start + 100) for start in starts]
    found = counted(entries, Window(begin_s, end_s))
    assert [e.intended_s for e in found] == [s for s in starts if begin_s <= s <= end_s]


@pytest.mark.parametrize("warmup_s", [2.0, 3.0, -1.0])
def test_a_warm_up_that_leaves_nothing_is_refused(warmup_s: float) -> None:
    """The message names both lengths."""
    with pytest.raises(UsageError, match="leave no window"):
        Window.after(warmup_s, 2.0)


def test_requests_in_flight_are_averaged_over_time() -> None:
    """Two requests of half the window each are one in flight."""
    entries = [entry(0.0, done_s=1.0), entry(1.0, done_s=2.0)]
    assert mean_in_flight(entries, Window(0, 2)) == 1.0


def test_a_queue_that_grows_is_not_steady() -> None:
    """Ten requests a second, of which five are served, pile up; if all are served, they do not."""
    due = [i / 10 for i in range(100)]
    grows = [entry(t, done_s=t * 2 + 0.1) for t in due]
    steady = [entry(t, done_s=t + 0.5) for t in due]
    assert not steadiness(grows, Window(0, 10)).is_steady
    assert steadiness(steady, Window(0, 10)).is_steady


@pytest.mark.parametrize(
    ("cpu", "late_s", "ok"),
    [(0.2, 0.005, True), (0.70, 0.005, False), (0.69, 0.005, True), (0.2, 0.011, False)],
)
def test_a_slow_client_makes_the_measurement_invalid(cpu: float, late_s: float, ok: bool) -> None:
    """At 70 % of a core, or a dispatch delay above a tenth of the TTFT."""
    found = check_client([0.1, cpu], [late_s] * 100, [0.1] * 100)
    assert found.ok is ok
    assert f"{cpu:.0%} of a core" in found.observed


def test_the_99th_percentile_of_dispatch_delay_decides() -> None:
    """One late request of a hundred is forgiven, two are not."""
    assert check_client([0.1], [0.0] * 99 + [1.0], [0.1] * 100).ok
    assert not check_client([0.1], [0.0] * 98 + [1.0] * 2, [0.1] * 100).ok


def test_a_server_that_fails_does_not_excuse_the_client() -> None:
    """With six of ten requests failed the limit is still a tenth of what the others took."""
    ttft_s = [0.1] * 40 + [math.inf] * 60
    assert not check_client([0.1], [0.02] * 100, ttft_s).ok
    assert check_client([0.1], [0.005] * 100, ttft_s).ok
    assert not check_client([0.1], [0.0] * 100, [math.inf] * 100).ok


def test_a_request_that_was_never_sent_decides() -> None:
    """One of a thousand is enough: what a client leaves out, no percentile of the others shows."""
    found = check_client([0.1], [0.0] * 1000, [0.1] * 1000, 1)
    assert not found.ok
    assert "1 requests" in found.observed


def test_a_dispatch_delay_ends_when_the_request_was_written() -> None:
    """What lies between sending and writing is the client's wait and the connection."""
    assert entry(1.0, late_s=0.001, written_s=1.005).dispatch_delay_s == pytest.approx(0.005)
    assert entry(1.0, late_s=0.001).dispatch_delay_s == pytest.approx(0.001)
    assert failed(1.0).dispatch_delay_s == 0.0


def test_a_load_without_requests_is_not_valid() -> None:
    """Nothing seen is not seen to be good."""
    assert not check_client([0.1], [], []).ok


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1))
def test_the_nearest_rank_is_one_of_the_values(values: list[float], share: float) -> None:
    """No value is made up between two."""
    assert nearest_rank(values, share) in values


def test_cpu_is_shared_out_over_the_window() -> None:
    """A client busy for one second of four used all of that second, and a quarter of the whole."""
    samples = [Sample(0, 5.0), Sample(1, 5.0), Sample(2, 6.0), Sample(4, 6.0)]
    assert cpu_share(samples, 0, 4) == pytest.approx(0.25)
    assert cpu_share(samples, 1, 2) == pytest.approx(1.0)
    assert cpu_share(samples, 1.5, 2.5) == pytest.approx(0.5)
    assert cpu_share(samples, -1, 9) == pytest.approx(0.25)
