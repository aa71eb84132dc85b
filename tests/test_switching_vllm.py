"""vLLM with several models, against servers that speak its endpoints: who is awake, and what is said."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("psutil")

import psutil
import torch
from fake_vllm import FakeVllm, token_ids
from switching_asks import setting

from harness.errors import BackendUnreachable, UnavailableError, UsageError
from harness.switching.arms import make_arm
from harness.switching.arms.vllm_client import VllmClient
from harness.switching.base import Arm, Ask, answer_all

MODELS = ("large", "middle", "small")
TESTS = Path(__file__).parent


def ask(model: str, num: int = 3) -> Ask:
    return Ask(model=model, prompt_ids=(4, 5, 6), new_tokens=num)


@pytest.fixture
def fakes() -> Iterator[dict[str, FakeVllm]]:
    """A server per model, on one device; asleep, but for the last that came up."""
    device: list[str] = []
    made = {model: FakeVllm(model, device=device) for model in MODELS}
    device[:] = ["small"]
    yield made
    for one in made.values():
        one.stop()


@pytest.fixture
def arm(fakes: dict[str, FakeVllm]) -> Iterator[Arm]:
    urls = {model: fake.url for model, fake in fakes.items()}
    made = make_arm("vllm-sleep", setting(models=MODELS, servers=urls, deadline_s=10.0))
    yield made
    made.close()


def test_one_server_is_awake_at_a_time(arm: Arm, fakes: dict[str, FakeVllm]) -> None:
    """A switch is a sleep and a wake; who is asked again is not put to sleep."""
    arm.reset()
    assert fakes["large"].device == []
    turns = [ask("large"), ask("large"), ask("small"), ask("large")]
    answers = answer_all(arm, turns, sees_queue=True)
    assert [list(answer.token_ids) for answer in answers] == [
        token_ids(one.model, (4, 5, 6), 3) for one in turns
    ]
    assert [answer.is_hit for answer in answers] == [False, True, False, False]
    assert [call for call in fakes["large"].calls if "sleep?" in call or "wake" in call] == [
        "POST /wake_up", "POST /sleep?level=1", "POST /wake_up",
    ]  # fmt: skip
    assert fakes["large"].device == ["large"]
    for answer in answers:
        assert 0 <= answer.switch_s <= answer.ttft_s < answer.total_s
        assert answer.bytes_in is None
        assert answer.bytes_out is None
    assert answers[1].switch_s < answers[0].switch_s


@pytest.mark.parametrize(("warm", "awake"), [("cold", []), ("each", ["small"]), ("fill", ["large"])])
def test_a_trace_begins_as_its_warm_up_says(
    arm: Arm, fakes: dict[str, FakeVllm], warm: str, awake: list[str]
) -> None:
    arm.answer(ask("middle"))
    arm.reset(warm=warm)
    assert fakes["large"].device == awake


@pytest.mark.parametrize("path", ["/sleep", "/wake_up"])
def test_a_switch_that_fails_costs_one_request(arm: Arm, fakes: dict[str, FakeVllm], path: str) -> None:
    """Then the servers are asked who is awake, so that never two are."""
    arm.reset(warm="fill")
    fakes["large" if path == "/sleep" else "small"].broken.add(path)
    failed, *others = answer_all(arm, [ask("small"), ask("middle"), ask("small")], sees_queue=False)
    assert failed.failure is not None
    assert "BackendBroken: vllm-sleep: http://" in failed.failure
    assert "answered 500: " in failed.failure
    assert "EngineCore" in failed.failure
    assert failed.token_ids == ()
    assert [len(answer.token_ids) for answer in others] == [3, 3]


def test_a_server_that_is_gone_costs_its_own_requests(arm: Arm, fakes: dict[str, FakeVllm]) -> None:
    """The others wake and sleep as before."""
    arm.reset()
    fakes["small"].stop()
    turns = [ask("small"), ask("large"), ask("small"), ask("middle")]
    answers = answer_all(arm, turns, sees_queue=False)
    failures = [answer.failure or "" for answer in answers]
    assert "BackendUnreachable: vllm-sleep: no connection to" in failures[0]
    assert [not failure for failure in failures] == [False, True, False, True]
    assert fakes["large"].device == ["middle"]


def test_a_server_without_sleep_mode_is_no_use(fakes: dict[str, FakeVllm]) -> None:
    fakes["large"].missing |= {"/is_sleeping", "/sleep"}
    urls = {model: fake.url for model, fake in fakes.items()}
    with pytest.raises(UnavailableError, match="VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode"):
        make_arm("vllm-sleep", setting(models=MODELS, servers=urls))


def test_a_server_that_sends_text_alone_is_no_use(arm: Arm, fakes: dict[str, FakeVllm]) -> None:
    fakes["large"].sends_ids = False
    with pytest.raises(UnavailableError, match=r"without its token ids; run vLLM 0\.10\.2"):
        answer_all(arm, [ask("large")], sees_queue=False)


def test_an_answer_that_is_short_has_failed(arm: Arm, fakes: dict[str, FakeVllm]) -> None:
    fakes["large"].short_by = 1
    (answer,) = answer_all(arm, [ask("large")], sees_queue=False)
    assert "gave 2 of 3 tokens" in (answer.failure or "")


def test_an_unknown_model_is_refused(arm: Arm) -> None:
    with pytest.raises(UsageError, match=r"huge.*large, middle, small"):
        arm.answer(ask("huge"))


def test_nothing_at_an_address_is_said_so() -> None:
    client = VllmClient("http://127.0.0.1:1", "large", name="vllm-sleep", timeout_s=2.0)
    with pytest.raises(BackendUnreachable, match=r"no connection to http://127\.0\.0\.1:1"):
        client.wake_up()
    with pytest.raises(UsageError, match="no address of a server"):
        VllmClient("gpu1:8000", "large", name="vllm-sleep", timeout_s=2.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_sleep_mode_without_a_gpu_says_what_it_needs() -> None:
    with pytest.raises(UnavailableError, match="needs an NVIDIA GPU"):
        make_arm("vllm-sleep", setting(models=("ORG/NAME",)))


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fake where vLLM would be; what it was started with is written to the file that this gives."""
    package = tmp_path / "site" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "api_server.py").write_text("from fake_vllm import main\n\nmain()\n")
    log = tmp_path / "started.jsonl"
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{TESTS}")
    monkeypatch.setenv("FAKE_VLLM_LOG", str(log))
    monkeypatch.setenv("ASSAY_VLLM_PYTHON", sys.executable)
    monkeypatch.syspath_prepend(tmp_path / "site")
    for name in ("large", "small"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    return log


def test_a_server_is_made_anew_for_every_request(started: Path) -> None:
    """By the launcher that starts vLLM for every experiment; none is left, and the start is the switch."""
    models = (str(started.parent / "large"), str(started.parent / "small"))
    arm = make_arm("vllm-recreate", setting(models=models, deadline_s=60.0))
    arm.reset(warm="fill")
    answers = answer_all(arm, [ask(models[0]), ask(models[0])], sees_queue=False)
    arm.close()
    assert [list(answer.token_ids) for answer in answers] == [token_ids("large", (4, 5, 6), 3)] * 2
    rows = [json.loads(line) for line in started.read_text().splitlines()]
    assert len({row["pid"] for row in rows}) == 2
    assert not any(psutil.pid_exists(row["pid"]) for row in rows)
    assert "--no-enable-prefix-caching" in rows[0]["args"]
    assert all(answer.is_hit is False and 0 < answer.switch_s <= answer.ttft_s for answer in answers)


def test_a_server_that_breaks_says_what_its_log_says(started: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause, and not that an engine is dead."""
    monkeypatch.setenv("FAKE_VLLM_DIES", "1")
    arm = make_arm("vllm-recreate", setting(models=(str(started.parent / "large"),), deadline_s=60.0))
    (answer,) = answer_all(arm, [ask(str(started.parent / "large"))], sees_queue=False)
    arm.close()
    assert (answer.failure or "").endswith("; its log: RuntimeError: no such attention")
    assert (answer.failure or "").startswith("BackendBroken: vllm-recreate: http://127.0.0.1")


def test_recreating_needs_vllm_and_a_checkpoint(tmp_path: Path) -> None:
    """What is missing is said before the first request."""
    with pytest.raises(UnavailableError, match="phi-mini is made on the spot"):
        make_arm("vllm-recreate", setting(models=("phi-mini",)))
    with pytest.raises(UsageError, match="a server is started per request"):
        make_arm("vllm-recreate", setting(models=("a",), servers={"a": "http://h:1"}))
    (tmp_path / "config.json").write_text("{}")
    nowhere = setting(models=(str(tmp_path),), vllm_python=str(tmp_path / "python"))
    with pytest.raises(UnavailableError, match="does not exist"):
        make_arm("vllm-recreate", nowhere)
