"""No server: the engine decodes in this process. The bound that every other mode is measured beside."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from harness.sessions.core import Engine, Turn
from harness.sessions.modes.base import Crossed, Decoded

__all__ = ["Native"]

_SESSION = "native"


class Native:
    """An engine that nobody else uses meanwhile.

    Arguments: `way`, an earlier one of `core.decoding.WAYS` than the engine's own to run decode steps.
    """

    def __init__(self, engine: Engine, *, way: str | None = None) -> None:
        self.engine = engine
        self._way = way

    def decode(self, prompt: Sequence[int], num_new: int) -> Decoded:
        """Decode in a fresh session.

        Raises
        ------
        BudgetError: there is no room for the session.
        UsageError: a token that the model lacks, or more of them than a session holds.
        UnavailableError: the way that was asked for is not before the engine's own.
        """
        if self._way is None:
            return self._decode(prompt, num_new)
        with self.engine.slowed(self._way):
            return self._decode(prompt, num_new)

    def _decode(self, prompt: Sequence[int], num_new: int) -> Decoded:
        engine, events, first_s = self.engine, [], None
        began_s = perf_counter()
        engine.open(_SESSION, len(prompt) + num_new)
        try:
            engine.submit(Turn(_SESSION, prompt, num_new))
            while not engine.is_idle:
                events += engine.step()
                if first_s is None and events:
                    first_s = perf_counter()
            done_s = perf_counter()
        finally:
            engine.close(_SESSION)
        return Decoded(
            token_ids=tuple(event.token_id for event in events),
            began_s=began_s,
            first_s=first_s,
            done_s=done_s,
            queue_s=sum(event.timings.queue_s for event in events),
            compute_s=sum(event.timings.compute_s for event in events),
            crossed=Crossed(),
        )

    def logits(self, prompt: Sequence[int]) -> bytes:
        """The bits of the logits after a prompt: the same for the same weights in the same layout."""
        engine = self.engine
        engine.open(_SESSION, len(prompt) + 1)
        try:
            engine.submit(Turn(_SESSION, prompt, 1, want_logits=True))
            while not engine.is_idle:
                for event in engine.step():
                    return bytes(event.logits.numpy().tobytes())
        finally:
            engine.close(_SESSION)
        raise AssertionError("a turn that ended without a token")
