"""A server per model on one budget: who fits stays up, who does not is refused or pays for a start."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("torch")
pytest.importorskip("msgspec")

from switching_asks import asks, setting

from harness.errors import UsageError
from harness.switching.arms import make_arm
from harness.switching.arms.processes import ProcessPerModel
from harness.switching.base import Ask, answer_all
from harness.switching.setting import Setting

MODELS = ("llama-mini", "mistral-mini", "phi-mini")


def ask(model: str) -> Ask:
    return Ask(model=model, prompt_ids=(1, 2, 3), new_tokens=2)


@contextmanager
def running(where: Setting) -> Iterator[ProcessPerModel]:
    arm = make_arm("process-per-model", where)
    assert isinstance(arm, ProcessPerModel)
    try:
        yield arm
    finally:
        arm.close()
    assert not arm._budget.path.exists()


def test_a_model_larger_than_the_budget_is_refused_before_anything_starts() -> None:
    """With what it needs and what there is; an unknown one is named."""
    with running(setting(models=("phi-mini",), arena_bytes=5_000_000)) as arm:
        arm.reset(warm="fill")
        (answer,) = answer_all(arm, [ask("phi-mini")], sees_queue=False)
        assert answer.failure is not None
        assert answer.failure.startswith("BudgetError: phi-mini: 52")
        assert "of 5000000 are free" in answer.failure
        with pytest.raises(UsageError, match="llama-mini"):
            arm.answer(ask("llama-mini"))
        with pytest.raises(UsageError, match="tepid"):
            arm.reset(warm="tepid")
        assert arm._budget.used_bytes == 0


@pytest.mark.nightly
def test_who_does_not_fit_is_refused_where_nobody_is_stopped_for_it() -> None:
    """The others answer as the reference does, from servers that are up."""
    wanted = asks(8)
    reference = make_arm("reference", setting())
    expected = answer_all(reference, wanted, sees_queue=False)
    with running(setting(evicts=False)) as arm:
        arm.reset(warm="fill")
        answers = answer_all(arm, wanted, sees_queue=False)
        held = {holder.pid for holder in arm._budget.holders()}
    assert len(held) == 2
    for answer, right in zip(answers, expected, strict=True):
        if answer.model == "mistral-mini":
            assert "BudgetError: mistral-mini: 13543488 bytes asked" in (answer.failure or "")
        else:
            assert answer.token_ids == right.token_ids
            assert (answer.is_hit, answer.bytes_in, answer.evicted_bytes) == (True, 0, 0)
    assert {answer.model for answer in answers} == set(MODELS)


@pytest.mark.nightly
def test_who_does_not_fit_has_others_stopped_for_it_where_that_is_declared() -> None:
    """The least recently used first, and no more than needed; a server that is killed is started again."""
    with running(setting()) as arm:
        arm.reset()
        turns = [ask("llama-mini"), ask("phi-mini"), ask("llama-mini"), ask("mistral-mini")]
        answers = answer_all(arm, turns, sees_queue=False)
        assert [answer.is_hit for answer in answers] == [False, False, True, False]
        assert list(arm._running) == ["mistral-mini"]
        assert answers[3].evicted_bytes == 12_548_160 + 5_250_880
        assert answers[3].needed_bytes == 13_543_488 - (25_000_000 - 12_548_160 - 5_250_880)
        pid = arm._running["mistral-mini"].server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        lost, again = answer_all(arm, [ask("mistral-mini")] * 2, sees_queue=False)
        assert (lost.failure or "").startswith("Backend")
        assert again.token_ids == answers[3].token_ids
        assert again.is_hit is False
