"""What a running server says of where its model is from: the folder or name it was started on, and how.

vLLM tells the path as `root` of the models it lists, and in dev mode its configuration; SGLang tells path and
load format; llama.cpp its file. `--load-format dummy` of the first two is random weights under any name.

Source: vllm/entrypoints/openai/models/serving.py (`ModelCard.root`), vllm/entrypoints/serve/dev/server_info,
at 0.32; sglang/srt/entrypoints/http_server.py (`/model_info`, `/server_info`) at 0.5.23, whose older versions
call them `/get_…`; llama.cpp tools/server/README.md (`/props`).

No run hangs on an engine's own question: silence is told in a warning, and counts as nothing said. The list
of models is asked for as by every client.
"""

from __future__ import annotations

import http.client
import urllib.error
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.errors import LaunchError
from harness.launchers.probe import answer_of

__all__ = ["Origin", "origin_of"]

_LIMIT_S = 60.0
"""For the list of models."""
_COURTESY_S = 5.0
"""For each question of an engine's own."""
_SAID_BY: Mapping[str | None, tuple[str, ...]] = {
    "vllm": ("/server_info?config_format=json",),
    "sglang": ("/server_info", "/get_server_info", "/model_info", "/get_model_info"),
    "llama.cpp": ("/props",),
}


class Origin(NamedTuple):
    """What a server was started on, by its own word."""

    names: tuple[str, ...] = ()
    """Folders, files or names, each once."""
    load_format: str | None = None


def origin_of(
    url: str, model: str, engine: str | None, *, name: str = "server", api_key: str | None = None
) -> Origin:
    """What the server at this root tells of a model that it serves.

    Arguments: `engine`, as it calls itself; `name`, the role's, for errors.

    Raises
    ------
    LaunchError: it did not list its models in time. One that does not know the question has answered.
    """
    try:
        listed = _asked(f"{url}/v1/models", _LIMIT_S, api_key)
    except (OSError, http.client.HTTPException) as exc:
        what = f"{url}/v1/models did not say within {_LIMIT_S:g} s what {model} is ({exc})"
        raise LaunchError(f"{name}: {what}; see whether the server is well") from exc
    names, load_format = _of_cards(listed, model), None
    silent = []
    for path in _SAID_BY.get(engine, ()):
        try:
            found = _read(_asked(url + path, _COURTESY_S, api_key))
        except (OSError, http.client.HTTPException) as exc:
            silent.append(f"{path}: {exc}")
            continue
        names += found.names
        load_format = load_format or found.load_format
        if found.load_format is not None and found.names:
            break
    else:
        if silent:
            _warn(f"{name}: {url}", model, silent)
    return Origin(tuple(dict.fromkeys(names)), load_format)


def _asked(url: str, limit_s: float, api_key: str | None) -> Any:
    """The answer; None where the question is not known, not ours to ask, or answered in no known form."""
    try:
        return answer_of(url, timeout_s=limit_s, api_key=api_key)
    except (urllib.error.HTTPError, ValueError):
        return None


def _warn(who: str, model: str, silent: list[str]) -> None:
    what = f"{who} did not say what {model} was started on ({'; '.join(silent)})"
    remedy = "say it with ?weights=random or ?weights=trained; it counts as trained where nothing else tells"
    warnings.warn(f"{what}: {remedy}", stacklevel=3)


def _of_cards(answer: Any, model: str) -> tuple[str, ...]:
    """Roots of the model's card, and of what it is an adapter of."""
    listed = answer.get("data") if isinstance(answer, dict) else None
    cards = {str(one.get("id")): one for one in listed or () if isinstance(one, dict)}
    found, asked = [], model
    while asked in cards:
        card = cards.pop(asked)
        found.append(card.get("root"))
        asked = str(card.get("parent"))
        found.append(asked if card.get("parent") else None)
    return tuple(one for one in found if isinstance(one, str) and one)


def _read(answer: Any) -> Origin:
    """The fields of any of the answers, wherever they stand."""
    whole = answer if isinstance(answer, dict) else {}
    config = whole.get("vllm_config")
    parts = config if isinstance(config, dict) else {}
    loading, model = (parts.get(key) for key in ("load_config", "model_config"))
    places = [one for one in (whole, loading, model) if isinstance(one, dict)]
    names = [one.get(key) for one in places for key in ("model_path", "model")]
    formats = [one["load_format"] for one in places if isinstance(one.get("load_format"), str)]
    return Origin(tuple(one for one in names if isinstance(one, str) and one), next(iter(formats), None))
