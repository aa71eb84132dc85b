"""What the gate must fail on, in a session and from the stored files alone; and what it must let pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reports.__main__ import main
from tests.demo_suites import claim, lock, make_suite, run_dir

BENCH = """
import pytest
from fixtures.pairing import Arm, Measured
from reports.records import Check, Metric, Record

pytestmark = pytest.mark.demo
FACTOR = {"half": 0.5, "random": 0.9}
HONEST = {"half": True, "random": True}


@pytest.mark.parametrize("variant", FACTOR)
def test_demo(variant, paired):
    noise = iter([1.01, 0.99, 0.98, 1.02] * 100)
    record = Record(experiment="demo", variant=variant, control="full", backend="fake", profile="pocket",
                    metrics={"wall_s": Metric(unit="s", better="lower", what="wall")}, launch="round")
    record.checks.append(Check(name="labelled", ok=HONEST[variant], observed="the label"))
    paired.run(record, Arm(variant, lambda: Measured({"wall_s": FACTOR[variant] * next(noise)})),
               Arm("full", lambda: Measured({"wall_s": 1.0})))
    assert all(check.ok for check in record.checks)
"""

MORE = 'provenance = ["labelled"]\nalso_beats = ["random"]'
CLAIMS = claim("half-is-faster", "half", 1.5, more=MORE)
OTHER = claim("random-is-5x", "random", 5.0)


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A suite of two variants and two claims, the lock of which expects what an honest run finds."""
    lock(pytester, half_is_faster="confirmed", random_is_5x="refuted")
    return make_suite(pytester, monkeypatch, BENCH, CLAIMS + OTHER)


def change(suite: pytest.Pytester, old: str, new: str, file: str = "test_demo.py") -> None:
    path = suite.path / "bench" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def online(suite: pytest.Pytester) -> pytest.RunResult:
    return suite.runpytest("bench", "--rounds=4", "--claims=gate")


def refuted(suite: pytest.Pytester) -> None:
    change(suite, '"half": 0.5', '"half": 1.1')


def renamed(suite: pytest.Pytester) -> None:
    change(suite, '"half"', '"halved"')


def invalid(suite: pytest.Pytester) -> None:
    change(suite, '"half": True', '"half": False')


def invalid_control(suite: pytest.Pytester) -> None:
    """Nobody can say any more that half beats what it must beat."""
    change(suite, '"random": True', '"random": False')


def crashed(suite: pytest.Pytester) -> None:
    change(suite, "    noise =", "    if variant == 'half':\n        raise RuntimeError('gone')\n    noise =")


CASES: dict[str, tuple[Callable[[pytest.Pytester], None], str]] = {
    "refuted": (refuted, "half-is-faster*confirmed*refuted*fail*"),
    "renamed benchmark": (renamed, "half-is-faster*confirmed*missing*fail*"),
    "invalid": (invalid, "half-is-faster*confirmed*invalid*fail*"),
    "invalid control": (invalid_control, "half-is-faster*confirmed*confirmed, but*fail*"),
    "crashed variant": (crashed, "half-is-faster*confirmed*error*fail*"),
}


@pytest.mark.parametrize(("damage", "row"), CASES.values(), ids=CASES)
def test_the_gate_fails(
    suite: pytest.Pytester,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[pytest.Pytester], None],
    row: str,
) -> None:
    """In the session with status 1, and again from what it left behind; the row says what changed."""
    damage(suite)
    result = online(suite)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    capsys.readouterr()
    assert main(["verdicts", str(run_dir(suite)), "--gate"]) == 1
    offline = capsys.readouterr().out.splitlines()
    for lines in (result.outlines, offline):
        pytest.LineMatcher(lines).fnmatch_lines([row.replace("but", "*"), "1 claim as locked"])


def test_the_gate_passes_what_is_as_locked(
    suite: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, status 0, and nothing is written: what is committed stays as it is."""
    assert online(suite).ret == pytest.ExitCode.OK
    before = {path: path.read_bytes() for path in run_dir(suite).rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["verdicts", str(run_dir(suite)), "--gate"]) == 0
    assert capsys.readouterr().out == "2 claims as locked\n"
    assert {path: path.read_bytes() for path in run_dir(suite).rglob("*") if path.is_file()} == before


def test_a_claim_that_is_new_to_the_lock_is_named_until_it_is_added(
    suite: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a session and from the files alone: nobody would notice if it fell. It is no reason to fail."""
    lock(suite, half_is_faster="confirmed")
    new = "1 claim is not in claims.lock: random-is-5x; {} adds it"
    result = online(suite)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["1 claim as locked", new.format("--claims=update")])
    run = str(run_dir(suite))
    capsys.readouterr()
    assert main(["verdicts", run, "--gate"]) == 0
    assert capsys.readouterr().out == f"1 claim as locked\n{new.format('--update')}\n"
    assert main(["verdicts", run, "--update"]) == 0
    online(suite).stdout.no_fnmatch_line("*not in claims.lock*")


def test_a_gate_that_judged_nothing_says_so(suite: pytest.Pytester) -> None:
    """Where the tests are named one by one, their claims are not among them."""
    result = suite.runpytest("bench/test_demo.py::test_demo[half]", "--rounds=2", "--claims=gate")
    result.stdout.fnmatch_lines(["*= gate =*", "no claim was judged, so that nothing was compared with *"])
    assert result.ret == pytest.ExitCode.OK


def test_the_gate_fails_on_a_deleted_claim(
    suite: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the session before anything is measured; offline the run's own snapshot does not hide it."""
    online(suite)
    run = run_dir(suite)
    (suite.path / "bench" / "claims" / "demo.toml").write_text(OTHER)
    result = online(suite)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "half-is-faster" in "\n".join(result.errlines)
    assert run_dir(suite) == run
    capsys.readouterr()
    assert main(["verdicts", str(run), "--gate"]) == 1
    pytest.LineMatcher(capsys.readouterr().out.splitlines()).fnmatch_lines(["half-is-faster*gone*fail*"])
