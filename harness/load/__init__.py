"""Offers work at a rate and counts what came of it."""

from harness.load.arrivals import poisson
from harness.load.goodput import LoadPoint, Served, summarize
from harness.load.open_loop import Offered, offer

__all__ = ["LoadPoint", "Offered", "Served", "offer", "poisson", "summarize"]
