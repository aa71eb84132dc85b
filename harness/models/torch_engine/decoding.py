"""The decode loop: one prompt in, one or several answers out, a token per row and step.

The rows of a batch share one prefill; a row that ends leaves the batch. The keys and values of the last
single answer are kept, so that a prompt that begins like it can skip what both share; a prompt that does not
ask for this is computed whole.

Times are read after the chosen tokens have come to this process, which on a GPU means that the device is
done with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple

from harness.models.torch_engine.jobs import Job, Outcome, Refusal, Row
from harness.models.torch_engine.loading import Loaded
from harness.models.torch_engine.sampling import choose, generator
from harness.models.torch_engine.text import TextStream

__all__ = ["Decoder"]

OnText = Callable[[str, float], None]
"""Takes a piece of the answer and the time of the token that completed it."""


class _Kept(NamedTuple):
    tokens: list[int]
    cache: Any


class Decoder:
    """A loaded model and the keys and values of its last answer. For one thread."""

    def __init__(self, loaded: Loaded) -> None:
        import torch

        self._loaded = loaded
        self._forbidden = torch.tensor(loaded.eos_ids, dtype=torch.long, device=loaded.device)
        self._kept: _Kept | None = None

    def warm_up(self) -> None:
        """Compute one token, so that the first answer does not pay for what is set up once."""
        import torch

        with torch.inference_mode():
            self._forward([[0]], self._cache_for([])[0])

    def forget(self) -> None:
        """Drop the kept keys and values."""
        self._kept = None

    def run(self, job: Job, *, on_text: OnText, check: Callable[[], None]) -> Outcome:
        """Answer a job.

        Arguments: `on_text` sees the pieces of a single answer; `check` is called after each step, and stops
        the work by raising.

        Raises
        ------
        Refusal: the prompt cannot be rendered, is empty, or is too long for the model.
        """
        import torch

        began_s = perf_counter()
        prompt = self._loaded.encode(job)
        self._check_len(prompt, job)
        with torch.inference_mode():
            return self._decode(job, prompt, began_s, on_text, check)

    def _decode(
        self, job: Job, prompt: list[int], began_s: float, on_text: OnText, check: Callable[[], None]
    ) -> Outcome:
        cache, num_cached = self._cache_for(prompt if job.reuse_prefix else [])
        logits = self._forward([prompt[num_cached:]], cache)
        rows = [_Row(job, index, self._loaded.decode) for index in range(job.num)]
        if job.num > 1:
            cache.batch_repeat_interleave(job.num)
            logits = logits.expand(job.num, -1)
        live, first_s = rows, None
        while True:
            tokens, logprobs = self._choose(job, logits, live)
            now_s = perf_counter()
            first_s = now_s if first_s is None else first_s
            for index, row in enumerate(live):
                piece = row.take(tokens[index], logprobs and logprobs[index], self._loaded.eos_ids)
                if piece and job.num == 1:
                    on_text(piece, now_s)
            check()
            going = [index for index, row in enumerate(live) if row.finish_reason is None]
            if not going:
                break
            if len(going) < len(live):
                cache.batch_select_indices(self._tensor(going))
                live = [live[index] for index in going]
            logits = self._forward([[tokens[index]] for index in going], cache)
        if job.num == 1:
            # The last token was chosen and never computed.
            self._kept = _Kept(prompt + rows[0].tokens[:-1], cache)
        return Outcome(
            rows=tuple(row.result() for row in rows),
            prompt_tokens=len(prompt),
            cached_tokens=num_cached,
            prefill_s=first_s - began_s,
            decode_s=now_s - first_s,
        )

    def _cache_for(self, prompt: list[int]) -> tuple[Any, int]:
        """Keys and values to begin with, and how many of the prompt's tokens they hold."""
        from transformers import DynamicCache

        kept, self._kept = self._kept, None
        if kept is not None and prompt and kept.cache.is_croppable and not any(kept.cache.is_sliding):
            # The last token is computed always: its logits are needed.
            shared = min(_shared_len(kept.tokens, prompt), len(prompt) - 1)
            if shared > 0:
                kept.cache.crop(shared - len(kept.tokens))
                return kept.cache, shared
        return DynamicCache(config=self._loaded.model.config), 0

    def _forward(self, tokens: list[list[int]], cache: Any) -> Any:
        output = self._loaded.model(
            input_ids=self._tensor(tokens), past_key_values=cache, use_cache=True, **self._loaded.last_logits
        )
        return output.logits[:, -1]

    def _choose(self, job: Job, logits: Any, live: Sequence[_Row]) -> Any:
        return choose(
            logits,
            temperature=job.temperature,
            top_p=job.top_p,
            draws=[row.draws for row in live],
            forbidden=self._forbidden if job.ignore_eos else None,
            logprobs=job.logprobs,
        )

    def _tensor(self, values: Any) -> Any:
        import torch

        return torch.tensor(values, dtype=torch.long, device=self._loaded.device)

    def _check_len(self, prompt: list[int], job: Job) -> None:
        if not prompt:
            raise Refusal("the prompt has no tokens; send at least one")
        limit = self._loaded.max_positions
        if limit is not None and len(prompt) + job.max_tokens > limit:
            what = f"a prompt of {len(prompt)} tokens and an answer of {job.max_tokens}"
            raise Refusal(
                f"{what} exceed the model's context of {limit}; shorten the prompt or lower max_tokens"
            )


class _Row:
    """One answer in the making."""

    __slots__ = ("_job", "_logprobs", "_text", "draws", "finish_reason", "tokens")

    def __init__(self, job: Job, index: int, decode: Callable[[Sequence[int]], str]) -> None:
        self._job = job
        self._text = TextStream(decode, job.stop)
        self._logprobs: list[float] = []
        self.tokens: list[int] = []
        self.draws = generator(job.seed, index)
        self.finish_reason: str | None = None

    def take(self, token: int, logprob: float | None, eos_ids: Sequence[int]) -> str:
        """Add a token; the piece of text that it completes."""
        self.tokens.append(token)
        if token in eos_ids:
            self.finish_reason = "stop"
            return self._text.finish()
        if logprob is not None:
            self._logprobs.append(logprob)
        piece = self._text.push(token)
        if not self._text.is_stopped and len(self.tokens) == self._job.max_tokens:
            self.finish_reason = "length"
            piece += self._text.finish()
        if self._text.is_stopped:
            self.finish_reason = "stop"
        return piece

    def result(self) -> Row:
        logprobs = self._logprobs[: self._text.num_tokens_of_text]
        return Row(
            text=self._text.text,
            finish_reason=str(self.finish_reason),
            num_tokens=len(self.tokens),
            logprobs=tuple(logprobs) if self._job.logprobs else None,
        )


def _shared_len(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
