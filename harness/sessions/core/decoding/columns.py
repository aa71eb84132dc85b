"""What a row of the table says of a session: read by kernels, written without them."""

from __future__ import annotations

__all__ = ["ADDRESS", "CAPACITY", "NUM_COLUMNS", "POSITION", "TOKEN"]

TOKEN = 0
"""The one that is new."""
POSITION = 1
"""Where it stands: as many tokens are before it."""
ADDRESS = 2
"""Of the slab's first byte."""
CAPACITY = 3
"""Tokens that the slab has room for."""
NUM_COLUMNS = 4
