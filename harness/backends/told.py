"""Whether a backend's weights are random: by what its user says, its names, its files, and its server's word.

A server is known by the name it serves, and answers of random weights look like bad answers: judged as
trained ones they would be a false verdict. So everything that could tell is asked, and one word is enough.
That nothing tells is no proof that they are trained.

What a server tells is a path of its own machine: it is looked up here where the server is here too, and the
path is whole. Else it is a name, of the hub's at most.
"""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Callable, Iterable
from itertools import pairwise
from urllib.parse import urlsplit

from harness.backends.spec import BackendSpec
from harness.launchers import Server
from harness.launchers.origin import Origin, origin_of
from harness.models import names
from harness.models.random_marks import Told, told_of

__all__ = ["random_weights"]

DUMMY = "dummy"
"""vLLM's and SGLang's load format that fills a model with random numbers."""


def random_weights(
    spec: BackendSpec, server: Server | None = None, *, api_key: str | None = None
) -> Told | None:
    """How it is known that the weights are random; None where nothing says so, or the user denies it.

    Arguments: `server`, the spec's, where it is not embedded.

    Raises
    ------
    LaunchError: the server does not answer.
    """
    if spec.says_random:
        return Told("--backend or the node file says so")
    if spec.says_trained:
        return None  # who says so is not contradicted by a name
    if _is_dummy(spec.options.get("args", "")):
        return Told("it is started with --load-format dummy")
    given = [spec.model, spec.gguf, spec.options.get("weights")]
    found = _first(filter(None, given), lambda _: spec.way != "url")
    if found is not None or server is None or server.held is not None:
        return found
    origin = Origin()
    if server.url.startswith("http") and not spec.is_embedded:
        origin = origin_of(server.url, server.model, server.engine, name=spec.role, api_key=api_key)
    if origin.load_format == DUMMY:
        return Told(f"{server.url} loaded it with --load-format dummy")
    is_ours = spec.way != "container" and _is_here(server.url)
    return _first((server.model, *origin.names), lambda name: is_ours and os.path.isabs(name))


def _first(models: Iterable[str], is_path: Callable[[str], bool]) -> Told | None:
    pocket = names("pocket")
    asked = (told_of(one, is_path=is_path(one)) for one in models if one not in pocket)
    return next((told for told in asked if told is not None), None)


def _is_here(url: str) -> bool:
    """Whether a server's address is one of this machine's: nobody can listen at another's."""
    try:
        host = urlsplit(url).hostname
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as one:
            one.bind(address)
    except (OSError, ValueError):
        return False
    return True


def _is_dummy(args: str) -> bool:
    words = shlex.split(args.replace("=", " ").replace("_", "-"))
    return any(word == "--load-format" and after == DUMMY for word, after in pairwise(words))
