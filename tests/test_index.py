from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.pages.history import histories, read_all
from tests.synthetic_runs import record, verdict, write_run
from tests.test_page import BROWSER, Page, seen


def put(folder: Path, name: str, word: str, estimate: float, commit: str = "", **changes: object) -> Path:
    """A run of one claim."""
    numbers = {"published": 2.0, "quantity": "ratio", "interval": [estimate / 1.1, estimate * 1.1]}
    found = verdict("faster", word, estimate=estimate, **numbers, **changes)
    path = write_run(folder / name, [record("cascade", num_rounds=2, num_graded=2)], [found])
    (path / "run.json").write_text(json.dumps({"schema": 2, "commit": commit, "plan": {}}))
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three runs, written out of order."""
    put(tmp_path, "20260301-100000", "refuted", 1.5, "c" * 40)
    put(tmp_path, "20260101-100000", "confirmed", 3.0, "a" * 40)
    put(tmp_path, "20260201-100000", "confirmed", 2.9, "b" * 40)
    return tmp_path


def test_a_run_of_no_known_date_and_commit_is_headed_by_its_name_once(tmp_path: Path) -> None:
    """Whole, and not by the end of it; a date stands above the commit, or above the name."""
    put(tmp_path, "a-run-of-a-long-name", "confirmed", 3.0)
    put(tmp_path, "20260101-100000", "confirmed", 3.0)
    put(tmp_path, "20260201-100000", "confirmed", 3.0, "b" * 40)
    assert main(["index", str(tmp_path)]) == 0
    heads = re.findall('<th scope="col" class="run"[^>]*>(.*?)</th>', (tmp_path / "index.html").read_text())
    assert heads == [
        "a-run-of-a-long-name",
        "2026-01-01<br><code>20260101-100000</code>",
        "2026-02-01<br><code>bbbbbbb</code>",
    ]


def test_runs_are_in_the_order_in_which_they_began(results: Path) -> None:
    """Told by run.json, else by the folder's name."""
    assert [c.name[:6] for c in read_all(results).columns] == ["202601", "202602", "202603"]
    late = {"started": "2026-04-01T00:00:00+00:00", "plan": {}}
    (results / "20260101-100000" / "run.json").write_text(json.dumps(late))
    assert [c.name[:6] for c in read_all(results).columns] == ["202602", "202603", "202601"]


def test_a_claim_is_followed_from_run_to_run(results: Path) -> None:
    """Its word, its number, and where it changed; the curve falls through the line."""
    (claim,) = histories(read_all(results).columns)
    assert [cell.word for cell in claim.cells if cell] == ["confirmed", "confirmed", "refuted"]
    assert [cell.is_changed for cell in claim.cells if cell] == [False, False, True]
    assert claim.line is not None
    assert [dot.y < claim.line for dot in claim.dots] == [True, True, False]
    assert "2026-03-01 10:00 UTC: refuted 1.5" in claim.words


def test_a_run_without_the_claim_is_a_gap(results: Path) -> None:
    """Neither a change nor a dot."""
    write_run(results / "20260215-100000", [record("cascade", num_rounds=2, num_graded=2)], [])
    (claim,) = histories(read_all(results).columns)
    assert [cell is None for cell in claim.cells] == [False, False, True, False]
    assert len(claim.dots) == 3


def test_the_curve_falls_where_a_metric_of_which_less_is_better_grows(tmp_path: Path) -> None:
    """Above the line is the claim's side, also for a claim that a cost is no worse."""
    for day, estimate in ((1, -0.1), (2, 0.3)):
        put(tmp_path, f"2026010{day}-100000", "confirmed", 1.0, form="no_worse_than", margin=0.05)
        path = tmp_path / f"2026010{day}-100000" / "claims.json"
        (found,) = json.loads(path.read_text())["claims"]
        found |= {"quantity": "difference", "published": 0.0, "estimate": estimate, "interval": None}
        path.write_text(json.dumps({"claims": [found]}))
    (claim,) = histories(read_all(tmp_path).columns)
    first, second = claim.dots
    assert first.y < second.y


def test_the_page_of_a_run_is_found_under_any_name(tmp_path: Path) -> None:
    """What has a meaning in an address is escaped."""
    path = put(tmp_path, "a #1?", "confirmed", 3.0)
    (path / "report.html").write_text("")
    (column,) = read_all(tmp_path).columns
    assert column.page == "a%20%231%3F/report.html"


def test_runs_of_several_machines_are_told(tmp_path: Path) -> None:
    """A verdict that changed between them need not be the code's doing."""
    for day, machine in ((1, "one"), (2, "another")):
        path = put(tmp_path, f"2026010{day}-100000", "confirmed", 3.0)
        (path / "run.json").write_text(json.dumps({"plan": {"machine": machine}}))
    assert main(["index", str(tmp_path)]) == 0
    assert "a change may be due to that" in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "held", "says"),
    [
        ("claims.json", {"claims": None}, "without id or verdict"),
        (
            "claims.json",
            {"claims": [{"id": "a", "verdict": "refuted", "estimate": "x"}]},
            "estimate of claim 'a'",
        ),
        (
            "claims.json",
            {"claims": [{"id": "a", "verdict": "refuted", "interval": 5}]},
            "interval of claim 'a'",
        ),
        ("claims.json", {"claims": [{"id": "a", "verdict": "refuted", "physics": {"value": 1}}]}, "physics"),
        ("run.json", {"plan": "x"}, "plan is 'x'"),
        ("run.json", {"plan": {"settings": "x"}}, "plan.settings is 'x'"),
        ("run.json", {"commit": 5}, "commit is 5"),
    ],
)
def test_a_foreign_file_is_named_and_the_other_runs_are_shown(
    results: Path, name: str, held: dict[str, object], says: str
) -> None:
    """What is JSON and no run of ours."""
    (results / "20260201-100000" / name).write_text(json.dumps(held))
    read = read_all(results)
    assert len(read.columns) == 2
    (broken,) = read.broken
    assert says in broken.error


def test_a_broken_run_is_listed_and_the_others_are_shown(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with what is wrong; the exit status says that not all could be read."""
    for name, content in {"torn": '{"nodeid": ', "foreign": "[1, 2]\n", "newer": None}.items():
        (results / name).mkdir()
        line = json.dumps(
            {"nodeid": "x", "outcome": "passed", "extra_info": {"assay": {"schema": 99, "variant": "x"}}}
        )
        (results / name / "journal.jsonl").write_text(f"{line}\n" if content is None else content)
    assert main(["index", str(results)]) == 1
    out, err = capsys.readouterr()
    assert out.strip() == str(results / "index.html")
    assert err.count("error: ") == 3
    text = (results / "index.html").read_text(encoding="utf-8")
    assert "schema" in text
    assert text.count('<tr class="filterable"') == 1
    assert "3 runs, 1 claims" in " ".join(text.split())


def test_an_index_is_whole_and_names_its_pictures(results: Path) -> None:
    """Elements nest, ids are used once, pages are linked where there are any."""
    (results / "20260101-100000" / "report.html").write_text("a page")
    assert main(["index", str(results)]) == 0
    text = (results / "index.html").read_text(encoding="utf-8")
    found = Page(text)
    assert not found.open
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [a["href"] for a in found.of("a")]
    assert links == ["#main", "20260101-100000/report.html"]
    assert all(attrs.get("aria-label") for attrs in found.of("svg"))
    assert "https://" not in text


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium: apt-get install chromium")
def test_a_narrow_window_scrolls_the_tables_and_not_the_page(results: Path, tmp_path: Path) -> None:
    """Many runs make wide tables."""
    for month in range(4, 10):
        put(results, f"20260{month}01-100000", "confirmed", 3.0)
    assert main(["index", str(results)]) == 0
    assert seen(results / "index.html", 400, tmp_path) == "400|0|1 claims"


@pytest.mark.parametrize(("name", "says"), [("none", "no such folder"), ("empty", "no run in it")])
def test_a_folder_without_runs_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    """With what to give instead."""
    (tmp_path / "empty").mkdir()
    assert main(["index", str(tmp_path / name)]) == 2
    assert says in capsys.readouterr().err
