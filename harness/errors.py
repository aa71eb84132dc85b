"""Every error that the harness raises on purpose.

    HarnessError
    ├── BackendError            the engine, or the way to it, broke
    │   ├── BackendUnreachable  no connection could be made
    │   ├── BackendTimeout      no answer within the deadline
    │   ├── BackendRejected     the server refused the request (4xx)
    │   ├── BackendBroken       the answer broke off, or was no valid answer (5xx, bad stream)
    │   └── ClientExhausted     this process ran out of descriptors or ports: no word on the server
    ├── LaunchError             a server did not come up
    │   └── OversizeError       a model took more memory than declared, and there is no room for it
    ├── UnavailableError        it cannot run here; the message is the line that would change that
    ├── UsageError              we were asked for something that makes no sense
    │   ├── WorkloadError       a workload file is malformed
    │   └── ModelError          a model is unknown, its weights are missing or corrupt
    ├── LoadError               load could not be offered as asked, or not be recorded
    ├── ProtocolError           bytes on a session's connection are no valid frame
    ├── GradingError            the grader itself failed (a wrong answer is a grade, not an error)
    ├── ArenaError              a copy into a device's arena failed, or its lane broke
    └── BudgetError             the device budget has no room

A message names the culprit, the value and the remedy:
`large: no server at http://gpu1:30000 (connection refused); start it or pass --backend large=URL`.
"""

from __future__ import annotations

__all__ = [
    "ArenaError",
    "BackendBroken",
    "BackendError",
    "BackendRejected",
    "BackendTimeout",
    "BackendUnreachable",
    "BudgetError",
    "ClientExhausted",
    "GradingError",
    "HarnessError",
    "LaunchError",
    "LoadError",
    "ModelError",
    "OversizeError",
    "ProtocolError",
    "UnavailableError",
    "UsageError",
    "WorkloadError",
]


class HarnessError(Exception):
    """Something failed in a way the harness foresaw."""


class BackendError(HarnessError):
    """The engine, or the way to it, broke."""


class BackendUnreachable(BackendError):
    """No connection to the server could be made."""


class BackendTimeout(BackendError):
    """The server gave no answer within the deadline."""


class BackendRejected(BackendError):
    """The server refused the request as we sent it."""


class BackendBroken(BackendError):
    """The answer broke off, or was no valid answer."""


class ClientExhausted(BackendError):
    """This process had no file descriptor, port or buffer left; the server was not asked."""


class LaunchError(HarnessError):
    """A server did not come up."""


class OversizeError(LaunchError):
    """A model took more memory than was declared, and there was no room for it; it was dropped again."""


class UnavailableError(HarnessError):
    """What was asked for cannot run here; the message is the line that would make it available."""


class UsageError(HarnessError):
    """The harness was asked for something that makes no sense."""


class WorkloadError(UsageError):
    """A workload file is malformed."""


class ModelError(UsageError):
    """A model is unknown, or its weights are missing or corrupt."""


class LoadError(HarnessError):
    """Load could not be offered as asked, or what came of it not be recorded."""


class ProtocolError(HarnessError):
    """Bytes on a session's connection are no valid frame; `code` is the protocol's number for why."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class GradingError(HarnessError):
    """The grader itself failed; a wrong answer is a grade, not an error."""


class ArenaError(HarnessError):
    """A copy into a device's arena failed, or the lane that copies is broken."""


class BudgetError(HarnessError):
    """The device budget has no room for what was asked."""
