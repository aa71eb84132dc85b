"""What is wrong with a row of claims whose keys and kinds are right: values that do not go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.claims import Claim

__all__ = ["FORMS", "OVERS", "QUANTITIES", "problems"]

FORMS = ("at_least", "at_most", "between", "equivalent", "no_worse_than", "monotone", "order", "exact")
QUANTITIES = ("ratio", "reduction", "difference", "value")
OVERS = ("rounds", "tasks", "jobs", "requests", "sweep")
SCOPES = ("pocket", "node")
DIRECTIONS = ("increasing", "decreasing")


def problems(claim: Claim) -> Iterator[tuple[str, str]]:
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
