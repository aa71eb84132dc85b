from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from reports import figures
from reports.figures import base, decoding
from reports.records import Floor, Metric, Record, Round, Values
from reports.runs import Run
from tests.synthetic_runs import write_run

NAMES = ("token_s", "total_s", "queue_s", "compute_s", "transfer_s", "client_server_bytes_per_token")
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
