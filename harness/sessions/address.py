"""Where a session server listens: a unix socket or a TCP port, and the sockets for it.

A unix socket is a file that outlives a killed server. It is replaced only when nobody answers there, and
while the folder is locked, so that two servers that start at once cannot take it from each other.

Traps: who may connect to a TCP port of this machine is not asked: loopback is the default. The path of a unix
socket has at most 107 bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.errors import BackendUnreachable, LaunchError, UsageError

__all__ = ["Address", "Listener", "dial", "listen", "socket_folder", "widen"]

MAX_PATH_BYTES = 107
_MAX_FOLDER_BYTES = 64
"""Leaves room for a folder of its own and a name."""
_BACKLOG = 512
_CLIENT_UNSENT_BYTES = 2**22
"""That the kernel holds for the reader: a session's keys and values at once, not a twentieth of them."""
_SERVER_UNSENT_BYTES = 2**19
"""The same for each client, who may not be reading at all."""


class Address(NamedTuple):
    """A path, or a host and a port."""

    path: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    """0 lets the kernel choose, when listening."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """`unix:PATH`, `HOST:PORT` or `[HOST]:PORT`.

        Raises
        ------
        UsageError: it is none of them.
        """
        if text.startswith("unix:"):
            return cls.of_path(text.removeprefix("unix:"))
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise UsageError(f"address {text!r}: give unix:PATH or HOST:PORT")
        return cls(host=host.strip("[]"), port=int(port))

    @classmethod
    def of_path(cls, path: str) -> Address:
        """A unix socket. Raises UsageError when the path is empty or too long."""
        if not path or len(os.fsencode(path)) > MAX_PATH_BYTES:
            what = f"{len(os.fsencode(path))} bytes"
            raise UsageError(f"socket path {path!r} has {what}; give 1 to {MAX_PATH_BYTES}")
        return cls(path=path)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.path is not None or self.host in ("127.0.0.1", "::1", "localhost")

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def socket_folder() -> Path:
    """Where sockets can be: the folder for temporary files, or /tmp where its path is too long for one."""
    folder = tempfile.gettempdir()
    return Path(folder if len(os.fsencode(folder)) <= _MAX_FOLDER_BYTES else "/tmp")


class Listener:
    """A listening socket; `close` takes its file along."""

    def __init__(self, sock: socket.socket, address: Address) -> None:
        self.sock = sock
        self.address = address
        self._inode = None if address.path is None else os.stat(address.path).st_ino

    def close(self) -> None:
        """Listen no more. A file that another server has put there since is left alone."""
        self.sock.close()
        path = self.address.path
        if path is not None:
            with contextlib.suppress(OSError), _locked_folder(path):
                if os.stat(path).st_ino == self._inode:
                    os.unlink(path)


def listen(address: Address) -> Listener:
    """Listen there, without blocking.

    Raises
    ------
    LaunchError: somebody listens there already, or it cannot be bound.
    UsageError: what is there is not a socket.
    """
    try:
        sock = _listen_path(address.path) if address.path is not None else _listen_port(address)
    except OSError as exc:
        raise LaunchError(f"{address}: {exc.strerror or exc}; give another address") from exc
    sock.setblocking(False)
    if address.path is None:
        address = address._replace(port=int(sock.getsockname()[1]))
    return Listener(sock, address)


def dial(address: Address, *, timeout_s: float) -> socket.socket:
    """Connect.

    Raises
    ------
    BackendUnreachable: nobody listens there, or does not answer within the time.
    """
    try:
        if address.path is None:
            sock = socket.create_connection((address.host, address.port), timeout=timeout_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        return _dial_path(address.path, timeout_s)
    except OSError as exc:
        text = f"no session server at {address} ({exc.strerror or exc}); start it or give another address"
        raise BackendUnreachable(text) from exc


def widen(sock: socket.socket, num_bytes: int = _SERVER_UNSENT_BYTES) -> None:
    """Have the kernel take more of a large frame at once on a unix socket; TCP finds its own size.

    By default it takes 208 KiB, and then each of both ends wakes the other for every piece.
    """
    if sock.family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, num_bytes)


def _dial_path(path: str, timeout_s: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout_s)
        widen(sock, _CLIENT_UNSENT_BYTES)
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def _listen_port(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # Sets SO_REUSEADDR: connections of an earlier server that linger do not count.
    return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)


def _listen_path(path: str) -> socket.socket:
    with _locked_folder(path):
        _remove_dead(path)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.bind(path)
            # Before it listens: nobody connects in between.
            os.chmod(path, 0o600)
            sock.listen(_BACKLOG)
        except OSError:
            sock.close()
            raise
    return sock


def _remove_dead(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} is there and is not a socket; delete it or give another path")
    try:
        _dial_path(path, 1.0).close()
    except ConnectionRefusedError:
        os.unlink(path)
    except OSError as exc:
        raise LaunchError(f"unix:{path}: a server that does not answer ({exc}); stop it first") from exc
    else:
        raise LaunchError(f"unix:{path}: a server listens there; stop it or give another path")


@contextlib.contextmanager
def _locked_folder(path: str) -> Iterator[None]:
    folder = os.open(Path(path).resolve().parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
