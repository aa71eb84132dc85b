"""Pytest's side of the conformance table: which subjects run, and a cell for each of their tests.

Only tests of a `subject`, or of a `client` at the canned server, make cells. The row is the test's own name.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conformance.cells import FAIL, NOT_OFFERED, NOT_RUN, PASS, REPLAY, Cell, Column, merged, write
from tests.conformance.extras import LACKS
from tests.conformance.subjects import NAMES, ROWS, Row, Subject

CELLS: pytest.StashKey[dict[str, list[Cell]]] = pytest.StashKey()
"""What this session saw so far, by column."""
CLASSES: pytest.StashKey[dict[str, tuple[str, str]]] = pytest.StashKey()
"""Column → its head and the class under test."""

REPLAYED = "answers of Ollama's documentation, `tests/data/ollama/transcripts.json`"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--subjects", help=f"only these, separated by commas: {', '.join(NAMES)}")
    group.addoption("--record-conformance", action="store_true", help="write the cells to docs/conformance/")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CELLS], config.stash[CLASSES] = {}, {}
    config.addinivalue_line("markers", "replays(subject, group, behaviour): a row, seen at recorded answers")
    for row in ROWS:
        if row.marker not in (None, "nightly", "containers"):
            config.addinivalue_line("markers", f"{row.marker}: needs {row.name}; runs only when named")
    selected(config)
    if config.getoption("record_conformance", False) and config.getoption("dist", "no") != "no":
        raise pytest.UsageError("--record-conformance: cells are spread over workers; run without -n")


def selected(config: pytest.Config) -> tuple[Row, ...]:
    """The subjects of this run: those named, else all that are cheap or whose marker is named."""
    named = config.getoption("subjects", None)
    if named is None:
        expression = config.option.markexpr
        return tuple(row for row in ROWS if row.marker is None or row.marker in expression)
    wanted = [name.strip() for name in named.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in NAMES]
    if unknown or not wanted:
        raise pytest.UsageError(f"--subjects {named}: use some of {', '.join(NAMES)}")
    return tuple(row for row in ROWS if row.name in wanted)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "subject" not in metafunc.fixturenames:
        return
    is_named = metafunc.config.getoption("subjects", None) is not None
    params = [
        pytest.param(
            row,
            id=row.name,
            marks=() if is_named or row.marker is None else getattr(pytest.mark, row.marker),
        )
        for row in selected(metafunc.config)
    ]
    metafunc.parametrize("subject", params, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" or (report.when == "setup" and not report.passed):
        _keep(item, report, call)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if not config.getoption("record_conformance", False):
        return
    for name, cells in config.stash[CELLS].items():
        if any(cell.outcome != NOT_RUN for cell in cells):
            head, client = config.stash[CLASSES][name]
            write(Column(subject=name, head=head, client=client, cells=merged(cells)))


def _keep(item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
    params = getattr(getattr(item, "callspec", None), "params", {})
    column = _column(item, params)
    if column is None:
        return
    name, head, client, engine = column
    subject = getattr(item, "funcargs", {}).get("subject")
    group, behaviour = _row(item)
    outcome, reason = _outcome(report, call)
    if item.get_closest_marker("replays") is not None and outcome == PASS:
        outcome, reason = REPLAY, REPLAYED
    if outcome == NOT_RUN and (name, behaviour) in LACKS:
        outcome, reason, engine = NOT_OFFERED, LACKS[name, behaviour], "its documentation"
    cell = Cell(
        group=group,
        behaviour=behaviour,
        outcome=outcome,
        reason=reason,
        evidence="; ".join(subject.notes) if subject is not None and outcome == PASS else "",
        engine=engine,
        date=datetime.now(UTC).date().isoformat(),
    )
    item.config.stash[CELLS].setdefault(name, []).append(cell)
    item.config.stash[CLASSES].setdefault(name, (head, client))


def _column(item: pytest.Item, params: dict[str, Any]) -> tuple[str, str, str, str] | None:
    """The column's name, head, class under test and engine."""
    replay = item.get_closest_marker("replays")
    if replay is not None:
        row = next(row for row in ROWS if row.name == replay.args[0])
        return row.name, row.head, _class_of(row.client), REPLAYED
    if "client" in params:
        kind = params["client"]
        return f"client-{kind}", kind, type(item.funcargs["client"]).__name__, "canned answers"  # type: ignore[attr-defined]
    if "subject" not in params:
        return None
    row = params["subject"]
    subject: Subject | None = getattr(item, "funcargs", {}).get("subject")
    if subject is None:
        return row.name, row.head, _class_of(row.client), ""
    client = type(subject.made[0] if subject.made else subject.make())
    return row.name, row.head, _class_of(client), subject.engine


def _class_of(client: type[Any] | None) -> str:
    """The class under test, past what is put before it here."""
    ours = () if client is None else client.__mro__
    return next((cls.__name__ for cls in ours if cls.__module__.startswith("harness.")), "")


def behaviour_of(item: pytest.Item) -> str:
    """The row that a test stands in, without its group."""
    return _row(item)[1]


def _row(item: pytest.Item) -> tuple[str, str]:
    replay = item.get_closest_marker("replays")
    if replay is not None:
        group, behaviour = replay.args[1:]
        return group, behaviour
    extra = getattr(getattr(item, "callspec", None), "params", {}).get("extra")
    if extra is not None:
        return "extras", extra.title
    words = getattr(item, "originalname", item.name).removeprefix("test_").replace("_", " ")
    cls = getattr(item, "cls", None)
    group = (
        "core" if cls is None else "".join(f" {c.lower()}" if c.isupper() else c for c in cls.__name__[4:])
    )
    return group.strip(), words


def _outcome(report: pytest.TestReport, call: pytest.CallInfo[None]) -> tuple[str, str]:
    if hasattr(report, "wasxfail"):
        return NOT_OFFERED, report.wasxfail
    if report.skipped:
        reason = str(call.excinfo.value) if call.excinfo is not None else ""
        return NOT_RUN, reason.removeprefix("Skipped: ")
    if report.failed:
        said = str(call.excinfo.value).strip() if call.excinfo is not None else str(report.longrepr)
        return FAIL, said.splitlines()[0] if said else "failed"
    return PASS, ""
