"""A model of an Ollama server: loaded and kept by an empty request, dropped by another.

A request without a prompt and with `keep_alive` −1 loads the model and keeps it for ever; with 0 it drops it.
Every request between says −1 too: one that says nothing would make it five minutes. The answer
to the first comes when the model is loaded; to the second it may come before the memory is free, so `/api/ps`
is asked until the model is gone.

What the model takes is Ollama's to say (`size_vram` at `/api/ps`; `size` where no GPU is used): weights,
cache and buffers, for the context of `num_ctx`. The declared size often is that of the file, and too small.

Traps: Ollama evicts models on its own when they do not fit (OLLAMA_MAX_LOADED_MODELS, or its own estimate
of free memory); it then loads again on the next request, in that request's time. A model that was only partly
put on the GPU has `size_vram` below `size`; the rest is in the CPU's memory, and computed there.

Source: docs/api.md ("Load a model", "Unload a model", "List Running Models") of ollama/ollama.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

from harness.backends import Backend, BackendSpec, connect, parse_backend
from harness.backends.ollama import OllamaBackend
from harness.backends.ollama_answer import RunningModel, full_name
from harness.clock import now_s
from harness.errors import BackendBroken, BackendError, BackendTimeout, UsageError
from harness.launchers import Server

__all__ = ["OllamaModel"]

_FOREVER = "-1"
_POLL_S = 0.05


class OllamaModel:
    """A model at a server that runs already."""

    is_kept = False

    def __init__(
        self,
        spec: BackendSpec | str,
        num_bytes: int,
        *,
        name: str | None = None,
        slots: int | None = None,
        unload_timeout_s: float = 30.0,
    ) -> None:
        """Describe the model; nothing is asked yet.

        Parameters
        ----------
        spec: `ROLE=ollama://HOST:PORT/MODEL`, with `?num_ctx=…` where the context is to be the same for all.
        num_bytes: the declared size, which planners count with until the model was loaded.
        name: as planners call it; the model's by default.
        slots: requests at once; those of the spec by default (the server's OLLAMA_NUM_PARALLEL).
        unload_timeout_s: for the server to give the memory back.

        Raises
        ------
        UsageError: the spec is none of Ollama, names no model, or the size is below 1.
        """
        self.spec = _for_ever(parse_backend(spec) if isinstance(spec, str) else spec)
        if self.spec.kind != "ollama" or self.spec.way != "url" or self.spec.model is None:
            raise UsageError(
                f"{self.spec.role}: {self.spec.label} is no model of a server; use ollama://HOST/MODEL"
            )
        self.name = name or self.spec.model
        if num_bytes < 1:
            raise UsageError(f"{self.name}: {num_bytes} bytes; declare the size that it takes when loaded")
        self.num_bytes = num_bytes
        self.slots = slots or self.spec.slots
        self.unload_timeout_s = unload_timeout_s
        self.taken_bytes: int | None = None
        self._backend: OllamaBackend | None = None
        self._stack = AsyncExitStack()

    async def load(self) -> Backend:
        """Have the server load the model, and ask what it took.

        Raises
        ------
        BackendError: the server is away, has no such model, or does not list it as loaded afterwards.
        """
        try:
            # `ready` asks whether it is an Ollama; a launcher would ask too, and hold up every other task.
            server = Server(url=str(self.spec.url), model=str(self.spec.model), start_s=0.0, engine="ollama")
            connection = await self._stack.enter_async_context(connect(self.spec, server))
            assert isinstance(connection.backend, OllamaBackend)
            # Set before it is asked: a load that is cancelled half way goes on in the server.
            self._backend = backend = connection.backend
            await backend.load()
            running = await self._running()
            if running is None:
                raise BackendBroken(
                    f"{self.name}: {backend.url} loaded it and does not list it at /api/ps; raise "
                    "OLLAMA_MAX_LOADED_MODELS, or free memory"
                )
        except BaseException:
            with suppress(BackendError):  # the first error says more
                await self.unload()
            raise
        self.taken_bytes = running.size_vram_bytes or running.size_bytes
        return backend

    async def unload(self) -> None:
        """Have the server drop the model; return when it lists it no more.

        Raises
        ------
        BackendError: the server is away, or still holds the model after the time given.
        """
        if self._backend is not None:
            await self._backend.unload()
            await self._gone(self._backend)
        self._backend, stack, self._stack = None, self._stack, AsyncExitStack()
        await stack.aclose()

    async def _gone(self, backend: OllamaBackend) -> None:
        deadline_s = now_s() + self.unload_timeout_s
        while _find(await backend.running(), backend.model) is not None:
            if now_s() > deadline_s:
                raise BackendTimeout(
                    f"{self.name}: {backend.url} still holds it {self.unload_timeout_s:g} s after being told "
                    "to drop it; wait for its requests to end, or run `ollama stop`"
                )
            await asyncio.sleep(_POLL_S)

    async def _running(self) -> RunningModel | None:
        assert self._backend is not None
        return _find(await self._backend.running(), self._backend.model)


def _for_ever(spec: BackendSpec) -> BackendSpec:
    """A request that does not say how long the model stays makes it five minutes."""
    return replace(spec, options={**spec.options, "keep_alive": _FOREVER})


def _find(running: tuple[RunningModel, ...], model: str) -> RunningModel | None:
    return next((one for one in running if full_name(one.name) == full_name(model)), None)
