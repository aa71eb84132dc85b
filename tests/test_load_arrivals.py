"""Arrivals rise, repeat for a seed, and offer the rate asked for; recorded ones are taken as they are."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.load import constant, gamma, read_trace

rates = st.floats(0.01, 1e3)
shapes = st.floats(0.05, 50)


@given(rates, st.integers(1, 200), shapes, st.integers(0, 1000))
def test_gamma_arrivals_rise_in_their_window_and_repeat(
    rate: float, number: int, shape: float, seed: int
) -> None:
    """Whatever the shape, so many arrivals fall into the window that the rate makes."""
    due = gamma(rate, number, burstiness=shape, seed=seed)
    assert len(due) == number
    assert list(due) == sorted(due)
    assert 0 <= due[0] <= due[-1] <= number / rate * (1 + 1e-9)
    assert due == gamma(rate, number, burstiness=shape, seed=seed)


@pytest.mark.parametrize("shape", [0.25, 1.0, 4.0])
def test_the_gaps_of_gamma_arrivals_vary_as_the_shape_says(shape: float) -> None:
    """Of 20,000 gaps the coefficient of variation is 1 / sqrt(shape), and the mean 1 / rate."""
    due = gamma(8.0, 20_000, burstiness=shape, seed=7)
    gaps = [b - a for a, b in itertools.pairwise(due)]
    assert fmean(gaps) == pytest.approx(1 / 8, rel=0.01)
    assert stdev(gaps) / fmean(gaps) == pytest.approx(1 / math.sqrt(shape), rel=0.05)


@given(rates, st.integers(2, 100))
def test_even_arrivals_are_equally_far_apart(rate: float, number: int) -> None:
    """The first is due at once."""
    due = constant(rate, number)
    assert due[0] == 0
    assert [b - a for a, b in itertools.pairwise(due)] == pytest.approx([1 / rate] * (number - 1))


@pytest.mark.parametrize("shape", [0.0, -1.0, math.inf, math.nan])
def test_a_shape_that_makes_no_sense_is_refused(shape: float) -> None:
    """The message names it."""
    with pytest.raises(UsageError, match=f"burstiness is {shape}"):
        gamma(1.0, 5, burstiness=shape, seed=0)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50).map(sorted))
def test_a_recorded_trace_is_offered_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, times: list[float]
) -> None:
    """Either form of file gives the same gaps, from 0 on."""
    folder = tmp_path_factory.mktemp("trace")
    (folder / "a.json").write_text(json.dumps(times))
    (folder / "a.csv").write_text("arrival_s\n" + "\n".join(map(repr, times)))
    due = tuple(time - times[0] for time in times)
    assert read_trace(folder / "a.json").due_s == due
    assert read_trace(folder / "a.csv").due_s == due


def test_a_trace_may_hold_lengths(tmp_path: Path) -> None:
    """Then they are what is asked for; at double speed they stay."""
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n3,100,20\n5,50,10\n")
    trace = read_trace(path).scaled(2)
    assert trace.due_s == (0, 1)
    assert trace.prompt_tokens == (100, 50)
    assert trace.output_tokens == (20, 10)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "arrival_s\n2\n1\n", "line 3: arrival_s 1 is before 2"),
        ("a.csv", "arrival_s\n1\nsoon\n", "line 3: arrival_s is 'soon'"),
        ("a.csv", "arrival_s\nnan\n", "line 2: arrival_s is 'nan'"),
        ("a.csv", "seconds\n1\n", "its header is seconds; give arrival_s"),
        ("a.csv", "arrival_s,prompt_tokens\n1\n", "line 2: not as many fields"),
        ("a.csv", "arrival_s\n1,2\n", "line 2: not as many fields"),
        ("a.csv", "arrival_s,output_tokens\n1,0\n", "line 2: output_tokens is '0'"),
        ("a.csv", "arrival_s\n", "holds no arrival"),
        ("a.csv", "", "its header is empty"),
        ("a.json", "[1, true]", "entry 1: arrival_s is True"),
        ("a.json", '{"a": 1}', "holds dict; give a list"),
        ("a.json", '[{"arrival_s": 1, "at": 2}]', "entry 0: unknown key 'at'"),
        ("a.json", '[{"arrival_s": 1, "output_tokens": 5}, 2]', "1 of 2 entries give output_tokens"),
        ("a.json", "[1", "no JSON"),
        ("a.txt", "1", "neither .csv nor .json"),
    ],
)
def test_a_trace_that_is_none_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    """The message names the file, the entry and the value."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_trace(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_trace_that_is_not_there_is_named(tmp_path: Path) -> None:
    """So is the reason."""
    with pytest.raises(UsageError, match="No such file"):
        read_trace(tmp_path / "none.csv")
