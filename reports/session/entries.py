"""A finished variant, from pytest's report to the journal, and from the journal to the judge."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reports.records import Record
from reports.session.items import experiment_of

__all__ = ["begin", "entry_of", "stored_of"]

EXTRA = "assay"
"""The key of pytest-benchmark's `extra_info` under which a test leaves its record."""
_BEGAN_S: pytest.StashKey[float] = pytest.StashKey()


def begin(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Note when a test began: with its setup."""
    if call.when == "setup":
        item.stash[_BEGAN_S] = call.start


def entry_of(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> dict[str, Any]:
    """What the journal holds of a finished variant: how it ended, its rounds, and its record.

    `duration_s` counts from the begin of its setup, on the wall's clock.
    """
    bench: Any = getattr(item, "funcargs", {}).get("benchmark")
    stats: Any = getattr(bench, "stats", None)
    whole = None
    if stats is not None and stats.stats.data and not bench.has_error:
        whole = json.loads(json.dumps(stats.as_dict(include_data=True), default=repr))
        del whole["extra_info"]  # stands beside it
    return {
        "nodeid": item.nodeid,
        "experiment": experiment_of(item),
        "params": dict(item.callspec.params) if hasattr(item, "callspec") else {},
        "outcome": report.outcome,
        "why": _why(call, report),
        "duration_s": round(call.stop - item.stash.get(_BEGAN_S, call.start), 3),
        "data": list(stats.stats.data) if whole else [],
        "benchmark": whole,
        "extra_info": dict(bench.extra_info) if bench is not None else {},
    }


def stored_of(entry: dict[str, Any]) -> Any:
    """An entry of the journal as the evidence for a verdict."""
    from reports.verdicts import Stored

    data = entry["extra_info"].get(EXTRA)
    return Stored(
        nodeid=entry["nodeid"],
        state=entry["outcome"],
        why=entry["why"],
        params=entry["params"],
        record=Record.from_json(data) if data else None,
    )


def _why(call: pytest.CallInfo[None], report: pytest.TestReport) -> str:
    if call.excinfo is None:
        return ""
    if report.outcome == "skipped":
        return str(getattr(call.excinfo.value, "msg", call.excinfo.value))
    return call.excinfo.exconly()
