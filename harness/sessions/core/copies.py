"""Bytes that cross between this machine's memory and the accelerator's, counted where they are copied.

Ids and positions go up for each step, chosen ids and wanted logits come down; keys and values cross when they
are offloaded, restored, read or written, and weights when they are replaced. On a CPU both memories are one:
nothing crosses, and the counts are None.
"""

from __future__ import annotations

import torch

__all__ = ["Copies"]


class Copies:
    """Two counts since the start."""

    __slots__ = ("_down_bytes", "_is_counted", "_up_bytes")

    def __init__(self, device: torch.device) -> None:
        self._is_counted = device.type != "cpu"
        self._up_bytes = self._down_bytes = 0

    def up(self, num_bytes: int) -> None:
        """So many more went to the device."""
        self._up_bytes += num_bytes

    def down(self, num_bytes: int) -> None:
        """So many more came from the device."""
        self._down_bytes += num_bytes

    @property
    def up_bytes(self) -> int | None:
        """To the device; None where there is none."""
        return self._up_bytes if self._is_counted else None

    @property
    def down_bytes(self) -> int | None:
        """From the device; None where there is none."""
        return self._down_bytes if self._is_counted else None
