"""What a source's own cells allow: numbers that it states beside others which rule them out.

No machine is looked at. A rate is tokens ÷ seconds, and a run in sequence takes as long as its parts, whoever
measured them: a source that states all three states at least one wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping

from reports.bounds.base import Bound

__all__ = ["stated_rate", "summed_cells"]


def stated_rate(*, max_tokens: float, min_seconds: float, published: float) -> Bound:
    """The most tokens per second by a source's own ranges: most tokens in the shortest time.

    Arguments: `published`, the rate that it states beside them.
    """
    value = max_tokens / min_seconds
    return Bound(
        name="stated_rate",
        side="at_most",
        value=value,
        unit="tok/s",
        inputs={"max_tokens": max_tokens, "min_seconds": min_seconds, "published": published},
        arithmetic=(
            f"by the source's own cells ≤ {max_tokens:g} tokens ÷ {min_seconds:g} s = {value:.3g} tok/s, "
            "its most tokens in its shortest time"
        ),
        condition=f"{published:g} tok/s need {published * min_seconds:,.0f} tokens in that time",
    )


def summed_cells(*, seconds: Mapping[str, float], tasks: int, published_s: float) -> Bound:
    """The most seconds that a run in sequence takes by a source's own cells: each cell's longest, per task.

    Arguments: `seconds`, cell → longest time of one task.
    """
    if not seconds or tasks < 1:
        raise ValueError("no cells, or no tasks")
    value = tasks * sum(seconds.values())
    cells = " + ".join(f"{cell:g}" for cell in seconds.values())
    return Bound(
        name="summed_cells",
        side="at_most",
        value=value,
        unit="s",
        inputs={"seconds": dict(seconds), "tasks": tasks, "published_s": published_s},
        arithmetic=f"by the source's own cells ≤ {tasks} tasks × ({cells}) s = {value:g} s, each at its most",
        condition=f"{published_s:g} s would need ≥ {published_s / value:.3g} runs of it",
    )
