"""Traces as data: made by seed, read from a user's file."""

from harness.residency.traces.generate import (
    PUBLISHED_MIX,
    bursts,
    categorical,
    cycle,
    published,
    zipf,
    zipf_shares,
)
from harness.residency.traces.reading import committed, dumps, load
from harness.residency.traces.trace import Request, Trace

__all__ = [
    "PUBLISHED_MIX",
    "Request",
    "Trace",
    "bursts",
    "categorical",
    "committed",
    "cycle",
    "dumps",
    "load",
    "published",
    "zipf",
    "zipf_shares",
]
