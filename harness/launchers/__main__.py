"""What runs here: `python -m harness.launchers [HOST …]` prints it as lines for the command line."""

from __future__ import annotations

import argparse
import shlex
import sys
from urllib.parse import quote, urlsplit

from harness.launchers.detect import PORTS, Found, detect

__all__ = ["lines", "main"]

_SCHEMES = {"sglang": "sglang", "vllm": "vllm", "ollama": "ollama", "llama.cpp": "llamacpp"}


def lines(found: Found) -> list[str]:
    """One line for each model of a server, ready to be pasted; a remark where there is none."""
    who = found.engine or "a server that names no engine"
    if found.state == "loading":
        return [f"# {found.url}: {who} is still loading; ask again"]
    if found.state == "wants a key":
        return [_option(f"{_root(found)}?key_env=VARIABLE")]
    if not found.models:
        pull = "run `ollama pull NAME`" if found.engine == "ollama" else "load one"
        return [f"# {found.url}: {who} has no model; {pull}"]
    if found.engine == "llama.cpp" and len(found.models) == 1:
        return [_option(_root(found))]
    return [_option(_root(found) + _suffix(model)) for model in found.models]


def main(arguments: list[str] | None = None) -> int:
    """Print what runs; 1 when nothing does."""
    parser = argparse.ArgumentParser(prog="python -m harness.launchers", description="Find running servers.")
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="where to look (this machine)")
    servers = detect(parser.parse_args(arguments).hosts or ("127.0.0.1",))
    if not servers:
        asked = ", ".join(map(str, PORTS))
        print(f"nothing answers at the ports {asked}; start a server, or pass its URL", file=sys.stderr)
        return 1
    for server in servers:
        print(*lines(server), sep="\n")
    return 0


def _option(spec: str) -> str:
    return f"--backend {shlex.quote(f'ROLE={spec}')}"


def _suffix(model: str) -> str:
    """A path, as `transformers serve` names its models, would lose its first slash behind the address."""
    return f"?model={quote(model)}" if model.startswith("/") else f"/{quote(model, safe='/:@')}"


def _root(found: Found) -> str:
    parts = urlsplit(found.url)
    scheme = _SCHEMES.get(found.engine or "", parts.scheme)
    if parts.scheme == "https" and scheme != "https":
        scheme = f"{scheme}+https"
    return f"{scheme}://{parts.netloc}"


if __name__ == "__main__":
    sys.exit(main())
