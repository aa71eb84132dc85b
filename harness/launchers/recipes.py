"""How each engine is started, from `recipes.toml`: as a program of this machine.

    process_launcher("vllm", name="large", model="nano", python="/envs/vllm/bin/python")

A model is a pocket model's name ("nano", for GGUF engines also "nano@q8_0"), a folder or file, or a name that
the engine fetches itself. Engines that live in a virtual environment of their own are reached by that
environment's interpreter, given as `python` or in the variable ASSAY_<ENGINE>_PYTHON.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.errors import ModelError, UsageError
from harness.launchers.process import ProcessLauncher
from harness.launchers.tables import read_tables

__all__ = [
    "ContainerPart",
    "DevicePart",
    "Recipe",
    "Weights",
    "device_part",
    "engines",
    "load",
    "process_launcher",
    "recipe",
    "weights_of",
]

RECIPES_FILE = Path(__file__).with_name("recipes.toml")
_DEFAULT_QUANT = "f16"
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_PLACEHOLDERS = ("weights", "model", "host", "port")
_SHAPES = ("checkpoint", "gguf", "library")
_ROOT = Path(__file__).parents[2]


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


class Weights(NamedTuple):
    """What an engine is given to load."""

    text: str
    """A path of this machine, or a name that the engine fetches."""
    model: str
    """The short name to serve it under."""
    is_local: bool


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


def process_launcher(
    engine: str,
    *,
    name: str,
    model: str,
    port: int | None = None,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    deadline_s: float | None = None,
    python: str | None = None,
    device: str | None = None,
) -> ProcessLauncher:
    """The launcher of an engine as a program of this machine.

    Parameters
    ----------
    name: the role's name in this run.
    model: a pocket model, a folder or file, or a name that the engine fetches itself.
    port: where it listens; `None` chooses one.
    args: added to the recipe's, after them, so that they win.
    env: variables added to the recipe's; they win too.
    deadline_s: seconds until it must answer; `None` takes the recipe's.
    python: the interpreter of the engine's virtual environment; `None` takes ASSAY_<ENGINE>_PYTHON, or this.
    device: `cpu` or `gpu`; `None` looks whether there is an NVIDIA GPU.

    Raises
    ------
    UsageError: the engine or device is unknown.
    ModelError: the pocket model's weights are missing or corrupt, or the engine cannot load such a model.
    """
    known = recipe(engine)
    part = device_part(known, device)
    weights = weights_of(known, model, name)
    command, packages, variables = _program(known, python)
    variables |= {**known.env, **part.env, **(known.local_env if weights.is_local else {})}
    return ProcessLauncher(
        name=name,
        command=(*command, *(_fill(a, weights) for a in (*known.args, *part.args)), *args),
        packages=packages,
        model=_fill(known.served_as, weights),
        env={key: _fill(value, weights) for key, value in variables.items()} | dict(env or {}),
        port=port,
        ready_path=known.ready_path,
        deadline_s=known.deadline_s if deadline_s is None else deadline_s,
        install=_install(known, part, bool(packages)),
        fetch=_fill(known.fetch, weights),
        engine=known.label or known.name,
    )


def device_part(known: Recipe, device: str | None) -> DevicePart:
    """The recipe's part for a device; without one named, for what this machine has.

    Raises
    ------
    UsageError: the device is neither `cpu` nor `gpu`.
    """
    if device not in (None, "cpu", "gpu"):
        raise UsageError(f"{known.name}: device is {device!r}; use cpu or gpu")
    return known.gpu if device == "gpu" or (device is None and has_gpu()) else known.cpu


def has_gpu() -> bool:
    """Whether this process may use an NVIDIA GPU."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    return any(Path("/proc/driver/nvidia/gpus").glob("*"))


def weights_of(known: Recipe, model: str, name: str) -> Weights:
    """What the engine is given to load for a model's name.

    Raises
    ------
    ModelError: the pocket model's weights are missing or corrupt, or the engine cannot load such a model.
    """
    from harness.models import checkpoint, gguf_path, names

    pocket, _, quant = model.partition("@")
    if known.weights == "library" or (pocket not in names("pocket") and not Path(model).exists()):
        if known.weights == "gguf":
            what = f"{model} is no GGUF file and no pocket model"
            raise ModelError(f"{name}: {what}; use one of {', '.join(names('pocket'))}")
        return Weights(model, model, is_local=False)
    if pocket not in names("pocket"):
        return _local_weights(known, Path(model).resolve(), name)
    if known.weights == "gguf":
        return Weights(str(gguf_path(pocket, quant or _DEFAULT_QUANT).resolve()), pocket, is_local=True)
    if quant:
        raise ModelError(f"{name}: {known.name} loads checkpoints, not {quant}; name the model {pocket}")
    return Weights(str(checkpoint(pocket).resolve()), pocket, is_local=True)


def _local_weights(known: Recipe, path: Path, name: str) -> Weights:
    if known.weights == "gguf" and not path.is_file():
        raise ModelError(f"{name}: {path} is a folder; {known.name} needs a GGUF file")
    if known.weights == "checkpoint" and not (path / "config.json").is_file():
        raise ModelError(f"{name}: {path} has no config.json; {known.name} needs a checkpoint's folder")
    return Weights(str(path), path.stem if path.is_file() else path.name, is_local=True)


def _program(known: Recipe, python: str | None) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
    """What to run, the packages that this needs, and the variables."""
    chosen = python or os.environ.get(f"ASSAY_{known.name.upper()}_PYTHON")
    if known.program and not chosen and (shutil.which(known.program) or not known.module):
        return (known.program,), (), {}
    if not known.module:
        raise UsageError(f"{known.name}: it is a program and needs no Python; leave out {chosen}")
    ours = known.module.startswith("harness.")
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")] if ours else []
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, paths))} if ours else {}
    return (chosen or sys.executable, "-m", known.module), known.packages, variables


def _install(known: Recipe, part: DevicePart, has_packages: bool) -> str:
    line = part.install or known.install
    if not has_packages:
        return line
    return f"{line}, or name another interpreter in ASSAY_{known.name.upper()}_PYTHON"


def _fill(text: str, weights: Weights) -> str:
    """The text with what is known before the launch; the launcher itself fills in host and port."""
    return text.replace("{weights}", weights.text).replace("{model}", weights.model)
