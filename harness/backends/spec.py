"""What `--backend ROLE=SPEC` means: text in, plain data out, nothing started.

A server that runs already; the model may be left out where it serves only one:

    large=http://gpu1:30000                        asked who it is, and spoken to accordingly
    large=http://gpu1:30000/Qwen/Qwen2.5-7B        ... this model of it
    large=sglang://gpu1:30000/Qwen/Qwen2.5-7B      SGLang (vllm://, llamacpp:// likewise), and an error if not
    small=ollama://127.0.0.1:11434/qwen2.5:0.5b    Ollama's own API; ollama:///MODEL is the one at OLLAMA_HOST
    large=transformers-serve://gpu1:8000/org/model `transformers serve`, which does not say who it is
    large=openai+http://gpu1:30000                 the OpenAI API and nothing beyond it
    large=sglang+https://host/api?key_env=KEY      over TLS, under a path, with a key
    large=http://gpu1:30000?weights=random         what it serves is not trained: no quality is measured
    large=http://gpu1:30000?weights=trained        it is, whatever its name or its server says

A server that the run starts, and stops when it ends:

    large=process:vllm?model=Qwen/Qwen2.5-7B&python=/envs/vllm/bin/python
    large=container:sglang?model=Qwen/Qwen2.5-7B&gpus=all
    small=container:my/image:tag?port=8080&speaks=llamacpp

An engine inside this process:

    small=pocket:nano@q8_0?n_parallel=4            a pocket model on llama.cpp, quantized, with four slots
    small=gguf:/models/some.gguf                   any GGUF file, likewise
    small=transformers:nano?dtype=bfloat16         PyTorch: a pocket model, a folder or a hub id
    large=simulated:mistral-7b?device=h100         published constants; its evidence is labelled `simulated`
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from harness.errors import UsageError
from harness.launchers.detect import ollama_url

__all__ = ["AUTO", "RANDOM_WORD", "SPEAKS", "TRAINED_WORD", "BackendSpec", "parse_backend"]

AUTO = "auto"
"""The protocol of a server that is asked who it is."""
RANDOM_WORD, TRAINED_WORD = "random", "trained"
"""Values of `weights` by which a user says what they are; a folder of such a name: ./random."""
SPEAKS: Mapping[str, str] = {
    "sglang": "sglang", "vllm": "vllm", "ollama": "ollama", "llamacpp": "llamacpp",
    "transformers": "transformers-serve",
}  # fmt: skip
"""Engine that can be started → protocol that its client speaks."""

_FORMS = (
    "http://HOST:PORT[/MODEL], sglang://, vllm://, llamacpp:// or ollama://HOST:PORT[/MODEL], "
    "process:ENGINE?model=…, container:ENGINE?model=…, pocket:NAME[@QUANT], gguf:FILE, transformers:MODEL "
    "or simulated:NAME"
)
_DEFAULT_QUANT = "f16"
_API_PATHS = ("chat/completions", "completions", "models", "responses")
_URL_SLOTS = 64
_PORTS = {"sglang": 30000, "vllm": 8000, "ollama": 11434, "llamacpp": 8080, "transformers-serve": 8000}
_ENGINE_NAMES = {"llamacpp": "llama.cpp", "transformers-serve": "transformers serve", AUTO: "openai"}

_Options = Mapping[str, Callable[[str], Any]]


def _checked(kind: Callable[[str], Any], is_good: Callable[[Any], bool], what: str) -> Callable[[str], Any]:
    """A reader of an option's value, called by what it reads."""

    def read(text: str) -> Any:
        value = kind(text)
        if not is_good(value):
            raise ValueError(text)
        return value

    read.__name__ = what
    return read


_yes = _checked({"0": False, "1": True}.get, lambda value: value is not None, "0 or 1")
_text = _checked(str, bool, "text")
_count = _checked(int, lambda value: value >= 1, "whole number of at least 1")
_port = _checked(int, lambda value: 0 < value < 65536, "port, 1 to 65535")
_seconds = _checked(float, lambda value: 0 < value < math.inf, "number of seconds above 0")
_share = _checked(float, lambda value: 0 <= value < math.inf, "number of at least 0")
_said = _checked(str, (RANDOM_WORD, TRAINED_WORD).__contains__, f"plain {RANDOM_WORD!r} or {TRAINED_WORD!r}")
_CLIENT: _Options = {"timeout_s": _seconds, "slowdown": _share}
_REAL: _Options = {**_CLIENT, "weights": _said}
_SERVER: _Options = {**_REAL, "deadline_s": _seconds, "slots": _count, "model": _text}
_OF_OLLAMA: _Options = {"keep_alive": _text, "num_ctx": _count}
_OPTIONS: Mapping[str, _Options] = {
    "url": {**_SERVER, "key_env": _text},
    "embedded": {**_REAL, "n_ctx": _count, "n_parallel": _count, "threads": _count},
    "process": {**_SERVER, "args": _text, "python": _text, "port": _port, "device": _text},
    "container": {
        **_SERVER, "args": _text, "port": _port, "gpus": _text, "shm_size": _text, "weights": _text,
        "image": _text, "pull": _yes, "runtime": _text, "speaks": _text,
    },
    "transformers": {**_REAL, "deadline_s": _seconds, "device": _text, "dtype": _text, "threads": _count},
    "simulated": {**_CLIENT, "device": _text, "slots": _count, "output": _text},
}  # fmt: skip
"""Way → option → type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSpec:
    """A backend as named on the command line or in a plan; plain data, nothing started."""

    role: str
    """What the run calls it ("small", "large")."""
    kind: str
    """The protocol spoken: `openai`, `llamacpp`, `sglang`, `vllm`, `ollama`, `transformers-serve`,
    `transformers`, `simulated`, or `auto` for a server that is asked who it is."""
    way: str = "url"
    """How its server comes to be: `url`, `embedded`, `process`, `container`, `transformers`, `simulated`."""
    model: str | None = None
    """The model's name; `None` asks the server."""
    url: str | None = None
    """The root of a running server; `None` for any other."""
    gguf: str | None = None
    """The file to embed; `None` with a model means a pocket model."""
    quant: str | None = None
    starts: str | None = None
    """The engine, or the image, that a process or a container runs."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def is_embedded(self) -> bool:
        """Whether it is llama.cpp inside this process."""
        return self.way == "embedded"

    @property
    def is_quick(self) -> bool:
        """Whether it starts in a fraction of a second, and so is relaunched for each round and replicated."""
        return self.way in ("embedded", "simulated")

    @property
    def is_simulated(self) -> bool:
        """Whether nothing is computed: what it shows is no measurement."""
        return self.way == "simulated"

    @property
    def says_random(self) -> bool:
        """Whether its user says that its weights are random."""
        return self.options.get("weights") == RANDOM_WORD

    @property
    def says_trained(self) -> bool:
        """Whether its user says that its weights are trained."""
        return self.options.get("weights") == TRAINED_WORD

    @property
    def slots(self) -> int:
        """Requests outstanding at once: what was asked for, else one inside this process, many elsewhere."""
        if self.way in ("embedded", "transformers"):
            return int(self.options.get("n_parallel", 1))
        # A llama.cpp of ours is started with one slot: more would wait inside it, and seem to be its prefill.
        is_ours = self.way in ("process", "container") and self.kind == "llamacpp"
        return int(self.options.get("slots", 1 if is_ours else _URL_SLOTS))

    @property
    def engine(self) -> str:
        """The engine as its specification names it; a server at a URL may call itself otherwise."""
        return _ENGINE_NAMES.get(self.kind, self.kind)

    @property
    def label(self) -> str:
        """What tables call it: engine, model, quantization or address."""
        how = self.way if self.way in ("process", "container") else self.quant
        return " ".join(part for part in (self.engine, self.model, how, self.url) if part)


def parse_backend(text: str) -> BackendSpec:
    """Read `ROLE=SPEC`.

    Raises
    ------
    UsageError: it has not that form, or names an unknown scheme or option.
    """
    role, equals, spec = text.partition("=")
    if not equals or not role.replace("-", "_").isidentifier() or not spec:
        raise UsageError(f"--backend {text}: not of the form ROLE=SPEC, with SPEC {_FORMS}")
    scheme, _, rest = spec.partition(":")
    kind, _, transport = scheme.rpartition("+")
    if transport in ("http", "https") and kind in ("", "openai", *_PORTS):
        return _parse_url(text, role, f"{transport}:{rest}", kind or AUTO)
    if scheme in _PORTS and rest.startswith("//"):
        return _parse_url(text, role, _with_default_host(scheme, rest), scheme)
    if scheme in _WAYS:
        what, _, query = rest.partition("?")
        if not what:
            raise UsageError(f"--backend {text}: nothing after {scheme}:; use {_FORMS}")
        return _WAYS[scheme](text, role, what, query)
    raise UsageError(f"--backend {text}: unknown scheme {scheme!r}; use {_FORMS}")


def _parse_url(text: str, role: str, url: str, kind: str) -> BackendSpec:
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise UsageError(f"--backend {text}: {url} is no URL; use {_FORMS}")
    extra = _OF_OLLAMA if kind == "ollama" else {}
    options = _options(text, parts.query, {**_OPTIONS["url"], **extra})
    if "@" in parts.netloc:
        bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        raise UsageError(f"--backend {role}={bare}…: a key does not belong into a URL; use ?key_env=VARIABLE")
    # A copied URL often holds the API's prefix: before it stands the root, behind it the model.
    root, prefix, rest = f"{parts.path}/".partition("/v1/")
    path = unquote(rest if prefix else root)
    named = path.strip("/")
    model = options.pop("model", None) or (None if prefix and named in _API_PATHS else named) or None
    root = f"{parts.scheme}://{parts.netloc}{root if prefix else ''}"
    return BackendSpec(role=role, kind=kind, model=model, url=root.rstrip("/"), options=options)


def _with_default_host(kind: str, rest: str) -> str:
    """A URL of `//HOST/MODEL`, with the engine's usual port, and Ollama's own variable for no host."""
    host, slash, path = rest.removeprefix("//").partition("/")
    host, question, query = host.partition("?")
    bare = host.rpartition("]")[2]
    port = "" if ":" in bare or not host else f":{_PORTS[kind]}"
    root = f"http://{host}{port}"
    if not host and kind == "ollama":
        root = ollama_url(os.environ.get("OLLAMA_HOST", "")) or f"http://127.0.0.1:{_PORTS[kind]}"
    return f"{root}{question}{query}{slash}{path}"


def _parse_pocket(text: str, role: str, what: str, query: str) -> BackendSpec:
    model, _, quant = what.partition("@")
    return BackendSpec(
        role=role, kind="llamacpp", way="embedded", model=model, quant=quant or _DEFAULT_QUANT,
        options=_options(text, query, _OPTIONS["embedded"]),
    )  # fmt: skip


def _parse_gguf(text: str, role: str, what: str, query: str) -> BackendSpec:
    options = _options(text, query, _OPTIONS["embedded"])
    return BackendSpec(
        role=role, kind="llamacpp", way="embedded", model=Path(what).stem, gguf=what, options=options
    )


def _parse_transformers(text: str, role: str, what: str, query: str) -> BackendSpec:
    options = _options(text, query, _OPTIONS["transformers"])
    return BackendSpec(role=role, kind="transformers", way="transformers", model=what, options=options)


def _parse_simulated(text: str, role: str, what: str, query: str) -> BackendSpec:
    options = _options(text, query, _OPTIONS["simulated"])
    return BackendSpec(role=role, kind="simulated", way="simulated", model=what, options=options)


def _parse_process(text: str, role: str, what: str, query: str) -> BackendSpec:
    if what not in SPEAKS:
        raise UsageError(f"--backend {text}: no engine {what!r} can be started; use {', '.join(SPEAKS)}")
    return _started(text, role, what, query, "process", SPEAKS[what])


def _parse_container(text: str, role: str, what: str, query: str) -> BackendSpec:
    spec = _started(text, role, what, query, "container", SPEAKS.get(what, "openai"))
    if what not in SPEAKS and "port" not in spec.options:
        raise UsageError(f"--backend {text}: the image {what} serves on a port; give it with ?port=8000")
    return spec


def _started(text: str, role: str, what: str, query: str, way: str, kind: str) -> BackendSpec:
    extra = _OF_OLLAMA if kind == "ollama" else {}
    options = _options(text, query, {**_OPTIONS[way], **extra})
    model = options.pop("model", None)
    if model is None and what in SPEAKS:
        raise UsageError(f"--backend {text}: {what} serves one model; name it with ?model=NAME")
    kind = options.pop("speaks", kind)
    if kind not in ("openai", *_PORTS):
        raise UsageError(f"--backend {text}: speaks is {kind!r}; use openai, {', '.join(_PORTS)}")
    return BackendSpec(role=role, kind=kind, way=way, model=model, starts=what, options=options)


_WAYS: Mapping[str, Callable[[str, str, str, str], BackendSpec]] = {
    "pocket": _parse_pocket,
    "gguf": _parse_gguf,
    "transformers": _parse_transformers,
    "simulated": _parse_simulated,
    "process": _parse_process,
    "container": _parse_container,
}


def _options(text: str, query: str, known: _Options) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise UsageError(
                f"--backend {text}: unknown option {name!r}; known are {', '.join(sorted(known))}"
            )
        try:
            options[name] = known[name](value)
        except ValueError as exc:
            kind = known[name].__name__
            raise UsageError(f"--backend {text}: {name} is {value!r}; give a {kind}") from exc
    return options
