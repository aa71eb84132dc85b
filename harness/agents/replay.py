"""Agents on one server, replayed: up to ten thousand of them, by costs that were measured.

A discrete-event simulation of a server that batches continuously, as `harness.sessions.core.scheduler` does:
a step computes the next token of every turn that decodes and at most a chunk of the prompts that wait, whole
chunks only. Who has least left comes first, and before all whoever was passed over `MAX_PASSED` times. A step
takes `step_s`, `prefill_token_s` per token of a prompt and `decode_token_s` per turn that decodes. An agent
reasons when it is due, sleeps, and reflects; where sessions stay its second prompt is the observation, and
where they do not all that went before as well.

What it says is *simulated*, whatever its costs were measured on, and confirms no measured claim.

Limits. Attention over longer histories costs what it did where it was calibrated; nothing crosses a wire; an
agent that finds no place waits for one, which is the server's doing and in its latency.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, Self

from harness.agents.base import Phase
from harness.errors import UsageError

__all__ = ["MAX_PASSED", "Costs", "Observed", "Replayed", "Work", "replay"]

MAX_PASSED = 8
"""As the scheduler has it, which imports torch."""


class Observed(NamedTuple):
    """Steps of a server that were timed together."""

    steps: int
    prefill_tokens: int
    decoded: int
    """Tokens that were decoded, of all turns."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a step takes."""

    step_s: float
    """Whatever it computes: reading the weights."""
    prefill_token_s: float
    decode_token_s: float
    """Per turn that decodes in it."""
    chunk_tokens: int
    """Of prompts, at most, in one step."""

    def __post_init__(self) -> None:
        if min(self.step_s, self.prefill_token_s, self.decode_token_s) < 0 or self.chunk_tokens < 1:
            raise UsageError(f"costs: {self}: times are 0 or more, and a chunk has at least one token")
        if not self.step_s + self.prefill_token_s > 0:
            raise UsageError("costs: a prompt that takes no time; give step_s or prefill_token_s")

    @classmethod
    def fitted(cls, observed: Sequence[Observed], chunk_tokens: int) -> Self:
        """The costs that explain what was observed best: non-negative least squares of relative errors.

        Raises
        ------
        UsageError: fewer than three observations, or one that took no time.
        """
        if len(observed) < 3 or min(one.seconds for one in observed) <= 0:
            raise UsageError(f"{len(observed)} observations: three costs need three of them, all above 0 s")
        from scipy.optimize import nnls

        rows = [[value / one.seconds for value in one[:3]] for one in observed]
        found, _ = nnls(rows, [1.0] * len(rows))
        step_s, prefill_s, decode_s = (float(value) for value in found)
        return cls(
            step_s=step_s, prefill_token_s=prefill_s, decode_token_s=decode_s, chunk_tokens=chunk_tokens
        )

    def seconds(self, prefill_tokens: int, decoding: int) -> float:
        """One step."""
        return self.step_s + self.prefill_token_s * prefill_tokens + self.decode_token_s * decoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What every agent does, and what the server keeps of it."""

    prompt_tokens: int
    observation_tokens: int
    new_tokens: int
    """In each of the two steps."""
    sleep_s: float
    keeps: bool = True
    """Whether keys and values stay while the agent acts."""
    places: int | None = None
    """Agents that the server has room for at once; None: all."""

    def __post_init__(self) -> None:
        if min(self.prompt_tokens, self.observation_tokens, self.new_tokens) < 1 or self.sleep_s < 0:
            raise UsageError(f"work: {self}: tokens are at least 1, and a sleep is 0 s or more")
        if self.places is not None and self.places < 1:
            raise UsageError(f"work: {self.places} places; give at least one, or None for all")

    def prefill_tokens(self, phase: Phase) -> int:
        """To be computed before a step's first new token; the last token of the step before among them."""
        if phase is Phase.REASON:
            return self.prompt_tokens
        new = self.observation_tokens + 1
        return new if self.keeps else self.prompt_tokens + self.new_tokens - 1 + new


class Replayed(NamedTuple):
    """One step of one agent, in seconds since the begin."""

    agent: int
    phase: Phase
    due_s: float
    first_token_s: float
    done_s: float

    @property
    def ttft_s(self) -> float:
        """From when it was due to its first token."""
        return self.first_token_s - self.due_s

    @property
    def total_s(self) -> float:
        """From when it was due to its last token."""
        return self.done_s - self.due_s


def replay(costs: Costs, work: Work, due_s: Sequence[float]) -> list[Replayed]:
    """Every step of agents that are due at these seconds, in the order in which the steps ended.

    Raises
    ------
    UsageError: no agent, or one that is due before 0.
    """
    if not due_s or min(due_s) < 0:
        raise UsageError(f"replay: {len(due_s)} agents; give when each is due, in seconds from 0 on")
    server = _Server(costs, work, due_s)
    while server.step():
        pass
    return server.ended


class _Turn:
    __slots__ = ("agent", "due_s", "first_s", "left", "passed", "phase")

    def __init__(self, agent: int, phase: Phase, due_s: float, left: int) -> None:
        self.agent, self.phase, self.due_s, self.left = agent, phase, due_s, left
        self.first_s, self.passed = 0.0, 0

    @property
    def order(self) -> int:
        """Who was passed over too often, then who has least left; of equals who came first."""
        return 0 if self.passed >= MAX_PASSED else self.left


class _Server:
    def __init__(self, costs: Costs, work: Work, due_s: Sequence[float]) -> None:
        self.costs, self.work = costs, work
        self.ended: list[Replayed] = []
        self._ticket = count()
        first = work.prefill_tokens(Phase.REASON)
        self._coming = [
            (due, next(self._ticket), _Turn(agent, Phase.REASON, due, first))
            for agent, due in enumerate(due_s)
        ]
        heapq.heapify(self._coming)
        self._outside: deque[_Turn] = deque()
        self._prompts: list[_Turn] = []
        self._ends: defaultdict[int, list[_Turn]] = defaultdict(list)
        """Number of the step → turns whose last token it computes."""
        self._now_s, self._steps, self._decoding, self._inside = 0.0, 0, 0, 0

    def step(self) -> bool:
        """Compute one step, or wait for the next turn; False when none is left."""
        if not self._prompts and not self._decoding:
            if not self._coming:
                return False
            self._now_s = max(self._now_s, self._coming[0][0])
        self._arrive()
        read, num_tokens = self._chunk()
        self._now_s += self.costs.seconds(num_tokens, self._decoding)
        self._steps += 1
        for turn in self._ends.pop(self._steps, ()):
            self._decoding -= 1
            self._end(turn)
        for turn in read:
            self._first_token(turn)
        return True

    def _arrive(self) -> None:
        while self._coming and self._coming[0][0] <= self._now_s:
            turn = heapq.heappop(self._coming)[2]
            if turn.phase is Phase.REASON:
                self._outside.append(turn)
            else:
                self._prompts.append(turn)
        self._admit()

    def _admit(self) -> None:
        places = self.work.places
        while self._outside and (places is None or self._inside < places):
            self._inside += 1
            self._prompts.append(self._outside.popleft())

    def _chunk(self) -> tuple[list[_Turn], int]:
        """The turns whose prompts this step finishes, and the tokens that it prefills."""
        room, num_tokens = self.costs.chunk_tokens, 0
        for turn in sorted(self._prompts, key=lambda turn: turn.order):
            taken = min(turn.left, self.costs.chunk_tokens)
            if taken > room:
                if turn.passed >= MAX_PASSED:
                    room = 0
                turn.passed += 1
                continue
            turn.left -= taken
            turn.passed = 0
            room -= taken
            num_tokens += taken
        read = [turn for turn in self._prompts if not turn.left]
        self._prompts = [turn for turn in self._prompts if turn.left]
        return read, num_tokens

    def _first_token(self, turn: _Turn) -> None:
        turn.first_s = self._now_s
        if self.work.new_tokens == 1:
            self._end(turn)
        else:
            self._decoding += 1
            self._ends[self._steps + self.work.new_tokens - 1].append(turn)

    def _end(self, turn: _Turn) -> None:
        self.ended.append(Replayed(turn.agent, turn.phase, turn.due_s, turn.first_s, self._now_s))
        if turn.phase is Phase.REASON:
            due_s = self._now_s + self.work.sleep_s
            again = _Turn(turn.agent, Phase.REFLECT, due_s, self.work.prefill_tokens(Phase.REFLECT))
            heapq.heappush(self._coming, (due_s, next(self._ticket), again))
        else:
            self._inside -= 1
            self._admit()
