"""Arrivals that were recorded, read from a file.

    .csv    a header, then a line per request: arrival_s, and if recorded prompt_tokens and output_tokens
    .json   a list of seconds, or of objects with those keys

Times are seconds from any origin, rising; they are shifted so that the first arrival is at 0. Tokens are what
each request asks for in place of the load's own lengths. Nothing is sorted, dropped or filled in: a trace
that needs that is not the trace that was recorded.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError

__all__ = ["Trace", "read_trace"]

_TIME = "arrival_s"
_LENGTHS = ("prompt_tokens", "output_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Recorded arrivals, and what was asked where that was recorded."""

    due_s: tuple[float, ...]
    """Rising, the first 0."""
    prompt_tokens: tuple[int, ...] | None = None
    output_tokens: tuple[int, ...] | None = None

    def scaled(self, speed: float) -> Trace:
        """The same trace, `speed` times as fast."""
        if not 0 < speed < math.inf:
            raise UsageError(f"arrivals: speed is {speed}; give a positive factor")
        due_s = tuple(due / speed for due in self.due_s)
        return Trace(due_s=due_s, prompt_tokens=self.prompt_tokens, output_tokens=self.output_tokens)


def read_trace(path: Path | str) -> Trace:
    """Read a trace of either form.

    Raises
    ------
    UsageError: the file cannot be read, or an entry is no arrival; the message names file and entry.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise UsageError(f"arrivals {path}: cannot be read ({reason}); give a .csv or .json file") from exc
    if path.suffix == ".csv":
        rows = _csv_rows(path, text)
    elif path.suffix == ".json":
        rows = _json_rows(path, text)
    else:
        raise UsageError(f"arrivals {path}: is neither .csv nor .json; name it by what it is")
    return _trace(path, rows)


def _csv_rows(path: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(text.split("\n"), strict=True)
    names = reader.fieldnames or []
    unknown = sorted(set(names) - {_TIME, *_LENGTHS})
    if _TIME not in names or unknown or len(set(names)) < len(names):
        raise UsageError(
            f"arrivals {path}: its header is {','.join(names) or 'empty'}; "
            f"give {_TIME}, and if known {' and '.join(_LENGTHS)}"
        )
    try:
        return [(f"line {reader.line_num}", row) for row in reader]
    except csv.Error as exc:
        raise UsageError(f"arrivals {path}, line {reader.line_num}: no CSV ({exc}); mend it") from exc


def _json_rows(path: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        entries = json.loads(text)
    except ValueError as exc:
        raise UsageError(f"arrivals {path}: no JSON ({exc}); give a list of seconds") from exc
    if not isinstance(entries, list):
        raise UsageError(f"arrivals {path}: holds {type(entries).__name__}; give a list of seconds")
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for number, entry in enumerate(entries):
        row = entry if isinstance(entry, dict) else {_TIME: entry}
        if unknown := sorted(set(row) - {_TIME, *_LENGTHS}):
            known = ", ".join((_TIME, *_LENGTHS))
            raise UsageError(
                f"arrivals {path}, entry {number}: unknown key {unknown[0]!r}; known are {known}"
            )
        rows.append((f"entry {number}", row))
    return rows


def _trace(path: Path, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Trace:
    times: list[float] = []
    lengths: dict[str, list[int]] = {name: [] for name in _LENGTHS}
    for where, row in rows:
        at = f"arrivals {path}, {where}"
        time_s = _number(at, _TIME, row.get(_TIME))
        if times and time_s < times[-1]:
            raise UsageError(f"{at}: {_TIME} {time_s:g} is before {times[-1]:g}; times must rise")
        times.append(time_s)
        if None in row or (None in row.values()):
            raise UsageError(f"{at}: not as many fields as the header has; mend it")
        for name in _LENGTHS:
            if name in row:
                lengths[name].append(_count(at, name, row[name]))
    if not times:
        raise UsageError(f"arrivals {path}: holds no arrival; give at least one")
    for name, values in lengths.items():
        if 0 < len(values) < len(times):
            raise UsageError(f"arrivals {path}: {len(values)} of {len(times)} entries give {name}; give all")
    return Trace(
        due_s=tuple(time_s - times[0] for time_s in times),
        prompt_tokens=tuple(lengths["prompt_tokens"]) or None,
        output_tokens=tuple(lengths["output_tokens"]) or None,
    )


def _number(at: str, name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{at}: {name} is {value!r}; give a finite number of seconds")
    return number


def _count(at: str, name: str, value: Any) -> int:
    try:
        count = -1 if isinstance(value, bool | float) else int(value)
    except (TypeError, ValueError):
        count = -1
    if count < 1:
        raise UsageError(f"{at}: {name} is {value!r}; give a whole number of at least 1")
    return count
