"""A small Ollama of our own on a real socket: models that are loaded, listed, answered by and dropped.

It follows docs/api.md of ollama/ollama: a generate request without a prompt loads the model, `keep_alive` 0
drops it, and every request sets anew how long it stays (five minutes where it does not say). The memory is
given back a moment after the answer that says so. A load whose client is gone is broken off ("triggering
expiration for failed load", server/sched.go).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

from aiohttp import web

FIVE_MINUTES = 300


class OllamaServer:
    """Knows some models by name, each with the bytes that it takes when it is loaded."""

    def __init__(self, size_vram: Mapping[str, int], *, load_s: float = 0.0, drop_s: float = 0.02) -> None:
        self.size_vram = dict(size_vram)
        self.load_s, self.drop_s = load_s, drop_s
        self.keep_alive: dict[str, Any] = {}
        """Of each model that is loaded: how long it was told to stay."""
        self.num_ctx: dict[str, Any] = {}
        self.num_loads = 0
        self.is_deaf = False
        """Whether it ignores being told to drop a model."""
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        """Serve on a free port."""
        app = web.Application()
        app.router.add_get("/api/tags", self._tags)
        app.router.add_get("/api/ps", self._ps)
        app.router.add_post("/api/generate", self._generate)
        app.router.add_post("/api/chat", self._chat)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0]
            self.url = f"ollama://{host}:{port}"
            yield self
        finally:
            await runner.cleanup()

    async def _tags(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": name} for name in self.size_vram]})

    async def _ps(self, _: web.Request) -> web.Response:
        loaded = [
            {"name": name, "size": self.size_vram[name], "size_vram": self.size_vram[name]}
            for name in self.keep_alive
        ]
        return web.json_response({"models": loaded})

    async def _generate(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body["model"]
        if name not in self.size_vram:
            return web.json_response({"error": f"model '{name}' not found"}, status=404)
        if body.get("keep_alive") == 0:
            if not self.is_deaf:
                asyncio.get_running_loop().call_later(self.drop_s, self.keep_alive.pop, name, None)
            return web.json_response({"model": name, "response": "", "done": True, "done_reason": "unload"})
        await self._load(body)
        return web.json_response({"model": name, "response": "", "done": True, "done_reason": "load"})

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        await self._load(body)
        answer = {
            "model": body["model"],
            "message": {"role": "assistant", "content": f"{body['model']} says 7"},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 5,
            "eval_count": 3,
        }
        return web.json_response(answer)

    async def _load(self, body: Mapping[str, Any]) -> None:
        name, num_ctx = body["model"], body.get("options", {}).get("num_ctx")
        if name not in self.keep_alive or self.num_ctx.get(name) != num_ctx:
            self.num_loads += 1
            await asyncio.sleep(self.load_s)
        self.keep_alive[name] = body.get("keep_alive", FIVE_MINUTES)
        self.num_ctx[name] = num_ctx
