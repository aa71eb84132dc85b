"""llama.cpp's own server inside this process: relaunched in about 10 ms, so a round can be a launch.

The engine runs in native threads of its own and is spoken to by HTTP like any other server. One thread per
engine is the default: with two on a machine of two busy cores, llama.cpp is 10–40× slower.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.errors import LaunchError, UnavailableError, UsageError
from harness.launchers.base import Server
from harness.launchers.probe import wait_until_answering

__all__ = ["EmbeddedLauncher"]

_SILENT = -1
_READY_S = 30.0
_GGUF_MAGIC = b"GGUF"
_stuck: list[Any] = []
"""Engines that never answered, kept because dropping them would wait for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedLauncher:
    """Launches a GGUF file in this process."""

    gguf: Path
    model: str
    """The name under which the model is served."""
    name: str = "embedded"
    n_ctx: int = 1024
    """Context of each slot, in tokens."""
    n_parallel: int = 1
    """Slots: requests decoded together. More than these wait their turn."""
    threads: int = 1
    cache_type: str = "f16"
    """Of keys and values, as llama.cpp calls it."""
    flash_attention: bool = True
    """Wherever llama.cpp would use it; it computes in 16 bits even where keys and values have 32."""
    host: str = "127.0.0.1"
    port: int = 0
    """0 leaves the choice to the kernel."""

    def __post_init__(self) -> None:
        for field in ("n_ctx", "n_parallel", "threads"):
            if getattr(self, field) < 1:
                raise ValueError(f"{self.name}: {field} is {getattr(self, field)}, and must be at least 1")

    def launch(self) -> Server:
        """Start the engine; see `Launcher.launch`."""
        began_s = time.perf_counter()
        xllamacpp = _xllamacpp()
        _check_gguf(self.name, self.gguf)
        try:
            held = [xllamacpp.Server(self._params(xllamacpp))]
        except (RuntimeError, ValueError, MemoryError) as exc:
            remedy = "convert the model again, or lower n_ctx"
            raise LaunchError(f"{self.name}: llama.cpp could not load {self.gguf} ({exc}); {remedy}") from exc
        url: str = held[0].listening_address
        try:
            # Answered by the engine's own loop: an engine that is dropped before that runs never ends.
            wait_until_answering(f"{url}/slots", _READY_S)
        except TimeoutError as exc:
            _stuck.append(held)
            what = f"llama.cpp loaded {self.gguf} and did not answer within {_READY_S:g} s ({exc})"
            raise LaunchError(f"{self.name}: {what}; free a core, or use a smaller model") from exc

        def stop() -> None:
            atexit.unregister(stop)
            _hang_up(urlsplit(url).port)
            held.clear()

        atexit.register(stop)
        return Server(url=url, model=self.model, start_s=time.perf_counter() - began_s, stop=stop)

    def _params(self, xllamacpp: Any) -> Any:
        params = xllamacpp.CommonParams()
        params.model.path = str(self.gguf)
        params.model_alias = {self.model}
        params.hostnames = [self.host]
        params.port = self.port
        params.n_ctx = self.n_ctx * self.n_parallel
        params.n_parallel = self.n_parallel
        params.cpuparams.n_threads = self.threads
        params.cpuparams_batch.n_threads = self.threads
        params.cache_type_k = params.cache_type_v = self._cache_type(xllamacpp)
        if not self.flash_attention:
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.n_gpu_layers = 0
        params.verbosity = _SILENT
        params.endpoint_slots = True
        params.endpoint_metrics = True
        params.ui = False
        # What is asked for is what runs: no shrinking to fit, and no prompts kept from request to request
        # beyond the slots' own.
        params.fit_params = False
        params.cache_ram_mib = 0
        params.cache_idle_slots = False
        return params

    def _cache_type(self, xllamacpp: Any) -> Any:
        found = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{self.cache_type.upper()}", None)
        if found is None:
            raise UsageError(f"{self.name}: llama.cpp has no type {self.cache_type!r}; give f16 or f32")
        return found


def _hang_up(port: int | None) -> None:
    """Close every connection to this port from the server's side.

    An engine that is dropped while it answers waits for its client for ever, and the client, in the same
    process, for the interpreter lock that the engine holds.
    """
    for fd in map(int, os.listdir("/dev/fd")):
        # A descriptor listed may be closed by now, and a listening socket has no peer.
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            with socket.socket(fileno=os.dup(fd)) as copy:
                if copy.getsockname()[1:2] == (port,) and copy.getpeername():
                    copy.shutdown(socket.SHUT_RDWR)


def _xllamacpp() -> Any:
    try:
        import xllamacpp
    except ImportError as exc:
        raise UnavailableError("the embedded engine needs llama.cpp: pip install xllamacpp") from exc
    return xllamacpp


def _check_gguf(name: str, path: Path) -> None:
    """Refuse what is no GGUF file by its first bytes: the engine's own message says neither what nor why."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError as exc:
        raise LaunchError(
            f"{name}: cannot read {path} ({exc.strerror}); pass the path of a GGUF file"
        ) from exc
    if magic != _GGUF_MAGIC:
        raise LaunchError(
            f"{name}: {path} starts with {magic!r} and is no GGUF file; convert the model again"
        )
