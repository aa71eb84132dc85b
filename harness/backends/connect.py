"""From a spec to a server and a client of it: which launcher, which backend, and both undone at the end."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.backends.base import Backend
from harness.backends.spec import AUTO, SPEAKS, BackendSpec
from harness.backends.told import random_weights
from harness.errors import UsageError
from harness.launchers import EmbeddedLauncher, Launcher, Server, UrlLauncher
from harness.models.random_marks import Told

if TYPE_CHECKING:
    from harness.backends.ollama import OllamaBackend
    from harness.backends.openai import OpenAIBackend

__all__ = ["Connection", "backend_for", "connect", "launcher_for", "told_random"]

_CALLED = {"llama.cpp": "llamacpp"}
"""What a server calls itself → the protocol of that name, where the two differ."""
_SCHEMES = ("sglang", "vllm", "ollama", "llamacpp")


class Connection(NamedTuple):
    """A server and a client of it."""

    server: Server
    backend: Backend


def launcher_for(spec: BackendSpec) -> Launcher:
    """The way to the spec's server.

    Raises
    ------
    ModelError: the pocket model is unknown, or its weights are missing or corrupt.
    UsageError: an option's value makes no sense.
    UnavailableError: a library that it needs is not installed.
    """
    match spec.way:
        case "url":
            return _url_launcher(spec)
        case "embedded":
            return _embedded_launcher(spec)
        case "transformers":
            from harness.launchers.inprocess import TransformersLauncher

            given = _given(spec, "deadline_s", "device", "dtype", "threads")
            return TransformersLauncher(name=spec.role, model=str(spec.model), **given)
        case "simulated":
            from harness.launchers.inprocess import SimulatedLauncher

            return SimulatedLauncher(
                name=spec.role, model=str(spec.model), **_given(spec, "device", "slots", "output")
            )
        case "process":
            from harness.launchers.recipes import process_launcher

            given = _given(spec, "deadline_s", "python", "port", "device")
            return process_launcher(
                str(spec.starts), name=spec.role, model=str(spec.model), args=_args(spec), **given
            )
        case _:
            return _container_launcher(spec)


def backend_for(spec: BackendSpec, server: Server) -> Backend:
    """A client of the spec's server.

    Raises
    ------
    UsageError: the server says that it is another engine than the spec's scheme.
    """
    known: dict[str, Any] = {"name": spec.role, **_given(spec, "timeout_s", "slowdown")}
    held: Any = server.held
    match _kind(spec, server):
        case "transformers":
            from harness.backends.transformers import TransformersBackend

            return TransformersBackend(held, **known)
        case "simulated":
            from harness.backends.simulated import SimulatedBackend

            return SimulatedBackend(held, **known)
        case kind:
            if kind == "ollama":
                known |= _given(spec, "keep_alive", "num_ctx")
            return _client(kind)(server.url, model=server.model, api_key=_key(spec), **known)


def told_random(spec: BackendSpec, server: Server | None = None) -> Told | None:
    """How it is known that a backend's weights are random; see `harness.backends.told`."""
    return random_weights(spec, server, api_key=_key(spec))


@asynccontextmanager
async def connect(spec: BackendSpec, server: Server | None = None) -> AsyncIterator[Connection]:
    """Launch the spec's server, or take the one given, wait until it answers, and undo what was done here."""
    running = launcher_for(spec).launch() if server is None else server
    try:
        backend = backend_for(spec, running)
        try:
            await backend.ready()
            yield Connection(running, backend)
        finally:
            await backend.aclose()
    finally:
        if server is None:
            running.stop()


def _url_launcher(spec: BackendSpec) -> Launcher:
    return UrlLauncher(
        name=spec.role,
        url=str(spec.url),
        model=spec.model,
        api_key=_key(spec),
        **_given(spec, "deadline_s"),
    )


def _embedded_launcher(spec: BackendSpec) -> Launcher:
    if spec.gguf is None:
        from harness.models import gguf_path

        path = gguf_path(str(spec.model), quant=spec.quant or "f16")
    else:
        path = Path(spec.gguf)
    given = _given(spec, "n_ctx", "n_parallel", "threads")
    try:
        return EmbeddedLauncher(name=spec.role, gguf=path, model=str(spec.model), **given)
    except ValueError as exc:
        raise UsageError(f"--backend {exc}") from exc


def _container_launcher(spec: BackendSpec) -> Launcher:
    from harness.launchers.container import ContainerLauncher
    from harness.launchers.recipes import container_launcher

    given = _given(spec, "deadline_s", "port", "gpus", "shm_size", "weights", "image", "pull", "runtime")
    if spec.says_random or spec.says_trained:
        del given["weights"]  # a statement, and no folder to mount
    if spec.starts in SPEAKS:
        return container_launcher(
            str(spec.starts), name=spec.role, model=spec.model, args=_args(spec), **given
        )
    return ContainerLauncher(
        name=spec.role, image=str(spec.starts), model=spec.model, command=_args(spec), **given
    )


def _kind(spec: BackendSpec, server: Server) -> str:
    said = None if server.engine is None else _CALLED.get(server.engine, server.engine)
    if spec.kind == AUTO:
        return said if said in _SCHEMES else "openai"
    if spec.way not in ("url", "container") or spec.kind not in (*_SCHEMES, "transformers-serve"):
        return spec.kind  # of our own starting, or not said to be anything
    if said != spec.kind if spec.kind in _SCHEMES else said in _SCHEMES:
        who = f"says that it is {server.engine}" if server.engine else "does not say what it is"
        remedy = (
            f"use {said}://" if said in _SCHEMES else "use openai+http:// for a server with that API alone"
        )
        raise UsageError(f"{spec.role}: {server.url} {who}, not {spec.engine}; {remedy}")
    return spec.kind


def _client(kind: str) -> type[OpenAIBackend] | type[OllamaBackend]:
    match kind:
        case "llamacpp":
            from harness.backends.llamacpp import LlamaCppBackend

            return LlamaCppBackend
        case "sglang":
            from harness.backends.sglang import SGLangBackend

            return SGLangBackend
        case "vllm":
            from harness.backends.vllm import VLLMBackend

            return VLLMBackend
        case "ollama":
            from harness.backends.ollama import OllamaBackend

            return OllamaBackend
        case "transformers-serve":
            from harness.backends.transformers_serve import TransformersServeBackend

            return TransformersServeBackend
        case _:
            from harness.backends.openai import OpenAIBackend

            return OpenAIBackend


def _args(spec: BackendSpec) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(spec.options.get("args", "")))
    except ValueError as exc:
        raise UsageError(f"--backend {spec.role}: args is {spec.options['args']!r} ({exc})") from exc


def _given(spec: BackendSpec, *names: str) -> dict[str, Any]:
    return {name: spec.options[name] for name in names if name in spec.options}


def _key(spec: BackendSpec) -> str | None:
    variable = spec.options.get("key_env")
    if variable is None:
        return None
    if variable not in os.environ:
        raise UsageError(f"{spec.role}: the variable {variable} is not set; set it to the server's key")
    return os.environ[variable]
