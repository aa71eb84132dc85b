"""A trace: which model is asked for, when, and for how much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from harness.errors import UsageError

__all__ = ["Request", "Trace"]


class Request(NamedTuple):
    """One request of a trace."""

    at_s: float
    """Since the trace began."""
    model: str
    prompt_tokens: int
    output_tokens: int
    think_s: float = 0.0
    """A user's pause after the answer, where one is recorded."""
    prompt: str | None = None
    """What is asked, where a user says so."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Requests in the order of their arrival."""

    name: str
    source: str
    requests: tuple[Request, ...]

    def __post_init__(self) -> None:
        if not self.requests:
            raise UsageError(f"trace {self.name}: no requests; give at least one")
        times = [request.at_s for request in self.requests]
        if times[0] < 0 or any(later < earlier for earlier, later in pairwise(times)):
            raise UsageError(f"trace {self.name}: times fall; order the requests by at_s, from 0 on")

    @cached_property
    def models(self) -> tuple[str, ...]:
        """Whose turn it is, request by request."""
        return tuple(request.model for request in self.requests)

    @property
    def counts(self) -> Counter[str]:
        """Requests per model."""
        return Counter(self.models)

    def renamed(self, names: Mapping[str, str]) -> Trace:
        """The same trace for other models.

        Raises
        ------
        UsageError: a model has no new name.
        """
        for model in self.counts:
            if model not in names:
                raise UsageError(f"trace {self.name}: no name for {model}; name {', '.join(self.counts)}")
        return replace(self, requests=tuple(r._replace(model=names[r.model]) for r in self.requests))
