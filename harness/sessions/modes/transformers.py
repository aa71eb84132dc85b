"""The transformers library's own greedy `generate`, on the same weights: what one would use without a server.

It tells nothing of where its time went, and nothing of the first token unless it is made to call back.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib import import_module
from time import perf_counter
from typing import Any

import torch

from harness.sessions.modes.base import Crossed, Decoded
from harness.sessions.modes.batched import Batched

__all__ = ["Generate", "GenerateBatch"]


class Generate:
    """One prompt at a time."""

    def __init__(self, model: Any) -> None:
        """Take a causal model as transformers loads it."""
        self.model = model

    def decode(self, prompt: Sequence[int], num_new: int) -> Decoded:
        """Decode just so many tokens, whatever they are."""
        with torch.inference_mode():
            began_s = perf_counter()
            ids = torch.tensor([list(prompt)], device=self.model.device)
            found = _generate(self.model, ids, num_new)[0, len(prompt) :].tolist()
            done_s = perf_counter()
        return Decoded(
            token_ids=tuple(found), began_s=began_s, first_s=None, done_s=done_s, crossed=Crossed()
        )

    def logits(self, prompt: Sequence[int]) -> torch.Tensor:
        """float32 [vocab_size] after a prompt."""
        with torch.inference_mode():
            ids = torch.tensor([list(prompt)], device=self.model.device)
            row: torch.Tensor = self.model(ids).logits[0, -1].float().cpu()
            return row


class GenerateBatch:
    """Prompts of one length at once; as with `batched.Batch`, only what follows the first token is timed."""

    def __init__(
        self, model: Any, prompts: Sequence[Sequence[int]], firsts: Sequence[int], num_new: int
    ) -> None:
        """Compute the prompts. `firsts`, the token that follows each of them."""
        self._model, self._num_new = model, num_new
        self._ids = torch.tensor([[*p, f] for p, f in zip(prompts, firsts, strict=True)], device=model.device)
        cache = import_module("transformers").DynamicCache(config=model.config)
        with torch.inference_mode():
            model(self._ids[:, :-1], past_key_values=cache, use_cache=True)
        self._computed = cache
        self._cache = copy.deepcopy(cache)

    def rewind(self) -> None:
        """Have the cache hold the prompts alone."""
        self._cache = copy.deepcopy(self._computed)

    def together(self) -> Batched:
        """Decode all at once."""
        with torch.inference_mode():
            began_s = perf_counter()
            found = _generate(self._model, self._ids, self._num_new, past_key_values=self._cache)
            rows = found[:, self._ids.shape[1] :].tolist()
            return Batched(tuple(map(tuple, rows)), perf_counter() - began_s)


def _generate(model: Any, ids: torch.Tensor, num_new: int, **cache: Any) -> torch.Tensor:
    """Greedy, and just so many tokens: no token ends it."""
    found: torch.Tensor = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=num_new,
        min_new_tokens=num_new, pad_token_id=0, **cache,
    )  # fmt: skip
    return found
