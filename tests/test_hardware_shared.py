"""One budget drawn on by many processes at once, some of which are killed."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from harness.errors import BudgetError, UsageError
from harness.hardware import DeviceBudget, processes

ROOT = Path(__file__).resolve().parents[1]
CAPACITY = 100

HOLD = """
import pickle, sys
budget = pickle.load(sys.stdin.buffer)
kept = [budget.allocate(int(size), owner="child") for size in sys.argv[1:]]
print("held", flush=True)
sys.stdin.read()
"""

HAMMER = """
import json, random, sys, time
from harness.errors import BudgetError
from harness.hardware import DeviceBudget

budget, draw = DeviceBudget.open(sys.argv[1]), random.Random(int(sys.argv[2]))
held, refusals = [], 0
first, began = budget.allocate(20, owner=sys.argv[2]), time.monotonic_ns()
print("held", flush=True)
sys.stdin.read()
held.append((began, time.monotonic_ns(), 20))
first.release()
for _ in range(int(sys.argv[3])):
    size = draw.randint(10, 60)
    try:
        slab = budget.allocate(size, owner=sys.argv[2])
    except BudgetError:
        refusals += 1
        continue
    began = time.monotonic_ns()
    time.sleep(draw.uniform(0, 0.001))
    ended = time.monotonic_ns()
    held.append((began, ended, size))
    try:
        slab.resize(grown := draw.randint(1, 90))
    except BudgetError:
        refusals += 1
    else:
        began = time.monotonic_ns()
        time.sleep(draw.uniform(0, 0.001))
        held.append((began, time.monotonic_ns(), grown))
    slab.release()
print(json.dumps([held, refusals]))
"""

FORK = """
import os, sys
from harness.errors import UsageError
from harness.hardware import DeviceBudget

budget = DeviceBudget.create(100)
with budget.allocate(60, owner="parent") as held:
    if os.fork() == 0:
        held.release()
        try:
            held.resize(70)
        except UsageError as error:
            print(error)
        own = budget.allocate(40, owner="child")
        print(budget.used_bytes, own.num_bytes, sorted(row.pid != os.getpid() for row in budget.holders()))
        sys.exit()
    os.wait()
    print(budget.used_bytes, budget.path.exists())
print(budget.used_bytes)
"""

FORK_LOCKED = """
import os, signal, sys
from harness.hardware import DeviceBudget, ledger_file

budget = DeviceBudget.open(sys.argv[1])
with ledger_file.changing(budget.path, ledger_file.read(budget.path).budget_id):
    if not (child := os.fork()):
        signal.pause()
ledger_file.LOCK_DEADLINE_S = 0.2
try:
    print(budget.allocate(5, owner="parent").num_bytes)
finally:
    os.kill(child, signal.SIGKILL)
"""

ASK_FOR_INIT = """
import os
from harness.hardware import processes

if os.getuid() == 0:
    os.setuid(65534)
processes.PROC = "/absent"
print(processes.is_alive(processes.Process(1, None)))
"""

SPAWN = """
import multiprocessing, sys
from harness.hardware import DeviceBudget

budget = DeviceBudget.open(sys.argv[1])
held = budget.allocate(60, owner="parent")
draw = budget.allocate
child = multiprocessing.get_context("spawn").Process(target=draw, args=(30,), kwargs={"owner": "spawned"})
child.start()
child.join()
print(child.exitcode, budget.peak_bytes, budget.used_bytes)
"""


@pytest.fixture
def budget(tmp_path: Path) -> DeviceBudget:
    return DeviceBudget.create(CAPACITY, path=tmp_path / "ledger.json")


def start(script: str, *words: str | Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", script, *map(str, words)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)


def start_holder(budget: DeviceBudget, *sizes: int) -> subprocess.Popen[bytes]:
    child = start(HOLD, *map(str, sizes))
    assert child.stdin is not None
    pickle.dump(budget, child.stdin)
    child.stdin.flush()
    wait_until_held(child)
    return child


def wait_until_held(*children: subprocess.Popen[bytes]) -> None:
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"


def let_go(*children: subprocess.Popen[bytes]) -> None:
    for child in children:
        assert child.stdin is not None
        child.stdin.close()
        child.stdin = None


def kill_unreaped(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)


def highest_sum(spans: list[tuple[int, int, int]]) -> int:
    """The most that was surely held at one moment; ends come before starts of the same moment."""
    steps = sorted(step for began, ended, size in spans for step in ((ended, -size), (began, size)))
    return max(itertools.accumulate(size for _, size in steps))


def test_processes_that_draw_at_once_never_hold_more_than_there_is(budget: DeviceBudget) -> None:
    """By their own clocks their holdings overlap, and never exceed the capacity; all come back."""
    children = [start(HAMMER, budget.path, str(seed), "120") for seed in range(4)]
    wait_until_held(*children)
    with pytest.raises(BudgetError):
        budget.allocate(21, owner="parent")
    let_go(*children)
    results = [json.loads(child.communicate(timeout=60)[0]) for child in children]
    spans = [(began, ended, size) for held, _ in results for began, ended, size in held]
    assert 4 * 20 <= highest_sum(spans) <= budget.peak_bytes <= CAPACITY
    assert budget.num_refusals == 1 + sum(refusals for _, refusals in results)
    assert budget.holders() == ()


def test_kills_at_random_moments_lose_no_byte(budget: DeviceBudget) -> None:
    """Whatever they were at, the ledger stays whole, its lock free, and all bytes come back."""
    draw = random.Random(7)
    children = [start(HAMMER, budget.path, str(seed), "1000000") for seed in range(5)]
    wait_until_held(*children)
    let_go(*children)
    for child in children:
        time.sleep(draw.uniform(0.01, 0.06))
        assert budget.used_bytes <= CAPACITY
        child.kill()
        budget.reset_peak()
    for child in children:
        child.communicate()
        assert child.returncode == -signal.SIGKILL
    assert budget.used_bytes == 0
    with budget.allocate(CAPACITY, owner="after"):
        assert [row.owner for row in budget.holders()] == ["after"]


def test_threads_that_draw_at_once_never_hold_more_than_there_is(budget: DeviceBudget) -> None:
    """One process may draw from several threads: of three halves, two are given."""
    outcomes: list[str] = []
    barrier = threading.Barrier(3)

    def draw() -> None:
        barrier.wait()
        try:
            budget.allocate(CAPACITY // 2, owner="thread")
            outcomes.append("given")
        except BudgetError:
            outcomes.append("refused")

    threads = [threading.Thread(target=draw) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["given", "given", "refused"]
    assert budget.used_bytes == CAPACITY


@pytest.mark.parametrize("proc", ["/proc", "/absent"])
def test_a_killed_holder_gives_its_bytes_back(
    budget: DeviceBudget, proc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anyone is refused, and also where the system lists no processes."""
    monkeypatch.setattr(processes, "PROC", proc)
    with start_holder(budget, 30, 50) as child:
        assert {(row.owner, row.pid) for row in budget.holders()} == {("child", child.pid)}
        with pytest.raises(BudgetError, match=rf"20 of 100 are free; held by child 80 \(pid {child.pid}\)"):
            budget.allocate(21, owner="parent")
        child.kill()
    assert (budget.used_bytes, budget.holders()) == (0, ())
    held = budget.allocate(CAPACITY, owner="parent")
    assert budget.peak_bytes == held.num_bytes == CAPACITY


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc tells a zombie from a process")
def test_a_killed_holder_need_not_be_reaped_first(budget: DeviceBudget) -> None:
    """A zombie is listed until its parent asks for it, and holds no memory."""
    with start_holder(budget, 80) as child:
        kill_unreaped(child)
        assert budget.free_bytes == CAPACITY
        budget.allocate(CAPACITY, owner="parent").release()


def test_the_dead_do_not_raise_the_peak(budget: DeviceBudget) -> None:
    """What a killed process held and what came after it were never held at once."""
    with start_holder(budget, 60) as child:
        child.kill()
    budget.allocate(40, owner="parent")
    assert (budget.used_bytes, budget.peak_bytes) == (40, 60)
    with start_holder(budget, 50) as child:
        child.kill()
    budget.reset_peak()
    assert budget.peak_bytes == 40


def test_a_holder_that_just_exits_gives_its_bytes_back(budget: DeviceBudget) -> None:
    """The end of a process is a release, whether or not it said so."""
    with start_holder(budget, 60) as child:
        child.communicate()
    assert (child.returncode, budget.used_bytes) == (0, 0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc tells when a process started")
def test_a_new_process_under_an_old_number_is_not_the_holder(budget: DeviceBudget) -> None:
    """A number is given out again; when the process started is part of its name."""
    budget.allocate(60, owner="kv")
    text = json.loads(budget.path.read_text())
    for row in text["entries"].values():
        row[3] -= 1
    budget.path.write_text(json.dumps(text))
    assert budget.used_bytes == 0


def test_a_live_process_of_another_user_counts_as_alive() -> None:
    """Where it may not be asked, it is there."""
    assert start(ASK_FOR_INIT).communicate(timeout=30)[0] == b"True\n"


def test_a_fork_in_the_middle_of_a_change_does_not_keep_the_lock(budget: DeviceBudget) -> None:
    """A thread may fork while another draws; the child inherits the lock's descriptor."""
    child = start(FORK_LOCKED, budget.path)
    assert child.communicate(timeout=30)[0] == b"5\n"


def test_what_the_parent_holds_a_fork_cannot_give_away() -> None:
    """The child draws for itself, its exit takes nothing of the parent's along, nor the ledger."""
    child = start(FORK)
    lines = child.communicate(timeout=30)[0].decode().splitlines()
    assert child.returncode == 0
    assert lines[0].startswith("parent: held by process ")
    assert lines[1:] == ["100 40 [False, True]", "60 True", "0"]


def test_a_budget_without_a_path_is_deleted_with_its_maker() -> None:
    """Ten budgets leave no file behind, removed or not."""
    script = (
        "from harness.hardware import DeviceBudget\n"
        "budgets = [DeviceBudget.create(9) for _ in range(10)]\n"
        "budgets[0].remove()\n"
        "print(*(budget.path.exists() for budget in budgets[:2]), *(budget.path for budget in budgets))"
    )
    first, second, *paths = start(script).communicate(timeout=30)[0].decode().split()
    assert (first, second) == ("False", "True")
    assert len(set(paths)) == 10
    assert not [left for path in paths for left in Path(path).parent.glob(f"{Path(path).name}*")]


def test_a_budget_lies_in_the_temporary_folder_where_there_is_none_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS has no /dev/shm."""
    monkeypatch.setattr("harness.hardware.budget.MEMORY_FOLDER", str(tmp_path / "absent"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    budget = DeviceBudget.create(9)
    assert budget.path.is_relative_to(tmp_path.resolve())


def test_a_budget_can_be_an_argument_of_another_process(budget: DeviceBudget) -> None:
    """As multiprocessing and Ray hand it over."""
    child = start(SPAWN, budget.path)
    assert child.communicate(timeout=30)[0].decode().split() == ["0", "90", "60"]
    assert budget.used_bytes == 0


def test_one_of_many_makers_makes_the_budget(tmp_path: Path) -> None:
    """Two budgets at one path would each give away the whole device."""
    made: list[str] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        try:
            DeviceBudget.create(9, path=tmp_path / "ledger.json")
            made.append("made")
        except UsageError as error:
            made.append(str(error).split(":")[0].split()[-1])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == ["exists"] * 7 + ["made"]
