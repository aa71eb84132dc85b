"""The tasks of the source, read from `seeds.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.strategies.answers import read_program, read_source
from harness.strategies.base import Question
from harness.strategies.tasks.base import Task
from harness.tables import read_tables

__all__ = ["SeedTask", "rows", "tasks"]

_FILE = Path(__file__).with_name("seeds.toml")
_READERS = {"python": read_program, "rust": read_source}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedTask:
    """A row of the file."""

    name: str
    language: str
    max_tokens: int
    prompt: str
    visible: tuple[str, ...]
    hidden: tuple[str, ...]
    reference: str

    @property
    def task(self) -> Task:
        """The row as a task: without its reference."""
        question = Question(
            id=self.name,
            prompt=self.prompt,
            max_tokens=self.max_tokens,
            read=_READERS[self.language],
            visible=self.visible,
            language=self.language,
        )
        return Task(question=question, family=self.name.rpartition("-")[0], hidden=self.hidden)


def rows() -> dict[str, SeedTask]:
    """Every row by its name, with its reference.

    Raises
    ------
    UsageError: the file is malformed.
    """
    return read_tables(_FILE, "task", SeedTask)


def tasks(language: str) -> list[Task]:
    """The tasks in one language, `python` or `rust`, in the order of the file."""
    return [row.task for row in rows().values() if row.language == language]
