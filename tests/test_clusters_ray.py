"""Variants over the nodes of a Ray cluster on one machine: where they run, and what a lost node costs."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from local_clusters import ROOT, finished, local_cluster, make_project, pytest_command

pytest.importorskip("ray", reason="ray is missing; run: pip install 'assay[ray]'")

pytestmark = [
    pytest.mark.nightly,
    # Ray's local cluster leaves a socket to the collector, in whichever test that runs.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def entries(results: Path) -> list[dict[str, Any]]:
    """The journal's, whatever the run's folder is called."""
    found = [line for path in results.glob("*/journal.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(line) for line in found]


def verdicts(results: Path) -> dict[str, dict[str, Any]]:
    """Claim → its verdict."""
    [path] = results.glob("*/claims.json")
    return {verdict["id"]: verdict for verdict in json.loads(path.read_text())["claims"]}


def exact(found: dict[str, dict[str, Any]]) -> dict[str, tuple[str, float | None]]:
    """Word and number of each claim that is not about time."""
    return {name: (v["word"], v["estimate"]) for name, v in found.items() if v["unit"] != "s"}


def test_a_node_lost_in_the_middle_costs_no_finished_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three nodes; the one that runs a block of two is lost between them."""
    project, log, gate = make_project(tmp_path / "project", "two"), tmp_path / "log", tmp_path / "gate"
    monkeypatch.setenv("DEMO_LOG", str(log))
    monkeypatch.setenv("DEMO_WAITS", "two")
    monkeypatch.setenv("DEMO_GATE", str(gate))
    results = tmp_path / "results"
    with local_cluster(3) as cluster:
        command = pytest_command(results, "--ray-address", cluster.address, "-k", "not killed and not broken")
        session = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True)
        with session:
            while "two" not in (log.read_text() if log.exists() else ""):
                assert session.poll() is None
                time.sleep(0.1)
            while not (one := [e for e in entries(results) if e["params"]["variant"] == "one"]):
                time.sleep(0.1)
            lost = one[0]["extra_info"]["node"]["name"]
            cluster.kill(lost)
            while log.read_text().count("two") < 2:  # begun again, elsewhere
                assert session.poll() is None
                time.sleep(0.1)
            gate.touch()
            assert session.stdout is not None
            said = session.stdout.read()
            assert session.wait() == 0, said
    found = {entry["params"]["variant"]: entry for entry in entries(results)}
    assert len(entries(results)) == len(found) == 5
    assert found["one"] == one[0]
    assert found["two"]["outcome"] == "passed"
    two = found["two"]["extra_info"]["node"]
    assert two["name"] != lost
    assert len(two["lost"]) == 1
    assert two["lost"][0].startswith(lost)
    measured = [line.split()[0] for line in log.read_text().splitlines()]
    assert sorted(measured) == ["absent", "four", "one", "three", "two", "two"]
    assert {verdict["word"] for verdict in verdicts(results).values()} == {"confirmed"}


def test_each_errand_sees_the_gpu_that_ray_gave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at a time on a node that says it has two, though it has none; each with its share of threads."""
    project, log = make_project(tmp_path / "project", "two"), tmp_path / "log"
    monkeypatch.setenv("DEMO_LOG", str(log))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with local_cluster(1, each={"num_gpus": 2, "num_cpus": 6}) as cluster:
        options = ("--ray-address", cluster.address, "--profile", "node", "-k", "one or two or three or four")
        done = finished(pytest_command(tmp_path / "results", *options), project)
    assert done.returncode == 0, done.stdout
    assert "GPU=1, CPU=3 for each block of variants" in done.stdout
    seen = dict(line.split()[::2] for line in log.read_text().splitlines())
    assert seen["one"] == seen["two"]
    assert set(seen.values()) == {"0", "1"}
    assert {line.split()[3] for line in log.read_text().splitlines()} == {"3"}


def test_a_file_that_is_not_sent_with_the_tree_goes_with_each_errand(tmp_path: Path) -> None:
    """As `python -m bench.node` names one: below results/, which stays here."""
    project = make_project(tmp_path / "project")
    (project / "results").mkdir()
    (project / "results" / "node.toml").write_text("# who answers\n")
    with local_cluster(1) as cluster:
        options = ("--ray-address", cluster.address, "--node", "results/node.toml", "-k", "one")
        done = finished(pytest_command(tmp_path / "out", *options), project)
    assert done.returncode == 0, done.stdout
    assert [entry["outcome"] for entry in entries(tmp_path / "out")] == ["passed"]


def test_three_nodes_give_the_claims_that_one_process_gives(tmp_path: Path) -> None:
    """Of plans on published constants, which are the same everywhere."""
    pytest.importorskip("cvxpy", reason="cvxpy is missing; run: pip install 'assay[routing]'")
    chosen = ("published", "--profile", "replay")
    command = pytest_command(tmp_path / "here", "-m", "routing", "-k", *chosen)
    assert finished(command, ROOT).returncode == 0
    with local_cluster(3) as cluster:
        command = pytest_command(
            tmp_path / "there", "-m", "routing", "-k", *chosen, "--ray-address", cluster.address
        )
        done = finished(command, ROOT)
    assert done.returncode == 0, done.stdout
    here, there = verdicts(tmp_path / "here"), verdicts(tmp_path / "there")
    assert there.keys() == here.keys()
    assert exact(there) == exact(here)
    assert len(exact(here)) > 20
    assert len({e["extra_info"]["node"]["name"] for e in entries(tmp_path / "there")}) == 3


def test_a_cluster_that_cannot_take_an_errand_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    """With what was asked for, and what would help."""
    project = make_project(tmp_path / "project")
    with local_cluster(1) as cluster:
        asked = ("--ray-address", cluster.address, "--ray-resources", "GPU=1")
        done = finished(pytest_command(tmp_path / "results", *asked), project)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no node of the Ray cluster has what an errand asks for" in done.stderr
    assert not (tmp_path / "results").exists()


def test_nothing_is_left_on_the_nodes_of_a_session_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variant that ran ends with it, and the cluster takes the next session."""
    project, log = make_project(tmp_path / "project"), tmp_path / "log"
    monkeypatch.setenv("DEMO_LOG", str(log))
    monkeypatch.setenv("DEMO_WAITS", "one")
    with local_cluster(1) as cluster:
        command = pytest_command(tmp_path / "results", "--ray-address", cluster.address, "-k", "one")
        session = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL)
        while not (log.exists() and log.read_text()):
            assert session.poll() is None
            time.sleep(0.1)
        session.kill()
        session.wait()
        pid = int(log.read_text().split()[1])
        ends_s = time.monotonic() + 60
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < ends_s
            time.sleep(0.2)
        again = pytest_command(tmp_path / "results", "--ray-address", cluster.address, "-k", "three")
        assert finished(again, project).returncode == 0


def test_agents_on_ray_run_within_an_errand(tmp_path: Path) -> None:
    """Their actors are placed on the errand's own node, by the address that the session was given."""
    pytest.importorskip("torch", reason="torch is missing; run: pip install 'assay[torch]'")
    with local_cluster(1) as cluster:
        options = ("-m", "agents", "-k", "ray-keepalive-1", "--agents", "1", "--rounds", "1")
        command = pytest_command(tmp_path, "--ray-address", cluster.address, "--claims=off", *options)
        done = finished(command, ROOT)
    assert done.returncode == 0, done.stdout
    [entry] = entries(tmp_path)
    assert entry["extra_info"]["assay"]["complete"], os.linesep.join(done.stdout.splitlines()[-20:])
