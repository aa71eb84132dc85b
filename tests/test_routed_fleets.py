"""The fleet of a profile: who answers, what fits, and what is refused with one line."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fixtures.fleets import PLANNER, FleetHere, role_of
from fixtures.jobs import Beliefs, JobArm, JobGrades, Ran, Routing, Telemetry
from fixtures.nodes import POCKET
from fixtures.pool import Runner
from fixtures.routers import ROUTERS, routing_of
from harness.errors import HarnessError, UnavailableError
from harness.hardware import budget as budgets
from harness.routers.orchestration import Estimates, graded_by
from harness.routers.orchestration.loadable import DrawnOutcomes
from harness.workflow.jobs import Job, JobTask, instances, published
from reports.experiments import telemetry as told
from tests.orchestrated import job_of
from tests.routed_runs import pool_of


@pytest.fixture
def ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where budgets of this test are kept."""
    folder = tmp_path / "ledgers"
    folder.mkdir()
    monkeypatch.setattr(budgets, "MEMORY_FOLDER", str(folder))
    return folder


@pytest.fixture
def replayed() -> Iterator[FleetHere]:
    """The published fleet in virtual time."""
    runner = Runner(is_virtual=True)
    yield FleetHere(pool_of("replay"), runner)
    runner.close()


@pytest.fixture
def pocket() -> Iterator[FleetHere]:
    """The pocket fleet."""
    runner = Runner()
    here = FleetHere(pool_of("pocket"), runner)
    yield here
    here.close()
    runner.close()


def grades(here: FleetHere, jobs: tuple[Job, ...], folder: Path) -> JobGrades:
    beliefs = Beliefs.of(here)
    drawn = DrawnOutcomes(Estimates(beliefs.priors, beliefs.weights).quality, seed=1)
    return JobGrades(here, beliefs, jobs, drawn, Telemetry(lambda: folder))


@pytest.mark.parametrize(
    ("model", "role"),
    [
        ("gemma2:2b", "gemma"), ("qwen2.5-coder:7b", "qwen"), ("llama3.1:8b", "llama"), ("phi4:14b", "phi"),
        ("nano", "nano"), ("7b", "7b"),
    ],
)  # fmt: skip
def test_a_role_is_the_leading_letters_of_a_name(model: str, role: str) -> None:
    """A name without them is its own role."""
    assert role_of(model) == role


def test_every_model_has_a_role_of_its_own(pocket: FleetHere, replayed: FleetHere) -> None:
    """One that the command line knows, so that it can be put elsewhere."""
    assert pocket.roles == ("nano", "code", "math", "generalist")
    assert set(pocket.roles) < set(POCKET)
    assert replayed.roles == ("gemma", "qwen", "llama", "phi")


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1", "sglang://127.0.0.1:1", "simulated:Mistral-7B-Instruct-v0.3?device=origin-sglang"],
)
def test_a_model_that_cannot_be_unloaded_says_what_could(url: str) -> None:
    """The line is the option to pass; nothing was connected to."""
    here = FleetHere(pool_of("pocket", f"math={url}"), Runner())
    with pytest.raises(UnavailableError) as told_:
        here.loadables()
    assert "math: " in str(told_.value)
    assert "--backend math=ollama://HOST/math or math=gguf:FILE" in str(told_.value)
    assert "\n" not in str(told_.value)


@pytest.mark.parametrize(
    "spec", ["ollama://127.0.0.1:1/huge:70b", "ollama://127.0.0.1:1", "http://127.0.0.1:1"]
)
def test_a_planner_of_unknown_size_is_refused(spec: str) -> None:
    """What cannot be counted cannot be charged; the fleet's own models can."""
    here = FleetHere(pool_of("pocket", f"planner={spec}"), Runner())
    with pytest.raises(
        UnavailableError, match=r"planner: .* is no model of known size; use pocket:NAME"
    ) as exc:
        here.planner()
    assert "\n" not in str(exc.value)
    with pytest.raises(UnavailableError, match="of known size"):
        routing_of(PLANNER, here)


@pytest.mark.parametrize(("spec", "tokens"), [("pocket:nano", 1024), ("pocket:nano?n_ctx=2048", 2048)])
def test_the_asked_model_is_asked_within_the_context_of_its_engine(spec: str, tokens: int) -> None:
    """As it is launched here; a server's is its own matter."""
    here = FleetHere(pool_of("pocket", f"planner={spec}"), Runner())
    made = routing_of(PLANNER, here).make()
    assert made.context_tokens == here.planner_context_tokens == tokens  # type: ignore[attr-defined]
    assert FleetHere(pool_of("node"), Runner()).planner_context_tokens is None


def test_nothing_plans_in_a_simulation_but_its_stand_in(replayed: FleetHere) -> None:
    """Which says so: it is no model, and its plans are fallbacks."""
    with pytest.raises(UnavailableError, match="writes filler"):
        replayed.planner()
    routing = routing_of(PLANNER, replayed)
    assert (routing.stands_in, routing.is_model) == (True, False)


@pytest.mark.parametrize(
    ("profile", "gb", "smallest"),
    [("replay", 1.0, "2"), ("pocket", 0.001, "0.001607936"), ("pocket", 1e-12, "0.0")],
)
def test_a_budget_that_nothing_fits_names_the_option(profile: str, gb: float, smallest: str) -> None:
    """And what would do; with that it fits."""
    runner = Runner()
    here = FleetHere(pool_of(profile), runner, budget_gb=gb)
    with pytest.raises(
        UnavailableError, match=rf"the smallest model takes .* pass --vram-gb {smallest}"
    ) as exc:
        here.check_room()
    enough = float(str(exc.value).partition("--vram-gb ")[2].split()[0])
    FleetHere(pool_of(profile), runner, budget_gb=enough).check_room()
    runner.close()


def test_a_budget_without_room_for_the_asked_model_says_so() -> None:
    """Though others fit."""
    here = FleetHere(pool_of("pocket", "planner=pocket:large"), Runner(), budget_gb=0.006)
    with pytest.raises(UnavailableError, match=r"the model that is asked takes \d+ bytes, .* --vram-gb 0\.0"):
        here.check_room()


@pytest.mark.parametrize(
    ("profile", "gb", "pair"),
    [
        ("replay", 8.0, ("llama3.1:8b", "gemma2:2b")),  # llama takes exactly all there is
        ("replay", 7.9, ("qwen2.5-coder:7b", "gemma2:2b")),
        ("replay", 6.4, None),
        ("pocket", 0.002, None),
    ],
)
def test_preference_is_between_two_models_that_fit(
    profile: str, gb: float, pair: tuple[str, str] | None
) -> None:
    """The best in the mean and the cheapest of those that fit alone; without two, one line says so."""
    here = FleetHere(pool_of(profile), Runner(), budget_gb=gb)
    if pair is not None:
        planner = routing_of("preference", here).make().planner  # type: ignore[attr-defined]
        assert (planner.strong, planner.weak) == pair
        return
    with pytest.raises(UnavailableError, match=r"preference: 1 of the models .* raise the budget") as exc:
        routing_of("preference", here)
    assert "\n" not in str(exc.value)


def test_every_router_says_how_far_it_sees(pocket: FleetHere) -> None:
    """What its record and its checks promise is what it does."""
    for name in (*ROUTERS, PLANNER):
        routing = routing_of(name, pocket)
        made = routing.make()
        assert (routing.name, routing.window, routing.is_model) == (name, made.window, made.is_model)
        assert routing.make() is not made
        assert routing.flat == name.endswith("-flat")
        assert routing.learns == name.endswith("-learning")


def test_engines_that_stay_up_are_started_once_and_closed(pocket: FleetHere) -> None:
    """However often they are asked for, by whichever router."""
    first = pocket.kept(["nano", PLANNER])
    again = pocket.kept(["nano"])
    assert [model.name for model in first] == ["nano", PLANNER]
    assert first[0].backend is again[0].backend  # type: ignore[attr-defined]
    assert all(model.is_kept for model in first)
    assert set(pocket.leases()) == {"nano", PLANNER}
    url = urlsplit(first[0].backend.inner.url)  # type: ignore[attr-defined]
    address = (url.hostname or "", url.port or 0)
    socket.create_connection(address, timeout=5).close()
    pocket.close()
    assert pocket.leases() == {}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_no_budget_outlives_its_pass(replayed: FleetHere, ledgers: Path, tmp_path: Path) -> None:
    """Neither of rounds nor of gradings; while one runs there is one."""
    found = grades(replayed, published().jobs, tmp_path)
    seen = []
    ran = found.under(
        routing_of("greedy", replayed),
        found.beliefs,
        found.jobs,
        lambda run, estimates: seen.append(len(list(ledgers.glob("*.json")))),
    )
    arm = JobArm(routing_of("sequential", replayed), found, found.jobs)
    assert list(arm.run().failures) == []
    assert seen == [1, 1, 1]
    assert list(ledgers.iterdir()) == []
    assert 0 < ran.peak_bytes <= ran.capacity_bytes == replayed.budget_bytes
    assert ran.left_bytes == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_no_budget_outlives_a_pass_that_breaks(
    replayed: FleetHere, ledgers: Path, tmp_path: Path, error: type[BaseException]
) -> None:
    """A router that cannot be made, Ctrl-C while an answer is graded."""

    def broken() -> object:
        raise error

    def grade(job: Job, task: JobTask, model: str, text: str) -> object:
        raise error

    found = grades(replayed, published().jobs, tmp_path)
    unmade = Routing(name="unmade", make=broken)  # type: ignore[arg-type]
    with pytest.raises(error):
        found.under(unmade, found.beliefs, found.jobs)
    found.grade = grade  # type: ignore[assignment]
    with pytest.raises(error):
        found.under(routing_of("greedy", replayed), found.beliefs, found.jobs)
    assert list(ledgers.iterdir()) == []


def test_a_router_is_graded_once_and_timed_anew(replayed: FleetHere, tmp_path: Path) -> None:
    """Grades are remembered by name; each round begins with nothing loaded, and is told."""
    found = grades(replayed, published().jobs, tmp_path)
    routing = routing_of("sequential", replayed)
    assert found.of(routing) is found.of(routing)
    arm = JobArm(routing, found, found.jobs)
    first, second = arm.run(), arm.run()
    assert first.values == pytest.approx(second.values)
    assert first.values["loads"] > 0
    assert [run.steps[0].resident_before for ran in arm.passes for run in ran.runs][0::3] == [(), ()]
    lines = (tmp_path / "telemetry.jsonl").read_text().splitlines()
    done = [event for event in map(json.loads, lines) if event["event"] == "job_dag_summary"]
    phases = [("graded", None), ("warm-up", None), ("round", 0)]
    assert [(event["phase"], event["round"]) for event in done] == [each for each in phases for _ in range(3)]
    assert {event["job"] for event in done[3:6]} == {"wb1", "wb2", "wb3"}
    assert {event["wall_s"] for event in done[:3]} == {None}  # of engines that stay up
    assert all(event["wall_s"] > 0 for event in done[3:])
    artifact = json.loads((tmp_path / "artifacts" / "sequential" / "wb2.json").read_text())
    assert artifact["assignments"] == found.of(routing).runs[1].models


def test_learning_changes_what_a_router_is_told(replayed: FleetHere, tmp_path: Path) -> None:
    """From grades, and only where its name says so."""
    found = grades(replayed, instances("workflowbench").jobs[:6], tmp_path)
    plain, learning = (found.of(routing_of(name, replayed)) for name in ("sequential", "sequential-learning"))
    assert plain.told.keys() == learning.told.keys()
    assert plain.told != learning.told
    exact = found.of(routing_of("exact", replayed))
    assert exact.told == plain.told


def test_a_torn_line_of_telemetry_is_cut_off(replayed: FleetHere, tmp_path: Path) -> None:
    """A run that was killed while it wrote, and is continued, can be read."""
    found = grades(replayed, published().jobs[:1], tmp_path)
    arm = JobArm(routing_of("greedy", replayed), found, found.jobs)
    path = tmp_path / "telemetry.jsonl"
    for whole in (b"", b'{"event": "other"}\n'):
        path.write_bytes(whole + b'{"event": "dag_struc')
        arm.run()
        assert path.read_bytes().startswith(whole + b'{"event": "dag_structure"')
        assert [trace.is_whole for trace in told.read(tmp_path)] == [True]


def test_pocket_engines_answer_under_the_ledger(pocket: FleetHere, ledgers: Path, tmp_path: Path) -> None:
    """A round loads them for real; the grading keeps them up, and both answer alike."""
    jobs = instances("pocket").jobs[:1]
    beliefs = Beliefs.of(pocket)
    found = JobGrades(pocket, beliefs, jobs, graded_by(None), Telemetry(lambda: tmp_path))
    found.grade = DrawnOutcomes(Estimates(beliefs.priors, beliefs.weights).quality, seed=1)
    arm = JobArm(routing_of("sequential", pocket), found, found.jobs)
    values = arm.run().values
    graded: Ran = found.of(routing_of("sequential", pocket))
    assert values["load_s"] > 0
    assert values["loads"] > 0
    (timed,), (kept,) = arm.passes[0].runs, graded.runs
    assert timed.error is kept.error is None
    same = [name for name in timed.models if timed.models[name] == kept.models[name]]
    assert [timed.tasks[name].answer for name in same] == [kept.tasks[name].answer for name in same]
    assert all(s is None for step in kept.steps for change in step.changes for s in change.load_s.values())
    assert list(ledgers.iterdir()) == []


@pytest.mark.parametrize(("kind", "says"), [("math", "no model fits"), ("creative", "no prior for tasks")])
def test_what_cannot_be_planned_is_refused_before_anything_is_loaded(
    replayed: FleetHere, pocket: FleetHere, ledgers: Path, tmp_path: Path, kind: str, says: str
) -> None:
    """A budget below every model, a type of task that the fleet has no prior for; no ledger is left."""
    here = replayed if kind == "math" else pocket
    found = grades(here, (job_of([kind], []),), tmp_path)
    with pytest.raises(HarnessError, match=says) as exc:
        found.under(routing_of("greedy", here), found.beliefs, found.jobs, budget_bytes=2_000_000)
    assert "\n" not in str(exc.value)
    assert list(ledgers.iterdir()) == []
