"""Decode steps on a GPU: sessions' slabs read by one kernel, and whole steps replayed.

decoder      what the model asks: which steps, in which batch sizes
rows         the sessions of a step, and attention over their slabs
kernels      the same in Triton
recorders    a step asked for each time, or recorded once as a CUDA graph
chosen       whether a model's steps are run so here, and if not, why
"""

from __future__ import annotations

from harness.sessions.core.decoding.decoder import Decoder
from harness.sessions.core.decoding.ways import Way, check_way, way_of

__all__ = ["Decoder", "Way", "check_way", "way_of"]
