"""What some backends offer beyond the core: measured, and rendered as the table in `docs/backends.md`.

A cell is `pass` (the check below held), `not offered` (with the source that says so) or `fail` (with what was
seen). `python -m tests.conformance.extras` prints the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from harness.backends import Message, Request
from harness.launchers import EmbeddedLauncher
from tests.conformance.subjects import N_PARALLEL, SUBJECTS, Subject, run

DOCS = Path(__file__).parents[2] / "docs" / "backends.md"
BEGIN, END = "<!-- extras: begin -->\n", "<!-- extras: end -->\n"

SCHEMA = {
    "type": "object",
    "properties": {"unit": {"enum": ["kg", "m"]}, "value": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["unit", "value"],
    "additionalProperties": False,
    # A grammar lets blanks stand between tokens, and a tiny model may write them without end.
    "x-guidance": {"whitespace_flexible": False},
}
CHAT = (Message("user", "hello"),)
LONG = "def f(x):\n    return x\n" * 30

API = "[API reference](https://platform.openai.com/docs/api-reference/chat/create)"
COMPLETIONS = "[API reference](https://platform.openai.com/docs/api-reference/completions/create)"
SCRIPT = "[`fake.py`](../harness/backends/fake.py)"
NOT_OFFERED: Mapping[tuple[str, str], str] = {
    ("fake", "JSON schema, chat"): f"{SCRIPT}: reads no schema",
    ("fake", "JSON schema, raw prompt"): f"{SCRIPT}: reads no schema",
    ("openai", "JSON schema, raw prompt"): f"{COMPLETIONS}: has no such field, so the request is refused",
    ("openai", "prefix reuse forbidden"): f"{API}: has no such field; `cached_tokens` shows what was reused",
}


class Extra(NamedTuple):
    """Something that a backend may offer."""

    title: str
    check: Callable[[Subject], None]
    """Raises AssertionError when it does not hold."""


def check_schema(subject: Subject) -> None:
    """Answers in a chat, also of a model that never saw JSON, are valid under the schema."""
    _check_schema(subject, Request(messages=CHAT, max_tokens=60, json_schema=SCHEMA))


def check_schema_of_a_prompt(subject: Subject) -> None:
    """Answers to a raw prompt are valid under the schema."""
    _check_schema(subject, Request(prompt="def f(x)", max_tokens=60, json_schema=SCHEMA))


def _check_schema(subject: Subject, request: Request) -> None:
    [answer] = run(subject.make(), request)
    try:
        value = json.loads(answer.text)
    except ValueError as exc:
        raise AssertionError(f"no JSON: {answer.text[:50]!r}") from exc
    assert set(value) == {"unit", "value"}, answer.text
    assert value["unit"] in ("kg", "m"), answer.text
    assert value["value"] in range(10), answer.text


def check_logprobs(subject: Subject) -> None:
    """Greedy answers carry one log-probability per token of text, streamed or whole, by chat or by prompt."""
    for stream in (True, False):
        for asked in ({"messages": CHAT}, {"prompt": "def f(x)"}):
            request = Request(max_tokens=8, ignore_eos=True, logprobs=True, stream=stream, **asked)  # type: ignore[arg-type]
            [answer] = run(subject.make(), request)
            assert answer.token_logprobs is not None, "no log-probabilities"
            assert len(answer.token_logprobs) == answer.output_tokens, answer
            assert all(value <= 0 for value in answer.token_logprobs), answer.token_logprobs


def check_reuse(subject: Subject) -> None:
    """A repeated prompt is taken from the cache but for its last tokens, by the server's own count."""
    first, again = run(
        subject.make(), *(Request(prompt=LONG, max_tokens=1, cache_prompt=True) for _ in range(2))
    )
    assert first.prompt_tokens is not None
    assert again.cached_tokens is not None, "no count of cached tokens"
    assert again.cached_tokens >= 0.9 * first.prompt_tokens, f"{again.cached_tokens} of {first.prompt_tokens}"


def check_no_reuse(subject: Subject) -> None:
    """A prompt repeated without asking for reuse is computed again, whole."""
    answers = run(subject.make(), *(Request(prompt=LONG, max_tokens=1) for _ in range(2)))
    assert [answer.cached_tokens for answer in answers] == [0, 0]


def check_engine_times(subject: Subject) -> None:
    """The server tells prefill and decode apart, and their sum lies within the latency."""
    [answer] = run(subject.make(), Request(prompt=LONG, max_tokens=50, ignore_eos=True))
    prefill_s, decode_s = answer.engine.prefill_s, answer.engine.decode_s
    assert prefill_s is not None, "no prefill time"
    assert decode_s is not None, "no decode time"
    assert 0 < prefill_s + decode_s < answer.e2e_latency_s


EXTRAS = (
    Extra("JSON schema, chat", check_schema),
    Extra("JSON schema, raw prompt", check_schema_of_a_prompt),
    Extra("log-probabilities", check_logprobs),
    Extra("prefix reuse, counted", check_reuse),
    Extra("prefix reuse forbidden", check_no_reuse),
    Extra("prefill and decode times", check_engine_times),
)


def cell(subject: Subject, extra: Extra) -> str:
    """Check one extra of one backend; an extra declared as not offered is not tried."""
    source = NOT_OFFERED.get((subject.name, extra.title))
    if source is not None:
        return f"not offered ({source})"
    try:
        extra.check(subject)
    except AssertionError as exc:
        return f"fail ({str(exc).splitlines()[0]})"
    return "pass"


def render(subjects: list[Subject]) -> str:
    """The table, in Markdown."""
    heads = {"openai": "openai, at llama.cpp's server"}
    lines = [
        "| extra | " + " | ".join(heads.get(subject.name, subject.name) for subject in subjects) + " |",
        "|---" * (len(subjects) + 1) + "|",
    ]
    for extra in EXTRAS:
        cells = [extra.title, *(cell(subject, extra) for subject in subjects)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def committed() -> str:
    """The table as it stands in the documentation."""
    return DOCS.read_text().partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Print the table."""
    from harness.models import gguf_path

    with EmbeddedLauncher(gguf=gguf_path("nano"), model="nano", n_parallel=N_PARALLEL).launch() as server:
        print(render([Subject(name, server) for name in SUBJECTS]), end="")


if __name__ == "__main__":
    main()
