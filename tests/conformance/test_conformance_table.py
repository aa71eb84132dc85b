"""The documented table is the one that was measured, and no cell claims more than was seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import cells, table
from tests.conformance.cells import FAIL, NOT_OFFERED, NOT_RUN, PASS, REPLAY, Cell, Column, merged
from tests.conformance.recording import CELLS
from tests.conformance.subjects import ROWS

ALWAYS = [row.name for row in ROWS if row.marker is None]


def cell(outcome: str, *, behaviour: str = "streams", reason: str = "", evidence: str = "") -> Cell:
    return Cell(group="core", behaviour=behaviour, outcome=outcome, reason=reason, evidence=evidence)


def column(*some: Cell, subject: str = "llamacpp") -> Column:
    return Column(subject=subject, head=subject, client="LlamaCppBackend", cells=some)


def test_the_page_is_what_the_stored_cells_give() -> None:
    """The committed page is not edited by hand, nor out of date."""
    assert table.PAGE.read_text() == table.render(cells.read()), "run python -m tests.conformance.table"


@pytest.mark.parametrize("name", ALWAYS)
def test_stored_cells_are_those_of_this_run(request: pytest.FixtureRequest, name: str) -> None:
    """A subject that runs by default has the outcomes just seen, row for row; its dates may be older."""
    fresh = merged(request.config.stash[CELLS].get(name, ()))
    stored = cells.read()[name].cells
    if {c.row for c in fresh} < {c.row for c in stored}:
        pytest.skip("only a part of the suite ran")
    away = [c.reason for c in fresh if c.outcome == NOT_RUN]
    if away and not any(c.outcome == NOT_RUN for c in stored):
        pytest.skip(away[0])
    remedy = f"run pytest tests/conformance --subjects {name} --record-conformance"
    assert {c.row: c.outcome for c in fresh} == {c.row: c.outcome for c in stored}, remedy


@pytest.mark.parametrize("name", sorted(cells.read()))
def test_every_column_has_the_rows_of_its_kind(name: str) -> None:
    """No stored row is of a behaviour that is gone, and none is missing."""
    columns = cells.read()
    like = "client-openai" if name.startswith(table.CLIENT) else "llamacpp"
    rows, all_rows = ({c.row for c in columns[each].cells} for each in (name, like))
    assert rows <= all_rows if name == table.JSON_LINES else rows == all_rows


@pytest.mark.parametrize("name", sorted(cells.read()))
def test_no_stored_cell_is_bare(name: str) -> None:
    """Each says with what engine and when it was seen, and all but a pass say why."""
    for stored in cells.read()[name].cells:
        assert stored.outcome in (PASS, FAIL, NOT_OFFERED, REPLAY, NOT_RUN)
        assert stored.outcome == PASS or stored.reason, stored
        assert stored.outcome == NOT_RUN or (stored.engine and stored.date), stored
        assert stored.outcome != NOT_OFFERED or "](" in stored.reason, stored


def test_a_behaviour_is_as_good_as_its_worst_way() -> None:
    """Tried by chat and by prompt, one failure makes the cell a failure, with all that was seen."""
    [one] = merged([cell(PASS, evidence="a"), cell(FAIL, reason="broke"), cell(PASS, evidence="a")])
    assert (one.outcome, one.reason, one.evidence) == (FAIL, "broke", "a")


def test_a_failure_is_shown_with_what_was_seen() -> None:
    """A cell that is no pass points to its note."""
    page = table.render({"llamacpp": column(cell(FAIL, reason="24 chunks | 23 tokens"))})
    assert "| streams | fail [1](#notes) |" in page
    assert "1. 24 chunks \\| 23 tokens" in page


def test_a_row_never_run_says_so() -> None:
    """A behaviour that one subject never met is no blank, and no pass."""
    page = table.render(
        {"llamacpp": column(cell(PASS)), "fake": column(cell(PASS, behaviour="stops"), subject="fake")}
    )
    assert "| streams | pass | not run [1](#notes) |" in page
    assert "| stops | not run [1](#notes) | pass |" in page


def test_recording_a_part_keeps_the_rest(tmp_path: Path) -> None:
    """Cells that did not run stay as stored; those that did are replaced."""
    cells.write(column(cell(PASS), cell(PASS, behaviour="stops")), tmp_path)
    cells.write(column(cell(FAIL, reason="broke")), tmp_path)
    [stored] = cells.read(tmp_path).values()
    assert [(c.behaviour, c.outcome) for c in stored.cells] == [("streams", FAIL), ("stops", PASS)]
