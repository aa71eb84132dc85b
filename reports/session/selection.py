"""Which items run, and what the gate expects of them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from reports import claims, journal
from reports.errors import ClaimError
from reports.session.items import ClaimItem, experiment_of
from reports.words import BROKEN, HELD, WORDS, gate_outcome

if TYPE_CHECKING:
    from reports.verdicts import Verdict

__all__ = [
    "Ruling",
    "deselect",
    "expected_of",
    "gate",
    "is_part",
    "needs_naming",
    "not_needed_by",
    "read_lock",
    "refuse_workers",
    "reported",
    "write_lock",
]

RUN_WHEN_NAMED = ("overhead", "gpu", "nightly", "containers")

FAMILY_LEVEL = 0.05


class Ruling(NamedTuple):
    """What the gate makes of one claim: "ok", "rerun", "warn" or "fail", and why."""

    outcome: str
    why: str


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
    quiet = [marker for marker in RUN_WHEN_NAMED if marker not in named]
    return [
        item
        for item in items
        if any(item.get_closest_marker(marker) for marker in quiet)
        and not any(_names(config, arg, item) for arg in config.args if "::" in arg)
    ]


def refuse_workers(config: pytest.Config) -> None:
    """Raise UsageError for bench/ under -n without lanes: workers measure on what others use."""
    if config.getoption("dist", "no") == "no" or config.getoption("lanes", None):
        return
    bench = config.rootpath / "bench"
    for arg in config.args:
        path = (config.invocation_params.dir / arg.partition("::")[0]).resolve()
        if bench.is_dir() and (path == bench or bench in path.parents or path in bench.parents):
            raise pytest.UsageError(
                f"{arg}: benchmarks of bench/ disturb each other in workers; "
                "give each a device (--lanes gpu, --lanes cpu), or run without -n"
            )


def is_part(config: pytest.Config) -> bool:
    """Whether the command line names tests, or last failures, so that not every test was even collected.

    A file is a part too: another one may run variants of the same experiment.
    """
    return any("::" in arg or arg.endswith(".py") for arg in config.args) or bool(
        config.getoption("lf", False)
    )


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


def reported(
    chosen: Sequence[ClaimItem],
    variants: Sequence[pytest.Item],
    collected: Sequence[pytest.Item],
    *,
    is_whole: bool,
) -> list[ClaimItem]:
    """The claims that are reported: those whose treatment is going to run, and those whose never could.

    Arguments: `variants`, what is left of the `collected` ones; `is_whole`, whether all were collected. A
    claim whose treatment no test of the whole suite runs stays in, to come out as missing.
    """
    selected = {_variant_of(item) for item in variants}
    known = {_variant_of(item) for item in collected}
    wanted = ((item, (item.experiment, item.claim.treatment)) for item in chosen)
    return [item for item, name in wanted if name in selected or (is_whole and name not in known)]


def read_lock(path: Path) -> dict[str, dict[str, str]]:
    """profile → claim → expected verdict; empty when there is no lock.

    Raises
    ------
    ClaimError: the file cannot be read, or is no such map.
    """
    try:
        lock: dict[str, dict[str, str]] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ClaimError(f"{path}: no JSON ({exc}); remove it and run with --claims=update") from exc
    if not isinstance(lock, dict) or not all(
        isinstance(rows, dict) and all(word in WORDS for word in rows.values()) for rows in lock.values()
    ):
        raise ClaimError(
            f"{path}: not a map of profile to claim to verdict; remove it and run with --claims=update"
        )
    return lock


def write_lock(
    path: Path, profile: str, verdicts: Sequence[Verdict], known: Collection[str] | None = None
) -> None:
    """Record the verdicts as those expected of this profile; broken evidence is nothing to expect.

    Arguments: `known`, every id that there is; others are dropped. `None` where only a part was run.

    Raises
    ------
    ClaimError: the lock that is there is malformed. OSError: it cannot be written.
    """
    lock = read_lock(path)
    rows = {id: word for id, word in lock.get(profile, {}).items() if known is None or id in known}
    rows |= {v.id: v.word for v in verdicts if v.word not in BROKEN}
    lock[profile] = rows
    journal.write_json(path, {name: dict(sorted(rows.items())) for name, rows in sorted(lock.items())})


def expected_of(path: Path, profile: str) -> dict[str, str]:
    """What the lock expects of a profile.

    Raises
    ------
    ClaimError: there is no lock, it is malformed, or it expects nothing of this profile.
    """
    expected = read_lock(path).get(profile)
    if not expected:
        raise ClaimError(
            f"--claims=gate: {path} expects nothing of profile {profile}; make it with --claims=update"
        )
    return expected


def gate(expected: Mapping[str, str], verdicts: Sequence[Verdict]) -> dict[str, Ruling]:
    """What the gate makes of every locked claim that was judged.

    The family is the locked claims that held: a refutation of one of them counts at 5 % of Holm's p values,
    and is a warning above it. A form without a p value is exact, and counts as it is.
    """
    from reports.verdicts import family_p

    locked = [v for v in verdicts if v.id in expected]
    p_values = family_p([v for v in locked if expected[v.id] in HELD])
    rulings = {}
    for v in locked:
        outcome = gate_outcome(expected[v.id], v.word)
        why = f"{expected[v.id]} in claims.lock, {v.word} now ({v.reason})"
        if outcome == "fail" and v.word == "refuted" and p_values.get(v.id, 0.0) >= FAMILY_LEVEL:
            outcome, why = (
                "warn",
                f"{why}; p = {p_values[v.id]:.2g} by Holm over {len(p_values)} locked claims",
            )
        elif outcome == "rerun":
            why = f"{why}; run it again: --claim {v.id}"
        rulings[v.id] = Ruling(outcome, why)
    return rulings


def _variant_of(item: pytest.Item) -> tuple[str, Any]:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return experiment_of(item), params.get("variant")


def _names(config: pytest.Config, arg: str, item: pytest.Item) -> bool:
    """Whether a node id on the command line names the item, its function or its class."""
    path, _, wanted = arg.partition("::")
    name = item.nodeid.partition("::")[2]
    is_here = (config.invocation_params.dir / path).resolve() == item.path
    return is_here and (wanted in (name, name.split("[")[0]) or name.startswith(f"{wanted}::"))
