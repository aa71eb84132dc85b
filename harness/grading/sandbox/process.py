"""The suite's end of the sandbox: start it, hand it candidates, read what they reported."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import GradingError

__all__ = ["Outcome", "Sandbox", "SandboxDied"]

_ROOT = Path(__file__).resolve().parents[3]
_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv[1]); from harness.grading.sandbox.zygote import main; main()"
)
_HEADER = struct.Struct(">I")
_START_S = 60.0
_GRACE_S = 30.0
_CLOSE_S = 10.0


class SandboxDied(Exception):
    """The sandbox ended or fell silent while it ran a candidate."""


class Outcome(NamedTuple):
    """What a candidate reported."""

    notes: dict[int, dict[int, Any]]
    """Per test, what was observed at each place."""
    done: set[int]
    """The tests that ran to their end."""
    reasons: dict[int, str]
    """Why a test did not."""
    ended: str
    """How the process ended, or why it was cut short."""


class Sandbox:
    """The supervisor process and its pipe."""

    def __init__(self, *, isolate: bool) -> None:
        """Start it; raise `GradingError` when it does not come up."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-S", "-P", "-B", "-c", _BOOTSTRAP, str(_ROOT), str(int(isolate))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        except OSError as exc:
            self._log.close()
            raise GradingError(f"sandbox: cannot start {sys.executable} ({exc.strerror})") from exc
        try:
            self.missing: tuple[str, ...] = tuple(self._receive(_START_S)["missing"])
        except (SandboxDied, KeyError) as exc:
            tail = self._tail()
            self.close()
            raise GradingError(f"sandbox: did not start: {tail or exc}") from exc
        self.kind = "weak" if self.missing else "strong"

    def run(self, source: str, tests: list[str], limits: dict[str, float]) -> Outcome:
        """Run one candidate; raise `SandboxDied` or, when it cannot be run, `GradingError`."""
        nonce = secrets.token_hex(16)
        self._send({**limits, "nonce": nonce, "source": source, "tests": tests})
        answer = self._receive(limits["wall_s"] + _GRACE_S)
        if "broken" in answer:
            raise GradingError(f"sandbox: cannot run a candidate: {answer['broken']}")
        return _outcome(answer["report"], nonce, answer["ended"])

    def close(self) -> None:
        """Hang up and wait for the supervisor to have killed everything."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _tail(self) -> str:
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace").strip()[-500:]

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin
        body = json.dumps(message).encode()
        try:
            self._process.stdin.write(_HEADER.pack(len(body)) + body)
            self._process.stdin.flush()
        except OSError as exc:
            raise SandboxDied("its pipe is closed") from exc

    def _receive(self, timeout_s: float) -> Any:
        deadline = time.monotonic() + timeout_s
        size = _HEADER.unpack(self._read(_HEADER.size, deadline))[0]
        return json.loads(self._read(size, deadline))

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout
        fd, data = self._process.stdout.fileno(), bytearray()
        while len(data) < size:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([fd], [], [], left)[0]:
                raise SandboxDied("no answer")
            chunk = os.read(fd, size - len(data))
            if not chunk:
                raise SandboxDied("it ended")
            data += chunk
        return bytes(data)


def _outcome(report: str, nonce: str, ended: str) -> Outcome:
    """Sort the messages that carry the nonce; a test that was reported on twice is not done."""
    outcome = Outcome({}, set(), {}, ended)
    is_ready = False
    for line in report.split("\n"):
        if not line.startswith(nonce + " "):
            continue
        try:
            what, *rest = json.loads(line[len(nonce) + 1 :])
            if what == "ready":
                is_ready = True
            elif what == "note":
                notes = outcome.notes.setdefault(rest[0], {})
                if rest[1] in notes:
                    outcome.reasons[rest[0]] = "an assertion was reported twice"
                notes[rest[1]] = rest[2]
            elif what == "done":
                outcome.done.add(rest[0])
            elif what == "fail":
                outcome.reasons[rest[0]] = str(rest[1])
        except (ValueError, TypeError, LookupError, RecursionError):
            continue
    if not is_ready:
        raise GradingError(f"sandbox: the candidate's process did not come up ({ended}); raise the limits")
    return outcome
