"""The agents' figures: what they compute, and that they say what they show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")

from reports import figures
from reports.figures import arrivals, base, density, reflect, scaling
from reports.runs import Run
from tests.synthetic_agents import record_of, records
from tests.synthetic_runs import write_run

NAMES = ("scaling", "reflect", "arrivals", "density")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run.read(write_run(tmp_path_factory.mktemp("runs") / "one", records()))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Shared sessions alone, without a curve."""
    return Run.read(write_run(tmp_path_factory.mktemp("runs") / "bare", [record_of("shared-2")]))


def test_figure_6_holds_every_arm_and_marks_who_was_refused(run: Run) -> None:
    """Steps in milliseconds, queueing apart, a cross at the count that was refused."""
    found = scaling.data(run, "agents")
    assert found is not None
    assert found.arms == (
        "ray-keepalive", "ray-serverless", "shared-recompute", "shared", "engine-prefix-cache"
    )  # fmt: skip
    by = {(count.arm, count.agents): count for count in found.counts}
    assert {count.agents for count in found.counts if count.oom_at is not None} == {4}
    assert len(by["ray-keepalive", 4].reason_ms) == 3
    assert len(by["shared", 32].reflect_ms) == 4 * 32
    waited = by["shared", 32].queue_ms
    assert waited is not None
    assert waited > 100 * (by["shared", 1].queue_ms or 0.001)
    with base.style():
        figure = scaling.draw(found)
    panels = [axes for axes in figure.get_axes() if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == ["REASON", "REFLECT", "queueing, both steps"]
    assert all(axes.get_xscale() == axes.get_yscale() == "log" for axes in panels)
    crosses = [line for axes in panels for line in axes.get_lines() if line.get_marker() == "X"]
    assert len(crosses) == 2
    assert panels[0].get_ylim() == panels[1].get_ylim()


def test_the_roofline_says_from_which_prompt_on_5x_are_possible(run: Run) -> None:
    """Per device and new tokens, as the claims' bounds compute it."""
    found = reflect.data(run, "agents")
    assert found is not None
    begins = {(one.device, one.new_tokens): one.from_prompt for one in found.allowed}
    assert begins == {
        ("A100", 1): 383, ("A100", 5): 1607, ("A100", 50): 15_379,
        ("H100", 1): 739, ("H100", 5): 3102, ("H100", 50): 29_685,
    }  # fmt: skip
    assert found.ratios.keys() == {"shared", "engine-prefix-cache"}
    assert all(sorted(of) == [64, 128, 256, 512, 1024] for of in found.ratios.values())
    assert all(len(of) == 3 for of in found.ratios["shared"].values())
    assert dict(found.predicted)[1024] == pytest.approx(1024 / 33)


def test_arrivals_have_their_saturation_and_a_replay_its_label(run: Run) -> None:
    """What was simulated says so in the figure's own words."""
    found = arrivals.data(run, "agents")
    assert found is not None
    assert found.saturation_per_s is not None
    assert found.saturation_per_s == pytest.approx(6.0)
    assert [(c.arm, c.phase) for c in found.rates] == [("shared", "reason"), ("shared", "reflect")]
    assert found.rates[0].points[-1][0] > found.saturation_per_s
    assert [x for x, _ in found.replayed[-1].p99s] == [1000, 10_000]
    assert "measured and simulated" in found.scope
    with base.style():
        titles = [axes.get_title(loc="left") for axes in arrivals.draw(found).get_axes()]
    assert "simulated, 3 agents/s" in titles


def test_density_stands_beside_what_arithmetic_predicts(run: Run) -> None:
    """At 450 MB three models, or 37 sessions."""
    found = density.data(run, "agents")
    assert found is not None
    at = {fit.budget_bytes: fit for fit in found.fits}
    assert (at[450_000_000].own, at[450_000_000].sessions) == (3, 37)
    assert all((fit.own, fit.sessions) == (fit.predicted_own, fit.predicted_sessions) for fit in found.fits)


@pytest.mark.parametrize("name", ["reflect", "arrivals", "density"])
def test_a_curve_that_did_not_run_is_left_out(bare: Run, name: str) -> None:
    """And Figure 6 shows what there is."""
    modules = {"reflect": reflect, "arrivals": arrivals, "density": density}
    assert modules[name].data(bare, "agents") is None
    assert scaling.data(bare, "agents") is not None


def test_half_of_the_arrivals_is_drawn_alone(tmp_path: Path) -> None:
    """The other half says that it was not run."""
    for name in ("curve-rate", "replay"):
        half = arrivals.data(Run.read(write_run(tmp_path / name, [record_of(name)])), "agents")
        assert half is not None
        with base.style():
            texts = [text.get_text() for axes in arrivals.draw(half).get_axes() for text in axes.texts]
        assert "not run" in texts


def test_an_arm_of_which_nobody_found_room_is_marked_too(tmp_path: Path) -> None:
    """Without a step there is no height to stand at, so that it stands at the top."""
    refused = record_of("ray-keepalive-4")
    refused.sweep = [p for p in refused.sweep if p["name"] != "request"]
    path = write_run(tmp_path / "refused", [refused, record_of("shared-4")])
    found = scaling.data(Run.read(path), "agents")
    assert found is not None
    with base.style():
        figure = scaling.draw(found)
    crosses = [line for axes in figure.get_axes() for line in axes.get_lines() if line.get_marker() == "X"]
    heights: list[Any] = [line.get_ydata() for line in crosses]
    assert [float(height[0]) for height in heights] == [0.97, 0.97]


def test_all_are_written_with_the_claims(tmp_path: Path) -> None:
    """SVG and PNG, and none of the cascade's figures."""
    names = ("shared-2", "curve-prompt", "curve-rate", "curve-density", "replay")
    run = Run.read(write_run(tmp_path / "small", [record_of(name) for name in names]))
    written = {path.name for path in figures.write(run, tmp_path / "out")}
    expected = {f"agents-{name}.{kind}" for name in (*NAMES, "claims") for kind in ("svg", "png")}
    assert written == expected
