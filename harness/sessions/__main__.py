"""`python -m harness.sessions serve`: serve the sessions of a model, or of several, until told to stop.

    python -m harness.sessions serve --port 5556
    python -m harness.sessions serve --model code --socket /tmp/sessions.sock --budget-gb 2
    python -m harness.sessions serve --model counting --link-bps 1000000000
    python -m harness.sessions serve --models llama-mini,mistral-mini,phi-mini --arena-mb 25 --link-mb-s 500

A line `ready ADDRESS` on stdout says that clients may come. SIGTERM and Ctrl-C let running turns end within
--grace-s, and the engine's last step within as long again; while the model loads, and at the second one, the
server ends at once. The exit status is 0 after that, 1 when the engine broke, 2 when the
server could not start. `docs/sessions-protocol.md` says how to speak with it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from harness.errors import HarnessError
from harness.hardware.budget import DeviceBudget
from harness.sessions.address import Address
from harness.sessions.arguments import names, port, positive
from harness.sessions.contract import Engine
from harness.sessions.decoding_ways import WAYS
from harness.sessions.limits import GIB, MIB, FrameLimits, Limits
from harness.sessions.ring.options import add_ring, check_ring, ring_maker
from harness.sessions.server import SessionServer

__all__ = ["main"]

COUNTING = "counting"
DEFAULT_PORT = 5556
_SWITCH_S = 5e-4
"""How long the engine's thread may keep the interpreter from the loop's; Python's default is 5 ms."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    sys.setswitchinterval(_SWITCH_S)
    try:
        return asyncio.run(_serve(options))
    except HarnessError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.sessions", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    serve = parser.add_subparsers(required=True).add_parser("serve", help="serve sessions")
    model = serve.add_argument_group("what")
    one = model.add_mutually_exclusive_group()
    one.add_argument("--model", "--model-id", default="llama-34m", metavar="M",
                     help="llama-34m (default), a pocket model, a folder, ORG/NAME, counting")  # fmt: skip
    one.add_argument("--models", type=names, metavar="A,B,…",
                     help="several, through one arena: llama-mini, mistral-mini, phi-mini, or as --model "
                          "(not counting); the first is the default of a session")  # fmt: skip
    model.add_argument("--device", default="cpu", metavar="D")
    model.add_argument("--dtype", default="float32", metavar="T", help="of the weights in memory")
    model.add_argument("--threads", type=positive(int), default=1, metavar="N", help="within one operation")
    model.add_argument("--decoding", choices=WAYS, default=WAYS[-1],
                       help="the last way in which decode steps may be run")  # fmt: skip
    model.add_argument("--allow-weights", action="store_true", help="let clients replace the weights")
    add_ring(serve.add_argument_group("with --models"))
    where = serve.add_argument_group("where").add_mutually_exclusive_group()
    where.add_argument("--port", type=port, default=DEFAULT_PORT, metavar="P", help="0: any free one")
    where.add_argument("--socket", metavar="PATH", help="a unix socket instead")
    serve.add_argument("--host", default="127.0.0.1", metavar="H", help="anyone who reaches it may connect")
    serve.add_argument("--link-bps", type=int, default=0, metavar="B", help="be as slow as such a link")
    memory = serve.add_argument_group("memory")
    which = memory.add_mutually_exclusive_group()
    which.add_argument("--budget", metavar="PATH", help="a device budget's ledger, shared with others")
    which.add_argument("--budget-gb", type=positive(float), default=4.0, metavar="GB", help="one of its own")
    memory.add_argument(
        "--policy",
        default="least-waste",
        metavar="P",
        help="who makes room when it is short: keep, drop, offload, least-waste, ttl:SECONDS",
    )
    limits = serve.add_argument_group("limits")
    limits.add_argument("--max-session-tokens", type=positive(int), default=4096, metavar="N")
    limits.add_argument("--max-sessions", type=positive(int), default=1024, metavar="N")
    limits.add_argument("--prefill-chunk", type=positive(int), default=256, metavar="N",
                        help="prompt tokens that one step computes at most")  # fmt: skip
    limits.add_argument("--max-connections", type=positive(int), default=512, metavar="N")
    limits.add_argument("--max-frame-mib", type=positive(int), default=1024, metavar="N")
    limits.add_argument("--idle-timeout-s", type=positive(float), default=600.0, metavar="S")
    limits.add_argument("--grace-s", type=positive(float), default=5.0, metavar="S")
    serve.add_argument("--verbose", action="store_true", help="a line per turn and per connection")
    return parser


async def _serve(options: argparse.Namespace) -> int:
    check_ring(options)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, number, stopping)
    address, budget = _address(options), _budget(options)
    server = SessionServer(
        _engine_maker(options, budget),
        address,
        limits=_limits(options),
        link_bps=options.link_bps,
        log=_log if options.verbose else lambda line: None,
    )
    if await _is_first(server.start(), stopping):
        if not address.is_loopback:
            _log(f"{server.address}: whoever reaches this address may use the model; there are no passwords")
        print(f"ready {server.address}", flush=True)
        await _is_first(server.ended.wait(), stopping)
        await server.stop(grace_s=options.grace_s)
    if server.broken is not None:
        print(f"error: the engine broke: {server.broken!r}", file=sys.stderr)
    status = 0 if server.broken is None else 1
    if not server.engine.has_ended:
        _leave(status, None if options.budget else budget)
    return status


async def _is_first(work: Coroutine[Any, Any, object], stopping: asyncio.Event) -> bool:
    """Whether it came to its end before the signal did; raises what it raised."""
    tasks = [asyncio.create_task(work), asyncio.create_task(stopping.wait())]
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    if tasks[0] in done:
        await tasks[0]
    return tasks[0] in done


def _leave(status: int, own_budget: DeviceBudget | None) -> None:
    """End the process though the engine's thread is inside torch, and must not see the interpreter go."""
    if own_budget is not None:
        own_budget.remove()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _on_signal(number: signal.Signals, stopping: asyncio.Event) -> None:
    stopping.set()
    # The second one finds the default: it ends us at once.
    asyncio.get_running_loop().remove_signal_handler(number)


def _address(options: argparse.Namespace) -> Address:
    if options.socket is not None:
        return Address.of_path(options.socket)
    return Address(host=options.host, port=options.port)


def _budget(options: argparse.Namespace) -> DeviceBudget:
    if options.budget is not None:
        return DeviceBudget.open(options.budget)
    return DeviceBudget.create(int(options.budget_gb * 1e9))


def _limits(options: argparse.Namespace) -> Limits:
    frame_bytes = options.max_frame_mib * MIB
    return Limits(
        frame=FrameLimits(max_frame_bytes=frame_bytes, max_buffer_bytes=frame_bytes),
        max_connections=options.max_connections,
        max_receiving_bytes=max(4 * GIB, frame_bytes),
        idle_timeout_s=options.idle_timeout_s,
    )


def _engine_maker(options: argparse.Namespace, budget: DeviceBudget) -> Callable[[], Engine]:
    if options.models is not None:
        return ring_maker(options, budget)
    if options.model == COUNTING:
        from harness.sessions.counting import CountingEngine

        return lambda: CountingEngine(budget, max_session_tokens=options.max_session_tokens)

    def make() -> Engine:
        # Importing torch takes seconds; and it belongs in the engine's thread.
        from harness.models.torch_engine import require_torch

        require_torch(options.model, options.device, needs_transformers=False)
        from harness.sessions.hosted import HostedEngine

        return HostedEngine.load(
            options.model,
            budget,
            device=options.device,
            dtype=options.dtype,
            takes_weights=options.allow_weights,
            threads=options.threads,
            max_session_tokens=options.max_session_tokens,
            max_sessions=options.max_sessions,
            decoding=options.decoding,
            policy=options.policy,
            prefill_chunk=options.prefill_chunk,
        )

    return make


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
