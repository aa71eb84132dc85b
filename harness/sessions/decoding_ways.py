"""How decode steps can be run, by name: what a command line offers is what the engine knows."""

from __future__ import annotations

__all__ = ["WAYS"]

WAYS = ("slab-by-slab", "kernels", "graphs")
"""With a request to the device for each session and layer, for each layer, and with one in all."""
