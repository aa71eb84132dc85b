"""Asking a server whether it is there and what it serves, by plain HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable

__all__ = ["served_models", "serving_engine", "wait_until_answering"]

_PAUSE_S = 0.05
_ATTEMPT_S = 5.0
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


def served_models(url: str, *, api_key: str | None = None, timeout_s: float = _ATTEMPT_S) -> list[str]:
    """The models that the server at this root names, in its order.

    Raises
    ------
    OSError: it did not answer.
    ValueError: its answer was no list of models.
    """
    answer = json.loads(_get(f"{url}/v1/models", timeout_s, api_key))
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
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key.strip()}"}
    # A proxy meant for the internet must not come between a benchmark and its server.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=timeout_s) as response:
            body: bytes = response.read()
            return body
    except urllib.error.HTTPError as exc:
        # A refusal is a response too, and holds its connection.
        exc.close()
        raise


def _root(exc: Exception) -> object:
    reason = getattr(exc, "reason", exc)
    return getattr(reason, "strerror", None) or reason
