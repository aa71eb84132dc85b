"""What `--backend ROLE=SPEC` means, and how a role's server and client come of it.

large=http://gpu1:30000                    an OpenAI-compatible server, its only model
large=http://gpu1:30000/Qwen/Qwen2.5-7B    ... this model of it
large=http://gpu1:30000?model=qwen&key_env=KEY
large=llamacpp+http://gpu1:8080            a llama.cpp server, with what it offers beyond that API
small=pocket:nano                          a pocket model, embedded, in f16
small=pocket:nano@q8_0?n_parallel=4        ... quantized, with four slots
small=gguf:/models/some.gguf               any GGUF file, embedded
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from harness.backends.base import Backend
from harness.errors import UsageError
from harness.launchers import EmbeddedLauncher, Launcher, Server, UrlLauncher

__all__ = ["BackendSpec", "Connection", "backend_for", "connect", "launcher_for", "parse_backend"]

_FORMS = "http://HOST:PORT[/MODEL], llamacpp+http://HOST:PORT, pocket:NAME[@QUANT] or gguf:FILE"
_DEFAULT_QUANT = "f16"
_URL_SLOTS = 64

_Options = dict[str, Callable[[str], Any]]
_URL_OPTIONS: _Options = {
    "deadline_s": float,
    "timeout_s": float,
    "key_env": str,
    "slowdown": float,
    "slots": int,
}
_EMBEDDED_OPTIONS: _Options = {
    "n_ctx": int,
    "n_parallel": int,
    "threads": int,
    "timeout_s": float,
    "slowdown": float,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSpec:
    """A backend as named on the command line or in a plan; plain data, nothing started."""

    role: str
    """What the run calls it ("small", "large")."""
    kind: str
    """The protocol spoken: `openai` or `llamacpp`."""
    model: str | None = None
    """The model's name; `None` asks the server."""
    url: str | None = None
    """The root of a running server; `None` for an embedded one."""
    gguf: str | None = None
    """The file to embed; `None` with a model means a pocket model."""
    quant: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def is_embedded(self) -> bool:
        """Whether the engine runs in this process, and so can be relaunched for each round."""
        return self.url is None

    @property
    def slots(self) -> int:
        """Requests outstanding at once: what was asked for, else one where embedded, many at a URL."""
        if self.is_embedded:
            return int(self.options.get("n_parallel", 1))
        return int(self.options.get("slots", _URL_SLOTS))

    @property
    def label(self) -> str:
        """What tables call it: engine, model, quantization or address."""
        engine = {"llamacpp": "llama.cpp"}.get(self.kind, self.kind)
        return " ".join(part for part in (engine, self.model, self.quant, self.url) if part)


class Connection(NamedTuple):
    """A server and a client of it."""

    server: Server
    backend: Backend


def parse_backend(text: str) -> BackendSpec:
    """Read `ROLE=SPEC`.

    Raises
    ------
    UsageError: it has not that form, or names an unknown scheme or option.
    """
    role, equals, spec = text.partition("=")
    if not equals or not role.replace("-", "_").isidentifier() or not spec:
        raise UsageError(f"--backend {text}: not of the form ROLE=SPEC, with SPEC {_FORMS}")
    scheme = spec.partition(":")[0]
    if scheme in ("http", "https"):
        return _parse_url(text, role, spec, "openai")
    if scheme in ("llamacpp+http", "llamacpp+https"):
        return _parse_url(text, role, spec.removeprefix("llamacpp+"), "llamacpp")
    if scheme == "pocket" or scheme == "gguf":
        return _parse_embedded(text, role, spec, scheme)
    raise UsageError(f"--backend {text}: unknown scheme {scheme!r}; use {_FORMS}")


def launcher_for(spec: BackendSpec) -> Launcher:
    """The way to the spec's server.

    Raises
    ------
    ModelError: the pocket model is unknown, or its weights are missing or corrupt.
    UsageError: an option's value makes no sense.
    """
    if spec.url is not None:
        known: dict[str, Any] = {"name": spec.role, "url": spec.url, "model": spec.model}
        return UrlLauncher(**known, api_key=_key(spec), **_given(spec, "deadline_s"))
    if spec.gguf is None:
        from harness.models import gguf_path

        path = gguf_path(str(spec.model), quant=spec.quant or _DEFAULT_QUANT)
    else:
        path = Path(spec.gguf)
    given = _given(spec, "n_ctx", "n_parallel", "threads")
    try:
        return EmbeddedLauncher(name=spec.role, gguf=path, model=str(spec.model), **given)
    except ValueError as exc:
        raise UsageError(f"--backend {exc}") from exc


def backend_for(spec: BackendSpec, server: Server) -> Backend:
    """A client of the spec's server."""
    given = _given(spec, "timeout_s", "slowdown")
    known: dict[str, Any] = {"name": spec.role, "model": server.model, "api_key": _key(spec), **given}
    if spec.kind == "llamacpp":
        from harness.backends.llamacpp import LlamaCppBackend

        return LlamaCppBackend(server.url, **known)
    from harness.backends.openai import OpenAIBackend

    return OpenAIBackend(server.url, **known)


@asynccontextmanager
async def connect(spec: BackendSpec) -> AsyncIterator[Connection]:
    """Launch the spec's server, wait until it answers its client, and undo both at the end."""
    with launcher_for(spec).launch() as server:
        backend = backend_for(spec, server)
        try:
            await backend.ready()
            yield Connection(server, backend)
        finally:
            await backend.aclose()


def _parse_url(text: str, role: str, url: str, kind: str) -> BackendSpec:
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise UsageError(f"--backend {text}: {url} is no URL; use {_FORMS}")
    options = _options(text, parts.query, {**_URL_OPTIONS, "model": str})
    # A copied URL often holds the API's prefix: before it stands the root, behind it the model.
    root, prefix, rest = f"{parts.path}/".partition("/v1/")
    path = rest if prefix else root
    model = options.pop("model", None) or path.strip("/") or None
    root = f"{parts.scheme}://{parts.netloc}{root if prefix else ''}"
    return BackendSpec(role=role, kind=kind, model=model, url=root.rstrip("/"), options=options)


def _parse_embedded(text: str, role: str, spec: str, scheme: str) -> BackendSpec:
    what, _, query = spec.removeprefix(f"{scheme}:").partition("?")
    options = _options(text, query, _EMBEDDED_OPTIONS)
    if not what:
        raise UsageError(f"--backend {text}: nothing after {scheme}:; use {_FORMS}")
    if scheme == "gguf":
        return BackendSpec(role=role, kind="llamacpp", model=Path(what).stem, gguf=what, options=options)
    model, _, quant = what.partition("@")
    return BackendSpec(
        role=role, kind="llamacpp", model=model, quant=quant or _DEFAULT_QUANT, options=options
    )


def _options(text: str, query: str, known: _Options) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise UsageError(
                f"--backend {text}: unknown option {name!r}; known are {', '.join(sorted(known))}"
            )
        try:
            options[name] = known[name](value)
        except ValueError as exc:
            kind = known[name].__name__
            raise UsageError(f"--backend {text}: {name} is {value!r}; give a value of type {kind}") from exc
    if options.get("slowdown", 0.0) < 0:
        raise UsageError(f"--backend {text}: slowdown is {options['slowdown']}; give 0 or more")
    return options


def _given(spec: BackendSpec, *names: str) -> dict[str, Any]:
    return {name: spec.options[name] for name in names if name in spec.options}


def _key(spec: BackendSpec) -> str | None:
    variable = spec.options.get("key_env")
    if variable is None:
        return None
    if variable not in os.environ:
        raise UsageError(f"{spec.role}: the variable {variable} is not set; set it to the server's key")
    return os.environ[variable]
