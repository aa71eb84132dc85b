"""The recipes of `recipes.toml`: their schema, and the file itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from harness.errors import UsageError
from harness.tables import read_tables

__all__ = ["ContainerPart", "DevicePart", "Recipe", "engines", "load", "recipe"]

RECIPES_FILE = Path(__file__).with_name("recipes.toml")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_PLACEHOLDERS = ("weights", "model", "host", "port")
_SHAPES = ("checkpoint", "gguf", "library")
_GPU = ("required", "when present", "never")


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePart:
    """What an engine needs beyond the rest on one kind of device."""

    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    install: str = ""
    """The line that installs the engine for this device, where it differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPart:
    """An engine's official image, and what a container of it needs."""

    image: str
    port: int
    """Where the server listens inside."""
    gpu: str
    """`required`, `when present` or `never`."""
    entrypoint: tuple[str, ...] = ()
    """Before the arguments, in place of the image's own; empty keeps that."""
    args: tuple[str, ...] = ()
    """In place of the engine's arguments; empty keeps those."""
    shm_size_bytes: int | None = None
    """Memory that the engine's processes share; `None` keeps what containers get (64 MB)."""
    cache: str = ""
    """The folder of this machine that holds fetched models; mounted where there is one."""
    cache_target: str = ""
    """Where that is inside."""
    pass_env: tuple[str, ...] = ()
    """Variables of this process that it is given where they are set: keys and mirrors of the hub."""
    fetch: str = ""
    """The line that fetches a model which the running server does not have."""

    def __post_init__(self) -> None:
        if self.gpu not in _GPU:
            raise ValueError(f"gpu is {self.gpu!r}; use one of {', '.join(_GPU)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one engine is started."""

    name: str
    source: str
    args: tuple[str, ...]
    weights: str
    """What it loads: a `checkpoint` folder, a `gguf` file, or a name in its own `library`."""
    ready_path: str
    deadline_s: float
    install: str
    program: str = ""
    """Looked for on PATH first."""
    module: str = ""
    """Else run by an interpreter that has all of `packages`."""
    packages: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    local_env: Mapping[str, str] = field(default_factory=dict)
    """Added where the weights are on this machine."""
    label: str = ""
    """The engine's own word for itself, where that is not `name`."""
    served_as: str = "{model}"
    """The name by which the server knows its model."""
    fetch: str = ""
    """The line that fetches a model which the running server does not have."""
    cpu: DevicePart = field(default_factory=DevicePart)
    gpu: DevicePart = field(default_factory=DevicePart)
    container: ContainerPart | None = None

    def __post_init__(self) -> None:
        if self.weights not in _SHAPES:
            raise ValueError(f"weights is {self.weights!r}; use one of {', '.join(_SHAPES)}")
        if not (self.program or self.module):
            raise ValueError("neither program nor module is given; give one")
        texts = (*self.args, *self.cpu.args, *self.gpu.args, *self.env.values(), *self.local_env.values())
        for text in texts:
            for found in _PLACEHOLDER.findall(text):
                if found not in _PLACEHOLDERS:
                    known = ", ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
                    raise ValueError(f"unknown placeholder {{{found}}} in {text!r}; use {known}")


def load(path: Path = RECIPES_FILE) -> dict[str, Recipe]:
    """Read a file of recipes, by engine.

    Raises
    ------
    UsageError: a key is unknown or missing, or a value makes no sense; it names file, engine and key.
    """
    return read_tables(path, "engine", Recipe)


@cache
def _recipes() -> dict[str, Recipe]:
    return load()


def engines() -> tuple[str, ...]:
    """The engines that can be started, in the file's order."""
    return tuple(_recipes())


def recipe(engine: str) -> Recipe:
    """An engine's recipe.

    Raises
    ------
    UsageError: there is none; the message lists those there are.
    """
    try:
        return _recipes()[engine]
    except KeyError:
        raise UsageError(f"unknown engine {engine!r}; use one of {', '.join(engines())}") from None
