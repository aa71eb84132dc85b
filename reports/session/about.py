"""What run.json says of a run beside its plan: when it began, from which commit, and what judged it."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["SCHEMA", "about_of", "commit_of"]

SCHEMA = 2
REPORTING = ("pytest", "numpy", "scipy", "pandas", "matplotlib")
"""Packages that judge and draw: they change no measurement, so that they are no part of the plan."""
GIT_LIMIT_S = 10


def about_of(root: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """The content of run.json as a run begins; `root` is the folder of the suite."""
    return {
        "schema": SCHEMA,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit_of(root),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in REPORTING}},
        "plan": dict(plan),
    }


def commit_of(root: Path) -> str | None:
    """The commit checked out, with "-dirty" where tracked files differ; `None` outside of a checkout."""
    head = _git(root, "rev-parse", "--verify", "HEAD")
    if not head:
        return None
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return head if changed == "" else f"{head}-dirty"


def _git(root: Path, *args: str) -> str | None:
    """What git prints; `None` where there is none, it is no checkout, or it does not answer in time."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, timeout=GIT_LIMIT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
