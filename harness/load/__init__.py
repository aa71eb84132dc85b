"""Offers work at a rate and counts what came of it."""

from harness.load.arrivals import poisson
from harness.load.goodput import LoadPoint, summarize
from harness.load.open_loop import offer

__all__ = ["LoadPoint", "offer", "poisson", "summarize"]
