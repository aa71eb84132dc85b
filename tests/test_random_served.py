"""Random weights that somebody else's engine serves are told from trained ones, under any name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fixtures.nodes import specs_of
from fixtures.pool import Pool
from fixtures.random_weights import labelled, without_quality
from harness.backends import BackendSpec, launcher_for, parse_backend, told_random
from harness.backends import told as told_module
from harness.errors import LaunchError, ModelError, UsageError
from harness.launchers import Server, origin
from harness.launchers.canned import (
    Behaviour,
    CannedServer,
    Exchange,
    answering,
    hanging,
    hanging_up,
    replaying,
    routing,
)
from harness.launchers.origin import Origin, origin_of
from harness.models.random_marks import MARK, folder_of, mark_of, says_random, told_of
from harness.survey.weights import find_weights
from reports.records import Record

ROOT = Path(__file__).parents[1]
LLAMA = "meta-llama/Llama-2-7b-hf"
SHAPE = f"random:{LLAMA}"


def told(content: Any) -> Behaviour:
    return replaying(json.dumps(content).encode(), content_type="application/json")


def serving(engine: str | None, *cards: dict[str, Any], **others: Any) -> Behaviour:
    """What a server answers that lists these models; `others`, by the last part of their paths."""
    listed = [{**card, "owned_by": engine} if engine else card for card in cards]
    return routing(models=told({"data": listed}), **{path: told(what) for path, what in others.items()})


def a_checkpoint(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    (folder / "model.safetensors").write_text("")
    return folder


def pool(*given: str) -> Pool:
    return Pool(specs_of("pocket", None, given), "pocket")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("random--meta-llama--Llama-2-7b-hf", True),
        ("/models/random--tiny-llama", True),
        ("org/random--x", True),
        ("random:meta-llama/Llama-2-7b-hf", True),
        ("vllm random:tiny-llama", True),
        ("hf-internal-testing/tiny-random-LlamaForCausalLM", True),
        ("anything (random weights)", True),
        ("meta-llama/Llama-2-7b-hf", False),
        ("org/randomised-llama", False),
        ("a-random-walk", False),
        ("strandom:7b", False),
        ("acme/destiny-random-walk", False),
        ("org/tiny-randomized-llama", False),
    ],
)
def test_a_name_says_so_or_does_not(name: str, says: bool) -> None:
    """By what this project calls them, and by what the hub does."""
    assert says_random(name) is says
    assert (told_of(name) is not None) is says


def test_a_shape_has_a_folder_of_its_own() -> None:
    """Whose name engines take for the model's."""
    assert folder_of(LLAMA) == folder_of(SHAPE) == "random--meta-llama--Llama-2-7b-hf"
    assert says_random(folder_of("tiny-qwen"))
    with pytest.raises(ModelError, match="no shape of that name"):
        folder_of("llama-9")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}'])
def test_a_configuration_without_the_mark_says_nothing(text: str, tmp_path: Path) -> None:
    """Broken ones among them, and none at all."""
    (tmp_path / "config.json").write_text(text)
    assert mark_of(tmp_path) is None
    assert mark_of(tmp_path / "gone") is None


def test_a_folder_that_was_renamed_is_told_by_its_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its path, by a link to it, by its file, and by its name in the hub's cache."""
    made = a_checkpoint(tmp_path / "llama", **{MARK: SHAPE})
    (tmp_path / "link").symlink_to(made)
    (tmp_path / "other").symlink_to(a_checkpoint(tmp_path / "random--x"))
    cached = tmp_path / "models--org--llama" / "snapshots" / "abc"
    a_checkpoint(cached, **{MARK: SHAPE})
    monkeypatch.setattr("harness.models.hub.cache_folder", lambda: tmp_path)
    for name in (made, tmp_path / "link", made / "model.safetensors", "org/llama"):
        found = told_of(str(name))
        assert found is not None, name
        assert found.shape == SHAPE
    assert told_of(str(tmp_path / "other")) is not None
    assert told_of(str(a_checkpoint(tmp_path / "trained"))) is None
    assert labelled(f"{made}@float16") == f"{made}@float16 ({SHAPE}) (random weights)"


@pytest.mark.parametrize(
    "name",
    ["a\0b", "/a\0b", "/" + "x" * 5000, f"org/{'x' * 5000}", "~nobody-of-that-name/x", "loop", ".", "", "/"],
)
def test_a_name_that_no_path_can_have_is_no_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may report anything: what cannot be looked at tells nothing."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.chdir(tmp_path)
    assert told_of(name) is None


def test_a_folder_that_is_not_ours_to_look_into_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older Pythons raise where newer ones say that nothing is there."""

    def refuse(*_: object, **__: object) -> bool:
        raise PermissionError(13, "Permission denied")

    for asked in ("exists", "is_file", "stat"):
        monkeypatch.setattr(Path, asked, refuse)
    assert told_of("/root/models/llama") is None


@pytest.mark.parametrize("folder", ["random--experiments", "a-tiny-random-idea"])
def test_where_a_trained_model_lies_does_not_make_it_random(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its own folder's name counts; a name that is nowhere is no path from here."""
    here = tmp_path / folder / "checkout"
    a_checkpoint(here / "llama")
    cached = tmp_path / folder / "hub" / "models--org--llama" / "snapshots" / "abc"
    a_checkpoint(cached)
    monkeypatch.setattr("harness.models.hub.cache_folder", lambda: tmp_path / folder / "hub")
    monkeypatch.chdir(here)
    for name in ("llama", "llama/model.safetensors", "nano", "org/llama", "llama.cpp nano f16"):
        assert told_of(name) is None, name
    marked = a_checkpoint(here / "llama.cpp nano f16", **{MARK: SHAPE})
    assert told_of("llama.cpp nano f16") is None
    assert told_of(str(marked)) is not None


def test_a_revision_that_goes_while_the_cache_is_read_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client may take it away at any time."""

    class Gone:
        def __truediv__(self, _: str) -> Gone:
            return self

        def iterdir(self) -> list[Gone]:
            return [self]

        def is_dir(self) -> bool:
            return True

        def stat(self) -> Any:
            raise FileNotFoundError

    monkeypatch.setattr("harness.models.hub.cache_folder", Gone)
    assert told_of("org/llama") is None


def test_a_marked_folder_is_no_weights_of_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is called: the model is then said to be random, as it is."""
    monkeypatch.setattr("harness.models.hub.cache_folder", lambda: tmp_path / "none")
    a_checkpoint(tmp_path / LLAMA, **{MARK: SHAPE})
    assert find_weights(LLAMA, tmp_path).name == SHAPE
    (tmp_path / LLAMA / "config.json").write_text("{}")
    assert find_weights(LLAMA, tmp_path).path == tmp_path / LLAMA


CASES = {
    "its name": serving("vllm", {"id": "random--tiny-llama"}),
    "the folder behind another name": serving("vllm", {"id": "llama", "root": "/mnt/random--tiny-llama"}),
    "what an adapter is for": serving(
        "vllm",
        {"id": "llama", "root": "/adapters/a", "parent": "base"},
        {"id": "base", "root": "/mnt/random--tiny-llama"},
    ),
    "vLLM's load format": serving(
        "vllm",
        {"id": "llama", "root": "org/llama"},
        server_info={"vllm_config": {"load_config": {"load_format": "dummy"}}},
    ),
    "vLLM's configuration": serving(
        "vllm", {"id": "llama"}, server_info={"vllm_config": {"model_config": {"model": "/a/random--x"}}}
    ),
    "SGLang's path": serving(
        "sglang", {"id": "llama", "root": "llama"}, model_info={"model_path": "/m/random--x"}
    ),
    "SGLang's load format": serving(
        "sglang", {"id": "llama"}, model_info={"model_path": "org/llama", "load_format": "dummy"}
    ),
    "an older SGLang's": serving(
        "sglang",
        {"id": "llama"},
        get_model_info={"model_path": "org/llama"},
        get_server_info={"model_path": "org/llama", "load_format": "dummy"},
    ),
    "llama.cpp's file": serving(
        "llamacpp", {"id": "llama"}, props={"model_path": "/m/random--tiny-llama/f16.gguf"}
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_server_tells_where_its_model_is_from(case: str) -> None:
    """Whatever it serves it as: the role's label says that weights are random."""
    with CannedServer() as server:
        server.behave_at_models = CASES[case]
        found = pool(
            f"large={server.url}?model={'llama' if 'name' not in case[:8] else 'random--tiny-llama'}"
        )
        assert says_random(found.label("large")), case
        assert found.random_weights("large") is not None


TRAINED = {
    "vllm": serving(
        "vllm", {"id": "llama", "root": "org/llama"}, server_info={"vllm_config": {"load_config": {}}}
    ),
    "vllm in words": serving("vllm", {"id": "llama"}, server_info={"vllm_config": "a text"}),
    "sglang": serving("sglang", {"id": "llama"}, model_info={"model_path": "o/l", "load_format": "auto"}),
    "sglang behind a router": serving("sglang", {"id": "llama"}),
    "llama.cpp": serving("llamacpp", {"id": "llama"}, props=["no", "object"]),
    "unknown": serving(None, {"id": "llama", "root": None, "parent": "llama"}),
    "in a circle": serving("vllm", {"id": "llama", "parent": "other"}, {"id": "other", "parent": "llama"}),
}


@pytest.mark.parametrize("case", TRAINED)
def test_a_server_that_tells_nothing_of_the_kind_is_left_as_it_is(case: str) -> None:
    """Its label is its engine and its model, and its records are whole."""
    with CannedServer() as server:
        server.behave_at_models = TRAINED[case]
        found = pool(f"large={server.url}?model=llama")
        assert found.random_weights("large") is None
        assert found.label("large").endswith(" llama")


def test_a_server_whose_folder_is_on_this_machine_is_told_by_its_mark(tmp_path: Path) -> None:
    """With the shape, so that a claim about the model's times finds it."""
    made = a_checkpoint(tmp_path / "llama", **{MARK: SHAPE})
    with CannedServer() as server:
        server.behave_at_models = serving("vllm", {"id": "mine", "root": str(made)})
        assert pool(f"large={server.url}").label("large") == f"vllm mine ({SHAPE}) (random weights)"


def test_what_a_server_elsewhere_tells_is_no_path_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another's /models/llama is not ours; a name that is no whole path is the hub's at most."""
    made = a_checkpoint(tmp_path / "org" / "llama", **{MARK: SHAPE})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.models.hub.cache_folder", lambda: tmp_path / "none")
    for root, is_here, is_random in (
        (str(made), True, True),
        (str(made), False, False),
        ("org/llama", True, False),
        ("~/llama", True, False),
    ):
        monkeypatch.setattr(told_module, "_is_here", lambda _, here=is_here: here)
        with CannedServer() as server:
            server.behave_at_models = serving("vllm", {"id": "org/llama", "root": root})
            found = pool(f"large={server.url}?model=org/llama").random_weights("large")
            assert (found is not None) is is_random, (root, is_here)
    a_checkpoint(tmp_path / "hub" / "models--org--llama" / "snapshots" / "abc", **{MARK: SHAPE})
    monkeypatch.setattr("harness.models.hub.cache_folder", lambda: tmp_path / "hub")
    assert told_random(parse_backend("large=http://gpu1:1/org/llama")) is not None


def test_what_a_container_tells_is_a_path_inside_it(tmp_path: Path) -> None:
    """Its port is on this machine, its files are not."""
    made = a_checkpoint(tmp_path / "llama", **{MARK: SHAPE})
    with CannedServer() as server:
        server.behave_at_models = serving("vllm", {"id": "llama", "root": str(made)})
        running = Server(url=server.url, model="llama", start_s=0.0, engine="vllm")
        spec = "large=container:img:1?port=80"
        assert told_random(parse_backend(spec), running) is None
        assert told_random(parse_backend("large=process:vllm?model=llama"), running) is not None


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000/v1", True),
        ("http://192.0.2.1:8000", False),
        ("http://[::1:8000", False),
    ],
)
def test_a_server_is_here_where_its_address_is_this_machines(url: str, is_here: bool) -> None:
    """Whatever its port."""
    assert told_module._is_here(url) is is_here


def test_a_user_says_what_nothing_else_tells() -> None:
    """By the backend's option, in every way that a backend comes to be; the server is not even asked."""
    with CannedServer() as server:
        server.behave_at_models = serving(None, {"id": "llama"})
        assert pool(f"large={server.url}").random_weights("large") is None
        found = pool(f"large={server.url}?weights=random")
        assert found.label("large") == "openai llama (random weights)"
    for spec in (
        "process:vllm?model=org/llama&weights=random",
        "container:vllm?model=org/llama&weights=random",
        "transformers:org/llama?weights=random",
        "gguf:/models/llama.gguf?weights=random",
        "ollama://gpu1/llama?weights=random",
    ):
        assert told_random(parse_backend(f"large={spec}")) is not None, spec
    with pytest.raises(UsageError, match=r"weights is 'untrained'; give a plain 'random' or 'trained'"):
        parse_backend("large=http://gpu1:1?weights=untrained")


def test_a_user_who_says_that_weights_are_trained_is_believed() -> None:
    """Against every sign; nobody is asked, and the record's settings say that it was said."""
    asked: list[str] = []

    async def listing(exchange: Exchange) -> None:
        asked.append(exchange.path)
        await serving("sglang", {"id": "org/tiny-random-x"}, server_info={"load_format": "dummy"})(exchange)

    with CannedServer() as server:
        server.behave_at_models = listing
        found = pool(f"large={server.url}?weights=trained", f"small={server.url}")
        assert found.random_weights("large") is None
        assert not any("info" in path for path in asked)
        large, small = found.label("large"), found.label("small")
    fields: dict[str, Any] = {
        "experiment": "cascade", "backend": "sglang", "profile": "node", "variant": "cascade",
        "control": "baseline", "sweep": [{"solved": 1.0}], "complete": True,
    }  # fmt: skip
    trained = without_quality(Record(**fields, models={"large": large}))
    assert trained.settings == {"weights": "trained"}
    assert trained.models == {"large": "sglang org/tiny-random-x"}
    assert trained.sweep == [{"solved": 1.0}]
    both = without_quality(Record(**fields, models={"large": large, "small": small}))
    assert both.settings["weights"] == "random"
    assert both.sweep == [{}]
    for spec in ("container:img:1?port=80", "process:vllm?model=o/l&args=--load-format%20dummy"):
        assert told_random(parse_backend(f"large={spec}&weights=trained")) is None


def test_a_server_of_ours_is_told_by_what_it_is_started_on(tmp_path: Path) -> None:
    """A folder, mounted or named, and a load format; a pocket model is a trained one."""
    made = a_checkpoint(tmp_path / "llama", **{MARK: SHAPE})
    for spec in (
        f"process:vllm?model={made}",
        f"container:vllm?model=llama&weights={made}",
        f"transformers:{made}",
        f"gguf:{made}/f16.gguf",
        "process:sglang?model=org/llama&args=--load-format%20dummy",
        "process:vllm?model=org/llama&args=--load-format%3Ddummy%20--seed%201",
    ):
        (made / "f16.gguf").touch()
        assert told_random(parse_backend(f"large={spec}")) is not None, spec
    for spec in (
        "pocket:nano",
        "process:vllm?model=nano",
        "process:vllm?model=o/l&args=--load-format%20auto",
    ):
        assert told_random(parse_backend(f"large={spec}")) is None, spec


def test_a_word_on_its_weights_mounts_no_folder() -> None:
    """A container of which it is said is started on its model, as without the word."""
    for word in ("random", "trained"):
        said = launcher_for(parse_backend(f"large=container:img:1?port=80&weights={word}"))
        assert said == launcher_for(parse_backend("large=container:img:1?port=80"))


def test_a_server_that_does_not_answer_is_no_trained_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is an error that names it; a question that it does not know is an answer."""
    monkeypatch.setattr(origin, "_LIMIT_S", 0.2)
    with CannedServer() as server:
        server.behave_at_models = routing(models=hanging)
        with pytest.raises(LaunchError, match=r"large: .*/v1/models did not say within 0\.2 s what llama is"):
            origin_of(server.url, "llama", "sglang", name="large")
        server.behave_at_models = serving("vllm", {"id": "llama"})
        assert origin_of(server.url, "llama", "vllm") == Origin()
    spec = BackendSpec(role="large", kind="vllm", url=server.url)
    with pytest.raises(LaunchError, match="see whether the server is well"):
        told_random(spec, Server(url=server.url, model="llama", start_s=0.0, engine="vllm"))


@pytest.mark.parametrize("behave", [hanging, hanging_up])
def test_an_engines_own_question_ends_no_run(behave: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    """What else it says is heard; one warning names the option by which its user can tell."""
    assert origin._COURTESY_S <= 5
    monkeypatch.setattr(origin, "_COURTESY_S", 0.2)
    silent: dict[str, Behaviour] = {"server_info": behave, "get_server_info": behave}
    card = told({"data": [{"id": "llama", "root": "/m/random--x", "owned_by": "sglang"}]})
    with CannedServer() as server:
        server.behave_at_models = routing(models=card, model_info=told({"model_path": "/m/y"}), **silent)
        with pytest.warns(
            UserWarning, match=r"large: .*/server_info.*/get_server_info.*\?weights="
        ) as warned:
            found = pool(f"large={server.url}").random_weights("large")
    assert found is not None
    assert len(warned) == 1
    assert "\n" not in str(warned[0].message)


def test_sglang_is_asked_first_what_tells_all() -> None:
    """Its path and its load format are one answer; nothing more is asked, nor warned of."""
    whole = {"model_path": "org/llama", "load_format": "auto"}
    with CannedServer() as server:
        server.behave_at_models = routing(
            models=told({"data": [{"id": "llama"}]}), server_info=told(whole), model_info=hanging
        )
        assert origin_of(server.url, "llama", "sglang") == Origin(("org/llama",), "auto")


def test_a_variant_that_follows_its_answers_has_nothing_that_counts() -> None:
    """What it does on noise is not what it does: every metric is named; quality is taken out as always."""
    values: dict[str, float | None] = {"solved": 0.0, "cost_usd": 1.0, "total_s": 2.0}
    fields: dict[str, Any] = {
        "experiment": "cascade", "backend": "vllm", "profile": "node",
        "models": {"large": "vllm x (random weights)"}, "sweep": [dict(values)], "complete": True,
    }  # fmt: skip
    for arms in (
        {"variant": "escalate", "control": "baseline"},
        {"variant": "lp", "control": "planner"},
        {"variant": "nano-escalate-to-large", "control": None},
        {"variant": "sequential-learning", "control": None},
    ):
        found = without_quality(Record(**fields, **arms))
        assert found.settings["without"] == ["cost_usd", "solved", "total_s"]
        assert found.sweep == [{"cost_usd": 1.0, "total_s": 2.0}]
    cascade = without_quality(Record(**fields, variant="cascade", control="baseline"))
    assert cascade.settings["without"] == ["solved"]


async def an_answer(exchange: Exchange) -> None:
    """Of a fixed length, whatever was asked."""
    exchange.body["max_tokens"] = 4
    await answering()(exchange)


def test_a_served_folder_of_random_weights_decides_no_claim_about_answers(tmp_path: Path) -> None:
    """The whole way: a server at a URL, a run, its records, and the words for a claim of either kind."""
    claims = ("pocket-code-needs-large", "pocket-cascade-saves-time")
    with CannedServer(an_answer) as server:
        server.behave_at_models = serving("vllm", {"id": "canned", "root": "/mnt/random--tiny-llama"})
        command = [
            sys.executable, "-m", "pytest", "bench/test_cascade.py", "-m", "cascade",
            *("-p", "no:cacheprovider"),
            *(part for claim in claims for part in ("--claim", claim)),
            *("--tasks", "2", "--rounds", "3", "--results-dir", str(tmp_path)),
            *("--backend", f"large={server.url}", "--backend", f"small={server.url}"),
        ]  # fmt: skip
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    [run] = [path for path in tmp_path.iterdir() if (path / "journal.jsonl").exists()]
    entries = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    records = [one["extra_info"]["assay"] for one in entries]
    assert {one["variant"] for one in records} >= {"LSL", "cascade"}, ran.stdout[-3000:]
    for record in records:
        assert set(record["models"].values()) == {"vllm canned (random weights)"}
        assert record["settings"]["weights"] == "random"
        assert not any("solved" in task["treatment"] for task in record["tasks"])
    verdicts = {one["id"]: one for one in json.loads((run / "claims.json").read_text())["claims"]}
    quality, time = (verdicts[claim] for claim in claims)
    assert (quality["verdict"], quality["reason"]) == ("out of scope", "needs weights:trained")
    assert time["verdict"] != "out of scope"
