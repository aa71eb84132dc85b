"""Grade Rust: compile a candidate once, run every test of it in a process of its own.

A test is `CALL == VALUE`: the call is compiled behind the candidate, its value is printed as Rust's `{:?}`
and compared here, so that what is expected never enters the sandbox. A test that panics, loops or ends its
process fails alone. Arithmetic that overflows panics: the build is not optimized.

The program runs as candidates in Python do (`harness.grading.code`): in namespaces of its own with nothing
but the system's libraries, or with limits alone where those are forbidden (**weak**). The *compiler* runs as
the suite's user, on one thread and with a deadline. A candidate can make it read a file into the program
(`include_str!`), which then can tell nobody but this grader.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import GradingError, UnavailableError, UsageError
from harness.grading.code import CodeGrade, Limits

__all__ = ["RustGrader", "rustc"]

_COMPILE_S = 60.0
_GRACE_S = 30.0
_ROOT = Path(__file__).resolve().parents[2]
_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv[1]); from harness.grading.sandbox.native import main; main()"
)
_MAX_SHOWN = 120
_REPAIR = "install a toolchain, `rustup default stable`, and a linker, `cc`"


def rustc() -> str:
    """The compiler on PATH, if it builds a program that does nothing.

    One without a toolchain or a linker would fail every candidate, right or wrong.

    Raises
    ------
    UnavailableError: there is none, or it builds nothing; the message is where to get one.
    """
    found = shutil.which("rustc")
    if found is None:
        raise UnavailableError("Rust tasks need rustc on PATH; install it from https://rustup.rs")
    if trouble := _trouble_with(found):
        raise UnavailableError(f"Rust tasks need a rustc that builds ({found}: {trouble}); {_REPAIR}")
    return found


class RustGrader:
    """Grades Rust candidates; the same source with the same tests is built and run once.

    Unless `remember` is off, as it must be where the time of grading counts.
    """

    def __init__(self, limits: Limits | None = None, *, isolate: bool = True, remember: bool = True) -> None:
        """Find the compiler, as `rustc` does; `isolate=False` is the weak sandbox, on purpose."""
        self._rustc = rustc()
        self._remember = remember
        self._limits = limits or Limits()
        self._isolate = isolate
        self._memory: dict[tuple[str, tuple[str, ...]], CodeGrade] = {}

    def grade(self, source: str, tests: Sequence[str]) -> CodeGrade:
        """Which tests a candidate passes.

        Raises
        ------
        UsageError: a test is not `CALL == VALUE`.
        GradingError: the sandbox cannot run a program.
        """
        key = (source, tuple(tests))
        if known := self._memory.get(key):
            return known._replace(wall_s=0.0)
        calls = [_split(test) for test in tests]
        began = time.monotonic()
        nonce = secrets.token_hex(16)
        with tempfile.TemporaryDirectory(prefix="assay-rust-") as folder:
            program = Path(folder, "candidate")
            trouble = self._compile(_program(source, [call for call, _ in calls], nonce), program)
            if trouble is not None:
                kind = "strong" if self._isolate else "weak"
                found = CodeGrade((False,) * len(tests), trouble, time.monotonic() - began, kind)
            else:
                found = self._run(program, calls, nonce, began)
        if self._remember:
            self._memory[key] = found
        return found

    def _compile(self, text: str, program: Path) -> str | None:
        """Build a program; return why the candidate does not compile, or None."""
        path = program.with_suffix(".rs")
        path.write_text(text, encoding="utf-8", errors="replace")
        command = [self._rustc, "--edition", "2021", "-A", "warnings", "-C", "debuginfo=0", "-C",
                   "codegen-units=1", "--error-format", "short", "-o", str(program), str(path)]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, timeout=_COMPILE_S, cwd=program.parent)
        except subprocess.TimeoutExpired:
            return f"does not compile within {_COMPILE_S:g} s"
        except OSError as exc:
            raise GradingError(
                f"rust: cannot start {self._rustc} ({exc.strerror}); install it again"
            ) from exc
        if done.returncode == 0:
            program.parent.chmod(0o755)
            return None
        said = done.stderr.decode("utf-8", "replace").replace(str(path), "candidate.rs")
        return f"does not compile: {' '.join(said.split())[:_MAX_SHOWN]}"

    def _run(self, program: Path, calls: Sequence[tuple[str, str]], nonce: str, began: float) -> CodeGrade:
        limits = asdict(self._limits)
        command = [sys.executable, "-s", "-S", "-P", "-B", "-c", _BOOTSTRAP, str(_ROOT),
                   str(int(self._isolate)), str(program), json.dumps(limits), str(len(calls))]  # fmt: skip
        deadline_s = len(calls) * self._limits.wall_s + _GRACE_S
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=deadline_s, cwd="/",
                env={"LC_ALL": "C.UTF-8", "TMPDIR": tempfile.gettempdir(), "PATH": os.defpath},
            )  # fmt: skip
            said: dict[str, Any] = json.loads(done.stdout)
        except (OSError, subprocess.TimeoutExpired, ValueError) as exc:
            raise GradingError(f"rust: the sandbox gave no answer ({exc}); see its message") from exc
        broken = next((run["broken"] for run in said["runs"] if "broken" in run), None)
        if broken is not None:
            raise GradingError(f"rust: the sandbox cannot run a program: {broken}; raise the limits")
        verdicts = [_verdict(c, v, run, nonce) for (c, v), run in zip(calls, said["runs"], strict=True)]
        error = next((reason for reason in verdicts if reason is not None), None)
        kind = "weak" if said["missing"] else "strong"
        return CodeGrade(tuple(r is None for r in verdicts), error, time.monotonic() - began, kind)


@cache
def _trouble_with(compiler: str) -> str | None:
    """Why a compiler cannot build an empty program; None when it can."""
    with tempfile.TemporaryDirectory(prefix="assay-rust-") as folder:
        source = Path(folder, "nothing.rs")
        source.write_text("fn main() {}\n")
        try:
            done = subprocess.run(
                [compiler, "-o", str(source.with_suffix("")), str(source)],
                capture_output=True, timeout=_COMPILE_S, cwd=folder,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as exc:
            return str(exc)
    said = " ".join(done.stderr.decode("utf-8", "replace").split())
    return None if done.returncode == 0 else said[:_MAX_SHOWN] or f"exit status {done.returncode}"


def _split(test: str) -> tuple[str, str]:
    call, equals, value = test.rpartition(" == ")
    if not equals or not call.strip() or not value.strip():
        raise UsageError(f"test {test!r}: not of the form CALL == VALUE, as `is_prime(7) == true`")
    return call.strip(), value.strip()


def _program(source: str, calls: Sequence[str], nonce: str) -> str:
    """The candidate in a module of its own, where it may have a `main`, and one call per argument."""
    arms = "\n".join(
        f'        "{place}" => ::std::println!("{nonce} {{:?}}", {call}),' for place, call in enumerate(calls)
    )
    return (
        f"mod candidate {{\n{source}\n"
        f"    pub fn assay_{nonce}(place: &str) {{\n        match place {{\n{arms}\n"
        f"        _ => ()\n        }}\n"
        f"    }}\n}}\n"
        f"fn main() {{ candidate::assay_{nonce}(&std::env::args().nth(1).unwrap_or_default()) }}\n"
    )


def _verdict(call: str, value: str, run: dict[str, Any], nonce: str) -> str | None:
    """Return why a test failed, or None."""
    printed = [line for line in run["output"].splitlines() if line.startswith(nonce + " ")]
    if len(printed) != 1:
        return f"{call}: said nothing ({run['ended']})" if not printed else f"{call}: said two things"
    found = printed[0].removeprefix(nonce + " ")
    return None if found == value else f"{call} == {value}: got {found[:_MAX_SHOWN]}"
