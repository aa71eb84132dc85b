"""A run's outcomes become cells: nothing is a pass that was not seen to pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CONFTEST = """
from tests.conformance import cells, extras, recording
from tests.conformance.conftest import *
from tests.conformance.conftest import subject, servers
from pathlib import Path

recording.write.__defaults__ = (Path(__file__).parent / "cells",)
extras.LACKS[("fake", "never declares what it has")] = "[source](x): says so"
for lack in ("declares what it lacks", "crashes at what it lacks"):
    extras.LACKS[("fake", lack)] = "[source](x): says so"
"""
SUITE = """
import pytest

def test_holds(subject): subject.note("42 of 42")
def test_breaks(subject): assert not subject.name, "seen: a name"
def test_declares_what_it_lacks(subject): assert False
def test_crashes_at_what_it_lacks(subject): raise TypeError("no such argument")
def test_never_declares_what_it_has(subject): pass
def test_cannot_be_seen(subject): pytest.skip("no path tokenizes")
@pytest.mark.parametrize("way", ["chat", "prompt"])
def test_holds_one_way(subject, way): assert way == "chat", "broke"
@pytest.mark.replays("ollama", "core", "holds")
def test_recorded(): pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A small suite with the hooks of this folder, in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(SUITE)
    return pytester


def test_each_outcome_makes_its_cell(suite: pytest.Pytester) -> None:
    """Pass, failure, absence, a crash at it, absence that is none, no view, replay: each is its own word."""
    result = suite.runpytest_subprocess("-p", "no:benchmark", "--subjects", "fake", "--record-conformance")
    result.assert_outcomes(passed=3, failed=4, xfailed=1, skipped=1)
    stored = json.loads((suite.path / "cells" / "fake.json").read_text())
    assert stored["client"] == "FakeBackend"
    assert {c["behaviour"]: (c["outcome"], c["reason"]) for c in stored["cells"]} == {
        "holds": ("pass", ""),
        "breaks": ("fail", "seen: a name"),
        "declares what it lacks": ("not offered", "[source](x): says so"),
        "crashes at what it lacks": ("fail", "no such argument"),
        "never declares what it has": ("fail", "[XPASS(strict)] [source](x): says so"),
        "cannot be seen": ("not run", "no path tokenizes"),
        "holds one way": ("fail", "broke"),
    }
    assert stored["cells"][0]["evidence"] == "42 of 42"
    [replayed] = json.loads((suite.path / "cells" / "ollama.json").read_text())["cells"]
    assert replayed["outcome"] == "replay"


def test_an_unknown_subject_is_named(suite: pytest.Pytester) -> None:
    """A slip of the pen runs nothing, and lists what there is."""
    result = suite.runpytest_subprocess("-p", "no:benchmark", "--subjects", "vlm")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--subjects vlm: use some of llamacpp, *vllm*"])
