"""Asking a server whether it is there and what it serves, by plain HTTP.

A limit holds for the whole answer: the standard library's own is for each read, and so never reached by a
server that sends a byte now and then.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

__all__ = ["answer_of", "served_models", "serving_engine", "wait_until_answering"]

_PAUSE_S = 0.05
_ATTEMPT_S = 5.0
_PIECE_BYTES = 65536
_MOST_BYTES = 16 * 2**20
_OWNERS = {"sglang": "sglang", "vllm": "vllm", "llamacpp": "llama.cpp"}
_OLLAMA_GREETING = b"Ollama is running"


def wait_until_answering(
    url: str, deadline_s: float, *, api_key: str | None = None, give_up: Callable[[], bool] = lambda: False
) -> None:
    """Return when a GET of `url` is answered by anything but a server error (a loading server gives 503).

    Parameters
    ----------
    deadline_s: seconds to go on trying.
    give_up: asked between attempts; true ends the wait early.

    Raises
    ------
    TimeoutError: it was not, with the last attempt's reason as message.
    """
    ends_s = time.monotonic() + deadline_s
    while True:
        left_s = ends_s - time.monotonic()
        try:
            _get(url, max(0.1, min(_ATTEMPT_S, left_s)), api_key)
        except urllib.error.HTTPError as exc:
            if exc.code < 500:
                return
            reason = f"status {exc.code}"
        except (OSError, http.client.HTTPException, ValueError) as exc:
            reason = str(_root(exc)) or type(exc).__name__
        else:
            return
        if give_up() or time.monotonic() + _PAUSE_S > ends_s:
            raise TimeoutError(reason)
        time.sleep(_PAUSE_S)


def answer_of(url: str, *, api_key: str | None = None, timeout_s: float = _ATTEMPT_S) -> Any:
    """What a GET of `url` is answered with, as JSON.

    Raises
    ------
    OSError: it was not answered, or refused.
    ValueError: the answer is no JSON.
    """
    return json.loads(_get(url, timeout_s, api_key))


def served_models(url: str, *, api_key: str | None = None, timeout_s: float = _ATTEMPT_S) -> list[str]:
    """The models that the server at this root names, in its order.

    Raises
    ------
    OSError: it did not answer.
    ValueError: its answer was no list of models.
    """
    answer = answer_of(f"{url}/v1/models", api_key=api_key, timeout_s=timeout_s)
    try:
        # An Ollama without models says null.
        return [str(model["id"]) for model in answer["data"] or ()]
    except (KeyError, TypeError) as exc:
        raise ValueError(f"unexpected answer {str(answer)[:100]!r}") from exc


def serving_engine(url: str, *, api_key: str | None = None, timeout_s: float = _ATTEMPT_S) -> str | None:
    """The engine behind this root, by its own word; `None` when it does not say.

    SGLang, vLLM and llama.cpp name themselves as owner of the models they list; Ollama greets at its root,
    and so does SGLang, which speaks Ollama's API too: hence the owner is asked first.
    Source: `ModelCard.owned_by` in sglang/srt/entrypoints/openai/protocol.py and
    vllm/entrypoints/openai/protocol.py; llama.cpp tools/server; Ollama server/routes.go.
    """
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError, TypeError, IndexError):
        owner = json.loads(_get(f"{url}/v1/models", timeout_s, api_key))["data"][0]["owned_by"]
        if owner in _OWNERS:
            return _OWNERS[owner]
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        if _get(f"{url}/", timeout_s, api_key).strip() == _OLLAMA_GREETING:
            return "ollama"
    return None


def _get(url: str, timeout_s: float, api_key: str | None) -> bytes:
    """The answer's body, whole, within `timeout_s` for all of it."""
    ends_s = time.monotonic() + timeout_s
    answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_read(url, ends_s, api_key))
        except Exception as exc:
            answers.put(exc)

    # A daemon: one that is kept by a name server, or by headers that drip, holds up nobody.
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError("timed out") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _read(url: str, ends_s: float, api_key: str | None) -> bytes:
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key.strip()}"}
    # A proxy meant for the internet must not come between a benchmark and its server.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        left_s = max(0.1, ends_s - time.monotonic())
        with opener.open(urllib.request.Request(url, headers=headers), timeout=left_s) as response:
            return _body(response, ends_s)
    except urllib.error.HTTPError as exc:
        # A refusal is a response too, and holds its connection.
        exc.close()
        raise


def _body(response: http.client.HTTPResponse, ends_s: float) -> bytes:
    body, wanted = bytearray(), response.length
    while (wanted is None or len(body) < wanted) and (piece := response.read1(_PIECE_BYTES)):
        body += piece
        if len(body) > _MOST_BYTES:
            raise ValueError(f"its answer is longer than {_MOST_BYTES >> 20} MiB")
        if time.monotonic() > ends_s:
            raise TimeoutError("timed out")
    if wanted is not None and len(body) < wanted:
        raise http.client.IncompleteRead(bytes(body), wanted - len(body))
    return bytes(body)


def _root(exc: Exception) -> object:
    reason = getattr(exc, "reason", exc)
    return getattr(reason, "strerror", None) or reason
