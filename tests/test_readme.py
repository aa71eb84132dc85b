"""The README is true: its lines exist, CI runs them, its table is that of the committed results."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from reports.__main__ import COMMANDS, main
from reports.errors import ReportError
from reports.readme import BEGIN, END, insert, table_of

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCES = sorted(path.relative_to(ROOT) for path in (ROOT / "reports/reference").iterdir())
"""Runs whose results are committed; each experiment is in one of them."""


def test_the_claims_table_is_that_of_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes a verdict or the table changes both."""
    monkeypatch.chdir(ROOT)
    assert main(["readme", *map(str, REFERENCES), "--check"]) == 0


def test_both_set_up_lines_stand_within_the_first_25_lines() -> None:
    """A reader sees how to start without scrolling."""
    head = "\n".join(README.splitlines()[:25])
    assert "pip install -e . && .venv/bin/pytest bench/ -m cascade" in head
    assert "pip install -e '.[all]' && .venv/bin/pytest tests/ -n 2 --dist worksteal\n" in head


def test_ci_runs_the_test_line_of_the_readme() -> None:
    """CI reads the line from the README, and finds exactly one."""
    assert "grep -m 1 -F 'pytest tests/' README.md" in (ROOT / ".ci" / "run").read_text()
    assert len([line for line in README.splitlines() if "pytest tests/" in line]) == 1


def test_every_relative_link_leads_somewhere() -> None:
    """No page points at a file that is not there."""
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)", prose):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_prose_stays_under_550_words() -> None:
    """The table is generated, and commands are typed, not read; the rest, their comments too, is short."""
    head, _, rest = README.partition(BEGIN)
    text = head + rest.partition(END)[2]
    blocks = re.findall(r"^```.*?^```$", text, flags=re.MULTILINE | re.DOTALL)
    comments = [line.partition(" # ")[2] for block in blocks for line in block.splitlines()]
    for block in blocks:
        text = text.replace(block, "")
    assert len(" ".join([text, *comments]).split()) < 550


def test_every_command_of_the_readme_is_one() -> None:
    """Modules, folders, tox environments and options that its lines name are there."""
    lines = [line.partition(" # ")[0] for block in re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S)
             for line in block.splitlines()]  # fmt: skip
    for module in re.findall(r"python -m (?!venv)([\w.]+)", "\n".join(lines)):
        found = ROOT / module.replace(".", "/")
        assert (found / "__main__.py").is_file() or found.with_suffix(".py").is_file(), module
    reported = set(re.findall(r"python -m reports (\w+)", "\n".join(lines)))
    assert reported <= COMMANDS.keys()
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    names = re.findall(r"tox -e (\w+)", "\n".join(lines))
    assert names
    assert all(f"[testenv:{name}]" in tox for name in names)
    code = "".join(
        p.read_text(encoding="utf-8") for d in ("fixtures", "reports") for p in (ROOT / d).rglob("*.py")
    )
    for option in set(re.findall(r"pytest bench/.*?(--[a-z-]+)", "\n".join(lines))):
        assert f'"{option}"' in code or option.startswith(("--benchmark", "--collect")), option


def test_the_folders_table_names_every_folder() -> None:
    """Of the project, of the harness and of the reports."""
    table = README.partition("## Folders")[2]
    for part in ("harness", "reports"):
        for folder in (ROOT / part).iterdir():
            if folder.is_dir() and folder.name != "__pycache__":
                assert re.search(rf"\b{folder.name}/", table), f"{part}/{folder.name}"


def test_a_readme_without_marks_is_refused() -> None:
    """The table goes where the marks are, and nowhere else."""
    with pytest.raises(ReportError, match="claims: begin"):
        insert("no marks here", "table")


def test_a_folder_without_verdicts_is_refused(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(ReportError, match=r"claims\.json"):
        table_of([tmp_path])


def test_two_runs_of_one_experiment_are_refused(tmp_path: Path) -> None:
    """Nobody could tell which of them a row is from."""
    shutil.copy(ROOT / REFERENCES[0] / "claims.json", tmp_path)
    with pytest.raises(ReportError, match="has claims of agents, and so has"):
        table_of([ROOT / REFERENCES[0], tmp_path])


def test_inserting_twice_changes_nothing() -> None:
    """Generation is idempotent."""
    once = insert(f"a\n{BEGIN}\n{END}\nb", "| t |")
    assert insert(once, "| t |") == once
