"""Strategies on a scripted sampler and on a real pocket model: what they spend, choose, and leave alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backends import Request
from harness.backends.fake import FakeBackend
from harness.errors import BackendBroken, UsageError
from harness.strategies import (
    BackendSampler,
    BestOfN,
    Budget,
    Candidate,
    Diverse,
    Escalate,
    LogProb,
    Outcome,
    Question,
    Reply,
    Reread,
    SelfConsistency,
    Single,
    Step,
    Strategy,
    VisibleTests,
    rechosen,
)

FREE = Budget()
QUESTION = Question(id="q", prompt="1 + 1?", max_tokens=10, read=lambda text: text.strip() or None)


class Scripted:
    """Answers by seed from a list, five tokens of prompt and one per character; some calls fail."""

    def __init__(
        self, answers: Sequence[str], *, way: str = "sequential", at_once: int = 1, name: str = "small",
        fails: Sequence[int] = (), counts: bool = True,
    ) -> None:  # fmt: skip
        self.answers, self.way, self.at_once, self.name = answers, way, at_once, name
        self.fails, self.counts = fails, counts
        self.requests: list[tuple[Request, int]] = []

    async def call(self, request: Request, num: int) -> Reply:
        self.requests.append((request, num))
        if len(self.requests) - 1 in self.fails:
            raise BackendBroken("small: broke off")
        seed = request.seed or 0
        texts = tuple(self.answers[(seed + i) % len(self.answers)][: request.max_tokens] for i in range(num))
        at = float(len(self.requests))
        return Reply(
            texts=texts,
            prompt_tokens=5 if self.counts else None,
            output_tokens=tuple(len(text) if self.counts else None for text in texts),
            token_logprobs=tuple((-float(len(text)), -1.0) if request.logprobs else None for text in texts),
            finish_reasons=("stop",) * num,
            sent_s=at,
            done_s=at + 0.5,
        )


class ByLength:
    """A verifier that likes long answers, and cannot score an empty one."""

    name = "length"
    wants_logprobs = False

    def score(self, question: Question, candidate: Candidate) -> float | None:
        return len(candidate.text) or None


def solve(
    strategy: Strategy, sampler: Any, budget: Budget = FREE, verifier: Any = None, **more: Any
) -> Outcome:
    """Solve the question."""
    return asyncio.run(strategy.solve(more.pop("question", QUESTION), sampler, budget, verifier, **more))


def test_single_asks_once_and_greedily() -> None:
    """One call, its tokens and its time."""
    sampler = Scripted(["two"])
    outcome = solve(Single(), sampler)
    [(request, num)] = sampler.requests
    assert (request.temperature, num, request.max_tokens) == (0.0, 1, 10)
    assert outcome.text == "two"
    assert (outcome.prompt_tokens, outcome.output_tokens, outcome.tokens) == (5, 3, 8)
    assert (outcome.rule, outcome.chosen, outcome.stopped) == ("first", 0, None)
    assert outcome.wall_s >= outcome.sample_s


def test_reread_gives_the_question_twice_in_one_call() -> None:
    """As published: a longer prompt, and no second call."""
    sampler = Scripted(["two"])
    outcome = solve(Reread(), sampler)
    [(request, _)] = sampler.requests
    assert request.messages[0].content == "1 + 1?\nRead the question again: 1 + 1?"
    assert len(outcome.calls) == 1


def test_diverse_sends_each_temperature_and_chooses_by_its_rule() -> None:
    """The cooler of equal answers wins; a verifier takes the vote's place."""
    sampler = Scripted(["a", "bb", "a"])
    outcome = solve(Diverse(), sampler)
    assert [request.temperature for request, _ in sampler.requests] == [0.1, 0.5, 0.9]
    assert [one.temperature for one in outcome.candidates] == [0.1, 0.5, 0.9]
    assert [request.seed for request, _ in sampler.requests] == [0, 1, 2]
    assert (outcome.text, outcome.rule) == ("a", "majority")
    scored = solve(Diverse(), Scripted(["a", "bb", "a"]), verifier=ByLength())
    assert (scored.text, scored.rule) == ("bb", "best score")


def test_best_of_n_takes_the_highest_score_and_the_first_of_equals() -> None:
    """Not candidate 0 whatever it says."""
    outcome = solve(BestOfN(num=4), Scripted(["a", "bbb", "c", "ddd"]), verifier=ByLength(), seed=0)
    assert outcome.chosen == 1
    assert [one.score for one in outcome.candidates] == [1, 3, 1, 3]


def test_best_of_n_without_a_verifier_is_a_mistake() -> None:
    """It would choose by nothing, as the origin does."""
    for strategy in (BestOfN(), Escalate(steps=(Step(strategy=Single()),) * 2)):
        with pytest.raises(UsageError, match=f"{strategy.name}: no verifier"):
            solve(strategy, Scripted(["a"]))


def test_self_consistency_counts_answers_and_not_texts() -> None:
    """Blanks do not divide a vote; an empty text has none; ties go to the first."""
    assert solve(SelfConsistency(num=5), Scripted(["x", " y", "y ", "z", "y"])).chosen == 1
    assert solve(SelfConsistency(num=4), Scripted(["", "x", "y", ""])).text == "x"
    assert solve(SelfConsistency(num=2), Scripted(["", " "])).chosen == 0


def test_escalate_stops_at_the_first_accepted_answer() -> None:
    """The dear step is not asked where the cheap one is good enough."""
    cheap, dear = Scripted(["aaaa", "b"]), Scripted(["cccccc"], name="large")
    strategy = Escalate(steps=(Step(strategy=Single()), Step(strategy=Single(), sampler=dear)), accept=4.0)
    accepted = solve(strategy, cheap, verifier=ByLength(), seed=0)
    assert (accepted.text, len(accepted.calls), dear.requests) == ("aaaa", 1, [])
    deferred = solve(strategy, cheap, verifier=ByLength(), seed=1)
    assert deferred.text == "cccccc"
    assert [call.sampler for call in deferred.calls] == ["small", "large"]
    assert [one.call for one in deferred.candidates] == [0, 1]
    assert [request.seed for request, _ in dear.requests] == [2]


def test_escalate_keeps_the_best_where_nothing_is_accepted() -> None:
    """The highest score of all steps; of equals the dearest."""

    def with_dear(answer: str) -> Outcome:
        dear = Scripted([answer], name="large")
        steps = (Step(strategy=BestOfN(num=2)), Step(strategy=SelfConsistency(num=1), sampler=dear))
        return solve(Escalate(steps=steps, accept=9.0), Scripted(["aa", "bbb"]), verifier=ByLength())

    assert with_dear("c").text == "bbb"
    assert with_dear("ccc").text == "ccc"
    assert with_dear("").text == "bbb"


def test_a_failed_call_is_a_failure_and_the_rest_counts() -> None:
    """It is in the outcome, and its answer is not."""
    outcome = solve(BestOfN(num=3), Scripted(["a", "bb", "ccc"], fails=[2]), verifier=ByLength())
    assert outcome.text == "bb"
    assert [failure.where for failure in outcome.failures] == ["small"]
    assert [call.error is None for call in outcome.calls] == [True, True, False]
    assert outcome.output_tokens == 3
    nothing = solve(Single(), Scripted(["a"], fails=[0]))
    assert nothing.text is None
    assert nothing.chosen is None
    assert "BackendBroken: small: broke off" in nothing.failures[0].error


def test_a_verifier_that_cannot_say_is_a_failure() -> None:
    """An answer without a score is not chosen in silence."""
    outcome = solve(BestOfN(num=2), Scripted(["a", "b"]), verifier=VisibleTests({}))
    assert outcome.chosen is None
    assert [failure.where for failure in outcome.failures] == ["verifier visible tests"] * 2


@pytest.mark.parametrize("measure", ["mean", "min"])
def test_log_probabilities_are_asked_for_and_choose(measure: str) -> None:
    """The likelier answer wins: here the shorter."""
    sampler = Scripted(["aaaa", "b", "cc"])
    outcome = solve(BestOfN(num=3), sampler, verifier=LogProb(measure))
    assert all(request.logprobs for request, _ in sampler.requests)
    assert outcome.text == "b"


def test_batches_are_as_large_as_the_server_takes() -> None:
    """Seven answers of a server with four slots are two requests; of one without batches seven."""
    batched = Scripted(["a", "b"], way="batched", at_once=4)
    outcome = solve(SelfConsistency(num=7), batched)
    assert [num for _, num in batched.requests] == [4, 3]
    assert [request.seed for request, _ in batched.requests] == [0, 4]
    assert [one.seed for one in outcome.candidates] == list(range(7))
    assert outcome.prompt_tokens == 10
    at_once = Scripted(["a", "b"], way="concurrent", at_once=4)
    together = solve(SelfConsistency(num=7), at_once)
    assert [num for _, num in at_once.requests] == [1] * 7
    assert [one.text for one in together.candidates] == [one.text for one in outcome.candidates]


@given(
    way=st.sampled_from(["sequential", "concurrent", "batched"]),
    tokens=st.integers(1, 200),
    num=st.integers(1, 12),
    at_once=st.integers(1, 5),
    length=st.integers(1, 15),
    counts=st.booleans(),
)
@settings(deadline=None)
def test_a_budget_of_tokens_is_kept(
    way: str, tokens: int, num: int, at_once: int, length: int, counts: bool
) -> None:
    """Exceeded by one prompt and one answer's cap at most, in every way; unknown counts cost their caps."""
    at_once = 1 if way == "sequential" else at_once
    sampler = Scripted(["x" * length], way=way, at_once=at_once, counts=counts)
    outcome = solve(BestOfN(num=num), sampler, Budget(tokens=tokens), ByLength())
    spent = sum(call.charged_tokens(QUESTION.max_tokens) for call in outcome.calls)
    assert spent < tokens + 5 + QUESTION.max_tokens
    assert outcome.candidates
    assert (outcome.stopped == "tokens") == (len(outcome.candidates) < num)


def test_a_budget_of_seconds_begins_no_call_after_its_end() -> None:
    """The call that runs when time is up is the last."""

    class Slow(Scripted):
        async def call(self, request: Request, num: int) -> Reply:
            await asyncio.sleep(0.05)
            return await super().call(request, num)

    outcome = solve(BestOfN(num=50), Slow(["a"]), Budget(seconds=0.12), ByLength())
    assert outcome.stopped == "seconds"
    assert 1 <= len(outcome.candidates) <= 3
    assert outcome.text == "a"


def test_steps_of_an_escalation_share_one_budget() -> None:
    """What the cheap step spent is gone for the dear one."""
    steps = (Step(strategy=BestOfN(num=2)), Step(strategy=BestOfN(num=20)))
    sampler = Scripted(["aaaaa"])
    outcome = solve(Escalate(steps=steps, accept=99.0), sampler, Budget(tokens=45), ByLength())
    assert outcome.stopped == "tokens"
    assert outcome.tokens is not None
    assert 45 <= outcome.tokens < 45 + 15
    spent = solve(Escalate(steps=steps, accept=99.0), sampler, Budget(tokens=20), ByLength())
    assert len(spent.steps) == 1
    assert spent.stopped == "tokens"


def test_the_choice_can_be_redone_from_the_candidates() -> None:
    """And a choice that is not the rule's is found out."""
    steps = (Step(strategy=SelfConsistency(num=3)), Step(strategy=BestOfN(num=2)))
    for strategy in (Single(), Diverse(), BestOfN(num=4), SelfConsistency(), Escalate(steps=steps, accept=9)):
        outcome = solve(strategy, Scripted(["a", "bb", "a", "ccc"]), verifier=ByLength(), seed=1)
        assert rechosen(outcome) == outcome.chosen
    best = solve(BestOfN(num=2), Scripted(["a", "bb"]), verifier=ByLength())
    assert rechosen(replace(best, chosen=0)) != 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Budget(tokens=0), "tokens is 0"),
        (lambda: Budget(seconds=-1.0), "seconds is -1.0"),
        (lambda: BestOfN(num=0), "0 answers"),
        (lambda: SelfConsistency(temperature=0.0), "temperature 0.0"),
        (lambda: Diverse(temperatures=()), r"\(\); give some, rising"),
        (lambda: Diverse(temperatures=(0.9, 0.1)), "give some, rising"),
        (lambda: Escalate(steps=(Step(strategy=Single()),)), "1 steps"),
        (lambda: LogProb("max"), "'max'; use mean or min"),
        (lambda: BackendSampler(FakeBackend(["a"]), way="magic"), "'magic'; use batched"),
        (lambda: BackendSampler(FakeBackend(["a"]), at_once=2), "2 answers at once, sequential"),
        (lambda: BackendSampler(FakeBackend(["a"]), way="batched", at_once=2), "draws no batches"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make: Callable[[], object], says: str) -> None:
    """With the value and the remedy."""
    with pytest.raises(UsageError, match=says):
        make()
