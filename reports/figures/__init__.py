"""The figures of a run, each from its folder alone.

A figure is a module with `data(run, experiment)`, which computes, and `draw(data)`, which only draws.
Where `data` finds nothing and returns None, the figure is left out. `write` makes all of them.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from reports.runs import Run

__all__ = ["AGENTS", "DECODE", "NAMES", "ROUTING", "STRATEGIES", "SWITCHING", "write"]

NAMES = ("stages", "pareto", "goodput", "claims")
"""The figures of an experiment; each is written as <experiment>-<name>.svg and .png."""
ROUTING = ("timeline", "score-cost", "regret", "solve-time", "violations", "sweeps", "claims")
"""Those of the experiment "routing", whose jobs have no stages and which is offered no load."""
DECODE = ("decoding", "roofline", "claims")
"""Those of the experiment "decode"."""
AGENTS = ("scaling", "reflect", "arrivals", "density", "claims")
"""Those of the experiment "agents"."""
SWITCHING = ("latency-cdf", "latency-modes", "buffers", "policies", "links", "requests-timeline", "claims")
"""Those of the experiment "switching"."""
STRATEGIES = ("front", "samples", "tokens", "claims")
"""Those of the experiment "strategies"."""
OWN = {
    "routing": ROUTING,
    "decode": DECODE,
    "agents": AGENTS,
    "switching": SWITCHING,
    "strategies": STRATEGIES,
}
"""Experiment → its figures; others have `NAMES`."""


def write(run: Run, folder: Path) -> list[Path]:
    """Draw every figure of every experiment of `run` into `folder`; returns the files written."""
    from reports.figures import base

    out: list[Path] = []
    for experiment in run.experiments:
        for name in OWN.get(experiment, NAMES):
            module = import_module(f"reports.figures.{name.replace('-', '_')}")
            with base.style():
                found = module.data(run, experiment)
                if found is not None:
                    out += base.save(module.draw(found), folder, f"{experiment}-{name}")
    return out
