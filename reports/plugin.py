"""The pytest side: collects claims, journals every finished test, judges, and makes the run's folder.

    collection   bench/claims/<experiment>.toml becomes items of bench/test_<experiment>.py, run last
    each test    its record and its benchmark go to journal.jsonl at once
    the end      verdicts to claims.json and the terminal, figures and exports to the run's folder

Nothing here measures. A variant's test leaves its record in pytest-benchmark's `extra_info["assay"]`.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from reports import attempts, journal
from reports.errors import JournalError, ReportError
from reports.session import (
    about,
    ending,
    entries,
    lanes,
    options,
    resume,
    selection,
    statuses,
    superseding,
)
from reports.session.items import JUDGE, ClaimFile, ClaimItem, claims_file_of, is_variant
from reports.session.judge import Judge
from reports.session.progress import Progress, earlier_s
from reports.session.rerun import Rerun

RUN_DIR: pytest.StashKey[Any] = pytest.StashKey()
"""`() -> Path`: the run's folder, made when first asked for."""


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        if lanes.are_on(config):
            worker = lanes.Worker(config)
            config.stash[RUN_DIR] = worker.run_dir
            config.pluginmanager.register(worker, "assay-lane")
        return
    selection.refuse_workers(config)
    try:
        assay = Assay(config)
    except ReportError as exc:
        raise pytest.UsageError(str(exc)) from exc
    config.pluginmanager.register(assay, "assay")
    if lanes.are_on(config):
        config.pluginmanager.register(lanes.Controller(config, assay), "assay-lanes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out in workers, which have no `Assay`, what runs only when named."""
    if hasattr(config, "workerinput"):
        selection.deselect(config, items, selection.needs_naming(config, items))


class Assay:
    """One session: from collection to verdicts."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.claims_mode: str = config.option.claims
        self.results: Path = config.option.results_dir
        self.entries: dict[str, dict[str, Any]] = {}
        self.judge = Judge(
            config.rootpath / "claims.lock",
            self.claims_mode,
            config.getoption("profile", "pocket"),
            self.entries,
        )
        self.rerun = Rerun(self.judge, self.entries, config)
        self.latest: dict[str, dict[str, Any]] = {}
        """Of each test the entry of its last attempt alone."""
        self.plan = options.plan_of(config) if config.option.resume else None
        self.run = resume.run_of(self.results, self.plan) if self.plan else None
        stored = attempts.joined(journal.read(self.run).entries) if self.run else []
        self.done = {entry["nodeid"]: entry for entry in stored}
        self.user_json: str | None = config.option.benchmark_json
        self.progress: Progress | None = None
        self.is_broken = False
        """Whether the run's folder can no longer be written."""
        self.is_finished = False
        """Whether its verdicts are written."""
        self.warnings: list[str] = []
        """What went wrong after the last test."""
        config.stash[JUDGE] = self.judge.judge
        config.stash[RUN_DIR] = self.run_dir

    def run_dir(self) -> Path:
        """The run's folder; made, with its plan, when first asked for."""
        if self.run is None:
            self.plan = self.plan or options.plan_of(self.config)
            self.run = journal.create(self.results, about.about_of(self.config.rootpath, self.plan))
        return self.run

    # collection

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> ClaimFile | None:
        """Collect the claims beside their experiment."""
        path = claims_file_of(file_path)
        if (
            self.claims_mode == "off"
            or file_path.parent != self.config.rootpath / "bench"
            or not path.is_file()
        ):
            return None
        node: ClaimFile = ClaimFile.from_parent(parent, path=file_path, name=path.name)
        node.claims_path = path
        return node

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """Select by claim and by name, after -m, -k, --lf and the like; arm what is to be replayed."""
        collected = list(items)
        yield
        is_whole = not selection.is_part(config)
        if is_whole and len(items) == len(collected) and not config.option.claim:
            self.judge.known = selection.every_claim(config.rootpath, collected)
        self.judge.refuse_gone()
        selection.deselect(config, items, selection.needs_naming(config, items))
        selection.deselect(config, items, superseding.superseded(items))
        if config.option.claim:
            selection.deselect(config, items, selection.not_needed_by(config.option.claim, items))
        chosen = [item for item in items if isinstance(item, ClaimItem)]
        kept = selection.reported(
            chosen,
            [item for item in items if is_variant(item)],
            [item for item in collected if is_variant(item)],
            is_whole=is_whole,
        )
        selection.deselect(config, items, [item for item in chosen if item not in kept])
        self.judge.rows = [(item.experiment, item.claim) for item in kept]
        for item in items:
            if item.nodeid in self.done and is_variant(item):
                resume.arm(item, self.done[item.nodeid])

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> list[str]:
        """Say which tests run in the place of others."""
        return superseding.lines(items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Make the run's folder before anything is measured."""
        # Here again, since --ff and --nf reorder after everyone.
        session.items.sort(key=lambda item: isinstance(item, ClaimItem))
        variants = [item for item in session.items if is_variant(item)]
        if not variants or self.config.option.collectonly:
            return
        try:
            path = self.user_json or str(self.run_dir() / "benchmark.json")
        except ReportError as exc:
            raise pytest.UsageError(str(exc)) from exc
        self.config._benchmarksession.json = path  # type: ignore[attr-defined]
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        settings = self.plan["settings"] if self.plan else {}
        self.progress = Progress(
            reporter,
            [i.nodeid for i in variants if not resume.is_armed(i)],
            earlier_s(self.results, settings, but=self.run),
        )
        self.config.stash[Progress.KEY] = self.progress

    # each test

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Before the first claim is judged, measure once more what the gate wants settled."""
        done = yield
        if self.progress:
            self.progress.again(self.rerun.queue(item, nextitem, self.progress.say))
        return done

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Replay a finished variant in place of measuring it again."""
        return resume.replay(pyfuncitem) if resume.is_armed(pyfuncitem) else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the record and the benchmark on the report."""
        report = yield
        entries.begin(item, call)
        if is_variant(item) and (report.when == "call" or report.outcome != "passed"):
            report.assay = entries.entry_of(item, call, report)  # type: ignore[attr-defined]
            report.is_replayed = resume.is_armed(item)  # type: ignore[attr-defined]
            if self.rerun.holds(item.nodeid):
                report.assay["attempt"] = attempts.RERUN
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Journal a finished variant at once."""
        entry = getattr(report, "assay", None)
        if entry is None:
            return
        earlier = self.latest.get(entry["nodeid"])
        if earlier and report.when == "teardown":
            entry = {**earlier, "outcome": entry["outcome"], "why": entry["why"]}
        self.latest[entry["nodeid"]] = entry
        self.entries[entry["nodeid"]] = self.rerun.joined(entry)
        if not getattr(report, "is_replayed", False):
            try:
                journal.append(self.run_dir(), entry)
            except JournalError as exc:
                self.is_broken = True
                pytest.exit(str(exc), returncode=pytest.ExitCode.INTERNAL_ERROR)
        if self.progress:
            self.progress.finished(report)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, Any] | None:
        """Show a verdict by its own word and letter."""
        has_line = self.progress is not None and self.config.get_verbosity() <= 0
        return statuses.status_of(report, is_again=self.rerun.holds(report.nodeid), has_line=has_line)

    # the end

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge, and write everything that follows from the journal."""
        if self.run is None or self.is_broken or not self.entries:
            return
        try:
            self._finish(session)
            self.is_finished = True
        except (OSError, ReportError) as exc:
            self.warnings.append(ending.unfinished(self.run, exc))
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR

    @pytest.hookimpl(wrapper=True, tryfirst=True, specname="pytest_sessionfinish")
    def pytest_sessionfinish_whole(self) -> Generator[None, None, None]:
        """Say in one line that benchmark.json, which pytest-benchmark writes, could not be written."""
        try:
            self.rerun.keep_first(self.config)
            yield
        except OSError as exc:
            raise pytest.exit.Exception(
                ending.unfinished(self.run, exc), pytest.ExitCode.INTERNAL_ERROR
            ) from exc

    def _finish(self, session: pytest.Session) -> None:
        assert self.run is not None
        ending.write_verdicts(self.run, self.judge, self.config.rootpath, self.user_json)
        if self.claims_mode == "update":
            self.judge.update(session, self.warnings.append)
        if why := ending.draw(self.run):
            self.warnings.append(why)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the variants and the claims."""
        if self.run is None or self.is_broken or not self.entries:
            return
        if self.judge.has_judged and self.is_finished:
            ending.tell_verdicts(self.run, terminalreporter)
        if self.claims_mode == "gate":
            ending.tell_gate(self.judge, self.rerun, terminalreporter)
        for warning in self.warnings:
            terminalreporter.write_line(warning, red=True)
        terminalreporter.write_line(f"run: {self.run} (report again: python -m reports render {self.run})")


__all__ = ["RUN_DIR", "Assay"]
