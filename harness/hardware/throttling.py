"""Why a GPU's clocks are held back, as NVML's bits say it.

A reading is a mask of reasons that hold at that moment. Some are no trouble: an idle device clocks down, and
one that was told its clocks keeps them. The others mean that what was measured then is slower than what the
device can do: power cap (ordinary for large matrix products), heat, and the power supply's brake.

Source: NVML API reference, `nvmlClocksEventReasons`; bits 9 and 10 are those of NVML 13's header.
"""

from __future__ import annotations

__all__ = ["REASONS", "held_back"]

REASONS = {
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "heat, by the driver",
    0x040: "heat, by the hardware",
    0x080: "power brake",
    0x200: "board limit",
    0x400: "reliability limit",
}
"""Bit → what holds the clocks back. Left out: idle (0x1), clocks that a user set (0x2), display (0x100)."""


def held_back(mask: int) -> tuple[str, ...]:
    """The reasons in a mask that make a measurement slower than the device; empty where there is none."""
    return tuple(word for bit, word in REASONS.items() if mask & bit)
