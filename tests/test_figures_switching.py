"""Switching's figures: what they compute, and that they say what they show."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from reports import figures
from reports.experiments import switching
from reports.figures import (
    base,
    buffers,
    latency_cdf,
    latency_modes,
    links,
    policies,
    requests_timeline,
)
from reports.figures import switching as looks
from reports.runs import Run
from tests.synthetic_runs import write_run
from tests.synthetic_switching import FAILED, arm_record, records, simulated

LIVE = ("latency-cdf", "latency-modes", "requests-timeline")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run.read(write_run(tmp_path_factory.mktemp("runs") / "one", records()))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Nothing simulated, and no default."""
    return Run.read(write_run(tmp_path_factory.mktemp("runs") / "live", [arm_record("keep-last", 2)]))


def test_the_cdf_keeps_switch_first_token_and_last_apart(run: Run) -> None:
    """Main arms above, the rest beneath; what lost requests ends below 100 %."""
    found = latency_cdf.data(run, "switching")
    assert found is not None
    assert [[one.arm for one in row] for row in found.rows] == [
        ["reload-every", "vllm-recreate", "keep-last", "fifo-ring-copy-out", "home-slot",
         "home-slot-lookahead"],
        ["resident"],
    ]  # fmt: skip
    assert any("partial miss" in note and note.startswith("home-slot: ") for note in found.notes)
    with base.style():
        panels = [axes for axes in latency_cdf.draw(found).get_axes() if axes.get_lines()]
    titles = [axes.get_title(loc="left") for axes in panels[:3]]
    assert titles == ["switch: kept from computing", "to the first token", "to the last token"]
    lines = [line for line in panels[2].get_lines() if line.get_drawstyle() == "steps-post"]
    ends = [float(np.asarray(line.get_ydata(), float).max()) for line in lines]
    assert ends[0] == 100
    assert ends[1] == pytest.approx(100 * (30 - FAILED) / 30)
    hits = next(one for one in found.rows[0] if one.arm == "home-slot").values_ms
    assert sum(v < 1 for v in hits["switch_s"]) > 0.3 * 390
    assert min(hits["total_s"]) > 4


def test_requests_are_counted_by_what_was_missing(run: Run) -> None:
    """Every arm's counts add up to its requests; an unsupported p99 has no mark."""
    found = latency_modes.data(run, "switching")
    assert found is not None
    rows = {row.name: row for row in found.rows}
    assert all(sum(row.modes.values()) == row.requests for row in found.rows)
    assert rows["vllm-recreate"].modes == {"not known": 60 - 2 * FAILED}
    assert rows["home-slot"].quantiles_ms["switch_s"][1].value is not None
    assert rows["resident"].quantiles_ms["switch_s"][1].value is None
    with base.style():
        figure = latency_modes.draw(found)
    written = {text.get_text() for axes in figure.get_axes() for text in axes.texts}
    assert f"{100 * rows['home-slot'].modes['hit'] / 390:.0f}" in written
    assert "p99: unsupported" not in "".join(axes.get_xlabel() for axes in figure.get_axes())


def test_a_figure_of_few_requests_says_that_p99_is_unsupported(live: Run) -> None:
    """In the place of the marks."""
    found = latency_modes.data(live, "switching")
    assert found is not None
    with base.style():
        labels = [axes.get_xlabel() for axes in latency_modes.draw(found).get_axes()]
    assert sum("p99: unsupported" in label for label in labels) == 3


def test_20_and_25_gb_are_said_to_be_one_size_to_whole_models(run: Run) -> None:
    """Of those for which they are, by hits and bytes."""
    found = buffers.data(run, "switching")
    assert found is not None
    assert found.same == ("fifo-ring-copy-out", "fifo-ring", "lru")
    assert "(simulated)" in found.title
    assert any("From cold" in note for note in found.notes)
    with base.style():
        figure = buffers.draw(found)
    assert any(text.get_text() == "published" for axes in figure.get_axes() for text in axes.texts)


def test_bytes_stand_over_the_least_simulated_beside_measured(run: Run) -> None:
    """Both over the least of their own traces; an arm that was not run has no circle."""
    found = policies.data(run, "switching")
    assert found is not None
    rows = {row.name: row for row in found.rows}
    assert rows["home-slot"].live_over == pytest.approx(switching_over(run, "home-slot"), rel=1e-6)
    assert rows["lru"].live_over is None
    assert rows["home-slot"].live_hits.interval is not None
    assert found.belady_gb == 40.0
    assert "simulated" in found.title
    assert "declared link of 0.5 GB/s" in found.title
    with base.style():
        figure = policies.draw(found)
    written = [text.get_text().strip() for axes in figure.get_axes() for text in axes.texts]
    assert "170, 159" in written


def switching_over(run: Run, name: str) -> float:
    """By hand: all bytes over all of the least."""
    arm = next(arm for arm in switching.arms(run.records) if arm.name == name)
    moved = sum(int(one["bytes_in"]) + int(one["ahead_bytes"]) for one in arm.requests)
    return moved / (40e6 * arm.seeds)


def test_the_published_link_and_ratio_are_marked(run: Run) -> None:
    """A line in every panel, a star in that of p50 totals."""
    found = links.data(run, "switching")
    assert found is not None
    with base.style():
        figure = links.draw(found)
    panels = [axes for axes in figure.get_axes() if axes.get_ylabel()]
    stars = [line for axes in panels for line in axes.get_lines() if line.get_marker() == "*"]
    assert len(panels) == 4
    assert [float(np.asarray(star.get_ydata(), float)[0]) for star in stars] == [3.1]


def test_the_timeline_shows_arms_on_one_seed_and_one_axis(run: Run) -> None:
    """The median seed of those shared; a request's wait and computing follow each other."""
    found = requests_timeline.data(run, "switching")
    assert found is not None
    assert [lane.arm for lane in found.lanes] == ["reload-every", "home-slot", "home-slot-lookahead"]
    assert {lane.requests for lane in found.lanes} == {30}
    kinds = {kind for lane in found.lanes for kind in (span.kind for span in lane.spans)}
    assert kinds == {"copy", "ahead", "wait", "compute"}
    for lane in found.lanes:
        work = [span for span in lane.spans if span.kind in ("wait", "compute")]
        assert all(a.done_s <= b.began_s + 1e-12 for a, b in pairwise(work))
    with base.style():
        figure = requests_timeline.draw(found)
    limits = [axes.get_xlim()[1] for axes in figure.get_axes() if axes.get_title(loc="left")]
    assert limits[0] == limits[1] == limits[2] > 1.5 * limits[3]
    assert limits[3] == limits[4]


def test_models_have_a_second_cue_beside_their_colour() -> None:
    """No two of the first five share a hatch or a colour."""
    found = looks.skins("abcde")
    assert len({skin.hatch for skin in found.values()}) == len({skin.colour for skin in found.values()}) == 5


def test_a_key_reads_row_by_row() -> None:
    """A legend fills columns first."""
    assert looks.by_rows(list("abcdefg"), 5) == list("afbgcde")
    assert looks.by_rows(list("abc"), 5) == list("abc")


def test_what_was_not_run_is_left_out(live: Run, tmp_path: Path) -> None:
    """No sweep, no curve; no default, no timeline."""
    for module in (buffers, links, policies, requests_timeline):
        assert module.data(live, "switching") is None
    only = Run.read(write_run(tmp_path / "sim", [simulated("sim-policies")]))
    for module in (latency_cdf, latency_modes, requests_timeline):
        assert module.data(only, "switching") is None
    found = policies.data(only, "switching")
    assert found is not None
    assert found.title.endswith("(simulated)")


def test_all_are_written_with_the_claims(tmp_path: Path) -> None:
    """SVG and PNG."""
    names = ("sim-buffers", "sim-links", "sim-policies")
    found = [arm_record("home-slot", 1), *(simulated(name) for name in names)]
    run = Run.read(write_run(tmp_path / "small", found))
    written = figures.write(run, tmp_path / "out")
    expected = {f"switching-{name}.{kind}" for name in figures.SWITCHING for kind in ("svg", "png")}
    assert {path.name for path in written} == expected


def test_equal_data_gives_equal_files(live: Run, tmp_path: Path) -> None:
    """Hatches and all."""
    found = latency_modes.data(live, "switching")
    assert found is not None
    written = []
    for name in ("one", "two"):
        with base.style():
            written.append(base.save(latency_modes.draw(found), tmp_path / name, "modes"))
    assert [path.read_bytes() for path in written[0]] == [path.read_bytes() for path in written[1]]
