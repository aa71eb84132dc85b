from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports import figures
from reports.figures import base, claims, goodput, pareto, stages
from reports.records import Record
from reports.runs import Run
from tests.synthetic_runs import failed, load, realistic, record, sweep, verdict, write_run

FIGURES = {"stages": stages, "pareto": pareto, "goodput": goodput, "claims": claims}


@pytest.fixture(autouse=True)
def drawing() -> Iterator[None]:
    """Every figure is drawn in the project's style."""
    with base.style():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run of invented numbers."""
    return Run.read(realistic(tmp_path_factory.mktemp("run")))


def written(tmp_path: Path, records: list[Record], verdicts: list[dict[str, Any]] | None = None) -> Run:
    """A run of these records, read back."""
    return Run.read(write_run(tmp_path / "run", records, verdicts or []))


def texts(figure: Any) -> list[str]:
    """Every text in a figure, tick labels included."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    return [text for t in figure.findobj(Text) if (text := t.get_text())]


def test_every_figure_is_written_twice(run: Run, tmp_path: Path) -> None:
    """SVG and PNG, named after experiment and figure."""
    paths = figures.write(run, tmp_path)
    expected = [f"cascade-{name}.{kind}" for name in figures.NAMES for kind in ("svg", "png")]
    assert [p.name for p in paths] == expected
    assert all(p.stat().st_size > 1000 for p in paths)


def test_equal_records_give_equal_bytes(run: Run, tmp_path: Path) -> None:
    """Two renderings of one folder are the same files."""
    first, second = (figures.write(run, tmp_path / name) for name in ("a", "b"))
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name


def test_a_figure_carries_no_date_and_no_version(run: Run, tmp_path: Path) -> None:
    """Nothing in the file depends on when or with what it was drawn."""
    figures.write(run, tmp_path)
    text = (tmp_path / "cascade-stages.svg").read_text()
    assert "dc:date" not in text
    assert "Matplotlib v" not in text


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("records", ["failed", "ungraded", "load", "empty"])
def test_partial_data_gives_a_figure_that_says_so(tmp_path: Path, name: str, records: str) -> None:
    """Nothing to draw is a sentence in the figure, never an exception."""
    kinds = {
        "failed": [failed()],
        "ungraded": [record("cascade", num_rounds=1, num_graded=0)],
        "load": [load()],
        "empty": [record("cascade", control=None, rounds=[], tasks=[])],
    }
    run = written(tmp_path, kinds[records])
    figure = FIGURES[name].draw(FIGURES[name].data(run, "cascade"))
    assert base.save(figure, tmp_path / "out", name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("stages", "No variant of this run timed its tasks. Not timed: hybrid (failures: 3)."),
        (
            "pareto",
            "No variant of this run has both a cost and graded tasks. Without cost or grades: hybrid.",
        ),
        ("goodput", "No variant of this run was offered load in an open loop."),
        ("claims", "No claim of this experiment was judged in this run."),
    ],
)
def test_an_empty_figure_names_what_is_missing(tmp_path: Path, name: str, says: str) -> None:
    """The reason is the experiment's, not the program's."""
    run = written(tmp_path, [failed()])
    shown = " ".join(" ".join(texts(FIGURES[name].draw(FIGURES[name].data(run, "cascade")))).split())
    assert says in shown


@pytest.mark.parametrize("name", FIGURES)
def test_the_title_and_the_line_beneath_state_the_scope(run: Run, name: str) -> None:
    """Experiment, engine, models, profile and evidence stand in every figure."""
    shown = " ".join(" ".join(texts(FIGURES[name].draw(FIGURES[name].data(run, "cascade")))).split())
    for word in ("cascade", "llama.cpp", "large = pocket:large@f16", "profile pocket", "measured"):
        assert word in shown


@pytest.mark.parametrize("name", FIGURES)
def test_axes_have_units(run: Run, name: str) -> None:
    """Every axis with numbers says what they are."""
    figure = FIGURES[name].draw(FIGURES[name].data(run, "cascade"))
    for axes in figure.get_axes():
        assert axes.get_xlabel()


def test_stage_rows_hold_every_variant_and_panel(run: Run) -> None:
    """Stages in workflow order, then what is left, then the whole."""
    found = stages.data(run, "cascade")
    assert found.panels == ("analysis", "code", "summary", "other", "whole task")
    names = {row.variant for row in found.rows}
    assert len(names) == 11
    assert "hybrid" not in names
    assert any("Not timed: hybrid" in note for note in found.notes)
    whole = next(r for r in found.rows if (r.variant, r.panel) == ("cascade", "whole task")).estimate
    assert whole.value == pytest.approx(0.118, abs=0.003)
    assert whole.interval is not None


def test_two_backends_have_scales_of_their_own(tmp_path: Path) -> None:
    """A slow engine does not flatten a fast one."""
    run = written(tmp_path, [record("baseline"), record("baseline", backend="ollama")])
    found = stages.data(run, "cascade")
    assert found.backends == ("llama.cpp", "ollama")
    assert len(stages.draw(found).get_axes()) == 10


def test_the_frontier_holds_what_no_other_beats(run: Run) -> None:
    """It starts at the cheapest variant, rises with cost, and leaves out what knows the grades."""
    found = pareto.data(run, "cascade")
    line = [p.name for p in found.frontier]
    assert line[0] == "all-small"
    assert "oracle" not in line
    shares = [p.solved.value or 0.0 for p in found.frontier]
    assert shares == sorted(shares)
    assert {p.name: p.kind for p in found.points}["oracle"] == "ceiling"
    assert {p.name: p.kind for p in found.points}["baseline"] == "control"


def test_equal_variants_share_the_frontier(tmp_path: Path) -> None:
    """None of two twins beats the other."""
    twins = [record("cascade", control=None), record("cascade", control=None, backend="ollama")]
    found = pareto.data(written(tmp_path, twins), "cascade")
    assert len(found.frontier) == 2


def test_names_beside_points_do_not_cover_each_other(run: Run) -> None:
    """Every label of the Pareto figure is readable."""
    from matplotlib.text import Annotation

    figure = pareto.draw(pareto.data(run, "cascade"))
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in figure.findobj(Annotation)]
    boxes = [t for t in boxes if t.width]
    assert len(boxes) == 11
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1)


def test_goodput_is_a_mean_over_rounds_and_states_its_slo(run: Run) -> None:
    """The control's rounds of three tests are one curve."""
    found = goodput.data(run, "cascade")
    assert found.arms[0] == "load-baseline"
    assert found.slo_s == 0.5
    assert "SLO of 500 ms per task" in found.title
    point = next(p for p in found.points if (p.arm, p.rate_per_s) == ("load-baseline", 3.0))
    assert point.goodput_per_s.n == 12
    assert point.goodput_per_s.interval is not None


def test_arms_named_treatment_and_control_take_their_variants_names(tmp_path: Path) -> None:
    """A point without a variant is named by its record."""
    points = [{k: v for k, v in p.items() if k != "variant"} for p in sweep("treatment", "x", 5.0, rounds=1)]
    found = goodput.data(written(tmp_path, [record("load-x", sweep=points)]), "cascade")
    assert found.arms == ("load-x",)
    assert found.points[0].goodput_per_s.interval is None


def test_different_slos_are_not_mixed_silently(tmp_path: Path) -> None:
    """A note names the range, and no line is drawn."""
    one, other = sweep("treatment", "x", 5.0), [p | {"slo_s": 0.9} for p in sweep("treatment", "y", 5.0)]
    found = goodput.data(written(tmp_path, [record("x", sweep=one + other)]), "cascade")
    assert found.slo_s is None
    assert any("different SLOs, 0.5 to 0.9 s" in note for note in found.notes)
    assert goodput.draw(found)


def test_claims_go_to_the_panel_of_their_quantity(run: Run) -> None:
    """Each with its interval and published value in the panel's unit; the others are listed with a reason."""
    found = claims.data(run, "cascade")
    rows = {row.id: row for row in found.rows}
    assert rows["pocket-total"].panel == "reduction"
    assert rows["pocket-total"].estimate == pytest.approx(36.0)
    assert rows["pocket-total"].published == (25.0,)
    assert rows["pocket-cost"].published == (40.0, 60.0)
    assert rows["pocket-token-ratio"].panel == "ratio"
    assert rows["pocket-quality"].panel == "points"
    assert rows["pocket-quality"].band == pytest.approx((-5.0, 5.0))
    assert rows["pocket-code-similar"].band == pytest.approx((1 / 1.1, 1.1))
    assert ("O out of scope", "needs profile:node", ("cascade-total-sglang",)) in found.listed
    assert len(found.rows) + len(found.listed) == len(run.verdicts)


def test_a_verdict_is_shown_by_word_and_shape(run: Run) -> None:
    """Colour is never all there is."""
    shown = "\n".join(texts(claims.draw(claims.data(run, "cascade"))))
    assert "R refuted\n31.0 % [29.0, 33.0]; published 40 to 60 %" in shown
    assert "c confirmed, but\n" in shown
    shapes = {word: marker for word, (marker, _) in claims.SHAPES.items() if word not in ("error", "invalid")}
    assert len(set(shapes.values())) == len(shapes)


@pytest.mark.parametrize(
    "changes",
    [
        {"estimate": -4.2, "interval": [-30, 0.9], "published": 0.33, "quantity": "reduction"},
        {"estimate": 20, "interval": [1e-9, 1e9], "published": 5, "quantity": "ratio"},
        {"estimate": 5.0, "interval": [5.0, 5.0], "published": 5.0, "quantity": "value", "unit": "tokens"},
        {"estimate": 0.1, "interval": None, "published": 0.2, "quantity": "reduction"},
        {"estimate": 0.0, "interval": [0.0, 0.0], "published": 0.0, "quantity": "value"},
        {"estimate": 0.0, "interval": [0.0, 0.1], "published": 0.3, "quantity": "value"},
        {"estimate": float("nan"), "published": 0.3, "quantity": "ratio"},
    ],
)
def test_extreme_numbers_are_drawn_or_listed(tmp_path: Path, changes: dict[str, Any]) -> None:
    """An interval beyond the axis is an arrow, a number without a place is in the list."""
    found = claims.data(written(tmp_path, [failed()], [verdict("x", "inconclusive", **changes)]), "cascade")
    assert len(found.rows) + len(found.listed) == 1
    assert texts(claims.draw(found))


def test_claims_of_another_experiment_stay_out(tmp_path: Path) -> None:
    """Each experiment has a forest of its own."""
    run = written(tmp_path, [failed()], [verdict("x", "missing", experiment="routing")])
    assert claims.data(run, "cascade").listed == ()
