"""Stored results against claims.lock, nothing run: which files and claims, what is written, which status."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.records import Check, Metric, Record, Round
from tests.demo_suites import claim

NOISE = (0.01, -0.02, 0.015, -0.005)


def measured(experiment: str, at: int = 0) -> Record:
    """Half as long as its control, with a little noise that differs from session to session."""
    return Record(
        experiment=experiment,
        variant="half",
        control="full",
        backend="fake",
        profile="pocket",
        launch="round",
        metrics={"wall_s": Metric(unit="s", better="lower", what="wall")},
        rounds=[
            Round(order=order, treatment={"wall_s": 0.5 + noise + at / 1000}, control={"wall_s": 1.0})
            for order, noise in zip(("CT", "TC", "CT", "TC"), NOISE, strict=True)
        ],
        checks=[Check(name="labelled", ok=True, observed="the label")],
        complete=True,
    )


def stored(path: Path, experiment: str = "demo", at: int = 0, rounds: int = 4) -> Path:
    """A run's folder as a session leaves it."""
    (path / "claims").mkdir(parents=True)
    (path / "claims" / f"{experiment}.toml").write_text(claims(experiment))
    entry = {
        "nodeid": f"bench/test_{experiment}.py::test_it[half]",
        "experiment": experiment,
        "params": {"variant": "half"},
        "outcome": "passed",
        "why": "",
        "data": [0.5] * 4,
        "benchmark": None,
        "extra_info": {"assay": measured(experiment, at).to_json()},
    }
    (path / "journal.jsonl").write_text(json.dumps(entry) + "\n")
    plan = {"schema": 2, "plan": {"settings": {"profile": "pocket", "rounds": rounds}, "machine": "a"}}
    (path / "run.json").write_text(json.dumps(plan))
    return path


def claims(experiment: str, published: float = 1.5) -> str:
    return claim(f"{experiment}-is-faster", "half", published, more='provenance = ["labelled"]')


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with claims and a lock that a run of experiment demo meets."""
    (tmp_path / "bench" / "claims").mkdir(parents=True)
    for name in ("demo", "other"):
        (tmp_path / "bench" / "claims" / f"{name}.toml").write_text(claims(name))
    rows = {"demo-is-faster": "confirmed", "other-is-faster": "confirmed"}
    (tmp_path / "claims.lock").write_text(json.dumps({"pocket": rows}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gated(*paths: Path, more: tuple[str, ...] = ()) -> int:
    return main(["verdicts", *map(str, paths), "--gate", *more])


def test_nothing_is_written_and_what_was_not_measured_is_counted(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is committed stays as it is; a part of the suite says so."""
    run = stored(here / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert gated(run) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "1 claim as locked"
    assert second.startswith("1 more of claims.lock")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_experiments_of_several_runs_stand_side_by_side(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their plans may differ: they are no sessions of one measurement."""
    runs = stored(here / "a"), stored(here / "b", "other", rounds=9)
    assert gated(*runs) == 0
    assert capsys.readouterr().out == "2 claims as locked\n"


def test_a_profile_without_a_lock_hides_no_other(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its line says so; the other profile is gated, whichever file comes first."""
    replayed = stored(here / "replayed", "other")
    about = json.loads((replayed / "run.json").read_text())
    about["plan"]["settings"]["profile"] = "replay"
    (replayed / "run.json").write_text(json.dumps(about))
    assert gated(replayed, stored(here / "run")) == 2
    told = capsys.readouterr()
    assert "expects nothing of profile replay" in told.err
    assert "profile pocket\n1 claim as locked\n" in told.out


def test_a_claim_that_was_made_stricter_fails(here: Path) -> None:
    """The stored rounds are judged by the claims of the working directory, not by the run's."""
    run = stored(here / "run")
    (here / "bench" / "claims" / "demo.toml").write_text(claims("demo", 3.0))
    assert gated(run) == 1


def test_without_claims_at_hand_a_run_is_judged_by_its_own(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere the lock and the claims are named."""
    run = stored(here / "run")
    lock, claims_dir = str(here / "claims.lock"), here / "bench" / "claims"
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert gated(run) == 2
    assert "expects nothing of profile pocket" in capsys.readouterr().err
    assert gated(run, more=("--lock", lock)) == 0
    (claims_dir / "demo.toml").unlink()
    assert gated(run, more=("--lock", lock)) == 0
    assert gated(run, more=("--lock", lock, "--claims", str(claims_dir))) == 1
    shutil.rmtree(run / "claims")
    assert gated(run, more=("--lock", lock)) == 2
    assert "--claims DIR" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "", "[]", '{"benchmarks": []}', '{"a": 1}'])
def test_a_corrupt_file_is_named_and_the_others_are_judged(
    here: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Status 2 even where the rest passes, since nobody knows what the file would have said."""
    bad = here / "bad.json"
    bad.write_text(text)
    assert gated(bad, stored(here / "run")) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert "bad.json" in said.err
    assert said.err.count("\n") == 1
    assert said.out.startswith("1 claim as locked\n")


def test_nothing_but_corrupt_files_is_status_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no table of nothing."""
    assert gated(here / "nowhere") == 2
    assert not capsys.readouterr().out


def test_sessions_of_one_plan_are_judged_together(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs of one plan are one measurement; neither folder is written to."""
    runs = stored(here / "a"), stored(here / "b", at=1)
    assert main(["verdicts", *map(str, runs)]) == 0
    assert capsys.readouterr().out.count("demo-is-faster") == 1
    assert not any((run / "claims.json").exists() for run in runs)
    assert gated(*runs) == 0


def test_runs_of_two_plans_are_refused_by_the_field_that_differs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are no sessions of one measurement: status 2, and what else there is is judged."""
    runs = stored(here / "a"), stored(here / "b", at=1, rounds=6), stored(here / "c", "other")
    assert gated(*runs) == 2
    said = capsys.readouterr()
    assert "settings.rounds: 4 → 6" in said.err
    assert said.out.startswith("1 claim as locked\n")


def test_an_update_writes_what_the_files_say(here: Path) -> None:
    """The rows of the run's profile; another profile's stay, and claims that are gone do not."""
    lock = here / "claims.lock"
    lock.write_text(json.dumps({"node": {"x": "confirmed"}, "pocket": {"was-here": "confirmed"}}))
    assert main(["verdicts", str(stored(here / "run")), "--update"]) == 0
    assert json.loads(lock.read_text()) == {
        "node": {"x": "confirmed"},
        "pocket": {"demo-is-faster": "confirmed"},
    }


def test_evidence_that_broke_for_a_new_claim_is_a_warning(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A claim that is newer than the stored result is no reason to fail."""
    newer = claims("demo").replace("demo-is-faster", "newer").replace('"half"', '"ghost"')
    (here / "bench" / "claims" / "demo.toml").write_text(claims("demo") + newer)
    assert gated(stored(here / "run")) == 0
    assert "not in claims.lock" in capsys.readouterr().out


@pytest.mark.parametrize(
    "lock",
    ["{", "[]", *(json.dumps({"pocket": {"demo-is-faster": word}}) for word in ("fine", ["fine"], 3))],
)
def test_a_damaged_lock_is_one_line(here: Path, capsys: pytest.CaptureFixture[str], lock: str) -> None:
    """It is named, and the status is 2."""
    (here / "claims.lock").write_text(lock)
    assert gated(stored(here / "run")) == 2
    assert capsys.readouterr().err.count("\n") == 1
