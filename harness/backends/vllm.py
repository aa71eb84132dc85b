"""vLLM's server: the OpenAI API, and what vLLM offers beyond it.

What it would do on its own, and is told not to:

- It samples by the model's `generation_config.json` (`--generation-config auto`): top-k, top-p, min-p and a
  repetition penalty, the last even when greedy. All are sent as neutral, so that what is drawn is the model's
  distribution at the request's temperature. One such default cannot be undone per request: a
  `max_new_tokens` there clamps `max_tokens` in silence; start with `--generation-config vllm`.
- It reuses earlier prompts' prefixes. A request that forbids it carries a `cache_salt` of its own: blocks are
  shared among equal salts only.

Source: vllm/entrypoints/openai/{chat_completion,completion}/protocol.py (`cache_salt`, `to_sampling_params`),
vllm/entrypoints/serve/dev/{cache,sleep,server_info}/api_router.py and vllm/envs.py
(`VLLM_SERVER_DEV_MODE`), at 0.32.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from harness.backends.base import Request
from harness.backends.openai import OpenAIBackend, response_format, untruncated
from harness.errors import BackendRejected

__all__ = ["VLLMBackend"]

_DEV_MODE = "start vLLM with VLLM_SERVER_DEV_MODE=1"
_SLEEP_MODE = "start vLLM with VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode (CUDA and ROCm only)"


class VLLMBackend(OpenAIBackend):
    """A client of vLLM's server."""

    cached_tokens_need = "start vLLM with --enable-prompt-tokens-details"

    async def metrics(self) -> Mapping[str, float]:
        """The server's counters (`vllm:…`); see `Metered`."""
        return await self._samples("start vLLM without --disable-log-stats")

    async def flush_cache(self) -> None:
        """Empty the prefix cache; see `CacheFlusher`.

        Raises
        ------
        BackendRejected: the server is not in dev mode, or requests hold blocks of the cache.
        """
        answer = await self._ask("POST", "/reset_prefix_cache", missing=_DEV_MODE)
        # Versions before this answer had a body flush without a word.
        if b'"success":false' in answer.replace(b" ", b""):
            what = f"{self.url} did not empty its prefix cache, as requests hold parts of it"
            raise BackendRejected(f"{self.name}: {what}; wait for them to end")

    async def sleep(self) -> None:
        """Move the weights to host memory and drop the KV cache; requests under way are aborted.

        Raises
        ------
        BackendRejected: the server is not in dev mode, or was started without sleep mode: it would say that
            it sleeps, and free nothing.
        """
        info = await self._ask_json("GET", "/server_info?config_format=json", missing=_SLEEP_MODE)
        config = info.get("vllm_config")
        if isinstance(config, dict) and not (config.get("model_config") or {}).get("enable_sleep_mode"):
            raise BackendRejected(f"{self.name}: {self.url} has no sleep mode; {_SLEEP_MODE}")
        await self._ask("POST", "/sleep?level=1", missing=_SLEEP_MODE)

    async def wake(self) -> None:
        """Take the memory back, weights and all."""
        await self._ask("POST", "/wake_up", missing=_SLEEP_MODE)

    def _takes_schema_with(self, request: Request) -> bool:
        return True

    def _body(self, request: Request) -> dict[str, Any]:
        body = super()._body(request)
        # -1 is "all tokens" to every version; 0 to newer ones alone.
        body |= {"repetition_penalty": 1.0, **untruncated(request, every_token=-1)}
        if not request.cache_prompt:
            body["cache_salt"] = secrets.token_hex(16)
        if request.json_schema is not None:
            # Plain completions take it too, of old and new versions; `guided_json` became
            # `structured_outputs` between them.
            body["response_format"] = response_format(request.json_schema)
        return body | self._extra_body
