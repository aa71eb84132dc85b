"""The hub's cache is looked for where the hub's own client has it."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.models import hub

VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")
CASES: list[dict[str, str]] = [
    {},
    {"XDG_CACHE_HOME": "/xdg"},
    {"HF_HOME": "/home-of-hf", "XDG_CACHE_HOME": "/xdg"},
    {"HF_HOME": "~/hf"},
    {"HF_HOME": "$SCRATCH/hf", "SCRATCH": "/scratch"},
    {"HUGGINGFACE_HUB_CACHE": "/older", "HF_HOME": "/home-of-hf"},
    {"HF_HUB_CACHE": "/newer", "HUGGINGFACE_HUB_CACHE": "/older", "HF_HOME": "/home-of-hf"},
    {"HF_HUB_CACHE": "$HOME/hub", "XDG_CACHE_HOME": "/xdg"},
    {"HF_HUB_CACHE": ""},
    {"HF_HUB_CACHE": "relative"},
]
ASK = (
    "import json, sys, harness.models.hub as hub; print(json.dumps([str(hub.{}()), 'torch' in sys.modules]))"
)


def asked(function: str, environ: dict[str, str]) -> tuple[str, bool]:
    """In a process of its own, since the library reads its variables once."""
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    told = subprocess.run(
        [sys.executable, "-c", ASK.format(function)],
        env={**clean, **environ}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    place, has_torch = json.loads(told.stdout)
    return place, has_torch


@pytest.mark.parametrize(
    "environ", CASES, ids=lambda case: " ".join("=".join(pair) for pair in case.items()) or "none"
)
def test_without_the_library_the_place_is_the_same(environ: dict[str, str]) -> None:
    """Whatever is set: the documented order is the library's, and neither asks for torch."""
    pytest.importorskip("huggingface_hub")
    library, documented = (asked(function, environ) for function in ("cache_folder", "documented_folder"))
    assert library == documented
    assert not library[1]


def test_the_librarys_own_place_counts_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What loads models here goes by it; where it is not, by the variables."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/by/the/library")
    monkeypatch.setenv("HF_HUB_CACHE", "/by/the/variable")
    assert hub.cache_folder() == Path("/by/the/library")
    whole = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return whole(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    assert hub.cache_folder() == Path("/by/the/variable")


def test_revisions_come_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is not there has none, nor has a cache that is a file."""
    monkeypatch.setattr(hub, "cache_folder", lambda: tmp_path)
    for age, name in enumerate(("new", "old")):
        folder = tmp_path / "models--org--name" / "snapshots" / name
        folder.mkdir(parents=True)
        os.utime(folder, (1e9 - age, 1e9 - age))
    (folder.parent / "a-file").touch()
    assert [path.name for path in hub.snapshots("org/name")] == ["new", "old"]
    assert hub.snapshots("org/other") == []
    monkeypatch.setattr(hub, "cache_folder", lambda: folder.parent / "a-file")
    assert hub.snapshots("org/name") == []
