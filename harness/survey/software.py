"""Which engines and container engines can be started here, and which servers run already.

Installed is what would start: a package of this environment, an interpreter that ASSAY_<ENGINE>_PYTHON
names, or a program on PATH. Nothing is started and nothing imported.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from harness.launchers.detect import Found, detect

__all__ = ["Engine", "engines_here", "servers_here"]

_PACKAGES = {
    "llama.cpp": ("xllamacpp", "pip install xllamacpp"),
    "torch": ("torch", "pip install 'assay[torch]'"),
    "transformers": ("transformers", "pip install 'assay[torch]'"),
    "vllm": ("vllm", "pip install vllm, in an environment of its own that ASSAY_VLLM_PYTHON names"),
    "sglang": ("sglang", "pip install sglang, in an environment of its own that ASSAY_SGLANG_PYTHON names"),
    "ray": ("ray", "pip install 'assay[ray]'"),
}
_PROGRAMS = {
    "ollama": "install Ollama from ollama.com, then: ollama serve",
    "docker": "install Docker and NVIDIA's container toolkit",
    "podman": "apt install podman",
}


class Engine(NamedTuple):
    """A program that models are served by, or that containers run in."""

    name: str
    found: str | None
    """Its version, or where it is; None where it is not here."""
    remedy: str
    """The line that would change that."""


def engines_here(environ: Mapping[str, str] = os.environ) -> list[Engine]:
    """Every engine that this project can drive."""
    packages = [
        Engine(name, _interpreter(name, environ) or _version(package), remedy)
        for name, (package, remedy) in _PACKAGES.items()
    ]
    programs = [Engine(name, shutil.which(name), remedy) for name, remedy in _PROGRAMS.items()]
    return packages + programs


def servers_here() -> list[Found]:
    """Servers that answer at the ports where engines listen, within a second."""
    return detect()


def _interpreter(name: str, environ: Mapping[str, str]) -> str | None:
    path = environ.get(f"ASSAY_{name.upper()}_PYTHON", "")
    return path if path and Path(path).is_file() else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
