"""Where the Hugging Face hub's client keeps what it has fetched; no network is asked.

The place is the library's own word where it is installed: it reads its variables when it is imported, and
what loads models here goes by that. Elsewhere it is found as the library finds it.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder", "documented_folder", "snapshots"]


def cache_folder() -> Path:
    """The folder that holds `models--ORG--NAME`."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return documented_folder()
    return Path(constants.HF_HUB_CACHE)


def documented_folder() -> Path:
    """The same by the variables: HF_HUB_CACHE, its older name, HF_HOME, XDG_CACHE_HOME, the home folder.

    Source: huggingface/huggingface_hub, src/huggingface_hub/constants.py, its page "Environment variables".
    """
    cache = os.getenv("XDG_CACHE_HOME", os.path.join(os.path.expanduser("~"), ".cache"))
    home = _expanded(os.getenv("HF_HOME", os.path.join(cache, "huggingface")))
    older = os.getenv("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    return Path(_expanded(os.getenv("HF_HUB_CACHE", older)))


def snapshots(model: str) -> list[Path]:
    """Folders of a model in the cache, the newest revision first. `model`, ORG/NAME."""
    folder = cache_folder() / f"models--{model.replace('/', '--')}" / "snapshots"
    try:
        found = [path for path in folder.iterdir() if path.is_dir()]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:  # none there, not for us, or one that is taken away meanwhile
        return []


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))
