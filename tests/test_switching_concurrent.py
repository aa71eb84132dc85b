"""What is made of eight clients' requests, of a miss beside a memcpy, and of records in a line each."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("msgspec")

from fixtures import switching, switching_checks
from fixtures import switching_concurrent as concurrent
from fixtures.switching import Known, SwitchingStand
from fixtures.switching_concurrent import METRICS, Turned
from fixtures.switching_lines import Lines
from fixtures.switching_runs import Side, Switching
from fixtures.switching_variants import Work
from harness.residency.layout import ModelLayout
from harness.switching.base import Answer, Ask, failed
from harness.switching.setting import Setting
from reports.records import Failure, Record, Round, TaskPair
from tests.switching_answers import answer, played

ASK = Ask(model="a", prompt_ids=(1, 2), new_tokens=2)


def turned(number: int, asked_s: float, **changes: Any) -> Turned:
    """The first token after one second, the second after another."""
    return Turned(number, number % 2, ASK, asked_s, asked_s + 1, asked_s + 2, (7, 8))._replace(**changes)


def a_round(*found: Turned, num_asked: int = 2, **counted: float | None) -> Any:
    return concurrent._Round(found, (), num_asked, 10.0, counted)


def test_metrics_of_clients_are_what_their_words_say() -> None:
    """From sending; a request that was not answered is not completed."""
    values = concurrent._values(a_round(turned(0, 10.0), turned(1, 11.0), num_switches=1.0))
    assert values.keys() <= METRICS.keys()
    assert (values["completed_share"], values["wall_s"], values["requests_per_s"]) == (1, 3.0, 2 / 3)
    assert (values["ttft_p50_s"], values["num_switches"]) == (1.0, 1.0)
    assert concurrent._values(a_round(turned(0, 10.0)))["completed_share"] == 0.5
    assert concurrent._values(a_round(turned(0, 10.0, token_ids=(7,))))["completed_share"] == 0
    assert concurrent._values(a_round()) == {"completed_share": 0}


@pytest.mark.parametrize(
    ("before", "after", "apart"), [(3, 10, 7.0), (None, 10, None), (3, None, None), ("lru", "lru", None)]
)
def test_a_counter_that_is_not_there_is_not_nothing(before: Any, after: Any, apart: float | None) -> None:
    """Absent is never 0."""
    assert concurrent._apart(before, after) == apart


def test_clients_ask_for_the_mix_and_no_trace_comes_twice() -> None:
    """48 requests of a seed; of a user's own trace its requests again and again."""
    first, second = (concurrent._trace(Work(), seed) for seed in (0, 1))
    assert len(first.requests) == len(second.requests) == 48
    assert first.models != second.models
    assert set(first.models) == set(Work().models)
    own = Work(trace=replace(first, requests=first.requests[:2]))
    assert len(concurrent._trace(own, 0).requests) == 48


def record(**changes: Any) -> Record:
    usual: dict[str, Any] = {
        "experiment": "switching", "variant": "home-slot", "control": "reload-every", "backend": "arena",
        "profile": "pocket",
    }  # fmt: skip
    return Record(**{**usual, **changes})


def line(of: Record) -> str:
    lines = Lines()
    lines.tell(of)
    (text,) = lines.lines
    return text


def test_a_line_says_hits_bytes_and_times_beside_the_control() -> None:
    """And how the simulator's account compares."""
    times = {f"ttft_{which}_s": 0.01 for which in ("p50", "mean", "max")}
    treatment = {**times, "hit_share": 0.5, "bytes_over_belady": 1.25, "blocked_over_simulated": 1.04}
    control = dict.fromkeys(times, 0.05)
    text = line(record(rounds=[Round(order="CT", treatment=treatment, control=control)]))
    assert "50% hits" in text
    assert "bytes 1.25×" in text
    assert "10.0 (5.0×), 10.0 (5.0×), 10.0 (5.0×) ms (than reload-every)" in text
    assert "blocked 1.04 × simulated" in text


def test_a_line_says_what_failed() -> None:
    """Where nothing was measured nothing else is said."""
    failure = Failure(arm="control", round=0, where="reload-every", error="BudgetError: no room")
    text = line(record(failures=[failure], rounds=[Round(order="CT", treatment=None)]))
    assert text.split() == ["home-slot", "failed:", "BudgetError:", "no", "room"]


def test_variants_without_a_trace_have_lines_of_their_own() -> None:
    """Misses, clients, simulations."""
    miss = Round(order="CT", treatment={"copy_s": 0.02, "hit_switch_s": 5e-5}, control={"copy_s": 0.02})
    assert "a miss takes 1.000 × memcpy  a hit switches in 50 µs" in line(
        record(control="memcpy", rounds=[miss])
    )
    both = Round(
        order="CT",
        treatment={"requests_per_s": 20.0, "completed_share": 1.0},
        control={"requests_per_s": 10.0},
    )
    text = line(record(control="sequential", rounds=[both]))
    assert "20.0 requests/s, 10.0 sequential  100% completed" in text
    pair = TaskPair(id="seed-00", treatment={"ttft_mean_s": 1.0}, control={"ttft_mean_s": 4.0})
    assert "mean TTFT 4.0×, 1 points" in line(
        record(evidence="simulated", tasks=[pair], sweep=[{"name": "point"}])
    )


def stand_of(token_bytes: int, *, device: str = "cpu", prompt_tokens: int = 8) -> SwitchingStand:
    """Three models whose keys and values are so wide; nothing is started."""
    stand = SwitchingStand(Work(device=device, prompt_tokens=prompt_tokens))
    layout = ModelLayout.packed("any", [("embed", 64)])
    vars(stand)["models"] = {
        name: Known(layout, 300, token_bytes * at) for at, name in enumerate(stand.work.models, start=1)
    }
    return stand


def test_the_servers_budget_holds_a_session_of_every_client() -> None:
    """Of Llama-2-7b a token takes half a megabyte, and eight sessions 36 times what small models need."""
    assert concurrent.sessions_bytes(stand_of(1), 3) == concurrent.SESSIONS_BYTES
    assert concurrent.sessions_bytes(stand_of(2**19 // 3 + 1, prompt_tokens=512), 1) > 8 * 514 * 2**19


def test_the_servers_budget_holds_the_longest_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the first alone."""
    stand = stand_of(2**19)
    monkeypatch.setattr(concurrent, "_trace", lambda _, seed: seed)
    monkeypatch.setattr(stand, "asks", lambda seed: [replace(ASK, prompt_ids=(1,) * 2**seed)])
    found = [concurrent.sessions_bytes(stand, rounds) for rounds in (1, 6)]
    assert found == [concurrent.SESSIONS_BYTES, 8 * (2**5 + 3) * 3 * 2**19]


@pytest.mark.parametrize(("device", "num_models"), [("cpu", [3]), ("cuda", [1, 1, 1])])
def test_the_reference_leaves_a_gpu_to_the_arms(
    device: str, num_models: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has one model at a time there, and is gone behind it; what it gave is not asked for again."""
    started: list[Process] = []

    class Process:
        def __init__(self, name: str, setting: Setting) -> None:
            self.models, self.is_up = setting.models, True
            started.append(self)

        def run(self, asks: list[Ask], **_: object) -> list[Any]:
            assert {ask.model for ask in asks} <= set(self.models)
            return [SimpleNamespace(token_ids=(7, len(ask.model)), failure=None) for ask in asks]

        def close(self) -> None:
            self.is_up = False

        def __enter__(self) -> Process:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

    monkeypatch.setattr(switching, "ArmProcess", Process)
    stand = stand_of(1, device=device)
    asks = stand.asks(stand.work.trace_of(0))
    assert stand.expected(asks) == stand.expected(asks) == {ask: (7, len(ask.model)) for ask in asks}
    assert [len(one.models) for one in started] == num_models
    assert all(one.is_up is (device == "cpu") for one in started)


def test_the_reference_is_asked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call has a limit of time, and thirty seeds of a large model take longer; none is left out."""
    stand, sizes = stand_of(1), []

    class Reference:
        def run(self, asks: list[Ask], **_: object) -> list[Answer]:
            sizes.append(len(asks))
            return [replace(right(ask), token_ids=ask.prompt_ids) for ask in asks]

    monkeypatch.setattr(stand, "serve", lambda _: Reference())
    asks = [replace(ASK, prompt_ids=(at,)) for at in range(61)]
    assert stand.expected(asks) == {ask: ask.prompt_ids for ask in asks}
    assert sizes == [30, 30, 1]


def test_a_reference_that_fails_refutes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is told equal or not where the reference answered, of the engines that sum as it does."""
    stand = stand_of(1)
    asks = stand.asks(stand.work.trace_of(0))[:3]
    lost = asks[2]

    class Reference:
        def run(self, asks: list[Ask], **_: object) -> list[Any]:
            return [failed(ask, 0.0, "no room") if ask == lost else right(ask) for ask in asks]

    monkeypatch.setattr(stand, "serve", lambda _: Reference())
    assert stand.expected(asks) == dict.fromkeys(asks[:2], (7, 8))
    assert not switching_checks.equal_tokens(
        {"home-slot": [played(*map(right, asks), asks=asks)]}, stand.expected(asks)
    ).ok

    sides = [Side("home-slot"), Side("vllm-sleep")]
    for side, second in zip(sides, ((7, 9), (7, 8)), strict=True):
        given = [right(asks[0]), replace(right(asks[1]), token_ids=second), right(lost)]
        side.rounds = [played(*given, asks=asks)]
    of = record(control="vllm-sleep")
    of.sweep = [
        {"name": "request", "arm": arm, "round": 0, "index": index}
        for arm in ("treatment", "control")
        for index in range(3)
    ]
    Switching(stand, "pocket", Lines())._grade(of, sides)
    assert [point["same_tokens"] for point in of.sweep] == [1.0, 0.0, None, None, None, None]


def right(ask: Ask) -> Answer:
    return replace(answer(), model=ask.model, token_ids=(7, 8))
