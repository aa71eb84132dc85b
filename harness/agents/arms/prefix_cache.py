"""The honest peer: one engine for all agents that remembers prefixes, asked with the whole history each time.

By default llama.cpp, in a process of its own, with a slot per agent, of the same weights as the sessions'
model and keys and values as wide (f32), without flash attention: on a CPU that computes in 16 bits and was
seven times slower per token at 1024 tokens. A slot keeps what was asked there last, so a history that grew is
computed from where it differs: as a session does, but for the ids that cross anew. Instead of it, a server at
a URL (vLLM, SGLang), whose cache is its own matter.

Tokens agree with those of the session server as far as rounding lets them: other kernels sum in another
order, and greedy decoding may part there. Nothing assumes that they agree.

Memory: llama.cpp takes all slots when it starts, each rounded up to 256 tokens. The arm draws weights and
slots on the budget, a slot at a time, and is started with those that find room: an agent beyond them asks the
budget for one more, and is refused. The engine's scratch memory is not drawn: no arm's is.

Traps: `queue_s` is what is left of the time to the first token beside the server's own prefill, HTTP in it.
llama.cpp prefills up to 2048 tokens of others before it comes to a short prompt: its defaults stay.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Self

from harness.agents.arms.random_gguf import GgufModel, random_gguf
from harness.agents.arms.token_stream import Completion, LlamaCpp, OpenAI, TokenClient
from harness.agents.base import Agent, Step
from harness.errors import BackendBroken, BudgetError, UsageError
from harness.hardware.allocation import Allocation
from harness.hardware.budget import DeviceBudget
from harness.launchers.process import ProcessLauncher

__all__ = ["CachedAgent", "PrefixCache", "slot_tokens"]

_ROOT = Path(__file__).parents[3]
_SLOT_ROUNDING = 256
"""llama.cpp's own, of a slot's context."""


class PrefixCache:
    """The arm; `start` for llama.cpp, `at_url` for a server that runs already."""

    name = "engine-prefix-cache"

    def __init__(
        self,
        client: TokenClient,
        stack: AsyncExitStack,
        num_slots: int,
        max_tokens: int,
        pid: int | None = None,
        beyond: Callable[[int], Allocation] | None = None,
    ) -> None:
        self.pid = pid
        """Of the engine's process, where the arm started it."""
        self._client = client
        self._stack = stack
        self._free_slots = list(range(num_slots))
        self._max_tokens = max_tokens
        self._num_slots = num_slots
        self._beyond = beyond
        """Draws a slot of that number on the budget, where not all that were asked for found room."""

    @classmethod
    async def start(
        cls,
        budget: DeviceBudget,
        *,
        num_agents: int,
        max_tokens: int,
        model: GgufModel | None = None,
        threads: int = 1,
        timeout_s: float = 300.0,
        deadline_s: float = 120.0,
    ) -> Self:
        """Start llama.cpp with a slot of `max_tokens` tokens for each agent, or for as many as find room.

        Arguments: `model`, `random_gguf()` unless given; `deadline_s`, until it is ready.

        Raises
        ------
        BudgetError: the weights and one slot find no room.
        LaunchError: it did not come up.
        UnavailableError: xllamacpp is not installed.
        """
        if num_agents < 1 or max_tokens < 1:
            raise UsageError(f"{num_agents} agents of {max_tokens} tokens; give at least 1 of each")
        made = await asyncio.to_thread(random_gguf) if model is None else model
        async with AsyncExitStack() as stack:
            stack.enter_context(budget.allocate(made.weight_bytes, owner=f"{cls.name} weights"))
            draw = _drawing(budget, made, max_tokens)
            num_slots = _drawn(stack, draw, num_agents)
            launcher = ProcessLauncher(
                command=_command(made, num_slots, max_tokens, threads),
                name=cls.name,
                env=_environment(threads),
                deadline_s=deadline_s,
                packages=("xllamacpp",),
                install="pip install xllamacpp",
            )
            server = await asyncio.to_thread(launcher.launch)
            stack.push_async_callback(asyncio.to_thread, server.stop)
            client = TokenClient(server.url, LlamaCpp(), name=cls.name, timeout_s=timeout_s)
            await stack.enter_async_context(client)
            beyond = draw if num_slots < num_agents else None
            return cls(client, stack.pop_all(), num_slots, max_tokens, server.pid, beyond)

    @classmethod
    async def at_url(
        cls,
        url: str,
        *,
        model: str,
        num_agents: int,
        max_tokens: int,
        api_key: str | None = None,
        timeout_s: float = 300.0,
    ) -> Self:
        """Use a server of the OpenAI API that runs at `url`; its memory is not ours to draw.

        Raises
        ------
        UnavailableError: it gives no token ids; the message says what would.
        BackendError: it does not answer, or takes no ids.
        """
        async with AsyncExitStack() as stack:
            client = TokenClient(url, OpenAI(model), name=cls.name, timeout_s=timeout_s, api_key=api_key)
            await stack.enter_async_context(client)
            await client.complete([1], 1)
            return cls(client, stack.pop_all(), num_agents, max_tokens)

    async def open(self, max_tokens: int) -> Agent:
        """Take a slot.

        Raises
        ------
        BudgetError: all that found room are taken, and another one does not.
        UsageError: the engine was started for fewer agents, or for smaller ones.
        """
        if self._beyond is not None and not self._free_slots:
            self._beyond(self._num_slots).release()
        if max_tokens > self._max_tokens or not self._free_slots:
            raise UsageError(
                f"{self.name}: an agent of {max_tokens} tokens; {len(self._free_slots)} slots of "
                f"{self._max_tokens} are free: start it with more agents or tokens"
            )
        return CachedAgent(self, self._free_slots.pop(0))

    async def complete(self, token_ids: Sequence[int], max_new_tokens: int, slot: int) -> Completion:
        """Ask the engine; see `TokenClient.complete`."""
        return await self._client.complete(token_ids, max_new_tokens, slot)

    def give_back(self, slot: int) -> None:
        """Let another agent have a slot."""
        self._free_slots.append(slot)

    async def close(self) -> None:
        """End the engine and give its memory back; a second call does nothing."""
        await self._stack.aclose()


class CachedAgent:
    """One agent, whose history is here, and in its slot as far as it was computed."""

    def __init__(self, arm: PrefixCache, slot: int) -> None:
        self._arm = arm
        self._slot: int | None = slot
        self._history: list[int] = []

    async def step(self, new_ids: Sequence[int], max_new_tokens: int) -> Step:
        """Send the whole history; see `Agent.step`."""
        if self._slot is None:
            raise BackendBroken("this agent is closed; open another")
        text = [*self._history, *new_ids]
        asked_s = perf_counter()
        found = await self._arm.complete(text, max_new_tokens, self._slot)
        self._history = [*text, *found.token_ids]
        ttft_s, prefill_s, decode_s = found.token_s[0] - asked_s, found.prefill_s, found.decode_s
        cached, total = found.cached_tokens, found.prompt_tokens
        return Step(
            token_ids=found.token_ids,
            asked_s=asked_s,
            first_token_s=found.token_s[0],
            done_s=found.token_s[-1],
            token_s=found.token_s,
            queue_s=None if prefill_s is None else max(0.0, ttft_s - prefill_s),
            prefill_s=prefill_s,
            compute_s=None if prefill_s is None or decode_s is None else prefill_s + decode_s,
            reused_tokens=cached,
            prefilled_tokens=None if cached is None or total is None else total - cached,
            pid=self._arm.pid,
        )

    async def close(self) -> None:
        """Give the slot back."""
        slot, self._slot = self._slot, None
        if slot is not None:
            self._arm.give_back(slot)


def slot_tokens(max_tokens: int) -> int:
    """What llama.cpp takes for a slot that is to hold so many."""
    return -(-max_tokens // _SLOT_ROUNDING) * _SLOT_ROUNDING


def _drawing(budget: DeviceBudget, model: GgufModel, max_tokens: int) -> Callable[[int], Allocation]:
    slot_bytes = slot_tokens(max_tokens) * model.kv_token_bytes
    return lambda slot: budget.allocate(slot_bytes, owner=f"{PrefixCache.name} slot {slot}")


def _drawn(stack: AsyncExitStack, draw: Callable[[int], Allocation], num_agents: int) -> int:
    """Draw a slot for each agent; how many found room. Raises BudgetError where not even one did."""
    for slot in range(num_agents):
        try:
            stack.enter_context(draw(slot))
        except BudgetError:
            if not slot:
                raise
            return slot
    return num_agents


def _environment(threads: int) -> dict[str, str]:
    paths = filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")])
    return {
        "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": os.pathsep.join(paths)
    }  # fmt: skip


def _command(model: GgufModel, num_agents: int, max_tokens: int, threads: int) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "harness.launchers.llamacpp_server", "--model", str(model.path)),
        *("--host", "{host}", "--port", "{port}", "--parallel", str(num_agents), "--cache-type", "f32"),
        "--no-flash-attention",
        *("--ctx-size", str(num_agents * slot_tokens(max_tokens)), "--threads", str(threads)),
    )
