"""The figures of a run, each from its folder alone.

A figure is a module with `data(run, experiment)`, which computes, and `draw(data)`, which only draws.
`write` makes all of them.
"""

from __future__ import annotations

from pathlib import Path

from reports.runs import Run

__all__ = ["NAMES", "write"]

NAMES = ("stages", "pareto", "goodput", "claims")
"""The figures of an experiment; each is written as <experiment>-<name>.svg and .png."""


def write(run: Run, folder: Path) -> list[Path]:
    """Draw every figure of every experiment of `run` into `folder`; returns the files written."""
    from reports.figures import base, claims, goodput, pareto, stages

    out: list[Path] = []
    for experiment in run.experiments:
        with base.style():
            drawn = {
                "stages": stages.draw(stages.data(run, experiment)),
                "pareto": pareto.draw(pareto.data(run, experiment)),
                "goodput": goodput.draw(goodput.data(run, experiment)),
                "claims": claims.draw(claims.data(run, experiment)),
            }
            for name in NAMES:
                out += base.save(drawn[name], folder, f"{experiment}-{name}")
    return out
