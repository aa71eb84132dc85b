from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from reports import figures
from reports.figures import base, pareto, svg
from reports.runs import Run
from tests.synthetic_runs import realistic

NS = {"svg": svg.NS}


def drawn(body: str) -> ET.Element:
    """What becomes of a drawing."""
    root = f'<svg xmlns="{svg.NS}" xmlns:xlink="{svg.XLINK}" viewBox="0 0 720 400">{body}</svg>'
    return ET.fromstring(svg.lean(root, None))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("M 0 473.76 \nL 720 473.76 \nL 720 0 \nz\n", "M0 473.76H720V0z"),
        ("M 1.234567 2 \nL 3.999999 4.000001 \n", "M1.23 2L4 4"),
        ("M 1 1 \nL 1.001 1.001 \nL 2 1 \n", "M1 1H2"),
        ("M -0.001 5 \nL -0.5 5 \n", "M0 5H-0.5"),
        ("M 0 1.5 \nC 0.397 1.5 0.779 1.34 1.06 1.06 \n", "M 0 1.5 C 0.4 1.5 0.78 1.34 1.06 1.06"),
    ],
)
def test_a_path_keeps_its_points(given: str, expected: str) -> None:
    """To a hundredth of a point; along an axis only what changes is written, and curves stay curves."""
    path = drawn(f'<path d="{given}"/>').find("svg:path", NS)
    assert path is not None
    assert path.get("d") == expected


def test_only_ids_that_something_refers_to_stay() -> None:
    """And groups that then say nothing leave their children behind."""
    root = drawn(
        '<g id="axes_1"><defs><path id="m1" d="M 0 0"/></defs>'
        '<g id="line2d_1"><use xlink:href="#m1" x="1.00001"/></g>'
        '<g clip-path="url(#p1)"/><defs><clipPath id="p1"/></defs></g>'
    )
    assert [e.get("id") for e in root.iter() if e.get("id")] == ["m1", "p1"]
    assert root.find("svg:use", NS) is not None


def test_marks_of_one_style_say_it_once() -> None:
    """Different ones keep their own."""
    one = drawn('<g id="a"><use style="fill: #fff"/><use style="fill: #fff"/></g>').find("svg:g", NS)
    assert one is not None
    assert one.get("style") == "fill:#fff"
    assert [use.get("style") for use in one] == [None, None]
    two = drawn('<g id="a"><use style="fill: #fff"/><use style="fill: #000"/></g>')
    assert [use.get("style") for use in two] == ["fill:#fff", "fill:#000"]


def test_text_is_text_and_names_stand_off_from_lines(tmp_path: Path) -> None:
    """Readable aloud and searchable; the title and the notes are in the file."""
    run = Run.read(realistic(tmp_path / "run"))
    with base.style():
        base.save(pareto.draw(pareto.data(run, "cascade")), tmp_path, "pareto", ("svg",))
    root = ET.parse(tmp_path / "pareto.svg").getroot()
    words = [t.text for t in root.iter(f"{{{svg.NS}}}text")]
    assert "oracle" in words
    halo = next(t for t in root.iter(f"{{{svg.NS}}}text") if t.text == "oracle")
    assert "paint-order:stroke" in str(halo.get("style"))
    title, desc = (root.findtext(f"svg:{tag}", "", NS) for tag in ("title", "desc"))
    assert title.startswith("cascade")
    assert "profile pocket" in desc
    top, height = (float(v) for v in str(root.get("data-axes")).split())
    assert 0 < top < top + height <= float(str(root.get("viewBox")).split()[3])
    defined = {e.get("id") for e in root.iter()}
    assert set(re.findall(r"url\(#([^)]+)\)", (tmp_path / "pareto.svg").read_text())) <= defined


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_several_processes_draw_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """As one does, in the same order."""
    if way == "fork" and not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    run = Run.read(realistic(tmp_path / "run"))
    monkeypatch.setattr(figures, "NAMES", ("goodput", "stages"))
    alone = figures.write(run, tmp_path / "alone", kinds=("svg",))
    monkeypatch.setattr(figures, "MANY", 2)  # two figures are enough for two processes
    monkeypatch.setattr(figures, "_how_to_begin", lambda: way)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    together = figures.write(run, tmp_path / "together", kinds=("svg",))
    assert [p.name for p in together] == [p.name for p in alone]
    assert [p.read_bytes() for p in together] == [p.read_bytes() for p in alone]
