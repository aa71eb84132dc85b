"""What one core of the client can offer, before it is itself what is slow.

Streamed requests of 16 chunks, 5 ms apart, at even times, to a canned server in a process of its own: 150
per second from one worker, and twice that from two. A worker is one process with one event loop, so it has
one core at most. It must dispatch within 5 ms at p99, measured from when each request was due until it was
written to its connection, and use less than 70 % of its core over the window.

The server needs a core as well. Where there are fewer than workers and server together, both would be
measured while they wait for each other: the test is skipped with the number that it needs.

Limits: loopback, no TLS. The canned server's own pace is not checked: at 300 requests per second it is as
busy as one client.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fixtures.options import Settings
from fixtures.planned import Planned
from harness.backends import parse_backend
from harness.launchers import ProcessLauncher, Server, canned
from harness.load import constant
from harness.load.asking import MadeUp
from harness.load.metrics import SLO
from harness.load.report import LoadReport, report
from harness.load.scenario import OpenLoop, Scenario
from harness.load.workers import Target, drive_with

pytestmark = pytest.mark.overhead

RATE_PER_WORKER = 150.0
CHUNKS = 16
GAP_S = 0.005
DURATION_S = 8.0
WARMUP_S = 1.0
ROUNDS = 3
MAX_DISPATCH_S = 0.005
MAX_CPU = 0.70


def planned(item: pytest.Function) -> Planned:
    """What a test would run, and whether there are cores for it."""
    workers = int(str(item.callspec.params["workers"]))
    return Planned(Settings(rounds=ROUNDS, warmup_rounds=0), why_not=_too_few(workers))


@pytest.fixture(scope="module")
def paced() -> Iterator[Server]:
    """A server that answers with a chunk each 5 ms."""
    command = (sys.executable, canned.__file__, "--port", "{port}", "--token-s", str(GAP_S))
    with ProcessLauncher(name="canned", command=command).launch() as server:
        yield server


@pytest.mark.parametrize("workers", [1, 2])
def test_a_core_offers_150_streamed_requests_a_second(benchmark: Any, paced: Server, workers: int) -> None:
    """In the median round requests are written within 5 ms at p99, from workers that are not busy."""
    if few := _too_few(workers):
        pytest.skip(few)
    found: list[LoadReport] = []

    def target() -> None:
        found.append(_offer(paced, workers))

    benchmark.pedantic(target, rounds=ROUNDS, warmup_rounds=0)
    late_s = [_p99(each, "dispatch_delay_s") for each in found]
    cpu = [max(each.cpu_shares) for each in found]
    benchmark.extra_info |= {
        "rate_per_s": RATE_PER_WORKER * workers,
        "workers": workers,
        "chunks": CHUNKS,
        "gap_s": GAP_S,
        "dispatch_delay_p99_s": late_s,
        "cpu_share": cpu,
        "ttft_p99_s": [_p99(each, "ttft_s") for each in found],
        "request_throughput": [each.rates.request_throughput for each in found],
        "load_average": os.getloadavg(),
    }
    assert not any(each.num_failed for each in found)
    assert all(each.output_tokens == CHUNKS for each in found)
    assert statistics.median(cpu) < MAX_CPU
    assert statistics.median(late_s) <= MAX_DISPATCH_S


def _too_few(workers: int) -> str:
    """Why this machine has no core for each of them; empty where it has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores > workers:
        return ""
    return f"{workers} workers and the server need {workers + 1} cores; this machine has {cores}"


def _offer(server: Server, workers: int) -> LoadReport:
    rate = RATE_PER_WORKER * workers
    loop = OpenLoop(due_s=constant(rate, round(rate * DURATION_S)), window_s=DURATION_S)
    scenario = Scenario(loop=loop, asking=MadeUp(num_words=(100,), output_tokens=(CHUNKS,)))
    spec = parse_backend(f"load=openai+{server.url}")
    return report(loop, drive_with(workers, scenario, Target.of(spec, server)), warmup_s=WARMUP_S, slo=SLO())


def _p99(found: LoadReport, name: str) -> float:
    value = found.latencies[name].quantiles[-1].value
    assert value is not None, found.latencies[name]
    return value
