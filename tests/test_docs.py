"""The pages that say how to add something are true: their files are built, and their commands answer so."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from tests import documents
from tests.documents import Command, File

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = ("adding-an-experiment.md", "adding-a-claim.md", "adding-a-backend.md")
LINKED = ("harness", "fixtures", "reports", "tests")
COPIED = ("pyproject.toml", "conftest.py")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "reference", "nightly", "test_[!c]*.py")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project without its experiments; every file is a link until it is edited."""
    for name in LINKED:
        shutil.copytree(ROOT / name, tmp_path / name, copy_function=os.symlink, ignore=LEFT_OUT)
    for name in COPIED:
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bench" / "claims").mkdir(parents=True)
    (tmp_path / "docs").symlink_to(DOCS)
    return tmp_path


def environment(root: Path) -> dict[str, str]:
    """A shell in which `pytest` and `python` are those of this run, without colour."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "PYTHONPATH": str(root), "COLUMNS": "100", "NO_COLOR": "1"}
    others = ("PYTEST", "FORCE_COLOR", "PYTHONDONTWRITEBYTECODE")  # compiled once, and not for each command
    return {k: v for k, v in os.environ.items() if not k.startswith(others)} | own


def built(page: str, root: Path) -> list[Command]:
    """Write a page's files, after those of the page that it follows; returns the page's commands."""
    found = documents.read(DOCS / page)
    if found.after:
        built(found.after, root)
    for step in found.steps:
        if isinstance(step, File):
            step.write(root)
    return [step for step in found.steps if isinstance(step, Command)]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_prints_what_the_page_says(page: str, project: Path) -> None:
    """In the order in which they stand, in a project that has the page's files."""
    commands = built(page, project)
    assert commands
    for command in commands:
        printed = command.run(project, environment(project))
        missing = documents.unsaid(printed, command.answer)
        assert missing is None, f"$ {command.line}\nhas no line {missing!r}, or not there:\n{printed}"


@pytest.mark.parametrize("page", PAGES)
def test_the_files_of_a_page_can_be_read_and_keep_the_line_width(page: str, project: Path) -> None:
    """Python compiles, TOML is TOML, and no line is longer than the project's."""
    built(page, project)
    for step in documents.read(DOCS / page).steps:
        if isinstance(step, File) and step.path.endswith(".py"):
            text = (project / step.path).read_text(encoding="utf-8")
            compile(text, step.path, "exec")
            assert max(map(len, text.splitlines())) <= 110, step.path
        elif isinstance(step, File) and step.path.endswith(".toml"):
            tomllib.loads((project / step.path).read_text(encoding="utf-8"))


def test_an_answer_is_held_line_by_line() -> None:
    """Ellipses stand for lines or for parts of one; all else must be printed, in order and side by side."""
    printed = "a\nb 12 s\nc\nd\n"
    for answer in (["a", "b … s", "c", "d"], ["...", "c", "d"], ["a", "..."], [], ["a", "...", "d"]):
        assert documents.said(printed, answer), answer
    for answer in (["a"], ["b … s", "..."], ["a", "c", "..."], ["...", "c"], ["...", "b … min", "..."]):
        assert not documents.said(printed, answer), answer


def test_an_edit_fits_in_exactly_one_place() -> None:
    """A page that edits what has changed, or stands twice, fails."""
    assert documents.edited("a\nb\nc\n", " a\n-b\n+x\n+y\n") == "a\nx\ny\nc\n"
    assert documents.edited("a\nb\nc\n", "-a\n...\n c\n+d\n") == "b\nc\nd\n"
    for text in ("a\n", "a\nb\na\nb\n"):
        with pytest.raises(AssertionError, match="stands there"):
            documents.edited(text, " a\n-b\n")
