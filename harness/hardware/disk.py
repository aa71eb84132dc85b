"""How fast a folder's disk writes and reads: the bound of a model that is loaded from a file.

What is read was written just before, so that the page cache holds it: it is told to let go of it first. The
writing ends when the data is on the device (`fsync`).

Traps: a folder in memory (tmpfs) has no disk, and keeps what it is told to let go of. A network's or a
cloud's disk may hold back what is beyond its quota, minutes later. One pass, since a disk's second pass
measures its caches; so it varies.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from harness.errors import UnavailableError, UsageError

__all__ = ["Disk", "measure_disk"]

_BLOCK = 4 * 2**20
_IN_MEMORY = ("tmpfs", "ramfs")


class Disk(NamedTuple):
    """One pass in a folder."""

    write_bytes_per_s: float
    read_bytes_per_s: float
    num_bytes: int
    system: str | None
    """The file system, as the kernel calls it; None where it does not say."""
    is_memory: bool
    """Whether the folder is in memory, and the numbers are memory's."""


def measure_disk(folder: Path, num_bytes: int = 256 * 2**20) -> Disk:
    """Write a file in a folder, and read it; it is gone afterwards.

    Raises
    ------
    UsageError: less than a block of 4 MiB.
    UnavailableError: nothing can be written there.
    """
    if num_bytes < _BLOCK:
        raise UsageError(f"disk: {num_bytes} bytes; give {_BLOCK} or more")
    blocks = num_bytes // _BLOCK
    block = os.urandom(_BLOCK)  # a disk may compress, and zeros to nothing
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            write_s = _written(file.fileno(), block, blocks)
            read_s = _read(file.fileno(), bytearray(_BLOCK), blocks)
    except OSError as exc:
        why = exc.strerror or exc
        raise UnavailableError(f"disk: {folder}: {why}; name another folder, or free space") from exc
    size, system = blocks * _BLOCK, _system_of(folder)
    return Disk(size / write_s, size / read_s, size, system, system in _IN_MEMORY)


def _written(fd: int, block: bytes, blocks: int) -> float:
    began_s = perf_counter()
    for _ in range(blocks):
        os.write(fd, block)
    os.fsync(fd)
    return perf_counter() - began_s


def _read(fd: int, into: bytearray, blocks: int) -> float:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.lseek(fd, 0, os.SEEK_SET)
    began_s = perf_counter()
    for _ in range(blocks):
        os.readv(fd, [into])
    return perf_counter() - began_s


def _system_of(folder: Path) -> str | None:
    """Of the longest mount point that the folder is below."""
    try:
        rows = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return None
    here = folder.resolve()
    mounts = [(row[1], row[2]) for row in rows if len(row) > 2 and here.is_relative_to(row[1])]
    return max(mounts, key=lambda one: len(one[0]))[1] if mounts else None
