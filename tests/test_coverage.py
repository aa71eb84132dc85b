"""Nothing that was published is left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reports.coverage import coverage, main, named_on, read_published, read_uncovered, table
from reports.errors import ClaimError

ROOT = Path(__file__).parents[1]
CLAIMS, DOCS = ROOT / "bench" / "claims", ROOT / "docs"
BEGUN = ["agents", "cascade", "decode", "routing", "strategies", "switching"]


@pytest.mark.parametrize("experiment", BEGUN)
def test_every_published_statement_is_decided_set_aside_or_honoured(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row for row in coverage(CLAIMS, DOCS) if row.experiment == experiment]
    with capsys.disabled():
        print("\n" + table(rows))
    assert rows
    assert [row.id for row in rows if row.is_open] == []


@pytest.mark.parametrize("experiment", BEGUN)
def test_everything_that_the_source_names_is_on_the_surface_page(experiment: str) -> None:
    page = named_on(DOCS / f"{experiment}-surface.md")
    surface = [p.id for p in read_published(CLAIMS / "published_surface.csv") if p.experiment == experiment]
    assert surface
    assert [name for name in surface if name not in page] == []


def test_a_source_of_two_experiments_is_split_where_the_second_begins() -> None:
    """sessions.md tells of decode, then of agents; both lists agree on where."""
    of = {p.id: p.experiment for p in read_published(CLAIMS / "published_surface.csv")}
    assert [of[f"surface-{n}"] for n in (257, 258, 345, 346, 430)] == [
        "routing", "decode", "decode", "agents", "agents"
    ]  # fmt: skip
    assert "sessions" not in of.values()


def test_a_reason_stands_beside_everything_set_aside() -> None:
    assert all(len(reason) > 40 for reason in read_uncovered(CLAIMS / "uncovered.toml").values())


def test_the_command_fails_while_something_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(CLAIMS), str(DOCS)]) == 0
    assert main([str(CLAIMS), str(tmp_path)]) == 1
    assert "open: cascade-015 (config): Go 1.23+" in capsys.readouterr().out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CLAIMS, tmp_path / "claims")
    return tmp_path / "claims"


def test_a_covered_id_that_nobody_published_is_an_error(folder: Path) -> None:
    path = folder / "cascade.toml"
    path.write_text(path.read_text().replace('"cascade-073"', '"cascade-999"'))
    with pytest.raises(ClaimError, match="cascade-999"):
        coverage(folder, DOCS)


def test_a_statement_is_not_both_decided_and_set_aside(folder: Path) -> None:
    with (folder / "uncovered.toml").open("a") as file:
        file.write('\n[[uncovered]]\nids = ["cascade-073"]\nreason = "no"\n')
    with pytest.raises(ClaimError, match="cascade-073"):
        coverage(folder, DOCS)


@pytest.mark.parametrize(
    "text",
    [
        '[[uncovered]]\nids = ["a-1"]\n',
        '[[uncovered]]\nids = []\nreason = "x"\n',
        '[[uncovered]]\nids = ["a-1", "a-1"]\nreason = "x"\n',
        '[[uncovered]]\nids = ["a-1"]\nreason = " "\n',
        "[[uncovered",
    ],
)
def test_what_is_set_aside_has_ids_and_a_reason(tmp_path: Path, text: str) -> None:
    path = tmp_path / "uncovered.toml"
    path.write_text(text)
    with pytest.raises(ClaimError, match=r"uncovered\.toml"):
        read_uncovered(path)


def test_a_run_of_ids_on_a_page_names_each_of_them(tmp_path: Path) -> None:
    page = tmp_path / "x-surface.md"
    page.write_text("| surface-042 … 045, surface-099 | x |")
    assert named_on(page) == {"surface-042", "surface-043", "surface-044", "surface-045", "surface-099"}
