"""The embedded engine as a program: a llama.cpp server from the wheel, where llama-server is not on PATH.

    python -m harness.launchers.llamacpp_server --model FILE.gguf --port 8080

It takes those of llama-server's options that this project uses, so that one recipe starts either.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from harness.errors import HarnessError
from harness.launchers.embedded import EmbeddedLauncher

__all__ = ["main"]

_ENDS = (signal.SIGINT, signal.SIGTERM)


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end by SIGTERM or SIGINT; return the exit status."""
    given = _parser().parse_args(arguments)
    # The engine's threads inherit the mask, so that only this thread ever takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    try:
        server = EmbeddedLauncher(
            gguf=given.model,
            model=given.alias or given.model.stem,
            n_ctx=given.ctx_size // max(1, given.parallel),
            n_parallel=given.parallel,
            threads=given.threads,
            cache_type=given.cache_type,
            flash_attention=not given.no_flash_attention,
            host=given.host,
            port=given.port,
        ).launch()
    except (HarnessError, ValueError) as exc:
        print(exc, file=sys.stderr)
        return 1
    with server:
        print(f"{server.model} is served at {server.url}", file=sys.stderr, flush=True)
        signal.sigwait(_ENDS)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llamacpp_server", description="llama.cpp from the wheel.")
    parser.add_argument("-m", "--model", type=Path, required=True, help="a GGUF file")
    parser.add_argument("-a", "--alias", help="the name to serve it under; its stem if not given")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("-c", "--ctx-size", type=int, default=1024, help="tokens of context, over all slots")
    parser.add_argument("-np", "--parallel", type=int, default=1, help="slots")
    parser.add_argument("-t", "--threads", type=int, default=1)
    parser.add_argument("--cache-type", default="f16", help="of keys and values: f16, f32")
    parser.add_argument("--no-flash-attention", action="store_true", help="attend in 32 bits")
    for option in ("--metrics", "--slots"):
        parser.add_argument(option, action="store_true", help="always on")
    return parser


if __name__ == "__main__":
    sys.exit(main())
