"""What of a curve of agents is compared with the reference: what is recorded, and no warm-up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("msgspec")

from fixtures import agents_curves as curves
from fixtures.agents_values import Round, Taken
from fixtures.agents_variants import Work
from fixtures.decode_variants import Chosen
from harness.agents.base import Phase, Script, Step
from harness.errors import UnavailableError
from reports.records import Floor, Record

RIGHT, WRONG = (7, 8), (7, 9)


def a_script(num: int, index: int, prompt_tokens: int) -> list[Script]:
    return [Script(prompt_ids=(index + 10, prompt_tokens), observation_ids=(3,), new_tokens=2, sleep_s=0.0)]


def a_round(script: Script, wrong_index: int) -> Round:
    """Wrong where it is the round of that index."""
    ids = WRONG if script.prompt_ids[0] == wrong_index + 10 else RIGHT
    steps = (Step(token_ids=ids, asked_s=0, first_token_s=1, done_s=2, reused_tokens=0) for _ in Phase)
    return Round([Taken(0, phase, 0.0, one, 2) for phase, one in zip(Phase, steps, strict=True)])


def refuse(*_: object) -> None:
    raise UnavailableError("no such arm")


@pytest.mark.parametrize(
    ("profile", "wrong_index", "ok"),
    [
        ("node", -1, True),  # the warm-up
        ("node", 0, False),
        ("pocket", 0, False),
        ("pocket", 5, True),
    ],
)
def test_what_is_recorded_is_compared_and_not_what_warmed_up(
    profile: str, wrong_index: int, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each prompt once."""
    floor = Floor(name="roofline", inputs={}, value=1.0, unit="s")
    roofline = SimpleNamespace(floor=lambda _: floor, predicted=lambda *_: {})
    monkeypatch.setattr(curves, "Roofline", SimpleNamespace(measured=lambda _: roofline))
    monkeypatch.setattr(curves, "require", refuse)
    monkeypatch.setattr(curves, "play", lambda served, scripts, due_s: a_round(scripts[0], wrong_index))
    asked: list[Script] = []

    def expected(scripts: list[Script]) -> dict[tuple[int, Phase], tuple[int, ...]]:
        asked.extend(scripts)
        return {(0, phase): RIGHT for phase in Phase}

    stand = SimpleNamespace(
        model=None, work=Work(chosen=Chosen()), scripts=a_script, serve=lambda *_: None, run=lambda one: one,
        expected=expected,
    )  # fmt: skip
    record = Record(
        experiment="agents", variant="curve-prompt", control=None, backend="sessions", profile=profile
    )
    agents: Any = SimpleNamespace(profile=profile, stand=stand, record=lambda *_: record)
    paired: Any = SimpleNamespace(once=lambda _, run: run(), store=lambda _: None)
    found = curves.measure_prompts(agents, paired)
    (same,) = [check for check in found.checks if check.name == "equal_tokens"]
    assert same.ok is ok, same.observed
    assert [one.prompt_ids for one in asked] == [(10, tokens) for tokens in curves.PROMPTS]
