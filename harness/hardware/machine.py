"""The machine itself: its processor, its memory, and how much of both this process may use.

Traps: a container sees all of the machine's memory and processors in /proc, whatever it may use: the
affinity of this process and its control group's limit say that.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import NamedTuple

__all__ = ["Machine", "this_machine"]

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_UNLIMITED = 1 << 60
"""What version 1 of control groups says where there is no limit, and more."""


class Machine(NamedTuple):
    """What is not told is None."""

    processor: str
    cores: int | None
    """Logical ones, of the machine."""
    usable_cores: int
    """By this process."""
    memory_bytes: int | None
    available_bytes: int | None
    """Without swapping, now."""
    limit_bytes: int | None
    """Of this process's control group."""
    system: str
    python: str


def this_machine(proc: Path = Path("/proc")) -> Machine:
    """What /proc and the system's own calls say."""
    memory = _memory(proc / "meminfo")
    return Machine(
        processor=_processor(proc / "cpuinfo"),
        cores=os.cpu_count(),
        usable_cores=_usable_cores(),
        memory_bytes=memory.get("MemTotal"),
        available_bytes=memory.get("MemAvailable"),
        limit_bytes=_limit(_LIMITS),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
    )


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor(cpuinfo: Path) -> str:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown processor")


def _memory(meminfo: Path) -> dict[str, int]:
    """Name → bytes; the file counts in KiB."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return {}
    parts = (line.split() for line in lines)
    return {part[0].rstrip(":"): int(part[1]) * 1024 for part in parts if len(part) == 3}


def _limit(paths: tuple[str, ...]) -> int | None:
    for path in paths:
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdecimal() and int(text) < _UNLIMITED else None
    return None
