"""A plugin for sessions on nodes: notes in $BEGUN_LOG what each was given and what it began, as it does.

Loaded by PYTEST_PLUGINS in the environment that a node was started with.
"""

from __future__ import annotations

import json
import os

import pytest


def _note(**what: object) -> None:
    line = json.dumps({"session": os.getpid(), **what}) + "\n"
    number = os.open(os.environ["BEGUN_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(number, line.encode())  # in one piece, since other sessions write, too
    finally:
        os.close(number)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What it was given."""
    _note(given=[item.nodeid for item in session.items])


def pytest_runtest_logstart(nodeid: str) -> None:
    """What it begins."""
    _note(begun=nodeid)
