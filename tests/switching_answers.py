"""Answers by arithmetic, for the tests of what is made of them."""

from __future__ import annotations

from typing import Any

from fixtures.switching_values import Played, Resting
from harness.residency.layout import ModelLayout
from harness.residency.traces import Request, Trace
from harness.switching.base import Answer, Ask

SIZES = {"a": 640, "b": 320}
LAYOUTS = {name: ModelLayout.of_layers(name, 5, size) for name, size in SIZES.items()}
RESTING = Resting(SIZES, 640, is_warm=False)


def answer(model: str = "a", began_s: float = 10.0, **changes: Any) -> Answer:
    """Its turn at 10 s, blocked for 2 s, the first token after 3 and the second after another."""
    usual: dict[str, Any] = {
        "model": model, "token_ids": (7, 8), "is_hit": False,
        "began_s": began_s, "first_token_s": began_s + 3, "done_s": began_s + 4,
        "switch_s": 2.0, "plan_s": 0.5, "bind_s": 0.25, "wait_s": 1.25,
        "bytes_in": SIZES[model], "ahead_bytes": 0, "bytes_out": 0, "evicted_bytes": 0, "needed_bytes": 0,
        "copied_s": (began_s, began_s + 2), "ahead_s": None,
    }  # fmt: skip
    return Answer(**{**usual, **changes})


HIT = {"is_hit": True, "bytes_in": 0, "copied_s": None, "switch_s": 0.0}


def played(*answers: Answer, **changes: Any) -> Played:
    """A trace that was answered so."""
    requests = tuple(Request(float(at), one.model, 3, 2) for at, one in enumerate(answers))
    asks = [Ask(model=one.model, prompt_ids=(1, 2, 3), new_tokens=2) for one in answers]
    usual: dict[str, Any] = {
        "seed": 0, "trace": Trace(name="t", source="test", requests=requests), "asks": asks,
        "answers": answers, "pid": 100,
    }  # fmt: skip
    return Played(**{**usual, **changes})
