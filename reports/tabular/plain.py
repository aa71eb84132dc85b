"""Every metric of a variant beside its control's: the table of what no experiment has one for."""

from __future__ import annotations

from collections.abc import Sequence

from reports.experiments.routed_tables import Table
from reports.records import Record
from reports.tabular import cells
from reports.tabular.cells import ABSENT
from reports.tabular.means import Estimate, of_rounds

__all__ = ["plain_table"]

TITLES = ("variant", "metric", "mean", "control", "its mean")
NOTE = "mean over rounds (over merged sessions of what stays up for one), with its 95 % interval"


def plain_table(records: Sequence[Record], scope: str | None = None) -> Table | None:
    """A row per record and metric of its rounds; None where nothing was measured in rounds.

    scope: what stands above it; else engines, profile and evidence.
    """
    rows = []
    for record in records:
        for name, metric in record.metrics.items():
            own = of_rounds(record, name)
            if own.value is not None:
                other = of_rounds(record, name, "control")
                rows.append((
                    record.variant, name, _told(own, metric.unit), record.control or ABSENT,
                    _told(other, metric.unit),
                ))  # fmt: skip
    return Table(scope or _scope(records), (TITLES, *rows), (NOTE,)) if rows else None


def _scope(records: Sequence[Record]) -> str:
    parts = [
        " and ".join(dict.fromkeys(r.backend for r in records)),
        "profile " + " and ".join(dict.fromkeys(r.profile for r in records)),
        " and ".join(dict.fromkeys(r.evidence for r in records)),
    ]
    return " · ".join(part for part in parts if part)


def _told(e: Estimate, unit: str) -> str:
    return cells.estimate(e.value, e.interval, unit)
