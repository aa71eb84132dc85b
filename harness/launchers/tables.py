"""Tables of a TOML file as dataclasses, strictly: unknown and missing keys and wrong types are errors."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import UsageError

__all__ = ["read_tables"]

_T = TypeVar("_T")


def read_tables(path: Path, table: str, kind: type[_T]) -> dict[str, _T]:
    """Read every `[[table]]` of a file as a dataclass, by its `name`.

    Raises
    ------
    UsageError: the file holds anything else; it names file, table and key.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise UsageError(f"{path.name}: cannot be read ({exc}); restore it from the repository") from exc
    for other in tables.keys() - {table}:
        raise UsageError(f"{path.name}: unknown table {other!r}; use [[{table}]]")
    rows: dict[str, _T] = {}
    for number, raw in enumerate(tables.get(table, ()), start=1):
        name = str(raw.get("name", f"number {number}"))
        if name in rows:
            raise UsageError(f"{path.name}: {table} {name}: given twice; remove one")
        rows[name] = _read(f"{path.name}: {table} {name}", raw, kind)
    return rows


def _read(label: str, raw: Mapping[str, Any], kind: type[_T]) -> _T:
    wanted = typing.get_type_hints(kind)
    for key in raw:
        if key not in wanted:
            raise UsageError(f"{label}: unknown key {key!r}; use {', '.join(wanted)}")
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and field.name not in raw:
            raise UsageError(f"{label}: key {field.name!r} is missing; add it")
    try:
        return kind(**{key: _value(f"{label}: {key}", value, wanted[key]) for key, value in raw.items()})
    except ValueError as exc:
        raise UsageError(f"{label}: {exc}") from exc


def _value(label: str, value: Any, wanted: Any) -> Any:
    if isinstance(wanted, types.UnionType):
        wanted = next(one for one in wanted.__args__ if one is not type(None))
    if dataclasses.is_dataclass(wanted) and isinstance(value, dict):
        return _read(label, value, wanted)  # type: ignore[arg-type]
    origin = typing.get_origin(wanted)
    if origin is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if origin is Mapping and isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
        return value
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(wanted, type) and type(value) is wanted:
        return value
    raise UsageError(f"{label} is {value!r}; it must be of type {getattr(wanted, '__name__', wanted)}")
