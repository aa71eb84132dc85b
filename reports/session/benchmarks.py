"""pytest-benchmark's session in several processes: the one module that touches what it keeps private.

pytest-benchmark 5.3 switches itself off under pytest-xdist, in the controller and in every worker. Here a
worker's is switched on again and writes nothing, and the controller's gets the benchmarks that workers sent,
so that it writes, saves and compares them as if it had run them.

Trap: `BenchmarkSession` and `Metadata` are no public API. `missing` names what of them has changed, before
anything is measured; their versions are pinned in pyproject.toml.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

__all__ = ["SESSION", "add", "missing", "switch_on", "write_nothing"]

SESSION = {
    "benchmarks": list,
    "disabled": bool,
    "xdist_warning": bool,
    "xdist_benchmark_found": bool,
}
"""Attributes of `BenchmarkSession` that are read or set here, and their types."""
OUTPUTS: Mapping[str, Any] = {
    "benchmark_json": None,
    "benchmark_save": None,
    "benchmark_autosave": None,
    "benchmark_histogram": [],
    "benchmark_compare": None,
    "benchmark_compare_fail": [],
}
"""Options of what is written and compared at the end, each as if it was not given."""
METADATA = ("name", "fullname", "group", "param", "params", "extra_info", "iterations", "options", "stats")
"""Attributes of `Metadata` that a benchmark of a worker is made of again."""


def missing(session: Any) -> list[str]:
    """What this module needs of pytest-benchmark and does not find, in words; empty with 5.3."""
    gone = [f"BenchmarkSession.{name}" for name in SESSION if not hasattr(session, name)]
    found = {name: getattr(session, name) for name in SESSION if hasattr(session, name)}
    gone += [
        f"BenchmarkSession.{name} (is {type(value).__name__}, was {SESSION[name].__name__})"
        for name, value in found.items()
        if not isinstance(value, SESSION[name])
    ]
    try:
        made = _metadata({"name": "x", "fullname": "x", "options": {}, "stats": {"data": [1.0]}}, {})
        gone += [f"Metadata.{name}" for name in METADATA if not hasattr(made, name)]
        if made.as_dict()["stats"]["data"] != [1.0]:
            gone.append("Metadata.stats.data")
    except (AttributeError, ImportError, KeyError, TypeError) as exc:
        gone.append(f"Metadata ({exc})")
    return gone


def switch_on(config: pytest.Config) -> None:
    """Measure in this process although it is one of several; --benchmark-disable still holds.

    Raises
    ------
    UsageError: this version of pytest-benchmark keeps its session otherwise.
    """
    session = config._benchmarksession  # type: ignore[attr-defined]
    if gone := missing(session):
        raise pytest.UsageError(
            f"--lanes: this pytest-benchmark has no {', '.join(gone)} as 5.3 has; "
            "install pytest-benchmark>=5.3,<5.4, or run without --lanes"
        )
    session.disabled = bool(
        config.getoption("benchmark_disable") and not config.getoption("benchmark_enable")
    )
    session.xdist_warning = session.xdist_benchmark_found = False


def write_nothing(config: pytest.Config) -> None:
    """Leave files and comparisons to the controller. Call it before pytest-benchmark makes its session."""
    for name, absent in OUTPUTS.items():
        setattr(config.option, name, absent)


def add(config: pytest.Config, entry: Mapping[str, Any], order: Mapping[str, int]) -> None:
    """Put a finished variant among the session's benchmarks, if it has one.

    Arguments: `order`, the place of each test in the collection, which the benchmarks are kept in.
    """
    if not entry["benchmark"]:
        return
    benchmarks = config._benchmarksession.benchmarks  # type: ignore[attr-defined]
    benchmarks.append(_metadata(entry["benchmark"], entry["extra_info"]))
    benchmarks.sort(key=lambda made: order.get(made.fullname, len(order)))


def _metadata(stored: Mapping[str, Any], extra_info: Mapping[str, Any]) -> Any:
    """A benchmark as pytest-benchmark keeps it, from `Metadata.as_dict`."""
    kinds: Any = import_module("pytest_benchmark.stats")  # as Any, since it has no types
    about = {name: stored.get(name) for name in ("name", "fullname", "group", "param", "params")}
    fixture = SimpleNamespace(**about, extra_info=dict(extra_info), cprofile_stats=None, has_error=False)
    iterations = stored["stats"].get("iterations", 1)
    made = kinds.Metadata(fixture, iterations=iterations, options=dict(stored["options"]))
    for duration_s in stored["stats"]["data"]:
        made.stats.update(duration_s)
    return made
