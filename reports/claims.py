"""Published claims as data: one TOML row per statement, read strictly.

A row says what was published, which arms of which test decide it, and by which rule. `docs/claims.md`
explains every key for someone who adds a row; this module is the schema. An unknown key, a missing one
or a value of the wrong kind stops the run with the file, the claim and the key.

    form            confirmed when the whole interval …
    at_least        lies at or above `published` (a bare published point reads so)
    at_most         lies at or below `published`
    between         lies at or above the lower end of `published`; overshoot is noted
    equivalent      lies within `margin` of `published`
    no_worse_than   does not reach `margin` to the bad side of `published`
    monotone        of every step along the sweep runs with `direction`, or is too small to tell
    order           of some axis favours the treatment, against every other variant in `among`
    exact           is the single value `published`

    quantity        the number that is compared with `published`
    ratio           control / treatment where lower is better, else treatment / control: 2 is twice as good
    reduction       1 - treatment / control: "33 % faster" is 0.33
    difference      treatment - control
    value           the treatment's own value, or its share of `of`
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from reports.errors import ClaimError
from reports.wellformed import FORMS, OVERS, QUANTITIES, problems

__all__ = ["FORMS", "NOT_ROWS", "OVERS", "QUANTITIES", "Claim", "load", "load_all", "needed_variants"]

NOT_ROWS = ("uncovered.toml",)
"""TOML files that stand beside the claims and hold none."""

Published = float | tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One published statement and the rule that decides it."""

    id: str
    version: int
    """Bumped whenever the row changes, with a dated `note`."""
    source: str
    """Document, section and sentence or table cell."""
    says: str
    """The statement, in the words of the source."""
    form: str
    metric: str
    """A metric of the record; "a+b" is the sum of two."""
    treatment: str
    """The variant the statement is about."""
    experiment: str
    """The name of the file that holds the row."""
    control: str | None = None
    """The arm measured beside the treatment."""
    published: Published = None
    over: str = "rounds"
    """The part of the record that holds the metric: "rounds", "tasks", "jobs" (a sweep's points of that name,
    each arm's paired by job), "requests" (its points of that name, by phase, agent and round) or "sweep"."""
    quantity: str = "ratio"
    of: str | None = None
    """With quantity "value": the metric of the same arm that the value is divided by."""
    quantile: float | None = None
    """The quantile that is meant, instead of the mean: of the rounds with quantity "value", of all requests
    with "value" or "ratio"."""
    per: str | None = None
    """A task metric that the metric is divided by: cost per task solved."""
    margin: float | None = None
    """Half-width of an equivalence or non-inferiority range: relative for ratios and values, or absolute."""
    min_n: int | None = None
    """Pairs or tasks below which the claim stays inconclusive."""
    unit: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What the record's settings must say."""
    requires: tuple[str, ...] = ()
    """What the run must offer, as "kind:value": profile, backend, or a model's role."""
    floor: str | None = None
    """A bound of `reports.physics`, by name."""
    floor_inputs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    provenance: tuple[str, ...] = ()
    """Checks that must have been made, and must have held."""
    also_beats: tuple[str, ...] = ()
    """Trivial alternatives that the treatment must beat too."""
    only: str | None = None
    """How the ids that count begin; with `over` "sweep" what its points say, "policy=lru warm=cold"."""
    against: str | None = None
    """The other side of two gains, or of the same tasks: a "backend:NAME", "SETTING:VALUE" or variant."""
    among: tuple[str, ...] = ()
    """With form "order": the variants of which none may be better on every axis."""
    axes: tuple[str, ...] = ()
    """With form "order": "rounds:METRIC" or "tasks:METRIC", the axes of the comparison."""
    along: str | None = None
    """With form "monotone": the key of a sweep's point that orders it."""
    direction: str | None = None
    """With form "monotone": "increasing" or "decreasing"."""
    scope: str | None = None
    """Of our own row, beside published ones: "pocket" for the small models, "node" for a GPU of any kind."""
    threshold_from: str | None = None
    """With a scope: the argument that the threshold was derived from, before it was measured."""
    covers: tuple[str, ...] = ()
    """Ids of `published_claims.csv` that the row decides."""
    marks: tuple[str, ...] = ()
    note: str = ""
    """Remarks; one on a change of the row is dated."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics whose sum is compared."""
        return tuple(self.metric.split("+"))

    @property
    def threshold(self) -> float | None:
        """The number that decides: the published one, or the lower end of a published range."""
        return self.published[0] if isinstance(self.published, tuple) else self.published

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        return asdict(self)


def load(path: Path | str) -> tuple[Claim, ...]:
    """Read the claims of one experiment, in the order of the file.

    The file's stem names the experiment.

    Raises
    ------
    ClaimError: unreadable TOML, an unknown or missing key, a value of the wrong kind, or an id used twice.
    """
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ClaimError(f"{path}: {exc}; a claims file is TOML with one [[claim]] table per row") from exc
    if not isinstance(data.get("claim"), list) or data.keys() != {"claim"}:
        extra = sorted(data.keys() - {"claim"})
        raise ClaimError(f"{path}: top-level keys {extra or 'without claim'}; use [[claim]] tables only")
    claims = tuple(_claim(row, path, index) for index, row in enumerate(data["claim"]))
    _reject_duplicates((path, claim) for claim in claims)
    return claims


def load_all(folder: Path | str) -> tuple[Claim, ...]:
    """Read every claims file of a folder, by name; ids must be unique across all of them.

    Raises
    ------
    ClaimError: as `load`, or an id that two files use, or no claims file at all.
    """
    paths = sorted(p for p in Path(folder).glob("*.toml") if p.name not in NOT_ROWS)
    if not paths:
        raise ClaimError(f"{folder}: no claims file; expected <experiment>.toml with [[claim]] tables")
    found = [(path, claim) for path in paths for claim in load(path)]
    _reject_duplicates(iter(found))
    return tuple(claim for _, claim in found)


def needed_variants(claim: Claim) -> tuple[str, ...]:
    """The variants whose tests must run to decide `claim`; its control is measured beside the treatment."""
    other = claim.against if claim.against and ":" not in claim.against else None
    names = (claim.treatment, *claim.also_beats, *claim.among, *((other,) if other else ()))
    return tuple(dict.fromkeys(names))


def _reject_duplicates(found: Iterator[tuple[Path, Claim]]) -> None:
    seen: dict[str, Path] = {}
    for path, claim in found:
        if claim.id in seen:
            raise ClaimError(
                f"{path}: claim {claim.id!r}: id is already used in {seen[claim.id]}; rename one"
            )
        seen[claim.id] = path


def _claim(row: Any, path: Path, index: int) -> Claim:
    where = f"{path}: claim {row.get('id', f'number {index + 1}')!r}" if isinstance(row, dict) else str(path)
    if not isinstance(row, dict):
        raise ClaimError(f"{where}: claim is not a table; write [[claim]]")
    known = {f.name: f for f in fields(Claim) if f.name != "experiment"}
    for key in row.keys() - known.keys():
        raise ClaimError(f"{where}: unknown key {key!r}; known keys: {', '.join(sorted(known))}")
    for key, spec in known.items():
        if key not in row and spec.default is MISSING and spec.default_factory is MISSING:
            raise ClaimError(f"{where}: missing key {key!r}; add it (docs/claims.md says what it holds)")
    values = {key: _typed(value, str(known[key].type), f"{where}: key {key!r}") for key, value in row.items()}
    claim = Claim(experiment=path.stem, **values)
    for key, problem in problems(claim):
        raise ClaimError(f"{where}: key {key!r}: {problem}")
    return claim


def _typed(value: Any, kind: str, where: str) -> Any:
    """`value` as the annotation `kind` wants it, or an error that names both."""
    if kind == "Published":
        return _published(value, where)
    if kind.startswith("tuple"):
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise ClaimError(f"{where}: {value!r} is not a list of non-empty strings")
        return tuple(value)
    if kind.startswith("Mapping"):
        if not isinstance(value, dict):
            raise ClaimError(f"{where}: {value!r} is not a table; write {{ name = value }}")
        return value
    if kind.startswith("float"):
        return _number(value, where)
    wanted = int if kind.startswith("int") else str
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise ClaimError(f"{where}: {value!r} is not {'a whole number' if wanted is int else 'a string'}")
    return value


def _number(value: Any, where: str) -> float:
    finite = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    if not finite:
        raise ClaimError(f"{where}: {value!r} is not a finite number")
    return float(value)


def _published(value: Any, where: str) -> Published:
    if not isinstance(value, list):
        return _number(value, where)
    if len(value) != 2:
        raise ClaimError(f"{where}: {value!r} is not a number or [low, high]")
    low, high = (_number(v, where) for v in value)
    if low > high:
        raise ClaimError(f"{where}: [{low}, {high}] runs downwards; write [low, high]")
    return low, high
