"""Weights, keys and values stay on the server: ids go up once, and each token's id comes down.

With logits, the row of scores that a token was chosen by comes down with it: what a client needs that
chooses for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from harness.sessions.client import ClientSession, SessionClient
from harness.sessions.modes.base import Crossed, Decoded

__all__ = ["Full"]

_AGAIN = 4
"""Tokens that a second turn brings, and decodes."""


class Full:
    """Sessions that stay, over one connection.

    Arguments: `wants_logits`, have them sent with each token; `goes_on`, after the timed turn ask for a
    second one, to count what the server reuses; it is in no time and in no bytes.
    """

    def __init__(self, client: SessionClient, *, wants_logits: bool = False, goes_on: bool = False) -> None:
        self.client = client
        self._wants_logits = wants_logits
        self._goes_on = goes_on

    def decode(self, prompt: Sequence[int], num_new: int) -> Decoded:
        """Decode in a fresh session.

        Raises
        ------
        BackendError: the server is gone, or refused; BudgetError where that was for want of memory.
        """
        client = self.client
        up, down = client.bytes_sent, client.bytes_received
        began_s = perf_counter()
        session = client.open(len(prompt) + num_new + (2 * _AGAIN if self._goes_on else 0))
        found = session.generate(prompt, max_new_tokens=num_new, want_logits=self._wants_logits)
        before = client.bytes_sent, client.bytes_received
        gap = _reuse_gap(session, prompt, num_new) if self._goes_on else None
        up, down = up + client.bytes_sent - before[0], down + client.bytes_received - before[1]
        session.close()
        logits_bytes = sum(token.logits.nbytes for token in found.tokens if token.logits is not None)
        return Decoded(
            token_ids=tuple(found.token_ids),
            began_s=began_s,
            first_s=found.tokens[0].came_s,
            done_s=found.tokens[-1].came_s,
            queue_s=found.done.queue_s,
            compute_s=found.done.compute_s + found.done.transfer_s,
            bytes_up=client.bytes_sent - up,
            bytes_down=client.bytes_received - down,
            crossed=Crossed(logits_bytes=logits_bytes),
            remote_tokens=found.done.num_tokens,
            reuse_gap_tokens=gap,
        )


def _reuse_gap(session: ClientSession, prompt: Sequence[int], num_new: int) -> int:
    done = session.generate(prompt[:_AGAIN], max_new_tokens=_AGAIN).done
    # The last token was chosen and not yet computed.
    return abs((done.reused_tokens or 0) - (len(prompt) + num_new - 1))
