"""Stored records of earlier schemas, brought up to this one step by step.

1    the first
2    `launch` and `sessions` of a record, `session` of a round; a record of 1 is of one session, and does
     not say how often what it measured was launched
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reports.errors import RecordError

__all__ = ["SCHEMA", "upgraded"]

SCHEMA = 2


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """A stored record as this schema says it; `data` is left as it is.

    Raises
    ------
    RecordError: no known schema, or one of a newer version.
    """
    schema = data.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise RecordError(f"record: schema is {schema!r}, and records of this suite count theirs from 1")
    if schema > SCHEMA:
        raise RecordError(
            f"record: schema is {schema}, and this version reads up to {SCHEMA}; "
            "read it with the version that wrote it, or with a newer one"
        )
    out = dict(data)
    for step in range(schema, SCHEMA):
        out = STEPS[step](out)
    return out


def _from_1(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "schema": 2, "launch": None, "sessions": 1}


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
