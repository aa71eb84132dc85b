"""Session servers in processes of their own, for tests of how they start and end."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from harness.sessions.address import Address

__all__ = ["COMMAND", "serving"]

COMMAND = (sys.executable, "-m", "harness.sessions", "serve", "--model", "counting")
ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], Address]]:
    """A server that is ready."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:1] == ["ready"], process.stderr and process.stderr.read()
        yield process, Address.parse(words[1])
    finally:
        process.kill()
        process.communicate()
