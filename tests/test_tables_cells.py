from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reports.tabular import cells

finite = st.floats(min_value=-1e9, max_value=1e9, allow_nan=False).filter(lambda v: v == 0 or abs(v) > 1e-9)
positive = st.floats(min_value=1e-6, max_value=1e6)


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (1.4237, (1.31, 1.54), "1.42"),
        (36.684, (35.2, 38.1), "36.7"),
        (36.684, (36.679, 36.689), "36.6840"),
        (1234.5, (1100, 1400), "1234"),
        (0.5, None, "0.500"),
        (12345.0, None, "12345"),
        (-3.25, (-4.1, -2.4), "−3.25"),
        (None, None, "–"),
        (math.nan, None, "–"),
        (math.inf, (1, 2), "–"),
        (0.0, None, "0"),
        (2.0, (2.0, 2.0), "2"),
        (2.125, (2.125, 2.125), "2.125"),
        (40 / 3, (40 / 3, 40 / 3), "13.3"),
        (51.06, (51.06 - 1e-10, 51.06 + 1e-10), "51.06"),
        (1e-9, (0, 1e-2), "1e-09"),
        (-0.0043, (-0.5, 0.4), "−0.0043"),
    ],
)
def test_digits_follow_the_interval(
    value: float | None, interval: tuple[float, float] | None, text: str
) -> None:
    """Two significant digits of the half-width decide, three of the number where there is no interval."""
    assert cells.number(value, interval) == text


@pytest.mark.parametrize(
    ("value", "interval", "unit", "text"),
    [
        (1.4237, (1.31, 1.54), "ratio", "1.42× [1.31, 1.54]"),
        (0.36684, (0.352, 0.381), "reduction", "36.7 % [35.2, 38.1]"),
        (-0.008, (-0.041, 0.022), "difference", "−0.8 points [−4.1, 2.2]"),
        (0.0021, (0.0019, 0.0023), "s", "2.10 ms [1.90, 2.30]"),
        (2.514e-6, None, "USD", "2.51 µ$"),
        (4600, (4600, 4600), "tokens", "4600 tokens [4600, 4600]"),
        (None, None, "s", "–"),
        (3.0, (2.0, None), "s", "3.00 s [2.00, …]"),
    ],
)
def test_an_estimate_shows_unit_and_interval(
    value: float | None, interval: tuple[float, float | None] | None, unit: str, text: str
) -> None:
    """The unit stands with the number, the interval after it in the same scale."""
    assert cells.estimate(value, interval, unit) == text


def test_plus_minus_shows_half_the_interval() -> None:
    """A symmetric interval needs one number."""
    assert cells.plus_minus(3.7109, (3.676, 3.746)) == "3.711 ±0.035"
    assert cells.plus_minus(3.7109, None) == "3.71"
    assert cells.plus_minus(None, None) == "–"


@given(value=finite, width=positive)
@example(value=1000.2734375, width=1e-6)
def test_a_value_lies_within_its_rounding(value: float, width: float) -> None:
    """Rounding moves a number by less than a tenth of its half-width, however wide the interval."""
    shown = float(cells.number(value, (value - width, value + width)).replace("−", "-"))
    assert abs(shown - value) <= max(0.1 * width, 1e-11 * abs(value), 0.5 if width >= 10 else 0) + 1e-12


@given(value=finite.filter(bool), width=positive)
def test_a_measured_value_is_never_shown_as_zero(value: float, width: float) -> None:
    """What is not 0 does not read 0."""
    shown = cells.number(value, (value - width, value + width)).replace("−", "-")
    assert float(shown) != 0


@given(
    value=st.one_of(st.none(), st.just(math.nan), st.just(math.inf)),
    unit=st.sampled_from(["s", "USD", "ratio"]),
)
def test_an_absent_value_is_a_dash_in_every_unit(value: float | None, unit: str) -> None:
    """Absent is never 0, and has no unit."""
    assert cells.estimate(value, (0.0, 1.0), unit) == "–"


@given(value=st.floats(min_value=1e-7, max_value=1e5))
def test_seconds_read_at_least_one_in_their_scale(value: float) -> None:
    """The unit is the largest in which the number is not below 1, as far as there is a smaller one."""
    scale = cells.scale_of("s", [value])
    assert scale.unit in ("s", "ms", "µs")
    scaled = scale(value)
    assert scaled is not None
    assert scaled >= 1 or scale.unit == "µs"
    assert scaled / scale.factor == pytest.approx(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "< 1 s"),
        (0.99, "< 1 s"),
        (1, "1 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
    ],
)
def test_durations_are_told_as_a_person_says_them(seconds: float, text: str) -> None:
    """Seconds, minutes from a minute and a half on, hours from an hour and a half on; never 0."""
    assert cells.duration(seconds) == text
    assert cells.about(seconds) == ("less than 1 s" if seconds < 1 else f"about {text}")
