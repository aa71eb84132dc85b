from __future__ import annotations

import pytest

from tests.conformance.cells import read
from tests.conformance.extras import EXTRAS, LACKS, Extra, held
from tests.conformance.subjects import NAMES, Subject


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra.title)
def test_an_extra_is_kept_or_declared_absent(subject: Subject, extra: Extra) -> None:
    """No backend offers an extra that does not hold, and none keeps one that is declared absent."""
    subject.note(held(subject, extra))


def test_every_absence_has_a_source_and_a_place() -> None:
    """What is declared as not offered is a cell of the table, and says where that stands."""
    columns = read()
    for (name, behaviour), source in LACKS.items():
        assert name in NAMES
        assert behaviour in {cell.behaviour for cell in columns["llamacpp"].cells}
        assert "](" in source
