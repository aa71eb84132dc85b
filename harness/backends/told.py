"""Whether a backend's weights are random: by what its user says, its names, its files, and its server's word.

A server is known by the name it serves, and answers of random weights look like bad answers: judged as
trained ones they would be a false verdict. So everything that could tell is asked, and one word is enough.
That nothing tells is no proof that they are trained.
"""

from __future__ import annotations

import shlex
from itertools import pairwise

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
    """How it is known that the weights are random; None where nothing says so.

    Arguments: `server`, the spec's, where it is not embedded.

    Raises
    ------
    LaunchError: the server does not answer.
    """
    if spec.says_random:
        return Told("--backend or the node file says so")
    if _is_dummy(spec.options.get("args", "")):
        return Told("it is started with --load-format dummy")
    given = [spec.model, spec.gguf, spec.options.get("weights")]
    found = _first([one for one in given if one and one not in names("pocket")])
    if found is not None or server is None or server.held is not None:
        return found
    origin = Origin()
    if server.url.startswith("http") and not spec.is_embedded:
        origin = origin_of(server.url, server.model, server.engine, name=spec.role, api_key=api_key)
    if origin.load_format == DUMMY:
        return Told(f"{server.url} loaded it with --load-format dummy")
    return _first([one for one in (server.model, *origin.names) if one not in names("pocket")])


def _first(models: list[str]) -> Told | None:
    return next((told for told in map(told_of, models) if told is not None), None)


def _is_dummy(args: str) -> bool:
    words = shlex.split(args.replace("=", " ").replace("_", "-"))
    return any(word == "--load-format" and after == DUMMY for word, after in pairwise(words))
