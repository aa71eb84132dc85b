"""One candidate: execute it, run the tests against it, report what was observed.

A test arrives without its verdict (`harness.grading.observe`): where it said `assert f(3) == 4`, it now
reports the value of `f(3)`, and the suite, outside the sandbox, knows what was expected. So a candidate
that reaches the reporter (same process, same interpreter: it can) still has to know the right answers.
"""

from __future__ import annotations

import builtins
import json
import os
import random
import sys
from decimal import Decimal
from fractions import Fraction
from types import CodeType, ModuleType
from typing import Any

__all__ = ["NOTE", "run"]

NOTE = "__assay_note__"
"""The name under which a prepared test finds the reporter."""

_MODULE = "candidate"
_MAX_REASON = 300


def run(fd: int, nonce: str, source: str, tests: list[str]) -> None:
    """Execute `source` afresh for each test and report to `fd`, one line per message.

    A line is the nonce and a JSON list: `ready`; `note`, test, place, value; `done`, test; `fail`, test,
    reason; `end`. Raises nothing that the candidate raised.
    """
    reporter = _Reporter(fd, nonce)
    reporter.send("ready")
    random.seed(0)
    code: CodeType | None = None
    reason = ""
    try:
        code = compile(source, "<candidate>", "exec", dont_inherit=True)
    except BaseException as exc:  # a candidate may raise anything, and each of it is a failure
        reason = _describe(exc)
    for number, test in enumerate(tests):
        if code is None:
            reporter.send("fail", number, reason)
            continue
        try:
            module = ModuleType(_MODULE)
            sys.modules[_MODULE] = module  # dataclasses look their module up
            scope = module.__dict__
            scope["__builtins__"] = builtins
            exec(code, scope)
            scope[NOTE] = reporter.note_of(number)
            exec(compile(test, f"<test {number}>", "exec", dont_inherit=True), scope)
        except BaseException as exc:  # as above
            reporter.send("fail", number, _describe(exc))
        else:
            reporter.send("done", number)
    reporter.send("end")


class _Reporter:
    """Writes messages, from the process that made it and from no fork of it."""

    def __init__(self, fd: int, nonce: str) -> None:
        self._fd, self._nonce, self._pid = fd, nonce, os.getpid()
        self._dumps, self._write, self._getpid, self._exit = json.dumps, os.write, os.getpid, os._exit

    def send(self, *message: Any) -> None:
        if self._getpid() != self._pid:
            self._exit(1)
        data = f"{self._nonce} {self._dumps(message)}\n".encode()
        while data:
            data = data[self._write(self._fd, data) :]

    def note_of(self, number: int) -> Any:
        """Return the function that a prepared test calls with a place, a kind and a value."""

        def note(place: int, kind: str, value: Any) -> None:
            self.send("note", number, place, bool(value) if kind == "truth" else _encode(value))

        return note


def _encode(value: Any) -> Any:
    """Describe plain data as JSON lists of a tag and its content; of anything else, say only its type.

    A subclass is read through the methods of its plain base, so that an overridden `__eq__` has no say.
    """
    if value is None or value is True or value is False:
        return ["const", value]
    if isinstance(value, int):
        return ["int", format(int.__int__(value), "x")]
    if isinstance(value, float):
        return ["float", float.hex(value)]
    if isinstance(value, str):
        return ["str", str.__str__(value)]
    if isinstance(value, bytes | bytearray):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, dict):
        return ["dict", [[_encode(key), _encode(item)] for key, item in dict.items(value)]]
    kinds: tuple[tuple[Any, str], ...] = ((list, "list"), (tuple, "tuple"), (set, "set"), (frozenset, "set"))
    for kind, tag in kinds:
        if isinstance(value, kind):
            return [tag, [_encode(item) for item in kind.__iter__(value)]]
    if isinstance(value, Decimal):
        return ["decimal", Decimal.__str__(value)]
    if isinstance(value, Fraction):
        return ["fraction", [int(value.numerator), int(value.denominator)]]
    return ["other", type(value).__name__]


def _describe(exc: BaseException) -> str:
    try:
        return f"{type(exc).__name__}: {exc}"[:_MAX_REASON]
    except BaseException:  # the candidate's own __str__ may do anything
        return type(exc).__name__
