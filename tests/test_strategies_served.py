"""Strategies on real servers: a pocket model that answers, one that goes away, one that does not know `n`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from harness.backends.llamacpp import LlamaCppBackend
from harness.backends.openai import OpenAIBackend
from harness.grading import CodeGrader
from harness.launchers import EmbeddedLauncher
from harness.launchers.canned import CannedServer, replaying
from harness.models import gguf_path
from harness.strategies import (
    BackendSampler,
    BestOfN,
    Budget,
    Candidate,
    Diverse,
    Outcome,
    Question,
    SelfConsistency,
    Single,
    Strategy,
    VisibleTests,
)
from harness.strategies.tasks import Judge, pocket

FREE = Budget()
QUESTION = Question(id="q", prompt="1 + 1?", max_tokens=10, read=lambda text: text.strip() or None)


@pytest.fixture(scope="module")
def nano() -> Iterator[str]:
    """A real pocket model with four slots."""
    with EmbeddedLauncher(gguf=gguf_path("nano"), model="nano", n_parallel=4).launch() as server:
        yield server.url


def test_a_real_model_draws_the_same_answers_in_every_way(nano: str) -> None:
    """One request for four, four at once, four in turn: the same texts and counts, by the server's seeds."""
    task = pocket.tasks("fix", 1)[0]

    async def draw(way: str, at_once: int) -> Outcome:
        backend = LlamaCppBackend(nano, model="nano")
        try:
            sampler = BackendSampler(backend, way=way, at_once=at_once)
            return await SelfConsistency(num=4, temperature=1.0).solve(task.question, sampler, FREE, seed=3)
        finally:
            await backend.aclose()

    ways = [("batched", 4), ("concurrent", 4), ("sequential", 1)]
    batched, concurrent, sequential = [asyncio.run(draw(*way)) for way in ways]
    assert [len(outcome.calls) for outcome in (batched, concurrent, sequential)] == [1, 4, 4]
    for outcome in (batched, concurrent):
        assert [one.text for one in outcome.candidates] == [one.text for one in sequential.candidates]
        assert outcome.output_tokens == sequential.output_tokens
        assert outcome.chosen == sequential.chosen
    assert batched.prompt_tokens == (sequential.prompt_tokens or 0) // 4
    assert sequential.calls[0].engine_s is not None


def test_a_server_that_goes_away_costs_its_answers_and_no_more() -> None:
    """What was drawn before is chosen among; the rest are failures that name the server."""
    task = pocket.tasks("fix", 1)[0]
    server = EmbeddedLauncher(gguf=gguf_path("nano"), model="nano", name="small").launch()

    class Leaving(VisibleTests):
        """Lets the server go once the first answer is scored."""

        def score(self, question: Question, candidate: Candidate) -> float | None:
            server.stop()
            return super().score(question, candidate)

    async def run() -> Outcome:
        backend = LlamaCppBackend(server.url, model="nano", name="small")
        try:
            with CodeGrader() as grader:
                verifier = Leaving({"python": grader})
                return await Diverse().solve(task.question, BackendSampler(backend), FREE, verifier)
        finally:
            await backend.aclose()

    outcome = asyncio.run(run())
    assert [call.error is None for call in outcome.calls] == [True, False, False]
    assert outcome.chosen == 0
    assert len(outcome.failures) == 2
    assert "BackendUnreachable: small: " in outcome.failures[0].error


def test_a_server_that_does_not_know_n_is_told_of() -> None:
    """Its one answer is not taken for eight; the remedy stands in the failure."""
    reply = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": {}}
    with CannedServer() as canned:
        canned.behave = replaying(json.dumps(reply).encode(), content_type="application/json")

        async def run() -> Outcome:
            backend = OpenAIBackend(canned.url, model="m", name="small")
            try:
                sampler = BackendSampler(backend, way="batched", at_once=8)
                return await SelfConsistency(num=8).solve(QUESTION, sampler, FREE)
            finally:
                await backend.aclose()

        outcome = asyncio.run(run())
    assert outcome.chosen is None
    assert "gave 1 of 8 answers" in outcome.failures[0].error
    assert "send 8 requests instead" in outcome.failures[0].error


def test_a_verifier_of_visible_tests_helps_a_real_model(nano: str) -> None:
    """Best of four solves what one greedy answer does not; the judge's tests are others."""
    tasks = pocket.tasks("fix", 40)

    async def solved(strategy: Strategy, verifier: Any, judge: Judge) -> list[bool]:
        backend = LlamaCppBackend(nano, model="nano")
        sampler = BackendSampler(backend, way="batched", at_once=4)
        try:
            outcomes = [await strategy.solve(t.question, sampler, FREE, verifier, seed=1) for t in tasks]
        finally:
            await backend.aclose()
        assert not any(outcome.failures for outcome in outcomes)
        return [judge.is_solved(t, o.text) for t, o in zip(tasks, outcomes, strict=True)]

    with CodeGrader() as grader:
        judge, verifier = Judge({"python": grader}), VisibleTests({"python": grader})
        single = asyncio.run(solved(Single(), None, judge))
        best = asyncio.run(solved(BestOfN(num=4, temperature=1.0), verifier, judge))
    assert sum(best) > sum(single) > 0
