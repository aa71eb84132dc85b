"""The pool starts what a role needs, prices it, and leaves nothing running."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fixtures.nodes import ROLES, load_node, specs_of
from fixtures.pool import Pool, Runner
from harness.backends import BackendSpec, Completion, Message, Request, parse_backend
from harness.errors import BackendError, HarnessError, LaunchError, UnavailableError, UsageError
from harness.launchers.canned import CannedServer, replaying
from harness.launchers.probe import serving_engine
from harness.routers import FixedRouter
from harness.workflow import EngineTimePrice, TokenPrice, UnknownPrice, load, price_of, run_tasks


def pool(*given: str, profile: str = "pocket", node: str | None = None) -> Pool:
    return Pool(specs_of(profile, node, given), profile)


def listens(url: str) -> bool:
    async def knock() -> bool:
        parts = urlsplit(url)
        try:
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        except OSError:
            return False
        writer.close()
        return True

    return asyncio.run(knock())


def test_the_pocket_profile_is_embedded() -> None:
    """Without options both platforms have a small and a large model, and jobs have four and a planner."""
    rows = specs_of("pocket", None, ())
    cascade = {"large", "small", "edge-large", "edge-small"}
    jobs = {"nano", "code", "math", "generalist", "planner"}
    assert set(rows) == cascade | jobs
    assert all(row.spec.is_embedded for row in rows.values())
    assert rows.keys() < set(ROLES)


def test_a_given_backend_replaces_the_profiles() -> None:
    """The last word is the command line's."""
    for profile in ("pocket", "node"):
        rows = specs_of(profile, None, ["large=http://gpu1:30000/m"])
        assert (rows["large"].spec.url, rows["large"].start) == ("http://gpu1:30000", None)


def test_the_node_profile_is_the_set_up_of_the_seeds() -> None:
    """SGLang on 30000 and 30001, Ollama where it listens, with the published models."""
    rows = specs_of("node", None, ())
    assert {role: (row.spec.kind, row.spec.model) for role, row in rows.items()} == {
        "large": ("sglang", "mistralai/Mistral-7B-Instruct-v0.3"),
        "small": ("sglang", "Qwen/Qwen2.5-0.5B-Instruct"),
        "edge-large": ("ollama", "mistral:7b-instruct"),
        "edge-small": ("ollama", "qwen2.5:0.5b-instruct"),
        "gemma": ("ollama", "gemma2:2b"),
        "qwen": ("ollama", "qwen2.5-coder:7b"),
        "llama": ("ollama", "llama3.1:8b"),
        "phi": ("ollama", "phi4:14b"),
        "planner": ("ollama", "llama3.1:8b"),
    }
    assert rows["large"].spec.url == "http://127.0.0.1:30000"
    assert rows["small"].spec.url == "http://127.0.0.1:30001"
    assert all(row.start for row in rows.values())


ROW = """[[backend]]
role = "large"
spec = "http://gpu1:1/m"
start = "make it so"
source = "here"
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds nothing, not [[backend]]"),
        ("[", "see bench/nodes/seed.toml"),
        ("[node]\nx = 1", "holds node, not"),
        (ROW.replace("source", "sauce"), "it needs the texts role, source, spec, start"),
        (ROW.replace('"make it so"', "1"), "it needs the texts"),
        (ROW.replace('"large"', '"lage"'), "did you mean large?"),
        (ROW.replace("http", "gopher"), "unknown scheme 'gopher'"),
        (ROW + ROW, "large stands twice"),
    ],
)
def test_a_malformed_node_file_is_one_clear_error(text: str, says: str, tmp_path: Path) -> None:
    """The message names the option, the row and what would be right."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_node(str(path))
    assert str(caught.value).startswith(f"--node {path}: ")
    assert says in str(caught.value)


def test_a_node_that_does_not_exist_names_those_that_do() -> None:
    """A wrong name is told before anything runs, and so is a node for a profile that has none."""
    with pytest.raises(UsageError, match=r"--node sed: no file .*one of: .*seed"):
        load_node("sed")
    with pytest.raises(UsageError, match="goes with --profile node"):
        specs_of("pocket", "seed", ())


def test_a_server_of_a_node_file_that_is_away_is_told_with_its_line_and_asked_once(tmp_path: Path) -> None:
    """The skip reason ends with the command to type; the deadline is paid once, not in every variant."""
    path = tmp_path / "mine.toml"
    path.write_text(ROW.replace("http://gpu1:1/m", "http://127.0.0.1:9/m?deadline_s=0.1"))
    found = pool(profile="node", node=str(path))
    with pytest.raises(UnavailableError, match=r"large: no server .*; start it with: make it so") as first:
        found.server("large")
    with pytest.raises(UnavailableError) as second:
        found.engine("large")
    assert second.value is first.value


@pytest.mark.parametrize("is_of_a_node", [True, False])
def test_a_server_that_falls_silent_is_asked_once_what_it_serves(
    is_of_a_node: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is away: a line of its node file ends the reason, and no variant waits for it again."""
    asked: list[str] = []

    def ask(spec: BackendSpec, server: object) -> None:
        asked.append(spec.role)
        raise LaunchError(f"{spec.role}: did not say within 60 s what m is")

    monkeypatch.setattr("fixtures.pool.told_random", ask)
    path = tmp_path / "mine.toml"
    with CannedServer() as server:
        path.write_text(ROW.replace("http://gpu1:1/m", f"{server.url}/canned"))
        found = pool(profile="node", node=str(path)) if is_of_a_node else pool(f"large={server.url}")
        kind = UnavailableError if is_of_a_node else LaunchError
        told = ".*start it with: make it so$" if is_of_a_node else "$"
        for look in (found.server, found.label, found.random_weights):
            with pytest.raises(kind, match=rf"^large: did not say within 60 s what m is{told}"):
                look("large")
    assert asked == ["large"]


def test_a_role_without_a_backend_names_the_option_that_would_give_it_one() -> None:
    """The skip reason is the line to type."""
    with pytest.raises(UnavailableError, match="pass --backend large=http://"):
        Pool({}, "node").spec("large")


def test_a_role_without_a_backend_is_told_of_the_servers_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found is offered, ready to be typed."""
    with CannedServer() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        with pytest.raises(UnavailableError, match=rf"running here: .*{server.url}.*; pass --backend large="):
            Pool({}, "node").spec("large")


@pytest.mark.parametrize("text", ["large", "=x", "large=ftp://x", "large=pocket:nano?threads=many"])
def test_a_malformed_backend_is_named(text: str) -> None:
    """One clear error with the option as it was typed."""
    with pytest.raises(UsageError, match="--backend"):
        specs_of("pocket", None, [text])


def test_an_embedded_engine_is_priced_by_time_and_a_model_with_a_price_by_token() -> None:
    """A pocket model has no market price."""
    assert isinstance(price_of(parse_backend("small=pocket:nano"), "nano"), EngineTimePrice)
    remote = parse_backend("large=http://gpu1:30000")
    price = price_of(remote, "mistralai/Mistral-7B-Instruct-v0.3")
    assert isinstance(price, TokenPrice)


@pytest.mark.parametrize(
    "served", ["Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5:0.5b-instruct", "/models/Qwen2.5-0.5B-Instruct/"]
)
def test_a_price_is_found_by_each_engines_spelling_of_the_model(served: str) -> None:
    """SGLang, Ollama and a local path name one model in three ways."""
    assert isinstance(price_of(parse_backend("small=http://gpu1:30001"), served), TokenPrice)


def test_a_model_without_a_price_has_an_unknown_cost() -> None:
    """No price is invented, and none is 0."""
    price = price_of(parse_backend("large=http://gpu1:30000"), "mystery")
    assert isinstance(price, UnknownPrice)
    answer = Completion(text="x", prompt_tokens=1, output_tokens=1, sent_s=0, done_s=1)
    assert price.usd(answer) is None


def test_a_lease_answers_and_is_gone_when_closed() -> None:
    """The engine listens while leased and no longer after."""

    async def use() -> tuple[str, str]:
        lease = await pool().lease(["small"])
        async with lease.endpoints["small"].slot() as backend:
            answer = await backend.generate(Request(messages=(Message("user", "Hello"),), max_tokens=3))
        url = backend.url  # type: ignore[attr-defined]
        await lease.aclose()
        return answer.text, url

    text, url = asyncio.run(use())
    assert text
    assert not listens(url)


def test_replicas_are_servers_of_their_own() -> None:
    """Two replicas of one role have two addresses."""

    async def urls() -> set[str]:
        lease = await pool().lease(["small"], replicas=2)
        try:
            return {b.url for b in lease.endpoints["small"].backends}  # type: ignore[attr-defined]
        finally:
            await lease.aclose()

    assert len(asyncio.run(urls())) == 2


def test_a_second_role_that_fails_takes_the_first_down_with_it() -> None:
    """A lease is whole or nothing."""

    async def lease() -> None:
        await pool("large=gguf:/nowhere/model.gguf").lease(["small", "large"])

    with pytest.raises(LaunchError, match=r"/nowhere/model\.gguf"):
        asyncio.run(lease())


def test_a_dead_url_is_one_clear_error() -> None:
    """The message names the role, the address and what to do."""

    async def lease() -> None:
        await pool("large=http://127.0.0.1:9/m").lease(["large"])

    with pytest.raises(HarnessError, match=r"large.*127\.0\.0\.1:9") as caught:
        asyncio.run(lease())
    assert isinstance(caught.value, (BackendError, LaunchError))


def test_a_slowed_engine_takes_that_much_longer() -> None:
    """A slowdown of 1 at least nearly doubles the time that the caller sees, inside the backend."""

    async def seconds(slowdown: float) -> float:
        lease = await pool().lease(["small"], slowdown=slowdown)
        try:
            async with lease.endpoints["small"].slot() as backend:
                request = Request(messages=(Message("user", "Hello"),), max_tokens=40, ignore_eos=True)
                done = await backend.generate(request)
            return done.e2e_latency_s / (done.engine.prefill_s + done.engine.decode_s)  # type: ignore[operator]
        finally:
            await lease.aclose()

    assert asyncio.run(seconds(1.0)) > 1.9


@pytest.mark.parametrize(
    ("owner", "engine"), [("sglang", "sglang"), ("vllm", "vllm"), ("llamacpp", "llama.cpp"), ("me", "openai")]
)
def test_a_server_at_a_url_is_called_what_it_calls_itself(owner: str, engine: str) -> None:
    """The claims about SGLang are decided by a server that says that it is SGLang, and by no other."""
    listing = json.dumps({"data": [{"id": "mistralai/Mistral-7B-Instruct-v0.3", "owned_by": owner}]}).encode()
    with CannedServer() as server:
        server.behave_at_models = replaying(listing, content_type="application/json")
        found = pool(f"large={server.url}", profile="node")
        assert found.engine("large") == engine
        assert found.label("large") == f"{engine} mistralai/Mistral-7B-Instruct-v0.3"


def test_ollama_is_known_by_its_greeting() -> None:
    """Ollama lists models without naming itself, and says so at its root."""
    with CannedServer() as server:
        server.behave_at_models = replaying(b"Ollama is running", content_type="text/plain")
        assert serving_engine(server.url) == "ollama"


def test_the_replay_profile_is_simulated_and_waits_for_nobody() -> None:
    """Every role answers by published constants, labelled so, in virtual time: 1748 s of Ollama at once."""
    found = pool(profile="replay")
    runner = Runner(is_virtual=found.is_simulated)
    workload = load("swe20", Path(__file__).parents[1] / "bench" / "workloads")
    router = FixedRouter(name="r", roles={stage.name: "edge-large" for stage in workload.stages})

    async def total_s() -> float:
        lease = await found.lease(["edge-large"])
        try:
            runs = await run_tasks(workload, workload.tasks, router, lease.endpoints)
            return sum(run.wall_s for run in runs)
        finally:
            await lease.aclose()

    try:
        assert found.evidence(["edge-large"]) == "simulated"
        assert runner(total_s()) == pytest.approx(20 * 230 * 0.38)
    finally:
        runner.close()


def test_one_simulated_role_makes_the_evidence_simulated() -> None:
    """A record that a simulation has a part in never counts as measured."""
    found = pool("large=simulated:Mistral-7B-Instruct-v0.3?device=origin-sglang")
    assert not found.is_simulated
    assert found.evidence(["small", "large"]) == "simulated"
    assert found.evidence(["small"]) == "measured"


def test_a_server_that_cannot_be_had_twice_says_so_before_anything_runs() -> None:
    """Two servers of one model at one URL are one server."""
    with pytest.raises(UnavailableError, match="large: 2 servers of one model"):
        pool("large=http://127.0.0.1:9").check_replicas(["small", "large"], 2)
