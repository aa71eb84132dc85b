"""Servers that run already, found by asking the ports where they usually listen.

All ports are asked at once. A closed port answers in microseconds; one that is open and says nothing is given
up after a second, whatever it does, since nobody waits for a guess.
"""

from __future__ import annotations

import os
import threading
import time
import urllib.error
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from harness.launchers.probe import served_models, serving_engine

__all__ = ["PORTS", "Found", "State", "detect", "ollama_url"]

PORTS = (30000, 30001, 8000, 8080, 11434)
"""SGLang's two of the seeds' set-up, vLLM's and `transformers serve`'s, llama.cpp's, Ollama's."""

_LIMIT_S = 0.9
_ATTEMPT_SHARE = 0.45
"""Of the limit, for each of the questions that one server is asked in turn."""
_OLLAMA_PORT = 11434

State = Literal["ready", "loading", "wants a key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A server that answered."""

    url: str
    engine: str | None
    """By its own word; `None` when it does not say."""
    models: tuple[str, ...]
    """In the server's order; empty unless it is ready."""
    state: State = "ready"


def detect(
    hosts: Sequence[str] = ("127.0.0.1",), *, ports: Sequence[int] = PORTS, limit_s: float = _LIMIT_S
) -> list[Found]:
    """The servers at these hosts, and the one that OLLAMA_HOST names, within `limit_s`.

    A host is a name, asked at every port, or HOST:PORT or a URL, asked as it stands. Whatever answers a list
    of models, or refuses one as servers do that load or want a key, is a server.
    """
    urls = [url for host in hosts for url in _urls_of(host, ports)]
    if (ollama := ollama_url(os.environ.get("OLLAMA_HOST", ""))) is not None and ollama not in urls:
        urls.append(ollama)
    found: dict[str, Found] = {}

    def ask(url: str) -> None:
        server = _ask(url, limit_s * _ATTEMPT_SHARE)
        if server is not None:
            found[url] = server

    # Daemons: a thread that hangs on a silent port holds up neither the answer nor the end of the process.
    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in urls]
    ends_s = time.monotonic() + limit_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends_s - time.monotonic()))
    return [found[url] for url in urls if url in found]


def _urls_of(host: str, ports: Sequence[int]) -> list[str]:
    if "://" in host:
        return [host.rstrip("/")]
    if ":" in host.rpartition("]")[2]:
        return [f"http://{host}"]
    return [f"http://{host}:{port}" for port in ports]


def _ask(url: str, timeout_s: float) -> Found | None:
    def found(models: Sequence[str], state: State) -> Found:
        engine = serving_engine(url, timeout_s=timeout_s)
        return Found(url=url, engine=engine, models=tuple(models), state=state)

    try:
        return found(served_models(url, timeout_s=timeout_s), "ready")
    except urllib.error.HTTPError as exc:
        if exc.code in (401, 403):
            return found((), "wants a key")
        if exc.code == 503:
            return found((), "loading")
        return None
    except Exception:
        # Whatever else listens there, in whatever protocol, is no engine.
        return None


def ollama_url(host: str) -> str | None:
    """What OLLAMA_HOST means to a client, as `Host` in envconfig/config.go of ollama/ollama reads it."""
    host = host.strip().strip("\"'")
    if not host:
        return None
    try:
        parts = urlsplit(host if "://" in host else f"http://{host}")
        port = parts.port
    except ValueError:
        return None
    if port is None:
        port = {"http": 80, "https": 443}.get(host.partition("://")[0], _OLLAMA_PORT)
    name = parts.hostname or "127.0.0.1"
    # The address of all interfaces is one to listen at, not one to ask.
    name = "127.0.0.1" if name in ("0.0.0.0", "::", "localhost") else name
    name = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{name}:{port}"
