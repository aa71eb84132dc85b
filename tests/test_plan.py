"""Plans say of every claim what it needs and takes, or why nothing decides it."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.__main__ import main
from reports.planning import Planned, plan, total_of
from reports.plans.expenses import PRICES, expense_of
from reports.records import Record
from reports.runs import Entry, Run
from tests.resampled_runs import REFERENCE
from tests.synthetic_runs import record

# claims


@pytest.fixture(scope="module")
def planned() -> dict[str, Planned]:
    """The plan from the committed run of four experiments."""
    return {one.claim: one for one in plan([Run.read(REFERENCE / "pocket")], 0.9)}


def test_every_claim_has_a_number_or_a_reason(planned: dict[str, Planned]) -> None:
    assert len(planned) > 300
    assert all((one.needs is not None) or one.why for one in planned.values())


def test_a_claim_that_was_decided_clearly_needs_no_more_than_it_had(planned: dict[str, Planned]) -> None:
    one = planned["pocket-batched-5x"]
    assert one.word == "confirmed"
    assert one.needs is not None
    assert one.has is not None
    assert one.needs <= one.has


def test_an_undecided_claim_needs_more_than_it_had(planned: dict[str, Planned]) -> None:
    """Those that rounds can decide at all."""
    open_ones = [one for one in planned.values() if one.word == "inconclusive" and one.needs]
    assert open_ones
    assert all(one.needs > (one.has or 0) for one in open_ones if one.needs and not one.why)


def test_equal_arms_that_claim_to_differ_are_never_decided(planned: dict[str, Planned]) -> None:
    """`pocket-same-is-same` says so of the baseline beside itself, on whose threshold it lies."""
    assert "never" in planned["pocket-same-is-same"].why


def test_what_no_measurement_decides_needs_none(planned: dict[str, Planned]) -> None:
    for one in planned.values():
        if one.word in ("impossible", "out of scope"):
            assert (one.needs, one.expense) == (None, None)


def test_the_total_counts_each_test_once(planned: dict[str, Planned]) -> None:
    some = [one for one in planned.values() if one.needs is not None]
    total = total_of(some)
    assert total.tests == len({test for one in some for test, _ in one.parts})
    assert {one.test for one in some} <= {test for one in some for test, _ in one.parts}
    assert total.seconds < sum(one.expense.seconds for one in some if one.expense)


def test_a_claim_against_another_variant_takes_that_ones_rounds_too(planned: dict[str, Planned]) -> None:
    """A round of semantic-blind at 1 Gbps takes 4.6 s, and one of full 0.1 s."""
    one = planned["pocket-blind-30x"]
    assert [test.rpartition("[")[2] for test, _ in one.parts] == ["full-1gbps]", "semantic-blind-1gbps]"]
    assert one.needs is not None
    assert one.expense is not None
    assert one.expense.seconds > 4.6 * one.needs
    assert replace(one, parts=(*one.parts, ("unknown", None))).expense is None


# minutes and cost


def entry(made: Record, **changes: Any) -> Entry:
    return Entry(nodeid="t", outcome="passed", record=made, **{"data": (2.0,) * len(made.rounds), **changes})


def test_a_round_takes_both_arms() -> None:
    """The control's share follows by the clock that is most like the whole round's."""
    made = record("cascade", num_rounds=4, num_graded=0)
    cheap = replace(made, metrics={"total_s": made.metrics["total_s"]})
    ratio = sum(c / t for t, c in made.pairs("total_s")) / 4
    found = expense_of(entry(cheap), 10, "rounds")
    assert found is not None
    assert found.seconds == pytest.approx(11 * 2.0 * (1 + ratio), rel=0.01)
    assert found.usd == pytest.approx(found.seconds * 0.0425 / 3600, rel=1.0)


def test_what_is_left_of_a_test_is_counted_once() -> None:
    """Ten times the rounds are not ten times the grading."""
    made = replace(record("baseline", num_rounds=4, num_graded=0), settings={"warmup_rounds": 0})
    few, many = (expense_of(entry(made, duration_s=108.0), n, "rounds") for n in (4, 40))
    assert few is not None
    assert many is not None
    assert (few.seconds, many.seconds) == (108.0, 180.0)


def test_costs_are_the_recorded_ones() -> None:
    made = replace(record("baseline", num_rounds=4, num_graded=0), settings={"warmup_rounds": 0})
    found = expense_of(entry(made), 8, "rounds")
    assert found is not None
    assert found.usd == pytest.approx(2 * sum(made.values("cost_usd")), rel=1e-9)


def test_the_price_of_a_vcpu_is_that_of_the_registry() -> None:
    """Reports import nothing of the harness, so that the row stands twice."""
    registry = Path(__file__).resolve().parents[1] / "harness" / "models" / "registry.toml"
    (row,) = [p for p in tomllib.loads(registry.read_text())["compute_price"] if p["name"] == "vcpu"]
    ours = tomllib.loads(PRICES.read_text())["vcpu"]
    assert (ours["usd_per_hour"], ours["source"]) == (row["usd_per_hour"], row["source"])


# the command line


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_the_plan_of_one_experiment_fits_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["plan", "-m", "cascade", "--power", "0.9"]) == 0
    out = capsys.readouterr().out
    assert "pocket-" in out
    assert "pocket-batched-5x" not in out
    assert max(map(len, out.splitlines())) <= columns
    assert "all that can be decided:" in out


def test_one_claim_is_planned_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    assert main(["plan", "--claim", "pocket-batched-5x", "--json", str(target)]) == 0
    (one,) = json.loads(target.read_text())["claims"]
    assert one["needs"] >= 2
    assert one["expense"]["seconds"] > 0
    assert "pocket-batched-5x" in capsys.readouterr().out


def test_detection_says_rounds_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-m", "cascade", "--detect", "10%"]) == 0
    out = capsys.readouterr().out
    assert "test_cascade[hybrid] total_s" in out
    assert "which Holm leaves" in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-m", "cascades"], "no experiment 'cascades' in these runs; there are: cascade"),
        (
            ["--claim", "pocket-batched-6x"],
            "no claim 'pocket-batched-6x' in these runs; there are: pocket-batched-5x",
        ),
        (["--detect", "10%", "-m", "cascades"], "no experiment 'cascades'"),
        (["--detect", "10%", "--claim", "pocket-batched-5x"], "--detect is about tests, not claims"),
    ],
)
def test_what_is_not_there_is_named(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *args]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_run_that_cannot_be_read_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(REFERENCE / "pocket-strategies"), "nowhere"]) == 1
    assert main(["plan", "nowhere"]) == 2
    assert capsys.readouterr().err.count("error: nowhere") == 2


@pytest.mark.parametrize("text", ["2", "0", "x", "90"])
def test_a_power_is_a_share(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--power", text])
    assert "write 0.9" in capsys.readouterr().err
