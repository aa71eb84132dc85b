"""How random weights are told from trained ones once they lie in files, or somebody else's engine has them.

Whoever serves a checkpoint is known by the name that it serves it under. So what is written says what it is
twice: by a key of its config.json, and by a folder whose name engines take for the model's. Other people's
are known by their names alone: the hub's are called "tiny-random-…".

Limits. A checkpoint that was renamed, is served under another name, and lies on a disk that is not this
machine's can tell only by its server (`harness.launchers.origin`), or by its user (`?weights=random`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from harness.models import hub
from harness.models.shapes import shape_of

__all__ = ["MARK", "WORD", "Told", "folder_of", "mark_of", "says_random", "told_of"]

MARK = "assay_weights"
"""The key of config.json; its value is `random:NAME`. Engines and the transformers library leave it alone."""
FOLDER = "random--"
"""Before the name of a folder."""
WORD = "(random weights)"
"""Behind a model's name that does not say so itself."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SAYS = re.compile(
    r"(?:^|[\s/\\(,])random(?::|--)|(?<![a-z0-9])tiny-random(?![a-z0-9])|\(random weights\)", re.IGNORECASE
)


class Told(NamedTuple):
    """That weights are random, and how that is known."""

    why: str
    shape: str | None = None
    """`random:NAME`, where it is told whose shape they have."""


def folder_of(name: str) -> str:
    """The name of a folder for a shape with random weights: "random--ORG--NAME".

    Raises
    ------
    ModelError: no such shape is known.
    """
    return f"{FOLDER}{shape_of(name).name.replace('/', '--')}"


def says_random(name: str) -> bool:
    """Whether a model's name, path or label says by itself that its weights are random."""
    return _SAYS.search(name) is not None


def mark_of(folder: Path) -> str | None:
    """What a checkpoint's config.json says of random weights; None where it says nothing or is not read."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return None
    found = config.get(MARK) if isinstance(config, dict) else None
    return None if found is None else str(found)


def told_of(model: str, *, is_path: bool = True) -> Told | None:
    """Whether a model has random weights, by its name and by its files as far as they are on this machine.

    Arguments: `model`, a name, a folder or file, or ORG/NAME of the hub's cache; `is_path`, whether it may be
    a folder or file of this machine at all.
    """
    if says_random(model):
        return Told(f"its name {model} says so")
    folders = _places(model) if is_path else []
    for folder in (*folders, *(hub.snapshots(model) if _HUB_ID.fullmatch(model) else ())):
        if says_random(folder.name):  # a link to one
            return Told(f"it is {folder}")
        if (mark := mark_of(folder)) is not None:
            return Told(f"{folder}/config.json says so", mark)
    return None


def _places(model: str) -> list[Path]:
    """What is at a path, what that leads to, and of files their folders; nothing where nobody can look.

    The name may be a server's word, and so be anything. A label has blanks ("llama.cpp nano f16").
    """
    if not model or (" " in model and not model.startswith(("/", "~"))):
        return []
    try:
        path = Path(model).expanduser()
        found = [path, path.resolve()] if path.exists() else []
        return [*found, *(one.parent for one in found if one.is_file())]
    except (OSError, ValueError, RuntimeError):
        return []
