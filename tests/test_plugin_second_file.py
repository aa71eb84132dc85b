"""An experiment in two files: what the second one measures is judged by the experiment's claims."""

from __future__ import annotations

import pytest

from tests.demo_suites import make_suite, run_dir, verdict_rows

SECOND = """
import pytest
from fixtures.pairing import Arm, Measured
from reports.records import Metric, Record

{experiment}


@pytest.mark.parametrize("variant", ["small"])
def test_more(variant, paired):
    record = Record(experiment="demo", variant=variant, control=None, backend="none", profile="pocket",
                    metrics={{"wall_s": Metric(unit="s", better="lower", what="wall")}})
    paired.run(record, Arm(variant, lambda: Measured({{"wall_s": 1.0}})))
"""
CLAIM = """
[[claim]]
id = "small-is-quick"
version = 1
source = "a paper, Table 1"
says = "quick"
form = "at_most"
metric = "wall_s"
quantity = "value"
treatment = "small"
published = 2.0
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A suite whose claims speak of a variant that only the second file runs."""
    return make_suite(pytester, monkeypatch, "", CLAIM)


@pytest.mark.parametrize(("experiment", "word"), [('EXPERIMENT = "demo"', "confirmed"), ("", "missing")])
def test_a_file_may_name_the_experiment_that_it_measures(
    suite: pytest.Pytester, experiment: str, word: str
) -> None:
    """With the name its variants are evidence for the experiment's claims; without it they are not."""
    (suite.path / "bench" / "test_more.py").write_text(SECOND.format(experiment=experiment))
    suite.runpytest("bench", "--rounds=3")
    assert [(row["id"], row["verdict"]) for row in verdict_rows(run_dir(suite))] == [("small-is-quick", word)]
