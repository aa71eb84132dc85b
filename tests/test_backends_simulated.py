"""A simulated engine keeps the laws of queues, its constants have sources, and it says what it is."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backends import Backend, Chunk, Completion, Message, Request
from harness.backends.simulated import CHARS_PER_TOKEN, SimulatedBackend, count_tokens
from harness.clock import now_s, run_virtual
from harness.errors import (
    BackendBroken,
    BackendRejected,
    BackendTimeout,
    BackendUnreachable,
    ModelError,
    UsageError,
)
from harness.launchers.inprocess import SimulatedLauncher
from harness.load import offer
from harness.models import devices, get
from harness.models.simulated import FILE, Timing, find, load, timing
from harness.models.simulated_engine import SimulatedEngine
from harness.routers import FixedRouter
from harness.workflow import Endpoint, EngineTimePrice, run_tasks
from harness.workflow.workload import load as load_workload

BENCH = Path(__file__).parents[1] / "bench"
ANY_TIMING = Timing(read_s=0.5, token_s=0.0625, kv_s=0.015625)
"""Powers of two, so that sums of times are exact and ties are ties."""


class Asked(NamedTuple):
    """One request of a trace."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int


class Seen(NamedTuple):
    """What came of it."""

    arrived_s: float
    begun_s: float
    tokens_s: tuple[float, ...]


class Run(NamedTuple):
    """A whole trace."""

    seen: list[Seen]
    """In the order of the trace."""
    busy_s: float


TRACES = st.lists(
    st.builds(Asked, st.integers(0, 60).map(lambda n: n / 4), st.integers(1, 40), st.integers(1, 6)),
    min_size=1,
    max_size=14,
)


def simulate(
    trace: list[Asked], timing: Timing, slots: int, order: list[int] | None = None, nap_s: float = 1e9
) -> Run:
    """Run a trace in virtual time.

    `order` is the one in which its tasks are made; a task waits for its arrival in naps of `nap_s` at most.
    """
    engine = SimulatedEngine(model="any", timing=timing, slots=slots)

    async def one(asked: Asked) -> Seen:
        while now_s() < asked.arrival_s:
            await asyncio.sleep(min(nap_s, asked.arrival_s - now_s()))
        times_s: list[float] = []
        sequence = engine.submit(asked.prompt_tokens, asked.output_tokens, times_s.append)
        await sequence.done
        return Seen(sequence.arrived_s, sequence.begun_s, tuple(times_s))

    async def everything() -> list[Seen]:
        tasks = {i: asyncio.create_task(one(trace[i])) for i in order or range(len(trace))}
        return [await tasks[i] for i in range(len(trace))]

    return Run(run_virtual(everything()), engine.busy_s)


def union_s(spans: list[tuple[float, float]]) -> float:
    """Length of a union of intervals."""
    total, end = 0.0, float("-inf")
    for begin, close in sorted(spans):
        total += max(0.0, close - max(begin, end))
        end = max(end, close)
    return total


class TestQueue:
    """What holds for every trace."""

    @given(TRACES, st.integers(1, 4))
    def test_it_works_whenever_somebody_is_there(self, trace: list[Asked], slots: int) -> None:
        """Work conservation: it is busy from each arrival to that request's end, and at no other time."""
        run = simulate(trace, ANY_TIMING, slots)
        assert run.busy_s == union_s([(s.arrived_s, s.tokens_s[-1]) for s in run.seen])

    @given(TRACES, st.integers(1, 4))
    def test_first_come_is_first_served(self, trace: list[Asked], slots: int) -> None:
        """Prefills begin in the order of arrival; of equal arrivals, in that of the calls."""
        run = simulate(trace, ANY_TIMING, slots)
        by_arrival = sorted(range(len(trace)), key=lambda i: trace[i].arrival_s)
        begun_s = [run.seen[i].begun_s for i in by_arrival]
        assert begun_s == sorted(begun_s)
        assert len(set(begun_s)) == len(begun_s)

    @given(TRACES, st.integers(1, 4))
    def test_no_more_than_the_slots_at_once(self, trace: list[Asked], slots: int) -> None:
        """From its prefill to its last token a request holds a slot, and there are so many."""
        run = simulate(trace, ANY_TIMING, slots)
        marks = [(s.begun_s, 1) for s in run.seen] + [(s.tokens_s[-1], -1) for s in run.seen]
        assert max(itertools.accumulate(change for _, change in sorted(marks))) <= slots

    @given(TRACES, st.integers(1, 4))
    def test_every_token_comes_and_none_before_its_time(self, trace: list[Asked], slots: int) -> None:
        """The first token comes a prefill after the beginning, each other a step at least after the last."""
        for asked, seen in zip(trace, simulate(trace, ANY_TIMING, slots).seen, strict=True):
            assert seen.arrived_s == asked.arrival_s <= seen.begun_s
            assert len(seen.tokens_s) == asked.output_tokens
            assert seen.tokens_s[0] == seen.begun_s + ANY_TIMING.prefill_s(asked.prompt_tokens)
            gaps_s = [b - a for a, b in itertools.pairwise(seen.tokens_s)]
            assert all(gap_s >= ANY_TIMING.step_s(1, asked.prompt_tokens) for gap_s in gaps_s)

    @given(TRACES, st.integers(1, 4), st.randoms())
    def test_the_order_in_which_tasks_are_made_is_nothing(
        self, trace: list[Asked], slots: int, draw: random.Random
    ) -> None:
        """With distinct arrivals every time is the same, also when one comes at the end of an iteration,
        and whether that end or the arrival was put on the loop's list first.
        """
        trace = list({asked.arrival_s: asked for asked in trace}.values())
        order = list(range(len(trace)))
        draw.shuffle(order)
        run = simulate(trace, ANY_TIMING, slots)
        assert simulate(trace, ANY_TIMING, slots, order) == run
        assert simulate(trace, ANY_TIMING, slots, order, nap_s=0.25) == run

    @given(TRACES)
    def test_one_slot_is_lindleys_recursion(self, trace: list[Asked]) -> None:
        """Alone in the engine, a request begins at its arrival or at the end of the one before it."""
        free_s = 0.0
        order = sorted(range(len(trace)), key=lambda i: trace[i].arrival_s)
        run = simulate(trace, ANY_TIMING, 1)
        for i in order:
            asked, seen = trace[i], run.seen[i]
            assert seen.begun_s == max(asked.arrival_s, free_s)
            free_s = seen.begun_s + ANY_TIMING.prefill_s(asked.prompt_tokens)
            for n in range(1, asked.output_tokens):
                free_s += ANY_TIMING.step_s(1, asked.prompt_tokens + n)
            assert seen.tokens_s[-1] == free_s


class TestBandwidth:
    """Twice the memory bandwidth: reading weights and keys takes half as long."""

    FAST = dataclasses.replace(ANY_TIMING, read_s=ANY_TIMING.read_s / 2, kv_s=ANY_TIMING.kv_s / 2)

    @given(TRACES)
    def test_with_one_slot_no_token_comes_later(self, trace: list[Asked]) -> None:
        """Whatever arrives when."""
        slow, fast = simulate(trace, ANY_TIMING, 1), simulate(trace, self.FAST, 1)
        for one, other in zip(slow.seen, fast.seen, strict=True):
            assert all(b <= a for a, b in zip(one.tokens_s, other.tokens_s, strict=True))

    @given(TRACES, st.integers(1, 4))
    def test_of_requests_that_are_all_there_none_comes_later(self, trace: list[Asked], slots: int) -> None:
        """The iterations are then the same, each of them no longer."""
        trace = [asked._replace(arrival_s=0.0) for asked in trace]
        slow, fast = simulate(trace, ANY_TIMING, slots), simulate(trace, self.FAST, slots)
        for one, other in zip(slow.seen, fast.seen, strict=True):
            assert all(b <= a for a, b in zip(one.tokens_s, other.tokens_s, strict=True))

    def test_with_several_slots_one_request_may_come_later(self) -> None:
        """The anomaly: the faster engine squeezes in a step before the last arrival, which waits for it."""
        trace = [Asked(0.0, 1, 2), Asked(0.25, 16, 1), Asked(1.5, 8, 1)]
        slow, fast = simulate(trace, ANY_TIMING, 3), simulate(trace, self.FAST, 3)
        gains_s = [a.tokens_s[-1] - b.tokens_s[-1] for a, b in zip(slow.seen, fast.seen, strict=True)]
        assert gains_s == [1.015625, 0.25, -0.015625]


class TestWaiting:
    """Mean waits are those of queueing theory."""

    @pytest.mark.parametrize("load_", [0.3, 0.7])
    def test_one_slot_waits_as_pollaczek_and_khinchine_say(self, load_: float) -> None:
        """M/D/1: Poisson arrivals and a constant service give a mean wait of ρD / 2(1 − ρ).

        Twelve runs of 2,000 answers of one token; the theory lies within their 99.9 % interval, and that is
        no wider than 15 % of the theory to either side.
        """
        service_s = 2.0
        rate, theory_s = load_ / service_s, load_ * service_s / (2 * (1 - load_))
        engine = SimulatedEngine(model="any", timing=Timing(read_s=service_s), slots=1)

        def mean_wait_s(seed: int) -> float:
            draw = random.Random(seed)
            due_s = list(itertools.accumulate(draw.expovariate(rate) for _ in range(2000)))

            async def work(index: int, intended_s: float) -> float:
                sequence = engine.submit(1, 1)
                await sequence.done
                return sequence.begun_s - sequence.arrived_s

            return fmean(run_virtual(offer(due_s, work)).results[200:])

        means_s = [mean_wait_s(seed) for seed in range(12)]
        half_s = 4.437 * stdev(means_s) / sqrt(12)  # Student's t of 11 degrees, 99.9 %
        assert abs(fmean(means_s) - theory_s) < half_s < 0.15 * theory_s

    @given(st.integers(1, 12), st.integers(1, 4), st.integers(2, 8))
    @settings(max_examples=20)
    def test_a_closed_loop_keeps_littles_law(self, users: int, slots: int, length: int) -> None:
        """The number in the system is throughput times latency: so many as there are users."""
        engine = SimulatedEngine(model="any", timing=ANY_TIMING, slots=slots)
        rounds = 60

        async def user() -> list[tuple[float, float]]:
            spans = []
            for _ in range(rounds):
                began_s = now_s()
                await engine.submit(4, length).done
                spans.append((began_s, now_s()))
            return spans

        async def crowd() -> list[list[tuple[float, float]]]:
            return await asyncio.gather(*(user() for _ in range(users)))

        spans = [span for own in run_virtual(crowd()) for span in own]
        end_s = max(end for _, end in spans)
        throughput, latency_s = len(spans) / end_s, fmean(end - begin for begin, end in spans)
        assert throughput * latency_s == pytest.approx(users, rel=0.05)
        assert engine.busy_s == end_s

    def test_batches_share_the_reading_of_the_weights(self) -> None:
        """Eight answers decoded together take hardly longer than one, until computing is what limits."""
        trace = [Asked(0.0, 1, 100)] * 8
        light, heavy = Timing(read_s=1.0, token_s=0.01), Timing(read_s=1.0, token_s=0.5)
        assert simulate(trace, light, 8).busy_s == pytest.approx(8 + 99)
        assert simulate(trace, heavy, 8).busy_s == pytest.approx(8 + 99 * 4)
        assert simulate(trace, light, 1).busy_s == pytest.approx(800)


def launched(**options: Any) -> SimulatedBackend:
    server = SimulatedLauncher(name="large", **{"model": "mistral-7b", "device": "h100", **options}).launch()
    return SimulatedBackend(server.held, name="large")  # type: ignore[arg-type]


def ask(backend: Backend, *requests: Request) -> list[Completion]:
    async def answer() -> list[Completion]:
        return [await backend.generate(request) for request in requests]

    return run_virtual(answer())


CHAT = Request(messages=(Message("system", "be brief"), Message("user", "hello")), max_tokens=20)


class TestBackend:
    """What a caller sees."""

    def test_the_text_says_that_it_is_simulated(self) -> None:
        """It begins so, and its length is the tokens asked for at four characters each."""
        [answer] = ask(launched(), CHAT)
        assert answer.text.startswith("[simulated] ")
        assert (answer.output_tokens, answer.finish_reason) == (20, "length")
        assert count_tokens(answer.text) == 20
        assert answer.prompt_tokens == count_tokens("be brief\nhello")
        assert answer.token_logprobs is None

    @given(st.text(max_size=50))
    def test_tokens_are_characters_by_four(self, text: str) -> None:
        """Rounded up, and at least one."""
        assert (count_tokens(text) - 1) * CHARS_PER_TOKEN < max(1, len(text)) <= count_tokens(text) * 4

    def test_times_are_the_rooflines(self) -> None:
        """A prefill and steps of one, to the last digit, in virtual time."""
        backend = launched()
        t = backend.engine.timing
        [answer] = ask(backend, CHAT)
        steps_s = sum(t.step_s(1, answer.prompt_tokens + n) for n in range(1, 20))
        assert answer.engine.prefill_s == t.prefill_s(answer.prompt_tokens) == answer.ttft_s
        assert answer.engine.decode_s == pytest.approx(steps_s, rel=1e-12)
        assert answer.e2e_latency_s == pytest.approx(t.prefill_s(answer.prompt_tokens) + steps_s, rel=1e-12)
        assert answer.engine.queue_s == 0.0

    def test_streamed_and_whole_answers_are_the_same(self) -> None:
        """Chunks join to the text, each with its time; a whole answer has none."""
        seen: list[Chunk] = []
        backend = launched()
        streamed = run_virtual(backend.generate(CHAT, seen.append))
        [whole] = ask(backend, dataclasses.replace(CHAT, stream=False))
        assert "".join(chunk.text for chunk in seen) == streamed.text == whole.text
        assert tuple(chunk.time_s for chunk in seen) == streamed.chunk_times_s
        assert (whole.first_token_s, whole.chunk_times_s) == (None, ())
        assert whole.e2e_latency_s == streamed.e2e_latency_s

    def test_a_stop_string_ends_the_answer_before_it(self) -> None:
        """And the tokens after it are not decoded."""
        backend = launched()
        [free] = ask(backend, CHAT)
        [stopped] = ask(backend, dataclasses.replace(CHAT, stop=(free.text[30:33], "never there")))
        assert stopped.text == free.text[: free.text.index(free.text[30:33])]
        assert stopped.finish_reason == "stop"
        assert stopped.output_tokens < free.output_tokens
        assert stopped.done_s < free.done_s

    def test_seeds_decide_what_is_drawn(self) -> None:
        """Greedy text depends on the prompt alone, sampled text on the seed too."""
        backend = launched()
        drawn = [dataclasses.replace(CHAT, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
        first, again, other = (answer.text for answer in ask(backend, *drawn))
        assert first == again != other
        greedy = [dataclasses.replace(CHAT, seed=seed) for seed in (1, 2)]
        assert len({answer.text for answer in ask(backend, *greedy)}) == 1

    def test_lengths_are_drawn_from_the_distribution_named(self) -> None:
        """Geometric with the stated mean, cut at `max_tokens`; told to go on, an answer has them all."""
        backend = launched(output="alpaca")
        requests = [Request(prompt=f"{i}", max_tokens=1500, stream=False) for i in range(400)]
        lengths = [answer.output_tokens for answer in ask(backend, *requests)]
        assert fmean(lengths) == pytest.approx(58.45, abs=4 * 58 / sqrt(400))
        assert min(lengths) >= 1
        short, going_on = ask(
            backend,
            Request(prompt="0", max_tokens=1500),
            Request(prompt="0", max_tokens=1500, ignore_eos=True),
        )
        assert (short.output_tokens, short.finish_reason) == (lengths[0], "stop")
        assert (going_on.output_tokens, going_on.finish_reason) == (1500, "length")

    def test_it_answers_on_an_ordinary_loop_in_real_time(self) -> None:
        """Sleeping as long as it would take: never sooner, and the engine's own times are the model's."""
        backend = launched(model="qwen")
        answer = asyncio.run(backend.generate(CHAT))
        [virtual] = ask(backend, CHAT)
        assert answer.e2e_latency_s >= virtual.e2e_latency_s
        assert answer.engine.decode_s == pytest.approx(virtual.engine.decode_s)
        marks = [answer.sent_s, *answer.chunk_times_s, answer.done_s]
        assert marks == sorted(marks)
        assert answer.text == virtual.text

    def test_ten_thousand_requests_go_through(self) -> None:
        """More than the engine can serve at once: all are answered, at its own throughput."""
        backend = launched()

        async def work(index: int, intended_s: float) -> Completion:
            request = Request(prompt="x" * 400, max_tokens=(50, 150, 30)[index % 3], stream=False)
            return await backend.generate(request)

        answers = run_virtual(offer([i / 500 for i in range(10_000)], work)).results
        assert sum(answer.output_tokens for answer in answers) == 10_000 // 3 * 230 + 50
        assert max(answer.done_s for answer in answers) == pytest.approx(backend.engine.busy_s)
        assert backend.engine.num_running == 0

    def test_what_slows_it_is_counted(self) -> None:
        """A slowed backend answers later by its share."""
        engine = launched().engine
        plain, slowed = (SimulatedBackend(engine, slowdown=share) for share in (0.0, 0.5))
        [one], [other] = ask(plain, CHAT), ask(slowed, CHAT)
        assert other.e2e_latency_s == pytest.approx(1.5 * one.e2e_latency_s)
        with pytest.raises(ValueError, match="slowdown is -1"):
            SimulatedBackend(engine, slowdown=-1)

    def test_a_schema_is_checked_and_not_read(self) -> None:
        """Filler is no JSON."""
        [answer] = ask(launched(), dataclasses.replace(CHAT, json_schema={"type": "object"}))
        assert answer.schema_error is not None


class TestTrouble:
    """What goes wrong is said, and leaves nothing behind."""

    def test_cancelling_frees_the_slot(self) -> None:
        """Of requests that run or wait, those cancelled are gone and the others get their turn."""
        backend = launched(slots=2)

        async def cancel() -> tuple[int, Completion]:
            tasks = [asyncio.create_task(backend.generate(CHAT)) for _ in range(5)]
            await asyncio.sleep(0.03)
            for task in (tasks[0], tasks[1], tasks[3]):
                task.cancel()
            await asyncio.sleep(0)
            left = backend.engine.num_running
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert [isinstance(a, asyncio.CancelledError) for a in answers] == [
                True,
                True,
                False,
                True,
                False,
            ]
            return left, answers[4]  # type: ignore[return-value]

        left, last = run_virtual(cancel())
        assert left == 2
        assert last.output_tokens == 20
        assert backend.engine.num_running == 0
        [answer] = ask(backend, CHAT)
        assert answer.engine.queue_s == 0.0

    def test_a_deadline_is_on_the_same_clock(self) -> None:
        """The error names role and limit, and comes at its time."""
        backend = SimulatedBackend(launched(device="origin-ollama").engine, name="large", timeout_s=2.5)

        async def late() -> float:
            with pytest.raises(BackendTimeout, match=r"large: no whole answer .* within 2\.5 s"):
                await backend.generate(CHAT)
            return now_s()

        assert run_virtual(late()) == 2.5
        assert backend.engine.num_running == 0

    def test_what_on_chunk_raises_reaches_the_caller(self) -> None:
        """As it is, and the slot is free again."""
        backend = launched()

        def fail(_: Chunk) -> None:
            raise LookupError("the caller's own")

        with pytest.raises(LookupError, match="own"):
            run_virtual(backend.generate(CHAT, fail))
        assert backend.engine.num_running == 0

    def test_a_stopped_engine_fails_what_it_has_and_what_comes(self) -> None:
        """Both errors name role and model."""
        server = SimulatedLauncher(model="qwen", name="small").launch()
        backend = SimulatedBackend(server.held, name="small")  # type: ignore[arg-type]

        async def stop() -> None:
            task = asyncio.create_task(backend.generate(CHAT))
            await asyncio.sleep(0)
            server.stop()
            with pytest.raises(
                BackendBroken, match=r"small: .* of Qwen2\.5-0\.5B-Instruct was stopped before"
            ):
                await task
            with pytest.raises(BackendUnreachable, match=r"small: .* launch it again"):
                await backend.ready()

        run_virtual(stop())

    def test_a_request_beyond_the_context_is_refused(self) -> None:
        """The message has both lengths and the limit."""
        with pytest.raises(BackendRejected, match="large: a prompt of 2 tokens and an answer of 2047 exceed"):
            ask(launched(), Request(prompt="hello", max_tokens=2047))

    def test_a_loop_that_ended_leaves_nothing(self) -> None:
        """A run that was broken off in the middle does not hold up the next one."""
        backend = launched(slots=1)

        async def leave() -> None:
            asyncio.create_task(backend.generate(CHAT))  # noqa: RUF006
            await asyncio.sleep(0)

        run_virtual(leave())
        [answer] = ask(backend, CHAT)
        assert answer.sent_s == answer.chunk_times_s[0] - backend.engine.timing.read_s

    @pytest.mark.parametrize(
        ("options", "error", "says"),
        [
            ({"model": "gpt-4"}, ModelError, "large: no simulated model 'gpt-4'; choose one of Mistral"),
            ({"device": "v100"}, ModelError, "large: no simulated Mistral.* on 'v100'; choose one of H100"),
            ({"device": "origin"}, ModelError, "large: more than one simulated .* on 'origin'"),
            ({"output": "zipf"}, ModelError, "large: no distribution of lengths 'zipf'; choose one of cap"),
            ({"slots": 0}, UsageError, "large: slots is 0, and must be at least 1"),
        ],
    )
    def test_what_is_not_known_is_said(self, options: Any, error: type[Exception], says: str) -> None:
        """With what there is to choose from."""
        with pytest.raises(error, match=says):
            launched(**options)


class TestConstants:
    """Numbers are data, each with its source."""

    def test_every_row_can_be_run_and_has_a_source(self) -> None:
        """And an engine's load is known just where its bandwidth is."""
        for row in load().engines.values():
            assert row.source
            assert find(row.model, row.device) is row
            assert timing(row).read_s > 0
            assert (timing(row).load_s is None) == (row.load_bytes_per_s is None)
        assert all(row.source for row in load().outputs.values())

    def test_a_derived_row_is_the_roofline_of_the_registry(self) -> None:
        """Weights over bandwidth, operations over peak, keys and values over bandwidth."""
        spec, device = get("Mistral-7B-Instruct-v0.3"), devices()["H100-SXM"]
        derived = timing(find("mistral", "h100-sxm"))
        assert derived.read_s == pytest.approx(2 * spec.params / 3.35e12)
        assert derived.token_s == pytest.approx(2 * spec.params / 989.5e12)
        assert derived.kv_s == pytest.approx(131072 / device.memory_bandwidth_bytes_per_s)
        assert derived.load_s == pytest.approx(2 * spec.params / 64e9)

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ('dtype = "bf16"', 'dtyp = "bf16"', "unknown key 'dtyp'"),
            ("slots = 128", "", "key 'slots' is missing"),
            ("slots = 128", "slots = 1.5", "slots is 1.5; it must be of type int"),
            ("slots = 128", "slots = 0", "slots is 0; it must be positive"),
            ("slots = 128", "slots = 256", "256 contexts of 2048 tokens need .* GB of 80.0; lower slots"),
            ('device = "H100-SXM"', 'device = "H100"', "unknown device 'H100'; use A100-80G"),
            ('dtype = "bf16"', 'dtype = "int4"', "no peak for dtype 'int4'"),
            ("load_bytes_per_s = 64e9", 'load_bytes_per_s = "64"', "'64'; it must be of type float"),
            ('model = "Mistral-7B-Instruct-v0.3"', 'model = "GPT-4"', "unknown model 'GPT-4'"),
            ("[[engine]]", "[[engines]]", r"unknown table 'engines'; use \[\[engine"),
            ("[[engine]]", "[[engine", "cannot be read"),
        ],
    )
    def test_a_file_that_makes_no_sense_is_refused(
        self, tmp_path: Path, old: str, new: str, says: str
    ) -> None:
        """The message names file, row and key."""
        path = tmp_path / "constants.toml"
        path.write_text(FILE.read_text().replace(old, new, 1))
        with pytest.raises(ModelError, match=says):
            load(path)


class TestReplay:
    """The cascade of the seeds, through the same executor, in virtual time."""

    def test_the_published_times_come_out_again(self) -> None:
        """20 tasks of 50, 150 and 30 tokens take what the origin measured, within its constants' rounding."""
        total_s = {letters: self.replay(letters) for letters in ("LLL", "SLS")}
        assert total_s["LLL"] == pytest.approx(51.91, rel=0.02)
        assert total_s["SLS"] == pytest.approx(36.57, rel=0.02)

    @staticmethod
    def replay(letters: str) -> float:
        """Seconds of 20 tasks, one after the other."""
        workload = load_workload(BENCH / "workloads" / "swe20.json")
        stages = tuple(stage.name for stage in workload.stages)
        endpoints = {}
        for role, model in (("large", "mistral"), ("small", "qwen")):
            backend = launched(model=model, device="origin-sglang")
            price = EngineTimePrice(usd_per_vcpu_hour=1.0)
            endpoints[role] = Endpoint(role, [backend], slots=1, price=price, label=role)
        router = FixedRouter.from_letters(letters, stages)

        async def run() -> float:
            runs = await run_tasks(workload, workload.tasks, router, endpoints)
            assert [len(r.attempts) for r in runs] == [3] * 20
            assert not any(r.error for r in runs)
            return now_s()

        return run_virtual(run())
