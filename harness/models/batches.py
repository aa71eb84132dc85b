"""Batches of training examples: a fresh draw for every step, sorted by length into full rectangles."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.models import chat
from harness.models.tasks import FAMILIES, examples

__all__ = ["Batch", "stream"]

_POOL = 768
"""Conversations drawn at a time; the larger, the less padding."""
_IGNORED = -100
"""The label that the loss leaves out."""


class Batch(NamedTuple):
    """Token ids [batch, length], and the label of each position: the next token, if it is learnt."""

    tokens: Tensor
    labels: Tensor


class _Sequence(NamedTuple):
    tokens: list[int]
    is_learnt: list[bool]


def stream(tokenizer: Any, mix: dict[str, float], *, seed: str, max_tokens: int) -> Iterator[Batch]:
    """Yield batches of at most `max_tokens` tokens without end; the seed decides them all."""
    rng = random.Random(seed)
    sources = {name: examples(FAMILIES[name], rng) for name in mix}
    while True:
        names = rng.choices(list(mix), list(mix.values()), k=_POOL)
        pool = _tokenize(tokenizer, [_turns(next(sources[name])) for name in names])
        batches = list(_rectangles(pool, max_tokens))
        rng.shuffle(batches)
        yield from map(_to_batch, batches)


def _turns(example: Any) -> list[tuple[str, str]]:
    return [(example.prompt, example.target), *example.follow_ups]


def _tokenize(tokenizer: Any, conversations: list[list[tuple[str, str]]]) -> list[_Sequence]:
    pieces = [chat.transcript(turns) for turns in conversations]
    texts = [text for conversation in pieces for pair in conversation for text in pair]
    encoded = iter([encoding.ids for encoding in tokenizer.encode_batch_fast(texts)])
    sequences = []
    for conversation in pieces:
        sequence = _Sequence([], [])
        for _ in conversation:
            for is_learnt in (False, True):
                ids = next(encoded)
                sequence.tokens.extend(ids)
                sequence.is_learnt.extend([is_learnt] * len(ids))
        sequences.append(sequence)
    return sequences


def _rectangles(pool: list[_Sequence], max_tokens: int) -> Iterator[list[_Sequence]]:
    rows: list[_Sequence] = []
    for sequence in sorted(pool, key=lambda sequence: len(sequence.tokens)):
        if rows and len(sequence.tokens) * (len(rows) + 1) > max_tokens:
            yield rows
            rows = []
        rows.append(sequence)
    yield rows


def _to_batch(rows: list[_Sequence]) -> Batch:
    length = max(len(row.tokens) for row in rows)
    tokens = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), length), _IGNORED)
    for place, row in enumerate(rows):
        ids = torch.tensor(row.tokens)
        tokens[place, : len(ids)] = ids
        learnt = torch.where(torch.tensor(row.is_learnt), ids, _IGNORED)
        labels[place, : len(ids) - 1] = learnt[1:]
    return Batch(tokens, labels)
