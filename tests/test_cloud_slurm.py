"""The Slurm script: run whole, with `srun` and `scontrol` that take this machine for every node."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from local_clusters import ROOT, make_project

SCRIPT = ROOT / "bench" / "cloud" / "slurm.sh"
SRUN = """#!/bin/bash
# Runs the command here; says which node was asked for.
while [[ $1 == --* ]]; do
    case $1 in --nodelist=*) node=${1#--nodelist=} ;; esac
    shift
done
echo "$node: $*" >>"$CALLS"
[[ $ADDRESSES == FAILS ]] && exit 1
[[ $* == *hostname* ]] && { echo "${ADDRESSES-127.0.1.1 192.0.2.9}"; exit; }
exec "$@"
"""
SCONTROL = """#!/bin/bash
[[ "$*" == "show hostnames node[1-3]" ]] && printf 'node%d\\n' 1 2 3
"""
RAY = """#!/bin/bash
sleep 60 >/dev/null 2>&1 &
trap 'echo "ended: $*" >>"$CALLS"; kill $!; exit' TERM
echo "up: $*" >>"$CALLS"
wait
"""
PYTHON = """#!/bin/bash
[[ $1 == -c ]] && exit "${HAS_NO_RAY:-0}"
echo "here: python $*" >>"$CALLS"
if [[ $2 == harness.clusters.wait ]]; then
    for _ in {1..500}; do (($(grep -c ^up: "$CALLS") < 3)) || break; sleep 0.05; done
    exit "${NO_NODES:-0}"
fi
if [[ -n ${LASTS:-} ]]; then
    trap 'echo "interrupted" >>"$CALLS"' INT
    echo "suite" >>"$CALLS"
    for _ in {1..600}; do
        sleep 0.05 || true
        if grep -q ^interrupted "$CALLS"; then
            for _ in {1..400}; do [[ -e $GATE ]] && break; sleep 0.05 || true; done
            echo "judged" >>"$CALLS"
            exit 2
        fi
    done
fi
exit "${PYTEST_STATUS:-0}"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder, with stand-ins for what a cluster has in `bin`."""
    folder = make_project(tmp_path / "project")
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "ray": RAY, "python": PYTHON}.items():
        put(tmp_path / "bin" / name, text)
    return folder


def put(path: Path, text: str) -> None:
    """Write a program."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def sbatch(project: Path, *options: str, **env: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The script as Slurm would run it; what it said, and what was called on which node."""
    whole, calls = environment(project, **env)
    done = subprocess.run(
        ["bash", str(SCRIPT), *options], env=whole, capture_output=True, text=True, timeout=200
    )
    return done, calls.read_text().splitlines()


def environment(project: Path, **env: str) -> tuple[dict[str, str], Path]:
    """What Slurm sets, and the file that lists what was called."""
    calls = project.parent / "calls"
    calls.write_text("")
    slurm = {
        "SLURM_SUBMIT_DIR": str(project),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "node[1-3]",
        "SLURM_CPUS_ON_NODE": "1",
        "CALLS": str(calls),
        "GATE": str(project.parent / "gate"),
        "PATH": f"{project.parent / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    return {key: value for key, value in {**os.environ, **slurm, **env}.items() if value}, calls


def test_the_script_is_shell_that_stops_at_what_fails() -> None:
    """And is read by bash whole."""
    assert subprocess.run(["bash", "-n", str(SCRIPT)]).returncode == 0
    text = SCRIPT.read_text()
    assert "set -euo pipefail" in text
    assert os.access(SCRIPT, os.X_OK)


def test_every_node_runs_ray_and_the_first_the_suite(project: Path) -> None:
    """All that was started is ended, and each node's files are removed."""
    done, calls = sbatch(project, "-m", "cascade", "-k", "a b")
    assert done.returncode == 0, done.stderr
    starts = sorted(call for call in calls if "ray start" in call)
    assert len([call for call in calls if call.startswith("up: start")]) == 3
    assert [call.partition(":")[0] for call in starts] == ["node1", "node2", "node3"]
    assert "--head --node-ip-address=192.0.2.9 --port=24711" in starts[0]
    assert all("--address=192.0.2.9:24711" in call for call in starts[1:])
    assert len({call.partition("--temp-dir=")[2].split()[0] for call in starts}) == 3
    assert "here: python -m harness.clusters.wait 192.0.2.9:24711 3 300" in calls
    suite = (
        "here: python -m pytest bench/ --ray-address 192.0.2.9:24711 --results-dir results -m cascade -k a b"
    )
    assert suite in calls
    ended = [call for call in calls if call.startswith("ended: start")]
    assert len(ended) == 3
    assert calls.index(suite) < calls.index(ended[0])
    assert {call for call in calls if ": rm -rf" in call} == {
        f"node{place + 1}: rm -rf /tmp/assay-4711-{place}" for place in range(3)
    }


@pytest.mark.parametrize(
    ("addresses", "taken"),
    [("10.0.0.7", "10.0.0.7"), ("::1 127.0.1.1 10.0.0.7 10.0.0.8", "10.0.0.7")],
)
def test_the_head_is_told_by_an_address_that_others_reach(project: Path, addresses: str, taken: str) -> None:
    """Not by the loopback that Debian gives a machine's own name."""
    _, calls = sbatch(project, ADDRESSES=addresses, NO_NODES="1")
    assert f"here: python -m harness.clusters.wait {taken}:24711 3 300" in calls


def test_a_head_that_nobody_else_reaches_ends_the_job(project: Path) -> None:
    """Before Ray is started; one node alone needs no other address."""
    for addresses, told in (("127.0.1.1 ::1", "127.0.1.1 ::1"), ("FAILS", "none")):
        done, calls = sbatch(project, ADDRESSES=addresses)
        assert done.returncode == 1
        assert f"slurm.sh: node1 has no address that others reach ({told})" in done.stderr
        assert not [call for call in calls if "ray start" in call]


def test_the_status_is_that_of_the_suite(project: Path) -> None:
    """Slurm then says that the job failed."""
    done, _ = sbatch(project, PYTEST_STATUS="1")
    assert done.returncode == 1
    assert "pytest ended with status 1; results in results" in done.stdout


def test_nodes_that_do_not_come_up_end_the_job(project: Path) -> None:
    """Nothing is measured on a part of what was asked for."""
    done, calls = sbatch(project, NO_NODES="1")
    assert done.returncode == 1
    assert not [call for call in calls if "pytest" in call]
    assert len([call for call in calls if call.startswith("ended: start")]) == 3


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGUSR1, 2, "the time limit is near; what was measured is judged"), (signal.SIGTERM, 143, "")],
)
def test_a_suite_that_is_cut_short_judges_before_ray_ends(
    project: Path, number: signal.Signals, status: int, said: str
) -> None:
    """At the time limit and when the job is cancelled: it is interrupted as by Ctrl-C, and waited for."""
    (project.parent / "gate").touch()
    with lasting(project) as (script, calls):
        script.send_signal(number)
        out, _ = script.communicate(timeout=60)
        assert said in out
        assert script.returncode == status
    assert_judged_first(calls)


@pytest.mark.parametrize(("second", "status"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 2)])
def test_the_end_of_the_job_does_not_interrupt_the_judging(
    project: Path, second: signal.Signals, status: int
) -> None:
    """Slurm's SIGTERM at the limit, three minutes after the warning: a second interrupt would end it."""
    with lasting(project) as (script, calls):
        script.send_signal(signal.SIGUSR1)
        until(lambda: "interrupted\n" in calls.read_text(), script)
        script.send_signal(second)
        time.sleep(1)  # for it to do what it must not
        script.send_signal(second)
        time.sleep(0.5)
        assert script.poll() is None
        assert "ended: start" not in calls.read_text()
        (project.parent / "gate").touch()
        script.communicate(timeout=60)
        assert script.returncode == status
    assert calls.read_text().count("interrupted") == 1
    assert_judged_first(calls)


@contextmanager
def lasting(project: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The script, whose suite runs until it is interrupted, and then judges until `gate` is there."""
    whole, calls = environment(project, LASTS="1")
    with subprocess.Popen(["bash", str(SCRIPT)], env=whole, stdout=subprocess.PIPE, text=True) as script:
        try:
            until(lambda: "suite\n" in calls.read_text(), script)
            yield script, calls
        finally:
            (project.parent / "gate").touch()
            if script.poll() is None:
                script.terminate()


def until(happens: Callable[[], bool], script: subprocess.Popen[str]) -> None:
    ends_s = time.monotonic() + 100
    while not happens():
        assert script.poll() is None
        assert time.monotonic() < ends_s, "it never did"
        time.sleep(0.05)


def assert_judged_first(calls: Path) -> None:
    lines = calls.read_text().splitlines()
    ended = [place for place, line in enumerate(lines) if line.startswith("ended: start")]
    assert len(ended) == 3
    assert lines.index("judged") < min(ended)


def test_a_whole_node_runs_by_the_command_that_chooses_models(project: Path) -> None:
    """And an address may be given where the one that is found is of no use."""
    done, calls = sbatch(project, "-m", "agents", ASSAY_NODE="1", ASSAY_HEAD_IP="10.1.2.3")
    assert done.returncode == 0, done.stderr
    suite = "here: python -m bench.node --ray-address 10.1.2.3:24711 --results-dir results -m agents"
    assert suite in calls
    assert not [call for call in calls if "hostname" in call]


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"SLURM_JOB_NODELIST": ""}, "no Slurm job; submit it: sbatch bench/cloud/slurm.sh"),
        ({"SLURM_SUBMIT_DIR": "/"}, "/ is not the project's folder; submit from there"),
        ({"ASSAY_VENV": "/nowhere"}, "ASSAY_VENV=/nowhere holds no bin/activate"),
        ({"HAS_NO_RAY": "1"}, "run: pip install -e '.[all]'"),
    ],
)
def test_what_is_missing_is_told_in_a_line(project: Path, env: dict[str, str], said: str) -> None:
    """Before any node is asked for anything."""
    done, calls = sbatch(project, **env)
    assert done.returncode == 2
    assert done.stderr.startswith("slurm.sh: ")
    assert said in done.stderr
    assert calls == []


@pytest.mark.nightly
def test_the_suite_runs_over_the_nodes_that_it_started(project: Path) -> None:
    """With the real Ray: three nodes, of which this machine is each."""
    pytest.importorskip("ray", reason="ray is missing; run: pip install 'assay[ray]'")
    put(project.parent / "bin" / "python", f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    put(project.parent / "bin" / "ray", f'#!/bin/bash\nexec {sys.executable} -m ray.scripts.scripts "$@"\n')
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    here = subprocess.run(["hostname", "--all-ip-addresses"], capture_output=True, text=True).stdout.strip()
    if not here:
        pytest.skip("three nodes need an address of this machine that is not loopback")
    options = ("-k", "one or three", "-p", "no:cacheprovider")
    done, _ = sbatch(project, *options, PYTHONPATH=path, ADDRESSES=here)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 nodes at " in done.stdout
    [run] = (project / "results").iterdir()
    assert len((run / "journal.jsonl").read_text().splitlines()) == 2
    assert not list(Path("/tmp").glob("assay-4711-*"))
