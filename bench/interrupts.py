"""pytest, run to its end by another process: whatever tells that one to end interrupts pytest once.

A first interrupt has pytest judge what it measured; a second one ends the judging. They come in numbers: a
terminal tells every process of its foreground group, tox tells its child once more, a batch system sends
SIGTERM. So pytest is in a process group of its own, which a terminal's Ctrl-C does not reach, and hears of
the first Ctrl-C, SIGTERM or SIGHUP alone, as one SIGINT to that group. A third Ctrl-C kills it. Its
parent's own end, however it comes, is an interrupt, too (Linux).

A debugger reads from the terminal, which only the foreground group may do. With `--pdb` pytest stays there,
and a terminal's Ctrl-C reaches it by itself.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

__all__ = ["Ended", "deaf", "run_to_end"]

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DEBUGGERS = frozenset({"--pdb", "--trace"})
PR_SET_PDEATHSIG = 1
"""prctl(2)."""
KILLING_INTERRUPT = 3
AGAIN = b"bench.node: pytest was told, and judges what it measured; Ctrl-C once more kills it\n"


class Ended(NamedTuple):
    """How it ended."""

    status: int
    """Below 0, the signal that ended it."""
    is_interrupted: bool
    """Whether this process was told to end meanwhile."""


def run_to_end(command: Sequence[str], cwd: Path) -> Ended:
    """Run pytest in a folder, and wait for it whatever happens.

    Raises
    ------
    OSError: it cannot be started.
    """
    is_apart = DEBUGGERS.isdisjoint(command)
    relay = _Relay(is_apart=is_apart)
    group = 0 if is_apart else None
    # Heard from before it begins: a signal in between would end this process, and leave a pytest.
    with (
        _heard(relay.hear),
        subprocess.Popen(command, cwd=cwd, process_group=group, preexec_fn=_ends_with_parent()) as child,
    ):
        relay.begin(child)
        return Ended(child.wait(), bool(relay.heard))


@contextmanager
def deaf() -> Iterator[None]:
    """Let nothing but a kill end this process meanwhile."""
    with _heard(lambda number, frame: None):
        yield


class _Relay:
    """From the signals that this process hears to the one that its child does."""

    def __init__(self, *, is_apart: bool) -> None:
        self.heard: list[int] = []
        self._is_apart = is_apart
        self._child: subprocess.Popen[bytes] | None = None
        self._left = [signal.SIGINT]
        """Taken out by whoever sends it: a handler runs between any two lines of `begin`."""

    def begin(self, child: subprocess.Popen[bytes]) -> None:
        """There is somebody to tell; also what was heard before."""
        self._child = child
        if any(map(self._is_told, self.heard)):
            self._interrupt()

    def hear(self, number: int, frame: FrameType | None) -> None:
        """As a handler of signals."""
        self.heard.append(number)
        if not self._is_told(number):
            return
        num_interrupts = self.heard.count(signal.SIGINT)
        if num_interrupts >= KILLING_INTERRUPT and number == signal.SIGINT:
            self._send(signal.SIGKILL)
            return
        self._interrupt()
        if num_interrupts == KILLING_INTERRUPT - 1 and number == signal.SIGINT:
            with suppress(OSError):  # not by print, which a handler may have interrupted
                os.write(2, AGAIN)

    def _is_told(self, number: int) -> bool:
        return self._is_apart or number != signal.SIGINT

    def _interrupt(self) -> None:
        if self._child is not None:
            with suppress(IndexError):
                self._send(self._left.pop())

    def _send(self, number: signal.Signals) -> None:
        if self._child is None or self._child.returncode is not None:
            return
        with suppress(ProcessLookupError, PermissionError):  # it has just ended
            (os.killpg if self._is_apart else os.kill)(self._child.pid, number)


@contextmanager
def _heard(act: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Not ignored, since a child would inherit that; but a hangup that nohup ignores stays so."""
    before = {
        number: signal.signal(number, act)
        for number in ENDS
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ends_with_parent() -> Callable[[], object] | None:
    """What a child of this process does before it runs its program."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()  # found before the fork

    def bind() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # its parent's handler would swallow it
        prctl(PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:  # it ended before it was asked
            os.kill(os.getpid(), signal.SIGINT)

    return bind
