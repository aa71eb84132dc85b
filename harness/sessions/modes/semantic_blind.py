"""Nothing stays on the server that could: all weights go up before each token, keys and values both ways.

The server computes with what it was sent, so it must take weights (`--allow-weights`), and a model whose
weights can be replaced decodes slower: compare with `native` of that layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from harness.sessions.client import SessionClient
from harness.sessions.modes.base import Crossed
from harness.sessions.modes.partially_aware import PartiallyAware
from harness.sessions.protocol import Buffer

__all__ = ["SemanticBlind"]


class SemanticBlind(PartiallyAware):
    """Weights, keys and values cross for each token.

    Arguments: `weights`, the model's, by the names that the server has for them.
    """

    def __init__(self, client: SessionClient, weights: Mapping[str, Buffer]) -> None:
        super().__init__(client, both_ways=True)
        self._weights = weights
        self.weight_bytes = sum(memoryview(each).nbytes for each in weights.values())

    def _send_state(self, crossed: Crossed) -> None:
        began_s = perf_counter()
        self.client.put_weights(self._weights)
        crossed.crossing_s += perf_counter() - began_s
        crossed.weight_bytes += self.weight_bytes
