"""A model of an Ollama server is loaded, kept, measured and dropped by the residency; over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from harness.errors import (
    BackendError,
    BackendRejected,
    BackendTimeout,
    BackendUnreachable,
    BudgetError,
    UsageError,
)
from harness.hardware import DeviceBudget
from harness.routers.orchestration import Estimates, Residency, run_job
from harness.routers.orchestration.loadable import OllamaModel
from tests.ollama_server import OllamaServer
from tests.orchestrated import WEIGHTS, Always, job_of, prior

MB = 10**6


def served(test: Callable[[OllamaServer], Awaitable[Any]], server: OllamaServer | None = None) -> Any:
    """Run a test against a server of two models."""

    async def main() -> Any:
        async with (server or OllamaServer({"gemma": 2 * MB, "qwen": 6 * MB})).serving() as running:
            return await test(running)

    return asyncio.run(main())


def model(server: OllamaServer, name: str, num_bytes: int, **options: Any) -> OllamaModel:
    return OllamaModel(f"{name}={server.url}/{name}?num_ctx=2048&timeout_s=5", num_bytes, **options)


def test_a_model_is_loaded_for_ever_and_dropped_when_its_room_is_needed() -> None:
    """Requests between do not make it five minutes, nor load it again with another context."""

    async def test(server: OllamaServer) -> None:
        budget = DeviceBudget.create(8 * MB)
        async with Residency(
            [model(server, "gemma", 2 * MB), model(server, "qwen", 6 * MB)], budget
        ) as residency:
            change = await residency.change([], ["gemma"])
            assert change.load_s["gemma"] > 0
            run = await run_job(
                job_of(("code",), []), Always("gemma"), residency, Estimates((prior("gemma"),), WEIGHTS)
            )
            assert run.tasks["s0"].answer == "gemma says 7"
            assert server.keep_alive == {"gemma": -1}
            assert server.num_loads == 1
            await residency.change([], ["qwen"])
            assert list(server.keep_alive) == ["qwen"]
        assert server.keep_alive == {}
        assert budget.used_bytes == 0

    served(test)


def test_what_the_server_says_that_a_model_takes_is_drawn_on_the_budget() -> None:
    """A declared size that is too small is corrected on the first load, for planners too."""

    async def test(server: OllamaServer) -> None:
        budget = DeviceBudget.create(8 * MB)
        async with Residency([model(server, "qwen", 4 * MB)], budget) as residency:
            assert residency.size_bytes("qwen") == 4 * MB
            await residency.change([], ["qwen"])
            assert residency.size_bytes("qwen") == 6 * MB
            assert budget.used_bytes == 6 * MB

    served(test)


def test_a_model_that_takes_more_than_there_is_room_for_is_dropped_again() -> None:
    """The message names both sizes' cause; nothing stays loaded or drawn."""

    async def test(server: OllamaServer) -> None:
        budget = DeviceBudget.create(5 * MB)
        async with Residency([model(server, "qwen", 4 * MB)], budget) as residency:
            with pytest.raises(BudgetError, match="qwen takes 6000000 bytes, more than declared"):
                await residency.change([], ["qwen"])
            assert residency.resident == ()
            assert server.keep_alive == {}
            assert budget.used_bytes == 0

    served(test)


def test_a_model_that_is_not_there_does_not_load() -> None:
    """The message ends with the command that fetches it, or says that no server answers."""

    async def test(server: OllamaServer) -> None:
        budget = DeviceBudget.create(8 * MB)
        async with Residency([model(server, "llama", MB)], budget) as residency:
            with pytest.raises(BackendRejected, match="run `ollama pull llama`"):
                await residency.change([], ["llama"])
        assert budget.used_bytes == 0
        with pytest.raises(BackendUnreachable, match=r"127\.0\.0\.1:9"):
            await OllamaModel("gone=ollama://127.0.0.1:9/gemma", MB).load()

    served(test)


def test_a_load_that_is_cancelled_half_way_is_undone_in_the_server() -> None:
    """The server drops the model, and every byte is given back."""

    async def test(server: OllamaServer) -> None:
        budget = DeviceBudget.create(8 * MB)
        async with Residency([model(server, "qwen", 6 * MB)], budget) as residency:
            loading = asyncio.create_task(residency.change([], ["qwen"]))
            await asyncio.sleep(0.1)
            assert budget.used_bytes == 6 * MB
            loading.cancel()
            with suppress(asyncio.CancelledError):
                await loading
            assert residency.resident == ()
            assert budget.used_bytes == 0
        await asyncio.sleep(0.4)
        assert server.keep_alive == {}

    served(test, OllamaServer({"qwen": 6 * MB}, load_s=0.3))


def test_a_server_that_keeps_a_model_keeps_its_bytes_until_the_end() -> None:
    """Memory that may still be in use is not given to another model; it is tried again on the next change."""

    async def test(server: OllamaServer) -> None:
        budget = DeviceBudget.create(8 * MB)
        models = [model(server, "gemma", 2 * MB), model(server, "qwen", 6 * MB, unload_timeout_s=0.1)]
        residency = Residency(models, budget)
        await residency.change([], ["qwen"])
        server.is_deaf = True
        with pytest.raises(BackendTimeout, match=r"qwen: .* still holds it 0.1 s after being told"):
            await residency.change([], ["gemma"])
        assert budget.used_bytes == 6 * MB
        server.is_deaf = False
        await residency.change([], ["gemma"])
        assert (residency.resident, budget.used_bytes) == (("gemma",), 2 * MB)
        server.is_deaf = True
        models[0].unload_timeout_s = 0.1
        with pytest.raises(BackendError):
            await residency.aclose()
        assert budget.used_bytes == 0

    served(test)


def test_what_is_no_model_of_a_server_is_refused() -> None:
    """Another engine, no model, no size."""
    for spec, num_bytes in (
        ("a=pocket:nano", 1),
        ("a=ollama://127.0.0.1:9", 1),
        ("a=ollama://127.0.0.1:9/b", 0),
    ):
        with pytest.raises(UsageError):
            OllamaModel(spec, num_bytes)
