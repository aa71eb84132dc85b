"""The canary: what lanes need of pytest-benchmark's private session, named as soon as it changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from reports.session import benchmarks


def test_pytest_benchmark_keeps_its_session_as_the_adapter_expects(request: pytest.FixtureRequest) -> None:
    """Fails with the names of the attributes that a new version has changed."""
    assert benchmarks.missing(request.config._benchmarksession) == []  # type: ignore[attr-defined]


def test_pytest_benchmark_has_the_options_that_workers_leave_out(request: pytest.FixtureRequest) -> None:
    """A new name for one of them would have every worker write the controller's files."""
    assert [name for name in benchmarks.OUTPUTS if not hasattr(request.config.option, name)] == []


def session(**changed: Any) -> SimpleNamespace:
    whole = {"benchmarks": [], "disabled": True, "xdist_warning": True, "xdist_benchmark_found": False}
    return SimpleNamespace(**{k: v for k, v in {**whole, **changed}.items() if v != "gone"})


@pytest.mark.parametrize("name", benchmarks.SESSION)
def test_an_attribute_that_is_gone_is_named(name: str) -> None:
    """One line per attribute, whichever it is."""
    assert benchmarks.missing(session(**{name: "gone"})) == [f"BenchmarkSession.{name}"]


def test_an_attribute_of_another_kind_is_named_with_both_kinds() -> None:
    """A list that became a dictionary would be appended to in vain."""
    assert benchmarks.missing(session(benchmarks={})) == ["BenchmarkSession.benchmarks (is dict, was list)"]


def test_a_run_under_another_version_stops_before_it_measures() -> None:
    """The message names what is gone and which version has it."""
    config: Any = SimpleNamespace(_benchmarksession=session(disabled="gone"))
    with pytest.raises(pytest.UsageError, match=r"no BenchmarkSession\.disabled .*>=5\.3,<5\.4"):
        benchmarks.switch_on(config)


def test_a_benchmark_survives_the_way_home(request: pytest.FixtureRequest) -> None:
    """What a worker's benchmark says of itself, the controller's says too, to the last bit."""
    durations_s = [0.1, 0.30000000000000004, 0.2]
    name = "test_x[a]"
    stored = {
        "group": None, "name": name, "fullname": f"bench/test_x.py::{name}", "params": {"variant": "a"},
        "param": "a", "options": {"timer": "perf_counter", "disable_gc": False},
        "stats": {"data": durations_s, "iterations": 1},
    }  # fmt: skip
    config: Any = SimpleNamespace(_benchmarksession=session())
    for each in ("test_y", name):
        entry = {"benchmark": {**stored, "fullname": f"bench/test_x.py::{each}"}, "extra_info": {"assay": {}}}
        benchmarks.add(config, entry, {"bench/test_x.py::test_x[a]": 0, "bench/test_x.py::test_y": 1})
    first, second = config._benchmarksession.benchmarks
    assert (first.fullname, second.fullname) == ("bench/test_x.py::test_x[a]", "bench/test_x.py::test_y")
    found = first.as_dict()
    assert found["stats"]["data"] == durations_s
    assert found["stats"]["max"] == 0.30000000000000004
    assert {name: found[name] for name in stored if name != "stats"} == {
        name: value for name, value in stored.items() if name != "stats"
    }
    assert found["extra_info"] == {"assay": {}}


def test_a_variant_that_was_skipped_adds_no_benchmark() -> None:
    """It has no rounds."""
    config: Any = SimpleNamespace(_benchmarksession=session())
    benchmarks.add(config, {"benchmark": None, "extra_info": {}}, {})
    assert config._benchmarksession.benchmarks == []
