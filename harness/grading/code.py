"""Grade code: run a candidate against tests, sandboxed, and say which tests passed.

A grade rests on what a test observed (`harness.grading.observe`) and on a nonce, never on an exit code or on
printed text. Whatever a candidate does (exit, loop, fork, recurse, print, allocate, kill) is a failure of
the candidate; a failure of the grader itself raises `GradingError`.

**Strong** means: pid, network, mount and ipc namespaces (through a user namespace unless the suite is
root); a file system of the read-only standard library and an empty scratch folder; no privileges; limits on
CPU time, address space, file size, processes, output and wall-clock time. **Weak** (macOS, or Linux where
namespaces are forbidden) has only the limits, a session of its own and the clean-up; `CodeGrader.missing`
says what is lacking. There a candidate can read and write what its user can, and on macOS leave a process
behind.

What remains even when strong: a candidate shares the interpreter with its tests. One that is written
against this grader can forge messages, so it can pass a test that only asks whether something is true (it
has to guess which) or that asserts inside a block; it cannot forge a value that it does not know.
Candidates share no process, folder or process numbers with each other. Memory is bounded per process, so at
worst by `memory_bytes` times `processes`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import NamedTuple, Self

from harness.errors import GradingError, UsageError
from harness.grading.observe import Prepared, judge, prepare
from harness.grading.sandbox.process import Outcome, Sandbox, SandboxDied

__all__ = ["CodeGrade", "CodeGrader", "Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one candidate may use, for all its tests together."""

    cpu_s: int = 1
    """CPU time of each process, in whole seconds: what ends a loop, whatever else the machine does."""
    wall_s: float = 5.0
    """Wall-clock time: what ends a sleep."""
    memory_bytes: int = 256 * 2**20
    """Address space of each process, interpreter included."""
    file_bytes: int = 2**20
    """Size of each file, and of what it prints."""
    processes: int = 16
    """Processes and threads of the candidate's user."""
    report_bytes: int = 4 * 2**20
    """What its tests may observe in all."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0:
                raise UsageError(f"limit {name}: {value}; give a number above 0")


class CodeGrade(NamedTuple):
    """Which tests a candidate passed."""

    passed: tuple[bool, ...]
    """One per test, in their order."""
    error: str | None
    """Why the first failed test failed; None when none did."""
    wall_s: float
    """Time the grading took; 0 when it was remembered."""
    sandbox: str
    """`strong` or `weak`."""

    @property
    def is_solved(self) -> bool:
        """Whether there were tests and all passed."""
        return bool(self.passed) and all(self.passed)


class CodeGrader:
    """Grades candidates one after the other in one sandbox; use it as a context manager.

    The same source with the same tests is run once, unless `remember` is off, as it must be where the time
    of grading counts. Threads may share a grader, and take turns. Nothing of it outlives `close`, or this
    process.
    """

    def __init__(self, limits: Limits | None = None, *, isolate: bool = True, remember: bool = True) -> None:
        """`isolate=False` forgoes the namespaces: the weak sandbox, on purpose. `remember`: see above."""
        self._remember = remember
        self._isolate = isolate
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None
        self._missing: tuple[str, ...] | None = None
        self._memory: dict[tuple[str, tuple[str, ...]], CodeGrade] = {}
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def missing(self) -> tuple[str, ...]:
        """What the sandbox lacks on this machine, each with its reason; empty when it is strong."""
        with self._lock:
            if self._missing is None:
                self._started()
            return self._missing or ()

    @property
    def sandbox(self) -> str:
        """`strong`, or `weak` when anything is missing."""
        return "weak" if self.missing else "strong"

    def grade(self, source: str, tests: Sequence[str]) -> CodeGrade:
        """Run every statement of `tests` in a fresh namespace where `source` has been executed.

        A candidate that ends or hangs its process fails the test it did so in, and those after it.
        Raises `UsageError` when a test does not parse or the grader is closed, `GradingError` when the
        sandbox cannot be started or cannot run a candidate.
        """
        key = (source, tuple(tests))
        with self._lock:
            if known := self._memory.get(key):
                return known._replace(wall_s=0.0)
            prepared = [_prepared(test) for test in tests]
            try:
                grade, is_repeatable = self._grade(source, prepared)
            except BaseException:  # an answer left in the pipe would be taken for the next one
                self._stop()
                raise
            if is_repeatable and self._remember:
                self._memory[key] = grade
            return grade

    def close(self) -> None:
        """End the sandbox and everything in it; harmless when repeated."""
        with self._lock:
            self._is_closed = True
            self._stop()

    def _grade(self, source: str, tests: list[Prepared]) -> tuple[CodeGrade, bool]:
        began = time.monotonic()
        for _ in range(2):
            sandbox = self._started()
            try:
                outcome = sandbox.run(source, [test.source for test in tests], asdict(self._limits))
            except SandboxDied:
                self._stop()
                continue
            verdicts = [_verdict(test, outcome, number) for number, test in enumerate(tests)]
            error = next((reason for reason in verdicts if reason is not None), None)
            passed = tuple(reason is None for reason in verdicts)
            wall_s = time.monotonic() - began
            return CodeGrade(passed, error, wall_s, sandbox.kind), not outcome.ended.startswith("no end")
        return self._blame(tests, began), False

    def _blame(self, tests: list[Prepared], began: float) -> CodeGrade:
        """Decide who ended the sandbox twice: fail the candidate if a harmless one still gets its grade."""
        sandbox = self._started()
        try:
            outcome = sandbox.run("", ["pass"], asdict(self._limits))
        except SandboxDied as exc:
            self._stop()
            raise GradingError(f"sandbox: ends with any candidate ({exc}); see its message") from exc
        if 0 not in outcome.done:
            raise GradingError(f"sandbox: an empty candidate fails ({outcome.ended}); raise the limits")
        error = "the candidate ended its sandbox"
        return CodeGrade((False,) * len(tests), error, time.monotonic() - began, sandbox.kind)

    def _started(self) -> Sandbox:
        if self._is_closed:
            raise UsageError("the code grader is closed; use it inside its `with` block")
        if self._sandbox is None:
            self._sandbox = Sandbox(isolate=self._isolate)
            self._missing = self._sandbox.missing
        return self._sandbox

    def _stop(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None


def _prepared(test: str) -> Prepared:
    try:
        return prepare(test)
    except (SyntaxError, ValueError) as exc:
        raise UsageError(f"test {test!r}: not Python ({exc}); write statements that parse") from exc


def _verdict(test: Prepared, outcome: Outcome, number: int) -> str | None:
    """Return why a test failed, or None."""
    if number in outcome.reasons:
        return outcome.reasons[number]
    if number not in outcome.done:
        return f"the candidate's process ended early ({outcome.ended})"
    return judge(test, outcome.notes.get(number, {}))
