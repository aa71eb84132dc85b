"""Take the verdict out of a test, so that it can run beside a candidate that must not know it.

A test is Python that passes when it raises nothing. Each `assert` of its top level becomes a note: of
`assert f(3) == 4` only `f(3)` travels, of `assert f(3)` and `assert not f(3)` only the truth of `f(3)`.
`judge` decides afterwards. An `assert` inside a loop, a `try` or a function stays as it is.

Comparing with a literal is therefore the strongest test: what is expected never enters the sandbox, and an
object that claims to equal everything gains nothing.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from harness.grading.sandbox.candidate import NOTE

__all__ = ["Expectation", "Prepared", "judge", "prepare"]

_OPERATORS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda value, expected: value in expected,
    ast.NotIn: lambda value, expected: value not in expected,
}
_MAX_SHOWN = 120


class Expectation(NamedTuple):
    """What one note of a test has to satisfy."""

    text: str
    """The assertion as it was written."""
    kind: str
    """`value`, or `truth` where only true or false was asked for."""
    holds: Callable[[Any, Any], Any]
    expected: Any


class Prepared(NamedTuple):
    """A test in two parts."""

    source: str
    """What runs in the sandbox."""
    expectations: tuple[Expectation, ...]
    """What its notes must be, by place."""


@lru_cache(maxsize=65536)
def prepare(test: str) -> Prepared:
    """Split a test into what runs and what is expected. Raises `SyntaxError` when it does not parse."""
    expectations: list[Expectation] = []
    body: list[ast.stmt] = []
    for statement in ast.parse(test).body:
        if isinstance(statement, ast.Assert):
            body += [_note(condition, expectations) for condition in _conjuncts(statement.test)]
        else:
            body.append(statement)
    source = ast.unparse(ast.fix_missing_locations(ast.Module(body=body, type_ignores=[])))
    return Prepared(source, tuple(expectations))


def judge(prepared: Prepared, notes: Mapping[int, Any]) -> str | None:
    """Return why the notes of a finished test fail it, or None when it passed.

    `notes` maps places to what the candidate reported there, encoded.
    """
    for place, expectation in enumerate(prepared.expectations):
        if place not in notes:
            return f"{expectation.text}: never reached"
        try:
            found = notes[place] if expectation.kind == "truth" else _decode(notes[place])
            if expectation.kind == "truth" and not isinstance(found, bool):
                raise TypeError("a truth is true or false")
            if not expectation.holds(found, expectation.expected):
                return f"{expectation.text}: got {repr(found)[:_MAX_SHOWN]}"
        except (TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as exc:
            return f"{expectation.text}: {str(exc)[:_MAX_SHOWN]}"
    return None


def _conjuncts(condition: ast.expr) -> list[ast.expr]:
    if isinstance(condition, ast.BoolOp) and isinstance(condition.op, ast.And):
        return [part for value in condition.values for part in _conjuncts(value)]
    return [condition]


def _note(condition: ast.expr, expectations: list[Expectation]) -> ast.stmt:
    text = f"assert {ast.unparse(condition)}"
    subject, kind, holds, expected = condition, "truth", operator.is_, True
    if isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not):
        subject, expected = condition.operand, False
    elif isinstance(condition, ast.Compare) and len(condition.ops) == 1:
        literal = _literal(condition.comparators[0], condition.ops[0])
        if literal is not None:
            subject, kind = condition.left, "value"
            holds, expected = _OPERATORS[type(condition.ops[0])], literal[0]
    arguments: list[ast.expr] = [ast.Constant(len(expectations)), ast.Constant(kind), subject]
    expectations.append(Expectation(text, kind, holds, expected))
    return ast.Expr(ast.Call(ast.Name(NOTE, ast.Load()), arguments, []))


def _literal(node: ast.expr, comparison: ast.cmpop) -> tuple[Any] | None:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    is_identity = isinstance(comparison, ast.Is | ast.IsNot)
    return None if is_identity and value is not None and not isinstance(value, bool) else (value,)


def _decode(note: Any) -> Any:
    tag, content = note
    if tag == "const" and (content is None or isinstance(content, bool)):
        return content
    if tag == "dict":
        return {_decode(key): _decode(item) for key, item in content}
    if tag not in _DECODERS:
        raise TypeError(f"got a {content}, which is no plain value")
    return _DECODERS[tag](content)


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda content: int(content, 16),
    "float": float.fromhex,
    "str": str,
    "bytes": bytes.fromhex,
    "list": lambda content: [_decode(item) for item in content],
    "tuple": lambda content: tuple(_decode(item) for item in content),
    "set": lambda content: frozenset(_decode(item) for item in content),
    "decimal": Decimal,
    "fraction": lambda content: Fraction(*content),
}
