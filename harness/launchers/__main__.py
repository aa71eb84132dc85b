"""What runs here: `python -m harness.launchers [HOST …]` prints it as lines for the command line."""

from __future__ import annotations

import argparse
import shlex
import socket
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
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="host, HOST:PORT or URL (this machine)")
    hosts = parser.parse_args(arguments).hosts or ["127.0.0.1"]
    for host in hosts:
        if (why := _unresolved(host)) is not None:
            print(f"{host}: {why}; give a host, HOST:PORT or a URL", file=sys.stderr)
            return 2
    servers = detect(hosts)
    if not servers:
        ports = ", ".join(map(str, PORTS))
        asked = f"{', '.join(hosts)} (where no port is given: {ports})"
        print(f"nothing answers at {asked}; start a server, or pass its URL", file=sys.stderr)
        return 1
    for server in servers:
        print(*lines(server), sep="\n")
    return 0


def _unresolved(host: str) -> str | None:
    """Why the host's name leads nowhere; `None` when it leads somewhere."""
    try:
        name = urlsplit(host if "://" in host else f"http://{host}").hostname
        socket.getaddrinfo(name or "", None)
    except ValueError as exc:
        return str(exc)
    except socket.gaierror as exc:
        return str(exc.strerror)
    return None


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
