"""Names beside points, moved until none covers a point or another name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Label", "Segment", "place"]

DIRECTIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (0, 1), (0, -1), (-1, 0))
RADII = (5, 9, 14, 22, 32, 44, 58, 74, 92)
MARKER = 5.0
STROKE = 4.0
"""How wide a line counts when names avoid it, in points; as much room as half a letter."""
LEADER = 12
"""Points of distance from which a line leads from the name to its point."""


class Label(NamedTuple):
    """A name and the point that it belongs to, in data coordinates."""

    text: str
    x: float
    y: float
    colour: str


class Segment(NamedTuple):
    """A line that names should leave free, in data coordinates."""

    x0: float
    y0: float
    x1: float
    y1: float


class Box(NamedTuple):
    """A rectangle in pixels."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlap(self, other: Box) -> float:
        """The area shared with `other`."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(0.0, width) * max(0.0, height)

    def outside(self, frame: Box) -> float:
        """How far this sticks out of `frame`."""
        return sum(
            max(0.0, d)
            for d in (frame.x0 - self.x0, frame.y0 - self.y0, self.x1 - frame.x1, self.y1 - frame.y1)
        )


def place(axes: Axes, labels: Sequence[Label], segments: Sequence[Segment] = (), size: float = 8.5) -> None:
    """Write each label at the nearest place around its point that covers no point, no name and no segment.

    Call when the axes have their final size. `segments` are horizontal or vertical lines.
    """
    scale = axes.figure.dpi / 72
    pixels = [axes.transData.transform((label.x, label.y)) for label in labels]
    reach = MARKER * scale
    taken = [Box(x - reach, y - reach, x + reach, y + reach) for x, y in pixels]
    taken += [_around(axes, segment, STROKE * scale / 2) for segment in segments]
    bounds = axes.get_window_extent()
    frame = Box(bounds.x0, bounds.y0, bounds.x1, bounds.y1)
    for label, (x, y) in zip(labels, pixels, strict=True):
        width, height = _size(axes, label.text, size)
        spots = [_spot(x, y, dx, dy, r * scale, width, height) for r in RADII for dx, dy in DIRECTIONS]
        costs = [
            sum(box.overlap(other) for other in taken) + 1e4 * box.outside(frame) + rank * 1e-3
            for rank, box in enumerate(spots)
        ]
        rank = costs.index(min(costs))
        taken.append(spots[rank])
        _write(axes, label, spots[rank], is_far=RADII[rank // len(DIRECTIONS)] > LEADER, size=size)


def _around(axes: Axes, segment: Segment, reach: float) -> Box:
    (x0, y0), (x1, y1) = axes.transData.transform([segment[:2], segment[2:]])
    return Box(min(x0, x1) - reach, min(y0, y1) - reach, max(x0, x1) + reach, max(y0, y1) + reach)


def _size(axes: Axes, text: str, size: float) -> tuple[float, float]:
    probe = axes.text(0, 0, text, fontsize=size)
    box = probe.get_window_extent()
    probe.remove()
    return box.width + 4, box.height + 3


def _spot(x: float, y: float, dx: int, dy: int, radius: float, width: float, height: float) -> Box:
    x0 = x + dx * radius - (width if dx < 0 else width / 2 if dx == 0 else 0)
    y0 = y + dy * radius - (height if dy < 0 else height / 2 if dy == 0 else 0)
    return Box(x0, y0, x0 + width, y0 + height)


def _write(axes: Axes, label: Label, box: Box, *, is_far: bool, size: float) -> None:
    from matplotlib.patheffects import withStroke

    back = axes.transData.inverted()
    x, y = back.transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
    arrow = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
    axes.annotate(
        label.text,
        (label.x, label.y),
        (x, y),
        ha="center",
        va="center",
        fontsize=size,
        color=label.colour,
        arrowprops=arrow if is_far else None,
        zorder=5,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )
