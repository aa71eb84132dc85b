"""Sessions over a file of bench/ as a user starts them, in processes of their own, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

__all__ = ["ROOT", "command", "marked", "run", "stored"]

ROOT = Path(__file__).resolve().parents[1]


def command(tests: str | list[str], results: Path, *options: str) -> list[str]:
    """A session over these tests without their claims."""
    names = [tests] if isinstance(tests, str) else tests
    usual = ("--claims=off", "--results-dir", str(results), "-p", "no:cacheprovider", "-q")
    return [sys.executable, "-m", "pytest", *names, *usual, *options]


def run(line: list[str]) -> subprocess.CompletedProcess[str]:
    """What a command line comes to, and what it says, in lines of 200 columns."""
    env = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True)


def stored(results: Path) -> dict[str, Any]:
    """Variant → its record."""
    lines = [x for path in results.glob("*/journal.jsonl") for x in path.read_text().splitlines()]
    records = [entry["extra_info"]["assay"] for entry in map(json.loads, lines) if entry["extra_info"]]
    return {record["variant"]: record for record in records}


def marked(name: str, mark: str) -> list[psutil.Process]:
    """Processes that live and whose environment has the mark under this name."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found
