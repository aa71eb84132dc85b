"""What all figures share: their style, the frame of title, scope and notes, and the writer.

Files are a function of their data: SVG ids are salted with a constant, and no date and no version is written.
Text is text in an SVG, to be read aloud, searched and restyled; a PNG holds the font that matplotlib brings.

Trap: matplotlib takes what stands between two $ for mathematics. Names and prices are none: nothing is taken
for it but the powers that matplotlib itself writes on a logarithmic axis, when it lays the axes out.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from reports.figures import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "GREY",
    "INK",
    "KINDS",
    "PALETTE",
    "WIDTH",
    "empty",
    "frame",
    "labels",
    "rows_height",
    "save",
    "settle",
    "style",
    "wrapped",
]

WIDTH = 10.0
"""Inches; heights follow from the rows."""
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A7A7A")
"""Okabe and Ito's colours, told apart by colour-blind readers, without the yellow that fades on white."""
INK = "#1a1a1a"
GREY = "#666666"
LABEL = 24
"""Characters of a row's name on one line."""
LINE = 0.17
"""Inches per line of small text."""
CHARACTERS = 156
"""Characters of small text on a line of `WIDTH`."""

KINDS = ("svg", "png")
"""The files of a figure."""
POINTS = 72
"""Per inch."""

STYLE: dict[str, Any] = {
    "svg.hashsalt": "assay",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,
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


def frame(height: float, title: str, scope: str, notes: Sequence[str] = ()) -> tuple[Figure, Area]:
    """A figure with `height` inches for its axes, its title and scope above and its notes beneath.

    Returns
    -------
    The figure, which lays its axes out between both, and where that area lies.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heading = textwrap.wrap(title, 96) or [""]
    above = [line for part in scope.split("\n") for line in textwrap.wrap(part, CHARACTERS)]
    beneath = [line for note in notes for line in textwrap.wrap(note, CHARACTERS, subsequent_indent="  ")]
    top = 0.12 + 0.24 * len(heading) + LINE * len(above) + 0.14
    bottom = 0.1 + LINE * len(beneath) + 0.05
    area = Area(bottom, height, top + height + bottom)
    figure = Figure(figsize=(WIDTH, area.whole))
    FigureCanvasAgg(figure)
    area.leave(figure)
    y = area.whole - 0.12
    area.write(figure, y, heading, gid="heading", fontsize=12, fontweight="bold", linespacing=1.2)
    area.write(figure, y - 0.24 * len(heading), above, gid="scope", fontsize=8.5, color=GREY, linespacing=1.3)
    area.write(figure, bottom - 0.04, beneath, gid="notes", fontsize=8, color=GREY, linespacing=1.35)
    above_axes = (area.whole - bottom - height) * POINTS
    captions[figure] = svg.Caption(title, scope, tuple(notes), above_axes, height * POINTS)
    return figure, area


captions: WeakKeyDictionary[Any, svg.Caption] = WeakKeyDictionary()
"""Figure → what it says in words."""


class Area(NamedTuple):
    """The band between a figure's heading and its notes, in inches from below."""

    bottom: float
    height: float
    whole: float
    """The height of the figure."""

    def leave(self, figure: Figure, beneath: float = 0.0) -> None:
        """Lay axes out within the band, less `beneath` inches at its foot."""
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        rect = (0.004, (self.bottom + beneath) / self.whole, 0.988, (self.height - beneath) / self.whole)
        figure.set_layout_engine(ConstrainedLayoutEngine(rect=rect))

    def write(self, figure: Figure, y: float, lines: Sequence[str], **look: Any) -> None:
        """Lines of text from the left edge, the first below `y` inches."""
        figure.text(0.012, y / self.whole, "\n".join(lines), va="top", ha="left", **look)


def settle(figure: Figure) -> None:
    """Lay the axes out and keep them where they are, to five decimals.

    The solver behind the layout differs in the last bits from one run to the next, and the files would too.
    """
    engine = figure.get_layout_engine()
    if engine is None:
        return
    if figure.axes:
        with _powers(figure):
            engine.execute(figure)
    figure.set_layout_engine(None)  # with "none", a placeholder, each savefig lays all of it out once more
    for axes in figure.axes:
        left, bottom, width, height = (round(v, 5) for v in axes.get_position().bounds)
        axes.set_position((left, bottom, width, height))


def empty(title: str, scope: str, why: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    lines = textwrap.wrap(why, 110)
    figure, area = frame(0.3 + 0.2 * len(lines), title, scope)
    area.write(figure, area.bottom + area.height - 0.1, lines, fontsize=10, linespacing=1.35)
    return figure


def rows_height(names: Sequence[str], width: int = LABEL) -> float:
    """Inches that rows of these names take, the longest wrapped name deciding for all."""
    lines = max((len(wrapped(name, width)) for name in names), default=1)
    return len(names) * max(0.3, 0.16 * lines + 0.04)


def labels(axes: Axes, names: Sequence[str], width: int = LABEL) -> None:
    """Rows named on the y axis, the first on top, long names wrapped."""
    axes.set_yticks(range(len(names)), ["\n".join(wrapped(name, width)) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width`, broken after hyphens first."""
    return textwrap.wrap(text, width, break_on_hyphens=True, break_long_words=True) or [""]


def save(figure: Figure, folder: Path, name: str, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Write `figure` as SVG and PNG, or one of `kinds`; equal data gives equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    settle(figure)
    out = [folder / f"{name}.{kind}" for kind in kinds]
    with _powers(figure):
        for path in sorted(out):  # the PNG first: for the SVG, names lose what draws them as paths
            if path.suffix == ".png":
                figure.savefig(path, metadata={"Software": None})
            else:
                path.write_text(_svg(figure), encoding="utf-8")
    return out


@contextmanager
def _powers(figure: Figure) -> Iterator[None]:
    """Within it the ticks of logarithmic axes are drawn as the mathematics that matplotlib writes them in.

    Texts of names are there already, and stay as they are; what is made within are ticks alone.
    """
    import matplotlib
    from matplotlib.ticker import LogFormatterMathtext

    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        kinds = (
            (axis.get_major_formatter(), axis.get_major_ticks()),
            (axis.get_minor_formatter(), axis.get_minor_ticks()),
        )
        for formatter, ticks in kinds:
            for tick in ticks if isinstance(formatter, LogFormatterMathtext) else ():
                tick.label1.set_parse_math(True)
                tick.label2.set_parse_math(True)
    with matplotlib.rc_context({"text.parse_math": True}):
        yield


def _svg(figure: Figure) -> str:
    from matplotlib.text import Text

    for index, text in enumerate(figure.findobj(Text)):
        if text.get_path_effects():
            text.set_path_effects([])
            text.set_gid(f"{svg.HALO}{index}")
    with io.StringIO() as out:
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        return svg.lean(out.getvalue(), captions.get(figure))
