"""Rust candidates: compiled, run test by test in a sandbox, and graded by what they printed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.errors import UnavailableError, UsageError
from harness.grading import Limits
from harness.grading.rust import RustGrader

ROOT = Path(__file__).resolve().parents[1]
TESTS = ["f(1) == 2", "f(2) == 3"]


@pytest.fixture(scope="module")
def grader() -> RustGrader:
    """A grader, where there is a compiler."""
    try:
        return RustGrader(Limits(wall_s=3.0))
    except UnavailableError as exc:
        pytest.skip(str(exc))


def test_each_test_is_graded_alone(grader: RustGrader) -> None:
    """A panic or an early exit fails its own test; `main` and private functions are no trouble."""
    good = grader.grade('fn f(x: u64) -> u64 { x + 1 }\nfn main() { println!("hi"); }', TESTS)
    assert good.passed == (True, True)
    assert good.is_solved
    half = grader.grade('fn f(x: u64) -> u64 { if x == 1 { panic!("no") } x + 1 }', TESTS)
    assert half.passed == (False, True)
    assert "f(1): said nothing (exit status 101)" in str(half.error)
    gone = grader.grade("fn f(x: u64) -> u64 { if x > 1 { std::process::exit(0) } x + 1 }", TESTS)
    assert gone.passed == (True, False)


def test_what_does_not_compile_passes_nothing(grader: RustGrader) -> None:
    """The compiler's first words are the reason."""
    grade = grader.grade("fn f(x: u64) -> u64 {", TESTS)
    assert grade.passed == (False, False)
    assert str(grade.error).startswith("does not compile: candidate.rs:")


def test_a_loop_ends_with_its_time(grader: RustGrader) -> None:
    """One second of CPU time, and the other test still runs."""
    source = "fn f(x: u64) -> u64 { let mut y = x; while y == 1 { y = std::hint::black_box(y); } x + 1 }"
    assert grader.grade(source, TESTS).passed == (False, True)


def test_overflow_is_a_failure(grader: RustGrader) -> None:
    """A build that wraps around would pass wrong programs."""
    assert grader.grade("fn f(x: u8) -> u8 { 255 + x }", ["f(1) == 0"]).passed == (False,)


def test_without_namespaces_the_grade_says_weak(grader: RustGrader) -> None:
    """The limits hold there too."""
    weak = RustGrader(Limits(memory_bytes=64 * 2**20), isolate=False)
    source = "fn f(x: u64) -> u64 { let v = vec![x; if x == 1 { 1 << 26 } else { 1 }]; v[0] + 1 }"
    grade = weak.grade(source, TESTS)
    assert grade.passed == (False, True)
    assert grade.sandbox == "weak"


def test_a_strong_sandbox_shows_no_file_and_no_network(grader: RustGrader) -> None:
    """What the suite's user can read, a candidate cannot."""
    source = (
        'fn f(_: u64) -> bool { std::fs::read_dir("/etc").is_ok() || std::fs::read("/etc/passwd").is_ok() '
        '|| std::fs::write("/x", "x").is_ok() || std::net::TcpStream::connect("127.0.0.1:22").is_ok() }'
    )
    grade = grader.grade(source, ["f(1) == false"])
    if grade.sandbox == "weak":
        pytest.skip("no strong sandbox here")
    assert grade.passed == (True,)


def test_a_forged_answer_needs_the_value(grader: RustGrader) -> None:
    """Printing is not passing, and an answer given twice is none."""
    printing = 'fn f(_: u64) -> u64 { println!("2"); println!("3"); 0 }'
    assert grader.grade(printing, TESTS).passed == (False, False)


def test_a_test_that_is_no_comparison_is_a_mistake(grader: RustGrader) -> None:
    """The message shows the form."""
    with pytest.raises(UsageError, match="not of the form CALL == VALUE"):
        grader.grade("fn f() {}", ["f()"])


def test_without_a_compiler_the_reason_says_where_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rust tasks are then skipped with it."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnavailableError, match=r"rustc on PATH; install it from https://rustup\.rs"):
        RustGrader()


def test_a_compiler_that_builds_nothing_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or every candidate would be wrong, as with rustup's own rustc before a toolchain is chosen."""
    shim = tmp_path / "rustc"
    shim.write_text("#!/bin/sh\necho 'error: no default toolchain' >&2; exit 1\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(UnavailableError, match=r"no default toolchain.*rustup default stable"):
        RustGrader()


def test_a_killed_suite_leaves_no_candidate_behind(grader: RustGrader) -> None:
    """The supervisor of a looping candidate dies with the process that started it."""
    code = (
        "from harness.grading import Limits; from harness.grading.rust import RustGrader; "
        "RustGrader(Limits(cpu_s=60, wall_s=60.0)).grade('fn f() -> u64 { loop {} }', ['f() == 1'])"
    )
    suite = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        family = wait_for(lambda: [p for p in psutil.Process(suite.pid).children(recursive=True)
                                   if p.name() == "candidate" or "candidate" in p.cmdline()[:1]])  # fmt: skip
    finally:
        suite.kill()
        suite.wait()
    wait_for(lambda: [True] if not any(p.is_running() for p in family) else [])


def wait_for(found: Callable[[], list[Any]]) -> list[Any]:
    """Ask until there is something, for half a minute."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.Error):
            if result := found():
                return result
        time.sleep(0.05)
    raise AssertionError("nothing found within 30 s")
