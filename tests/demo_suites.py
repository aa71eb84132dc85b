"""A suite of one made-up experiment, "demo", in pytester's folder, and what its newest run left behind.

What draws and judges is loaded here, since compiled modules cannot be loaded anew for every inner session.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401
import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401

__all__ = ["ROOT", "claim", "conftest", "journal", "lock", "make_suite", "run_dir", "verdict_rows"]

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = ("reports.plugin", "fixtures.options", "fixtures.pairing")
CLAIM = """
[[claim]]
id = "{id}"
version = 1
source = "{source}"
says = "{says}"
form = "{form}"
metric = "wall_s"
treatment = "{treatment}"
control = "full"
published = {published}
{more}
"""


def claim(
    id: str,
    treatment: str,
    published: float,
    form: str = "at_least",
    *,
    more: str = "",
    source: str = "a paper, Table 1",
    says: str = "it is faster",
) -> str:
    """A claim on the time of a variant beside the arm "full".

    Arguments: `more`, further lines of TOML.
    """
    return CLAIM.format(
        id=id, treatment=treatment, published=published, form=form, more=more, source=source, says=says
    )


def conftest(*more: str) -> str:
    """A conftest.py that loads the plugin, the options, the pairing and `more`."""
    return f"pytest_plugins = {list(PLUGINS + more)}"


def make_suite(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    bench: str,
    claims: str,
    *,
    plugins: Sequence[str] = (),
    markers: Sequence[str] = (),
) -> pytest.Pytester:
    """Write bench/test_demo.py and its claims; sessions over it write lines of 100 columns.

    Arguments: `plugins` and `markers`, those beside the usual ones.
    """
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "100")
    pytester.makeconftest(conftest(*plugins))
    pytester.makeini("[pytest]\nmarkers =\n" + "".join(f"    {m}: here\n" for m in ("demo", *markers)))
    folder = pytester.mkdir("bench")
    (folder / "test_demo.py").write_text(bench)
    (folder / "claims").mkdir()
    (folder / "claims" / "demo.toml").write_text(claims)
    return pytester


def lock(suite: pytest.Pytester, profile: str = "pocket", **rows: str) -> None:
    """Expect these verdicts of a profile: claim, its hyphens as underscores, and word."""
    words = {name.replace("_", "-"): word for name, word in rows.items()}
    (suite.path / "claims.lock").write_text(json.dumps({profile: words}))


def run_dir(suite: pytest.Pytester, results: str = "results") -> Path:
    """The folder of the last session."""
    return max((suite.path / results).iterdir())


def journal(suite: pytest.Pytester) -> list[dict[str, Any]]:
    """The lines of its journal."""
    return [json.loads(line) for line in (run_dir(suite) / "journal.jsonl").read_text().splitlines()]


def verdict_rows(run: Path) -> list[dict[str, Any]]:
    """The rows of its claims.json."""
    rows: list[dict[str, Any]] = json.loads((run / "claims.json").read_text())["claims"]
    return rows
