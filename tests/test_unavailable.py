"""What did not run is told once per reason, with the command that would make it run."""

from __future__ import annotations

import pytest

SUITE = """
import pytest

@pytest.mark.parametrize("variant", ["one", "two", "three"])
def test_demo(variant):
    if variant == "three":
        pytest.skip("other: no docker")
    pytest.skip("large: nobody answers; start it with: serve --model {}".format("m" * 120))

def test_that_runs():
    pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest('pytest_plugins = ["fixtures.unavailable"]')
    pytester.makepyfile(test_demo=SUITE)
    return pytester


def test_each_reason_stands_once_with_the_variants_that_it_kept_out(suite: pytest.Pytester) -> None:
    """The command stands whole on a line of its own, to be copied."""
    result = suite.runpytest_inprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(
        [
            "*not available here*",
            "large: nobody answers",
            f"  $ serve --model {'m' * 120}",
            "    one, two",
            "other: no docker",
            "    three",
        ],
        consecutive=True,
    )


def test_where_everything_runs_nothing_is_told(suite: pytest.Pytester) -> None:
    """The section appears only when something was skipped."""
    result = suite.runpytest_inprocess("-p", "no:cacheprovider", "-k", "runs")
    result.stdout.no_fnmatch_line("*not available here*")
    result.assert_outcomes(passed=1, deselected=3)
