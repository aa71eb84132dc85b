"""Switching's tables: the arms that answered traces, policies as simulated, and variants of another kind.

Traps: hits, bytes and quantiles are of all requests pooled over seeds, ratios are of paired rounds; P99 of a
ratio is not among them, since a trace of 30 has none: the largest of each trace stands in its place. Bytes
are decimal, per trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reports.experiments.routed_tables import Table
from reports.experiments.switching import (
    CONTROL,
    DEFAULT,
    EXPERIMENT,
    FORESEEING,
    Arm,
    arms,
    faster,
    is_simulated,
    moved,
    needed,
    scope,
)
from reports.experiments.switching_grids import Grid, grids, simulated_scope
from reports.records import Record, TaskPair
from reports.tabular import cells
from reports.tabular.cells import ABSENT, Scale
from reports.tabular.means import Estimate, mean, unit_notes
from reports.tabular.plain import plain_table

__all__ = ["bytes_scale", "over_belady", "tables"]

TITLES = ("arm", "done", "hits", "moved", "Belady", "out", "switch p50", "p99")
RATIOS = (("p50 ×", "ttft_p50_s"), ("mean ×", "ttft_mean_s"), ("max ×", "ttft_max_s"))
LAST = ("seeds", "switch max")
NOTES = (
    "hits: requests with nothing left to copy; moved, out: bytes to the device and back, per trace; Belady: "
    "moved ÷ the least that any policy moves; switch: kept from computing, up to the first token",
    f"×: to the first token, times as fast as {CONTROL} on the same trace: its p50, mean and largest, in the "
    "geometric mean over traces",
    "n/a: unsupported; a p50 needs 6 requests, a p99 368, and the interval of either ten seeds",
)
POLICIES = ("policy", "hits", "moved GB", "Belady", "out GB", "switch p50", "p99", "p50 ×", "mean ×", "p99 ×")
MORE = ("total p50 ×", "mean ×")
POLICY_NOTES = (
    "over all requests of all seeds, bytes per trace; hits and bytes are exact, seconds as good as the "
    f"declared link and compute times; ×: to the first token, times as fast as {CONTROL}; total: to the last",
)
FLOAT_NOISE_S = 1e-9
"""What is left of a simulated second where nothing was waited for."""
FORESEEN = (
    "traces",
    "seeds",
    "hits",
    "its hits",
    "moved",
    "its moved",
    "bytes ÷ its",
    "mean ttft",
    "its ttft",
)
FORESEEN_NOTES = (
    "its: of the control, the arm that knows every request to come; bytes per trace; ÷: of all seeds' bytes",
)


def tables(records: Iterable[Record], *, is_whole: bool = False) -> list[Table]:
    """The tables of an experiment; none where nothing was switched.

    is_whole: every number with its interval, and every setting that was simulated, whatever the width.
    """
    records = [r for r in records if r.experiment == EXPERIMENT]
    found = arms(records)
    out = [_arms(found, is_whole=is_whole)] if found else []
    simulated = grids(records, "sim-policies", "buffer_gb")
    simulated += grids(records, "sim-trace", "buffer_gb") if is_whole else []
    out += [
        _policies(one, level) for one in (simulated if is_whole else simulated[:1]) for level in one.levels
    ]
    out += [_models(one) for one in grids(records, "sim-models", "models")] if is_whole else []
    out += [_foreseen(r) for r in records if r.variant == FORESEEING and r.tasks]
    shown = {id(arm.record) for arm in found}
    others = [r for r in records if id(r) not in shown and not is_simulated(r) and any(r.rounds)]
    others = [r for r in others if r.variant not in {arm.name for arm in found}]
    beside = plain_table(others, "Other variants")
    return [*out, *([beside] if beside else [])]


def over_belady(arm: Arm) -> float | None:
    """Bytes moved over the least that any policy moves, of the rounds that know both."""
    known = [
        (own, least)
        for values in arm.rounds
        if (own := moved(values)) is not None and (least := values.get("belady_bytes_in"))
    ]
    return sum(own for own, _ in known) / sum(least for _, least in known) if known else None


def bytes_scale(values: Iterable[float | None]) -> Scale:
    """Gigabytes where the largest is one or more, else megabytes; both decimal."""
    largest = max((abs(v) for v in values if v is not None), default=0.0)
    return Scale(1e-9, "GB") if largest >= 1e9 else Scale(1e-6, "MB")


def _arms(found: Sequence[Arm], *, is_whole: bool) -> Table:
    per_trace = [arm.mean("bytes_in") for arm in found]
    scale = bytes_scale(per_trace)
    titles = [f"{t} {scale.unit}" if t in ("moved", "out") else t for t in TITLES]
    rows = [_arm(arm, scale, is_whole=is_whole) for arm in found]
    notes = (*NOTES, *unit_notes(arm.record for arm in found))
    return Table(scope(found), ((*titles, *(t for t, _ in RATIOS), *LAST), *rows), notes)


def _arm(arm: Arm, scale: Scale, *, is_whole: bool) -> tuple[str, ...]:
    is_hit = arm.values("is_hit")
    totals = [total for values in arm.rounds if (total := moved(values)) is not None]
    quantiles = zip((0.5, 0.99), arm.quantiles("switch_s", (0.5, 0.99)), strict=True)
    switches = arm.values("switch_s")
    return (
        arm.name + ("" if arm.record.evidence == "measured" else f" ({arm.record.evidence})"),
        f"{arm.completed}/{arm.planned}" if arm.planned else str(arm.completed),
        f"{100 * sum(is_hit) / len(is_hit):.0f} %" if is_hit else ABSENT,
        cells.number(scale(sum(totals) / len(totals))) if totals else ABSENT,
        cells.with_unit(cells.number(over_belady(arm)), "×"),
        _bytes(arm.mean("bytes_out"), scale),
        *(_quantile(e, share, is_whole=is_whole) for share, e in quantiles),
        *(_faster(arm, metric, is_whole=is_whole) for _, metric in RATIOS),
        str(arm.seeds),
        cells.estimate(max(switches), None, "s") if switches else ABSENT,
    )


def _bytes(value: float | None, scale: Scale) -> str:
    """None at all is exact, and 0."""
    return "0" if value == 0 else cells.number(scale(value))


def _quantile(e: Estimate, share: float, *, is_whole: bool) -> str:
    if e.value is None and e.n:
        return f"unsupported ({e.n} of {needed(share)})" if is_whole else "n/a"
    return cells.estimate(e.value, e.interval if is_whole else None, "s")


def _faster(arm: Arm, metric: str, *, is_whole: bool) -> str:
    found = faster(arm, metric)
    if found is None:
        return ABSENT
    ends = (found.low, found.high)
    text = cells.with_unit(cells.number(found.estimate, ends, 2 if is_whole else 1), "×")
    return f"{text} {cells.interval_text(found.estimate, ends)}".rstrip() if is_whole else text


def _policies(one: Grid, level: Any) -> Table:
    at = [one.at(policy, level) for policy in one.policies]
    rows = [(*_policy(p), *(_times(p, key) for key in _MORE_KEYS)) for p in at if p]
    return Table(simulated_scope(one, level), ((*POLICIES, *MORE), *rows), POLICY_NOTES)


_MORE_KEYS = ("total_ratio_p50", "total_ratio_mean")


def _policy(point: Mapping[str, Any]) -> tuple[str, ...]:
    hits = point.get("hit_share")
    out = point.get("bytes_out_gb")
    return (
        str(point["policy"]),
        ABSENT if hits is None else f"{100 * hits:.0f} %",
        cells.number(point.get("bytes_in_gb")),
        _times(point, "bytes_over_belady"),
        "0" if out == 0 else cells.number(out),
        *(_seconds(point.get(f"switch_{name}_s")) for name in ("p50", "p99")),
        *(_times(point, f"ttft_ratio_{name}") for name in ("p50", "mean", "p99")),
    )


def _models(one: Grid) -> Table:
    """Bytes by the number of models, over the control's."""
    titles = ("policy", *(f"{level} models" for level in one.levels))
    rows = [
        (name, *(_share_of(one.at(name, level), one.at(CONTROL, level)) for level in one.levels))
        for name in one.policies
    ]
    note = f"bytes moved, in % of those of {CONTROL}; least: of any policy"
    least = [_share_of(p, p, "belady_bytes_gb") for level in one.levels if (p := one.at(CONTROL, level))]
    return Table(simulated_scope(one), (titles, *rows, ("least", *least)), (note,))


def _foreseen(record: Record) -> Table:
    """The default policy beside the arm that knows what is to come, by mix and warm-up."""
    cases: dict[str, list[TaskPair]] = {}
    for task in record.tasks:
        cases.setdefault(task.id.partition(".")[0], []).append(task)
    titles = [f"{t} GB" if t.endswith("moved") else t for t in FORESEEN]
    parts = [
        record.evidence,
        f"{DEFAULT} beside {record.control}",
        f"buffer {record.settings['buffer_gb']:g} GB",
        f"link {record.settings['link_gb_s']:g} GB/s",
        "published sizes and compute times",
    ]
    rows = [_foreseen_row(case, tasks) for case, tasks in cases.items()]
    return Table(" · ".join(parts), (tuple(titles), *rows), FORESEEN_NOTES)


def _foreseen_row(case: str, tasks: Sequence[TaskPair]) -> tuple[str, ...]:
    def both(metric: str) -> list[float | None]:
        sides = ([t.treatment for t in tasks], [t.control or {} for t in tasks])
        return [mean([v for one in side if (v := one.get(metric)) is not None]).value for side in sides]

    hits, moved_gb, ttft_s = both("hit_share"), both("bytes_in_gb"), both("ttft_mean_s")
    own, least = moved_gb
    return (
        case,
        str(len(tasks)),
        *(ABSENT if share is None else f"{100 * share:.0f} %" for share in hits),
        *map(cells.number, moved_gb),
        cells.with_unit(cells.number(own / least if own is not None and least else None), "×"),
        *map(_seconds, ttft_s),
    )


def _share_of(own: Mapping[str, Any], control: Mapping[str, Any], key: str = "bytes_in_gb") -> str:
    least, whole = own.get(key), control.get("bytes_in_gb")
    return ABSENT if least is None or not whole else f"{100 * least / whole:.0f} %"


def _seconds(value: float | None) -> str:
    is_none = value is not None and abs(value) < FLOAT_NOISE_S
    return "0 s" if is_none else cells.estimate(value, None, "s")


def _times(point: Mapping[str, Any], key: str) -> str:
    return cells.with_unit(cells.number(point.get(key)), "×")
