"""What every backend must do, whatever is behind it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from harness.backends import Backend, Chunk, Completion, Message, Request
from harness.errors import BackendTimeout, BackendUnreachable
from tests.conformance.subjects import N_PARALLEL, Subject, run, use

CHAT = Request(messages=(Message("user", "hello"),), max_tokens=24, ignore_eos=True)
PROMPT = Request(prompt="def f(x):\n    return x", max_tokens=24, ignore_eos=True)
LONG = Request(prompt="x", max_tokens=900, ignore_eos=True)
"""Fast engines decode it in 0.1 s: waiting for them to be idle tells nothing of a cancelled call."""


def sampled(seed: int) -> Request:
    """A request at temperature 1."""
    return Request(
        prompt="def f(x):\n    return x", seed=seed, max_tokens=24, ignore_eos=True, temperature=1.0
    )


def test_has_the_protocols_methods(subject: Subject) -> None:
    """The class has the protocol's methods and names its role and model."""
    backend = subject.make()
    assert isinstance(backend, Backend)
    assert backend.model == subject.model
    assert backend.name


@pytest.mark.parametrize("request_", [CHAT, PROMPT], ids=["chat", "prompt"])
class TestStreaming:
    """Answers as they arrive, and whole."""

    def test_chunks_join_to_the_text(self, subject: Subject, request_: Request) -> None:
        """The pieces shown while streaming are the answer, each with its time."""
        backend, seen = subject.make(), []
        [answer] = use(backend, lambda: asyncio.gather(backend.generate(request_, seen.append)))
        assert answer.text
        assert "".join(chunk.text for chunk in seen) == answer.text
        subject.note(f"{len(seen)} chunks for {answer.output_tokens} tokens")
        assert tuple(chunk.time_s for chunk in seen) == answer.chunk_times_s
        assert all(isinstance(chunk, Chunk) and chunk.text for chunk in seen)

    def test_times_are_in_order_on_this_processes_clock(self, subject: Subject, request_: Request) -> None:
        """Sent, first token, chunks and done follow each other between the caller's own readings.

        On a busy machine all chunks of a fast answer may wait in the socket, but not of five in a row.
        """
        request = replace(request_, max_tokens=100)
        for _ in range(5):
            before_s = time.perf_counter()
            [answer] = run(subject.make(), request)
            marks = [before_s, answer.sent_s, *answer.chunk_times_s, answer.done_s, time.perf_counter()]
            assert marks == sorted(marks)
            assert answer.first_token_s == answer.chunk_times_s[0] > answer.sent_s
            if answer.chunk_times_s[0] < answer.chunk_times_s[-1]:
                break
        assert answer.ttft_s is not None
        assert 0 < answer.ttft_s < answer.e2e_latency_s
        assert answer.tpot_s is not None
        assert answer.tpot_s > 0

    def test_a_whole_answer_is_the_streamed_one_without_inner_times(
        self, subject: Subject, request_: Request
    ) -> None:
        """Streaming changes nothing but the times."""
        whole = Request(
            messages=request_.messages, prompt=request_.prompt, max_tokens=24, ignore_eos=True, stream=False
        )
        streamed, unstreamed = run(subject.make(), request_, whole)
        assert unstreamed.text == streamed.text
        assert unstreamed.output_tokens == streamed.output_tokens
        assert unstreamed.prompt_tokens == streamed.prompt_tokens
        assert (unstreamed.first_token_s, unstreamed.chunk_times_s) == (None, ())

    def test_the_length_asked_for_is_the_length_given(self, subject: Subject, request_: Request) -> None:
        """With the end of the answer ignored, exactly `max_tokens` are decoded."""
        [answer] = run(subject.make(), request_)
        assert answer.output_tokens == 24
        assert answer.finish_reason == "length"
        subject.note(f"{answer.output_tokens} of 24 tokens")

    def test_greedy_answers_repeat(self, subject: Subject, request_: Request) -> None:
        """At temperature 0, one request after the other, the text does not change."""
        assert len({answer.text for answer in run(subject.make(), *[request_] * 3)}) == 1


class TestCounts:
    """Tokens as the server counts them."""

    @pytest.mark.parametrize("text", ["a", "def f(x):\n    return x", "Grüße, 世界 🙂"], ids=["1", "2", "3"])
    def test_prompt_tokens_are_the_servers_own(self, subject: Subject, text: str) -> None:
        """The prompt's count is what the server's tokenizer says of it."""
        [answer] = run(subject.make(), Request(prompt=text, max_tokens=1))
        assert answer.prompt_tokens == subject.view.count_tokens(text)
        subject.note(f"{answer.prompt_tokens} tokens")

    def test_an_answer_that_ends_itself_is_shorter_than_its_limit(self, subject: Subject) -> None:
        """Without `ignore_eos`, the model ends its answer, and the count says so."""
        [answer] = run(subject.make(), Request(messages=CHAT.messages, max_tokens=500))
        assert answer.finish_reason == "stop"
        assert answer.output_tokens is not None
        assert 0 < answer.output_tokens < 500
        subject.note(f"{answer.output_tokens} of 500 tokens")


class TestSampling:
    """What changes the answer."""

    def test_a_stop_string_ends_the_answer_before_it(self, subject: Subject) -> None:
        """The text ends where the stop string would begin, and says that it was stopped."""
        [free] = run(subject.make(), PROMPT)
        stop = free.text[len(free.text) // 2 :][:3]
        request = Request(prompt=PROMPT.prompt, max_tokens=24, ignore_eos=True, stop=(stop, "never there"))
        [stopped] = run(subject.make(), request)
        assert stopped.text == free.text[: free.text.index(stop)]
        assert stopped.finish_reason == "stop"

    def test_a_seed_decides_a_sampled_answer(self, subject: Subject) -> None:
        """The same seed gives the same text, other seeds other texts."""
        answers = run(subject.make(), *(sampled(seed) for seed in (1, 1, 2, 3, 4, 5)))
        first, again, *others = (answer.text for answer in answers)
        assert first == again
        assert len({first, *others}) > 2
        subject.note(f"{len({first, *others})} texts of 5 seeds")


class TestTrouble:
    """What goes wrong, and what is left of it."""

    def test_a_cancelled_call_frees_the_server(self, subject: Subject) -> None:
        """Cancelling ends the server's work, by its own account, and the backend answers the next request.

        A quarter of the work is allowed for the delay on a busy machine, of the least of three trials.
        """
        backend, view, calls = subject.make(), subject.view, N_PARALLEL + 1

        async def cancel() -> Completion:
            before = view.work()
            whole = await backend.generate(Request(prompt="x", max_tokens=100, ignore_eos=True))
            assert whole.output_tokens
            await _rest(subject)
            uncancelled = (view.work() - before) / whole.output_tokens * LONG.max_tokens * calls
            for _ in range(3):
                before = view.work()
                for _ in range(calls):
                    await _cancel_one(backend, LONG)
                    await _rest(subject)
                done = view.work() - before
                if done < uncancelled / 4:
                    break
            seen = f"{done:.4g} of {uncancelled:.4g} {view.unit} in {calls} cancelled calls"
            assert done < uncancelled / 4, seen
            subject.note(seen)
            return await backend.generate(PROMPT)

        assert use(backend, cancel).output_tokens == 24

    def test_a_deadline_ends_the_wait(self, subject: Subject) -> None:
        """An answer that takes longer than the deadline is an error that names role and limit."""
        backend = subject.make(timeout_s=0.01)
        with pytest.raises(BackendTimeout, match=rf"{backend.name}: .*0\.01 s"):
            run(backend, Request(prompt="x", max_tokens=900, ignore_eos=True))

    def test_a_server_that_is_not_there_is_not_ready(self, subject: Subject) -> None:
        """`ready` says that nobody answers."""
        backend = subject.make_unreachable()
        with pytest.raises(BackendUnreachable, match=backend.name):
            use(backend, backend.ready)

    def test_a_server_that_is_there_is_ready(self, subject: Subject) -> None:
        """`ready` returns."""
        backend = subject.make()
        use(backend, backend.ready)

    def test_calls_one_after_another_are_all_answered(self, subject: Subject) -> None:
        """Servers drop idle connections when they like; no call is lost by it, whatever the pause."""
        backend, short = subject.make(), Request(prompt="x", max_tokens=2, ignore_eos=True)

        async def converse() -> list[int | None]:
            counts = []
            for i in range(30):
                counts.append((await backend.generate(short)).output_tokens)
                await asyncio.sleep(0.002 * (i % 5))
            return counts

        assert use(backend, converse) == [2] * 30
        subject.note("30 of 30")

    def test_concurrent_calls_get_their_own_answers(self, subject: Subject) -> None:
        """Many calls at once, more than the server has slots, each get the answer to their request."""
        backend = subject.make()
        requests = [
            Request(prompt=" ".join(["a"] * (1 + 3 * i)), max_tokens=1 + i, ignore_eos=True)
            for i in range(32)
        ]

        async def gather() -> list[Completion]:
            return await asyncio.gather(*map(backend.generate, requests))

        alone = run(subject.make(), *requests)
        together = use(backend, gather)
        assert [a.prompt_tokens for a in together] == [a.prompt_tokens for a in alone]
        assert [a.output_tokens for a in together] == [1 + i for i in range(32)]
        subject.note("32 of 32")

    def test_serves_one_event_loop_after_another(self, subject: Subject) -> None:
        """A backend that was left open works again on the next event loop."""
        backend = subject.make()
        for _ in range(2):
            assert asyncio.run(backend.generate(PROMPT)).output_tokens == 24
        use(backend, backend.ready)


async def _cancel_one(backend: Backend, request: Request) -> None:
    """Cancel a call when its first chunk came."""
    started = asyncio.Event()
    task = asyncio.create_task(backend.generate(request, lambda _: started.set()))
    await asyncio.wait_for(started.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _rest(subject: Subject) -> None:
    """Wait until the engine works on nothing."""
    ends_s = time.monotonic() + 20
    while not subject.view.is_idle() and time.monotonic() < ends_s:
        await asyncio.sleep(0.01)
    assert subject.view.is_idle(), "the server still works on a call that nobody waits for"
