"""What all figures share: their style, the frame of title, scope and notes, and the writer.

Files are a function of their data: SVG ids are salted with a constant, no date and no version is written,
text is drawn as paths, and nothing depends on fonts beyond the one that matplotlib brings along.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["GREY", "INK", "PALETTE", "WIDTH", "empty", "frame", "labels", "save", "style"]

WIDTH = 10.0
"""Inches; heights follow from the rows."""
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A7A7A")
"""Okabe and Ito's colours, told apart by colour-blind readers, without the yellow that fades on white."""
INK = "#1a1a1a"
GREY = "#666666"
LINE = 0.17
"""Inches per line of small text."""
CHARACTERS = 140
"""Characters of small text on a line of `WIDTH`."""

STYLE: dict[str, Any] = {
    "svg.hashsalt": "assay",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 150,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


@contextmanager
def style() -> Iterator[None]:
    """matplotlib with our settings and a backend that needs no display."""
    import matplotlib
    from matplotlib import style as mpl_style

    before = matplotlib.rcParams["backend"]
    with matplotlib.rc_context(), mpl_style.context(["default", STYLE]):
        yield
    matplotlib.rcParams["backend"] = before


def frame(height: float, title: str, scope: str, notes: Sequence[str] = ()) -> tuple[Figure, Any]:
    """A figure whose axes have `height` inches, its title and scope above and its notes beneath.

    Returns
    -------
    The figure and a subfigure for the axes, which lays itself out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heading = textwrap.wrap(title, 96) or [""]
    above = [line for part in scope.split("\n") for line in textwrap.wrap(part, CHARACTERS)]
    beneath = [line for note in notes for line in textwrap.wrap(note, CHARACTERS, subsequent_indent="  ")]
    top = 0.12 + 0.24 * len(heading) + LINE * len(above) + 0.12
    bottom = 0.1 + LINE * len(beneath) + 0.05
    whole = top + height + bottom
    figure = Figure(figsize=(WIDTH, whole), layout="constrained")
    FigureCanvasAgg(figure)
    bands: Any = figure.subfigures(3, 1, height_ratios=(top, height, bottom))
    y = 1 - 0.12 / top
    for text, step, look in (
        ("\n".join(heading), 0.24 * len(heading), {"fontsize": 12, "fontweight": "bold", "linespacing": 1.2}),
        ("\n".join(above), LINE * len(above), {"fontsize": 8.5, "color": GREY, "linespacing": 1.3}),
    ):
        bands[0].text(0.012, y, text, va="top", ha="left", **look)
        y -= step / top
    bands[2].text(
        0.012, 0.97, "\n".join(beneath), va="top", ha="left", fontsize=8, color=GREY, linespacing=1.35
    )
    return figure, bands[1]


def empty(title: str, scope: str, why: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, band = frame(1.2, title, scope)
    band.text(0.5, 0.5, "\n".join(textwrap.wrap(why, 90)), ha="center", va="center", fontsize=10, color=GREY)
    return figure


def labels(axes: Axes, names: Sequence[str], width: int = 24) -> None:
    """Rows named on the y axis, the first on top, long names wrapped."""
    axes.set_yticks(range(len(names)), ["\n".join(wrapped(name, width)) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width`, broken after hyphens first."""
    return textwrap.wrap(text, width, break_on_hyphens=True, break_long_words=True) or [""]


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `figure` as SVG and PNG; equal data gives equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    figure.savefig(png, metadata={"Software": None})
    return [svg, png]
