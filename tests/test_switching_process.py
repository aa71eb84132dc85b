"""An arm in a process of its own: the same answers, and an end on every way out."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("psutil")

import psutil
import torch
from switching_asks import asks, setting

from harness.errors import (
    BackendBroken,
    BackendTimeout,
    BudgetError,
    ModelError,
    UnavailableError,
    UsageError,
)
from harness.switching.arms import make_arm
from harness.switching.base import Ask, answer_all
from harness.switching.process import ArmProcess
from harness.switching.setting import Setting

SMALL = setting(models=("phi-mini",))
ASK = Ask(model="phi-mini", prompt_ids=(1, 2, 3), new_tokens=2)
ROOT = Path(__file__).resolve().parents[1]


def test_arms_in_processes_answer_as_arms_here_do() -> None:
    """Two beside each other, in processes of their own; blobs and all."""
    wanted = asks(6)
    here = make_arm("reference", setting())
    expected = [answer.token_ids for answer in answer_all(here, wanted, sees_queue=False)]
    here.close()
    with (
        ArmProcess.start("home-slot-lookahead", setting()) as one,
        ArmProcess.start("reload-every", setting()) as other,
    ):
        assert len({one.pid, other.pid, os.getpid()}) == 3
        for arm in (one, other, one):
            answers = arm.run(wanted, warm="fill", sees_queue=True)
            assert [answer.token_ids for answer in answers] == expected
        checksums = one.checksums()
    assert checksums["llama-mini"] == checksums["packed:llama-mini"]
    assert not psutil.pid_exists(one.pid)


def test_a_closed_arm_has_no_process_and_says_so() -> None:
    arm = ArmProcess.start("lru", SMALL)
    arm.close()
    arm.close()
    assert not psutil.pid_exists(arm.pid)
    with pytest.raises(BackendBroken, match="lru: it was closed; start another one"):
        arm.run([ASK])


def test_what_the_arm_foresees_is_raised_as_it_is_and_the_arm_goes_on() -> None:
    """A refusal of the request is no end of the process."""
    with ArmProcess.start("lru", SMALL) as arm:
        with pytest.raises(UsageError, match="llama-mini"):
            arm.run([dataclasses.replace(ASK, model="llama-mini")])
        with pytest.raises(UsageError, match="tepid"):
            arm.run([ASK], warm="tepid")
        with pytest.raises(UsageError, match="ids from 0 to 511"):
            arm.run([dataclasses.replace(ASK, prompt_ids=(99999,))])
        assert len(arm.run([ASK])[0].token_ids) == 2


def test_what_nobody_foresaw_ends_the_arm_and_every_later_call_says_why() -> None:
    """The last line of the traceback, and where it was."""
    with ArmProcess.start("lru", SMALL) as arm:
        nonsense = dataclasses.replace(ASK, prompt_ids=("one", 2))  # type: ignore[arg-type]
        with pytest.raises(BackendBroken, match=r"lru: its process \d+ broke: TypeError: .*\(\w+\.py:\d+\)"):
            arm.run([nonsense])
        with pytest.raises(BackendBroken, match="TypeError"):
            arm.run([ASK])
        with pytest.raises(BackendBroken, match="TypeError"):
            arm.checksums()


def test_an_arm_that_is_killed_half_way_names_the_signal() -> None:
    """There is no result of a part, and another arm serves on."""
    with ArmProcess.start("reload-every", setting(link_bytes_per_s=5e7)) as arm:
        killer = threading.Timer(0.5, os.kill, (arm.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(BackendBroken, match=r"reload-every: its process \d+ died of SIGKILL"):
            arm.run(asks(30))
        killer.join()
        with pytest.raises(BackendBroken, match="SIGKILL"):
            arm.checksums()
    with ArmProcess.start("lru", SMALL) as another:
        assert another.run([ASK])[0].failure is None


def test_an_arm_that_crashes_names_the_signal() -> None:
    with ArmProcess.start("lru", SMALL) as arm:
        os.kill(arm.pid, signal.SIGSEGV)
        with pytest.raises(BackendBroken, match="died of SIGSEGV"):
            arm.run([ASK])


def test_a_call_that_is_broken_off_ends_the_arm() -> None:
    """Its answer would be taken for that of the next call."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with ArmProcess.start("reload-every", setting(link_bytes_per_s=2e7)) as arm:
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                arm.run(asks(2))
        finally:
            signal.signal(signal.SIGALRM, before)
        with pytest.raises(BackendBroken, match="reload-every: its call was broken off; start another one"):
            arm.run([ASK])


def test_an_arm_that_takes_too_long_is_ended() -> None:
    with ArmProcess.start("reload-every", setting(link_bytes_per_s=1e6)) as arm:
        arm._timeout_s = 0.2
        with pytest.raises(BackendTimeout, match=r"reload-every: no answer within 0\.2 s"):
            arm.run(asks(3))
        with pytest.raises(BackendBroken, match="no answer within"):
            arm.run([ASK])
        arm._process.join(10.0)
        assert not arm._process.is_alive()


def test_an_arm_that_cannot_be_made_raises_why_and_leaves_no_process() -> None:
    ArmProcess.start("lru", SMALL).close()
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(ModelError, match="no-mini"):
        ArmProcess.start("lru", setting(models=("no-mini",)))
    with pytest.raises(BudgetError, match="bytes"):
        ArmProcess.start("lru", setting(models=("phi-mini",), arena_bytes=2**60))
    with pytest.raises(UsageError, match="unknown"):
        ArmProcess.start("lruu", SMALL)
    assert set(psutil.Process().children(recursive=True)) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["reference", "home-slot", "fresh", "serverless-warm"])
def test_an_arm_on_a_gpu_that_is_not_there_says_so(name: str) -> None:
    with pytest.raises(UnavailableError, match=f"{name}: device is cuda"):
        make_arm(name, setting(device="cuda", link_bytes_per_s=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ()}, "models are none"),
        ({"models": ("a", "a")}, "name each once"),
        ({"arena_bytes": 0}, "arena_bytes is 0"),
        ({"arena_bytes": 2.5}, "arena_bytes is 2.5"),
        ({"link_bytes_per_s": 0.0}, "link_bytes_per_s is 0.0"),
        ({"link_bytes_per_s": float("nan")}, "link_bytes_per_s is nan"),
        ({"dtype": "int8"}, "dtype 'int8'"),
        ({"device": "tpu"}, "device 'tpu'"),
        ({"seed": -1}, "seed is -1"),
        ({"popularity": {"phi-mini": 1.0}}, "popularity names phi-mini"),
        ({"models": ("a", "b"), "popularity": {"a": 1.0, "b": 0.0}}, "positive share"),
        ({"servers": {"x": "http://h:1"}}, "servers names x"),
        ({"new_tokens": 0}, "new_tokens is 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Setting(**changes)  # type: ignore[arg-type]


def test_a_setting_travels() -> None:
    """It is the same on the other side; shares are the published mix's, or equal for other models."""
    given = setting(models=("a", "b"), servers={"a": "http://h:1", "b": "http://h:2"})
    assert pickle.loads(pickle.dumps(given)) == given
    assert given.popularity == {"a": 1.0, "b": 1.0}
    assert Setting().popularity == {"llama-mini": 0.4, "mistral-mini": 0.4, "phi-mini": 0.2}


_SCRIPT = """
import sys, time
print("main", flush=True)
from harness.switching.base import Ask
from harness.switching.process import ArmProcess
from harness.switching.setting import Setting
setting = Setting(models=("phi-mini",), link_bytes_per_s=1e5)
arms = [ArmProcess.start(name, setting) for name in ("lru", "serverless-warm")]
print(*(arm.pid for arm in arms), flush=True)
arms[0].run([Ask(model="phi-mini", prompt_ids=(1,), new_tokens=1)])
"""
"""Without a guard; its one request takes a minute."""


@pytest.mark.nightly
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_driver_leaves_no_process_and_no_file(tmp_path: Path, sign: signal.Signals) -> None:
    """Not the arms, one of them copying; not the fork server; not the files of the one that reads some."""
    script = tmp_path / "driver.py"
    script.write_text(_SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    driver = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert driver.stdout is not None
    with driver.stdout:
        assert driver.stdout.readline() == "main\n"
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        family = psutil.Process(driver.pid).children(recursive=True)
        assert set(pids) <= {one.pid for one in family}
        time.sleep(0.5)
        driver.send_signal(sign)
        driver.wait(30)
        assert driver.stdout.read() == ""
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    ends_s = time.monotonic() + 10
    while [one.name for one in tmp_path.iterdir()] != ["driver.py"] and time.monotonic() < ends_s:
        time.sleep(0.1)
    assert [one.name for one in tmp_path.iterdir()] == ["driver.py"]


@pytest.mark.nightly
def test_a_driver_that_ends_leaves_nothing_and_no_word(tmp_path: Path) -> None:
    """Though it closed no arm; its own module has run once, and nothing complains at its end."""
    script = tmp_path / "driver.py"
    script.write_text(_SCRIPT.replace("1e5", "1e9"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    said, pids = done.stdout.splitlines()
    assert said == "main"
    ends_s = time.monotonic() + 20
    while any(psutil.pid_exists(int(pid)) for pid in pids.split()) and time.monotonic() < ends_s:
        time.sleep(0.1)
    assert not any(psutil.pid_exists(int(pid)) for pid in pids.split())
    while [one.name for one in tmp_path.iterdir()] != ["driver.py"] and time.monotonic() < ends_s:
        time.sleep(0.1)
    assert [one.name for one in tmp_path.iterdir()] == ["driver.py"]
