"""What the page of the protocol says is what the code does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from harness.sessions.codes import Code
from harness.sessions.limits import Limits
from harness.sessions.messages import (
    Token,
    Turn,
)
from tests.framed import (
    ALL_FRAMES,
    wire,
)


class TestDocumentation:
    """`docs/sessions-protocol.md` and the code say the same."""

    PAGE = (Path(__file__).parents[1] / "docs" / "sessions-protocol.md").read_text()

    def test_every_frame_stands_there_with_its_fields_in_order(self) -> None:
        """Kind, name, whether it has buffers, fields."""
        for number, kind in ALL_FRAMES.items():
            name = f"{kind.__name__}{', buffers' if kind.has_buffers else ''}"
            (row,) = re.findall(rf"^\| {number} \| {name} \| (.*) \|$", self.PAGE, re.MULTILINE)
            named = [word for word in re.findall(r"`(\w+)`", row) if word in kind.__struct_fields__]
            assert named == list(kind.__struct_fields__), kind

    def test_every_error_code_stands_there(self) -> None:
        """With its number, and on the right side of 100."""
        rows = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", self.PAGE, re.MULTILINE)
        assert [(int(number), name) for number, name in rows] == [(code, code.name) for code in Code]

    def test_every_limit_stands_there_with_its_default(self) -> None:
        """None more, none less."""
        rows = dict(re.findall(r"^\| `(m\w+|\w+_s|high\w+)` \| ([\d.]+) \|", self.PAGE, re.MULTILINE))
        limits = Limits()
        fields = {field.name: getattr(limits, field.name) for field in dataclasses.fields(limits)}
        frame = dataclasses.asdict(fields.pop("frame"))
        assert rows == {name: str(value) for name, value in (fields | frame).items()}

    def test_the_examples_are_frames(self) -> None:
        """Each line in hex is what the writer writes."""
        lines = re.findall(r"^4b 56[0-9a-f ]*$", self.PAGE, re.MULTILINE)
        written = [wire(Turn(7, 1, [10, 300], 2)), wire(Token(7, 42)), wire(Token(7, 42), [bytes(4)])]
        assert [bytes.fromhex(line) for line in lines] == written
