"""What is left of containers when their suite is killed: nothing, whatever the moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.containers.conftest import Leftovers

pytestmark = pytest.mark.containers
ROOT = Path(__file__).parents[2]
MARK = "ASSAY_CONTAINER_KILL_TEST"
GONE_S = 30.0
NUM_KILLS = 10

SUITE = """
import os, signal, sys, threading, time
from docker.models.containers import Container, ContainerCollection
from harness.launchers.container_engine import GuardedGroup
from harness.launchers.recipes import container_launcher

moment, role, image = sys.argv[1:]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def before(call):
    def killed(*args, **options):
        die()
    return killed

def after(call):
    def killed(*args, **options):
        call(*args, **options)
        die()
    return killed

def amid(call):
    def killed(*args, **options):
        threading.Timer(0.004, die).start()
        call(*args, **options)
        time.sleep(10)
    return killed

match moment.rpartition("-")[::2]:
    case when, "service":
        GuardedGroup.start = globals()[when](GuardedGroup.start)
    case when, "creation":
        ContainerCollection.create = globals()[when](ContainerCollection.create)
    case when, "start":
        Container.start = globals()[when](Container.start)

with container_launcher("llamacpp", name=role, model="nano", image=image).launch() as server:
    print(server.url, flush=True)
    if moment == "serving":
        die()
    time.sleep(100)
"""


@pytest.fixture
def suite(image: str, leftovers: Leftovers) -> Iterator[Suite]:
    """A way to run the suite to its end."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="kill-") as folder:
        yield Suite(image, leftovers, Path(folder))


class Suite:
    """A process that launches a container, and the traces of it."""

    def __init__(self, image: str, leftovers: Leftovers, folder: Path) -> None:
        self.image, self.leftovers, self.folder = image, leftovers, folder
        self.mark = uuid.uuid4().hex

    def start(self, moment: str = "never") -> subprocess.Popen[str]:
        """Run it; its temporary files are its own."""
        env = {**os.environ, MARK: self.mark, "TMPDIR": str(self.folder), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", SUITE, moment, self.leftovers.role, self.image]
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)

    def processes(self) -> list[str]:
        """Those of the suite that run, the watchdog included."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found

    def leaves_nothing(self) -> bool:
        """Whether soon no process, no container and no file of the suite is left."""
        ends_s = time.monotonic() + GONE_S
        while self.processes() and time.monotonic() < ends_s:
            time.sleep(0.1)
        assert self.processes() == []
        assert self.leftovers.names() == []
        assert [path.name for path in self.folder.iterdir()] == []
        return True


MOMENTS = [
    *("amid-creation", "amid-start"),
    *(
        pytest.param(moment, marks=pytest.mark.nightly)
        for moment in (
            *("before-service", "after-service", "before-creation", "after-creation"),
            *("before-start", "after-start", "serving"),
        )
    ),
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_leaves_nothing(moment: str, suite: Suite) -> None:
    """SIGKILL before, amid and after each step of a start-up leaves no container, process or file."""
    with suite.start(moment) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert suite.leaves_nothing()


def test_an_interrupt_while_starting_leaves_nothing(suite: Suite) -> None:
    """Ctrl-C while the container starts removes it before the process ends."""
    with suite.start() as process:
        while not suite.leftovers.names():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
    assert suite.leaves_nothing()


def test_a_suite_that_forgets_its_container_leaves_nothing(suite: Suite) -> None:
    """A process that ends without stopping its container has it removed too."""
    with suite.start() as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://")
        process.terminate()
        process.wait(60)
    assert suite.leaves_nothing()


@pytest.mark.nightly
def test_ten_kills_at_random_moments_leave_nothing(suite: Suite) -> None:
    """No moment of a container's start is special."""
    draw = random.Random(7)
    for _ in range(NUM_KILLS):
        with suite.start() as process:
            time.sleep(draw.uniform(0.3, 3.0))
            process.kill()
            process.wait(60)
        assert suite.leaves_nothing()
