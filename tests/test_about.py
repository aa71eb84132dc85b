"""A run says when, from which commit and with what it was judged, beside its plan."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reports.session.about import about_of, commit_of


def git(folder: Path, *args: str) -> str:
    """What git prints, of a user of its own."""
    user = ("-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *user, *args], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of one commit."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("x = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "-m", "begin")
    return tmp_path


def test_a_commit_is_told_and_whether_it_was_changed(checkout: Path) -> None:
    """New files, such as results, change nothing; a tracked one that differs does."""
    head = git(checkout, "rev-parse", "HEAD")
    (checkout / "results").mkdir()
    (checkout / "results" / "run.json").write_text("{}")
    assert commit_of(checkout) == head
    (checkout / "code.py").write_text("x = 2\n")
    assert commit_of(checkout) == f"{head}-dirty"


def test_no_commit_is_none(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository without commits, a folder of none and a machine without git have none to tell."""
    (bare := tmp_path / "bare").mkdir()
    git(bare, "init", "--quiet")
    assert commit_of(bare) is None
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(checkout))
    (outside := tmp_path / "outside").mkdir()
    assert commit_of(outside) is None
    monkeypatch.setenv("PATH", str(outside))
    assert commit_of(checkout) is None


def test_what_judged_is_no_part_of_the_plan(checkout: Path) -> None:
    """The plan is kept as it was; when it began is a time of UTC."""
    plan = {"code": "abc", "packages": {"xllamacpp": "1"}}
    about = about_of(checkout, plan)
    assert about["plan"] == plan
    assert about["versions"]["pytest"] == pytest.__version__
    began = datetime.fromisoformat(about["started"])
    assert abs(datetime.now(UTC) - began) < timedelta(minutes=5)
