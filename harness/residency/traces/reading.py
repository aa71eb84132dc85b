"""Traces as JSON files, read strictly and written in the same schema.

    {"schema": 1, "name": "mine", "source": "where it comes from", "prompt_tokens": 512, "output_tokens": 50,
     "requests": [{"at_s": 0.94, "model": "llama-7b"}, …]}

A request may have `prompt_tokens` and `output_tokens` of its own, `think_s` and `prompt`. Times rise. Nothing
is sorted or filled in, and an unknown key stops the run.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from harness.reading import SCHEMA, Reader, read_json
from harness.residency.traces.trace import Request, Trace

__all__ = ["committed", "dumps", "load"]

DOCS = "docs/traces.md"
PUBLISHED = Path(__file__).with_name("published.json")
_LENGTHS = ("prompt_tokens", "output_tokens")


def committed() -> Trace:
    """The published trace as it is committed: the seed's 30 requests."""
    return load(PUBLISHED)


def load(path: str | Path, models: Collection[str] | None = None) -> Trace:
    """Read and validate a trace.

    models: those there are; None when any name will do.

    Raises
    ------
    WorkloadError: the file cannot be read or breaks the schema; it names file, request, key and value.
    """
    path = Path(path)
    top = Reader(str(path), read_json(path, DOCS).value, DOCS)
    top.keys({"schema", "name", "source", "requests", *_LENGTHS}, optional=set())
    top.schema()
    lengths = {key: top.count(key) for key in _LENGTHS}
    requests: list[Request] = []
    for i, item in enumerate(top.objects("requests")):
        reader = top.at(f"request #{i + 1}", item)
        request = _request(reader, lengths)
        if models is not None and request.model not in models:
            reader.fail("model", f"there is no such model; there are {', '.join(models)}")
        if requests and request.at_s < requests[-1].at_s:
            reader.fail(
                "at_s", f"it is before {requests[-1].at_s:g}, the request above; order requests by time"
            )
        requests.append(request)
    return Trace(name=top.text("name"), source=top.text("source"), requests=tuple(requests))


def dumps(trace: Trace) -> str:
    """Write a trace as `load` reads it: a line per request."""
    first = trace.requests[0]
    lengths = {key: getattr(first, key) for key in _LENGTHS}
    head = {"schema": SCHEMA, "name": trace.name, "source": trace.source, **lengths}
    rows = ",\n".join(
        f"  {json.dumps(_row(request, lengths), ensure_ascii=False)}" for request in trace.requests
    )
    return json.dumps(head, ensure_ascii=False)[:-1] + f', "requests": [\n{rows}\n]}}\n'


def _request(reader: Reader, lengths: dict[str, int]) -> Request:
    reader.keys({"at_s", "model"}, optional={"think_s", "prompt", *_LENGTHS})
    given = {key: reader.count(key) for key in _LENGTHS if key in reader.value}
    return Request(
        at_s=_seconds(reader, "at_s"),
        model=reader.text("model"),
        think_s=_seconds(reader, "think_s") if "think_s" in reader.value else 0.0,
        prompt=reader.text("prompt") if "prompt" in reader.value else None,
        **(lengths | given),
    )


def _seconds(reader: Reader, key: str) -> float:
    value = reader.number(key)
    if value < 0:
        reader.fail(key, "write seconds, 0 or more")
    return value


def _row(request: Request, lengths: dict[str, int]) -> dict[str, Any]:
    row: dict[str, Any] = {"at_s": request.at_s, "model": request.model}
    row |= {key: getattr(request, key) for key in _LENGTHS if getattr(request, key) != lengths[key]}
    row |= {"think_s": request.think_s} if request.think_s else {}
    return row | ({"prompt": request.prompt} if request.prompt is not None else {})
