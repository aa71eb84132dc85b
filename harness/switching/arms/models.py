"""Which model a request is for."""

from __future__ import annotations

from collections.abc import Collection

from harness.errors import UsageError

__all__ = ["require_model"]


def require_model(name: str, models: Collection[str]) -> None:
    """Raise UsageError if the name is not among them."""
    if name not in models:
        raise UsageError(f"model {name!r}: not in this setting; it has {', '.join(models)}")
