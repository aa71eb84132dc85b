"""A folder that is gone when this process is, however it ends.

The watchdog knows it before it is there, and removes it after it has ended the groups that write into it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from harness.launchers.watchdog import the_watchdog

__all__ = ["scratch_folder"]


@contextlib.contextmanager
def scratch_folder(prefix: str, parent: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """Make a folder for the context's time.

    Arguments: `prefix` of its name, before this process's id; `parent`, the temporary folder if None.
    """
    name = f"{prefix}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    folder = Path(parent or tempfile.gettempdir()).resolve() / name
    the_watchdog().guard("file", folder)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        the_watchdog().release("file", folder)
