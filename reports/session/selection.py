"""Which items run."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from reports import claims
from reports.session.items import ClaimItem, claims_file_of, experiment_of

__all__ = [
    "deselect",
    "every_claim",
    "is_part",
    "needs_naming",
    "not_needed_by",
    "refuse_workers",
    "reported",
]

RUN_WHEN_NAMED = ("overhead", "gpu", "nightly", "containers")


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


def every_claim(root: Path, collected: Sequence[pytest.Item]) -> set[str] | None:
    """The ids of the claims of every experiment, or `None` where a file was left out."""
    found = [item for item in collected if isinstance(item, ClaimItem)]
    paths = (claims_file_of(test) for test in (root / "bench").glob("test_*.py"))
    files = {path.stem for path in paths if path.is_file()}
    return {item.claim.id for item in found} if {item.experiment for item in found} >= files else None


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


def _variant_of(item: pytest.Item) -> tuple[str, Any]:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return experiment_of(item), params.get("variant")


def _names(config: pytest.Config, arg: str, item: pytest.Item) -> bool:
    """Whether a node id on the command line names the item, its function or its class."""
    path, _, wanted = arg.partition("::")
    name = item.nodeid.partition("::")[2]
    is_here = (config.invocation_params.dir / path).resolve() == item.path
    return is_here and (wanted in (name, name.split("[")[0]) or name.startswith(f"{wanted}::"))
