"""Short traces for the tests of switching: on the minis, behind a link that is fast enough for a test."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from harness.residency.traces import categorical
from harness.switching.base import Ask
from harness.switching.setting import POCKET_MODELS, Setting

LINK_BYTES_PER_S = 2e9


def setting(**changes: Any) -> Setting:
    return Setting(**{"link_bytes_per_s": LINK_BYTES_PER_S, **changes})


def asks(num: int, *, seed: int = 3, models: Sequence[str] = POCKET_MODELS, new_tokens: int = 2) -> list[Ask]:
    """Requests of the published mix, each with a prompt of its own."""
    draw = Random(seed)
    trace = categorical(models, [0.4, 0.4, 0.2][: len(models)], num, seed=seed)
    return [
        Ask(
            model=request.model,
            prompt_ids=tuple(draw.randrange(512) for _ in range(8)),
            new_tokens=new_tokens,
        )
        for request in trace.requests
    ]
