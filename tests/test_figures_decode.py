from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from reports import figures
from reports.figures import base, decoding, roofline
from reports.records import Floor, Metric, Record, Round, Values
from reports.runs import Run
from tests.synthetic_runs import write_run

NAMES = (
    "token_s",
    "tpot_s",
    "total_s",
    "queue_s",
    "compute_s",
    "transfer_s",
    "client_server_bytes_per_token",
)
SPLIT: Values = {"token_s": 0.01, "total_s": 0.5, "queue_s": 0.05, "compute_s": 0.4, "transfer_s": 0.05}


def decoded(variant: str, values: Values, num_bytes: float) -> Record:
    """Two equal rounds of a variant."""
    found: Values = {**values, "client_server_bytes_per_token": num_bytes}
    return Record(
        experiment="decode",
        variant=variant,
        control=None,
        backend="sessions",
        profile="pocket",
        metrics={name: Metric(unit="s", better="lower", what=name) for name in NAMES},
        rounds=[Round(order="CT", treatment=found)] * 2,
        floors=[Floor(name="token_floor", inputs={}, value=0.004, unit="s")],
        complete=True,
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    records = [
        decoded("native", SPLIT, 0.0),
        decoded("full", SPLIT, 23.0),
        decoded("transformers-generate", {"token_s": 0.02, "total_s": 1.0}, 0.0),
    ]
    return Run.read(write_run(tmp_path / "run", records))


def test_rows_hold_times_floors_bytes_and_shares(run: Run) -> None:
    """What was not split has no shares, and what did not cross has no bar."""
    found = decoding.data(run, "decode")
    assert found is not None
    native, full, library = found.rows
    assert native.token_ms == (10.0, 10.0)
    assert native.floor_ms == pytest.approx(4)
    assert (native.bytes_per_token, full.bytes_per_token) == (None, 23.0)
    assert full.shares == pytest.approx({"queue_s": 0.1, "compute_s": 0.8, "transfer_s": 0.1})
    assert library.shares == {}


def test_the_figure_states_its_scope_and_its_units(run: Run) -> None:
    """Sizes on logarithmic axes, one row per variant."""
    found = decoding.data(run, "decode")
    assert found is not None
    with base.style():
        figure = decoding.draw(found)
    times, sizes, split = figure.get_axes()
    assert [axes.get_xscale() for axes in (times, sizes, split)] == ["log", "log", "linear"]
    assert all(axes.get_xlabel() for axes in (times, sizes, split))
    assert [label.get_text() for label in times.get_yticklabels()][:2] == ["native", "full"]
    assert "profile pocket" in found.scope


def test_it_is_written_with_the_claims_and_left_out_where_nothing_decoded(run: Run, tmp_path: Path) -> None:
    """SVG and PNG; none of the cascade's figures."""
    written = {path.name for path in figures.write(run, tmp_path / "out")}
    assert {"decode-decoding.svg", "decode-decoding.png"} <= written
    assert not {name for name in written if "stages" in name or "goodput" in name}
    bare = Run.read(write_run(tmp_path / "bare", [decoded("full", {}, 1.0)]))
    assert decoding.data(bare, "decode") is None


def on_roofs(variant: str, sessions: int, values: Values) -> Record:
    """A record with both floors: 80 bytes of weights and 20 of its own per token, 200 operations."""
    record = decoded(variant, values, 0.0)
    reads = {"step_bytes": 80.0, "sessions": sessions, "kv_bytes": 20.0, "bandwidth_bytes_per_s": 1e9}
    record.floors = [
        Floor(name="token_floor", inputs={**reads, "bandwidth": "measured here"}, value=1e-7, unit="s"),
        Floor(name="compute_floor", inputs={"flop": 200.0, "flop_per_s": 8e9}, value=2.5e-8, unit="s"),
    ]
    return record


@pytest.fixture
def roofs(tmp_path: Path) -> Run:
    records = [
        on_roofs("batched-32", 4, {"token_s": 1e-7, "total_s": 1e-6}),
        on_roofs("native", 1, {"token_s": 9e-7, "tpot_s": 2e-7, "total_s": 1e-6}),
        on_roofs("transformers-generate", 1, {"token_s": 4e-7, "total_s": 1e-6}),
        on_roofs("semantic-blind", 1, {"token_s": 4e-7, "total_s": 1e-6}),
    ]
    return Run.read(write_run(tmp_path / "roofs", records))


def test_a_point_lies_at_its_intensity_and_below_its_roof(roofs: Run) -> None:
    """Sessions share the weights' bytes; the prompt's time is left out, or marked where it cannot be."""
    found = roofline.data(roofs, "decode")
    assert found is not None
    assert [point.name for point in found.points] == ["native", "transformers-generate", "batched-32"]
    native, library, batch = found.points
    assert (native.flop_per_byte, batch.flop_per_byte) == (2.0, 5.0)
    assert native.gflop_per_s == pytest.approx((1.0, 1.0))
    # Memory binds all three: 100 bytes in 100 ns, or 40 in 40.
    assert [point.roof_share for point in found.points] == pytest.approx([0.5, 0.25, 0.4])
    assert [point.with_prompt for point in found.points] == [False, True, False]
    assert (native.tokens_per_s, library.tokens_per_s) == pytest.approx((5e6, 2.5e6))


def test_the_roofline_is_drawn_with_both_roofs_and_a_key(roofs: Run, tmp_path: Path) -> None:
    """Logarithmic axes with units; left out where no roof was measured."""
    found = roofline.data(roofs, "decode")
    assert found is not None
    with base.style():
        (axes,) = roofline.draw(found).get_axes()
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert "FLOP/B" in axes.get_xlabel()
    assert "GFLOP/s" in axes.get_ylabel()
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[1].startswith("transformers-generate *: ")
    assert "decode-roofline.svg" in {path.name for path in figures.write(roofs, tmp_path / "out")}
    bare = Run.read(write_run(tmp_path / "bare", [decoded("native", SPLIT, 0.0)]))
    assert roofline.data(bare, "decode") is None
