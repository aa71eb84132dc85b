"""What GPUs drew while rounds were measured, and which rounds were throttled; nothing where none was watched.

A throttled round was slower than the device can be. It stays in every interval, since what is left out is a
selection; the table says how many there were, so that a finding which rests on them is seen to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from reports.experiments.routed_tables import Table
from reports.records import ARMS, Record, Values
from reports.tabular.cells import ABSENT

__all__ = ["gpu_table", "throttled_rounds"]

THROTTLED = "gpu_throttled_share"
CAPPED = "gpu_power_capped"
COLUMNS = (
    ("J/token", "gpu_energy_j_per_token", 1.0),
    ("J/task", "gpu_energy_j_per_task", 1.0),
    ("W", "gpu_power_w", 1.0),
    ("busy %", "gpu_busy_share", 100.0),
    ("memory busy %", "gpu_memory_busy_share", 100.0),
    ("GB in use", "gpu_used_gb", 1.0),
    ("SM MHz", "gpu_sm_mhz", 1.0),
)
NOTE = "all GPUs together, over the round, idle draw included; means of the rounds"


def gpu_table(records: Iterable[Record]) -> list[Table]:
    """One table of an experiment's variants, each with its own arm's rounds; none without telemetry."""
    found = [record for record in records if _watched(record)]
    if not found:
        return []
    rows = [_row(record) for record in found]
    notes = [NOTE, *(line for record in found for line in throttled_rounds(record))]
    titles = ("variant", *(title for title, _, _ in COLUMNS), "throttled rounds")
    return [Table("energy and clocks of the GPUs", (titles, *rows), tuple(notes))]


def throttled_rounds(record: Record) -> list[str]:
    """A line for each arm in whose rounds something held the clocks back."""
    lines = []
    for arm in ARMS:
        rounds = [values for values in _arm(record, arm) if values.get(THROTTLED) is not None]
        held = [values for values in rounds if values[THROTTLED]]
        if not held:
            continue
        name = record.variant if arm == "treatment" else f"{record.control}, beside {record.variant}"
        share = max(values[THROTTLED] or 0.0 for values in held)
        capped = sum(bool(values.get(CAPPED)) for values in held)
        why = f"; by the power cap in {capped}" if capped else ""
        worst = f"at {share:.0%} of the readings at most"
        lines.append(f"throttled: {name}: {len(held)} of {len(rounds)} rounds{why}; {worst}")
    return lines


def _watched(record: Record) -> bool:
    return any(THROTTLED in values for values in _arm(record, "treatment"))


def _arm(record: Record, arm: str) -> Sequence[Values]:
    return [values for one in record.rounds if (values := getattr(one, arm)) is not None]


def _row(record: Record) -> tuple[str, ...]:
    cells = [_cell(record.values(metric), factor) for _, metric, factor in COLUMNS]
    told = record.values(THROTTLED)
    return (record.variant, *cells, f"{sum(map(bool, told))} of {len(told)}" if told else ABSENT)


def _cell(values: Sequence[float], factor: float) -> str:
    return f"{fmean(values) * factor:.3g}" if values else ABSENT
