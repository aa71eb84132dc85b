"""Traces: the published one to the last digit, families by seed, files read strictly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError, WorkloadError
from harness.residency.traces import (
    Request,
    Trace,
    bursts,
    committed,
    cycle,
    dumps,
    load,
    published,
    zipf,
    zipf_shares,
)
from harness.residency.traces.__main__ import main

NAMES = ["a", "b", "c"]


def test_the_published_trace_is_drawn_again_to_the_last_digit() -> None:
    """The seed's generator, its seed and order give its 30 requests: 13, 9 and 8, the last at 48.35 s."""
    trace = published()
    assert trace.counts == {"llama-7b": 13, "mistral-7b": 9, "phi-2": 8}
    assert trace.requests[0] == Request(0.9385361799537182, "mistral-7b", 512, 50, 11.394267984578837)
    assert (trace.requests[29].at_s, trace.requests[29].think_s) == (48.34801836396175, 11.037260313668911)


def test_the_committed_trace_is_the_published_one() -> None:
    """As data, it does not depend on anyone's random numbers."""
    assert committed() == published()


@pytest.mark.parametrize("num_requests", [30, 10_000])
def test_a_seed_fixes_a_trace(num_requests: int) -> None:
    """Equal seeds give equal traces, others do not; times rise from 0."""
    for make in (lambda s: zipf(NAMES, num_requests, seed=s), lambda s: bursts(NAMES, num_requests, seed=s)):
        assert make(3) == make(3)
        assert make(3).models != make(4).models
        assert len(make(3).requests) == num_requests


def test_zipf_is_by_rank() -> None:
    """10,000 draws come within two points of rank^-alpha; alpha 0 is uniform."""
    for alpha in (0.0, 1.0, 1.5):
        trace = zipf(NAMES, 10_000, alpha=alpha, seed=1)
        shares = [trace.counts[name] / 10_000 for name in NAMES]
        assert shares == pytest.approx(zipf_shares(3, alpha), abs=0.02)
    assert zipf_shares(3, 1.0) == pytest.approx([6 / 11, 3 / 11, 2 / 11])


def test_bursts_repeat_a_model_as_often_as_asked() -> None:
    """Two bursts of one model in a row look like one, so the model changes a little less often than they
    end."""
    trace = bursts(NAMES, 10_000, alpha=0.0, mean_burst=8.0, seed=1)
    changes = sum(a != b for a, b in zip(trace.models, trace.models[1:], strict=False))
    assert 10_000 / changes == pytest.approx(8.0 / (1 - 1 / 3), rel=0.1)


def test_a_cycle_asks_for_every_model_in_turn() -> None:
    """The adversary of recency."""
    assert cycle(NAMES, 5).models == ("a", "b", "c", "a", "b")


@given(
    rows=st.lists(
        st.tuples(
            st.floats(0, 1e6), st.sampled_from(NAMES), st.integers(1, 9), st.integers(1, 9), st.floats(0, 9),
            st.none() | st.text(min_size=1).filter(str.strip),
        ),
        min_size=1, max_size=8,
    )
)  # fmt: skip
def test_a_trace_written_is_read_back(rows: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever it holds."""
    trace = Trace(
        name="mine", source="here", requests=tuple(Request(*row) for row in sorted(rows, key=lambda r: r[0]))
    )
    path = tmp_path_factory.getbasetemp() / "trace.json"
    path.write_text(dumps(trace), encoding="utf-8")
    assert load(path) == trace


SOUND = {
    "schema": 1, "name": "mine", "source": "here", "prompt_tokens": 8, "output_tokens": 4,
    "requests": [{"at_s": 0, "model": "a"}, {"at_s": 1.5, "model": "b", "output_tokens": 9, "prompt": "why"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema: 2 is not allowed; this version reads schema 1"),
        ({"requests": []}, "requests: [] is not allowed; write a list of at least one object"),
        ({"prompt_tokens": 0}, "prompt_tokens: 0 is not allowed; write a whole number, at least 1"),
        ({"seed": 1}, "seed: 1 is not allowed; unknown key, remove it"),
        ({"requests": [{"at_s": 0}]}, "request #1: model: missing; add it (see docs/traces.md)"),
        ({"requests": [{"at_s": -1, "model": "a"}]}, "#1: at_s: -1 is not allowed; write seconds"),
        ({"requests": [{"at_s": 0, "model": "z"}]}, "#1: model: 'z' is not allowed; there is no such model"),
        ({"requests": [{"at_s": 0, "model": "a", "think": 1}]}, "#1: think: 1 is not allowed; unknown key"),
        ({"requests": [{"at_s": 0, "model": "a", "think_s": True}]}, "think_s: True is not allowed"),
        (
            {"requests": [{"at_s": 2, "model": "a"}, {"at_s": 1, "model": "a"}]},
            "request #2: at_s: 1 is not allowed; it is before 2, the request above",
        ),
        ({"requests": ["a"]}, "request #1: (object): 'a' is not allowed; write a JSON object here"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_trace_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """File, request, key, value and remedy stand in one line."""
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(SOUND | change))
    with pytest.raises(WorkloadError) as caught:
        load(path, ["a", "b"])
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_sound_trace_keeps_each_requests_own_lengths(tmp_path: Path) -> None:
    """What a request leaves out is the file's."""
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(SOUND))
    assert load(path).requests == (Request(0.0, "a", 8, 4), Request(1.5, "b", 8, 9, 0.0, "why"))


def test_models_are_renamed_all_or_not_at_all() -> None:
    """A trace of the published models serves for any other three."""
    assert cycle(NAMES, 2).renamed({"a": "x", "b": "y"}).models == ("x", "y")
    with pytest.raises(UsageError, match="trace cycle: no name for b; name a, b"):
        cycle(NAMES, 2).renamed({"a": "x"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zipf", "--alpha", "-1"], "alpha -1.0; give"),
        (["zipf", "--alpha", "nan"], "alpha nan; give"),
        (["zipf", "--models", "a,,b"], "--models a,,b: give different names"),
        (["cycle", "--models", "a,a"], "--models a,a: give different names"),
        (["zipf", "--requests", "0"], "--requests 0: give 1 to 10000"),
        (["zipf", "--seed", "-3"], "seed is -3; give"),
        (["bursts", "--mean-burst", "0.5"], "mean_burst is 0.5 requests; give at least 1"),
        (["check", "nowhere.json"], "nowhere.json: cannot be read"),
        (["published", "--out", "no/such/folder.json"], "--out no/such/folder.json: cannot be written"),
    ],
)
def test_the_command_says_what_makes_no_sense(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, with status 2."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("family", ["published", "zipf", "bursts", "cycle"])
def test_the_command_writes_what_it_reads(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trace made is a trace that passes its check, and is never written over another."""
    path = tmp_path / "trace.json"
    assert main([family, "--requests", "40", "--out", str(path)]) == 0
    assert main(["check", str(path)]) == 0
    assert "40 requests" in capsys.readouterr().out
    assert main([family, "--out", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err
