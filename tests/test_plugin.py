"""The plugin as its user meets it: claims beside variants, a journal, a run folder, verdicts, resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reports.runs import Run
from reports.session import options
from tests.demo_suites import claim, conftest, journal, lock, make_suite, run_dir, verdict_rows

MARKERS = ("cascade", "nightly", "overhead", "gpu")

BENCH = """
import os, time
import pytest
from fixtures.pairing import Arm, Measured
from reports.records import Check, Metric, Record

pytestmark = pytest.mark.demo
FACTOR = {"half": 0.5, "same": 1.0, "broken": 1.0, "unlabelled": 0.5}


def arm(name, factor, fail=False):
    noise = iter([1.01, 0.99, 1.02, 0.98] * 100)

    def run():
        if fail:
            raise RuntimeError("engine went away")
        time.sleep(float(os.environ.get("SLEEP", "0")))
        return Measured({"wall_s": factor * next(noise)})

    return Arm(name, run)


@pytest.mark.parametrize("variant", FACTOR)
def test_demo(variant, paired):
    with open("ran.txt", "a") as log:
        log.write(variant + chr(10))
    record = Record(experiment="demo", variant=variant, control="full", backend="fake", profile="pocket",
                    metrics={"wall_s": Metric(unit="s", better="lower", what="wall")})
    record.checks.append(Check(name="labelled", ok=variant != "unlabelled", observed="the label"))
    paired.run(record, arm(variant, FACTOR[variant], fail=variant == "broken"), arm("full", 1.0))
    assert not record.failures, record.failures
    assert all(check.ok for check in record.checks)


@pytest.mark.nightly
@pytest.mark.parametrize("variant", ["slow"])
def test_demo_nightly(variant, paired):
    raise AssertionError("runs only when named")
"""

CLAIMS = (
    claim("half-is-faster", "half", 1.5)
    + claim("half-is-5x", "half", 5.0)
    + claim("same-is-faster", "same", 1.5)
    + claim("broken-is-faster", "broken", 1.5)
    + claim("label-is-true", "unlabelled", 1.5, more='provenance = ["labelled"]')
    + claim("needs-a-node", "half", 1.5, more='requires = ["profile:node"]')
    + claim("nobody-runs-it", "ghost", 1.5)
)


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    return make_suite(pytester, monkeypatch, BENCH, CLAIMS, markers=MARKERS)


def verdicts(suite: pytest.Pytester) -> dict[str, str]:
    return {row["id"]: row["verdict"] for row in verdict_rows(run_dir(suite))}


def ran(suite: pytest.Pytester) -> list[str]:
    path = suite.path / "ran.txt"
    return path.read_text().split() if path.exists() else []


def test_every_claim_gets_the_verdict_that_its_evidence_gives(suite: pytest.Pytester) -> None:
    """One run, one verdict of nearly every kind, in claims.json and in the terminal."""
    result = suite.runpytest("bench")
    assert verdicts(suite) == {
        "half-is-faster": "confirmed",
        "half-is-5x": "refuted",
        "same-is-faster": "refuted",
        "broken-is-faster": "error",
        "label-is-true": "invalid",
        "needs-a-node": "out of scope",
        "nobody-runs-it": "missing",
    }
    result.stdout.fnmatch_lines(["*half-is-faster*confirmed*", "*half-is-5x*refuted*", "run: *"])


def test_findings_pass_and_broken_evidence_fails(suite: pytest.Pytester) -> None:
    """Confirmed and refuted are findings; invalid, error and missing are failures; out of scope is a skip."""
    result = suite.runpytest("bench", "-rA")
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 5  # two variants, and the claims on them and on no variant
    assert outcomes["skipped"] == 1
    assert outcomes["confirmed"] == 1
    assert outcomes["refuted"] == 2


def test_a_failed_round_is_stored_with_its_benchmark(suite: pytest.Pytester) -> None:
    """The failing variant is in the journal, failures and all, and the others are in benchmark.json."""
    suite.runpytest("bench")
    entries = journal(suite)
    broken = next(e for e in entries if e["params"]["variant"] == "broken")
    assert broken["outcome"] == "failed"
    assert "engine went away" in broken["extra_info"]["assay"]["failures"][0]["error"]
    names = [b["name"] for b in json.loads((run_dir(suite) / "benchmark.json").read_text())["benchmarks"]]
    assert "test_demo[half]" in names


def test_a_claim_option_runs_just_what_the_claim_needs(suite: pytest.Pytester) -> None:
    """--claim selects one claim and its variant."""
    suite.runpytest("bench", "--claim", "half-is-5x").assert_outcomes(passed=1)
    assert ran(suite) == ["half"]
    assert verdicts(suite) == {"half-is-5x": "refuted"}


def test_an_unknown_claim_is_named_with_its_neighbours(suite: pytest.Pytester) -> None:
    """A misspelt id stops the run with a suggestion."""
    result = suite.runpytest("bench", "--claim", "half-is-6x")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no claim 'half-is-6x'*half-is-5x*"])


def test_a_file_alone_says_nothing_of_variants_that_another_file_may_run(suite: pytest.Pytester) -> None:
    """Two files may measure one experiment; only the whole folder can miss a variant."""
    suite.runpytest("bench/test_demo.py", "-k", "half or nobody")
    assert set(verdicts(suite)) == {"half-is-faster", "half-is-5x", "needs-a-node"}
    suite.runpytest("bench", "-k", "half or nobody")
    assert verdicts(suite)["nobody-runs-it"] == "missing"


def test_claims_whose_variants_were_not_selected_are_not_reported(suite: pytest.Pytester) -> None:
    """-k half reports the claims on half and no other."""
    suite.runpytest("bench", "-k", "half")
    assert set(verdicts(suite)) == {"half-is-faster", "half-is-5x", "needs-a-node"}


def test_long_tests_run_only_when_named(suite: pytest.Pytester) -> None:
    """Without -m nightly the nightly variant is deselected; with it, it runs."""
    suite.runpytest("bench", "--claims=off", "-k", "nightly").assert_outcomes(deselected=5)
    suite.runpytest("bench", "--claims=off", "-m", "nightly").assert_outcomes(failed=1, deselected=4)


def test_an_unknown_key_stops_collection(suite: pytest.Pytester) -> None:
    """A misspelt key in a claim is one clear error that names file, claim and key."""
    path = suite.path / "bench" / "claims" / "demo.toml"
    path.write_text(claim("half-is-faster", "half", 1.5, more="publishd = 3"))
    result = suite.runpytest("bench")
    result.stdout.fnmatch_lines(["*demo.toml*half-is-faster*publishd*"])
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert ran(suite) == []


def test_resuming_runs_no_finished_variant_again(suite: pytest.Pytester) -> None:
    """The second session measures only what failed, and its benchmark.json holds everything."""
    suite.runpytest("bench")
    first = run_dir(suite)
    before = ran(suite)
    result = suite.runpytest("bench", "--resume")
    assert ran(suite)[len(before) :] == ["broken", "unlabelled"]
    assert run_dir(suite) == first
    names = {b["name"] for b in json.loads((first / "benchmark.json").read_text())["benchmarks"]}
    assert {"test_demo[half]", "test_demo[same]"} <= names
    assert verdicts(suite)["half-is-faster"] == "confirmed"
    assert result.parseoutcomes()["resumed"] == 2


def test_replayed_rounds_keep_their_durations(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The durations in benchmark.json after a resume are the stored ones, to the last bit."""
    monkeypatch.setenv("SLEEP", "0.002")
    suite.runpytest("bench", "-k", "half", "--benchmark-json=a.json")
    suite.runpytest("bench", "-k", "half", "--resume", "--benchmark-json=b.json")
    a, b = (json.loads((suite.path / name).read_text())["benchmarks"][0] for name in ("a.json", "b.json"))
    assert a["stats"]["data"] == b["stats"]["data"]
    assert a["extra_info"] == b["extra_info"]


def test_resuming_under_another_plan_is_refused_and_says_what_differs(suite: pytest.Pytester) -> None:
    """Changed code or settings name themselves; nothing is run."""
    suite.runpytest("bench", "-k", "half")
    (suite.path / "bench" / "test_demo.py").write_text(BENCH + "\n# changed\n")
    before = ran(suite)
    result = suite.runpytest("bench", "-k", "half", "--resume", "--rounds", "3")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*another plan*", "*code: * → *", "*settings.rounds: *"])
    assert ran(suite) == before


def test_resuming_without_a_run_says_so(suite: pytest.Pytester) -> None:
    """There must be something to continue."""
    result = suite.runpytest("bench", "--resume")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--resume: no run in*"])


def test_a_killed_run_loses_only_the_variant_that_was_running(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL in the second variant: the first is resumed, the rest is measured, benchmark.json is whole."""
    monkeypatch.setenv("SLEEP", "0.05")
    command = [sys.executable, "-m", "pytest", "bench", "-k", "half or same", "-p", "no:cacheprovider"]
    process = subprocess.Popen(command, cwd=suite.path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(ran(suite)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert suite.runpytest("bench", "-k", "half or same", "--resume").ret == pytest.ExitCode.OK
    assert ran(suite) == ["half", "same", "same"]
    names = [b["name"] for b in json.loads((run_dir(suite) / "benchmark.json").read_text())["benchmarks"]]
    assert names == ["test_demo[half]", "test_demo[same]"]


def test_the_gate_fails_on_a_worse_verdict_and_names_it(suite: pytest.Pytester) -> None:
    """A lock that expects confirmed meets a refuted claim: the session fails and says which and why."""
    only = ("bench", "-k", "half or same")
    suite.runpytest(*only, "--claims=update")
    assert lock_of(suite)["half-is-faster"] == "confirmed"
    assert suite.runpytest(*only, "--claims=gate").ret == pytest.ExitCode.OK
    lock(suite, half_is_faster="confirmed", same_is_faster="confirmed")
    result = suite.runpytest(*only, "--claims=gate")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*same-is-faster: confirmed in claims.lock, refuted now*"])


def test_the_run_folder_holds_the_plan_and_the_claims_it_was_judged_by(suite: pytest.Pytester) -> None:
    """What was decided can be decided again from the folder alone."""
    suite.runpytest("bench", "-k", "half")
    folder = run_dir(suite)
    about = json.loads((folder / "run.json").read_text())
    assert {"code", "weights", "settings", "machine", "packages"} <= set(about["plan"])
    assert about["started"].endswith("+00:00")
    assert about["commit"] is None  # no checkout
    assert (folder / "claims" / "demo.toml").read_text() == CLAIMS


def test_a_journal_and_the_benchmarks_beside_it_hold_the_same(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either is read as a run; the journal tells what the whole test took, and not its rounds alone."""
    monkeypatch.setenv("SLEEP", "0.05")
    suite.runpytest("bench", "-k", "half or same", "--rounds", "2")
    whole, benchmarks = Run.read(run_dir(suite)), Run.read(run_dir(suite) / "benchmark.json")
    assert [r.variant for r in whole.records] == ["half", "same"]
    assert benchmarks.records == whole.records
    for entry, benchmark in zip(whole.entries, benchmarks.entries, strict=True):
        assert benchmark.data == entry.data
        assert entry.duration_s is not None
        assert entry.duration_s > sum(entry.data)


def test_collecting_only_leaves_no_run_behind(suite: pytest.Pytester) -> None:
    """--collect-only measures nothing and writes nothing."""
    suite.runpytest("bench", "--collect-only")
    assert not (suite.path / "results").exists()


def test_tests_outside_bench_are_left_alone(pytester: pytest.Pytester) -> None:
    """An ordinary suite with the plugin loaded writes no results folder and reports no claims."""
    pytester.makeconftest(conftest())
    pytester.makepyfile("def test_x(): pass")
    result = pytester.runpytest()
    result.assert_outcomes(passed=1)
    assert not (pytester.path / "results").exists()


def test_a_full_disk_stops_the_run_with_one_line(suite: pytest.Pytester) -> None:
    """The journal's error names the remedy, and what was recorded before is kept."""
    (suite.path / "full.py").write_text(
        "import errno, os\n"
        "real = os.fsync\n"
        "calls = []\n"
        "def full(fd):\n"
        "    calls.append(fd)\n"
        "    if len(calls) > 1:\n"
        "        raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    real(fd)\n"
        "os.fsync = full\n"
    )
    result = suite.runpytest_subprocess("bench", "-k", "half or same", "-p", "full")
    assert result.ret != 0
    output = result.outlines + result.errlines
    assert any("journal: cannot append" in x and "--resume" in x for x in output), output
    assert not any("Traceback" in x or "INTERNALERROR" in x for x in output)
    assert [entry["params"]["variant"] for entry in journal(suite)] == ["half"]


def usage_error(result: pytest.RunResult, pattern: str) -> None:
    """The run ended in one line on stderr, with no traceback."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert len([line for line in result.errlines if line]) == 1, result.errlines
    result.stderr.fnmatch_lines([f"ERROR: {pattern}"])
    assert not any("INTERNALERROR" in line for line in result.outlines)


def damage_plan(suite: pytest.Pytester) -> None:
    (run_dir(suite) / "run.json").write_text("{")


def damage_journal(suite: pytest.Pytester) -> None:
    path = run_dir(suite) / "journal.jsonl"
    path.write_text("nonsense\n" + path.read_text())


@pytest.mark.parametrize(
    ("damage", "pattern"),
    [(damage_plan, "*run.json*"), (damage_journal, "*journal.jsonl, line 1: not JSON*")],
    ids=["plan", "journal"],
)
def test_a_damaged_run_is_one_line_when_it_is_resumed(
    suite: pytest.Pytester, damage: Callable[[pytest.Pytester], None], pattern: str
) -> None:
    """A corrupt plan or journal names its file; nothing is measured."""
    suite.runpytest("bench", "-k", "half")
    before = ran(suite)
    damage(suite)
    usage_error(suite.runpytest("bench", "-k", "half", "--resume"), pattern)
    assert ran(suite) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"pocket": {"half-is-faster": "splendid"}}'])
def test_a_damaged_lock_is_one_line(suite: pytest.Pytester, text: str) -> None:
    """What is no map of verdicts stops the gate and the update before anything is measured."""
    (suite.path / "claims.lock").write_text(text)
    for mode in ("gate", "update"):
        usage_error(suite.runpytest("bench", f"--claims={mode}"), "*claims.lock*--claims=update*")
    assert ran(suite) == []


def test_an_unwritable_results_folder_is_one_line(suite: pytest.Pytester) -> None:
    """It is named before anything is measured."""
    (suite.path / "results").write_text("a file")
    usage_error(suite.runpytest("bench", "-k", "half"), "results: cannot write*--results-dir DIR*")
    assert ran(suite) == []


def test_a_disk_that_fills_at_the_end_is_one_line(suite: pytest.Pytester) -> None:
    """claims.json cannot be written: the run says so, and its journal is kept."""
    (suite.path / "full.py").write_text(
        "import errno, os\n"
        "real = os.replace\n"
        "def full(a, b):\n"
        "    if str(b).endswith('claims.json'):\n"
        "        raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    real(a, b)\n"
        "os.replace = full\n"
    )
    result = suite.runpytest_subprocess("bench", "-k", "half", "-p", "full")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(["*cannot be finished*No space left on device*python -m reports verdicts*"])
    assert not any("Traceback" in x or "INTERNALERROR" in x for x in result.outlines + result.errlines)
    assert (run_dir(suite) / "journal.jsonl").read_text().count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_for_the_benchmarks_is_one_line(suite: pytest.Pytester) -> None:
    """benchmark.json is pytest-benchmark's to write; its failure keeps the journal and is no traceback."""
    result = suite.runpytest_subprocess("bench", "-k", "half", "--benchmark-json=/dev/full")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    output = result.outlines + result.errlines
    assert any("cannot be finished" in x and "--resume" in x for x in output), output
    assert not any("Traceback" in x or "INTERNALERROR" in x for x in output), output
    assert (run_dir(suite) / "journal.jsonl").read_text().count("\n") == 1


def lock_of(suite: pytest.Pytester) -> dict[str, str]:
    found: dict[str, str] = json.loads((suite.path / "claims.lock").read_text())["pocket"]
    return found


def test_a_gate_without_a_lock_says_how_to_make_it(suite: pytest.Pytester) -> None:
    """No lock, or none for this profile, is no pass."""
    usage_error(
        suite.runpytest("bench", "--claims=gate"), "*expects nothing of profile pocket*--claims=update"
    )
    lock(suite, "node", half_is_faster="confirmed")
    usage_error(
        suite.runpytest("bench", "--claims=gate"), "*expects nothing of profile pocket*--claims=update"
    )


def test_the_gate_fails_on_a_locked_claim_that_is_gone(suite: pytest.Pytester) -> None:
    """A removed claim is named, unless only a part of the suite was asked for."""
    lock(suite, half_is_faster="confirmed", was_here="confirmed")
    usage_error(suite.runpytest("bench", "--claims=gate"), "*no claim is called any more: was-here;*")
    assert suite.runpytest("bench", "--claims=gate", "-k", "half").ret == pytest.ExitCode.OK


def test_the_gate_warns_of_what_it_does_not_fail(suite: pytest.Pytester) -> None:
    """A held claim that cannot be judged here is a warning among the claims."""
    lock(suite, needs_a_node="confirmed")
    result = suite.runpytest("bench", "--claims=gate", "-k", "half")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["needs-a-node*confirmed*out of scope*warn*needs profile:node"])


def test_a_lock_holds_no_broken_evidence_and_no_removed_claim(suite: pytest.Pytester) -> None:
    """Missing, error and invalid are nothing to expect; the old word of such a claim stays."""
    lock(suite, was_here="confirmed", broken_is_faster="confirmed")
    result = suite.runpytest("bench", "--claims=update")
    found = lock_of(suite)
    assert found["broken-is-faster"] == "confirmed"
    assert found["half-is-5x"] == "refuted"
    assert not {"was-here", "label-is-true", "nobody-runs-it"} & found.keys()
    result.stdout.fnmatch_lines(["not put into claims.lock: broken-is-faster (error)*"])


def test_a_part_of_the_suite_leaves_the_rest_of_the_lock(suite: pytest.Pytester) -> None:
    """An update of one claim drops no other."""
    lock(suite, was_here="confirmed", same_is_faster="inconclusive")
    suite.runpytest("bench", "--claims=update", "-k", "half")
    assert lock_of(suite)["was-here"] == "confirmed"
    assert lock_of(suite)["half-is-faster"] == "confirmed"


def test_a_session_that_was_cut_short_rewrites_no_lock(suite: pytest.Pytester) -> None:
    """-x stopped it: nobody knows what the rest would have said."""
    lock(suite, same_is_faster="inconclusive")
    before = lock_of(suite)
    result = suite.runpytest("bench", "--claims=update", "-x")
    result.stdout.fnmatch_lines(["claims.lock is left as it was*"])
    assert lock_of(suite) == before


def test_a_variant_that_passed_without_rounds_is_measured_and_journaled(suite: pytest.Pytester) -> None:
    """The first run had --benchmark-disable: its entry has nothing to replay, so the next one measures."""
    suite.runpytest("bench", "-k", "half", "--benchmark-disable")
    result = suite.runpytest("bench", "-k", "half", "--resume")
    assert "resumed" not in result.parseoutcomes()
    entries = journal(suite)
    assert [bool(e["data"]) for e in entries] == [False, True]
    assert suite.runpytest("bench", "-k", "half", "--resume").parseoutcomes()["resumed"] == 1


@pytest.mark.parametrize(
    "args",
    [
        ("--deselect", "bench/test_demo.py::test_demo[same]"),
        ("-k", "not same"),
        ("-m", "not other"),
    ],
    ids=["deselect", "k", "m"],
)
def test_a_claim_whose_treatment_was_deselected_is_not_reported(
    suite: pytest.Pytester, args: tuple[str, str]
) -> None:
    """However it was deselected; and a claim that no test could decide stays missing."""
    path = suite.path / "bench" / "test_demo.py"
    path.write_text(
        BENCH.replace(
            '@pytest.mark.parametrize("variant", FACTOR)',
            '@pytest.mark.parametrize("variant", [pytest.param(v, marks=[pytest.mark.cascade]'
            ' * (v == "same")) for v in FACTOR])',
        )
    )
    suite.runpytest("bench", *(a.replace("other", "cascade") for a in args))
    found = verdicts(suite)
    assert "same-is-faster" not in found
    assert found["half-is-faster"] == "confirmed"
    assert found["nobody-runs-it"] == "missing"


def test_the_last_failures_bring_no_claims_on_what_passed(suite: pytest.Pytester) -> None:
    """--lf measures what failed and reports the claims on it."""
    suite.runpytest("bench")
    before = ran(suite)
    suite.runpytest("bench", "--lf")
    assert ran(suite)[len(before) :] == ["broken", "unlabelled"]
    assert set(verdicts(suite)) == {"broken-is-faster", "label-is-true"}


@pytest.mark.parametrize("name", ["test_demo_nightly", "test_demo_nightly[slow]"])
def test_a_long_test_runs_when_its_function_is_named(suite: pytest.Pytester, name: str) -> None:
    """With or without the parameter."""
    suite.runpytest(f"bench/test_demo.py::{name}", "--claims=off").assert_outcomes(failed=1)


@pytest.mark.parametrize("args", [("bench",), (".",), ("bench/test_demo.py::test_demo",)])
def test_benchmarks_refuse_to_run_in_workers(suite: pytest.Pytester, args: tuple[str, ...]) -> None:
    """Records would vanish with the workers; the remedy stands in the message."""
    usage_error(suite.runpytest(*args, "-n", "1", "-p", "xdist"), "*run without -n")
    assert ran(suite) == []


def test_other_tests_run_in_workers(suite: pytest.Pytester) -> None:
    """tests/ under -n is left alone."""
    tests = suite.mkdir("tests")
    (tests / "test_x.py").write_text("def test_x(): pass")
    suite.runpytest("tests", "-n", "1", "-p", "xdist").assert_outcomes(passed=1)


def test_what_runs_only_when_named_does_so_in_workers_too(suite: pytest.Pytester) -> None:
    """A long test is left out, and another one that is named runs."""
    tests = suite.mkdir("tests")
    long = "import pytest\n@pytest.mark.nightly\ndef test_long(): pass\n"
    (tests / "test_x.py").write_text(long)
    (tests / "test_y.py").write_text(f"{long}def test_short(): pass\n")
    found = suite.runpytest("tests/test_x.py::test_long", "tests/test_y.py", "-n", "1", "-p", "xdist", "-v")
    found.assert_outcomes(passed=2)
    found.stdout.fnmatch_lines_random(["*PASSED*test_x.py::test_long*", "*PASSED*test_y.py::test_short*"])


def test_a_plan_changes_with_what_is_measured(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template, a model file's contents, the threads' environment and the record's schema all count."""
    model = suite.path / "m.gguf"
    model.write_text("weights")
    (suite.path / "harness").mkdir()
    (suite.path / "reports").mkdir()
    config = suite.parseconfig("--backend", f"large=gguf:{model}?n_ctx=512")

    def changed(act: Callable[[], object]) -> list[str]:
        then = options.plan_of(config)
        act()
        now = options.plan_of(config)
        return [key for key in then if then[key] != now[key]]

    assert changed(lambda: None) == []
    assert changed(lambda: (suite.path / "harness" / "chat.jinja").write_text("{{ x }}")) == ["data"]
    assert changed(lambda: model.write_text("other weights")) == ["models"]
    assert changed(lambda: monkeypatch.setenv("OMP_NUM_THREADS", "7")) == ["environment"]
    assert changed(lambda: monkeypatch.setenv("OMP_WAIT_POLICY", "passive")) == ["environment"]
    assert changed(lambda: (suite.path / "reports" / "records.py").write_text("SCHEMA = 2")) == ["code"]
    assert "aiohttp" in options.plan_of(config)["packages"]


def test_a_model_file_that_is_not_there_is_one_line(suite: pytest.Pytester) -> None:
    """It is named before anything is measured."""
    usage_error(suite.runpytest("bench", "--backend", "large=gguf:nowhere.gguf"), "*no file nowhere.gguf*")
