"""The gate's one rerun in a session: what is measured again, what both attempts say, and what is kept."""

from __future__ import annotations

import json

import pytest

from reports import attempts
from tests.demo_suites import claim, journal, lock, make_suite, run_dir, verdict_rows

NAMES = ("steady", "noisy", "open", "late", "stopped", "gone")

BENCH = """
import pytest
from fixtures.pairing import Arm, Measured
from reports.records import Metric, Record

pytestmark = pytest.mark.demo
NOISE = {"wild": (2.1, 0.5, 0.5, 2.1), "calm": (1.01, 0.99, 0.99, 1.01)}


def attempt(variant):
    with open("ran.txt", "a+") as log:
        log.write(variant + chr(10))
        log.seek(0)
        return log.read().split().count(variant)


@pytest.fixture
def fresh():
    with open("fixtures.txt", "a") as log:
        log.write("up" + chr(10))
    yield


@pytest.mark.parametrize("variant", ["steady", "noisy", "open", "late", "stopped", "gone"])
def test_demo(variant, paired, fresh):
    at = attempt(variant)
    if at > 1 and variant == "stopped":
        raise KeyboardInterrupt
    if at > 1 and variant == "gone":
        pytest.skip("the server went away")
    is_wild = variant == "open" or (variant != "steady" and at == 1)
    noise = iter(NOISE["wild" if is_wild else "calm"] * 100)
    record = Record(experiment="demo", variant=variant, control="full", backend="fake", profile="pocket",
                    metrics={"wall_s": Metric(unit="s", better="lower", what="wall")}, launch="round")

    def run():
        if at > 1 and variant == "late":
            raise RuntimeError("engine went away")
        return Measured({"wall_s": 0.5 * next(noise)})

    paired.run(record, Arm(variant, run), Arm("full", lambda: Measured({"wall_s": 1.0})))
    assert not record.failures, record.failures
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A suite of which some variants are noisy when they run first, and a lock that says all held."""
    lock(pytester, **{f"{name}-is-faster": "confirmed" for name in NAMES})
    claims = "".join(claim(f"{name}-is-faster", name, 1.1) for name in NAMES)
    return make_suite(pytester, monkeypatch, BENCH, claims)


def gated(suite: pytest.Pytester, only: str, *more: str, rounds: int = 4) -> pytest.RunResult:
    return suite.runpytest("bench", "-k", only, f"--rounds={rounds}", "--claims=gate", *more)


def words(suite: pytest.Pytester) -> dict[str, str]:
    return {row["treatment"]: row["word"] for row in verdict_rows(run_dir(suite))}


def ran(suite: pytest.Pytester) -> list[str]:
    return (suite.path / "ran.txt").read_text().split()


def test_a_held_claim_that_is_open_is_measured_once_more_and_both_attempts_count(
    suite: pytest.Pytester,
) -> None:
    """Only its own variant runs again, with fixtures of its own, and the run says so."""
    result = gated(suite, "steady or noisy")
    assert result.ret == pytest.ExitCode.OK
    assert ran(suite) == ["steady", "noisy", "noisy"]
    assert (suite.path / "fixtures.txt").read_text().count("up") == 3
    assert words(suite) == {"steady": "confirmed", "noisy": "confirmed"}
    result.stdout.fnmatch_lines(
        [
            "*gate: 1 claim to settle by measuring 1 variant once more: noisy-is-faster*",
            "*3 of 3 passed: *noisy*",
            "*2 claims as locked*",
        ]
    )
    result.stdout.fnmatch_lines(["*1 measured again*"])


def test_both_attempts_stay_in_the_journal_and_are_read_as_one(suite: pytest.Pytester) -> None:
    """The reader makes of them what the session made."""
    gated(suite, "noisy")
    lines = journal(suite)
    assert [line.get("attempt", 1) for line in lines] == [1, 2]
    assert [len(line["extra_info"]["assay"]["rounds"]) for line in lines] == [4, 4]
    (entry,) = attempts.joined(lines)
    rounds = entry["extra_info"]["assay"]["rounds"]
    assert len(rounds) == 8
    (benchmark,) = json.loads((run_dir(suite) / "benchmark.json").read_text())["benchmarks"]
    assert len(benchmark["stats"]["data"]) == 4
    assert benchmark["extra_info"]["assay"]["rounds"] == rounds


def test_what_stays_open_is_a_warning(suite: pytest.Pytester) -> None:
    """It was run twice, not three times, and the session passes."""
    result = gated(suite, "open")
    assert result.ret == pytest.ExitCode.OK
    assert ran(suite) == ["open", "open"]
    result.stdout.fnmatch_lines(["open-is-faster *confirmed *inconclusive *warn *more rounds*"])


def test_a_rerun_that_fails_counts(suite: pytest.Pytester) -> None:
    """Failures are never dropped: the session fails, and its rounds count as failed ones."""
    result = gated(suite, "late")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert ran(suite) == ["late", "late"]
    failures = attempts.joined(journal(suite))[0]["extra_info"]["assay"]["failures"]
    assert {f["round"] for f in failures} == {-1, 4, 5, 6, 7}


def test_a_rerun_that_was_interrupted_keeps_the_first_result(suite: pytest.Pytester) -> None:
    """Ctrl-C ends the session with what was measured: in the journal, judged, and in benchmark.json once."""
    args = ("bench", "-k", "stopped", "--rounds=4", "--claims=gate")
    result = suite.runpytest_inprocess(*args, no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert len(journal(suite)) == 1
    assert words(suite) == {"stopped": "inconclusive"}
    (benchmark,) = json.loads((run_dir(suite) / "benchmark.json").read_text())["benchmarks"]
    assert len(benchmark["stats"]["data"]) == 4


def test_a_rerun_that_is_skipped_says_nothing(suite: pytest.Pytester) -> None:
    """The first result stands, and is a warning."""
    result = gated(suite, "gone")
    assert result.ret == pytest.ExitCode.OK
    assert words(suite) == {"gone": "inconclusive"}


def test_a_resumed_run_measures_again_what_it_replays(suite: pytest.Pytester) -> None:
    """The first attempt comes from the journal, the second is measured, and a third never happens."""
    suite.runpytest("bench", "-k", "noisy", "--rounds=4")
    result = gated(suite, "noisy", "--resume")
    assert result.ret == pytest.ExitCode.OK
    assert ran(suite) == ["noisy", "noisy"]
    assert words(suite) == {"noisy": "confirmed"}
    assert gated(suite, "noisy", "--resume").ret == pytest.ExitCode.OK
    assert ran(suite) == ["noisy", "noisy"]
    assert words(suite) == {"noisy": "confirmed"}


def test_a_run_that_was_asked_to_be_short_stays_short(suite: pytest.Pytester) -> None:
    """What three rounds leave open is a warning at once."""
    assert gated(suite, "noisy", rounds=3).ret == pytest.ExitCode.OK
    assert ran(suite) == ["noisy"]
    assert words(suite) == {"noisy": "inconclusive"}


def test_nothing_is_measured_again_outside_of_the_gate(suite: pytest.Pytester) -> None:
    """A report is what one run found."""
    suite.runpytest("bench", "-k", "noisy or open", "--rounds=4")
    assert ran(suite) == ["noisy", "open"]
