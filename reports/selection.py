"""Which items run, and what the gate expects of them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from reports import claims, journal
from reports.errors import ClaimError
from reports.items import ClaimItem

__all__ = ["deselect", "needs_naming", "not_needed_by", "read_lock", "reported", "worse", "write_lock"]

RUN_WHEN_NAMED = ("overhead", "gpu", "nightly")


def deselect(config: pytest.Config, items: list[pytest.Item], unwanted: Iterable[pytest.Item]) -> None:
    """Take items out, and tell pytest so."""
    gone = list(unwanted)
    if gone:
        items[:] = [item for item in items if item not in gone]
        config.hook.pytest_deselected(items=gone)


def needs_naming(config: pytest.Config, items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Items of markers that run only when `-m` names them, or when the item itself is named.

    Not in addopts, since a `-m` on the command line replaces one there.
    """
    named = config.option.markexpr
    by_id = [arg for arg in config.args if "::" in arg]
    quiet = [marker for marker in RUN_WHEN_NAMED if marker not in named]
    return [
        item
        for item in items
        if any(item.get_closest_marker(marker) for marker in quiet)
        and not any(item.nodeid.startswith(arg.split("/")[-1]) or item.nodeid in arg for arg in by_id)
    ]


def not_needed_by(wanted: Sequence[str], items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Everything but the named claims and the variants that they need.

    Raises
    ------
    UsageError: no claim has that id.
    """
    by_id = {item.claim.id: item for item in items if isinstance(item, ClaimItem)}
    for claim_id in wanted:
        if claim_id not in by_id:
            close = difflib.get_close_matches(claim_id, by_id, n=3)
            hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(sorted(by_id))}"
            raise pytest.UsageError(f"--claim: no claim {claim_id!r} among those selected; {hint}")
    keep = {by_id[claim_id] for claim_id in wanted}
    needed = {(item.experiment, v) for item in keep for v in claims.needed_variants(item.claim)}
    return [item for item in items if item not in keep and _variant_of(item) not in needed]


def reported(chosen: Sequence[ClaimItem], variants: Sequence[pytest.Item]) -> list[ClaimItem]:
    """The claims that are reported: those of which at least the treatment was selected.

    A claim whose treatment no test of the whole suite runs stays in, to come out as missing.
    """
    if not variants:
        return list(chosen) if not any(_is_narrowed(item.config) for item in chosen) else []
    selected = {_variant_of(item) for item in variants}
    return [
        item
        for item in chosen
        if (item.experiment, item.claim.treatment) in selected or not _is_narrowed(item.config)
    ]


def read_lock(path: Path) -> dict[str, dict[str, str]]:
    """profile → claim → expected verdict; empty when there is no lock.

    Raises
    ------
    ClaimError: the file is no such map.
    """
    if not path.exists():
        return {}
    try:
        lock: dict[str, dict[str, str]] = json.loads(path.read_text())
    except ValueError as exc:
        raise ClaimError(f"{path}: no JSON ({exc}); make it anew with --claims=update") from exc
    return lock


def write_lock(path: Path, profile: str, verdicts: Sequence[Any]) -> None:
    """Record the verdicts as those expected of this profile."""
    lock = read_lock(path)
    lock.setdefault(profile, {}).update({v.id: v.word for v in verdicts})
    journal.write_json(path, {name: dict(sorted(rows.items())) for name, rows in sorted(lock.items())})


def worse(lock: dict[str, dict[str, str]], profile: str, verdict: Any) -> str | None:
    """What the gate has against a verdict, or `None`."""
    from reports.verdicts import gate_outcome

    expected = lock.get(profile, {}).get(verdict.id)
    if expected is None or gate_outcome(expected, verdict.word) != "fail":
        return None
    return f"{expected} in claims.lock, {verdict.word} now ({verdict.reason})"


def _variant_of(item: pytest.Item) -> tuple[str, Any]:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return item.path.stem.removeprefix("test_"), params.get("variant")


def _is_narrowed(config: pytest.Config) -> bool:
    """Whether -k or a node id chose among the variants."""
    return bool(config.option.keyword) or any("::" in arg for arg in config.args) or bool(config.option.claim)
