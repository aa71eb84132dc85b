"""Memory of the host: there in fact and not just promised, in large pages where Linux gives them.

A page that was never touched costs a fault on the first write, which makes a copy into fresh memory three
times as slow as one into memory that was used before. `seal` takes the right to write away for good, from
every thread of the process and every library in it: who writes all the same is killed on the spot.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
from pathlib import Path

from harness.errors import BudgetError, UsageError

__all__ = ["HostMemory", "available_bytes", "out_of_memory"]

_LARGE_PAGE_BYTES = 2 << 20
_POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE of Linux 5.14, which the standard library does not name."""
_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
_OUT_OF_MEMORY = {errno.ENOMEM, errno.EAGAIN}


class HostMemory:
    """`num_bytes` of zeros in a mapping of their own, on a page boundary."""

    def __init__(self, num_bytes: int, *, owner: str) -> None:
        """Map the memory and touch every page.

        owner: who is named when there is none.

        Raises
        ------
        BudgetError: the host has not got it.
        """
        if num_bytes <= 0:
            raise UsageError(f"{owner}: {num_bytes} bytes of memory asked for; ask for at least one")
        self.num_bytes = num_bytes
        free_bytes = available_bytes()
        if free_bytes is not None and num_bytes > free_bytes:
            # Linux would promise it all the same, and kill somebody when the pages are touched.
            raise out_of_memory(owner, num_bytes, MemoryError(f"{free_bytes} are free"))
        slack_bytes = _LARGE_PAGE_BYTES if num_bytes >= _LARGE_PAGE_BYTES else 0
        try:
            # Private: Python's default is shared memory, which has large pages only where an operator
            # allows them. Only whole, aligned pages can be large ones.
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            self._area: mmap.mmap | None = mmap.mmap(-1, num_bytes + slack_bytes, flags=flags)
            self._begin = -_address(self._area) % _LARGE_PAGE_BYTES if slack_bytes else 0
            self._touch()
        except OSError as exc:
            if exc.errno not in _OUT_OF_MEMORY:
                raise
            raise out_of_memory(owner, num_bytes, exc) from exc
        except (OverflowError, ValueError, MemoryError) as exc:  # more than an address can say
            raise out_of_memory(owner, num_bytes, exc) from exc
        self.address = _address(self._area) + self._begin

    @property
    def view(self) -> memoryview:
        """The bytes.

        Raises
        ------
        UsageError: the memory has been given back.
        """
        if self._area is None:
            raise UsageError("memory: it has been given back; look at it before it is closed")
        return memoryview(self._area)[self._begin : self._begin + self.num_bytes]

    def seal(self) -> None:
        """Take the right to write away, for good."""
        libc = ctypes.CDLL(None, use_errno=True)
        size = -(-self.num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        if libc.mprotect(ctypes.c_void_p(self.address), ctypes.c_size_t(size), mmap.PROT_READ):
            number = ctypes.get_errno()
            raise OSError(number, f"mprotect: {os.strerror(number)}")

    def close(self) -> None:
        """Give the memory back, or leave it to whoever still looks at it; a second call does nothing."""
        area, self._area = self._area, None
        if area is not None:
            with contextlib.suppress(BufferError):
                area.close()

    def _touch(self) -> None:
        area = self._area
        assert area is not None
        with contextlib.suppress(OSError):  # a kernel without them
            if self.num_bytes >= _LARGE_PAGE_BYTES:
                area.madvise(mmap.MADV_HUGEPAGE)
        size = -(-self.num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            area.madvise(_POPULATE_WRITE, self._begin, size)
        except OSError as exc:
            if exc.errno in _OUT_OF_MEMORY:
                raise
            for at in range(self._begin, self._begin + self.num_bytes, mmap.PAGESIZE):  # an older kernel
                area[at] = 0


def available_bytes() -> int | None:
    """Memory that could be had now without swapping, the control group's limit minded; None if unknown."""
    free = _number(_MEMINFO, "MemAvailable:")
    limit, held = _number(_GROUP / "memory.max"), _number(_GROUP / "memory.stat", "anon")
    rooms = [free * 1024 if free is not None else None]
    rooms.append(limit - held if limit is not None and held is not None else None)
    return min((max(0, room) for room in rooms if room is not None), default=None)


def out_of_memory(owner: str, num_bytes: int, exc: Exception) -> BudgetError:
    """What to raise when the host has not got so many bytes."""
    number = exc.errno if isinstance(exc, OSError) else None
    why = os.strerror(number) if number else str(exc) or type(exc).__name__
    return BudgetError(
        f"{owner}: no {num_bytes} bytes of host memory ({why}); stop what else runs here, or ask for less"
    )


def _number(path: Path, key: str = "") -> int | None:
    """The number behind a key at the begin of a line, or None."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in path.read_text().splitlines():
            if line.split()[0] == key or not key:
                return int(line.split()[1 if key else 0])
    return None


def _address(area: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(area))
