"""The gate by itself: what it makes of a verdict, what the lock holds, and how it says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports import gate
from reports.verdicts import Verdict


def verdict(id: str, word: str = "refuted", p: float | None = None, **more: Any) -> Verdict:
    more = {"over": "rounds", "evidence": "measured", **more}
    return Verdict(id=id, version=1, experiment="cascade", verdict=word, p=p, **more)


def beside(name: str, low: float | None, high: float | None, *, beaten: bool = False) -> dict[str, Any]:
    interval = None if low is None else [low, high]
    return {"variant": name, "advantage": None, "interval": interval, "beaten": beaten, "why": "…"}


def only(expected: str, found: Verdict) -> gate.Ruling:
    return gate.gate({found.id: expected}, [found])[found.id]


# the gated family


@pytest.mark.parametrize(
    ("p", "outcome"), [(0.01, "fail"), (0.03, "rerun"), (None, "fail")], ids=["clear", "by chance", "exact"]
)
def test_a_refutation_fails_the_gate_only_below_five_percent_of_holm(p: float | None, outcome: str) -> None:
    """Beside one open claim a p of 0.03 is 0.06; a form without p values fails as it is."""
    found = gate.gate(
        {"a": "confirmed", "b": "confirmed"}, [verdict("a", p=p), verdict("b", "inconclusive", 0.5)]
    )
    assert found["a"].outcome == outcome
    assert found["b"].outcome == "rerun"
    assert ("Holm" in found["a"].why) == (outcome == "rerun")


def test_claims_that_are_not_locked_do_not_widen_the_family() -> None:
    """Only locked claims that held count: 0.03 stays 0.03."""
    others = [verdict("b", p=0.5), verdict("c", p=0.5)]
    found = gate.gate({"a": "confirmed", "b": "refuted"}, [verdict("a", p=0.03), *others])
    assert {name: ruling.outcome for name, ruling in found.items()} == {"a": "fail", "b": "ok"}


def test_what_is_open_after_the_rerun_is_a_warning_and_nothing_else_changes() -> None:
    """A rerun happens once."""
    found = gate.gate(
        dict.fromkeys("abc", "confirmed"),
        [verdict("a", "inconclusive"), verdict("b"), verdict("c", "confirmed")],
    )
    assert {name: r.outcome for name, r in found.items()} == {"a": "rerun", "b": "fail", "c": "ok"}
    assert {name: r.outcome for name, r in gate.final(found).items()} == {"a": "warn", "b": "fail", "c": "ok"}


@pytest.mark.parametrize("over", ["tasks", "jobs"])
def test_what_is_graded_greedily_is_not_rerun(over: str) -> None:
    """Once more would be the same observation, so that it warns at once."""
    assert only("confirmed", verdict("a", "inconclusive", over=over)).outcome == "warn"
    assert only("confirmed", verdict("a", "inconclusive", evidence="simulated")).outcome == "warn"


def test_claims_that_hold_do_not_make_a_refutation_by_chance_count() -> None:
    """A p of 0.01 that one of 20 claims shows is 0.2, however surely the 19 others hold."""
    others = [verdict(f"b{i}", "confirmed", 1e-6) for i in range(19)]
    found = gate.gate({v.id: "confirmed" for v in [*others, verdict("a")]}, [*others, verdict("a", p=0.01)])
    assert found["a"].outcome == "rerun"


# trivial alternatives


@pytest.mark.parametrize(
    ("control", "outcome"),
    [
        (beside("random", -0.1, 0.3), "rerun"),
        (beside("random", -0.3, -0.1), "fail"),
        (beside("random", None, None), "fail"),
        (beside("random", 0.1, 0.3), "fail"),
    ],
    ids=["not told apart", "it is ahead", "invalid", "its rounds failed"],
)
def test_a_claim_that_loses_to_an_alternative_fails_unless_chance_explains_it(
    control: dict[str, Any], outcome: str
) -> None:
    """An alternative that is merely not told apart any more is measured once more."""
    found = verdict("a", "confirmed", controls=(control, beside("best", 0.1, 0.2, beaten=True)))
    found = replace(found, not_against=("random",))
    assert only("confirmed", found).outcome == outcome
    assert only("confirmed, but", found).outcome == "ok"


# launches


@pytest.mark.parametrize("over", ["rounds", "requests"])
def test_what_stays_up_is_settled_from_three_launches_on(over: str) -> None:
    """Its rounds share a launch: below three sessions "confirmed" is no word for lock and gate."""
    one = verdict("a", "confirmed", over=over, launch="session", launches=1)
    assert gate.settled(one) == ("inconclusive", "1 of at least 3 launches: merge sessions")
    assert gate.settled(replace(one, launches=3)).word == "confirmed"
    assert gate.settled(replace(one, over="tasks")).word == "confirmed"
    assert gate.settled(replace(one, form="exact")).word == "confirmed"
    assert gate.settled(replace(one, launch="round", launches=2)).word == "confirmed"
    assert gate.settled(replace(one, launch=None, launches=None)).word == "confirmed"
    assert gate.settled(replace(one, verdict="refuted")).word == "refuted"


def test_too_few_launches_are_a_warning_that_no_rerun_can_lift() -> None:
    """A rerun in the same session is the same launch."""
    found = only("confirmed", verdict("a", "confirmed", launch="session", launches=1))
    assert (found.outcome, found.now) == ("warn", "inconclusive")
    assert "merge sessions" in found.why


def test_the_lock_takes_confirmed_from_three_launches_only(tmp_path: Path) -> None:
    """One session neither locks "confirmed" nor takes it from what merged sessions locked."""
    lock = tmp_path / "claims.lock"
    one = [verdict(id, "confirmed", launch="session", launches=1) for id in "ab"]
    lock.write_text(json.dumps({"pocket": {"b": "confirmed"}}))
    gate.write_lock(lock, "pocket", one)
    assert gate.read_lock(lock) == {"pocket": {"a": "inconclusive", "b": "confirmed"}}
    gate.write_lock(lock, "pocket", [replace(v, launches=3) for v in one])
    assert gate.read_lock(lock) == {"pocket": {"a": "confirmed", "b": "confirmed"}}


# claims that are gone, and the table


def test_a_locked_claim_that_is_gone_fails() -> None:
    """A deleted or renamed claim is no pass, whatever it was."""
    found = gate.gone({"a": "confirmed", "b": "refuted"}, {"a"})
    assert {name: r.outcome for name, r in found.items()} == {"b": "fail"}


def test_nothing_changed_is_one_line() -> None:
    """No table where there is nothing to say."""
    found = gate.gate({"a": "confirmed", "b": "refuted"}, [verdict("a", "confirmed"), verdict("b")])
    assert gate.gate_table(found.values()) == "2 claims as locked"


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_table_says_what_changed_and_why_and_fits(width: int) -> None:
    """Failures first; claims with one ruling for one reason are one row."""
    few = [verdict(f"stays-up-{i:03}", "confirmed", launch="session", launches=1) for i in range(9)]
    found = [
        *few,
        verdict("slower", reason="measured 0.9×, published 1.5×, " * 5),
        verdict("same", "confirmed"),
    ]
    table = gate.gate_table(gate.gate({v.id: "confirmed" for v in found}, found).values(), width)
    lines = table.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[2].startswith("slower")
    assert width < 100 or "stays-up-000 and 8 more" in table
    assert lines[-1] == "1 claim as locked"


# claims that are new


def test_claims_that_are_new_to_the_lock_are_one_sentence() -> None:
    """Few are named, and what is broken is not: nothing adds it."""
    found = [verdict(name) for name in "abcde"]
    assert gate.unlocked(dict.fromkeys("abcde", "refuted"), found, "--update") is None
    assert gate.unlocked({}, [verdict("a", "missing")], "--update") is None
    one = "1 claim is not in claims.lock: e; --update adds it"
    assert gate.unlocked(dict.fromkeys("abcd", "refuted"), [*found, verdict("f", "error")], "--update") == one
    all_of_them = "5 claims are not in claims.lock: a, b, c and 2 more; --update adds them"
    assert gate.unlocked({}, found, "--update") == all_of_them
