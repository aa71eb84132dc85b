from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.errors import GradingError, UsageError
from harness.grading import CodeGrade, CodeGrader, Limits
from harness.grading.sandbox.process import Sandbox

GOOD = "def f(x):\n    return x + 1"
TESTS = ["assert f(3) == 4", "assert f(0) == 1"]
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", params=["strong", "weak"])
def grader(request: pytest.FixtureRequest) -> Iterator[CodeGrader]:
    """A grader in each kind of sandbox."""
    with CodeGrader(Limits(wall_s=8.0), isolate=request.param == "strong") as grader:
        if request.param == "strong" and grader.missing:
            pytest.skip(f"no strong sandbox here: {'; '.join(grader.missing)}")
        yield grader


@pytest.fixture(scope="module")
def strong() -> Iterator[CodeGrader]:
    """A grader for what only namespaces prevent."""
    with CodeGrader() as grader:
        if grader.missing:
            pytest.skip(f"no strong sandbox here: {'; '.join(grader.missing)}")
        yield grader


def body(*lines: str) -> str:
    """Write a candidate whose function has this body and then answers rightly."""
    return "\n".join(["def f(x):", *(f"    {line}" for line in lines), "    return x + 1"])


def still_grades(grader: CodeGrader) -> bool:
    """Say whether a right candidate, never seen before, gets its grade."""
    return grader.grade(f"{GOOD}  # {time.monotonic_ns()}", TESTS).is_solved


def test_a_right_candidate_passes_and_a_wrong_one_fails(grader: CodeGrader) -> None:
    """The grade names each test, the reason of the first failure, and the sandbox."""
    good = grader.grade(GOOD, TESTS)
    assert good.passed == (True, True)
    assert good.error is None
    assert good.is_solved
    assert good.sandbox == grader.sandbox
    bad = grader.grade("def f(x):\n    return 4", TESTS)
    assert bad.passed == (True, False)
    assert bad.error == "assert f(0) == 1: got 4"
    assert not bad.is_solved


def test_no_tests_solve_nothing(grader: CodeGrader) -> None:
    """A candidate without tests is not solved."""
    assert grader.grade(GOOD, []) == CodeGrade((), None, pytest.approx(0, abs=5), grader.sandbox)
    assert not grader.grade(GOOD, []).is_solved


FAULTS = {
    "os-exit": "import os\nos._exit(0)",
    "os-exit-in-call": body("import os; os._exit(0)"),
    "sys-exit": "import sys\nsys.exit(0)",
    "system-exit-in-call": body("raise SystemExit(0)"),
    "interrupt": "raise KeyboardInterrupt",
    "prints-passed": "print('passed')\nprint('ok 1')",
    "recursion": "def f(x): return f(x)",
    "deep-recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x) + 1",
    "loop": "def f(x):\n    while True: pass",
    "loop-at-import": "while True: pass",
    "output": body("while True: print('x' * 10000)"),
    "memory": body("x = bytearray(10**9)"),
    "memory-list": "def f(x): return list(range(10**8))",
    "huge-value": "def f(x): return 'x' * 50_000_000",
    "endless-value": "def f(x):\n    a = []\n    a.append(a)\n    return a",
    "big-file": body("open('big', 'wb').write(bytes(2**21))"),
    "fork-bomb": body("import os", "while True: os.fork()"),
    "threads": body(
        "import threading, time", "while True:", "    threading.Thread(target=time.sleep, args=(9,)).start()"
    ),
    "kills-itself": body("import os", "os.kill(os.getpid(), 9)"),
    "closes-everything": body("import os; os.closerange(0, 100)"),
    "scribbles": body(
        "import os",
        "for fd in range(20):",
        "    try: os.write(fd, b'x' * 10)",
        "    except OSError: pass",
    ),
    "segfault": body("import ctypes; ctypes.string_at(0)"),
    "syntax-error": "def f(x",
    "parser-overflow": "(" * 5000,
    "surrogate": "def f(x): return '\ud800'",
    "nul": "\0",
    "empty": "",
    "hostile-exception": "class E(Exception):\n    def __str__(self): raise self\ndef f(x): raise E",
    "patches-exec": "import builtins\nbuiltins.compile = builtins.exec = lambda *a, **k: None",
    "patches-modules": (
        "import json, os\njson.dumps = lambda *a, **k: '[\"done\", 0]'\nos.getpid = lambda: 0"
    ),
}


@pytest.mark.parametrize("source", FAULTS.values(), ids=FAULTS.keys())
def test_whatever_a_candidate_does_is_its_own_failure(grader: CodeGrader, source: str) -> None:
    """It fails every test, in bounded time, and the grader goes on."""
    grade = grader.grade(source, TESTS)
    assert grade.passed == (False, False)
    assert grade.error
    assert grade.wall_s < 30
    assert still_grades(grader)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(body("print('noise', flush=True)"), id="prints"),
        pytest.param("import sys\nsys.excepthook = sys.stdout = None\n" + GOOD, id="breaks-its-own-streams"),
        pytest.param(body("import os", "if os.fork() == 0: os.setsid()"), id="forked-copy"),
        pytest.param(
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n" + GOOD, id="dataclass"
        ),
        pytest.param("if __name__ == '__main__':\n    raise SystemExit\n" + GOOD, id="main-block"),
    ],
)
def test_what_is_harmless_does_not_cost_the_grade(grader: CodeGrader, source: str) -> None:
    """Noise, a stray fork and a main block leave a right answer right."""
    assert grader.grade(source, TESTS).is_solved


def test_a_sleeping_candidate_ends_by_the_clock(grader: CodeGrader) -> None:
    """Time that costs no CPU is limited too, and such a grade is not remembered."""
    with CodeGrader(Limits(wall_s=0.5), isolate=grader.sandbox == "strong") as impatient:
        grade = impatient.grade("import time\ntime.sleep(60)", TESTS)
        assert grade.error == "the candidate's process ended early (no end after 0.5 s)"
        assert impatient.grade("import time\ntime.sleep(60)", TESTS).wall_s > 0


def test_a_process_left_behind_does_not_outlive_its_candidate(grader: CodeGrader) -> None:
    """Daemons that left the session are gone when the grade is there."""
    source = body(
        "import os, time",
        "if os.fork() == 0:",
        "    os.setsid()",
        "    if os.fork() == 0: time.sleep(600)",
        "    os._exit(0)",
    )
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    assert grader.grade(source, TESTS).is_solved
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


def test_a_forged_exit_of_the_runner_is_no_pass(grader: CodeGrader) -> None:
    """Messages without the nonce are ignored, so a guess does not help."""
    forged = body(
        "import os",
        "for nonce in ('', '0' * 32, 'f' * 32):",
        """    for message in ('["note", 0, 0, ["int", "4"]]', '["done", 0]'):""",
        "        os.write(3, f'{nonce} {message}\\n'.encode())",
        "os._exit(0)",
    )
    assert not any(grader.grade(forged, TESTS).passed)


def test_a_stolen_nonce_does_not_reveal_what_is_expected(grader: CodeGrader) -> None:
    """A candidate that digs out the reporter can send messages, but not the value that it does not know."""
    thief = body(
        "import gc, os",
        "for thing in gc.get_objects():",
        "    if type(thing).__name__ == '_Reporter':",
        "        thing.send('note', 0, 0, ['int', '0'])",
        "        thing.send('done', 0)",
        "        thing.send('note', 1, 0, ['int', '0'])",
        "        thing.send('done', 1)",
        "        thing.send('end')",
        "os._exit(0)",
    )
    grade = grader.grade(thief, TESTS)
    assert grade.passed == (False, False)
    assert "got 0" in str(grade.error)


def test_an_assertion_reported_twice_fails(grader: CodeGrader) -> None:
    """A forged note does not survive the real one."""
    twice = body("for name, value in list(globals().items()):", "    if 'note' in name: value(0, 'value', 4)")
    assert grader.grade(twice, TESTS).passed == (False, False)


def test_each_test_sees_a_fresh_namespace(grader: CodeGrader) -> None:
    """State that one test leaves in the candidate's module is not seen by the next."""
    source = "calls = []\ndef f(x):\n    calls.append(x)\n    return len(calls)"
    assert grader.grade(source, ["assert f(0) == 1", "assert f(0) == 1"]).is_solved


def test_candidates_do_not_see_each_other(grader: CodeGrader) -> None:
    """Files and patched modules of one candidate are gone for the next."""
    leave = "import math, os\nmath.pi = 3\nos.mkdir('d')\nopen('d/e', 'w').close()\nopen('f', 'w').close()\n"
    assert grader.grade(leave + GOOD, TESTS[:1]).is_solved
    look = "import math, os\ndef f(x): return [round(math.pi, 2), os.listdir('.')]"
    assert grader.grade(look, ["assert f(0) == [3.14, []]"]).is_solved


def test_a_candidate_is_nobody_and_sees_nothing(strong: CodeGrader) -> None:
    """No privileges, no network, no process but its own, no file of the machine."""
    source = (
        "import os, socket\n"
        "def parent(): return os.getppid()\n"
        "def net(): socket.create_connection(('127.0.0.1', 22), 1)\n"
        "def write(): open('/usr/x', 'w')\n"
        "def passwd(): open('/etc/passwd')\n"
        "def root(): os.setuid(0) if os.getuid() else os.chroot('/')\n"
        "def caught(g):\n"
        "    try: g()\n"
        "    except OSError as e: return 'refused'\n"
    )
    tests = [f"assert caught({name}) == 'refused'" for name in ("net", "write", "passwd", "root")]
    tests += ["assert parent() == 1", f"assert os.path.exists({str(ROOT / 'pyproject.toml')!r}) is False"]
    grade = strong.grade(source, tests)
    assert grade.error is None, grade.error
    assert grade.is_solved


def test_signals_to_the_parent_do_not_reach_it(strong: CodeGrader) -> None:
    """The zygote survives whatever its candidates send, and so does its sandbox."""
    source = body(
        "import os",
        "for number in range(1, 65):",
        "    for pid in (1, os.getppid()):",
        "        try: os.kill(pid, number)",
        "        except OSError: pass",
    )
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    strong.grade(source, TESTS)
    assert still_grades(strong)
    assert {process.pid for process in psutil.Process().children(recursive=True)} == before


def test_the_same_work_is_done_once() -> None:
    """A second grade of the same source and tests is remembered and takes no time."""
    with CodeGrader() as grader:
        first = grader.grade(GOOD, TESTS)
        again = grader.grade(GOOD, tuple(TESTS))
        assert first.wall_s > 0
        assert again == first._replace(wall_s=0.0)


def test_a_grade_repeats() -> None:
    """Hash order and `random` are the same in every sandbox."""
    source = "import random\ndef f(): return [random.random(), str({'a', 'b', 'c', 'd'})]"
    errors = []
    for _ in range(2):
        with CodeGrader() as grader:
            errors.append(grader.grade(source, ["assert f() == 0"]).error)
    assert errors[0] == errors[1]


def test_threads_take_turns() -> None:
    """Several threads get the grades of their own candidates."""
    with CodeGrader() as grader:
        found: dict[int, str | None] = {}

        def work(number: int) -> None:
            found[number] = grader.grade(f"def f(x): return {number}", ["assert f(0) == -1"]).error

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {n: f"assert f(0) == -1: got {n}" for n in range(8)}


def test_a_test_that_is_no_python_is_our_mistake() -> None:
    """It is refused before anything runs, and so is a closed grader or a senseless limit."""
    with CodeGrader() as grader, pytest.raises(UsageError, match="not Python"):
        grader.grade(GOOD, ["assert f("])
    with pytest.raises(UsageError, match="closed"):
        grader.grade(GOOD, TESTS)
    with pytest.raises(UsageError, match="cpu_s: 0"):
        Limits(cpu_s=0)


def test_an_interrupted_grade_does_not_spoil_the_next() -> None:
    """An exception out of the middle of a grade, as Ctrl-C raises, leaves no stale answer behind."""

    def interrupt(number: int, frame: object) -> None:
        raise InterruptedError

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        with CodeGrader() as grader:
            assert still_grades(grader)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(InterruptedError):
                grader.grade("import time\ntime.sleep(4)", TESTS)
            assert still_grades(grader)
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_what_was_missing_is_known_after_close() -> None:
    """Asking a closed grader starts no sandbox."""
    with CodeGrader() as grader:
        kind = grader.sandbox
    assert grader.sandbox == kind
    with pytest.raises(UsageError, match="closed"):
        _ = closed().missing


def closed() -> CodeGrader:
    """Return a grader that was closed before it started anything."""
    grader = CodeGrader()
    grader.close()
    return grader


def test_a_sandbox_that_cannot_run_is_an_error_of_the_grader() -> None:
    """A limit that leaves no time to start is not blamed on the candidate."""
    with CodeGrader(Limits(wall_s=1e-9)) as grader, pytest.raises(GradingError, match="did not come up"):
        grader.grade(GOOD, TESTS)


def test_an_interpreter_that_cannot_start_is_an_error_of_the_grader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names what could not be started."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(GradingError, match="/nonexistent/python"):
        Sandbox(isolate=False)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(GradingError, match="did not start"):
        Sandbox(isolate=False)


@pytest.mark.parametrize(("kills", "solved"), [(1, True), (2, False)])
def test_a_sandbox_that_dies_is_replaced(kills: int, solved: bool) -> None:
    """Once is bad luck and is run again; twice is the candidate's doing, if a harmless one still runs."""
    with CodeGrader() as grader:
        assert still_grades(grader)
        source = body("import time", "time.sleep(1)")
        killer = threading.Thread(target=kill_supervisors, args=(kills,))
        killer.start()
        grade = grader.grade(source, TESTS[:1])
        killer.join()
        assert grade.is_solved == solved
        assert grade.error == (None if solved else "the candidate ended its sandbox")
        assert still_grades(grader)


def kill_supervisors(times: int) -> None:
    """Kill the child of this process that is a sandbox, as often as asked, each time a new one."""
    killed: set[int] = set()
    deadline = time.monotonic() + 20
    while len(killed) < times and time.monotonic() < deadline:
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if (
                    child.pid not in killed
                    and "zygote" in " ".join(child.cmdline())
                    and grandchildren(child) >= 2
                ):
                    child.kill()
                    killed.add(child.pid)
        time.sleep(0.05)


def grandchildren(process: psutil.Process) -> int:
    """Count the descendants of a process: two once a sandbox runs a candidate."""
    return len(process.children(recursive=True))


def gone(pids: list[int], within_s: float = 15.0) -> bool:
    """Wait until none of the processes is left."""
    return wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), within_s)


def wait_until(condition: Callable[[], bool], within_s: float) -> bool:
    """Poll a condition until a deadline."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("isolate", [True, False])
def test_closing_leaves_nothing(isolate: bool) -> None:
    """Supervisor and zygote are gone when `close` returns, after an exception too."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    pids: list[int] = []

    def fail_inside() -> None:
        with CodeGrader(isolate=isolate) as grader:
            grader.grade(GOOD, TESTS)
            after = psutil.Process().children(recursive=True)
            pids.extend(process.pid for process in after if process.pid not in before)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_inside()
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize("isolate", [True, False])
def test_a_killed_suite_leaves_nothing(isolate: bool) -> None:
    """After SIGKILL in the middle of a candidate, its sandbox and all it started end by themselves."""
    forks = body("import os, time", "if os.fork() == 0: os.setsid()", "time.sleep(60)")
    script = (
        "from harness.grading import CodeGrader, Limits\n"
        f"with CodeGrader(Limits(wall_s=60), isolate={isolate}) as g: g.grade({forks!r}, {TESTS!r})\n"
    )
    suite = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    try:
        process = psutil.Process(suite.pid)
        assert wait_until(lambda: len(process.children(recursive=True)) >= 4, 20)
        pids = [child.pid for child in process.children(recursive=True)]
    finally:
        suite.kill()
        suite.wait()
    assert gone(pids)
