"""Token ids up, token ids down, over HTTP: what an engine with a prefix cache is asked by.

Two ways to say it. llama.cpp's own `/completion` takes ids as its prompt, a slot, and gives the id with each
piece. The OpenAI API takes ids as `prompt` of `/v1/completions`; `return_token_ids` has vLLM (from 0.10.2)
and SGLang (from July 2026) send those of the answer along. A server that does not is found out by its first
answer, and cannot be used: a text is not the ids that it came of.

Sources: llama.cpp, tools/server/README.md; vLLM, pull request 22587; SGLang, pull request 30917.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol, Self

import aiohttp

from harness.backends.answer import MalformedAnswer, malformed
from harness.backends.foreign import foreign_errors
from harness.backends.sse import EventParser
from harness.errors import BackendBroken, BackendError, BackendRejected, UnavailableError

__all__ = ["Completion", "Dialect", "LlamaCpp", "OpenAI", "Piece", "TokenClient"]

_DONE = b"[DONE]"


class Piece(NamedTuple):
    """What one event of a stream says."""

    token_ids: tuple[int, ...] = ()
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    has_text: bool = False


class Completion(NamedTuple):
    """A whole answer; what the server did not say is None."""

    token_ids: tuple[int, ...]
    token_s: tuple[float, ...]
    """When each came, on `perf_counter`'s clock."""
    prompt_tokens: int | None
    cached_tokens: int | None
    prefill_s: float | None
    decode_s: float | None


class Dialect(Protocol):
    """How a kind of server is asked, and how its events read."""

    @property
    def path(self) -> str:
        """Where completions are asked for."""
        ...

    def body(self, token_ids: Sequence[int], max_new_tokens: int, slot: int) -> dict[str, Any]:
        """A greedy completion of so many tokens, streamed."""
        ...

    def piece(self, event: Mapping[str, Any]) -> Piece:
        """Read an event."""
        ...


class LlamaCpp:
    """llama.cpp's own."""

    path = "/completion"

    def body(self, token_ids: Sequence[int], max_new_tokens: int, slot: int) -> dict[str, Any]:
        """Ask a slot, which keeps the keys and values of what was asked there last."""
        return {
            "prompt": list(token_ids), "n_predict": max_new_tokens, "id_slot": slot, "cache_prompt": True,
            "stream": True, "return_tokens": True, "temperature": 0.0, "samplers": ["top_k"], "top_k": 1,
            "response_fields": ["timings", "stop"],
        }  # fmt: skip

    def piece(self, event: Mapping[str, Any]) -> Piece:
        """Read an event; `cache_n` counts prompt tokens whose keys and values were there."""
        timings = event.get("timings")
        if timings is None:
            return Piece(tuple(event["tokens"]), has_text=bool(event.get("content")))
        return Piece(
            prompt_tokens=timings["cache_n"] + timings["prompt_n"],
            cached_tokens=timings["cache_n"],
            prefill_s=timings["prompt_ms"] / 1e3,
            decode_s=timings["predicted_ms"] / 1e3,
        )


class OpenAI:
    """The OpenAI API with ids, as vLLM and SGLang have it."""

    path = "/v1/completions"

    def __init__(self, model: str) -> None:
        self._model = model

    def body(self, token_ids: Sequence[int], max_new_tokens: int, slot: int) -> dict[str, Any]:
        """Ask the model; an end of text ends nothing, so that the work is equal."""
        return {
            "model": self._model, "prompt": list(token_ids), "max_tokens": max_new_tokens,
            "temperature": 0.0, "ignore_eos": True, "return_token_ids": True,
            "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip

    def piece(self, event: Mapping[str, Any]) -> Piece:
        """Read an event; cached tokens are in it where the server was started to count them."""
        choice = (event.get("choices") or [{}])[0]
        usage = event.get("usage") or {}
        return Piece(
            tuple(choice.get("token_ids") or ()),
            prompt_tokens=usage.get("prompt_tokens"),
            cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
            has_text=bool(choice.get("text")),
        )


class TokenClient:
    """A client of one server; close it."""

    def __init__(
        self, url: str, dialect: Dialect, *, name: str, timeout_s: float, api_key: str | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._dialect = dialect
        self._name = name
        self._timeout_s = timeout_s
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key.strip()}"}
        self._session = aiohttp.ClientSession(
            # As the other backends: a connection per request, since servers drop idle ones as they like.
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=10.0),
            headers=headers,
        )

    async def complete(self, token_ids: Sequence[int], max_new_tokens: int, slot: int = 0) -> Completion:
        """Ask, and read the answer to its end.

        Raises
        ------
        BackendError: no connection, a refusal, or an answer that broke off.
        UnavailableError: the server gives text and not the ids that it is of.
        """
        body = self._dialect.body(token_ids, max_new_tokens, slot)
        pieces: list[tuple[Piece, float]] = []
        with foreign_errors(self._name, self._url, self._timeout_s):
            async with self._session.post(self._url + self._dialect.path, json=body) as response:
                if response.status >= 400:
                    raise await self._refusal(response)
                parser = EventParser()
                async for data in response.content.iter_any():
                    now_s = perf_counter()
                    pieces += [(self._piece(event), now_s) for event in parser.feed(data) if event != _DONE]
                pieces += [(self._piece(event), perf_counter()) for event in parser.close() if event != _DONE]
        return self._whole(pieces, max_new_tokens)

    async def close(self) -> None:
        """Release what it holds."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _piece(self, event: bytes) -> Piece:
        try:
            frame = json.loads(event)
            if frame.get("error"):
                raise MalformedAnswer(f"error in the answer: {json.dumps(frame['error'])[:500]}")
            return self._dialect.piece(frame)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as exc:
            raise malformed(event, exc) from exc

    def _whole(self, pieces: Sequence[tuple[Piece, float]], num: int) -> Completion:
        came = [(token, at_s) for piece, at_s in pieces for token in piece.token_ids]
        if not came and any(piece.has_text for piece, _ in pieces):
            raise UnavailableError(
                f"{self._name}: {self._url} sends text without its token ids; agents need a server that "
                "knows return_token_ids: vLLM 0.10.2 or SGLang of July 2026, or later"
            )
        if len(came) != num:
            text = f"{self._name}: {self._url} gave {len(came)} of {num} tokens; see the server's log"
            raise BackendBroken(text)
        return Completion(
            token_ids=tuple(token for token, _ in came),
            token_s=tuple(at_s for _, at_s in came),
            prompt_tokens=_last(piece.prompt_tokens for piece, _ in pieces),
            cached_tokens=_last(piece.cached_tokens for piece, _ in pieces),
            prefill_s=_last(piece.prefill_s for piece, _ in pieces),
            decode_s=_last(piece.decode_s for piece, _ in pieces),
        )

    async def _refusal(self, response: aiohttp.ClientResponse) -> BackendError:
        text = " ".join((await response.text(errors="replace"))[:500].split())
        said = f"{self._name}: {self._url} answered {response.status}: {text or response.reason}"
        return (BackendBroken if response.status >= 500 else BackendRejected)(said)


def _last(values: Any) -> Any:
    return next((value for value in reversed(list(values)) if value is not None), None)
