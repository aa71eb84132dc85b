"""Pairs alternate, failures become failed rounds, and the benchmark stays whole."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from fixtures.options import Settings
from fixtures.pairing import Arm, Measured, Pairing, all_tokens
from reports.records import Record


class Benchmark:
    """pytest-benchmark's pedantic, as the pairing sees it: setup, target, teardown, warm-ups too."""

    def __init__(self) -> None:
        self.enabled = True
        self.has_error = False
        self.extra_info: dict[str, Any] = {}

    def pedantic(self, target: Any, *, setup: Any, teardown: Any, rounds: int, warmup_rounds: int) -> None:
        for _ in range(rounds + warmup_rounds):
            setup()
            target()
            teardown()


def record() -> Record:
    return Record(experiment="e", variant="v", control="c", backend="fake", profile="pocket")


def settings(rounds: int = 4, warmup_rounds: int = 1) -> Settings:
    return Settings(rounds=rounds, warmup_rounds=warmup_rounds)


def logging_arm(name: str, log: list[str], value: float = 1.0) -> Arm:
    def run() -> Measured:
        log.append(f"{name} runs")
        return Measured({"x_s": value})

    return Arm(name, run, lambda: log.append(f"{name} ready"), lambda: log.append(f"{name} over"))


def test_the_control_runs_before_the_variant_on_even_rounds_and_after_it_on_odd_ones() -> None:
    """AB BA: a linear drift cancels over two rounds."""
    log: list[str] = []
    pairing = Pairing(Benchmark(), settings(rounds=2, warmup_rounds=0))
    done = pairing.run(record(), logging_arm("v", log), logging_arm("c", log))
    assert [x for x in log if "runs" in x] == ["c runs", "v runs", "v runs", "c runs"]
    assert [r.order for r in done.rounds] == ["CT", "TC"]


def test_each_arm_is_prepared_and_cleaned_up_around_its_own_run() -> None:
    """Engines of the two arms never stand beside each other."""
    log: list[str] = []
    pairing = Pairing(Benchmark(), settings(rounds=1, warmup_rounds=0))
    pairing.run(record(), logging_arm("v", log), logging_arm("c", log))
    assert log == ["c ready", "c runs", "c over", "v ready", "v runs", "v over"]


def test_warm_up_rounds_are_run_and_not_recorded() -> None:
    """Two warm-ups and three rounds leave three rounds, the first with the control first."""
    log: list[str] = []
    pairing = Pairing(Benchmark(), settings(rounds=3, warmup_rounds=2))
    done = pairing.run(record(), logging_arm("v", log), logging_arm("c", log))
    assert log.count("v runs") == 5
    assert [r.order for r in done.rounds] == ["CT", "TC", "CT"]
    assert done.complete
    assert done.settings["rounds"] == 3


def test_a_round_that_raises_is_a_failed_round_and_the_next_one_runs() -> None:
    """The target never raises, since pytest-benchmark would drop the whole benchmark."""
    calls = itertools.count()

    def run() -> Measured:
        if next(calls) == 1:
            raise RuntimeError("engine went away")
        return Measured({"x_s": 1.0})

    benchmark = Benchmark()
    done = Pairing(benchmark, settings(rounds=3, warmup_rounds=0)).run(record(), Arm("v", run))
    assert [r.treatment for r in done.rounds] == [{"x_s": 1.0}, None, {"x_s": 1.0}]
    assert [(f.arm, f.round, f.error) for f in done.failures] == [
        ("treatment", 1, "RuntimeError: engine went away")
    ]
    assert benchmark.extra_info["assay"]["failures"]


@pytest.mark.parametrize("order", [0, 1])
def test_an_engine_that_does_not_start_fails_its_arm_alone(order: int) -> None:
    """The other arm of the pair is measured all the same."""

    def broken() -> None:
        raise OSError("no port")

    arms = [Arm("v", lambda: Measured({"x_s": 1.0})), Arm("c", lambda: Measured({"x_s": 2.0}))]
    arms[order] = arms[order]._replace(prepare=broken)
    done = Pairing(Benchmark(), settings(rounds=2, warmup_rounds=0)).run(record(), *arms)
    failed, whole = ("treatment", "control") if order == 0 else ("control", "treatment")
    assert all(getattr(r, failed) is None for r in done.rounds)
    assert all(getattr(r, whole) is not None for r in done.rounds)
    assert {f.arm for f in done.failures} == {failed}


def test_failures_inside_an_arm_are_kept_with_their_round() -> None:
    """A task that failed is named; the rest of the round stands."""
    arm = Arm("v", lambda: Measured({"x_s": 1.0}, [("t1", "code: timed out")]))
    done = Pairing(Benchmark(), settings(rounds=2)).run(record(), arm)
    assert [(f.round, f.where) for f in done.failures] == [(0, "t1"), (1, "t1")]


def test_an_interruption_marks_the_benchmark_and_stores_what_there_is() -> None:
    """On Ctrl-C the record is stored, incomplete, and pytest-benchmark is told to leave the benchmark out."""
    calls = itertools.count()

    def run() -> Measured:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return Measured({"x_s": 1.0})

    benchmark = Benchmark()
    with pytest.raises(KeyboardInterrupt):
        Pairing(benchmark, settings(rounds=5, warmup_rounds=0)).run(record(), Arm("v", run))
    assert benchmark.has_error
    assert benchmark.extra_info["assay"]["complete"] is False
    assert len(benchmark.extra_info["assay"]["rounds"]) == 2


def test_settings_of_its_own_replace_the_profiles() -> None:
    """A dear variant runs fewer rounds, and its record says how many."""
    done = Pairing(Benchmark(), settings(rounds=9)).run(
        record(), Arm("v", lambda: Measured({})), settings=settings(rounds=1, warmup_rounds=0)
    )
    assert len(done.rounds) == 1
    assert done.settings == {"rounds": 1, "warmup_rounds": 0}


@pytest.mark.parametrize(("counts", "num"), [([3, 0, 4], 7), ([3, None], None), ([], 0)])
def test_tokens_of_a_run_are_known_where_each_answers_are(counts: list[int | None], num: int | None) -> None:
    """The sum of the others would make each of them look dearer."""
    assert all_tokens(counts) == num
