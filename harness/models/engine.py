"""Answers of a pocket model through llama.cpp: greedy, one thread, in this process.

Only the model card needs this; the experiments go through `harness.backends`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Answer", "Engine"]

_CONTEXT = 512


class Answer(NamedTuple):
    """One greedy answer."""

    text: str
    confidence: float
    """The least probable token's log-probability; NaN when it was not asked for."""
    decode_ms: float
    """Time per token after the first, as the engine counted it; NaN for a single token."""


class Engine:
    """One loaded model. Use as a context manager; the engine stops when it is left."""

    def __init__(self, path: Path) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.n_ctx = _CONTEXT
        params.n_parallel = 1
        params.cpuparams.n_threads = 1
        params.cpuparams_batch.n_threads = 1
        params.verbosity = -1
        self._server: Any = xllamacpp.Server(params)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server = None

    def answer(
        self, prompt: str, *, max_tokens: int, with_confidence: bool = False, ignore_eos: bool = False
    ) -> Answer:
        """Answer one user's message greedily, in at most `max_tokens` tokens (exactly, past its end)."""
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "cache_prompt": False,
            "ignore_eos": ignore_eos,
        }
        if with_confidence:
            body |= {"logprobs": True, "top_logprobs": 1}
        reply = self._server.handle_chat_completions(body)
        choice = reply["choices"][0]
        logprobs = choice.get("logprobs")
        tokens = logprobs["content"] if logprobs else ()
        timings = reply["timings"]
        num_later = timings["predicted_n"] - 1
        return Answer(
            text=choice["message"]["content"] or "",
            confidence=min((token["logprob"] for token in tokens), default=math.nan),
            decode_ms=timings["predicted_ms"] / num_later if num_later else math.nan,
        )

    def answers(
        self, prompts: Sequence[str], *, max_tokens: int, with_confidence: bool = False
    ) -> list[Answer]:
        """Answer several messages, one after the other."""
        return [self.answer(p, max_tokens=max_tokens, with_confidence=with_confidence) for p in prompts]
