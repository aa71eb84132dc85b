"""`python -m harness.load`: offer load to a server and print what it delivered.

    python -m harness.load --url http://127.0.0.1:8000 --rate 20 --duration 30
    python -m harness.load --url http://127.0.0.1:8000 --concurrency 8 --requests 500
    python -m harness.load --backend pocket:nano --rate 5 --duration 10 --slo-ttft-ms 200
    python -m harness.load --url http://gpu1:30000 --arrivals trace.csv --workers 2 --log requests.jsonl

The exit status is 0 when the measurement is valid, 1 when the client was what was slow or every request
failed, 2 when the load could not be offered, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness.backends.base import Backend
from harness.backends.connect import connect, launcher_for
from harness.backends.spec import BackendSpec, parse_backend
from harness.errors import HarnessError, UsageError
from harness.launchers import Server
from harness.load.arrivals import constant, gamma, poisson
from harness.load.asking import Asking, MadeUp, read_prompts, words_for
from harness.load.descriptors import raise_descriptor_limit
from harness.load.log import RequestLog
from harness.load.metrics import SLO
from harness.load.replay import Trace, read_trace
from harness.load.report import LoadReport, report
from harness.load.scenario import ClosedLoop, Driven, OpenLoop, Scenario, drive
from harness.load.table import text_of
from harness.load.workers import Target, drive_with

__all__ = ["main"]

_ROLE = "load"
T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    options.seed = random.SystemRandom().randrange(10**9) if options.seed is None else options.seed
    raise_descriptor_limit()
    try:
        found = _measure(options)
    except HarnessError as exc:
        print(f"error: {_as_given(options, str(exc))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing is reported", file=sys.stderr)
        return 130
    print(json.dumps(found.to_json(), indent=1, allow_nan=False) if options.json else text_of(found))
    return 0 if found.is_valid and found.num_failed < found.num_counted else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.load", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    target = parser.add_argument_group("whom to ask")
    which = target.add_mutually_exclusive_group(required=True)
    which.add_argument("--url", metavar="URL", help="a running server")
    which.add_argument("--backend", metavar="SPEC", help="any backend, as pytest's --backend takes it")
    target.add_argument("--model", metavar="M", help="its model, where it serves several")
    when = parser.add_argument_group("when")
    how = when.add_mutually_exclusive_group(required=True)
    how.add_argument("--rate", type=_positive, metavar="R", help="open loop: requests per second")
    how.add_argument("--concurrency", type=_count, metavar="N", help="closed loop: users")
    how.add_argument("--arrivals", metavar="FILE", help="open loop: recorded arrivals, .csv or .json")
    when.add_argument(
        "--burstiness",
        type=_burstiness,
        metavar="B",
        help="gamma shape of the gaps at --rate: 1 is Poisson (default), below is burstier, inf is even",
    )
    when.add_argument("--requests", type=_count, metavar="N", help="how many")
    when.add_argument("--duration", type=_positive, metavar="S", help="seconds of arrivals")
    when.add_argument("--think-s", type=_not_negative, metavar="S", help="pause of a user")
    when.add_argument("--speed", type=_positive, metavar="F", help="replay F times as fast")
    when.add_argument("--warmup-s", type=_not_negative, default=0.0, metavar="S", help="served, not counted")
    when.add_argument("--seed", type=int, metavar="N", help="of arrivals and prompts (default: drawn anew)")
    what = parser.add_argument_group("what")
    what.add_argument("--prompt-tokens", type=_count, metavar="N", help="made-up prompts (default 64)")
    what.add_argument("--output-tokens", type=_count, default=64, metavar="N", help="at most (default 64)")
    what.add_argument("--prompts", metavar="FILE", help="a prompt per line, or .jsonl")
    what.add_argument("--ignore-eos", action="store_true", help="exactly --output-tokens, where obeyed")
    slo = parser.add_argument_group("what is good")
    for name in ("ttft", "tpot", "e2e"):
        slo.add_argument(f"--slo-{name}-ms", type=_positive, metavar="MS")
    out = parser.add_argument_group("how, and where to")
    out.add_argument("--workers", type=_count, default=1, metavar="N", help="client processes (default 1)")
    out.add_argument("--log", metavar="FILE", help="write an entry per request, one JSON object a line")
    out.add_argument("--json", action="store_true", help="print JSON in place of the table")
    return parser


def _measure(options: argparse.Namespace) -> LoadReport:
    _check_used(options)
    spec = _spec(options)
    trace = read_trace(options.arrivals).scaled(options.speed or 1.0) if options.arrivals else None
    loop = _loop(options, trace)
    if options.log:
        _make_log(Path(options.log))
    with launcher_for(spec).launch() as server:
        asking = asyncio.run(_asking(options, spec, server, trace))
        scenario = Scenario(loop=loop, asking=asking, log=options.log)
        driven = _drive(options.workers, scenario, spec, server)
    slo = SLO(*(_seconds(ms) for ms in (options.slo_ttft_ms, options.slo_tpot_ms, options.slo_e2e_ms)))
    found = report(loop, driven, warmup_s=options.warmup_s, slo=slo, seed=options.seed)
    return dataclasses.replace(found, errors={_as_given(options, e): n for e, n in found.errors.items()})


def _check_used(options: argparse.Namespace) -> None:
    """An option without effect is a mistake: the load would not be the one asked for."""
    for name, of in (("speed", "arrivals"), ("burstiness", "rate"), ("think_s", "concurrency")):
        given = getattr(options, name)
        if given is not None and getattr(options, of) is None:
            said = f"--{name.replace('_', '-')} {given:g}"
            raise UsageError(f"{said}: has no effect without --{of}; leave it out, or use --{of}")


def _role(text: str) -> str | None:
    """The role that the user gave with the backend."""
    role, equals, _ = text.partition("=")
    return role if equals and role.replace("-", "_").isidentifier() else None


def _as_given(options: argparse.Namespace, error: str) -> str:
    """An error in the words of this command, whose one server needs no role."""
    text = options.url or options.backend
    role = _role(text)
    option = "--backend " if options.url is None else "--url "
    given = option if role is None else f"{option}{role}="
    return error.replace(f"--backend {role or _ROLE}=", given)


def _spec(options: argparse.Namespace) -> BackendSpec:
    text = options.url if options.backend is None else options.backend
    spec = parse_backend(text if _role(text) else f"{_ROLE}={text}")
    return dataclasses.replace(spec, model=options.model) if options.model else spec


def _loop(options: argparse.Namespace, trace: Trace | None) -> OpenLoop | ClosedLoop:
    number, duration_s = options.requests, options.duration
    if trace is not None:
        due_s = trace.due_s[:number]
        due_s = due_s if duration_s is None else tuple(t for t in due_s if t <= duration_s)
        if due_s[-1] <= 0:
            raise UsageError(f"arrivals {options.arrivals}: all at one instant; use --concurrency")
        _check_warmup(options.warmup_s, due_s[-1])
        return OpenLoop(due_s=due_s, window_s=due_s[-1], pattern=f"arrivals of {options.arrivals}")
    if number is None and duration_s is None:
        raise UsageError("load: how much? give --requests N or --duration S")
    if options.concurrency is not None:
        if duration_s is not None:
            _check_warmup(options.warmup_s, duration_s)
        return ClosedLoop(
            concurrency=options.concurrency, num_requests=number, duration_s=duration_s,
            think_s=options.think_s or 0.0,
        )  # fmt: skip
    if number is not None and duration_s is not None:
        raise UsageError("load: at a --rate, --requests and --duration say the same; give one of them")
    number = max(1, round(options.rate * duration_s)) if number is None else number
    _check_warmup(options.warmup_s, number / options.rate)
    return _pattern(options, number)


def _pattern(options: argparse.Namespace, number: int) -> OpenLoop:
    rate = options.rate
    shape = 1.0 if options.burstiness is None else options.burstiness
    if shape == 1:
        due_s, name = poisson(rate, number, seed=options.seed), "Poisson arrivals"
    elif shape == float("inf"):
        due_s, name = constant(rate, number), "even arrivals"
    else:
        due_s, name = gamma(rate, number, burstiness=shape, seed=options.seed), f"gamma {shape:g} arrivals"
    return OpenLoop(due_s=due_s, window_s=number / rate, pattern=name)


def _check_warmup(warmup_s: float, arrivals_s: float) -> None:
    """Say before the load what `report` would say after it."""
    if warmup_s >= arrivals_s:
        raise UsageError(f"--warmup-s {warmup_s:g}: the arrivals last {arrivals_s:.4g} s; offer more")


def _make_log(path: Path) -> None:
    if path.is_file() and path.stat().st_size:
        raise UsageError(f"--log {path}: exists already; remove it, or give another path")
    RequestLog(path).close()


async def _asking(
    options: argparse.Namespace, spec: BackendSpec, server: Server, trace: Trace | None
) -> Asking:
    known: dict[str, Any] = {"ignore_eos": True} if options.ignore_eos else {}
    if options.prompts:
        if options.prompt_tokens or (trace and (trace.prompt_tokens or trace.output_tokens)):
            raise UsageError("--prompts: lengths come from the prompts; leave out other lengths")
        return read_prompts(options.prompts, output_tokens=options.output_tokens, options=known)
    prompt_tokens: Sequence[int] = (options.prompt_tokens or 64,)
    output_tokens: Sequence[int] = (options.output_tokens,)
    if trace is not None:
        prompt_tokens, output_tokens = (
            trace.prompt_tokens or prompt_tokens,
            trace.output_tokens or output_tokens,
        )
    async with connect(spec, server) as connection:
        words = await words_for(connection.backend, prompt_tokens)
    return MadeUp(num_words=words, output_tokens=output_tokens, seed=options.seed, options=known)


def _drive(num_workers: int, scenario: Scenario, spec: BackendSpec, server: Server) -> Driven:
    if num_workers > 1:
        return drive_with(num_workers, scenario, Target.of(spec, server))

    async def alone() -> Driven:
        async with connect(spec, server) as connection:
            backend: Backend = connection.backend
            return await drive(scenario, backend)

    return asyncio.run(alone())


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1e3


def _checked(kind: Callable[[str], T], is_good: Callable[[T], bool], what: str) -> Callable[[str], T]:
    def convert(text: str) -> T:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not is_good(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return convert


_positive = _checked(float, lambda v: 0 < v < float("inf"), "a positive number")
_not_negative = _checked(float, lambda v: 0 <= v < float("inf"), "a number of at least 0")
_burstiness = _checked(float, lambda v: v > 0, "a positive shape")
_count = _checked(int, lambda v: v >= 1, "a whole number of at least 1")


if __name__ == "__main__":
    sys.exit(main())
