"""Loads on a real server: every request is an entry, from one process or several, whatever fails."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends import Message, Request, parse_backend
from harness.backends.fake import FakeBackend
from harness.backends.openai import OpenAIBackend
from harness.clock import run_virtual
from harness.errors import LoadError, UsageError
from harness.launchers.canned import CannedServer, answering, breaking_off, refusing
from harness.load import Alarm, constant, hold, offer, read_log
from harness.load.__main__ import main
from harness.load.asking import Listed, MadeUp, read_prompts, words_for
from harness.load.metrics import SLO
from harness.load.report import report
from harness.load.scenario import ClosedLoop, OpenLoop, Scenario, drive
from harness.load.table import text_of
from harness.load.workers import Target, drive_with

ROOT = Path(__file__).parent.parent
ASKING = MadeUp(num_words=(4,), output_tokens=(3,))


@pytest.fixture
def canned() -> Iterator[CannedServer]:
    with CannedServer() as server:
        yield server


def open_loop(number: int, window_s: float = 0.2) -> OpenLoop:
    return OpenLoop(due_s=constant(number / window_s, number), window_s=window_s)


def target(server: CannedServer) -> Target:
    return Target(spec=parse_backend(f"load=openai+{server.url}"), url=server.url, model="canned")


def driven(server: CannedServer, scenario: Scenario):  # type: ignore[no-untyped-def]
    async def run():  # type: ignore[no-untyped-def]
        backend = OpenAIBackend(server.url, model="canned", timeout_s=20)
        try:
            return await drive(scenario, backend)
        finally:
            await backend.aclose()

    return asyncio.run(run())


def test_every_arrival_becomes_an_entry(canned: CannedServer, tmp_path: Path) -> None:
    """What the server counted, what the client saw, and the log hold the same."""
    path = tmp_path / "requests.jsonl"
    found = driven(canned, Scenario(loop=open_loop(10), asking=ASKING, log=str(path)))
    assert [e.index for e in found.entries] == list(range(10))
    assert {e.output_tokens for e in found.entries} == {3}
    assert {len(e.chunk_times_s) for e in found.entries} == {3}
    assert all(
        e.intended_s <= e.dispatched_s <= e.sent_s < e.written_s < e.first_token_s <= e.done_s
        for e in found.entries
    )
    assert all(e.dispatch_delay_s == e.written_s - e.intended_s for e in found.entries)
    assert [e.index for e in read_log(path)] == list(range(10))
    assert len(canned.exchanges) == 10


def test_failures_are_entries_and_the_load_goes_on(canned: CannedServer) -> None:
    """A refused request and one that breaks off are named by class and message; the others are answered."""
    good, bad, broken = answering(), refusing(400, "no"), breaking_off(1)

    async def behave(exchange):  # type: ignore[no-untyped-def]
        number = canned.exchanges.index(exchange)
        await {2: bad, 5: broken}.get(number, good)(exchange)

    canned.behave = behave
    loop = ClosedLoop(concurrency=1, num_requests=8)
    found = driven(canned, Scenario(loop=loop, asking=ASKING))
    errors = {e.index: e.error for e in found.entries if e.error}
    assert errors.keys() == {2, 5}
    assert errors[2].startswith("BackendRejected")
    assert errors[5].startswith("BackendBroken")
    summary = report(loop, found, slo=SLO(ttft_s=10))
    assert summary.num_failed == 2
    assert set(summary.errors) == set(errors.values())


def test_a_closed_loop_holds_its_concurrency() -> None:
    """Three users of one second each, who think for half of one, ask nine times in three rounds."""
    intended_s = run_virtual(_intended(3, 9, 0.5))
    assert intended_s == pytest.approx([0.0] * 3 + [1.5] * 3 + [3.0] * 3)


async def _intended(users: int, number: int, think_s: float) -> list[float]:
    async def work(index: int, intended_s: float) -> float:
        await asyncio.sleep(1.0)
        return intended_s

    return (await hold(users, work, num_requests=number, think_s=think_s)).results


def test_a_closed_loop_ends_with_its_duration() -> None:
    """No piece begins after it, and every piece that began is waited for."""

    async def run() -> list[float]:
        async def work(index: int, intended_s: float) -> float:
            await asyncio.sleep(1.0)
            return intended_s

        return (await hold(2, work, duration_s=2.5)).results

    assert run_virtual(run()) == pytest.approx([0.0, 0.0, 1.0, 1.0, 2.0, 2.0])


@pytest.mark.parametrize(("users", "number", "think_s"), [(0, 1, 0.0), (1, None, 0.0), (1, 1, -1.0)])
def test_a_closed_loop_that_makes_no_sense_is_refused(users: int, number: int | None, think_s: float) -> None:
    """No users, no end, or time running backwards."""

    async def work(index: int, intended_s: float) -> None: ...

    with pytest.raises(UsageError, match="give at least one user"):
        asyncio.run(hold(users, work, num_requests=number, think_s=think_s))


def test_an_alarm_rings_in_order_and_not_early() -> None:
    """Whoever asked for the sooner instant wakes first; nobody wakes before it."""
    from harness.clock import now_s

    async def run() -> list[tuple[int, float]]:
        begin_s, woken = now_s(), []

        async def wait(number: int, due_s: float) -> None:
            await alarm.until(due_s)
            woken.append((number, now_s() - due_s))

        with Alarm() as alarm:
            await asyncio.gather(*(wait(n, begin_s + 0.01 * (5 - n)) for n in range(5)))
        return woken

    woken = asyncio.run(run())
    assert [number for number, _ in woken] == [4, 3, 2, 1, 0]
    assert all(late_s >= 0 for _, late_s in woken)


def test_an_alarm_leaves_no_descriptor() -> None:
    """Ten loads open and close ten timers."""

    async def run() -> None:
        with Alarm() as alarm:
            await alarm.until(0.0)

    asyncio.run(run())
    before = len(os.listdir("/dev/fd"))
    for _ in range(10):
        asyncio.run(run())
    assert len(os.listdir("/dev/fd")) == before


def test_an_open_loop_begins_when_told() -> None:
    """Workers that share an instant share every due time."""

    async def work(index: int, intended_s: float) -> float:
        return intended_s

    async def run() -> list[float]:
        return (await offer((0.0, 1.0), work, begin_s=5.0)).results

    assert run_virtual(run()) == [5.0, 6.0]


@given(st.integers(1, 40), st.integers(1, 5))
def test_workers_share_out_every_arrival_once(number: int, workers: int) -> None:
    """The shares of the workers, put together, are the load."""
    whole = Scenario(loop=open_loop(number), asking=ASKING)
    if number < workers:
        with pytest.raises(UsageError, match="too few"):
            whole.share(0, workers)
        return
    shares = [whole.share(w, workers) for w in range(workers)]
    dues = {
        local * s.num_workers + s.worker: due
        for s in shares
        for local, due in enumerate(s.loop.due_s)  # type: ignore[union-attr]
    }
    assert dues == dict(enumerate(whole.loop.due_s))  # type: ignore[union-attr]


@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 5))
def test_workers_share_out_every_user_and_request(users: int, number: int, workers: int) -> None:
    """None is lost to rounding."""
    if users < workers:
        return
    whole = Scenario(loop=ClosedLoop(concurrency=users, num_requests=number), asking=ASKING)
    loops = [whole.share(w, workers).loop for w in range(workers)]
    assert sum(loop.concurrency for loop in loops) == users  # type: ignore[union-attr]
    assert sum(loop.num_requests for loop in loops) == number  # type: ignore[union-attr,misc]


def test_two_workers_offer_one_load(canned: CannedServer, tmp_path: Path) -> None:
    """Every request once, in order, from both processes, at the times of the one pattern; nothing is left."""
    path = tmp_path / "requests.jsonl"
    scenario = Scenario(loop=open_loop(21), asking=ASKING, log=str(path))
    found = drive_with(2, scenario, target(canned))
    assert [e.index for e in found.entries] == list(range(21))
    assert [e.intended_s for e in found.entries] == pytest.approx(list(scenario.loop.due_s), abs=1e-6)  # type: ignore[union-attr]
    assert {e.worker for e in found.entries} == {0, 1}
    assert len(found.cpu) == 2
    assert [e.index for e in read_log(path)] == list(range(21))
    assert not [
        c for c in psutil.Process().children(recursive=True) if "load worker" in " ".join(c.cmdline())
    ]


def test_a_worker_that_is_killed_is_named(canned: CannedServer) -> None:
    """Its requests are lost, so there is an error and no result, and the other worker ends too."""
    before = set(psutil.Process().children())
    canned.behave = killing_the_client(before)
    with pytest.raises(LoadError, match=r"load worker \d of 2 \(pid \d+\) died: killed by SIGKILL"):
        drive_with(2, Scenario(loop=open_loop(6), asking=ASKING), target(canned))
    workers = [p for p in set(psutil.Process().children()) - before if "spawn_main" in " ".join(p.cmdline())]
    assert not workers


def killing_the_client(before):  # type: ignore[no-untyped-def]
    """At the first request, kill one of the processes that were started since."""

    async def behave(exchange) -> None:  # type: ignore[no-untyped-def]
        for child in set(psutil.Process().children()) - before:
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
                return
        await asyncio.sleep(30)

    return behave


def test_a_worker_that_cannot_begin_says_why(canned: CannedServer) -> None:
    """Its own error, with its name."""
    canned.behave_at_models = refusing(503, "loading")
    with pytest.raises(LoadError, match=r"load worker \d of 2: load: .*503"):
        drive_with(2, Scenario(loop=open_loop(4), asking=ASKING), target(canned))


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_load_that_is_stopped_leaves_nothing(
    canned: CannedServer, tmp_path: Path, sign: signal.Signals
) -> None:
    """After Ctrl-C or SIGKILL of the parent its workers are gone, and what had ended is in the log."""
    canned.behave = answering(token_s=0.001)
    path = tmp_path / "requests.jsonl"
    command = [
        sys.executable, "-m", "harness.load", "--url", f"openai+{canned.url}", "--concurrency", "2",
        "--duration", "60", "--workers", "2", "--log", str(path), "--output-tokens", "2",
    ]  # fmt: skip
    # A suite in the background of a shell inherits that interrupts are ignored, and would hand it on.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    load = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    signal.signal(signal.SIGINT, ignored)
    with load:
        wait_for(lambda: path.exists() and path.stat().st_size > 0)
        family = [psutil.Process(load.pid), *psutil.Process(load.pid).children(recursive=True)]
        load.send_signal(sign)
        _, said = load.communicate(timeout=30)
    wait_for(lambda: not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE])
    assert load.returncode == (130 if sign == signal.SIGINT else -sign)
    if sign == signal.SIGINT:
        assert said == b"interrupted: nothing is reported\n"
    assert read_log(path)


def wait_for(holds) -> None:  # type: ignore[no-untyped-def]
    ends_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends_s
        time.sleep(0.02)


def test_the_command_line_prints_json(canned: CannedServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The same object as the table, with the formulas and the rule's verdict."""
    args = ["--url", canned.url, "--rate", "100", "--requests", "40", "--warmup-s", "0.1", "--json"]
    status = main([*args, "--slo-ttft-ms", "5000", "--output-tokens", "4"])
    found = json.loads(capsys.readouterr().out)
    assert status == (0 if found["valid"] else 1)
    assert found["num_requests"] == 40
    assert 0 < found["num_counted"] < 40
    assert found["num_failed"] == 0
    assert found["output_tokens"] == 4
    assert found["latencies"]["ttft_s"]["quantiles"][3]["value"] is None
    assert found["formulas"]["ttft_s"] == "first chunk with text - intended start"


def test_the_table_fits_100_columns(canned: CannedServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Formulas, reasons and all; an error as long as they get."""
    main(["--url", canned.url, "--concurrency", "2", "--requests", "20", "--output-tokens", "4"])
    canned.behave = refusing(400, "no " * 200)
    prompts = ROOT / "README.md"
    main(["--url", canned.url, "--concurrency", "2", "--requests", "5", "--prompts", str(prompts)])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "tpot_s = (done - first chunk) / (output tokens - 1)" in out
    assert "p99: 20 of the 368 requests that it needs" in out
    assert "5 failed BackendRejected" in out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--rate", "5"], "how much? give --requests N or --duration S"),
        (["--rate", "5", "--requests", "5", "--duration", "1"], "give one of them"),
        (["--rate", "5", "--duration", "1", "--warmup-s", "1"], "the arrivals last 1 s"),
        (["--arrivals", "none.csv"], "none.csv: cannot be read"),
        (["--rate", "5", "--requests", "5", "--prompts", "none.txt"], "none.txt: cannot be read"),
        (["--concurrency", "1", "--requests", "4", "--workers", "2"], "1 users are too few for 2 workers"),
        (["--rate", "5", "--requests", "5", "--log", "/none/x"], "cannot be written"),
        (["--rate", "5", "--requests", "5", "--log", __file__], "exists already"),
        (["--rate", "5", "--requests", "5", "--model", "other"], "not other"),
        (["--rate", "5", "--requests", "5", "--speed", "2"], "--speed 2: has no effect without --arrivals"),
        (["--rate", "5", "--requests", "5", "--think-s", "1"], "no effect without --concurrency"),
        (["--concurrency", "1", "--requests", "5", "--burstiness", "1"], "no effect without --rate"),
    ],
)
def test_what_cannot_be_offered_is_said_in_a_line(
    canned: CannedServer, capsys: pytest.CaptureFixture[str], args: list[str], said: str
) -> None:
    """The exit status is 2, and nothing was offered."""
    assert main(["--url", canned.url, *args]) == 2
    caught = capsys.readouterr()
    assert caught.err.startswith("error: ")
    assert caught.err.count("\n") == 1
    assert said in caught.err
    assert not caught.out


def test_no_server_is_said_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With the address that was tried."""
    assert main(["--backend", "http://127.0.0.1:9?deadline_s=0.2", "--rate", "5", "--requests", "5"]) == 2
    assert "http://127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://127.0.0.1:9?deadline_s=0.2", "http://x:0", "ftp://x"])
def test_an_error_names_the_option_that_was_given(capsys: pytest.CaptureFixture[str], url: str) -> None:
    """Whoever gave `--url` finds no `--backend` with a role in the error."""
    assert main(["--url", url, "--rate", "5", "--requests", "5"]) == 2
    said = capsys.readouterr().err
    assert "--url " in said
    assert "--backend" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit of descriptors")
def test_a_client_that_runs_out_makes_the_measurement_invalid(canned: CannedServer) -> None:
    """With 40 descriptors and no right to more, requests fail here and not at the server: status 1."""
    canned.behave = answering(token_s=0.1)
    load = [sys.executable, "-m", "harness.load", "--url", f"openai+{canned.url}", "--json"]
    load += ["--rate", "200", "--requests", "80", "--output-tokens", "10", "--prompts", "LICENSE"]
    command = ["sh", "-c", 'ulimit -n 40 && exec "$@"', "sh", *load]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert not found["valid"]
    assert 0 < found["num_unsent"] == found["num_failed"] < 80
    [error] = found["errors"]
    assert re.match(r"ClientExhausted: load: this client ran out.*`ulimit -n` \(now 40\)", error)


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit of descriptors")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_load_takes_the_descriptors_that_it_may_have(canned: CannedServer, workers: str) -> None:
    """A soft limit of 60 below a hard one of 4,096 stops no load of 80 requests at once."""
    canned.behave = answering(token_s=0.1)
    load = [sys.executable, "-m", "harness.load", "--url", f"openai+{canned.url}", "--json"]
    load += ["--rate", "800", "--requests", "160", "--output-tokens", "10", "--prompts", "LICENSE"]
    command = ["sh", "-c", 'ulimit -Sn 60 && ulimit -Hn 4096 && exec "$@"', "sh", *load, "--workers", workers]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    found = json.loads(done.stdout)
    assert (found["num_failed"], found["num_unsent"]) == (0, 0), found["errors"]


def test_a_second_run_asks_other_prompts(canned: CannedServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A seed is drawn for each run and printed; given, it asks the same again."""
    load = ["--url", canned.url, "--concurrency", "1", "--requests", "3", "--output-tokens", "2", "--json"]

    def asked(*more: str) -> tuple[int, list[str]]:
        before = len(canned.exchanges)
        main([*load, *more])
        bodies = [exchange.body for exchange in canned.exchanges[before:] if "messages" in exchange.body]
        return json.loads(capsys.readouterr().out)["seed"], [b["messages"][0]["content"] for b in bodies[2:]]

    (first, texts), (second, others) = asked(), asked()
    assert first != second
    assert len(set(texts)) == 3
    assert not set(texts) & set(others)
    assert asked("--seed", str(first)) == (first, texts)


@pytest.mark.parametrize(
    ("cached", "share", "said"),
    [
        (6, 0.5, "50.0% of the prompt tokens"),
        (0, 0.0, "0.0% of the prompt tokens"),
        (None, None, "not counted (by"),
    ],
)
def test_what_a_cache_answered_is_printed(
    canned: CannedServer, cached: int | None, share: float | None, said: str
) -> None:
    """As the server counts it: none is 0, and no count is no number."""
    canned.behave = answering(
        prompt_tokens=12, **({} if cached is None else {"timings": {"cache_n": cached}})
    )
    loop = ClosedLoop(concurrency=1, num_requests=4)
    found = report(loop, driven(canned, Scenario(loop=loop, asking=ASKING)), slo=SLO())
    assert found.cached_share == found.to_json()["cached_share"] == share
    assert said in text_of(found)


def test_recorded_arrivals_have_the_rate_of_their_gaps(canned: CannedServer) -> None:
    """Three arrivals a tenth of a second apart are 10 per second for 0.2 s; made ones fill their window."""
    for loop, rate in ((OpenLoop(due_s=(0.0, 0.1, 0.2), window_s=0.2), 10), (open_loop(4, 0.2), 20)):
        found = report(loop, driven(canned, Scenario(loop=loop, asking=ASKING)), slo=SLO())
        assert found.offered == f"open loop, arrivals, {rate}/s for 0.2 s"


def test_made_up_prompts_differ_from_the_first_word_and_repeat() -> None:
    """No prefix cache answers for them, and the same load is the same again."""
    texts = [ASKING.request(i).messages[0].content for i in range(50)]
    assert len({text.split()[0] for text in texts}) == 50
    assert texts == [ASKING.request(i).messages[0].content for i in range(50)]


def test_the_server_counts_what_words_make() -> None:
    """The fake counts a word as a token, and the number in front as one more."""
    words = asyncio.run(words_for(FakeBackend(), (20, 100)))
    assert words == (19, 99)


def test_a_server_that_counts_nothing_cannot_size_prompts(canned: CannedServer) -> None:
    """A canned count that never grows gives a word per token and not a prompt without end."""

    async def run() -> tuple[int, ...]:
        backend = OpenAIBackend(canned.url, model="canned")
        try:
            return await words_for(backend, (64,))
        finally:
            await backend.aclose()

    assert asyncio.run(run()) == (64,)


def test_prompts_come_from_a_file(tmp_path: Path) -> None:
    """A line each, or objects with lengths of their own; around again at the end."""
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "a.jsonl").write_text('{"prompt": "one", "output_tokens": 3}\n{"prompt": "two"}\n')
    (tmp_path / "b.jsonl").write_text('{"prompt": "one\u2028two\x85"}\n', encoding="utf-8")
    assert read_prompts(tmp_path / "b.jsonl", output_tokens=9).request(0).messages[0].content == (
        "one\u2028two\x85"
    )
    plain = read_prompts(tmp_path / "a.txt", output_tokens=9)
    assert [plain.request(i).messages[0].content for i in range(3)] == ["one", "two", "one"]
    assert [read_prompts(tmp_path / "a.jsonl", output_tokens=9).request(i).max_tokens for i in (0, 1)] == [
        3,
        9,
    ]
    assert plain == Listed(
        requests=tuple(Request(messages=(Message("user", t),), max_tokens=9) for t in ("one", "two"))
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1: no JSON"),
        ('{"text": "x"}', "line 1: holds no prompt"),
        ('{"prompt": "x", "n": 1}', "unknown key 'n'"),
        ('{"prompt": "x", "output_tokens": 0}', "output_tokens is 0"),
        ("\n", "holds no prompt"),
    ],
)
def test_prompts_that_are_none_are_refused(tmp_path: Path, text: str, said: str) -> None:
    """The message names file and line."""
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_prompts(path, output_tokens=1)
