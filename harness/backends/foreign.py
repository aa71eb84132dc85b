"""Errors of the HTTP library and of the system, told once as ours.

The trap is whose fault an error is. A client that has no file descriptor or no local port left never reached
the server: that is `ClientExhausted`, and no word on the server. What a caller's own `on_chunk` raises may be
of the same classes as what the library raises, and is passed on as it is.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

import aiohttp

from harness.backends.answer import MalformedAnswer
from harness.errors import (
    BackendBroken,
    BackendError,
    BackendTimeout,
    BackendUnreachable,
    ClientExhausted,
)

__all__ = ["foreign_errors"]

_FOREIGN = (aiohttp.ClientError, MalformedAnswer, OSError)  # a TimeoutError is an OSError
_NO_CONNECTION = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
_EXHAUSTED: Mapping[int, str] = MappingProxyType({
    errno.EMFILE: "raise `ulimit -n`{limit}, or keep fewer requests going at once",
    errno.ENFILE: "raise the system's `fs.file-max`, or keep fewer requests going at once",
    errno.EADDRNOTAVAIL: "no local address or port is free: offer fewer requests per second, "
    "or widen `net.ipv4.ip_local_port_range`",
    errno.ENOBUFS: "the system has no buffer left: keep fewer requests going at once",
})  # fmt: skip
"""What this machine ran out of → the remedy."""


@contextmanager
def foreign_errors(name: str, url: str, limit_s: float, own: Sequence[BaseException] = ()) -> Iterator[None]:
    """Translate every error of the client library and of the answer's form, with its cause.

    Arguments: `name` and `url`, whom errors name; `limit_s`, the deadline that ran; `own`, what the caller's
    code raised inside the block, which is not translated.
    """
    try:
        yield
    except _FOREIGN as exc:
        if any(exc is each for each in own):
            raise
        raise _translated(exc, name, url, limit_s) from exc


def _translated(exc: BaseException, name: str, url: str, limit_s: float) -> BackendError:
    number = _system(exc)
    if number is not None and number in _EXHAUSTED:
        remedy = _EXHAUSTED[number].format(limit=_descriptors())
        return ClientExhausted(f"{name}: this client ran out, not {url} ({os.strerror(number)}); {remedy}")
    if isinstance(exc, _NO_CONNECTION):
        remedy = f"start the server or pass --backend {name}=URL"
        return BackendUnreachable(f"{name}: no connection to {url} ({_reason(exc)}); {remedy}")
    if isinstance(exc, TimeoutError):
        return BackendTimeout(f"{name}: no whole answer from {url} within {limit_s:g} s; raise timeout_s")
    if isinstance(exc, MalformedAnswer):
        return BackendBroken(f"{name}: {url} gave no valid answer: {exc}; see the server's log")
    return BackendBroken(f"{name}: {url} broke the connection off ({_reason(exc)}); see the server's log")


def _system(exc: BaseException) -> int | None:
    """The system's number of the error, where it has one."""
    found: int | None = getattr(getattr(exc, "os_error", None) or exc, "errno", None)
    return found


def _descriptors() -> str:
    """The limit of this process, in words."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return ""
    return f" (now {resource.getrlimit(resource.RLIMIT_NOFILE)[0]})"


def _reason(exc: BaseException) -> str:
    """What the system says of a failed connection, in its own words."""
    cause = getattr(exc, "os_error", None) or exc
    number = getattr(cause, "errno", None)
    if number is not None and number > 0:
        return os.strerror(number)
    return str(getattr(cause, "strerror", None) or exc or type(exc).__name__)
