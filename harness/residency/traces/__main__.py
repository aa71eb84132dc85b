"""`python -m harness.residency.traces`: make a trace, or check one of your own.

    python -m harness.residency.traces published                       the seed's own: 40/40/20, seed 42
    python -m harness.residency.traces zipf --alpha 1 --requests 1000 --seed 7 --out trace.json
    python -m harness.residency.traces bursts --mean-burst 8 --models a,b,c,d
    python -m harness.residency.traces cycle --models a,b,c --requests 30
    python -m harness.residency.traces check trace.json

The exit status is 0, or 2 when something makes no sense.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError, UsageError
from harness.residency.traces.generate import MIN_REQUESTS, PUBLISHED_MIX, bursts, cycle, published, zipf
from harness.residency.traces.reading import dumps, load
from harness.residency.traces.trace import Trace

__all__ = ["main"]

MAX_REQUESTS = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.family == "check":
            trace = load(options.file)
            shares = ", ".join(f"{model} {count}" for model, count in trace.counts.most_common())
            print(
                f"{trace.name}: {len(trace.requests)} requests in {trace.requests[-1].at_s:.1f} s; {shares}"
            )
        else:
            _write(dumps(_trace(options)), options.out)
    except HarnessError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.residency.traces", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    families = parser.add_subparsers(dest="family", required=True)
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("--requests", type=int, default=30, metavar="N", help="how many (default 30)")
    made.add_argument("--out", metavar="FILE", help="where to (default: standard output)")
    named = argparse.ArgumentParser(add_help=False)
    default = ",".join(PUBLISHED_MIX)
    named.add_argument(
        "--models", default=default, metavar="A,B", help=f"most popular first (default {default})"
    )
    seeded = argparse.ArgumentParser(add_help=False)
    seeded.add_argument("--seed", type=int, default=42, metavar="N", help="default 42")
    skewed = argparse.ArgumentParser(add_help=False)
    skewed.add_argument("--alpha", type=float, default=1.0, metavar="A", help="share ∝ rank^-A (default 1)")
    families.add_parser("published", parents=[made, seeded], help="the seed's mix: 40/40/20")
    families.add_parser("zipf", parents=[made, named, seeded, skewed], help="drawn by Zipf popularity")
    burst = families.add_parser("bursts", parents=[made, named, seeded, skewed], help="the same, in bursts")
    burst.add_argument("--mean-burst", type=float, default=5.0, metavar="N", help="requests (default 5)")
    families.add_parser("cycle", parents=[made, named], help="each model in turn")
    families.add_parser("check", help="read a file").add_argument("file", help="path of a trace")
    return parser


def _trace(options: argparse.Namespace) -> Trace:
    count = options.requests
    if not MIN_REQUESTS <= count <= MAX_REQUESTS:
        raise UsageError(f"--requests {count}: give {MIN_REQUESTS} to {MAX_REQUESTS}")
    if options.family == "published":
        return published(options.seed, count)
    models = [name.strip() for name in options.models.split(",")]
    if not all(models) or len(set(models)) < len(models):
        raise UsageError(f"--models {options.models}: give different names, with commas between them")
    if options.family == "zipf":
        return zipf(models, count, alpha=options.alpha, seed=options.seed)
    if options.family == "bursts":
        return bursts(models, count, alpha=options.alpha, mean_burst=options.mean_burst, seed=options.seed)
    return cycle(models, count)


def _write(text: str, out: str | None) -> None:
    if out is None:
        print(text, end="")
        return
    try:
        with Path(out).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as exc:
        raise UsageError(f"--out {out}: exists already; remove it, or give another path") from exc
    except OSError as exc:
        raise UsageError(f"--out {out}: cannot be written ({exc.strerror}); give another path") from exc


if __name__ == "__main__":
    sys.exit(main())
