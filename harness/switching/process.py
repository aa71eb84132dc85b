"""An arm in a process of its own: what it holds, and what it does to the machine, ends with it.

    with ArmProcess.start("home-slot", Setting()) as arm:
        answers = arm.run(asks, warm="fill", sees_queue=True)

Requests go over a pipe, a whole trace at a time, so that the pipe is in no measured time. The process ends
when the pipe does or its parent is gone, whatever it is doing then. What it foresaw is raised here as what it
was there (`BudgetError`, `ModelError`, …), and it goes on; what it did not foresee ends it, and every later
call says why: the signal, or the last line of the traceback.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, Self, cast

from harness import errors
from harness.errors import BackendBroken, BackendTimeout, HarnessError
from harness.switching.arms import check_arm, make_arm
from harness.switching.base import Answer, Arm, Ask, answer_all
from harness.switching.nursery import ENV, start_process
from harness.switching.setting import Setting

__all__ = ["ArmProcess"]

_GRACE_S = 5.0


class ArmProcess:
    """An arm by name, in a process; a context manager that closes it. For one thread."""

    def __init__(self, name: str, setting: Setting, *, timeout_s: float = 900.0) -> None:
        """Start it, without waiting until it is ready; the first call waits.

        Arguments: `timeout_s`, that starting, or any one trace, may take.

        Raises
        ------
        UsageError: there is no such arm.
        """
        check_arm(name)
        self.name = name
        self.setting = setting
        self._timeout_s = timeout_s
        self._cause: str | None = None
        self._is_ready = False
        self._pipe, far = Pipe()
        self._process = start_process(_serve, far, name, setting, name=f"arm {name}")
        far.close()
        self.pid = cast(int, self._process.pid)
        """Its process, or what it was."""

    @classmethod
    def start(cls, name: str, setting: Setting, *, timeout_s: float = 900.0) -> Self:
        """Start it, and return when it has its models.

        Raises
        ------
        UsageError: there is no such arm; ModelError, no such model.
        BudgetError: the models need more memory than there is.
        UnavailableError: the arm cannot run here.
        BackendBroken: its process died.
        """
        arm = cls(name, setting, timeout_s=timeout_s)
        try:
            arm.wait()
        except BaseException:
            arm.close()
            raise
        return arm

    def wait(self) -> None:
        """Wait until it is ready; raises as `start` does."""
        if not self._is_ready:
            self._receive()
            self._is_ready = True

    def run(self, asks: Sequence[Ask], *, warm: str = "cold", sees_queue: bool = True) -> list[Answer]:
        """Answer a trace from a fresh begin, warmed up untimed.

        sees_queue: whether the arm is told the next request's model; only those that look ahead use it.

        Raises
        ------
        UsageError: a request makes no sense here, such as one for an unknown model.
        BackendBroken: the process died on the way, and there is no result.
        BackendTimeout: the trace took too long; the process was ended.
        """
        return cast(list[Answer], self._call("run", list(asks), warm, sees_queue))

    def checksums(self) -> Mapping[str, str]:
        """As `Arm.checksums`."""
        return cast(Mapping[str, str], self._call("checksums"))

    def close(self) -> None:
        """End the process; return when it is gone. A second call does nothing."""
        if self._pipe.closed:
            return
        self._cause = self._cause or "it was closed"
        self._pipe.close()
        self._process.join(_GRACE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _call(self, what: str, *arguments: Any) -> Any:
        self.wait()
        if self._cause is None:
            try:
                self._pipe.send((what, arguments))
            except OSError as exc:
                self._break(None, exc)
        try:
            return self._receive()
        except HarnessError:
            raise
        except BaseException:
            # What it still sends would be taken for the answer to the next call.
            self._process.kill()
            self._cause = "its call was broken off"
            raise

    def _receive(self) -> Any:
        if self._cause is not None:
            raise BackendBroken(f"{self.name}: {self._cause}; start another one")
        if not wait([self._pipe, self._process.sentinel], self._timeout_s):
            self._process.kill()
            self._cause = f"no answer within {self._timeout_s:g} s"
            raise BackendTimeout(f"{self.name}: {self._cause}; give it more with timeout_s")
        try:
            kind, value = self._pipe.recv()
        except (EOFError, OSError) as exc:
            self._break(None, exc)
        if kind == "broke":
            self._break(value, None)
        if kind == "error":
            raise _as_error(*value)
        return value

    def _break(self, cause: str | None, exc: BaseException | None) -> None:
        """The process is gone, or about to be: remember why, and say it."""
        self._process.join(_GRACE_S)
        self._cause = f"its process {self.pid} {cause or _end_of(self._process.exitcode)}"
        raise BackendBroken(f"{self.name}: {self._cause}; start another one") from exc


def _end_of(exit_code: int | None) -> str:
    if exit_code is None:
        return "closed its pipe"
    if exit_code >= 0:
        return f"exited with status {exit_code}"
    number = signal.Signals(-exit_code)
    hint = " (out of memory, or somebody killed it)" if number == signal.SIGKILL else ""
    return f"died of {number.name}{hint}"


def _as_error(kind: str, message: str) -> HarnessError:
    found = getattr(errors, kind, HarnessError)
    return cast(HarnessError, found(message)) if found is not errors.ProtocolError else HarnessError(message)


def _serve(pipe: Connection, name: str, setting: Setting) -> None:
    """The process's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(ENV)
    arm: Arm | None = None
    try:
        import torch

        torch.set_num_threads(setting.threads)
        arm = make_arm(name, setting)
        # What is imported and loaded by now stays: searching it for garbage would stop a request for a while.
        gc.freeze()
        pipe.send(("ready", None))
        while True:
            what, arguments = pipe.recv()
            pipe.send(_answer(arm, what, arguments))
    except (EOFError, ConnectionError):
        pass
    except Exception as exc:
        is_foreseen = isinstance(exc, HarnessError)
        with suppress(OSError):
            pipe.send(("error", _told(exc)) if is_foreseen else ("broke", f"broke: {_last_line(exc)}"))
    finally:
        if arm is not None:
            arm.close()


def _answer(arm: Arm, what: str, arguments: Sequence[Any]) -> tuple[str, Any]:
    try:
        if what == "checksums":
            return "ok", dict(arm.checksums())
        asks, warm, sees_queue = arguments
        arm.reset(warm=warm, future=[ask.model for ask in asks])
        return "ok", answer_all(arm, asks, sees_queue=sees_queue)
    except HarnessError as exc:
        return "error", _told(exc)


def _told(exc: BaseException) -> tuple[str, str]:
    return type(exc).__name__, str(exc)


def _last_line(exc: BaseException) -> str:
    place = traceback.extract_tb(exc.__traceback__)[-1]
    what = traceback.format_exception_only(exc)[-1].strip()
    return f"{what} ({os.path.basename(place.filename)}:{place.lineno})"


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # An arm that computes, or waits for a copy, would not look at its pipe for a while.
        time.sleep(_GRACE_S)
        os._exit(1)
