"""File descriptors: every request going on holds one, and systems give a process few unless it asks for more.

The soft limit is often 1,024 where the hard one is a million, and to raise the one to the other needs no
right. Server processes that are started from here inherit it.
"""

from __future__ import annotations

import contextlib

__all__ = ["raise_descriptor_limit"]


def raise_descriptor_limit() -> None:
    """Allow this process as many descriptors as it may have; where that is refused, leave it as it was."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS says "no limit" and takes none.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
