"""The tokenizer: byte-level BPE learnt from the task families, every digit a token of its own.

It is trained once and shared by all models, so a token costs the same text everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.models.chat import CHAT_TEMPLATE, END_OF_TURN, SPECIAL_TOKENS
from harness.models.tasks import FAMILIES, examples

__all__ = ["VOCAB_SIZE", "build", "load", "save"]

VOCAB_SIZE = 1024

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_EXAMPLES_PER_FAMILY = 3000
_SEED = 0


def build() -> Any:
    """Train the tokenizer on training examples of every family; a `tokenizers.Tokenizer`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return tokenizer


def save(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer so that transformers loads it, chat template included."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=SPECIAL_TOKENS[0],
        bos_token=None,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(folder)


def load(folder: Path) -> Any:
    """Read the tokenizer of a checkpoint folder; a `tokenizers.Tokenizer`."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _corpus() -> Iterator[str]:
    yield from ("user\nassistant\nsystem\n",) * 50
    for family in FAMILIES.values():
        stream = examples(family, random.Random(f"tokenizer/{family.name}/{_SEED}"))
        for _ in range(_EXAMPLES_PER_FAMILY):
            example = next(stream)
            yield example.prompt
            yield example.target
