"""A session in several workers, one per lane: the workers measure, the controller writes and judges.

    controller   collects as ever, gives the tests out in blocks, journals what the workers send as it comes,
                 judges the claims when all variants are through, and writes every file of the run
    worker       runs what it is told on its own lane, and puts each record on the test's report

A report is sent when its test is done, so that a worker that crashes later loses nothing but the test that it
ran. What a lane is (a GPU, a set of cores) and how a worker is pinned to it stands in `fixtures/lanes.py`,
which leaves both in the stash.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reports.session import benchmarks, entries, resume
from reports.session.blocks import blocks
from reports.session.items import ClaimItem, experiment_of, is_variant
from reports.session.scheduling import BlockScheduling

if TYPE_CHECKING:
    from reports.plugin import Assay

__all__ = ["LANE", "SHARED", "Controller", "Worker", "are_on"]

SENT = "assay-entry"
"""The user property under which a worker sends a journal entry, as JSON."""
REFUSED = "assay-refused"
"""The one under which it says why it cannot: a value in it is no JSON."""
WHY = "assay_why"
"""The key of a worker's output under which it says why it cannot measure."""
LANE = "assay_lane"
"""The key of a worker's input under which its lane stands, a map with at least a `name`."""
FOLDER = "assay_folder"
"""The key of a worker's input: a file that names the run's folder once it is made."""
SHARED: pytest.StashKey[Callable[[pytest.Item], bool]] = pytest.StashKey()
"""`(item) -> bool`: whether an item uses a server that all lanes would share."""


def are_on(config: pytest.Config) -> bool:
    """Whether this session, or the one that it is a worker of, runs in lanes."""
    if hasattr(config, "workerinput"):
        return LANE in config.workerinput
    return bool(config.getoption("lanes", None)) and not config.option.collectonly


class Worker:
    """In a worker: measures, and sends what it measured."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        given: dict[str, Any] = config.workerinput  # type: ignore[attr-defined]
        self.lane: str = given[LANE]["name"]
        self._folder = Path(given[FOLDER])
        benchmarks.write_nothing(config)

    def run_dir(self) -> Path:
        """The run's folder, which the controller made before it gave out the first test."""
        return Path(self._folder.read_text())

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Measure, although pytest-benchmark would not in a worker."""
        benchmarks.switch_on(self.config)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_finish(self) -> Generator[None, None, None]:
        """Say why nothing can be measured here, which pytest-xdist would keep to itself."""
        try:
            yield
        except pytest.UsageError as exc:
            self.config.workeroutput[WHY] = str(exc)  # type: ignore[attr-defined]
            raise

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the record and the benchmark on the report, which travels at once."""
        report = yield
        entries.begin(item, call)
        if is_variant(item) and (report.when == "call" or report.outcome != "passed"):
            entry = entries.entry_of(item, call, report) | {"lane": self.lane}
            try:
                report.user_properties.append((SENT, json.dumps(entry)))
            except (TypeError, ValueError) as exc:
                why = f"journal: {item.nodeid} holds a value that is no JSON ({exc}); record None for it"
                report.user_properties.append((REFUSED, why))
        return report


class Controller:
    """Beside the session's `Assay`, which does the rest as in a session without workers."""

    def __init__(self, config: pytest.Config, assay: Assay) -> None:
        self.config, self.assay = config, assay
        self.items: dict[str, pytest.Item] = {}
        self.schedule: BlockScheduling | None = None
        self._lanes: dict[str, str] = {}
        number, name = tempfile.mkstemp(prefix="assay-run-")
        os.close(number)
        self._folder = Path(name)
        config.add_cleanup(lambda: self._folder.unlink(missing_ok=True))

    # collection, here as in every worker

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Write benchmark.json, although pytest-benchmark would not."""
        benchmarks.switch_on(self.config)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """Collect, as no controller of pytest-xdist does: blocks, selection and claims need the items."""
        session.perform_collect()
        return True

    # the workers

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to look for the run's folder."""
        node.workerinput[FOLDER] = str(self._folder)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """Keep which lane a worker is on."""
        self._lanes[node.gateway.id] = node.workerinput[LANE]["name"]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """End the run where a worker cannot measure, as a run in one process would have ended."""
        if why := getattr(node, "workeroutput", {}).get(WHY):
            raise pytest.UsageError(f"on lane {node.workerinput[LANE]['name']}: {why}")

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config) -> BlockScheduling:
        """Report what is resumed, and give out the rest, the claims excepted."""
        measured = [item for item in self.items.values() if not isinstance(item, ClaimItem)]
        if self.assay.run is not None:
            self._folder.write_text(str(self.assay.run))
        for item in measured:
            if resume.is_armed(item):
                self._replay(item)
        todo = self._blocks([item for item in self.items.values() if not resume.is_armed(item)])
        if self.assay.progress:
            self.assay.progress.num_lanes, self.assay.progress.blocks = len(config.option.tx), todo
        self.schedule = BlockScheduling(
            todo,
            lane_of=lambda node: str(node.workerinput[LANE]["name"]),
            num_lanes=len(config.option.tx),
            is_replaced=config.getoption("maxworkerrestart", None) != "0",
            scheduled=self._count,
        )
        return self.schedule

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Run the variants in the workers, then judge the claims here."""
        if session.testsfailed and not self.config.option.continue_on_collection_errors:
            raise session.Interrupted(f"{session.testsfailed} errors during collection")
        self._session = session
        self.items = {item.nodeid: item for item in session.items}
        try:
            result = yield
        finally:
            self._count()
            self._tell_what_is_left()
        for item in [item for item in session.items if isinstance(item, ClaimItem)]:
            self.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
        return result

    # what they send

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the entry off a worker's report, for `Assay` to journal as it would its own."""
        sent = dict(report.user_properties)
        if SENT in sent:
            report.user_properties = [p for p in report.user_properties if p[0] != SENT]
            report.assay = json.loads(str(sent[SENT]))  # type: ignore[attr-defined]
            if report.when == "call":
                benchmarks.add(self.config, report.assay, self._order)
        if REFUSED in sent:
            pytest.exit(str(sent[REFUSED]), returncode=pytest.ExitCode.INTERNAL_ERROR)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """Journal the test that a worker crashed in: failed, with that as its reason."""
        item = self.items[crashitem]
        worker = getattr(report, "node", None)
        lane = self._lanes.get(worker.gateway.id, "unknown") if worker is not None else "unknown"
        why = f"the worker on lane {lane} crashed in this test; the tests after it go on in another worker"
        report.longrepr, report.location = f"{crashitem}: {why}", item.location
        if is_variant(item):
            unfinished: dict[str, Any] = {
                "nodeid": crashitem,
                "experiment": experiment_of(item),
                "params": _params(item),
                "data": [],
                "benchmark": None,
                "extra_info": {},
            }
            # What it had sent before it crashed, in the test's teardown, is kept.
            known = self.assay.entries.get(crashitem, unfinished)
            report.assay = {**known, "outcome": "failed", "why": why, "lane": lane}  # type: ignore[attr-defined]

    @property
    def _order(self) -> dict[str, int]:
        return {nodeid: place for place, nodeid in enumerate(self.items)}

    def _blocks(self, items: list[pytest.Item]) -> list[tuple[str, ...]]:
        """What claims bind together, and all that uses one server; any other test is a block of its own."""
        is_shared = self.config.stash.get(SHARED, lambda item: False)
        others = [[item] for item in items if not isinstance(item, ClaimItem) and not is_variant(item)]
        return [tuple(item.nodeid for item in block) for block in (*blocks(items, is_shared), *others)]

    def _replay(self, item: pytest.Item) -> None:
        """Report a finished variant again, as its own test would have."""
        entry = self.assay.done[item.nodeid]
        report = pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="passed",
            longrepr=None,
            when="call",
        )
        report.assay, report.is_replayed = entry, True  # type: ignore[attr-defined]
        benchmarks.add(self.config, entry, self._order)
        self.config.hook.pytest_runtest_logreport(report=report)

    def _count(self) -> None:
        """pytest-xdist counts what a worker collected, which is more than what runs."""
        self._session.testscollected = len(self._session.items)

    def _tell_what_is_left(self) -> None:
        left = self.schedule.left if self.schedule else []
        if left:
            names = ", ".join(nodeid.rpartition("::")[2] for nodeid in left[:5])
            more = f" and {len(left) - 5} more" if len(left) > 5 else ""
            self.assay.warnings.append(
                f"{len(left)} tests did not run to their end ({names}{more}); continue with --resume"
            )


def _params(item: pytest.Item) -> dict[str, Any]:
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}
