"""Figures as a page holds them: without the words around the axes, with ids of their own, in the page's ink.

The words of a figure (title, scope, notes) become text of the page, which wraps where the screen is narrow.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from reports.figures.svg import NS, WORDS, XLINK

__all__ = ["Drawing", "read"]

INKS = {
    "#1a1a1a": "ink",
    "#000000": "ink",
    "#666666": "grey",
    "#999999": "grey",
    "#7a7a7a": "grey",
    "#b5b5b5": "faint",
    "#cccccc": "faint",
    "#dddddd": "grid",
    "#e3e3e3": "grid",
    "#ffffff": "paper",
}
"""matplotlib's greys → the page's own, which follow its theme."""
BLUES = {"#0072b2": "blue"}
"""The one colour of the palette that is too dark on a dark page."""
COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")


class Drawing(NamedTuple):
    """One figure."""

    name: str
    title: str
    scope: str
    notes: tuple[str, ...]
    svg: str
    """Markup, safe to put into a page."""
    width: float
    """Of the drawing, in CSS pixels at its own size."""


def read(path: Path) -> Drawing:
    """The figure in an SVG file that `reports.figures` wrote."""
    root = ET.fromstring(path.read_text(encoding="utf-8"))
    title, desc = (_take_text(root, tag) for tag in ("title", "desc"))
    scope, *notes = desc.split("\n") or [""]
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in [e for e in root.iter() if e.get("id") in WORDS]:
        parents[element].remove(element)
    name = path.stem
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            element.set(key, _own(key, value, name))
        if href := element.attrib.pop(f"{{{XLINK}}}href", None):
            element.set("href", f"#{name}-{href.removeprefix('#')}")
    width = _crop(root)
    root.attrib |= {"role": "img", "aria-labelledby": f"figure-{name}", "focusable": "false"}
    markup = ET.tostring(root, encoding="unicode")
    markup = re.sub(r' xmlns(:\w+)?="[^"]*"', "", markup)
    return Drawing(name, title or name, scope, tuple(notes), markup, width)


def _take_text(root: ET.Element, tag: str) -> str:
    found = root.find(f"{{{NS}}}{tag}")
    if found is None:
        return ""
    root.remove(found)
    return found.text or ""


def _own(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    value = value.replace("url(#", f"url(#{name}-")
    return COLOUR.sub(_ink, value) if key == "style" else value


def _ink(found: re.Match[str]) -> str:
    name = {**INKS, **BLUES}.get(found[0].lower())
    return f"var(--{name})" if name else found[0]


def _crop(root: ET.Element) -> float:
    """Leave out the room of the words; the width of the drawing."""
    _, _, width, height = (float(v) for v in root.get("viewBox", "0 0 720 400").split())
    top, rows = (float(v) for v in root.attrib.pop("data-axes", f"0 {height}").split())
    root.set("viewBox", f"0 {max(0.0, top - 4):g} {width:g} {rows + 8:g}")
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    return width * 4 / 3
