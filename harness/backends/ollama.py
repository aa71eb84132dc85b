"""Ollama's own API: chats and raw prompts over NDJSON, and which models it has and holds in memory.

Its OpenAI API at the same port is not used: it has no `num_ctx`, no `keep_alive`, and tells no durations.

What Ollama would do on its own, and how it is told not to:

- It drops the beginning of a prompt that exceeds the context, in silence, and counts what is left
  (issues 3839 and 17427; `completionPromptForRequest` in llm/llama_server.go). `truncate: false` makes
  versions since 0.12.6 refuse instead. With `num_ctx` given, an answer whose counts overfill the context is
  refused here, whatever the version: its prompt was cut, or its context shifted.
- It samples by the model's Modelfile (top-k 40, top-p 0.9, a repetition penalty that bends even greedy
  answers). Neutral values are sent.

What no field of a request changes: the end of an answer cannot be ignored (issue 12065), so a request that
needs an exact length is refused; a prompt's prefix is always reused when the model's slot still holds it
(`cache_prompt` says nothing here, and older versions do not count what was reused); the Modelfile's system
message joins a chat that has none; another `num_ctx` loads the model anew.

Source: docs/api.md, docs/api/{errors,streaming}.mdx and api/types.go of ollama/ollama.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from harness.backends.base import Completion, Request
from harness.backends.http import HttpBackend
from harness.backends.ndjson import LineParser
from harness.backends.ollama_answer import (
    ModelCard,
    OllamaAnswer,
    PulledModel,
    RunningModel,
    full_name,
    read_card,
    read_models,
    read_running,
)
from harness.errors import BackendBroken, BackendRejected, UsageError

__all__ = ["OllamaBackend"]

_NEUTRAL = {
    "top_k": 0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
_OTHER_SERVER = "use http:// instead of ollama:// for a server of another kind"

T = TypeVar("T")


class OllamaBackend(HttpBackend):
    """A client of one model at one Ollama server."""

    _stream_type = "application/x-ndjson"
    _parser = LineParser
    _answer = OllamaAnswer
    _ready_path = "/api/tags"

    def __init__(
        self,
        url: str,
        *,
        model: str,
        name: str = "ollama",
        timeout_s: float = 600.0,
        connect_timeout_s: float = 5.0,
        api_key: str | None = None,
        keep_alive: str | float | None = None,
        num_ctx: int | None = None,
        slowdown: float = 0.0,
    ) -> None:
        """Describe the server; see `HttpBackend`.

        Parameters
        ----------
        model: name and tag; without a tag, `latest`.
        keep_alive: how long the model stays loaded after a request: seconds, or a duration ("10m"); negative
            is for ever, 0 unloads it at once. `None` leaves it to the server (5 minutes).
        num_ctx: context in tokens, prompt and answer together. `None` leaves it to the server (often 4096).

        Raises
        ------
        UsageError: `num_ctx` is below 1.
        """
        if num_ctx is not None and num_ctx < 1:
            raise UsageError(
                f"{name}: num_ctx is {num_ctx}; give at least 1 token, or leave it to the server"
            )
        super().__init__(
            url,
            model=model,
            name=name,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            api_key=api_key,
            slowdown=slowdown,
        )
        self.keep_alive = _duration(keep_alive)
        self.num_ctx = num_ctx

    async def ready(self) -> None:
        """Return when the server answers and has the model.

        Raises
        ------
        BackendUnreachable: it does not answer.
        BackendRejected: it wants a key, is no Ollama, or the model is not pulled.
        """
        data = await self._ask_ready(self._ready_path)
        try:
            pulled = read_models(json.loads(data))
        except ValueError as exc:
            what = f"{self.url}{self._ready_path} answered {data[:60]!r}, as no Ollama does"
            raise BackendRejected(f"{self.name}: {what}; {_OTHER_SERVER}") from exc
        names = [model.name for model in pulled]
        if full_name(self.model) not in map(full_name, names):
            have = f"{self.url} has {', '.join(names) or 'no model'}, not {self.model}"
            raise BackendRejected(f"{self.name}: {have}; run `ollama pull {self.model}`")

    async def tags(self) -> tuple[PulledModel, ...]:
        """The models that the server has on its disk."""
        return await self._read("GET", "/api/tags", read_models)

    async def show(self) -> ModelCard:
        """What the server knows of this model."""
        return await self._read("POST", "/api/show", read_card, {"model": self.model})

    async def running(self) -> tuple[RunningModel, ...]:
        """The models that are loaded now, each with the bytes that it takes."""
        return await self._read("GET", "/api/ps", read_running)

    async def load(self) -> None:
        """Bring this model into memory, with the context and for the time that its requests will ask for."""
        body: dict[str, Any] = {"model": self.model, "stream": False}
        if self.keep_alive is not None:
            body["keep_alive"] = self.keep_alive
        if self.num_ctx is not None:
            body["options"] = {"num_ctx": self.num_ctx}
        await self._ask("POST", "/api/generate", body)

    async def unload(self) -> None:
        """Drop this model from memory; the next request loads it again."""
        await self._ask("POST", "/api/generate", {"model": self.model, "keep_alive": 0})

    async def _read(
        self, method: str, path: str, read: Callable[[Any], T], body: dict[str, Any] | None = None
    ) -> T:
        answer = await self._ask_json(method, path, body)
        try:
            return read(answer)
        except ValueError as exc:
            what = f"{self.url}{path} answered {str(answer)[:100]}, which Ollama does not"
            raise BackendBroken(f"{self.name}: {what} ({exc}); {_OTHER_SERVER}") from exc

    def _path(self, request: Request) -> str:
        if request.ignore_eos:
            what = "Ollama cannot ignore the end of an answer, so exactly max_tokens cannot be asked of it"
            raise BackendRejected(f"{self.name}: {what}; drop ignore_eos, or serve the model with llama.cpp")
        if request.prompt == "":
            what = "an empty prompt only loads the model at Ollama"
            raise BackendRejected(f"{self.name}: {what}; send a prompt")
        return "/api/chat" if request.messages else "/api/generate"

    def _body(self, request: Request) -> dict[str, Any]:
        """The request in Ollama's words."""
        body: dict[str, Any] = {
            "model": self.model,
            "stream": request.stream,
            "truncate": False,
            "options": self._options(request),
        }
        if request.messages:
            body["messages"] = [{"role": m.role, "content": m.content} for m in request.messages]
        else:
            body |= {"prompt": request.prompt, "raw": True}
        if self.keep_alive is not None:
            body["keep_alive"] = self.keep_alive
        if request.json_schema is not None:
            body["format"] = dict(request.json_schema)
        if request.logprobs:
            body["logprobs"] = True
        return body

    def _options(self, request: Request) -> dict[str, Any]:
        options: dict[str, Any] = {
            "num_predict": request.max_tokens,
            "temperature": request.temperature,
            "top_p": 1.0 if request.top_p is None else request.top_p,
            **_NEUTRAL,
        }
        if request.seed is not None:
            options["seed"] = request.seed
        if request.stop:
            options["stop"] = list(request.stop)
        if self.num_ctx is not None:
            options["num_ctx"] = self.num_ctx
        return options

    def _account(self, request: Request, completion: Completion) -> Completion:
        """Refuse an answer to another prompt than the one sent: counts that overfill the context say so."""
        prompt, output = completion.prompt_tokens, completion.output_tokens
        if self.num_ctx is None or prompt is None or output is None or prompt + output <= self.num_ctx:
            return completion
        what = f"a prompt of {prompt} tokens as counted and {output} of output fill num_ctx {self.num_ctx}"
        why = "so Ollama dropped a part of the prompt"
        raise BackendRejected(f"{self.name}: {what}, {why}; raise num_ctx")

    def _remedy(self, status: int, text: str) -> str | None:
        if status == 404 and "model" in text:
            return f"run `ollama pull {self.model}`"
        if status == 404:
            return _OTHER_SERVER
        if status == 400 and "context" in text:
            return "raise num_ctx, or shorten the prompt"
        return super()._remedy(status, text)


def _duration(keep_alive: str | float | None) -> str | float | None:
    """A bare number is seconds to Ollama only as a JSON number; a string needs its unit."""
    if isinstance(keep_alive, str):
        try:
            return float(keep_alive) if "." in keep_alive else int(keep_alive)
        except ValueError:
            return keep_alive
    return keep_alive
