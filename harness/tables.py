"""Tables of a TOML file as dataclasses, strictly: unknown and missing keys and wrong types are errors."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import HarnessError, UsageError

__all__ = ["read_file", "read_tables"]

_T = TypeVar("_T")


def read_tables(path: Path, table: str, kind: type[_T]) -> dict[str, _T]:
    """Read every `[[table]]` of a file that holds no other, as a dataclass, by its `name`.

    Raises
    ------
    UsageError: the file holds anything else; it names file, table and key.
    """
    return read_file(path, {table: kind})[table]


def read_file(
    path: Path,
    kinds: Mapping[str, type],
    *,
    key: Mapping[str, str] | None = None,
    error: type[HarnessError] = UsageError,
) -> dict[str, dict[str, Any]]:
    """Read a file's tables, each as a dataclass, by the value of one key.

    kinds: table → its dataclass. key: table → the key that names its rows, where that is not `name`.

    Raises
    ------
    error: the file holds anything else; it names file, table and key.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise error(f"{path.name}: cannot be read ({exc}); restore it from the repository") from exc
    for other in sorted(tables.keys() - kinds.keys()):
        known = " or ".join(f"[[{table}]]" for table in kinds)
        raise error(f"{path.name}: unknown table {other!r}; use {known}")
    try:
        return {
            table: _rows(path.name, table, tables.get(table, ()), kind, (key or {}).get(table, "name"))
            for table, kind in kinds.items()
        }
    except UsageError as exc:
        raise exc if error is UsageError else error(str(exc)) from exc


def _rows(file: str, table: str, raws: Any, kind: type[_T], key: str) -> dict[str, _T]:
    if not isinstance(raws, list | tuple) or not all(isinstance(raw, dict) for raw in raws):
        raise UsageError(f"{file}: {table} is no list of tables; write [[{table}]]")
    rows: dict[str, _T] = {}
    for number, raw in enumerate(raws, start=1):
        name = str(raw.get(key, f"number {number}"))
        if name in rows:
            raise UsageError(f"{file}: {table} {name}: given twice; remove one")
        rows[name] = _read(f"{file}: {table} {name}", raw, kind)
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
    if origin is dict and isinstance(value, dict) and all(_is_number(v) for v in value.values()):
        return value
    if origin is Mapping and isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
        return value
    if wanted is float and _is_number(value):
        return float(value)
    if isinstance(wanted, type) and type(value) is wanted:
        return value
    raise UsageError(f"{label} is {value!r}; it must be of type {getattr(wanted, '__name__', wanted)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
