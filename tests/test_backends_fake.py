from __future__ import annotations

import asyncio

import pytest

from harness.backends import Backend, Completion, Message, Request
from harness.backends.fake import FakeBackend
from harness.errors import BackendBroken, BackendTimeout


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds
        await asyncio.sleep(0)


def ask(backend: Backend, prompt: str = "x", **fields: object) -> Completion:
    """One answer."""
    request = Request(**{"prompt": prompt, "max_tokens": 100, **fields})  # type: ignore[arg-type]
    return asyncio.run(backend.generate(request))


def test_answers_by_prompt_by_order_or_computed() -> None:
    """A script is a mapping, a sequence that starts again, or a function."""
    by_prompt = FakeBackend({"a": "one", "b": "two"})
    assert [ask(by_prompt, prompt).text for prompt in "ba"] == ["two", "one"]
    in_order = FakeBackend(["one", "two"])
    assert [ask(in_order).text for _ in range(3)] == ["one", "two", "one"]
    computed = FakeBackend(lambda request: f"{request.max_tokens} tokens")
    assert ask(computed).text == "100 tokens"


def test_reads_the_last_message_of_a_chat() -> None:
    """A chat's prompt is what was said last."""
    chat = (Message("system", "be brief"), Message("user", "a"))
    assert ask(FakeBackend({"a": "one"}), prompt=None, messages=chat).text == "one"


def test_time_is_the_injected_clocks() -> None:
    """Prefill before the first token, the token time before each later one, to the last digit."""
    clock = Clock()
    backend = FakeBackend(["a b c"], prefill_s=0.5, token_s=0.25, clock=clock, sleep=clock.sleep)
    answer = ask(backend)
    assert (answer.sent_s, answer.chunk_times_s, answer.done_s) == (100.0, (100.5, 100.75, 101.0), 101.0)
    assert (answer.ttft_s, answer.tpot_s) == (0.5, 0.25)
    assert (answer.engine.prefill_s, answer.engine.decode_s) == (0.5, 0.5)


def test_a_deadline_is_on_the_same_clock() -> None:
    """An answer that takes longer than the deadline fails as a real one would."""
    clock = Clock()
    backend = FakeBackend(["a b c"], token_s=1.0, timeout_s=1.5, clock=clock, sleep=clock.sleep)
    with pytest.raises(BackendTimeout, match=r"fake: .*1\.5 s"):
        ask(backend)


def test_fails_at_the_chosen_calls_alone() -> None:
    """Failures are scripted by the index of the call, and are counted as calls."""
    backend = FakeBackend(["ok"], fail={1: BackendBroken("lost")})
    assert ask(backend).text == "ok"
    with pytest.raises(BackendBroken, match="lost"):
        ask(backend)
    assert ask(backend).text == "ok"
    assert len(backend.requests) == 3


def test_keeps_lengths_and_stop_strings() -> None:
    """`max_tokens`, `ignore_eos` and `stop` hold as they do on a server."""
    backend = FakeBackend(["a b c d"])
    cut = ask(backend, max_tokens=2)
    assert (cut.text, cut.output_tokens, cut.finish_reason) == ("a b", 2, "length")
    whole = ask(backend)
    assert (whole.text, whole.output_tokens, whole.finish_reason) == ("a b c d", 4, "stop")
    stopped = ask(backend, stop=("c", "zzz"))
    assert (stopped.text, stopped.finish_reason) == ("a b ", "stop")
    filled = ask(backend, max_tokens=10, ignore_eos=True)
    assert (filled.output_tokens, filled.finish_reason) == (10, "length")


def test_a_server_without_usage_counts_nothing() -> None:
    """What is not counted is absent, never 0."""
    answer = ask(FakeBackend(["a"], counts_tokens=False))
    assert (answer.prompt_tokens, answer.output_tokens, answer.cached_tokens) == (None, None, None)


def test_shows_how_many_calls_ran_together() -> None:
    """The most calls in flight, and those that were cancelled, are remembered."""
    backend = FakeBackend(["a b"], token_s=0.01)

    async def crowd() -> None:
        calls = [asyncio.create_task(backend.generate(Request(prompt="x", max_tokens=9))) for _ in range(5)]
        await asyncio.sleep(0.001)
        calls[0].cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await backend.aclose()

    asyncio.run(crowd())
    assert (backend.max_running, backend.num_running, backend.num_cancelled) == (5, 0, 1)
    assert backend.is_closed
