from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from reports.session.progress import Progress


class Terminal:
    """What pytest's reporter writes, kept."""

    isatty = True
    showfspath = True

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.config = SimpleNamespace(rootpath=__import__("pathlib").Path())
        self.currentfspath: Any = None
        self._tw = SimpleNamespace(width_of_current_line=0)

    def rewrite(self, text: str, erase: bool = False) -> None:
        """A moving line."""
        self.lines.append(text)

    def write_line(self, text: str) -> None:
        """A line that stays."""
        self.lines.append(text)


def lines_of(
    *tests: tuple[str, float], num_lanes: int = 1, blocks: Sequence[Sequence[str]] = ()
) -> list[str]:
    """What is written as these tests finish, each after its seconds."""
    terminal = Terminal()
    progress = Progress(terminal, [name for name, _ in tests])
    progress.num_lanes, progress.blocks = num_lanes, blocks
    for name, took_s in tests:
        report: Any = SimpleNamespace(nodeid=name, outcome="passed", duration=took_s)
        progress.finished(report)
    return terminal.lines


def test_time_left_is_told_per_test_function() -> None:
    """A long grading says nothing of how long a computation takes."""
    lines = lines_of(("a.py::live[x]", 100.0), ("a.py::plan[x]", 1.0), ("a.py::plan[y]", 1.0))
    assert "left" not in lines[0]
    assert lines[1].endswith("about 1 s left")
    assert "left" not in lines[2]


def test_what_the_first_test_pays_for_all_is_not_expected_again() -> None:
    """Loading the models happens once."""
    lines = lines_of(("a.py::live[x]", 100.0), ("a.py::live[y]", 10.0), ("a.py::live[z]", 10.0))
    assert lines[0].endswith("about 3 min left")
    assert lines[1].endswith("about 10 s left")


def test_what_is_left_of_a_second_is_not_told_as_none() -> None:
    """As long as a test is to come, something is left; hours are told as hours."""
    assert lines_of(("a.py::plan[x]", 0.2), ("a.py::plan[y]", 0.2))[0].endswith(", less than 1 s left")
    assert lines_of(("a.py::live[x]", 9000.0), ("a.py::live[y]", 1.0))[0].endswith(", about 2.5 h left")


def test_lanes_share_what_is_left() -> None:
    """Two lanes take half as long."""
    tests = [(f"a.py::live[{i}]", 100.0) for i in range(5)]
    assert lines_of(*tests, num_lanes=2)[0].endswith("about 3 min left")
    assert lines_of(*tests)[0].endswith("about 7 min left")


def test_a_block_is_not_shared_out() -> None:
    """Of four that are left, three run one after the other, however many lanes there are."""
    tests = [(f"a.py::live[{i}]", 100.0) for i in range(5)]
    names = [name for name, _ in tests]
    lines = lines_of(*tests, num_lanes=4, blocks=[names[:1], names[1:4], names[4:]])
    assert lines[0].endswith("about 5 min left")
    assert lines[1].endswith("about 3 min left")
