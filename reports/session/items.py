"""Claims as test items: a second collector of the experiment's test file, so that both are selected alike."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from reports import claims
from reports.claims import Claim
from reports.errors import ClaimError
from reports.words import BROKEN

if TYPE_CHECKING:
    from reports.verdicts import Verdict

__all__ = [
    "JUDGE",
    "ClaimFile",
    "ClaimItem",
    "GateFailed",
    "VerdictFailed",
    "claims_file_of",
    "experiment_of",
    "is_variant",
]

JUDGE: pytest.StashKey[Any] = pytest.StashKey()
"""`(Claim) -> Verdict`, put there by the plugin."""


class VerdictFailed(Exception):
    """The evidence for a claim is invalid, broken or missing."""


class GateFailed(Exception):
    """A claim's verdict is worse than the one in claims.lock."""


def experiment_of(item: pytest.Item) -> str:
    """The experiment that a test measures: what its module names as EXPERIMENT, or the module's own name."""
    named = getattr(getattr(item, "module", None), "EXPERIMENT", None)
    return named if isinstance(named, str) else item.path.stem.removeprefix("test_")


def claims_file_of(test_file: Path) -> Path:
    """bench/test_cascade.py → bench/claims/cascade.toml, whether or not it exists."""
    return test_file.parent / "claims" / f"{test_file.stem.removeprefix('test_')}.toml"


def is_variant(item: pytest.Item) -> bool:
    """Whether an item measures: a benchmark test in bench/."""
    return (
        not isinstance(item, ClaimItem)
        and "benchmark" in getattr(item, "fixturenames", ())
        and item.path.parent == item.config.rootpath / "bench"
    )


class ClaimFile(pytest.File):
    """The claims of one experiment."""

    claims_path: Path

    def collect(self) -> Iterable[ClaimItem]:
        """One item per claim, in the order of the file; a malformed row stops collection."""
        experiment = self.claims_path.stem
        try:
            rows = claims.load(self.claims_path)
        except ClaimError as exc:
            raise self.CollectError(str(exc)) from exc
        for claim in rows:
            item = ClaimItem.from_parent(self, name=claim.id, claim=claim, experiment=experiment)
            for mark in (experiment, *claim.marks):
                item.add_marker(mark)
            item.extra_keyword_matches.add(claim.treatment)  # so that -k VARIANT selects its claims too
            yield item


class ClaimItem(pytest.Item):
    """One claim; its outcome is its verdict."""

    fixturenames = ("benchmark",)
    """So that --benchmark-only runs it."""

    def __init__(self, *, claim: Claim, experiment: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.claim = claim
        self.experiment = experiment

    def runtest(self) -> None:
        """Judge, and pass, skip or fail by the verdict."""
        verdict: Verdict
        verdict, gate = self.config.stash[JUDGE](self.experiment, self.claim)
        self.user_properties += [("claim", verdict.id), ("verdict", verdict.word), ("reason", verdict.reason)]
        if gate:
            raise GateFailed(gate)
        if verdict.verdict == "out of scope":
            _skip(verdict.reason)
        if verdict.verdict in BROKEN:
            raise VerdictFailed(f"{verdict.verdict}: {verdict.reason}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """One paragraph, no traceback: the fault is in the evidence."""
        if isinstance(excinfo.value, (GateFailed, VerdictFailed)):
            return (
                f"{self.claim.id}: {excinfo.value}\n  says: {self.claim.says}\n  source: {self.claim.source}"
            )
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the claim stands."""
        return self.path, 0, f"claim {self.name}"


def _skip(reason: str) -> NoReturn:
    raise pytest.skip.Exception(reason, _use_item_location=True)
