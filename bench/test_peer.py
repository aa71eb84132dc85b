"""Beside a peer: does our client measure what aiperf measures, and at what cost?

Both tools ask the same prompts in the same order of one llama.cpp server (a process of its own, a pocket
model), at even times so far apart that a request has the machine to itself and a tool's bookkeeping is done
before the next, a connection per request, greedy, the same number of tokens. Rounds alternate AB BA, and the
ratio ours / theirs of each round's medians has a 95 % interval by t on log ratios. They agree when the whole
interval lies within 5 % of 1.

Definitions, aiperf 0.13's, and ours computed so for this comparison only:

    ttft   first response with content - request start      ours: first chunk with text - sent
    itl    (last response with content - first) / (output tokens - 1), per request; aiperf's "Inter Token
           Latency", which is our TPOT but for its end: ours ends with the server's last byte, here with
           the last chunk that bears text

CPU per token is that of the whole process tree (RUSAGE_CHILDREN, user and system), as the slope between a
short and a long run of each tool, so that start-up costs nothing; start-up varies by as much as our client's
own work, so slopes are added up over the rounds before they are divided (delta method). Processes that a tool
does not wait for are not counted, which can only favour it.

The peer runs in an environment of its own: `ASSAY_PEER` is its program, or it is on PATH.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.launchers import ProcessLauncher, Server
from harness.load import read_log
from harness.models import gguf_path
from reports.stats import Interval, Unsupported, as_ratio, log_ratio, total_log_ratio

pytestmark = pytest.mark.overhead

ROOT = Path(__file__).parent.parent
MODEL, QUANT = "large", "f32"
"""The slowest pocket engine: of its 40 ms to the first token and 0.5 ms to the next a client is the least."""
SHORT, LONG = 10, 90
RATE_PER_S = 6
OUTPUT_TOKENS = 64
NUM_WORDS = 60
ROUNDS = int(os.environ.get("ASSAY_PEER_ROUNDS", "8"))
AGREE = 0.05
TIMEOUT_S = 300
ASKED = {"ignore_eos": True, "temperature": 0, "cache_prompt": False}
"""What our backend sends of its own, for the peer."""
INSTALL = "python -m venv peer && peer/bin/pip install aiperf, then ASSAY_PEER=peer/bin/aiperf (tox -e peer)"


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
    found = os.environ.get("ASSAY_PEER") or shutil.which("aiperf")
    if not found or not shutil.which(found):
        pytest.skip(f"no peer: {INSTALL}")
    return found


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
    orders: list[str] = []

    def target() -> None:
        number = len(orders)
        folder = tmp_path / str(number)
        folder.mkdir()
        sides = [(ours, _run_ours, sys.executable), (theirs, _run_theirs, peer)]
        for found, run, program in sides if number % 2 else sides[::-1]:
            found.append(_pair(run, program, server, prompts, folder))
        orders.append("TC" if number % 2 else "CT")

    benchmark.pedantic(target, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info |= {
        "peer": _version(peer),
        "model": f"{MODEL} {QUANT}",
        "requests": [SHORT, LONG],
        "rate_per_s": RATE_PER_S,
        "output_tokens": OUTPUT_TOKENS,
        "ours": [_plain(pair) for pair in ours[1:]],
        "theirs": [_plain(pair) for pair in theirs[1:]],
        "load_average": os.getloadavg(),
    }
    found = _ratios(ours[1:], theirs[1:], orders[1:])
    benchmark.extra_info["ratio_ours_to_peer"] = {name: ratio._asdict() for name, ratio in found.items()}
    for name in ("ttft", "itl"):
        ratio = found[name]
        within = 1 - AGREE <= ratio.low <= ratio.high <= 1 + AGREE
        assert within, f"{name}: ours / theirs is {_words(ratio)}, not within {AGREE:.0%} of 1"
    cost = found["cpu_per_token"]
    assert cost.high <= 1, f"CPU per token: ours / theirs is {_words(cost)}"


def _pair(run: Any, program: str, server: Server, prompts: Path, folder: Path) -> Pair:
    return Pair(*(run(program, server, prompts, folder / f"{run.__name__}-{n}", n) for n in (SHORT, LONG)))


def _run_ours(program: str, server: Server, prompts: Path, out: Path, number: int) -> Run:
    out.mkdir()
    cpu_s = _spend([
        program, "-m", "harness.load", "--backend", f"llamacpp+{server.url}", "--model", MODEL,
        "--prompts", str(prompts / "ours.jsonl"), "--rate", str(RATE_PER_S), "--burstiness", "inf",
        "--requests", str(number),
        "--output-tokens", str(OUTPUT_TOKENS), "--ignore-eos", "--log", str(out / "requests.jsonl"), "--json",
    ])  # fmt: skip
    entries = read_log(out / "requests.jsonl")
    assert [entry.output_tokens for entry in entries] == [OUTPUT_TOKENS] * number
    ttft_s = [e.first_token_s - e.sent_s for e in entries if e.first_token_s and e.sent_s]
    itl_s = [(e.chunk_times_s[-1] - e.chunk_times_s[0]) / (OUTPUT_TOKENS - 1) for e in entries]
    return _median_run(ttft_s, itl_s, cpu_s, number)


def _run_theirs(program: str, server: Server, prompts: Path, out: Path, number: int) -> Run:
    cpu_s = _spend([
        program, "profile", "-m", MODEL, "-u", server.url, "--endpoint-type", "chat", "--streaming",
        "--tokenizer", str(ROOT / "harness/models/weights" / MODEL), "--request-rate", str(RATE_PER_S),
        "--arrival-pattern", "constant", "--request-count", str(number),
        "--input-file", str(prompts / "theirs.jsonl"),
        "--custom-dataset-type", "single-turn", "--dataset-sampling-strategy", "sequential",
        "--prompt-output-tokens-mean", str(OUTPUT_TOKENS), "--use-server-token-count",
        "--use-legacy-max-tokens", "--extra-inputs", json.dumps(ASKED),
        "--connection-reuse-strategy", "never", "--output-artifact-dir", str(out), "--no-server-metrics",
        "--no-gpu-telemetry", "--ui", "none",
    ])  # fmt: skip
    lines = (out / "profile_export.jsonl").read_text().splitlines()
    records = [json.loads(line)["metrics"] for line in lines]
    assert [r["output_sequence_length"]["value"] for r in records] == [OUTPUT_TOKENS] * number
    ttft_s = [r["time_to_first_token"]["value"] / 1e3 for r in records]
    itl_s = [r["inter_token_latency"]["value"] / 1e3 for r in records]
    return _median_run(ttft_s, itl_s, cpu_s, number)


def _median_run(ttft_s: Sequence[float], itl_s: Sequence[float], cpu_s: float, number: int) -> Run:
    assert len(ttft_s) == len(itl_s) == number
    return Run(statistics.median(ttft_s), statistics.median(itl_s), cpu_s, number * OUTPUT_TOKENS)


def _spend(command: Sequence[str]) -> float:
    """Run a program to its end; returns the CPU seconds of it and of all that it waited for."""
    # As if online: a peer that is told that it is offline looks a tokenizer's folder up as a name.
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_HUB_OFFLINE")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, timeout=TIMEOUT_S, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Ours ends with 1 when its client was slow: here that is for the comparison to show.
    assert done.returncode in (0, 1), f"{' '.join(command[:3])}: {done.returncode}\n{done.stderr[-2000:]}"
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _ratios(ours: Sequence[Pair], theirs: Sequence[Pair], orders: Sequence[str]) -> dict[str, Interval]:
    """Ours / theirs over the rounds."""
    both = list(zip(ours, theirs, strict=True))
    means = {
        "ttft": log_ratio([(o.long.ttft_s, t.long.ttft_s) for o, t in both], orders),
        "itl": log_ratio([(o.long.itl_s, t.long.itl_s) for o, t in both], orders),
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
