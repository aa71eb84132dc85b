"""Worked examples of a page of docs/, as files and commands: what a reader would copy and type.

A fence whose info string has a title is a file, and a console is what is typed and what is answered:

    ```python title="bench/test_x.py"     a new file, whole
    ```toml title="bench/claims/x.toml"   the same; added to the end where the file is there already
    ```diff title="pyproject.toml"        an edit: lines that are there, less those with -, with those with +
    ```console                            `$ command`, then what it prints: `...` stands for any lines, `…`
                                          for anything within one

`<!-- after: page.md -->` says that a page goes on where another ended.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["Command", "File", "Page", "edited", "read", "said", "unsaid"]

FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
AFTER = re.compile(r"^<!-- after: (\S+) -->$", re.MULTILINE)
ANY_LINES, ANYTHING = "...", "…"


class File(NamedTuple):
    """A file of an example, whole or as an edit."""

    path: str
    language: str
    text: str

    def write(self, root: Path) -> None:
        """Put it into a tree; raises AssertionError where it is there already, or an edit fits not."""
        path = root / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.language == "diff":
            text = edited(path.read_text(encoding="utf-8"), self.text)
        elif path.exists():
            assert self.language == "toml", f"{self.path} is there already"
            text = path.read_text(encoding="utf-8") + "\n" + self.text
        else:
            text = self.text
        path.unlink(missing_ok=True)  # it may be a link to the project's own
        path.write_text(text, encoding="utf-8")


class Command(NamedTuple):
    """A line that is typed, and the lines that are said to follow."""

    line: str
    answer: list[str]

    def run(self, root: Path, env: Mapping[str, str]) -> str:
        """What it prints, whatever its status."""
        done = subprocess.run(
            ["bash", "-c", self.line], cwd=root, env=env, text=True, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.stdout


class Page(NamedTuple):
    """A page's examples, in the order in which they stand."""

    after: str | None
    steps: list[File | Command]


def read(path: Path) -> Page:
    """The examples of a page."""
    text = path.read_text(encoding="utf-8")
    steps: list[File | Command] = []
    for language, title, body in FENCE.findall(text):
        if title:
            steps.append(File(title, language, body))
        elif language == "console":
            steps += _commands(body)
    after = AFTER.search(text)
    return Page(after[1] if after else None, steps)


def _commands(body: str) -> list[Command]:
    commands: list[Command] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line.removeprefix("$ "), []))
        else:
            commands[-1].answer.append(line)
    return commands


def edited(text: str, diff: str) -> str:
    """`text` after the edit, whose parts lines of `...` divide; each must fit in exactly one place."""
    for part in re.split(r"^\.\.\.\n", diff, flags=re.MULTILINE):
        lines = part.splitlines(keepends=True)
        old = "".join(line[1:] or line for line in lines if not line.startswith("+"))
        new = "".join(line[1:] or line for line in lines if not line.startswith("-"))
        assert text.count(old) == 1, f"stands there {text.count(old)} times:\n{old}"
        text = text.replace(old, new)
    return text


def said(printed: str, answer: list[str]) -> bool:
    """Whether what was printed is what the page says."""
    return unsaid(printed, answer) is None


def unsaid(printed: str, answer: list[str]) -> str | None:
    """The first line of a page's answer that was not printed where it should; `None` where all were."""
    lines = [line.rstrip() for line in printed.splitlines()]
    at, is_free = 0, False
    for wanted in answer:
        if wanted == ANY_LINES:
            is_free = True
            continue
        pattern = ".*".join(map(re.escape, wanted.rstrip().split(ANYTHING)))
        found = next((i for i in range(at, len(lines)) if re.fullmatch(pattern, lines[i])), None)
        if found is None or (found > at and not is_free):
            return wanted
        at, is_free = found + 1, False
    return None if at == len(lines) or is_free or not answer else lines[at]
