"""PyTorch in this process, through the transformers library.

    TorchEngine               a model and the thread that runs it: submit a Job, get pieces and an Answered
    load, find                from a name to a model in memory
    Job, Outcome, Row         what is asked and what comes

`decoding` is the loop, `sampling` chooses tokens, `text` makes whole characters of them. Nothing here imports
torch until an engine starts.
"""

from __future__ import annotations

from harness.models.torch_engine.engine import Answered, EngineStopped, Ticket, TorchEngine
from harness.models.torch_engine.jobs import Job, Outcome, Piece, Refusal, Row
from harness.models.torch_engine.loading import DTYPES, find, load, require_torch

__all__ = [
    "DTYPES",
    "Answered",
    "EngineStopped",
    "Job",
    "Outcome",
    "Piece",
    "Refusal",
    "Row",
    "Ticket",
    "TorchEngine",
    "find",
    "load",
    "require_torch",
]
