"""The pytest side: collects claims, journals every finished test, judges, and makes the run's folder.

    collection   bench/claims/<experiment>.toml becomes items of bench/test_<experiment>.py, run last
    each test    its record and its benchmark go to journal.jsonl at once
    the end      verdicts to claims.json and the terminal, figures and exports to the run's folder

Nothing here measures. A variant's test leaves its record in pytest-benchmark's `extra_info["assay"]`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from reports import journal, options, resume, selection
from reports.claims import Claim
from reports.errors import JournalError, ReportError
from reports.items import JUDGE, ClaimFile, ClaimItem, claims_file_of
from reports.progress import Progress
from reports.records import Record
from reports.runs import Run

RUN_DIR: pytest.StashKey[Any] = pytest.StashKey()
"""`() -> Path`: the run's folder, made when first asked for."""

EXTRA = "assay"


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Assay(config), "assay")


def is_variant(item: pytest.Item) -> bool:
    """Whether an item measures: a benchmark test in bench/."""
    return (
        not isinstance(item, ClaimItem)
        and "benchmark" in getattr(item, "fixturenames", ())
        and item.path.parent == item.config.rootpath / "bench"
    )


class Assay:
    """One session: from collection to verdicts."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.claims_mode: str = config.option.claims
        self.results: Path = config.option.results_dir
        self.plan = options.plan_of(config) if config.option.resume else None
        self.run: Path | None = self._run_to_resume() if config.option.resume else None
        self.done = {e["nodeid"]: e for e in journal.read(self.run)} if self.run else {}
        self.user_json: str | None = config.option.benchmark_json
        self.entries: dict[str, dict[str, Any]] = {}
        self.judged: dict[str, Any] = {}
        self.rows: list[tuple[str, Claim]] = []
        self.lock = selection.read_lock(config.rootpath / "claims.lock")
        self.progress: Progress | None = None
        self.is_broken = False
        """Whether the run's folder can no longer be written."""
        self.unrendered = ""
        """Why there are no figures."""
        config.stash[JUDGE] = self.judge
        config.stash[RUN_DIR] = self.run_dir

    def _run_to_resume(self) -> Path:
        run = journal.newest(self.results)
        if run is None:
            raise pytest.UsageError(f"--resume: no run in {self.results}; run once without it")
        changed = journal.differences(journal.read_plan(run)["plan"], self.plan or {})
        if changed:
            raise pytest.UsageError(
                f"--resume: {run} was measured under another plan, and rounds of two plans do not mix; "
                "run without --resume. What differs:\n  " + "\n  ".join(changed)
            )
        return run

    def run_dir(self) -> Path:
        """The run's folder; made, with its plan, when first asked for."""
        if self.run is None:
            self.plan = self.plan or options.plan_of(self.config)
            self.run = journal.create(self.results, {"schema": 1, "plan": self.plan})
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

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Select by claim and by name; put claims last; arm what is to be replayed."""
        selection.deselect(config, items, selection.needs_naming(config, items))
        if config.option.claim:
            selection.deselect(config, items, selection.not_needed_by(config.option.claim, items))
        chosen = [item for item in items if isinstance(item, ClaimItem)]
        kept = selection.reported(chosen, [item for item in items if is_variant(item)])
        selection.deselect(config, items, [item for item in chosen if item not in kept])
        self.rows = [(item.experiment, item.claim) for item in kept]
        for item in items:
            if item.nodeid in self.done and is_variant(item):
                resume.arm(item, self.done[item.nodeid])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Make the run's folder before anything is measured."""
        # Here again, since --ff and --nf reorder after everyone.
        session.items.sort(key=lambda item: isinstance(item, ClaimItem))
        variants = [item for item in session.items if is_variant(item)]
        if not variants or self.config.option.collectonly:
            return
        path = self.user_json or str(self.run_dir() / "benchmark.json")
        self.config._benchmarksession.json = path  # type: ignore[attr-defined]
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        self.progress = Progress(reporter, [i.nodeid for i in variants if not resume.is_armed(i)])
        self.config.stash[Progress.KEY] = self.progress

    # each test

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
        if is_variant(item) and (report.when == "call" or report.outcome != "passed"):
            report.assay = _entry(item, call, report)  # type: ignore[attr-defined]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Journal a finished variant at once."""
        entry = getattr(report, "assay", None)
        if entry is None:
            return
        earlier = self.entries.get(entry["nodeid"])
        if earlier and report.when == "teardown":
            entry = {**earlier, "outcome": entry["outcome"], "why": entry["why"]}
        self.entries[entry["nodeid"]] = entry
        if self.done.get(entry["nodeid"], {}).get("outcome") != "passed":
            try:
                journal.append(self.run_dir(), entry)
            except JournalError as exc:
                self.is_broken = True
                pytest.exit(str(exc), returncode=pytest.ExitCode.INTERNAL_ERROR)
        if self.progress:
            self.progress.finished(report)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, Any] | None:
        """Show a verdict by its own word and letter."""
        verdict = dict(getattr(report, "user_properties", ())).get("verdict")
        if verdict and report.when == "call" and report.outcome == "passed":
            from reports.verdicts import LETTERS

            letter, colour = LETTERS[str(verdict)]
            return str(verdict), letter, (str(verdict).upper(), {colour: True})
        if (
            report.when == "call"
            and report.passed
            and self.done.get(report.nodeid, {}).get("outcome") == "passed"
        ):
            return "resumed", "r", "RESUMED"
        if self.progress and hasattr(report, "assay") and self.config.get_verbosity() <= 0:
            return report.outcome, "", ""  # its line of progress says so
        return None

    # the end

    def judge(self, experiment: str, claim: Claim) -> tuple[Any, str | None]:
        """The verdict on a claim, and what the gate has against it (nothing, outside of gate mode)."""
        from reports import verdicts

        if claim.id not in self.judged:
            stored = [_stored(e) for e in self.entries.values() if e["experiment"] == experiment]
            offers = [f"profile:{self.config.option.profile}"]
            self.judged[claim.id] = verdicts.judge(claim, stored, offers)
        verdict = self.judged[claim.id]
        gate = None
        if self.claims_mode == "gate":
            gate = selection.worse(self.lock, self.config.getoption("profile", "pocket"), verdict)
        return verdict, gate

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge, and write everything that follows from the journal."""
        if self.run is None or self.is_broken or not self.entries:
            return
        out = [self.judge(experiment, claim)[0] for experiment, claim in self.rows]
        journal.write_json(self.run / "claims.json", {"claims": [v.to_json() for v in out]})
        self._snapshot()
        if self.claims_mode == "update":
            selection.write_lock(self.config.rootpath / "claims.lock", self.config.getoption("profile"), out)
        from reports.__main__ import render

        try:
            render(self.run)
        except (ReportError, OSError) as exc:
            self.unrendered = str(exc)

    def _snapshot(self) -> None:
        assert self.run is not None
        if self.user_json and Path(self.user_json).exists():
            shutil.copy(self.user_json, self.run / "benchmark.json")
        folder = self.run / "claims"
        folder.mkdir(exist_ok=True)
        for experiment in {experiment for experiment, _ in self.rows}:
            shutil.copy(self.config.rootpath / "bench" / "claims" / f"{experiment}.toml", folder)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the variants and the claims."""
        if self.run is None or self.is_broken or not self.entries:
            return
        from reports import tables

        if self.judged:
            terminalreporter.section("claims")
            run = Run.read(self.run)
            terminalreporter.write_line(tables.variants_table(run))
            terminalreporter.write_line(tables.claims_table(run.verdicts, markup=_markup(terminalreporter)))
        if self.unrendered:
            terminalreporter.write_line(f"no figures: {self.unrendered}", red=True)
        terminalreporter.write_line(f"run: {self.run} (report again: python -m reports render {self.run})")


def _entry(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> dict[str, Any]:
    bench: Any = getattr(item, "funcargs", {}).get("benchmark")
    stats: Any = getattr(bench, "stats", None)
    whole = None
    if stats is not None and stats.stats.data and not bench.has_error:
        whole = json.loads(json.dumps(stats.as_dict(include_data=True), default=repr))
        del whole["extra_info"]  # stands beside it
    return {
        "nodeid": item.nodeid,
        "experiment": item.path.stem.removeprefix("test_"),
        "params": dict(item.callspec.params) if hasattr(item, "callspec") else {},
        "outcome": report.outcome,
        "why": _why(call, report),
        "data": list(stats.stats.data) if whole else [],
        "benchmark": whole,
        "extra_info": dict(bench.extra_info) if bench is not None else {},
    }


def _why(call: pytest.CallInfo[None], report: pytest.TestReport) -> str:
    if call.excinfo is None:
        return ""
    if report.outcome == "skipped":
        return str(getattr(call.excinfo.value, "msg", call.excinfo.value))
    return call.excinfo.exconly()


def _stored(entry: dict[str, Any]) -> Any:
    from reports.verdicts import Stored

    data = entry["extra_info"].get(EXTRA)
    return Stored(
        nodeid=entry["nodeid"],
        state=entry["outcome"],
        why=entry["why"],
        params=entry["params"],
        record=Record.from_json(data) if data else None,
    )


def _markup(reporter: Any) -> Any:
    """Colours a cell by its verdict's word, where the terminal allows colour."""
    from reports.verdicts import LETTERS

    return lambda text, word: reporter._tw.markup(text, **{LETTERS[word][1]: True})


__all__ = ["RUN_DIR", "Assay", "JournalError", "is_variant"]
