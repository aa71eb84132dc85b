"""Variants that run elsewhere, seen from the session that sent them; elsewhere is a process beside it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from local_clusters import CONFTEST, ROOT, finished, make_project, pytest_command

STAND_IN = """
import dataclasses
import os
from collections import deque

LOSSES, ENV = {losses!r}, {env!r}  # node → parcels that it sends before it is lost; variables there


class Beside:
    kinds, resources, num_at_once = {{"here/0": "this"}}, {{"CPU": 1.0}}, {num_at_once}
    is_share = "DEMO_WHOLE" not in os.environ

    def __init__(self):
        self.waiting, self.number = deque(), 0

    def send(self, errand):
        self.waiting.append(dataclasses.replace(errand, env=ENV))

    def events(self):
        from harness.clusters.errand import Lost, Parcel, perform

        while self.waiting:
            errand, node, parcels = self.waiting.popleft(), f"node-{{self.number}}", 0
            self.number += 1
            for event in perform(errand, node):
                if isinstance(event, Parcel) and LOSSES.get(node) == parcels:
                    yield errand, Lost(node, "the power went out")
                    break
                parcels += isinstance(event, Parcel)
                yield errand, event


def pytest_configure(config):
    from fixtures.clusters import Spread
    from fixtures.clusters_errand import HERE

    if not config.stash.get(HERE, False):
        config.pluginmanager.register(Spread(config, Beside()), "assay-spread")


def pytest_sessionfinish(session):
    import json

    from fixtures.clusters_errand import HERE
    from reports.session.progress import Progress

    if not session.config.stash.get(HERE, False):
        progress = session.config.stash[Progress.KEY]
        told = [progress.num_lanes, sorted(map(len, progress.blocks))]
        (session.config.rootpath / "expected.json").write_text(json.dumps(told))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project", "two")


def spread(
    project: Path,
    *options: str,
    losses: Mapping[str, int] | None = None,
    env: Mapping[str, str] | None = None,
    num_at_once: int = 1,
) -> tuple[Any, Path]:
    """A session whose errands run beside it; what it said, and its run's folder."""
    made = STAND_IN.format(losses=dict(losses or {}), env=dict(env or {}), num_at_once=num_at_once)
    (project / "conftest.py").write_text(CONFTEST + made)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = finished(pytest_command(project / "results", *options), project, PYTHONPATH=path)
    runs = sorted((project / "results").glob("*"))
    assert runs, done.stdout + done.stderr
    return done, runs[-1]


def journal(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]


def whole_lines(run: Path) -> int:
    return (run / "journal.jsonl").read_text().count("\n")


class Sent(NamedTuple):
    """A whole session: six variants in one block, whose first node is lost when one of them is home."""

    run: Path
    said: str
    entries: dict[str, Any]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    rivals = ("two", "three", "broken", "absent", "killed")
    project = make_project(tmp_path_factory.mktemp("sent"), *rivals)
    done, run = spread(project, "-k", "not four", losses={"node-0": 1})
    assert done.returncode == 1
    return Sent(run, done.stdout, {entry["params"]["variant"]: entry for entry in journal(run)})


def test_what_ran_elsewhere_is_in_one_folder_as_if_it_had_run_here(sent: Sent) -> None:
    """Journal, benchmarks, telemetry and artifacts: each once."""
    assert len(journal(sent.run)) == len(sent.entries) == 6
    made = json.loads((sent.run / "benchmark.json").read_text())["benchmarks"]
    assert [bench["params"]["variant"] for bench in made] == ["one", "two", "three", "broken"]
    assert made[0]["extra_info"]["assay"]["variant"] == "one"
    lines = [json.loads(line)["variant"] for line in (sent.run / "telemetry.jsonl").read_text().splitlines()]
    assert lines == ["one", "two", "three", "broken"]
    assert {path.stem for path in (sent.run / "artifacts").iterdir()} == set(lines)


def test_claims_are_judged_by_the_session_that_sent_their_variants(sent: Sent) -> None:
    """From the journal, as ever."""
    verdicts = json.loads((sent.run / "claims.json").read_text())["claims"]
    assert {v["id"]: v["verdict"] for v in verdicts} == {
        "one-halves": "confirmed",
        "three-halves": "confirmed",
    }


def test_a_failure_and_a_skip_are_told_as_what_they_are(sent: Sent) -> None:
    """With what their own session said of them."""
    assert sent.entries["broken"]["outcome"] == "failed"
    assert "it broke" in sent.entries["broken"]["why"]
    assert sent.entries["broken"]["extra_info"]["assay"]["variant"] == "broken"
    assert (sent.entries["absent"]["outcome"], sent.entries["absent"]["why"]) == (
        "skipped",
        "needs what is not here",
    )
    assert "AssertionError: it broke" in sent.said
    assert "needs what is not here" in sent.said


def test_a_killed_session_loses_the_test_that_it_ran(sent: Sent) -> None:
    """With its status, and what it said last."""
    assert sent.entries["killed"]["outcome"] == "failed"
    assert "its session on node-1 ended with status -9" in sent.entries["killed"]["why"]


def test_a_lost_node_loses_nothing_that_came_home(sent: Sent) -> None:
    """What did not is measured once more, elsewhere; each entry says where."""
    where = {name: entry["extra_info"]["node"] for name, entry in sent.entries.items()}
    again = {"name": "node-1", "lost": ["node-0: the power went out"]}
    assert where == {"one": {"name": "node-0", "lost": []}} | dict.fromkeys(
        ("two", "three", "broken", "absent", "killed"), again
    )


def test_what_is_sent_once_more_is_measured_at_what_the_rest_was(sent: Sent) -> None:
    """The rates that its first variant set go with the block, to another node and to another session."""
    plan = (sent.run / "load-plan.json").read_text()
    assert {path.read_text() for path in (sent.run / "artifacts").iterdir()} == {plan}


def test_what_asks_servers_at_urls_is_one_block(pytester: pytest.Pytester) -> None:
    """Blocks at once would load one server; what asks nobody stays apart, and so do engines of their own."""
    pytester.makeconftest(
        'pytest_plugins = ["reports.plugin", "fixtures.options", "fixtures.clusters", "fixtures.backends"]\n'
        "def pytest_collection_finish(session):\n"
        "    from fixtures.clusters import _uses_urls\n"
        "    from reports.session.blocks import blocks\n"
        "    print('blocks of', [len(block) for block in blocks(session.items, _uses_urls)])\n"
    )
    bench = pytester.mkdir("bench")
    (bench / "test_demo.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('variant', ['a', 'b'])\n"
        "def test_asks(variant, pool, benchmark): pass\n"
        "@pytest.mark.parametrize('variant', ['c', 'd'])\n"
        "def test_asks_nobody(variant, benchmark): pass\n"
    )
    url = ("--backend", "small=http://127.0.0.1:1")
    for options, sizes in ((url, "[2, 1, 1]"), ((), "[1, 1, 1, 1]")):
        found = pytester.runpytest("bench", "--collect-only", "-s", *options)
        found.stdout.fnmatch_lines([f"*blocks of {sizes.replace('[', '[[]')}"])


def test_ctrl_c_judges_what_came_home(project: Path) -> None:
    """As at a batch job's time limit: verdicts and a page of what was measured, and a run to continue."""
    log = project / "log"
    made = STAND_IN.format(losses={}, env={"DEMO_WAITS": "two", "DEMO_LOG": str(log)}, num_at_once=1)
    (project / "conftest.py").write_text(CONFTEST + made)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = pytest_command(project / "results", "-k", "one or two")
    with subprocess.Popen(
        command, cwd=project, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    ) as session:
        runs: list[Path] = []
        ends_s = time.monotonic() + 200
        try:
            while not (runs and "two" in log.read_text() and whole_lines(runs[0]) == 1):
                assert session.poll() is None
                assert time.monotonic() < ends_s, "the second never began"
                time.sleep(0.05)
                runs = [file.parent for file in (project / "results").glob("*/journal.jsonl") if log.exists()]
            session.send_signal(signal.SIGINT)
            said, _ = session.communicate(timeout=200)
        finally:
            session.kill()
        assert session.returncode == pytest.ExitCode.INTERRUPTED, said
    [run] = runs
    assert [entry["params"]["variant"] for entry in journal(run)] == ["one"]
    verdicts = json.loads((run / "claims.json").read_text())["claims"]
    assert {v["id"]: v["verdict"] for v in verdicts} == {"one-halves": "confirmed"}
    assert (run / "report.html").is_file()
    number = int(log.read_text().splitlines()[-1].split()[1])
    with contextlib.suppress(psutil.NoSuchProcess):
        assert psutil.Process(number).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("given", "whole", "threads"),
    [
        ("", False, "1"),
        pytest.param("5", False, "5", marks=pytest.mark.nightly),
        pytest.param("", True, "None", marks=pytest.mark.nightly),
        pytest.param("5", True, "5", marks=pytest.mark.nightly),
    ],
)
def test_a_block_computes_on_as_many_threads_as_it_asks_for_processors(
    project: Path, monkeypatch: pytest.MonkeyPatch, given: str, whole: bool, threads: str
) -> None:
    """Or eight on a node would each take all of its cores; what the sender has set goes with them.

    A block that has a node for itself is as one process there.
    """
    if whole:
        monkeypatch.setenv("DEMO_WHOLE", "1")
    monkeypatch.setenv("DEMO_LOG", str(project / "log"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    spread(project, "-k", "three")
    assert (project / "log").read_text().split()[3] == threads


@pytest.mark.nightly
def test_time_left_counts_as_many_blocks_as_run_at_a_time(project: Path) -> None:
    """Each of which stays together; where no node is left for a while, one is expected."""
    for num_at_once, told in ((3, 3), (0, 1)):
        spread(project, "-k", "one or two or three", num_at_once=num_at_once)
        assert json.loads((project / "expected.json").read_text()) == [told, [1, 2]]


@pytest.mark.nightly
def test_no_backend_is_started_where_nothing_is_measured(project: Path) -> None:
    """It would take the memory of the device that an errand on the same node measures on."""
    config = CONFTEST.replace("[", '["fixtures.backends", ', 1)
    made = STAND_IN.format(losses={}, env={}, num_at_once=1)
    (project / "conftest.py").write_text(config + made)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    options = ("--backend", "small=http://127.0.0.1:1", "-k", "one")
    done = finished(pytest_command(project / "results", *options), project, PYTHONPATH=path)
    [run] = (project / "results").iterdir()
    [entry] = journal(run)
    assert "127.0.0.1:1" in entry["why"]
    assert "its session on node-0 ended with status 4" in entry["why"]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--ray-resources", "GPU=1"), "say where Ray is with --ray-address"),
        (("--ray-address", "gpu1"), "'gpu1' is no address; give HOST:PORT"),
        (("--ray-address", "127.0.0.1:1", "-n", "2", "--dist", "load"), "give one of them"),
    ],
)
def test_options_that_make_no_sense_are_told_in_a_line(
    project: Path, options: tuple[str, ...], said: str
) -> None:
    """Before anything is collected."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = finished(pytest_command(project / "results", *options), project, PYTHONPATH=path)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.nightly
def test_what_is_lost_twice_is_an_error_with_the_names_of_the_nodes(project: Path) -> None:
    """It is not tried a third time."""
    done, run = spread(project, "-k", "one or two", losses={"node-0": 1, "node-1": 0})
    assert done.returncode == 1
    one, two = journal(run)
    assert (one["outcome"], two["outcome"]) == ("passed", "failed")
    assert "lost 2 times: node-0: the power went out; node-1: the power went out" in two["why"]


@pytest.mark.nightly
def test_a_session_that_cannot_start_fails_its_block_once(project: Path) -> None:
    """The end of its output says why; it would not start for the next variant either."""
    text = (project / "bench" / "test_demo.py").read_text()
    (project / "bench" / "test_demo.py").write_text(
        text.replace("pytestmark", "if 'DEMO_FAR' in os.environ:\n    import not_there\npytestmark", 1)
    )
    _, run = spread(project, "-k", "one or two", env={"DEMO_FAR": "1"})
    assert [entry["outcome"] for entry in journal(run)] == ["failed", "failed"]
    assert all("No module named 'not_there'" in entry["why"] for entry in journal(run))


@pytest.mark.nightly
def test_the_first_failure_ends_the_session_where_x_says_so(project: Path) -> None:
    """What has not come home is not waited for."""
    done, run = spread(project, "-x", "-k", "broken or killed or four")
    assert "stopping after 1 failures" in done.stdout
    assert len(journal(run)) < 3


@pytest.mark.nightly
def test_a_resumed_run_sends_only_what_it_has_not(project: Path) -> None:
    """What it has is replayed here."""
    done, run = spread(project, "-k", "one or two", losses={"node-0": 1, "node-1": 0})
    assert done.returncode == 1
    done, again = spread(project, "-k", "one or two", "--resume")
    assert done.returncode == 0, done.stdout
    assert again == run
    assert "1 resumed" in done.stdout
    made = json.loads((run / "benchmark.json").read_text())["benchmarks"]
    assert {bench["params"]["variant"] for bench in made} == {"one", "two"}
