"""`--collect-only` says what a run would do, and what it says is what committed runs did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from reports import journal
from reports.runs import Run

ROOT = Path(__file__).resolve().parents[1]
REFERENCES = sorted((ROOT / "reports" / "reference").iterdir())
HERE = {"profile": "pocket", "node": None, "backend": [], "workload": None, "tasks": None, "rounds": None}
ANY = "nightly or not nightly"
FEWER_NOW = {
    "bench/test_cascade.py::test_cascade_load": (4, 0),
    "bench/test_strategies.py::test_strategies": (6, 1),
}
"""Test → rounds and warm-ups of committed runs from before it was measured less often."""

COLLECT = """
import json, sys
import pytest

for name in sys.argv[2].split(","):
    if name:
        sys.modules[name] = None  # as where it is not installed


class Dump:
    def pytest_collection_finish(self, session):
        from fixtures.planned import planned_of
        from fixtures.preview import fate_of, _offers, variant_of
        from reports.session.items import ClaimItem, experiment_of, is_variant

        plans = {i.nodeid: planned_of(i) for i in session.items if is_variant(i)}
        tests = [i for i in session.items if is_variant(i)]
        fates = {}
        for item in session.items:
            if isinstance(item, ClaimItem):
                own = {variant_of(i): plans[i.nodeid] for i in tests if experiment_of(i) == item.experiment}
                fates[item.claim.id] = fate_of(item.claim, _offers(session.config, own.values()), own)[0]
        out = {n: [p.settings.rounds, p.settings.warmup_rounds, p.why_not] for n, p in plans.items()}
        with open(sys.argv[1], "w") as file:
            json.dump({"plans": out, "fates": fates}, file)


sys.exit(pytest.main([*sys.argv[3:], "--collect-only", "-q", "-p", "no:cacheprovider"], plugins=[Dump()]))
"""


class Collected(NamedTuple):
    """What a collection said."""

    text: str
    plans: dict[str, Any]
    """nodeid → [rounds, warm-ups, why not]"""
    fates: dict[str, str]


def collect(folder: Path, *args: str, missing: str = "") -> Collected:
    """Collect in a process of its own, which has not got the `missing` packages."""
    env = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    out = folder / "collected.json"
    results = folder / "results"
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, out, missing, "--results-dir", results, *args],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert not results.exists(), "collecting made a run"
    found = json.loads(out.read_text())
    return Collected(done.stdout, found["plans"], found["fates"])


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    """The whole of bench/, the nightly tests too."""
    for package in ("torch", "transformers", "ray", "msgspec", "cvxpy", "highspy"):
        pytest.importorskip(package, reason=f"{package} is missing, and its experiments are not collected")
    return collect(tmp_path_factory.mktemp("collected"), "bench/", "-m", ANY)


@pytest.mark.parametrize("run", REFERENCES, ids=lambda path: path.name)
def test_rounds_and_skips_are_those_of_the_committed_runs(run: Path, everything: Collected) -> None:
    """Every test that was run had the rounds that are told, and was skipped where that is told."""
    options = journal.read_plan(run)["plan"]["settings"]
    assert options.items() >= HERE.items(), "the committed run has options of its own"
    entries = journal.read(run).entries
    assert entries
    for entry in entries:
        rounds, warm_ups, why_not = everything.plans[entry["nodeid"]]
        assert (entry["outcome"] == "skipped") == bool(why_not), entry["nodeid"]
        if why_not:
            assert entry["why"] == why_not
        else:
            settings = entry["extra_info"]["assay"]["settings"]
            had = (settings["rounds"], settings["warmup_rounds"])
            earlier = FEWER_NOW.get(entry["nodeid"].partition("[")[0])
            assert had == (rounds, warm_ups) or (had == earlier and rounds < had[0]), entry["nodeid"]


@pytest.mark.parametrize("run", REFERENCES, ids=lambda path: path.name)
def test_what_is_told_of_a_claim_is_what_became_of_it(run: Path, everything: Collected) -> None:
    """Impossible is impossible, and nothing that is called out of scope was ever decided."""
    for verdict in Run.read(run).verdicts:
        fate, word = everything.fates[verdict["id"]], verdict["verdict"]
        assert (fate == "impossible") == (word == "impossible"), verdict["id"]
        if fate == "out of scope":
            assert word == "out of scope", verdict["id"]
        assert fate != "missing", verdict["id"]


def test_what_would_run_is_told_by_experiment(everything: Collected) -> None:
    """Tests with their rounds, then what is skipped, then the claims."""
    lines = everything.text[everything.text.index("what would run") :].splitlines()
    assert "cascade: 18 variants, 60 claims" in lines
    at = lines.index("cascade: 18 variants, 60 claims")
    assert lines[at + 1].startswith("  test_cascade, 6 rounds after 1 warm-up: baseline, same, cascade,")
    assert any(line.startswith("  2 claims impossible: sglang-token-count") for line in lines)
    assert any("left out unless -m names it: overhead (" in line for line in lines)
    assert max(map(len, lines)) <= 100
    assert "nothing was started" in lines


def test_servers_that_do_not_answer_are_named_with_their_line(tmp_path: Path) -> None:
    """They are knocked at, once each, and nothing is launched."""
    found = collect(
        tmp_path, "bench/test_cascade.py", "--profile", "node", "--backend", "small=http://127.0.0.1:9"
    )
    assert "small: no server answers at http://127.0.0.1:9" in " ".join(found.text.split())
    assert all(why_not for _, _, why_not in found.plans.values())
    assert any("; start it with: " in why_not for _, _, why_not in found.plans.values())


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    """A package, with the files that need it and what would install it; a rival that a claim needs."""
    args = ("bench/test_decode.py", "bench/test_cascade.py", "--rounds", "2", "-k", "not test_cascade[SSL]")
    found = collect(tmp_path, *args, missing="msgspec")
    text = " ".join(found.text.split())
    assert (
        "not collected, bench/test_decode.py: msgspec is missing; run: pip install 'assay[torch,ses" in text
    )
    assert "test_cascade, 2 rounds after 1 warm-up: " in text
    assert "missing, no test that is selected runs SSL" in found.text
    assert found.fates["pocket-tradeoff"] == "missing"
    assert found.fates["pocket-cascade-saves-time"] == "to be decided"


def test_a_simulation_decides_less(tmp_path: Path) -> None:
    """What chooses by quality is left out, and pocket claims on real models are out of scope."""
    found = collect(tmp_path, "bench/test_cascade.py", "--profile", "replay")
    skipped = {nodeid for nodeid, (_, _, why_not) in found.plans.items() if why_not}
    assert skipped == {f"bench/test_cascade.py::test_cascade[{name}]" for name in ("escalate", "oracle")}
    assert "would be skipped, escalate: chooses by the quality of answers" in found.text
