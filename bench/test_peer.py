"""Beside a peer: does our client measure what aiperf measures, and at what cost?

Both tools ask the same prompts of one llama.cpp server (a process of its own, a pocket model) at the same
time: even arrivals at slightly different rates, so that their requests fall between each other in every
phase, and what disturbs the machine disturbs both. A connection per request, greedy, the same number of
tokens. The ratio ours / theirs of each round's medians has a 95 % interval by t on log ratios; they agree
when the whole interval lies within 5 % of 1.

Definitions, aiperf 0.13's, and ours computed so for this comparison only:

    ttft   first response with content - request start      ours: first chunk with text - sent
    itl    (last response with content - first) / (output tokens - 1), per request; aiperf's "Inter Token
           Latency", which is our TPOT but for its end: ours ends with the server's last byte, here with
           the last chunk that bears text

CPU per token is that of the whole process tree (`wait4`, user and system), as the slope between a short and
a long run of each tool, so that start-up costs nothing; start-up varies by as much as our client's own work,
so slopes are added up over the rounds before they are divided (delta method). Processes that a tool does not
wait for are not counted, which can only favour it.

The peer runs in an environment of its own: `ASSAY_PEER` is its program, or it is on PATH.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fixtures.options import Settings
from fixtures.planned import Planned
from harness.launchers import ProcessLauncher, Server
from harness.load import read_log
from harness.models import gguf_path
from reports.stats import Interval, Unsupported, as_ratio, log_ratio, total_log_ratio

pytestmark = pytest.mark.overhead

ROOT = Path(__file__).parent.parent
MODEL, QUANT = "large", "f32"
"""The slowest pocket engine: of its 40 ms to the first token and 0.5 ms to the next a client is the least."""
SHORT, LONG = 5, 60
OUR_RATE_PER_S, THEIR_RATE_PER_S = 2.0, 1.85
"""A request keeps the server busy for 0.1 s: few meet one of the other tool's, and the medians none."""
OUTPUT_TOKENS = 64
NUM_WORDS = 60
ROUNDS = int(os.environ.get("ASSAY_PEER_ROUNDS", "20"))
AGREE = 0.05
TIMEOUT_S = 300
ASKED = {"ignore_eos": True, "temperature": 0, "cache_prompt": False}
"""What our backend sends of its own, for the peer."""
INSTALL = "python -m venv peer && peer/bin/pip install aiperf, then ASSAY_PEER=peer/bin/aiperf (tox -e peer)"
NO_PEER = f"no peer: {INSTALL}"


def planned(item: pytest.Function) -> Planned:
    """What a test would run, and whether there is a peer."""
    return Planned(Settings(rounds=ROUNDS, warmup_rounds=1), why_not="" if _peer() else NO_PEER)


class Run(NamedTuple):
    """What one run of one tool showed."""

    ttft_s: float
    itl_s: float
    """Medians over its requests."""
    cpu_s: float
    output_tokens: int


class Pair(NamedTuple):
    """A short and a long run of one tool."""

    short: Run
    long: Run

    @property
    def cpu_s_per_token(self) -> float:
        """The slope: what a token costs once the tool runs."""
        tokens = self.long.output_tokens - self.short.output_tokens
        return (self.long.cpu_s - self.short.cpu_s) / tokens


@pytest.fixture(scope="module")
def peer() -> str:
    """The peer's program."""
    found = _peer()
    if found is None:
        pytest.skip(NO_PEER)
    return found


def _peer() -> str | None:
    return shutil.which(os.environ.get("ASSAY_PEER") or "aiperf")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """llama.cpp in a process of its own."""
    gguf = str(gguf_path(MODEL, quant=QUANT))
    command = (
        sys.executable, "-m", "harness.launchers.llamacpp_server", "--model", gguf, "--alias", MODEL,
        "--port", "{port}", "--ctx-size", "1024",
    )  # fmt: skip
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with ProcessLauncher(name="llamacpp", command=command, model=MODEL, env=env).launch() as running:
        yield running


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same prompts for both: `ours.jsonl` and `theirs.jsonl`."""
    folder = tmp_path_factory.mktemp("prompts")
    draw = random.Random(11)
    words = ("quick", "brown", "fox", "jumps", "over", "lazy", "dog", "sleeps", "in", "sun", "until", "wakes")
    texts = [f"{draw.randrange(10**6)} {' '.join(draw.choices(words, k=NUM_WORDS))}" for _ in range(LONG)]
    for name, key in (("ours", "prompt"), ("theirs", "text")):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({key: text}) + "\n" for text in texts))
    return folder


def test_our_client_measures_what_the_peer_measures_for_no_more_cpu(
    benchmark: Any, peer: str, server: Server, prompts: Path, tmp_path: Path
) -> None:
    """TTFT and ITL agree within 5 %, and a token costs our client no more CPU than the peer."""
    ours: list[Pair] = []
    theirs: list[Pair] = []

    def target() -> None:
        folder = tmp_path / str(len(ours))
        runs = [
            _side_by_side(peer, server, prompts, folder / str(number), number) for number in (SHORT, LONG)
        ]
        ours.append(Pair(*(mine for mine, _ in runs)))
        theirs.append(Pair(*(other for _, other in runs)))

    benchmark.pedantic(target, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info |= {
        "peer": _version(peer),
        "model": f"{MODEL} {QUANT}",
        "requests": [SHORT, LONG],
        "rates_per_s": [OUR_RATE_PER_S, THEIR_RATE_PER_S],
        "output_tokens": OUTPUT_TOKENS,
        "ours": [_plain(pair) for pair in ours[1:]],
        "theirs": [_plain(pair) for pair in theirs[1:]],
        "load_average": os.getloadavg(),
    }
    found = _ratios(ours[1:], theirs[1:])
    benchmark.extra_info["ratio_ours_to_peer"] = {name: ratio._asdict() for name, ratio in found.items()}
    for name in ("ttft", "itl"):
        ratio = found[name]
        within = 1 - AGREE <= ratio.low <= ratio.high <= 1 + AGREE
        assert within, f"{name}: ours / theirs is {_words(ratio)}, not within {AGREE:.0%} of 1"
    cost = found["cpu_per_token"]
    assert cost.high <= 1, f"CPU per token: ours / theirs is {_words(cost)}"


def _side_by_side(peer: str, server: Server, prompts: Path, folder: Path, number: int) -> tuple[Run, Run]:
    """Ours and theirs at once; theirs takes seconds to come up, so ours waits for its first request."""
    folder.mkdir(parents=True)
    before = _tokens_read(server)
    their_process = _start(_their_command(peer, server, prompts, folder, number), folder / "theirs.log")
    ends_s = time.monotonic() + TIMEOUT_S
    while _tokens_read(server) == before and their_process.poll() is None:
        assert time.monotonic() < ends_s, f"no request of the peer within {TIMEOUT_S} s"
        time.sleep(0.05)
    our_process = _start(_our_command(server, prompts, folder, number), folder / "ours.log")
    our_cpu_s, their_cpu_s = _cpu_s(our_process), _cpu_s(their_process)
    return _our_run(folder, number, our_cpu_s), _their_run(folder, number, their_cpu_s)


def _our_command(server: Server, prompts: Path, out: Path, number: int) -> list[str]:
    return [
        sys.executable, "-m", "harness.load", "--backend", f"llamacpp+{server.url}", "--model", MODEL,
        "--prompts", str(prompts / "ours.jsonl"), "--rate", str(OUR_RATE_PER_S), "--burstiness", "inf",
        "--requests", str(number),
        "--output-tokens", str(OUTPUT_TOKENS), "--ignore-eos", "--log", str(out / "requests.jsonl"), "--json",
    ]  # fmt: skip


def _their_command(peer: str, server: Server, prompts: Path, out: Path, number: int) -> list[str]:
    return [
        peer, "profile", "-m", MODEL, "-u", server.url, "--endpoint-type", "chat", "--streaming",
        "--tokenizer", str(ROOT / "harness/models/weights" / MODEL), "--request-rate", str(THEIR_RATE_PER_S),
        "--arrival-pattern", "constant", "--request-count", str(number),
        "--input-file", str(prompts / "theirs.jsonl"),
        "--custom-dataset-type", "single-turn", "--dataset-sampling-strategy", "sequential",
        "--prompt-output-tokens-mean", str(OUTPUT_TOKENS), "--use-server-token-count",
        "--use-legacy-max-tokens", "--extra-inputs", json.dumps(ASKED),
        "--connection-reuse-strategy", "never", "--output-artifact-dir", str(out), "--no-server-metrics",
        "--no-gpu-telemetry", "--ui", "none",
    ]  # fmt: skip


def _our_run(out: Path, number: int, cpu_s: float) -> Run:
    entries = read_log(out / "requests.jsonl")
    assert [entry.output_tokens for entry in entries] == [OUTPUT_TOKENS] * number
    ttft_s = [e.first_token_s - e.sent_s for e in entries if e.first_token_s and e.sent_s]
    itl_s = [(e.chunk_times_s[-1] - e.chunk_times_s[0]) / (OUTPUT_TOKENS - 1) for e in entries]
    return _median_run(ttft_s, itl_s, cpu_s, number)


def _their_run(out: Path, number: int, cpu_s: float) -> Run:
    lines = (out / "profile_export.jsonl").read_text().splitlines()
    records = [json.loads(line)["metrics"] for line in lines]
    assert [r["output_sequence_length"]["value"] for r in records] == [OUTPUT_TOKENS] * number
    ttft_s = [r["time_to_first_token"]["value"] / 1e3 for r in records]
    itl_s = [r["inter_token_latency"]["value"] / 1e3 for r in records]
    return _median_run(ttft_s, itl_s, cpu_s, number)


def _median_run(ttft_s: Sequence[float], itl_s: Sequence[float], cpu_s: float, number: int) -> Run:
    assert len(ttft_s) == len(itl_s) == number
    return Run(statistics.median(ttft_s), statistics.median(itl_s), cpu_s, number * OUTPUT_TOKENS)


def _start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    # As if online: a peer that is told that it is offline looks a tokenizer's folder up as a name.
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_HUB_OFFLINE")}
    with log.open("wb") as output:
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT)


def _cpu_s(process: subprocess.Popen[bytes]) -> float:
    """Wait for a program to end; the CPU seconds of it and of all that it waited for."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # Ours ends with 1 when its client was slow: here that is for the comparison to show.
    assert process.returncode in (0, 1), f"{process.args!r} ended with {process.returncode}"
    return usage.ru_utime + usage.ru_stime


def _tokens_read(server: Server) -> str:
    """The server's counter of prompt tokens, as it prints it."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=TIMEOUT_S) as response:
        lines: list[str] = response.read().decode().splitlines()
    return next(line for line in lines if line.startswith("llamacpp:prompt_tokens_total"))


def _ratios(ours: Sequence[Pair], theirs: Sequence[Pair]) -> dict[str, Interval]:
    """Ours / theirs over the rounds."""
    both = list(zip(ours, theirs, strict=True))
    means = {
        "ttft": log_ratio([(o.long.ttft_s, t.long.ttft_s) for o, t in both]),
        "itl": log_ratio([(o.long.itl_s, t.long.itl_s) for o, t in both]),
        "cpu_per_token": total_log_ratio([(o.cpu_s_per_token, t.cpu_s_per_token) for o, t in both]),
    }
    for name, mean in means.items():
        assert not isinstance(mean, Unsupported), f"{name}: {mean.reason}"
    return {name: as_ratio(mean) for name, mean in means.items() if not isinstance(mean, Unsupported)}


def _version(peer: str) -> str:
    done = subprocess.run([peer, "--version"], capture_output=True, text=True, timeout=TIMEOUT_S)
    return f"aiperf {done.stdout.strip()}"


def _plain(pair: Pair) -> dict[str, float]:
    return {
        "ttft_s": pair.long.ttft_s,
        "itl_s": pair.long.itl_s,
        "cpu_s_short": pair.short.cpu_s,
        "cpu_s_long": pair.long.cpu_s,
        "cpu_s_per_token": pair.cpu_s_per_token,
    }


def _words(ratio: Interval) -> str:
    return f"{ratio.estimate:.3f} ({ratio.low:.3f} to {ratio.high:.3f}, {ratio.n} rounds)"
