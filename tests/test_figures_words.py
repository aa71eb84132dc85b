from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from reports import figures
from reports.figures import base, claims, svg, sweeps
from reports.runs import Run
from reports.tabular.verdict_cells import measured
from tests.synthetic_routing import parameter
from tests.synthetic_runs import record, verdict, write_run


def test_a_sweep_names_its_parameter_once_and_its_unit(tmp_path: Path) -> None:
    """Draws where it has several, and a stand-in is told."""
    curve = parameter("budget")
    curve.settings |= {"along": "memory budget, as a multiple", "draws": 5, "planner_stands_in": True}
    found = sweeps.data(Run.read(write_run(tmp_path / "run", [curve])), "routing")
    assert found is not None
    assert "memory budget, as a multiple" in found.notes
    assert "Bars: 95 % intervals over draws." in found.notes[0]
    assert "planner: a stand-in, no model was asked." in found.notes


def test_many_claims_without_a_number_are_counted_in_a_line(tmp_path: Path) -> None:
    """Few are named with their reasons; the figure does not grow with those that are out of scope."""
    heights = []
    for number in (12, 13, 120):
        verdicts = [
            verdict(f"c{i}", "out of scope", reason=f"reason {i}", experiment="routing")
            for i in range(number)
        ]
        run = Run.read(write_run(tmp_path / str(number), [parameter("budget")], verdicts))
        found = claims.data(run, "routing")
        with base.style():
            heights.append(claims.draw(found).get_figheight())
        assert ("c0" in " ".join(claims._listing(found.listed))) == (number <= 12)
    assert heights[1] == heights[2] < heights[0]
    assert claims._listing(found.listed)[0] == "O out of scope: 120 claims"


def test_the_least_and_the_most_of_an_exact_claim_are_no_interval() -> None:
    """Words stand in place of the brackets."""
    exact = {"form": "exact", "published": 1.0, "quantity": "value", "unit": "steps"}
    same = verdict("x", "confirmed", **exact, estimate=1.0, interval=[1.0, 1.0])
    other = verdict("x", "refuted", **exact, estimate=1.5, interval=[1.0, 3.0])
    assert [measured(v) for v in (same, other)] == ["1 steps, always", "1.5 steps, 1 to 3"]


@pytest.mark.parametrize("name", ["$5 or 6$", "x_1^2$", r"a\$b", r"$\frac$"])
def test_a_name_is_written_as_it_is(tmp_path: Path, name: str) -> None:
    """It may hold what matplotlib takes for mathematics, which it then could not even read."""
    one = verdict(name, "confirmed", estimate=2.0, interval=[1.5, 2.5], published=1.0, unit=name)
    run = Run.read(write_run(tmp_path / "run", [record("baseline"), record(name)], [one]))
    drawn = {path.stem: texts_of(path) for path in figures.write(run, tmp_path) if path.suffix == ".svg"}
    shown = [stem for stem, texts in drawn.items() if name in texts]
    assert shown == ["cascade-stages", "cascade-pareto", "cascade-claims"]
    assert any(name in text and text != name for text in drawn["cascade-claims"])


def test_powers_of_a_logarithmic_axis_stay_powers(tmp_path: Path) -> None:
    """matplotlib writes them as mathematics, beside names that are none."""
    with base.style():
        figure, _ = base.frame(2.0, "$title$", "$scope$")
        axes = figure.add_subplot()
        axes.grid(visible=True, which="both")
        axes.set_xscale("log")
        axes.plot([1e-3, 1e5], [0, 1], label="$label$")
        axes.legend()
        base.labels(axes, ["$one$", "$two_2$"])
        base.save(figure, tmp_path, "powers")
    found = texts_of(tmp_path / "powers.svg")
    assert {"$title$", "$scope$", "$label$", "$one$", "$two_2$"} <= set(found)
    assert not any("mathdefault" in text for text in found)
    assert "10\N{MINUS SIGN}2" in {"".join(text.split()) for text in found}


def texts_of(path: Path) -> list[str]:
    """What is written in an SVG."""
    return ["".join(element.itertext()) for element in ElementTree.parse(path).iter(f"{{{svg.NS}}}text")]
