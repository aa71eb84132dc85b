"""What some backends offer beyond the core: each a check that either holds, with what was seen, or does not.

What a subject does not offer is declared in `lacks.toml` with its source, and is tried all the same: the
declaration holds as long as the check does not.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.backends import Backend, Message, Request
from harness.backends.base import Batch, BatchSampler, CacheFlusher, Completion, Metered, Sleeper
from harness.errors import BackendRejected
from tests.conformance.subjects import Subject, use

__all__ = ["EXTRAS", "LACKS", "Extra"]

SCHEMA = {
    "type": "object",
    "properties": {"unit": {"enum": ["kg", "m"]}, "value": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["unit", "value"],
    "additionalProperties": False,
    # A grammar lets blanks stand between tokens, and a tiny model may write them without end.
    "x-guidance": {"whitespace_flexible": False},
}
CHAT = (Message("user", "hello"),)
LINE = "def f(x):\n    return x\n"
LONG = LINE * 110
LEAST_RATIO = 1.5
LACKS: Mapping[tuple[str, str], str] = {
    (subject, behaviour): row["source"]
    for row in tomllib.loads(Path(__file__).with_name("lacks.toml").read_text())["lack"]
    for subject in row["subjects"]
    for behaviour in row["behaviours"]
}
"""Subject and title of the extra → why it is not offered, as a link to the source."""


class Extra(NamedTuple):
    """Something that a backend may offer."""

    title: str
    check: Callable[[Subject], str]
    """Returns what was seen; raises AssertionError or BackendRejected when it does not hold."""


def check_schema(subject: Subject) -> str:
    """Answers in a chat, also of a model that never saw JSON, are valid under the schema."""
    return _check_schema(subject, Request(messages=CHAT, max_tokens=60, json_schema=SCHEMA))


def check_schema_of_a_prompt(subject: Subject) -> str:
    """Answers to a raw prompt are valid under the schema."""
    return _check_schema(subject, Request(prompt="def f(x)", max_tokens=60, json_schema=SCHEMA))


def _check_schema(subject: Subject, request: Request) -> str:
    [answer] = _ask(subject, request)
    try:
        value = json.loads(answer.text)
    except ValueError as exc:
        raise AssertionError(f"no JSON: {answer.text[:50]!r}") from exc
    assert set(value) == {"unit", "value"}, answer.text
    assert value["unit"] in ("kg", "m"), answer.text
    assert value["value"] in range(10), answer.text
    return " ".join(answer.text.split())


def check_logprobs(subject: Subject) -> str:
    """Greedy answers carry one log-probability per token of text, streamed or whole, by chat or by prompt."""
    for stream in (True, False):
        for asked in ({"messages": CHAT}, {"prompt": "def f(x)"}):
            request = Request(max_tokens=8, ignore_eos=True, logprobs=True, stream=stream, **asked)  # type: ignore[arg-type]
            [answer] = _ask(subject, request)
            assert answer.token_logprobs is not None, "no log-probabilities"
            seen = f"{len(answer.token_logprobs)} for {answer.output_tokens} tokens"
            assert len(answer.token_logprobs) == answer.output_tokens, f"{seen}, {stream=}, {asked}"
            assert all(value <= 0 for value in answer.token_logprobs), answer.token_logprobs
    return seen


def check_reuse(subject: Subject) -> str:
    """A repeated prompt is taken from the cache, by the server's own count.

    Engines reuse whole blocks (vLLM on a CPU: 128 tokens), so up to a quarter of this prompt may be left.
    """
    first, again = _ask(subject, *(_long("a", cache_prompt=True) for _ in range(2)))
    assert first.prompt_tokens is not None
    assert again.cached_tokens is not None, "no count of cached tokens"
    seen = f"{again.cached_tokens} of {first.prompt_tokens} tokens"
    assert again.cached_tokens >= 0.75 * first.prompt_tokens, seen
    return seen


def check_measured_reuse(subject: Subject) -> str:
    """A repeated prompt is answered sooner than new ones of its length, by this process's clock.

    The shortest of several waits each, since a busy machine only ever adds; in turns, since it may do so for
    as long as all the new ones take.
    """
    subject = subject if subject.large is None else subject.large()
    words = ("a", "b", "c", "d", "e")
    answers = _ask(subject, *(_long(word, cache_prompt=True) for word in words for _ in ("new", "same")))
    new, same = answers[::2], answers[1::2]
    assert len({answer.prompt_tokens for answer in (*new, *same)}) == 1, "the prompts differ in length"
    new_s, same_s = (min(answer.ttft_s or answer.e2e_latency_s for answer in group) for group in (new, same))
    seen = f"{new_s / same_s:.1f}× sooner, {same_s * 1e3:.3g} ms after {new_s * 1e3:.3g} ms"
    assert new_s >= LEAST_RATIO * same_s, seen
    return seen


def check_no_reuse(subject: Subject) -> str:
    """A prompt repeated without asking for reuse is computed again, whole."""
    answers = _ask(subject, *(_long("a") for _ in range(2)))
    cached = [answer.cached_tokens for answer in answers]
    assert cached == [0, 0], f"{cached[-1]} tokens reused"
    return f"{cached[-1]} of {answers[-1].prompt_tokens} tokens"


def check_engine_times(subject: Subject) -> str:
    """The server tells prefill and decode apart, and their sum lies within the latency."""
    [answer] = _ask(subject, Request(prompt=LONG, max_tokens=50, ignore_eos=True))
    prefill_s, decode_s = answer.engine.prefill_s, answer.engine.decode_s
    assert prefill_s is not None, "no prefill time"
    assert decode_s is not None, "no decode time"
    assert 0 < prefill_s + decode_s < answer.e2e_latency_s
    times = (prefill_s, decode_s, answer.e2e_latency_s)
    return "{:.3g} + {:.3g} of {:.3g} ms".format(*(1e3 * time_s for time_s in times))


def check_batch(subject: Subject) -> str:
    """One request gives several answers, sampled apart."""
    batch = _batch(subject)
    assert len(batch.texts) == len(batch.finish_reasons) == 4, batch
    assert len(set(batch.texts)) > 1, "four times the same text"
    return f"{len(set(batch.texts))} texts of 4"


def check_batch_count(subject: Subject) -> str:
    """The tokens of all answers of a batch are counted."""
    batch = _batch(subject)
    assert batch.output_tokens == 48, f"{batch.output_tokens} tokens, not 4 × 12"
    return f"{batch.output_tokens} tokens of 4 × 12"


def _batch(subject: Subject) -> Batch:
    request = Request(prompt="def f(x)", max_tokens=12, ignore_eos=True, temperature=1.0, seed=1)

    async def sample(backend: Backend) -> Batch:
        assert isinstance(backend, BatchSampler), "the client has no `sample`"
        return await backend.sample(request, 4)

    batch: Batch = _with(subject, sample)
    return batch


def check_flush(subject: Subject) -> str:
    """After a flush, a prompt answered before is computed again."""

    async def flush(backend: Backend) -> str:
        assert isinstance(backend, CacheFlusher), "the client has no `flush_cache`"
        await backend.generate(_long("f", cache_prompt=True))
        before = await backend.generate(_long("f", cache_prompt=True))
        await backend.flush_cache()
        after = await backend.generate(_long("f", cache_prompt=True))
        seen = f"{before.cached_tokens} tokens reused before, {after.cached_tokens} after"
        assert before.cached_tokens, seen
        assert after.cached_tokens == 0, seen
        return seen

    return _with(subject, flush)


def check_metrics(subject: Subject) -> str:
    """A counter of the server's grows by just the tokens that an answer had."""

    async def read(backend: Backend) -> str:
        assert isinstance(backend, Metered), "the client has no `metrics`"
        before = await backend.metrics()
        answer = await backend.generate(Request(prompt="x", max_tokens=23, ignore_eos=True))
        after = await backend.metrics()
        grown = [n for n, v in after.items() if "token" in n and v - before.get(n, 0) == answer.output_tokens]
        assert grown, f"no counter grew by {answer.output_tokens}"
        return f"{grown[0].partition('{')[0]} +{answer.output_tokens}"

    return _with(subject, read)


def check_sleep(subject: Subject) -> str:
    """A server that slept answers as it did before."""

    async def nap(backend: Backend) -> str:
        assert isinstance(backend, Sleeper), "the client has no `sleep`"
        request = Request(prompt="def f(x)", max_tokens=8, ignore_eos=True)
        before = await backend.generate(request)
        await backend.sleep()
        await backend.wake()
        after = await backend.generate(request)
        assert after.text == before.text
        return "the same text"

    return _with(subject, nap)


EXTRAS = (
    Extra("JSON schema, chat", check_schema),
    Extra("JSON schema, raw prompt", check_schema_of_a_prompt),
    Extra("log-probabilities", check_logprobs),
    Extra("prefix reuse, counted", check_reuse),
    Extra("prefix reuse, measured", check_measured_reuse),
    Extra("prefix reuse forbidden", check_no_reuse),
    Extra("prefix cache flushed", check_flush),
    Extra("prefill and decode times", check_engine_times),
    Extra("batched sampling", check_batch),
    Extra("batched sampling, counted", check_batch_count),
    Extra("counters", check_metrics),
    Extra("sleep and wake", check_sleep),
)


def held(subject: Subject, extra: Extra) -> str:
    """Check an extra; return what was seen.

    Raises
    ------
    AssertionError: it does not hold.
    """
    try:
        return extra.check(subject)
    except BackendRejected as exc:
        raise AssertionError(f"refused: {exc}") from exc


def _long(first: str, *, cache_prompt: bool = False) -> Request:
    """A prompt that shares nothing with one of another first word, and is as long."""
    return Request(prompt=f"{first} {LONG}", max_tokens=1, ignore_eos=True, cache_prompt=cache_prompt)


def _ask(subject: Subject, *requests: Request) -> list[Completion]:
    async def ask(backend: Backend) -> list[Completion]:
        return [await backend.generate(request) for request in requests]

    return _with(subject, ask)


def _with(subject: Subject, what: Callable[[Backend], Awaitable[Any]]) -> Any:
    """Do something with a client that has asked whether its server is ready."""
    backend = subject.make()

    async def do() -> Any:
        await backend.ready()
        return await what(backend)

    return use(backend, do)
