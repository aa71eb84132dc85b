"""What a server that we started must show, beyond an answer, before it is handed over: its model."""

from __future__ import annotations

from harness.errors import UnavailableError
from harness.launchers.probe import served_models

__all__ = ["started_model"]


def started_model(name: str, url: str, model: str | None, fetch: str) -> str:
    """The model's name, asked for where unknown, and looked for where it may have to be fetched.

    Parameters
    ----------
    model: the name as far as it is known.
    fetch: the line that fetches a model that the server does not list; empty does not look.

    Raises
    ------
    UnavailableError: the server has no such model; the message is that line.
    OSError, ValueError, LookupError: it gives no list of models, or an empty one.
    """
    if model is not None and not fetch:
        return model
    served = served_models(url)
    if model is None:
        return served[0]
    # Ollama takes a name without a tag for the latest.
    if not {model, f"{model}:latest"} & set(served):
        raise UnavailableError(f"{name}: the server has no model {model}: {fetch}")
    return model
