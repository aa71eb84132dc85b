from __future__ import annotations

from pathlib import Path

from reports.figures import base, claims, sweeps
from reports.runs import Run
from reports.tabular.verdict_cells import measured
from tests.synthetic_routing import parameter
from tests.synthetic_runs import verdict, write_run


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
