"""`python -m harness.residency`: what every policy moves for a trace, and how long it blocks.

    python -m harness.residency                              Zipf 1, 100 seeds, 25 GB, 25 GB/s, warmed up
    python -m harness.residency --buffer-gb 20,25,32,40 --mix published --warm cold
    python -m harness.residency --models 20 --buffer-gb 70 --requests 300 --seeds 10
    python -m harness.residency --workload trace.json --arms home-slot,chunk-slots,belady --json

The popularity that is declared to every arm is the mix's; of a --workload it is the trace's own counts, which
is hindsight: home-slot-blind is the arm that does without. Simulated from published constants: hits and bytes
are exact, seconds are as good as the constants (harness/residency/models.toml). The exit status is 0, or 2
when something makes no sense.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence

from harness.errors import HarnessError, UsageError
from harness.residency.arms import ARMS, CONTROL, WARM, arm
from harness.residency.catalogue import SimModel, many
from harness.residency.simulator import Link
from harness.residency.study import GB, Scenario, Summary, bound_gb, replay, summary
from harness.residency.traces import PUBLISHED_MIX, Trace, categorical, load, zipf_shares

__all__ = ["main"]

HEAD = (
    f"{'arm':24} {'hits':>5} {'moved':>8} {'blocking':>8} {'out':>6} "
    f"{'switch P50':>10} {'P99':>7} {'TTFT x':>7} {'P99 x':>6}"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        names = options.arms.split(",") if options.arms else list(ARMS)
        arms = [arm(name) for name in dict.fromkeys([CONTROL, *names])]
        rows = []
        for buffer_gb in _numbers("--buffer-gb", options.buffer_gb):
            for link_gb_s in _numbers("--link-gb-s", options.link_gb_s):
                scenario = _scenario(options, buffer_gb, link_gb_s)
                found = [summary(replay(one, scenario)) for one in arms]
                rows.append((buffer_gb, link_gb_s, found, bound_gb(scenario)))
    except HarnessError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    print(_json(rows) if options.json else "\n\n".join(_table(*row) for row in rows))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.residency", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--buffer-gb", default="25", metavar="GB,GB", help="arena sizes (default 25)")
    parser.add_argument(
        "--link-gb-s", default="25", metavar="R,R", help="GB/s from host to device (default 25)"
    )
    parser.add_argument(
        "--models", type=int, default=3, metavar="N", help="the published three in turn (default 3)"
    )
    parser.add_argument(
        "--mix", choices=("zipf", "published"), default="zipf", help="popularity (default zipf)"
    )
    parser.add_argument("--alpha", type=float, default=1.0, metavar="A", help="of Zipf (default 1)")
    parser.add_argument(
        "--seeds", type=int, default=100, metavar="N", help="traces, seeds 0 to N-1 (default 100)"
    )
    parser.add_argument("--requests", type=int, default=30, metavar="N", help="per trace (default 30)")
    parser.add_argument("--workload", metavar="FILE", help="one trace of your own, of the published models")
    parser.add_argument(
        "--warm", choices=WARM, default="each", help="before the first request (default each)"
    )
    parser.add_argument("--queued", action="store_true", help="arrive by the trace's clock, and queue")
    parser.add_argument("--max-wait-s", type=float, metavar="S", help="with --queued: collate for so long")
    parser.add_argument(
        "--min-residency-s", type=float, metavar="S", help="with --queued: a model stays so long"
    )
    parser.add_argument("--arms", metavar="A,B", help=f"of {', '.join(ARMS)}")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    return parser


def _scenario(options: argparse.Namespace, buffer_gb: float, link_gb_s: float) -> Scenario:
    if not options.queued and (options.max_wait_s is not None or options.min_residency_s is not None):
        raise UsageError("--max-wait-s, --min-residency-s: have no effect without --queued; add it")
    models = many(options.models)
    traces, popularity = _traces(options, models)
    return Scenario(
        models=models,
        traces=traces,
        capacity_bytes=round(buffer_gb * GB),
        link=Link(bytes_per_s=link_gb_s * GB),
        popularity=popularity,
        warm=options.warm,
        is_queued=options.queued,
        max_wait_s=options.max_wait_s or 0.0,
        min_residency_s=options.min_residency_s or 0.0,
    )


def _traces(
    options: argparse.Namespace, models: Mapping[str, SimModel]
) -> tuple[list[Trace], dict[str, float]]:
    names = list(models)
    if options.workload:
        trace = load(options.workload, names)
        return [trace], {name: trace.counts[name] + 1.0 for name in names}
    if options.seeds < 1:
        raise UsageError(f"--seeds {options.seeds}: give at least 1")
    if options.mix == "published" and names != list(PUBLISHED_MIX):
        raise UsageError(f"--mix published: is of three models, not {len(names)}; leave out --models")
    published = options.mix == "published"
    shares = list(PUBLISHED_MIX.values()) if published else zipf_shares(len(names), options.alpha)
    traces = [categorical(names, shares, options.requests, seed=seed) for seed in range(options.seeds)]
    return traces, dict(zip(names, shares, strict=True))


def _numbers(option: str, text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = [0.0]
    if not all(0 < number < 1e6 for number in numbers):
        raise UsageError(f"{option} {text}: give positive numbers with commas between them")
    return numbers


def _table(buffer_gb: float, link_gb_s: float, found: list[Summary], least_gb: float) -> str:
    control = found[0]
    lines = [f"{buffer_gb:g} GB, {link_gb_s:g} GB/s; GB per trace, seconds, x against {CONTROL}", HEAD]
    for one in found:
        faster = control.ttft_mean_s / one.ttft_mean_s, control.ttft_p99_s / one.ttft_p99_s
        lines.append(
            f"{one.arm:24} {one.hit_share:5.0%} {one.moved_gb:8.1f} {one.blocking_gb:8.1f} {one.out_gb:6.1f} "
            f"{one.switch_p50_s:10.3f} {one.switch_p99_s:7.3f} {faster[0]:7.1f} {faster[1]:6.1f}"
        )
    return "\n".join([*lines, f"{'any policy (bound)':24} {'':5} {least_gb:8.1f}"])


def _json(rows: list[tuple[float, float, list[Summary], float]]) -> str:
    found = [
        {
            "buffer_gb": buffer_gb,
            "link_gb_s": link_gb_s,
            "bound_gb": least,
            "arms": [s._asdict() for s in arms],
        }
        for buffer_gb, link_gb_s, arms, least in rows
    ]
    return json.dumps(found, indent=1, allow_nan=False)


if __name__ == "__main__":
    sys.exit(main())
