"""What the client itself costs: CPU seconds of this process per streamed token, apart from any engine.

Everything a client spends is inside every latency it measures, and on a small machine it is also taken from
the engine. So the ceiling is absolute: 0.3 ms of CPU per token, at the pace of a pocket engine (a token each
millisecond) and with 32 streams at once. A slow engine's client wakes up cold for each token and spends more:
there the ceiling is a share, 2 % of the time between two tokens.

The server is canned (a fixed frame per token, no computing) and runs in another process, so that
`time.process_time` counts the client alone. A client that falls behind reads many tokens at once, which
flatters it: the reads per token are measured beside, and must stay near one.

Formula: cpu_ms_per_token = 1e3 × Δ process_time / (requests × output_tokens), connections included.

Limits: loopback, no TLS, no log-probabilities (which lengthen the frames by a third).
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from fixtures.options import Settings
from fixtures.planned import Planned
from harness.backends import Message, Request
from harness.backends.ollama import OllamaBackend
from harness.backends.openai import OpenAIBackend
from harness.launchers import ProcessLauncher, Server, canned

pytestmark = pytest.mark.overhead

CEILING_MS = 0.3
CEILING_SHARE = 0.02
OUTPUT_TOKENS = 200
ROUNDS = 5

Client = OpenAIBackend | OllamaBackend
CLIENTS: dict[str, type[Client]] = {"openai": OpenAIBackend, "ollama": OllamaBackend}
"""Server-sent events, and lines of JSON."""

Paced = Callable[[float], Server]


def planned(item: pytest.Function) -> Planned:
    """What a test would run."""
    return Planned(Settings(rounds=ROUNDS, warmup_rounds=1))


class Cost(NamedTuple):
    """What one round showed."""

    cpu_ms_per_token: float
    reads_per_token: float


@pytest.fixture(scope="module")
def paced_server() -> Iterator[Paced]:
    """Canned servers in other processes, by the milliseconds between their tokens."""
    with ExitStack() as servers:

        def launch(gap_ms: float) -> Server:
            command = (sys.executable, canned.__file__, "--port", "{port}", "--token-s", str(gap_ms / 1e3))
            return servers.enter_context(ProcessLauncher(name="canned", command=command).launch())

        yield launch


@pytest.mark.parametrize("client", sorted(CLIENTS))
@pytest.mark.parametrize(("concurrency", "gap_ms"), [(1, 1), (32, 5)])
def test_a_streamed_token_costs_the_client_at_most_300_us(
    benchmark: Any, paced_server: Paced, client: str, concurrency: int, gap_ms: float
) -> None:
    """Client CPU per streamed token stays under the ceiling, alone and under load, in either form."""
    server = paced_server(gap_ms)
    cost = _measure(benchmark, CLIENTS[client], server, concurrency, gap_ms, CEILING_MS)
    assert cost.reads_per_token > 0.7, "the client fell behind, so its cost is flattered"
    assert cost.cpu_ms_per_token <= CEILING_MS


def test_a_slow_engines_token_costs_the_client_at_most_2_percent(benchmark: Any, paced_server: Paced) -> None:
    """Client CPU per streamed token is a small share of the 20 ms in which a slow engine makes one."""
    cost = _measure(benchmark, OpenAIBackend, paced_server(20), 1, 20, CEILING_SHARE * 20)
    assert cost.cpu_ms_per_token <= CEILING_SHARE * 20


def _measure(
    benchmark: Any,
    client: type[Client],
    server: Server,
    concurrency: int,
    gap_ms: float,
    ceiling_ms: float,
) -> Cost:
    """Run the rounds, record them, and return their medians."""
    rounds: list[Cost] = []

    def target() -> None:
        rounds.append(asyncio.run(_stream(client, server, concurrency)))

    benchmark.pedantic(target, rounds=ROUNDS, warmup_rounds=1)
    cost = Cost(*(statistics.median(values) for values in zip(*rounds[1:], strict=True)))
    benchmark.extra_info |= {
        "client": client.__name__,
        "concurrency": concurrency,
        "gap_ms": gap_ms,
        "output_tokens": OUTPUT_TOKENS,
        "cpu_ms_per_token": cost.cpu_ms_per_token,
        "cpu_ms_per_token_rounds": [each.cpu_ms_per_token for each in rounds[1:]],
        "reads_per_token": cost.reads_per_token,
        "ceiling_ms": ceiling_ms,
    }
    return cost


async def _stream(client: type[Client], server: Server, concurrency: int) -> Cost:
    backend = client(server.url, model=server.model)
    request = Request(messages=(Message("user", "count"),), max_tokens=OUTPUT_TOKENS)
    try:
        began_s = time.process_time()
        answers = await asyncio.gather(*(backend.generate(request) for _ in range(concurrency)))
        spent_s = time.process_time() - began_s
    finally:
        await backend.aclose()
    assert {answer.output_tokens for answer in answers} == {OUTPUT_TOKENS}
    assert {len(answer.chunk_times_s) for answer in answers} == {OUTPUT_TOKENS}
    num_tokens = concurrency * OUTPUT_TOKENS
    num_reads = sum(len(set(answer.chunk_times_s)) for answer in answers)
    return Cost(1e3 * spent_s / num_tokens, num_reads / num_tokens)
