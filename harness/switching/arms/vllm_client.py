"""One vLLM server over plain HTTP: put to sleep, woken, and asked for tokens by their ids.

Blocking, for one thread, a connection per request. Token ids come of `return_token_ids`, which vLLM knows
from 0.10.2. Sleep mode's endpoints are there when the server runs with VLLM_SERVER_DEV_MODE=1 and
--enable-sleep-mode; they answer when the work is done.

Source: vllm-project/vllm, docs/features/sleep_mode.md and vllm/entrypoints/serve/sleep/api_router.py (the
level is a query parameter; /is_sleeping answers {"is_sleeping": …}).
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from harness.backends.sse import EventParser
from harness.errors import (
    BackendBroken,
    BackendRejected,
    BackendTimeout,
    BackendUnreachable,
    UnavailableError,
    UsageError,
)
from harness.switching.base import Ask

__all__ = ["Tokens", "VllmClient"]

_SLEEP_LEVEL = 1
"""Weights go to host memory and come back from there; level 2 would read them from disk."""
_DONE = b"[DONE]"
_PIECE_BYTES = 65536


class Tokens(NamedTuple):
    """What was generated, and when the first of it came, on `perf_counter`'s clock."""

    token_ids: tuple[int, ...]
    first_s: float


class VllmClient:
    """A server at a URL."""

    def __init__(self, url: str, model: str, *, name: str, timeout_s: float) -> None:
        """Describe it.

        Arguments: `model`, as the server calls it; `name`, of the arm, for errors.

        Raises
        ------
        UsageError: the URL is none.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(f"{name}: {url!r} is no address of a server; give http://HOST:PORT")
        self.url = url.rstrip("/")
        self.model = model
        self._name = name
        self._where = (parts.hostname, parts.port or 80)
        self._root = parts.path.rstrip("/")
        self._timeout_s = timeout_s

    def sleep(self) -> None:
        """Have it give its GPU memory back, its weights kept on the host.

        Raises
        ------
        UnavailableError: the server has no sleep mode.
        BackendError: it does not answer, or refuses.
        """
        self._dev("POST", f"/sleep?level={_SLEEP_LEVEL}")

    def wake_up(self) -> None:
        """Have it take its GPU memory and its weights; raises as `sleep` does."""
        self._dev("POST", "/wake_up")

    def is_sleeping(self) -> bool:
        """Whether it sleeps, by its own word; raises as `sleep` does."""
        return bool(self._dev("GET", "/is_sleeping")["is_sleeping"])

    def generate(self, ask: Ask) -> Tokens:
        """Ask greedily for exactly as many tokens as the request wants.

        Raises
        ------
        BackendError: it does not answer, refuses, or gives other than it was asked for.
        UnavailableError: it sends text without token ids.
        """
        body = {
            "model": self.model, "prompt": list(ask.prompt_ids), "max_tokens": ask.new_tokens,
            "temperature": 0.0, "ignore_eos": True, "return_token_ids": True, "stream": True,
        }  # fmt: skip
        tokens: list[int] = []
        first_s, has_text = 0.0, False
        for event in self._events(body):
            choice = (event.get("choices") or [{}])[0]
            has_text = has_text or bool(choice.get("text"))
            found = choice.get("token_ids") or []
            if found and not tokens:
                first_s = perf_counter()
            tokens += found
        if not tokens and has_text:
            what = f"{self._name}: {self.url} sends text without its token ids"
            raise UnavailableError(f"{what}; run vLLM 0.10.2 or later")
        if len(tokens) != ask.new_tokens:
            what = f"{self._name}: {self.url} gave {len(tokens)} of {ask.new_tokens} tokens"
            raise BackendBroken(f"{what}; see the server's log")
        return Tokens(tuple(tokens), first_s)

    def _dev(self, method: str, path: str) -> Any:
        with self._response(method, path) as response:
            text = response.read()
            if response.status == 404:
                raise UnavailableError(
                    f"{self._name}: {self.url} has no {path.partition('?')[0]}; start it with "
                    "VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode"
                )
            self._check(response, text)
        try:
            return json.loads(text or b"null")
        except ValueError as exc:
            raise self._broken(f"no JSON from {path}: {text[:200]!r}") from exc

    def _events(self, body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        with self._response("POST", "/v1/completions", json.dumps(body)) as response:
            if response.status >= 400:
                self._check(response, response.read())
            parser = EventParser()
            while data := response.read1(_PIECE_BYTES):
                yield from map(self._event, parser.feed(data))
            yield from map(self._event, parser.close())

    def _event(self, event: bytes) -> Mapping[str, Any]:
        try:
            found = {} if event == _DONE else json.loads(event)
        except ValueError as exc:
            raise self._broken(f"no JSON: {event[:200]!r}") from exc
        if not isinstance(found, dict) or found.get("error"):
            raise self._broken(f"an error in the answer: {event[:500].decode(errors='replace')}")
        return found

    @contextmanager
    def _response(
        self, method: str, path: str, body: str | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(*self._where, timeout=self._timeout_s)
        try:
            self._connect(connection)
            headers = {"Content-Type": "application/json", "Connection": "close"}
            connection.request(method, self._root + path, body, headers)
            yield connection.getresponse()
        except TimeoutError as exc:
            text = f"{self._name}: no whole answer from {self.url} within {self._timeout_s:g} s"
            raise BackendTimeout(f"{text}; raise the deadline, or see the server's log") from exc
        except (OSError, http.client.HTTPException) as exc:
            raise self._broken(f"the answer broke off ({exc or type(exc).__name__})") from exc
        finally:
            connection.close()

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        try:
            connection.connect()
        except OSError as exc:
            text = f"{self._name}: no connection to {self.url} ({exc.strerror or exc})"
            raise BackendUnreachable(f"{text}; start the server") from exc

    def _check(self, response: http.client.HTTPResponse, text: bytes) -> None:
        if response.status >= 400:
            said = " ".join(text[:500].decode(errors="replace").split()) or response.reason
            kind = BackendBroken if response.status >= 500 else BackendRejected
            raise kind(f"{self._name}: {self.url} answered {response.status}: {said}; see the server's log")

    def _broken(self, what: str) -> BackendBroken:
        return BackendBroken(f"{self._name}: {self.url} gave no valid answer: {what}; see the server's log")
