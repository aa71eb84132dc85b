"""The whole pocket suite over three Ray nodes of this machine, of which one is lost in the middle.

A quarter of an hour on two cores, half of `tox -e clusters`. What each node began is noted there
(`begun_log.py`), so that what ran twice is seen although the journal holds it once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from local_clusters import ROOT, LocalCluster, finished, local_cluster, pytest_command

pytestmark = [
    pytest.mark.nightly,
    # Ray's local cluster leaves a socket to the collector, in whichever test that runs.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

for _package in ("ray", "torch", "cvxpy"):
    pytest.importorskip(_package, reason=f"{_package} is missing; run: tox -e clusters")

REDUCED = ("--rounds", "2", "--tasks", "20")
"""What a variant is made of here; too little to decide much."""
MOST_S = 3600


class OnANode(NamedTuple):
    """A session that measured a block on a node."""

    given: tuple[str, ...]
    begun: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Survived:
    """A session that lost a node."""

    run: Path
    said: str
    status: int
    entries: list[dict[str, Any]]
    home: list[dict[str, Any]]
    """What had come home when the node was killed."""
    lost: str
    """The node."""
    sessions: list[OnANode]
    cut: OnANode
    """The one that ran on the lost node."""

    @property
    def last(self) -> dict[str, dict[str, Any]]:
        """Test → its entry."""
        return {entry["nodeid"]: entry for entry in self.entries}


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory) -> Survived:
    folder = tmp_path_factory.mktemp("suite")
    results, log, output = folder / "results", folder / "begun", folder / "output"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "tests"))
        patch.setenv("PYTEST_PLUGINS", "begun_log")
        patch.setenv("BEGUN_LOG", str(log))
        with local_cluster(3) as cluster, output.open("w") as said:
            patch.delenv("PYTEST_PLUGINS")  # the nodes have it
            command = pytest_command(results, "--ray-address", cluster.address, *REDUCED)
            session = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
            try:
                lost, cut, home = _kill_in_the_middle(cluster, session, results, log, len(_selected()[0]))
                status = session.wait(MOST_S)
            finally:
                session.kill()
                session.wait()
    [run] = results.iterdir()
    sessions = _sessions(log)
    return Survived(
        run=run,
        said=output.read_text(),
        status=status,
        entries=_entries(results),
        home=home,
        lost=lost,
        sessions=list(sessions.values()),
        cut=sessions[cut],
    )


def _kill_in_the_middle(
    cluster: LocalCluster, session: subprocess.Popen[bytes], results: Path, log: Path, num: int
) -> tuple[str, int, list[dict[str, Any]]]:
    """Kill a node that has brought home a part of its block, when a quarter of all variants is home.

    Returns the node, the session that ran there, and what was home. Blocks are begun longest first, so that
    later there are few of more than one variant.
    """
    ends_s = time.monotonic() + MOST_S
    while True:
        assert session.poll() is None, "the suite ended before a node could be killed"
        assert time.monotonic() < ends_s
        home = _entries(results)
        where = {entry["nodeid"]: entry["extra_info"]["node"]["name"] for entry in home}
        for number, one in _sessions(log).items() if 4 * len(home) >= num else ():
            came = [test for test in one.given if test in where]
            if 0 < len(came) < len(one.begun):
                lost = where[came[-1]]
                cluster.kill(lost)
                return lost, number, home
        time.sleep(0.2)


def _verdicts(run: Path) -> dict[str, str]:
    """Claim → its verdict."""
    return {row["id"]: row["verdict"] for row in json.loads((run / "claims.json").read_text())["claims"]}


def _entries(results: Path) -> list[dict[str, Any]]:
    lines = [line for path in results.glob("*/journal.jsonl") for line in path.read_text().split("\n")[:-1]]
    return [json.loads(line) for line in lines]


def _sessions(log: Path) -> dict[int, OnANode]:
    """Process → what it was given and began."""
    noted = [json.loads(line) for line in log.read_text().split("\n")[:-1]]
    given = {one["session"]: tuple(one["given"]) for one in noted if "given" in one}
    return {
        number: OnANode(tests, tuple(o["begun"] for o in noted if o["session"] == number and "begun" in o))
        for number, tests in given.items()
    }


def _selected() -> tuple[list[str], list[str]]:
    """The variants and the claims of the default selection, by another session's word."""
    command = [sys.executable, "-m", "pytest", "bench/", "--collect-only", "-q", *REDUCED]
    done = finished([*command, "-p", "no:cacheprovider"], ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [line for line in done.stdout.splitlines() if line.startswith("bench/") and "::" in line]
    variants = [name for name in found if "::test_" in name]
    return variants, [name.rpartition("::")[2] for name in found if name not in variants]


def test_every_variant_is_there_once(survived: Survived) -> None:
    """In the journal, and what was measured among the benchmarks; none is an error of the loss."""
    assert Counter(entry["nodeid"] for entry in survived.entries) == Counter(_selected()[0])
    made = json.loads((survived.run / "benchmark.json").read_text())["benchmarks"]
    measured = [entry["nodeid"] for entry in survived.entries if entry["data"]]
    assert Counter(bench["fullname"] for bench in made) == Counter(measured)
    assert len(measured) > len(survived.entries) / 2
    assert not [entry["why"] for entry in survived.entries if "lost" in entry["why"]]
    assert not [entry["why"] for entry in survived.entries if "its session on" in entry["why"]]


def test_what_had_come_home_is_kept_as_it_was(survived: Survived) -> None:
    """Also what came from the node that was lost."""
    assert survived.entries[: len(survived.home)] == survived.home
    assert survived.lost in {entry["extra_info"]["node"]["name"] for entry in survived.home}


def test_the_rest_of_the_block_was_measured_elsewhere(survived: Survived) -> None:
    """Each of its variants is either from the lost node or says that it was lost before; no other does."""
    told = {test: entry["extra_info"]["node"] for test, entry in survived.last.items()}
    again = {test for test, node in told.items() if node["lost"]}
    from_there = {test for test in survived.cut.given if told[test]["name"] == survived.lost}
    assert again
    assert from_there
    assert again == set(survived.cut.given) - from_there
    assert all(told[test]["lost"][0].startswith(f"{survived.lost}: ") for test in again)
    assert survived.lost not in {told[test]["name"] for test in again}


def test_nothing_ran_twice_but_what_was_under_way_when_the_node_was_lost(survived: Survived) -> None:
    """What its session had begun last, and whose result was not home yet; everything else once."""
    begun = Counter(test for one in survived.sessions for test in one.begun)
    assert begun.keys() == survived.last.keys()
    twice = {test for test, times in begun.items() if times > 1}
    assert twice == {test for test in survived.cut.begun if survived.last[test]["extra_info"]["node"]["lost"]}
    assert twice == set(survived.cut.begun[len(survived.cut.begun) - len(twice) :])
    assert set(begun.values()) <= {1, 2}
    assert len(twice) <= 3  # the node ends within seconds


def test_three_nodes_measured_until_one_was_lost(survived: Survived) -> None:
    """And two of them afterwards."""
    names = [entry["extra_info"]["node"]["name"] for entry in survived.entries]
    assert len(set(names)) == 3
    after = survived.entries[len(survived.home) :]
    assert len({entry["extra_info"]["node"]["name"] for entry in after} - {survived.lost}) == 2
    assert f"lost {survived.lost}: " in survived.said


def test_every_claim_is_judged(survived: Survived) -> None:
    """By the session that sent its variants; a verdict may be anything but that something did not run."""
    found = json.loads((survived.run / "claims.json").read_text())["claims"]
    assert Counter(verdict["id"] for verdict in found) == Counter(_selected()[1])
    assert not [verdict["id"] for verdict in found if verdict["verdict"] == "missing"]
    assert survived.status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), survived.said


def test_the_folder_has_one_page_and_renders_again(survived: Survived) -> None:
    """From the files alone; judged again they say the same."""
    assert len(list(survived.run.parent.glob("*/report.html"))) == 1
    assert list((survived.run / "figures").glob("*.svg"))
    judged = _verdicts(survived.run)
    for command in ("verdicts", "render"):
        done = finished([sys.executable, "-m", "reports", command, str(survived.run)], ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
    again = _verdicts(survived.run)  # of every claim in the folder, also of those that were not selected
    assert {name: again.get(name) for name in judged} == judged
    assert os.path.getsize(survived.run / "report.html") > 10_000
