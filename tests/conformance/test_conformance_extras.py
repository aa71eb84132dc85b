from __future__ import annotations

import pytest

from harness.launchers import Server
from tests.conformance.extras import EXTRAS, NOT_OFFERED, Extra, cell, committed, render
from tests.conformance.subjects import SUBJECTS, Subject


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra.title)
def test_an_extra_is_kept_or_declared_absent(subject: Subject, extra: Extra) -> None:
    """No backend offers an extra that does not hold."""
    shown = cell(subject, extra)
    assert shown == "pass" or shown.startswith("not offered (")


def test_every_absence_has_a_source_and_a_place() -> None:
    """What is declared as not offered is a cell of the table, and says where that stands."""
    titles = {extra.title for extra in EXTRAS}
    for (name, title), source in NOT_OFFERED.items():
        assert name in SUBJECTS
        assert title in titles
        assert "](" in source


def test_a_broken_extra_is_shown_as_such(engine: Server) -> None:
    """A check that does not hold makes a cell that says what was seen."""

    def check(subject: Subject) -> None:
        raise AssertionError("seen: nothing")

    assert cell(Subject("llamacpp", engine), Extra("magic", check)) == "fail (seen: nothing)"


def test_the_documented_table_is_the_measured_one(engine: Server) -> None:
    """The committed table is what the checks give here."""
    assert committed() == render([Subject(name, engine) for name in SUBJECTS])
