"""matplotlib's SVG with the same picture in a third of the bytes: text as text, numbers to 0.01 pt.

What matplotlib writes carries an id on every group, a style on every marker and six decimals on every number.
Traps: only ids that something refers to may stay, since several figures share a page; a path is shortened
only where it holds straight lines alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree import ElementTree as ET

__all__ = ["HALO", "WORDS", "Caption", "lean"]

NS = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
HREF = f"{{{XLINK}}}href"
FONTS = "DejaVu Sans, Verdana, sans-serif"
"""Verdana has DejaVu's widths, where DejaVu is not installed."""
HALO = "halo"
"""How the ids of names begin that are written on top of lines."""
WORDS = ("heading", "scope", "notes")
"""The ids of what is written around the axes; a page says it in text of its own."""
BACKING = "paint-order: stroke; stroke: #ffffff; stroke-width: 2.5px; stroke-linejoin: round"
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
LINE = re.compile(r"([ML]) (\S+) (\S+)\s*|(z)\s*")
REFERENCE = re.compile(r"url\(#([^)]+)\)")

ET.register_namespace("", NS)
ET.register_namespace("xlink", XLINK)


class Caption(NamedTuple):
    """What a figure says in words, and where its axes lie between the words, in points from the top."""

    title: str
    scope: str
    notes: tuple[str, ...]
    top: float
    height: float


def lean(svg: str, caption: Caption | None) -> str:
    """The same drawing, smaller, with its title and its notes as `title` and `desc`.

    `data-axes` on the root says where the axes lie: "TOP HEIGHT", in the units of the viewBox.
    """
    root = ET.fromstring(svg)
    for child in [
        c for c in root if _tag(c) in ("metadata", "title") or c.find(f"{{{NS}}}style") is not None
    ]:
        root.remove(child)  # the style is for every element, which the root says as well
    used = set(_references(root))
    for element in root.iter():
        _shorten(element, used)
    _unwrap(root)
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt", "font-family": FONTS}
    if caption is not None:
        root.set("data-axes", f"{_short(caption.top)} {_short(caption.height)}")
        for tag, text in (("desc", "\n".join([caption.scope, *caption.notes])), ("title", caption.title)):
            words = ET.Element(f"{{{NS}}}{tag}")
            words.text = text
            root.insert(0, words)
    return ET.tostring(root, encoding="unicode") + "\n"


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _references(root: ET.Element) -> Iterator[str]:
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == HREF:
                yield value.removeprefix("#")
            yield from REFERENCE.findall(value)


def _shorten(element: ET.Element, used: set[str]) -> None:
    """One element's attributes; the white space between elements goes."""
    tag, at = _tag(element), element.attrib
    if tag not in ("text", "tspan"):
        element.text = None
    element.tail = None
    name = at.get("id", "")
    if name.startswith(HALO):
        for text in element.iter(f"{{{NS}}}text"):
            text.set("style", f"{BACKING}; {text.get('style', '')}")
    if name and name not in used and name not in WORDS:
        del at["id"]
    if "d" in at:
        at["d"] = _path(at["d"])
    for key in ("x", "y", "width", "height", "transform", "viewBox"):
        if key in at:
            at[key] = NUMBER.sub(lambda m: _short(float(m[0])), at[key])
    if at.get("transform", "").startswith("rotate(-0 "):
        del at["transform"]
    if "style" in at:
        at["style"] = _style(at["style"])
    _hoist(element)


def _style(style: str) -> str:
    style = re.sub(r"font-family: 'DejaVu Sans';? ?", "", style)
    style = re.sub(r"font: (.*?) 'DejaVu Sans'", rf"font: \1 {FONTS}", style)
    return style.replace(": ", ":").replace("; ", ";").rstrip("; ")


def _path(d: str) -> str:
    """Path data to 0.01 pt; along an axis only the coordinate that changes."""
    if not re.fullmatch(r"[MLz\d\s.e+-]*", d):
        return " ".join(NUMBER.sub(lambda m: _short(float(m[0])), d).split())
    out, before = [], ("", "")
    for kind, x, y, end in LINE.findall(d):
        at = ("", "") if end else (_short(float(x)), _short(float(y)))
        if end:
            out.append("z")
        elif kind == "L" and at == before:
            continue
        elif kind == "L" and at[1] == before[1]:
            out.append(f"H{at[0]}")
        elif kind == "L" and at[0] == before[0]:
            out.append(f"V{at[1]}")
        else:
            out.append(f"{kind}{at[0]} {at[1]}")
        before = at
    return "".join(out)


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".").replace("-0", "0" if abs(value) < 0.005 else "-0")


def _hoist(element: ET.Element) -> None:
    """Markers of one style say it once, on their group."""
    children = list(element)
    styles = {c.get("style") for c in children}
    if (
        len(children) > 1
        and len(styles) == 1
        and None not in styles
        and {_tag(c) for c in children} == {"use"}
    ):
        element.set("style", _style(styles.pop() or ""))
        for child in children:
            del child.attrib["style"]


def _unwrap(element: ET.Element) -> None:
    """Groups that say nothing leave their children behind."""
    out: list[ET.Element] = []
    for child in list(element):
        _unwrap(child)
        out += list(child) if _tag(child) == "g" and not child.attrib else [child]
    for child in list(element):
        element.remove(child)
    element.extend(out)
