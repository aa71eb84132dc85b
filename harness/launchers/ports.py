"""Ports of this machine: a free one for a server that binds it seconds or minutes later.

A port that the kernel hands out is from the range that it goes on handing out, to every outgoing connection
too. One below that range is lost only to somebody who asks for it by number.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

__all__ = ["free_port", "is_free"]

_LOWEST = 20_000
_DRAWS = 50
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_random = random.SystemRandom()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody has at this address now, below those that the kernel hands out."""
    top = _kernels_lowest()
    for _ in range(_DRAWS if top > _LOWEST else 0):
        port = _random.randrange(_LOWEST, top)
        if is_free(host, port):
            return port
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen at this address now."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier one that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _kernels_lowest() -> int:
    try:
        return int(_RANGE.read_text().split()[0])
    except (OSError, ValueError):
        return 0
