"""Where a run comes from: when it began, on what, and the commands that make it again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Any

from reports.pages.steps import Fact
from reports.runs import Run

__all__ = ["commands_of", "flat", "sessions_of", "started_of", "took"]

STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)")


def started_of(run: Run) -> str:
    """When the run, or the first of its sessions, began, to the minute; empty where nothing says it."""
    known = [s["started"] for s in sessions_of(run) if s.get("started")]
    if started := run.about.get("started") or min(known, default=None):
        return str(started)[:16].replace("T", " ") + " UTC"
    found = STAMP.search(run.path.resolve().name)
    return "{}-{}-{} {}:{} UTC".format(*found.groups()[:5]) if found else ""


def sessions_of(run: Run) -> list[Mapping[str, Any]]:
    """The sessions that were merged into the run; none where it is a single one."""
    found = run.about.get("sessions")
    return [s for s in found if isinstance(s, Mapping)] if isinstance(found, list) else []


def took(run: Run) -> str:
    """How long its tests took in all; empty where one of them does not say."""
    times_s = [entry.duration_s for entry in run.entries if entry.outcome != "skipped"]
    known = [t for t in times_s if t is not None]
    if not known or len(known) < len(times_s):
        return ""
    minutes = sum(known) / 60
    return f"{minutes:.0f} min" if minutes >= 10 else f"{minutes:.1f} min"


def commands_of(run: Run) -> list[str]:
    """What makes the run again, of each of its sessions, and its page from the run."""
    plan = run.about.get("plan") or {}
    told = str(run.about.get("commit") or "")
    commit = told.removesuffix("-dirty")
    variables = {k: v for k, v in (plan.get("environment") or {}).items() if v is not None}
    environment = " ".join(f"{k}={quote(str(v))}" for k, v in variables.items())
    options = " ".join(_options(plan.get("settings") or {}))
    markers = " or ".join(run.experiments)
    quoted = f'"{markers}"' if " " in markers else markers
    pytest = " ".join(part for part in (environment, "pytest bench/ -m", quoted, options) if part)
    checkout = [f"git checkout {quote(commit)}"] if commit else []
    if told != commit:
        checkout.append("# tracked files had changes then that this commit does not hold")
    path = f"results/{quote(run.path.resolve().name)}"
    sessions = sessions_of(run)
    merge = [f"python -m reports merge SESSION … --to {path}", f"python -m reports verdicts {path}"]
    again = [f"# {len(sessions)} times, a session each", pytest, *merge] if sessions else [pytest]
    return [*checkout, *again, f"python -m reports render {path}"]


def _options(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if value is None or value is False:
            continue
        if value is True:
            yield option
        for one in value if isinstance(value, list) else [] if value is True else [value]:
            yield f"{option} {quote(str(one))}"


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[Fact]:
    """Nested settings as lines; what is not set is left out."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key} ")
        elif value is not None and value != []:
            yield Fact(f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value))
