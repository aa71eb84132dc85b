"""Strict reading of JSON files: a misspelt key that is silently dropped changes what is measured.

Every unknown key, missing key and wrong type is a `WorkloadError` that names the file, the place, the key,
the value and the remedy.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from harness.errors import WorkloadError

__all__ = ["Document", "Reader", "defined", "label", "read_json"]

SCHEMA = 1


class Document(NamedTuple):
    """A JSON file as it was read."""

    value: Any
    sha256: str
    """Of the file's bytes."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A JSON object and where it stands, for checks that say so."""

    where: str
    value: Any
    docs: str = "docs/workloads.md"
    """Where the schema is written down."""

    def at(self, where: str, value: Any) -> Reader:
        """A reader of what stands inside this one."""
        return Reader(f"{self.where}: {where}", value, self.docs)

    def fail(self, key: str, remedy: str) -> NoReturn:
        """Refuse the value of a key."""
        found = self.value.get(key) if isinstance(self.value, dict) else self.value
        shown = textwrap.shorten(repr(found), 80, placeholder="...")
        raise WorkloadError(f"{self.where}: {key}: {shown} is not allowed; {remedy}")

    def keys(self, required: set[str], optional: set[str]) -> None:
        """Refuse anything but an object of these keys."""
        if not isinstance(self.value, dict):
            self.fail("(object)", "write a JSON object here")
        for key in self.value.keys() - required - optional:
            self.fail(key, f"unknown key, remove it; known are {', '.join(sorted(required | optional))}")
        for key in sorted(required - self.value.keys()):
            raise WorkloadError(f"{self.where}: {key}: missing; add it (see {self.docs})")

    def schema(self) -> None:
        """Refuse another version of the schema."""
        if self.value["schema"] is True or self.value["schema"] != SCHEMA:
            self.fail("schema", f"this version reads schema {SCHEMA}")

    def text(self, key: str) -> str:
        """A string that is not empty."""
        value = self.value[key]
        if not isinstance(value, str) or not value.strip():
            self.fail(key, "write a string that is not empty")
        return value

    def texts(self, key: str, minimum: int = 0) -> tuple[str, ...]:
        """A list of strings that are not empty."""
        value = self.value[key]
        if not isinstance(value, list) or len(value) < minimum:
            self.fail(key, f"write a list of at least {minimum} strings")
        for i, item in enumerate(value):
            if not isinstance(item, str) or not item.strip():
                at = f"{key}[{i}]"
                Reader(self.where, {at: item}, self.docs).fail(at, "write a string that is not empty")
        return tuple(value)

    def objects(self, key: str) -> list[Any]:
        """A list that is not empty."""
        value = self.value[key]
        if not isinstance(value, list) or not value:
            self.fail(key, "write a list of at least one object")
        return value

    def number(self, key: str) -> float:
        """A finite number."""
        value = self.value[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fail(key, "write a number")
        return float(value)

    def count(self, key: str) -> int:
        """A whole number, at least 1."""
        value = self.value[key]
        if type(value) is not int or value < 1:
            self.fail(key, "write a whole number, at least 1")
        return value

    def python(self, key: str, source: str) -> ast.Module:
        """Python that parses."""
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError) as exc:
            reader = Reader(self.where, {key: source}, self.docs)
            reader.fail(key, f"not Python ({exc}); write statements that parse")


def read_json(path: Path, docs: str) -> Document:
    """Read a JSON file in which no object has a key twice.

    Raises
    ------
    WorkloadError: it cannot be read, or is no valid JSON.
    """
    try:
        raw = path.read_bytes()
        return Document(json.loads(raw, object_pairs_hook=_no_duplicates), hashlib.sha256(raw).hexdigest())
    except OSError as exc:
        raise WorkloadError(f"{path}: cannot be read ({exc.strerror}); name a readable JSON file") from exc
    except (ValueError, RecursionError) as exc:
        raise WorkloadError(f"{path}: not valid JSON ({exc}); see {docs} for the schema") from exc


def defined(module: ast.Module) -> set[str]:
    """Names that a module defines at top level."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = {node.name for node in module.body if isinstance(node, kinds)}
    targets = [target for node in module.body if isinstance(node, ast.Assign) for target in node.targets]
    return names | {target.id for target in targets if isinstance(target, ast.Name)}


def label(item: Any, key: str, index: int) -> str:
    """What an error calls this item of a list."""
    name = item.get(key) if isinstance(item, dict) else None
    return name if isinstance(name, str) and name else f"#{index + 1}"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} occurs twice in one object")
    return result
