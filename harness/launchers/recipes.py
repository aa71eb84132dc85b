"""Launchers of the engines by name, from `recipes.toml`: as a program of this machine, or as a container.

    process_launcher("vllm", name="large", model="nano", python="/envs/vllm/bin/python")
    container_launcher("sglang", name="large", model="Qwen/Qwen2.5-7B-Instruct", gpus="0")

A model is a pocket model's name ("nano", for GGUF engines also "nano@q8_0"), a folder or file, or a name that
the engine fetches itself. Engines that live in a virtual environment of their own are reached by that
environment's interpreter, given as `python` or in the variable ASSAY_<ENGINE>_PYTHON.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import UnavailableError, UsageError
from harness.launchers.container import ContainerLauncher, Mount
from harness.launchers.process import ProcessLauncher
from harness.launchers.recipe import ContainerPart, DevicePart, Recipe, recipe
from harness.launchers.weights import Weights, weights_of

__all__ = ["container_launcher", "process_launcher"]

_ROOT = Path(__file__).parents[2]
_INSIDE = "/models"


def process_launcher(
    engine: str,
    *,
    name: str,
    model: str | None,
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
    UsageError: the engine or device is unknown, no model is named, or an option is empty or makes no sense.
    ModelError: the pocket model's weights are missing or corrupt, or the engine cannot load such a model.
    """
    known = recipe(engine)
    _refuse_empty(name, model=model, python=python, device=device)
    part = _device_part(known, device)
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


def container_launcher(
    engine: str,
    *,
    name: str,
    model: str | None,
    image: str | None = None,
    port: int | None = None,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    deadline_s: float | None = None,
    weights: str | None = None,
    gpus: str | None = None,
    shm_size: str | None = None,
    runtime: str | None = None,
    pull: bool = False,
) -> ContainerLauncher:
    """The launcher of an engine as a container of its official image, or of another that starts alike.

    Parameters
    ----------
    name, model, args, env, deadline_s: as for `process_launcher`.
    image: in place of the official one.
    port: where the server is to listen inside; `None` takes the image's own.
    weights: a folder or file that holds the model, served under the model's name.
    gpus: `all`, indexes or `none`; `None` takes all that are there, for images that can use them.
    shm_size, runtime, pull: see `ContainerLauncher`; `None` takes the recipe's.

    Raises
    ------
    UsageError, ModelError: as for `process_launcher`; the engine has no image.
    UnavailableError: the official image needs a GPU, and there is none.
    """
    known, part = _with_image(engine, name)
    _refuse_empty(
        name, model=model, image=image, weights=weights, gpus=gpus, shm_size=shm_size, runtime=runtime
    )
    found = weights_of(known, model, name, weights)
    gpus = gpus or _gpus(part, name, engine, is_official=image is None)
    port = part.port if port is None else port
    inside = found._replace(text=f"{_INSIDE}/{Path(found.text).name}") if found.is_local else found
    command, variables = _told_inside(known, part, gpus, inside, port)
    return ContainerLauncher(
        name=name,
        image=image or part.image,
        entrypoint=part.entrypoint,
        command=(*command, *args),
        model=_fill(known.served_as, inside),
        port=port,
        env=variables | dict(env or {}),
        weights=found.text if found.is_local else None,
        mounts=() if found.is_local else _cache(part),
        shm_size=shm_size or (str(part.shm_size_bytes) if part.shm_size_bytes else None),
        gpus=gpus,
        runtime=runtime,
        pull=pull,
        ready_path=known.ready_path,
        deadline_s=known.deadline_s if deadline_s is None else deadline_s,
        fetch=_fill(part.fetch, inside),
        engine=known.label or known.name,
    )


def _with_image(engine: str, name: str) -> tuple[Recipe, ContainerPart]:
    known = recipe(engine)
    if known.container is None:
        raise UsageError(f"{name}: {engine} has no official image; use process:{engine}, or container:IMAGE")
    return known, known.container


def _refuse_empty(name: str, **options: str | None) -> None:
    for option, value in options.items():
        if value == "":
            raise UsageError(f"{name}: {option} is empty; give {option}=VALUE, or leave it out")


def _told_inside(
    known: Recipe, part: ContainerPart, gpus: str, inside: Weights, port: int
) -> tuple[list[str], dict[str, str]]:
    """The arguments and the variables for the server in the container."""
    device = known.cpu if gpus == "none" else known.gpu
    passed = {key: os.environ[key] for key in part.pass_env if key in os.environ}
    variables = {**passed, **known.env, **device.env, **(known.local_env if inside.is_local else {})}
    command = [_fill_inside(text, inside, port) for text in (*(part.args or known.args), *device.args)]
    return command, {key: _fill_inside(text, inside, port) for key, text in variables.items()}


def _gpus(part: ContainerPart, name: str, engine: str, *, is_official: bool) -> str:
    if part.gpu != "never" and _has_gpu():
        return "all"
    if part.gpu == "required" and is_official:
        remedy = f"use process:{engine}, or name an image for the CPU with image=…"
        raise UnavailableError(f"{name}: {part.image} needs an NVIDIA GPU, and there is none here: {remedy}")
    return "none"


def _cache(part: ContainerPart) -> tuple[Mount, ...]:
    folder = Path(part.cache).expanduser()
    if not part.cache or not folder.is_dir():
        return ()
    return (Mount(source=str(folder), target=part.cache_target, is_read_only=False),)


def _device_part(known: Recipe, device: str | None) -> DevicePart:
    """The recipe's part for a device; without one named, for what this machine has.

    Raises
    ------
    UsageError: the device is neither `cpu` nor `gpu`.
    """
    if device not in (None, "cpu", "gpu"):
        raise UsageError(f"{known.name}: device is {device!r}; use cpu or gpu")
    return known.gpu if device == "gpu" or (device is None and _has_gpu()) else known.cpu


def _has_gpu() -> bool:
    """Whether this process may use an NVIDIA GPU."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or any(Path("/proc/driver/nvidia/gpus").glob("*"))


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
    variable = f"ASSAY_{known.name.upper()}_PYTHON"
    if not has_packages or variable in line:
        return line
    return f"{line}, or name another interpreter in {variable}"


def _fill(text: str, weights: Weights) -> str:
    """The text with the model in it; host and port stay."""
    return text.replace("{weights}", weights.text).replace("{model}", weights.model)


def _fill_inside(text: str, weights: Weights, port: int) -> str:
    return _fill(text, weights).replace("{host}", "0.0.0.0").replace("{port}", str(port))
