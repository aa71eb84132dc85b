"""SGLang's server: the OpenAI API, and what SGLang offers beyond it.

What it would do on its own, and is told not to:

- It samples chats by the model's `generation_config.json` (`--sampling-defaults model`): top-k, top-p, min-p
  and a repetition penalty, the last even when greedy. All are sent as neutral.
- It reuses earlier prompts' prefixes (RadixAttention). A request that forbids it carries a `cache_salt` of
  its own; SGLang's key of the radix tree is `cache_salt` and `extra_key`, one after the other, so one of them
  is enough. A version that knows neither reuses all the same: the count of cached tokens shows it.

What no field of a request changes: seeds count only with `--enable-deterministic-inference` (issues 5377 and
15746), and cached tokens are told only with `--enable-cache-report`, and then not when there are none.

Source: sglang/srt/entrypoints/openai/protocol.py (`CompletionRequest`), serving_base.py
(`_compute_extra_key`), usage_processor.py (`_details_if_cached`), sglang/srt/entrypoints/http_server.py;
pull request 10873 for what sleep needs.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping
from typing import Any

from harness.backends.base import Completion, Request
from harness.backends.openai import OpenAIBackend, untruncated
from harness.errors import BackendError, BackendRejected

__all__ = ["SGLangBackend"]

_SLEEP_FLAGS = ("enable_memory_saver", "enable_weights_cpu_backup")
_SLEEP_REMEDY = "start SGLang with --enable-memory-saver --enable-weights-cpu-backup"


class SGLangBackend(OpenAIBackend):
    """A client of SGLang's server."""

    cached_tokens_need = "start SGLang with --enable-cache-report"
    _reports_cache = False

    async def ready(self) -> None:
        """Return when the server answers; learn whether it counts cached tokens."""
        await super().ready()
        try:
            self._reports_cache = bool((await self._arguments()).get("enable_cache_report"))
        except BackendError:
            # An older server, or one that keeps this to its administrator: counts stay as they come.
            self._reports_cache = False

    async def metrics(self) -> Mapping[str, float]:
        """The server's counters (`sglang:…`); see `Metered`. Raises `BackendRejected` without the flag."""
        return await self._samples("start SGLang with --enable-metrics")

    async def flush_cache(self) -> None:
        """Empty the radix cache; see `CacheFlusher`.

        Raises
        ------
        BackendRejected: requests are running, and SGLang flushes only when idle.
        """
        await self._ask("POST", "/flush_cache", missing="use SGLang's own server, not a router before it")

    async def sleep(self) -> None:
        """Give the memory of weights and KV cache back; the server must be idle.

        Raises
        ------
        BackendRejected: the server was started without what this needs. Without the memory saver nothing
            would be freed, and without the backup the weights would be gone after `wake`.
        """
        arguments = await self._arguments()
        if missing := [flag for flag in _SLEEP_FLAGS if not arguments.get(flag)]:
            lacks = ", ".join(missing)
            raise BackendRejected(f"{self.name}: {self.url} runs without {lacks}; {_SLEEP_REMEDY}")
        await self._ask("POST", "/release_memory_occupation", {}, missing=_SLEEP_REMEDY)

    async def wake(self) -> None:
        """Take the memory back, weights and all."""
        await self._ask("POST", "/resume_memory_occupation", {}, missing=_SLEEP_REMEDY)

    async def _arguments(self) -> dict[str, Any]:
        """What the server was started with, by its own account."""
        try:
            return await self._ask_json("GET", "/server_info", missing="")
        except BackendRejected:
            # The path's name until 0.5.
            return await self._ask_json("GET", "/get_server_info", missing="update SGLang")

    def _takes_schema_with(self, request: Request) -> bool:
        return True

    def _body(self, request: Request) -> dict[str, Any]:
        body = super()._body(request)
        body |= {"repetition_penalty": 1.0, **untruncated(request, every_token=-1)}
        if not request.cache_prompt:
            body["cache_salt"] = secrets.token_hex(16)
        if request.json_schema is not None and not request.messages:
            body["json_schema"] = json.dumps(dict(request.json_schema))
        return body | self._extra_body

    def _account(self, request: Request, completion: Completion) -> Completion:
        """SGLang leaves the count out when no token was cached; a server that counts means 0 by that."""
        if self._reports_cache and completion.cached_tokens is None and completion.prompt_tokens is not None:
            return dataclasses.replace(completion, cached_tokens=0)
        return completion
