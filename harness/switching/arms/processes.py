"""process-per-model: a session server for each model, all on one device budget of the arena's size.

What is deployed most: whoever fits stays up, with weights and keys and values of its own. Whoever does not is
refused by the budget, as a device refuses memory. What a request for it pays is declared: with `evicts`,
another process is stopped and its own is started, imports, weights and all; without, it is refused.

Physics: a hit is a round trip to a server. A start is seconds, whatever the link, and nothing of it shrinks
with the model; so this arm is compared where the models fit, or where switches are rare.

Traps: a process is more than its weights: each has an interpreter and libraries of its own, which the budget
does not see, as a GPU's context is not seen. Keys and values are drawn from the same budget: where weights
leave no room for a session's, its request is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

from harness.errors import BackendError, BudgetError, LaunchError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.residency.arms import WARM
from harness.residency.homes import by_popularity
from harness.sessions.client import SessionClient
from harness.sessions.launch import ServerProcess
from harness.sessions.ring.loading import load_host
from harness.switching.arms.models import require_model
from harness.switching.base import Answer, Ask
from harness.switching.nursery import ENV
from harness.switching.setting import Setting

__all__ = ["ProcessPerModel"]

_LEAST_MB = "0.001"
"""Of the server's arena: `resident` makes it as large as its model."""


class ProcessPerModel:
    """Servers that are up, and the budget that says how many."""

    name = "process-per-model"

    def __init__(self, setting: Setting) -> None:
        """Learn what each model needs; servers start when they are asked for, or to warm up.

        Raises
        ------
        ModelError: there is no such model.
        """
        self._setting = setting
        self._running: dict[str, _Running] = {}
        self._needs = {name: _weight_bytes(name, setting) for name in setting.models}
        self._budget = DeviceBudget.create(setting.arena_bytes)

    def reset(self, *, warm: str = "cold", future: Sequence[str] = ()) -> None:
        """Stop what should not run and start what should.

        Raises
        ------
        UsageError: there is no such warm-up.
        LaunchError: a server did not come up, and not for want of room.
        """
        if warm not in WARM:
            raise UsageError(f"warm {warm!r}: unknown; use {', '.join(WARM)}")
        kept = self._fitting() if warm == "fill" else []
        for model in list(self._running):
            if model not in kept:
                self._stop(model)
        for model in kept if warm == "fill" else self._setting.models if warm == "each" else ():
            try:
                self._bring(model, evicts=warm == "each" and self._setting.evicts)
            except BudgetError:
                continue  # whoever asks for it will be told

    def answer(self, ask: Ask, *, upcoming: str | None = None) -> Answer:
        """Ask the model's server, started if need be.

        Raises
        ------
        UsageError: it is unknown here.
        BudgetError: it does not fit beside those that run, and none is to be stopped for it.
        LaunchError: its server did not come up.
        BackendError: its server broke; the next request for it starts another.
        """
        require_model(ask.model, self._setting.models)
        began_s = perf_counter()
        is_hit = ask.model in self._running
        need_bytes = self._needs[ask.model]
        free_bytes = self._budget.free_bytes
        evicted_bytes = 0 if is_hit else self._bring(ask.model, evicts=self._setting.evicts)
        there_s = perf_counter()
        running = self._running[ask.model] = self._running.pop(ask.model)  # the last one used is the last
        try:
            tokens = running.generate(ask)
        except (BackendError, OSError):
            self._stop(ask.model)
            raise
        return Answer(
            model=ask.model,
            token_ids=tokens.token_ids,
            began_s=began_s,
            first_token_s=tokens.first_s,
            done_s=tokens.done_s,
            switch_s=there_s - began_s,
            is_hit=is_hit,
            bytes_in=0 if is_hit else need_bytes,
            ahead_bytes=0,
            bytes_out=0,
            evicted_bytes=evicted_bytes,
            needed_bytes=0 if is_hit else max(0, need_bytes - free_bytes),
        )

    def checksums(self) -> Mapping[str, str]:
        """None: the blobs are in other processes."""
        return {}

    def close(self) -> None:
        """Stop every server, and remove the budget."""
        for model in list(self._running):
            self._stop(model)
        self._budget.remove()

    def _fitting(self) -> list[str]:
        """The most popular whose weights fit beside each other."""
        left_bytes = self._budget.capacity_bytes
        found = []
        for model in by_popularity(self._setting.popularity):
            if self._needs[model] <= left_bytes:
                found.append(model)
                left_bytes -= self._needs[model]
        return found

    def _bring(self, model: str, *, evicts: bool) -> int:
        """Start a model's server, and others' end for it if that is declared; return the bytes evicted."""
        evicted_bytes = 0
        while model not in self._running:
            try:
                # An allocation that is refused costs nothing, a server that is refused has been started.
                self._budget.allocate(self._needs[model], owner=model).release()
                self._start(model)
            except BudgetError:
                if not (evicts and self._running):
                    raise
                victim = next(iter(self._running))
                evicted_bytes += self._needs[victim]
                self._stop(victim)
        return evicted_bytes

    def _start(self, model: str) -> None:
        num_refusals = self._budget.num_refusals
        server = ServerProcess(self._arguments(model), env=ENV, deadline_s=self._setting.deadline_s)
        try:
            running = _Running(server, SessionClient.connect(server.address))
            # Its weights cross the link with the first token.
            running.generate(Ask(model=model, prompt_ids=(0,), new_tokens=1))
        except LaunchError as exc:
            server.stop()
            if self._budget.num_refusals > num_refusals:
                last_line = str(exc).strip().splitlines()[-1]
                raise BudgetError(f"{self.name}: {model}: {last_line}") from exc
            raise
        except BaseException:
            server.stop()
            raise
        self._running[model] = running

    def _stop(self, model: str) -> None:
        running = self._running.pop(model)
        running.client.close()
        running.server.stop()

    def _arguments(self, model: str) -> list[str]:
        setting = self._setting
        arguments = [
            "--models", model, "--arm", "resident", "--arena-mb", _LEAST_MB, "--budget",
            str(self._budget.path), "--device", setting.device, "--dtype", setting.dtype, "--seed",
            str(setting.seed), "--threads", str(setting.threads), "--max-session-tokens",
            str(setting.prompt_tokens + setting.new_tokens + 1),
        ]  # fmt: skip
        if setting.link_bytes_per_s is not None:
            arguments += ["--link-mb-s", str(setting.link_bytes_per_s / 1e6)]
        return arguments


class _Tokens(NamedTuple):
    token_ids: tuple[int, ...]
    first_s: float
    done_s: float


@dataclass(frozen=True, slots=True)
class _Running:
    """A server that is up."""

    server: ServerProcess
    client: SessionClient

    def generate(self, ask: Ask) -> _Tokens:
        """Ask in a session of its own, whose memory is given back when this returns."""
        session = self.client.open(len(ask.prompt_ids) + ask.new_tokens)
        tokens = list(session.turn(ask.prompt_ids, max_new_tokens=ask.new_tokens))
        done_s = perf_counter()
        session.close()
        return _Tokens(tuple(token.token_id for token in tokens), tokens[0].came_s, done_s)


def _weight_bytes(name: str, setting: Setting) -> int:
    """Of a model, packed."""
    host = load_host(name, dtype=setting.dtype, seed=setting.seed)
    host.blob.close()
    return host.blob.num_bytes
