"""Which published statements the claims decide, which they cannot, and which nobody has looked at.

`published_claims.csv` lists every statement of the sources and `published_surface.csv` everything they name:
a system, a flag, a file, a figure. A statement is decided by the claims whose `covers` names it, set aside in
`uncovered.toml` with a reason, or, where it is a setting and no statement about the world, honoured as the
experiment's surface page says (`docs/<experiment>-surface.md`).

    python -m reports.coverage [bench/claims] [docs]      prints the coverage, and fails on a gap
"""

from __future__ import annotations

import csv
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reports.claims import NOT_ROWS, Claim, load_all
from reports.errors import ClaimError

__all__ = ["Row", "coverage", "main", "named_on", "read_published", "read_uncovered", "table"]

DECIDED_KINDS = ("claim", "measured", "expected")
"""Kinds of statement that a claim must decide or `uncovered.toml` must give a reason for."""

FROM_LINE = {"sessions.md": ((1, "decode"), (107, "agents"))}
"""Sources that tell of several experiments: of which, from which line on."""

ID = re.compile(r"\b([a-z]+)-(\d+)(?:\s*(?:…|\.\.|–|to)\s*(?:[a-z]+-)?(\d+))?")
"""An id, or a run of them: "surface-042", "surface-042 … 045"."""


class Published(NamedTuple):
    """One line of a published list."""

    id: str
    experiment: str
    kind: str
    text: str


class Row(NamedTuple):
    """One published statement and what became of it."""

    id: str
    experiment: str
    kind: str
    quote: str
    claims: tuple[str, ...]
    """Ids of the claims that decide it."""
    uncovered: str
    """Why it is not checkable, from `uncovered.toml`."""
    honoured: bool
    """The experiment's surface page says what stands here for it."""

    @property
    def is_open(self) -> bool:
        """Whether nobody has accounted for it."""
        if self.claims or self.uncovered:
            return False
        return self.kind in DECIDED_KINDS or not self.honoured


def coverage(claims_dir: Path | str, docs_dir: Path | str) -> list[Row]:
    """Every published statement with what became of it, in the order of the list.

    Raises
    ------
    ClaimError: a claims file is malformed, an id in `covers` or `uncovered.toml` is not published, or a
        statement is both decided and said not to be checkable.
    """
    folder = Path(claims_dir)
    published = read_published(folder / "published_claims.csv")
    reasons = read_uncovered(folder / "uncovered.toml")
    deciding = _deciding(load_all(folder))
    known = {p.id for p in published}
    for where, ids in (("covers", deciding), ("uncovered.toml", reasons)):
        if unknown := sorted(ids.keys() - known):
            raise ClaimError(f"{folder}: {where} names {', '.join(unknown)}, not in published_claims.csv")
    if both := sorted(deciding.keys() & reasons.keys()):
        raise ClaimError(f"{folder}: {', '.join(both)} stand in uncovered.toml and are covered; remove one")
    pages = {e: named_on(Path(docs_dir) / f"{e}-surface.md") for e in {p.experiment for p in published}}
    return [
        Row(
            p.id,
            p.experiment,
            p.kind,
            p.text,
            deciding.get(p.id, ()),
            reasons.get(p.id, ""),
            p.id in pages[p.experiment],
        )
        for p in published
    ]


def table(rows: Sequence[Row]) -> str:
    """Counts per experiment and kind, as text: decided, not checkable, honoured as a setting, open."""
    heads = f"{'all':>4} {'decided':>8} {'set aside':>10} {'setting':>8} {'open':>5}"
    lines = [f"{'experiment':12} {'kind':10} {heads}"]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.experiment, row.kind), []).append(row)
    for (experiment, kind), group in sorted(groups.items()):
        decided = sum(bool(r.claims) for r in group)
        aside = sum(bool(r.uncovered) for r in group)
        still = sum(r.is_open for r in group)
        setting = len(group) - decided - aside - still
        lines.append(f"{experiment:12} {kind:10} {len(group):4} {decided:8} {aside:10} {setting:8} {still:5}")
    return "\n".join(lines)


def read_published(path: Path) -> list[Published]:
    """The published list: of statements (with their experiment) or of the surface (with seed and line).

    Raises
    ------
    ClaimError: the file is not there, lacks a column, or has a line that is no number.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        return [
            Published(
                line["id"],
                line.get("experiment") or _experiment_of(line["seed"], int(line["line"])),
                line["kind"],
                line.get("quote") or line["item"],
            )
            for line in lines
        ]
    except (OSError, KeyError, ValueError) as exc:
        raise ClaimError(
            f"{path}: {exc}; expected columns id, kind, experiment or seed and line, quote or item"
        ) from exc


def read_uncovered(path: Path) -> Mapping[str, str]:
    """Published id → why it is not checkable.

    Raises
    ------
    ClaimError: unreadable, an entry without ids or reason, or an id given twice.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("uncovered", [])
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise ClaimError(f"{path}: {exc}") from exc
    reasons: dict[str, str] = {}
    for entry in entries:
        if entry.keys() != {"ids", "reason"} or not entry["ids"] or not entry["reason"].strip():
            raise ClaimError(
                f"{path}: {entry!r}: an [[uncovered]] table has ids and a reason, and nothing else"
            )
        for name in entry["ids"]:
            if name in reasons:
                raise ClaimError(f"{path}: {name!r} is given twice; keep one")
            reasons[name] = entry["reason"]
    return reasons


def named_on(page: Path) -> frozenset[str]:
    """The published ids that a page names, runs ("surface-042 … 045") spelled out; none without the page."""
    if not page.exists():
        return frozenset()
    out = set()
    for prefix, first, last in ID.findall(page.read_text(encoding="utf-8")):
        for number in range(int(first), int(last or first) + 1):
            out.add(f"{prefix}-{number:0{len(first)}d}")
    return frozenset(out)


def main(arguments: Sequence[str]) -> int:
    """Print the coverage and what is open in the experiments that have a claims file; 1 when anything is."""
    claims_dir = Path(arguments[0]) if arguments else Path("bench/claims")
    docs_dir = Path(arguments[1]) if len(arguments) > 1 else Path("docs")
    rows = coverage(claims_dir, docs_dir)
    begun = {p.stem for p in claims_dir.glob("*.toml") if p.name not in NOT_ROWS}
    still = [row for row in rows if row.is_open and row.experiment in begun]
    print(table([row for row in rows if row.experiment in begun]))
    for row in still:
        print(f"open: {row.id} ({row.kind}): {row.quote}")
    return 1 if still else 0


def _experiment_of(seed: str, line: int) -> str:
    parts = FROM_LINE.get(seed, ((1, seed.removesuffix(".md")),))
    return [experiment for first, experiment in parts if first <= line][-1]


def _deciding(claims: Iterable[Claim]) -> dict[str, tuple[str, ...]]:
    out: dict[str, tuple[str, ...]] = {}
    for claim in claims:
        for name in claim.covers:
            out[name] = (*out.get(name, ()), claim.id)
    return out


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
