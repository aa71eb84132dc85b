"""Whether an answer is an instance of the JSON schema that was asked for.

Checked on this side for every engine, since servers drop a schema that they do not know in silence, and one
that they know still ends an object in the middle when the tokens run out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from jsonschema.exceptions import SchemaError, best_match  # type: ignore[import-untyped]
from jsonschema.validators import Draft202012Validator, validator_for  # type: ignore[import-untyped]

from harness.backends.base import Batch
from harness.errors import UsageError

__all__ = ["schema_error", "with_schema_errors"]

_SHOWN = 80


def schema_error(text: str, schema: Mapping[str, Any], *, finish_reason: str | None = None) -> str | None:
    """Why the text is no instance of the schema; `None` when it is one.

    Parameters
    ----------
    finish_reason: how the answer ended: "length" explains an object that is not whole.

    Raises
    ------
    UsageError: the schema itself is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        if finish_reason == "length":
            end = f"…{text[-_SHOWN:]!r}"
            return f"cut off after max_tokens, in the middle of the object: {end}; raise max_tokens"
        return f"no JSON ({exc}): {text[:_SHOWN]!r}"
    validator_class = validator_for(schema, default=Draft202012Validator)
    try:
        validator_class.check_schema(schema)
    except SchemaError as exc:
        raise UsageError(f"the JSON schema is none: {exc.message}; mend it") from exc
    error = best_match(validator_class(schema).iter_errors(value))
    if error is None:
        return None
    return f"{error.json_path}: {error.message[: 2 * _SHOWN]}"


def with_schema_errors(batch: Batch, schema: Mapping[str, Any]) -> Batch:
    """The same answers, each checked; raises as `schema_error`."""
    ends = zip(batch.texts, batch.finish_reasons, strict=True)
    errors = tuple(schema_error(text, schema, finish_reason=reason) for text, reason in ends)
    return dataclasses.replace(batch, schema_errors=errors)
