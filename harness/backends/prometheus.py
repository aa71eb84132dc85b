"""Counters as servers publish them: Prometheus text, one sample a line.

Source: the text format of the Prometheus project (docs/instrumenting/exposition_formats.md). Timestamps and
exemplars are dropped, comments and types too: a sample's name already says what it is (`_total`, `_bucket`).
"""

from __future__ import annotations

import re

__all__ = ["parse_samples"]

_LABELS = r'\{(?:[^"{}]|"(?:[^"\\]|\\.)*")*\}'
_SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*({_LABELS})?\s+(\S+)(?:\s|$)")


def parse_samples(text: str) -> dict[str, float]:
    """The samples, `name{labels}` → value, labels as the server wrote them.

    Raises
    ------
    ValueError: a line is neither a comment nor a sample.
    """
    samples: dict[str, float] = {}
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _SAMPLE.match(line)
        if match is None:
            raise ValueError(f"no sample: {line[:80]!r}")
        name, labels, value = match.groups()
        samples[name + (labels or "")] = float(value)
    return samples
