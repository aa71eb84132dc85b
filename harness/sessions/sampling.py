"""How a turn's tokens are chosen where they are not the likeliest: as client, wire and engine have it.

A turn has a generator of its own, seeded by what it asks for: its tokens hang on the session's text, on these
three numbers and on nothing else that runs. One number is drawn for each token.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Sampling"]

_MAX_TEMPERATURE = 100.0
_MAX_SEED = 2**64 - 1


class Sampling(NamedTuple):
    """Draw from the tempered and truncated distribution; on the wire an array of these."""

    temperature: float
    """What logits are divided by; 0 chooses the likeliest."""
    top_p: float = 1.0
    """The likeliest tokens whose shares first reach this are drawn from (Holtzman et al., 2020)."""
    seed: int = 0

    def trouble(self) -> str | None:
        """What makes no sense in it, and what would; None where nothing does."""
        # Written so that NaN fails.
        if not 0 <= self.temperature <= _MAX_TEMPERATURE:
            return f"temperature {self.temperature}; give 0 to {_MAX_TEMPERATURE:g}"
        if not 0 < self.top_p <= 1:
            return f"top_p {self.top_p}; give more than 0, at most 1"
        if not 0 <= self.seed <= _MAX_SEED:
            return f"seed {self.seed}; give 0 to 2⁶⁴ − 1"
        return None
