"""A session engine with a tiny model, run to its end, for the tests of the engine, on every device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.sessions.core import Engine, Event, Model, Turn
from harness.sessions.core.loading import random_llama

__all__ = ["DEVICES", "VOCAB_SIZE", "ask", "run", "tiny_model", "tokens"]

VOCAB_SIZE = 97
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(
                not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a PyTorch built with CUDA"
            ),
        ],
    ),
]
"""Where the same tests are run: what holds on a processor holds on a GPU."""


def tiny_model(device: str = "cpu", dtype: torch.dtype = torch.float64) -> Model:
    """In double precision, so that no tie between two tokens is decided by rounding."""
    donor = random_llama(
        2,
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
    )
    return Model.from_transformers("tiny", donor.to(device, dtype))


def run(engine: Engine, limit: int = 500) -> list[Event]:
    events: list[Event] = []
    for _ in range(limit):
        if engine.is_idle:
            return events
        events += engine.step()
    raise AssertionError(f"not idle after {limit} steps: {engine.stats()}")


def ask(engine: Engine, session_id: str, tokens: list[int], num: int, **more: Any) -> list[Event]:
    turn_id = engine.submit(Turn(session_id, tokens, num, **more))
    return [event for event in run(engine) if event.turn_id == turn_id]


def tokens(events: list[Event]) -> list[int]:
    return [event.token_id for event in events]
