"""`python -m reports decidable OFFERS`: which claims can be decided with what a machine offers.

Offers are a JSON object with a list `offers` of "kind:value", as `python -m harness.hardware --json` prints
it. What a run chooses by itself (its workload, budget, buffer or declared link, simulated evidence) counts
as met; a model may take any role. A claim that arithmetic refutes is decided anywhere.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reports.claims import Claim
from reports.errors import ClaimError, JournalError

__all__ = ["HELP", "add_arguments", "decidable", "run"]

HELP = "say which claims can be decided with what a machine offers"
CHOSEN = ("workload", "buffer_gb", "link_gb_s", "budget_gb", "evidence")
"""Kinds of needs that a run meets by its options."""
NOT_ROLES = ("profile", "backend", "device", "model", "weights", *CHOSEN)
RANDOM = "random:"
WIDTH, INDENT = 110, "      "


class Decidable(NamedTuple):
    """The claims of an experiment, by what becomes of them here."""

    experiment: str
    here: tuple[str, ...]
    """Ids that a run here decides."""
    on_random: tuple[str, ...]
    """Of them, those that models with random weights decide; none if it is about what answers are worth."""
    anywhere: tuple[str, ...]
    """Impossible by arithmetic, whatever the machine."""
    elsewhere: Mapping[str, str]
    """Id → what it needs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Offers, and where the claims are."""
    parser.add_argument("offers", metavar="OFFERS", help="a JSON file with a list `offers`, or - for stdin")
    parser.add_argument("--claims", type=Path, default=Path("bench/claims"), metavar="DIR")
    parser.add_argument("--ids", action="store_true", help="name the claims, too")


def run(args: argparse.Namespace) -> int:
    """Print a line per experiment, and beneath what the others need."""
    from reports.claims import load_all

    offers = _offers(args.offers)
    if not args.claims.is_dir():
        raise ClaimError(f"--claims {args.claims}: no such folder; run it in the project's folder")
    claims = load_all(args.claims)
    names = dict.fromkeys(claim.experiment for claim in claims)
    found = [decidable(name, [c for c in claims if c.experiment == name], offers) for name in names]
    for one in found:
        print(*_lines(one, ids=args.ids), sep="\n")
    here, total = (sum(map(count, found)) for count in (lambda x: len(x.here), _total))
    print(f"  in all: {here} of {total} by a run here, {sum(len(x.anywhere) for x in found)} by arithmetic")
    return 0


def decidable(experiment: str, claims: Sequence[Claim], offers: Sequence[str]) -> Decidable:
    """What becomes of an experiment's claims where nothing but these offers is known."""
    from reports.verdicts import judge

    here, on_random, anywhere, elsewhere = [], [], [], {}
    for claim in claims:
        verdict = judge(claim, [], _for(claim, offers))
        if verdict.verdict == "impossible":
            anywhere.append(claim.id)
        elif verdict.verdict == "out of scope":
            elsewhere[claim.id] = verdict.reason.removeprefix("needs ")
        else:
            here.append(claim.id)
            trained = [offer for offer in offers if RANDOM not in offer]
            if judge(claim, [], _for(claim, trained)).verdict == "out of scope":
                on_random.append(claim.id)
    return Decidable(experiment, tuple(here), tuple(on_random), tuple(anywhere), elsewhere)


def _for(claim: Claim, offers: Sequence[str]) -> list[str]:
    """The offers, with what a run would choose for this claim, and its models in every role."""
    chosen = [need for need in claim.requires if need.partition(":")[0] in CHOSEN]
    roles = {kind for need in claim.requires if (kind := need.partition(":")[0]) not in NOT_ROLES}
    models = [offer.partition(":")[2] for offer in offers if offer.startswith("model:")]
    return [*offers, *chosen, *(f"{role}:{model}" for role in roles for model in models)]


def _offers(where: str) -> list[str]:
    try:
        text = sys.stdin.read() if where == "-" else Path(where).read_text()
        found: Any = json.loads(text)
    except ValueError as exc:
        raise JournalError(f"{where}: not JSON ({exc}); give what harness.hardware --json prints") from exc
    offers = found.get("offers") if isinstance(found, dict) else None
    if not isinstance(offers, list) or not all(isinstance(one, str) and ":" in one for one in offers):
        raise JournalError(
            f"{where}: has no list `offers` of kind:value; give what harness.hardware --json prints"
        )
    return offers


def _total(one: Decidable) -> int:
    return len(one.here) + len(one.anywhere) + len(one.elsewhere)


def _lines(one: Decidable, *, ids: bool) -> list[str]:
    parts = [f"{len(one.here)} of {_total(one)} by a run here"]
    parts += [f"{len(one.on_random)} of them on random weights, if about time or memory"] * bool(
        one.on_random
    )
    parts += [f"{len(one.anywhere)} impossible by arithmetic"] * bool(one.anywhere)
    out = [f"  {one.experiment}: {', '.join(parts)}"]
    if ids:
        out += _wrapped(", ".join(one.here))
    for need, count in Counter(one.elsewhere.values()).most_common():
        out += _wrapped(f"{count} need{'s' * (count == 1)} {need}")
    return out


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=INDENT, subsequent_indent=f"{INDENT}  ", break_on_hyphens=False
    )
