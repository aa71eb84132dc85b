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

__all__ = ["FORMS", "NOT_ROWS", "OVERS", "QUANTITIES", "Claim", "load", "load_all", "needed_variants"]

FORMS = ("at_least", "at_most", "between", "equivalent", "no_worse_than", "monotone", "order", "exact")
QUANTITIES = ("ratio", "reduction", "difference", "value")
OVERS = ("rounds", "tasks", "jobs", "requests", "sweep")
SCOPES = ("pocket", "node")
DIRECTIONS = ("increasing", "decreasing")
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
    for key, problem in _problems(claim):
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


def _problems(claim: Claim) -> Iterator[tuple[str, str]]:
    """What is wrong with the values, key by key; each problem says its remedy."""
    enums = {"form": FORMS, "quantity": QUANTITIES, "over": OVERS}
    optional = {"scope": SCOPES, "direction": DIRECTIONS}
    for key, allowed in enums.items() | optional.items():
        value = getattr(claim, key)
        if value not in allowed and not (value is None and key in optional):
            yield key, f"{value!r} is none of {', '.join(allowed)}"
    for key in ("id", "source", "says", "metric", "treatment"):
        if not getattr(claim, key).strip():
            yield key, "is empty; fill it"
    if claim.version < 1:
        yield "version", f"{claim.version} is below 1; versions count from 1"
    yield from _form_problems(claim)
    if claim.quantity != "value" and claim.form not in ("order", "monotone") and claim.control is None:
        yield "control", f"is missing, and quantity {claim.quantity!r} compares with one"
    if claim.of is not None and claim.quantity != "value":
        yield "of", "is meant for quantity 'value'; remove it"
    of_rounds = (claim.quantity, claim.over) == ("value", "rounds")
    of_requests = claim.over == "requests" and claim.quantity in ("value", "ratio") and claim.per is None
    can_be = (of_rounds or of_requests) and claim.of is None and claim.form != "exact"
    if claim.quantile is not None and not (0 < claim.quantile < 1 and can_be):
        where = "quantity 'value' over rounds, and with 'value' or 'ratio' over requests, without of or per"
        yield "quantile", f"lies between 0 and 1, and goes with {where}, and not with 'exact'"
    if claim.per is not None and (claim.over == "sweep" or claim.quantity not in ("ratio", "reduction")):
        yield "per", "is meant for ratios and reductions over tasks or rounds; remove it"
    if claim.also_beats and claim.quantity == "value":
        yield "also_beats", "compares gains over one control, which quantity 'value' has not; remove it"
    if (claim.scope is None) != (claim.threshold_from is None):
        yield "threshold_from", "belongs to a scope and only there: say how the threshold was derived"
    if claim.scope == "node" and "profile:node" not in claim.requires:
        yield "requires", "lacks 'profile:node', and scope 'node' is decided on no other profile; add it"
    if claim.floor_inputs and claim.floor is None:
        yield "floor", "is missing, and floor_inputs are given; name the bound"
    for need in claim.requires:
        if ":" not in need:
            yield "requires", f"{need!r} is not 'kind:value', such as 'profile:node'"


def _form_problems(claim: Claim) -> Iterator[tuple[str, str]]:
    ranged = isinstance(claim.published, tuple)
    if ranged != (claim.form == "between"):
        yield (
            "published",
            f"{claim.published!r} does not suit form {claim.form!r}: [low, high] goes with 'between'",
        )
    if claim.published is None and claim.form not in ("order", "monotone"):
        yield "published", "is missing; give the published number"
    if claim.form in ("equivalent", "no_worse_than") and (claim.margin is None or claim.margin <= 0):
        yield "margin", f"is {claim.margin!r}, and form {claim.form!r} needs a positive one"
    if claim.margin is not None and claim.form not in ("equivalent", "no_worse_than", "order", "monotone"):
        yield "margin", f"has no meaning for form {claim.form!r}; remove it"
    if (claim.form == "order") != bool(claim.among) or (claim.form == "order") != bool(claim.axes):
        yield "among", "goes with form 'order', together with axes, and only there"
    for axis in claim.axes:
        if axis.partition(":")[0] not in ("rounds", "tasks") or not axis.partition(":")[2]:
            yield "axes", f"{axis!r} is not 'rounds:METRIC' or 'tasks:METRIC'"
    if claim.form == "monotone" and not (claim.along and claim.direction and claim.over == "sweep"):
        yield "along", "form 'monotone' needs over = 'sweep', along and direction"
    has_ids = claim.over in ("tasks", "jobs", "requests")
    if claim.only is not None and claim.over == "rounds":
        yield "only", "chooses by id, or among a sweep's points, and rounds have neither; remove it"
    if claim.over == "sweep" and any("=" not in part for part in (claim.only or "").split()):
        yield "only", f"{claim.only!r} is not 'key=value', such as 'policy=lru'"
    of_variant = claim.quantity == "ratio" and ":" not in (claim.against or ":")
    compares = of_variant or (claim.quantity == "difference" and has_ids)
    allowed = claim.form == "equivalent" or (claim.form != "order" and compares)
    if claim.against is not None and not allowed:
        yield "against", "goes with 'equivalent', a difference over tasks, a variant's ratio; remove it"
