"""What becomes of the keys and values of sessions that wait, when the device budget is short.

retention(name)           a policy by name: keep, drop, offload, least-waste, ttl or ttl:SECONDS
Retention                 what a policy is: from a candidate and the prices to an eviction
Candidate, Prices         what a policy is told
Eviction, Action          what it says
"""

from __future__ import annotations

from harness.errors import UsageError
from harness.sessions.core.retention.base import Action, Candidate, Eviction, Prices, Retention
from harness.sessions.core.retention.drop import Drop
from harness.sessions.core.retention.keep import Keep
from harness.sessions.core.retention.least_waste import LeastWaste
from harness.sessions.core.retention.offload import Offload
from harness.sessions.core.retention.ttl import Ttl

__all__ = ["Action", "Candidate", "Eviction", "Prices", "Retention", "retention", "retention_names"]

_POLICIES: dict[str, type[Retention]] = {
    policy.name: policy for policy in (Keep, Drop, Offload, LeastWaste, Ttl)
}


def retention_names() -> tuple[str, ...]:
    """Names of the policies, the simplest first."""
    return tuple(_POLICIES)


def retention(name: str) -> Retention:
    """Return the policy of that name; `ttl:2.5` pins for 2.5 s. Raises UsageError for another name."""
    kind, colon, argument = name.partition(":")
    if colon and kind == Ttl.name:
        return Ttl(_seconds(name, argument))
    if name not in _POLICIES:
        raise UsageError(f"retention {name!r} is unknown; choose one of {', '.join(_POLICIES)}")
    return _POLICIES[name]()


def _seconds(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise UsageError(f"retention {name!r}: {text!r} is no time in seconds; give ttl:2.5") from exc
