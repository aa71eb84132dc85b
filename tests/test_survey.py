"""What a machine has is found without a network, and said in the words in which claims ask."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from fake_nvml import FakeGpu, FakeNvml

from harness.errors import UnavailableError, UsageError
from harness.hardware.disk import measure_disk
from harness.hardware.links import measure_link
from harness.hardware.machine import this_machine
from harness.launchers.detect import Found
from harness.survey import ceilings, found, main, software
from harness.survey.found import Survey
from harness.survey.offers import offers
from harness.survey.text import lines
from harness.survey.weights import find_weights, is_whole, seed_models, weights_here

MISTRAL = "mistralai/Mistral-7B-v0.3"


def a_survey(monkeypatch: pytest.MonkeyPatch, gpus: list[FakeGpu], **changes: object) -> Survey:
    """Of this machine, with the GPUs of a test."""
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(gpus) if gpus else None)
    monkeypatch.setattr(found, "servers_here", list)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return found.survey()._replace(**changes)  # type: ignore[arg-type]


def a_checkpoint(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})


def test_the_machine_says_what_this_process_may_use() -> None:
    """By the kernel's word."""
    machine = this_machine()
    assert machine.usable_cores == len(os.sched_getaffinity(0))
    assert machine.memory_bytes is not None
    assert machine.available_bytes is not None
    assert 0 < machine.available_bytes <= machine.memory_bytes


def test_a_machine_that_tells_nothing_leaves_gaps(tmp_path: Path) -> None:
    """No /proc, and so no memory: absent, not 0."""
    machine = this_machine(tmp_path)
    assert (machine.memory_bytes, machine.available_bytes) == (None, None)


@pytest.mark.parametrize(
    ("files", "is_there"),
    [
        ({"config.json": "{}", "model.safetensors": ""}, True),
        ({"config.json": "{}"}, False),
        ({"model.safetensors": ""}, False),
        ({"config.json": "{}", "model.safetensors.index.json": INDEX, "model-1.safetensors": ""}, False),
        (
            {"config.json": "{}", "model.safetensors.index.json": INDEX, "model-1.safetensors": "",
             "model-2.safetensors": ""},
            True,
        ),
        ({"config.json": "{}", "model.safetensors.index.json": "{"}, False),
    ],
)  # fmt: skip
def test_weights_are_there_when_all_their_files_are(
    tmp_path: Path, files: dict[str, str], is_there: bool
) -> None:
    """A configuration alone, half a download and a broken index are none."""
    assert is_whole(a_checkpoint(tmp_path / "model", files)) is is_there


@pytest.mark.parametrize("name", [MISTRAL, "Mistral-7B-v0.3", "mistralai--Mistral-7B-v0.3"])
def test_weights_are_found_in_a_folder(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given, or named by ASSAY_WEIGHTS."""
    made = a_checkpoint(tmp_path / name, {"config.json": "{}", "model.safetensors": ""})
    assert find_weights(MISTRAL, tmp_path).name == str(made)
    monkeypatch.setenv("ASSAY_WEIGHTS", str(tmp_path))
    assert find_weights(f"random:{MISTRAL}").path == made


def test_weights_are_found_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the newest revision that is whole; what is not there is random."""
    monkeypatch.delenv("ASSAY_WEIGHTS", raising=False)
    monkeypatch.setattr("harness.models.hub.cache_folder", lambda: tmp_path)
    snapshots = tmp_path / "models--mistralai--Mistral-7B-v0.3" / "snapshots"
    whole = a_checkpoint(snapshots / "aaa", {"config.json": "{}", "model.safetensors": ""})
    a_checkpoint(snapshots / "bbb", {"config.json": "{}"})
    here = {one.model: one for one in weights_here()}
    assert set(here) == set(seed_models())
    assert (here[MISTRAL].path, here[MISTRAL].name) == (whole, MISTRAL)
    assert here["Qwen/Qwen2.5-3B"].name == "random:Qwen/Qwen2.5-3B"


def test_the_disk_is_measured_and_leaves_nothing(tmp_path: Path) -> None:
    """And memory is told from a disk."""
    told = measure_disk(tmp_path, 8 * 2**20)
    assert told.num_bytes == 8 * 2**20
    assert told.write_bytes_per_s > 0
    assert told.read_bytes_per_s > 0
    assert list(tmp_path.iterdir()) == []
    assert measure_disk(Path("/dev/shm"), 4 * 2**20).is_memory
    with pytest.raises(UnavailableError, match="name another folder"):
        measure_disk(tmp_path / "missing")
    with pytest.raises(UsageError, match="give 4194304 or more"):
        measure_disk(tmp_path, 1)


def test_a_link_needs_a_gpu_and_says_so() -> None:
    """In one line, with what it takes."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UnavailableError, match=r"link: no GPU: cuda:0 needs an NVIDIA GPU and its driver"):
        measure_link()


@pytest.mark.gpu
def test_a_gpu_crosses_its_link_faster_from_pinned_memory() -> None:
    """Both ways: what is pinned is copied by the device itself."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU and a PyTorch that is built with CUDA")
    found = measure_link("cuda:0", 64 * 2**20)
    assert found.to_device_pinned_bytes_per_s > found.to_device_pageable_bytes_per_s
    assert found.to_host_pinned_bytes_per_s > found.to_host_pageable_bytes_per_s


def test_every_ceiling_is_a_rate_or_a_reason(tmp_path: Path) -> None:
    """None is 0, and the missing ones say what it would take."""
    told = list(ceilings.ceilings_here(tmp_path, [], cores=1, num_bytes=8 * 2**20))
    names = [one.name for one in told]
    assert {"memory, 1 thread", "host to device, pinned", "device to host, pageable", "disk, write"} <= set(
        names
    )
    for one in told:
        assert one.note
        assert (one.value is None) == ("no GPU" in one.note or "missing" in one.note)
        assert one.value is None or one.value > 0


def test_a_processor_offers_no_device_and_no_models_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pocket and replay, and what the engines here need nothing else for."""
    told = offers(a_survey(monkeypatch, [], cuda=[]))
    assert {"profile:pocket", "profile:replay", "backend:simulated", "model:nano"} <= set(told)
    assert not any(one.startswith(("device:", "profile:node", "model:random")) for one in told)


def test_a_gpu_offers_itself_and_the_shapes_that_it_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice of PyTorch's devices as NVML names them; weights that are missing are random."""
    pytest.importorskip("torch")
    monkeypatch.setattr("harness.models.hub.cache_folder", lambda: Path("/nonexistent"))
    monkeypatch.delenv("ASSAY_WEIGHTS", raising=False)
    gpus = [FakeGpu(name="NVIDIA A100-SXM4-80GB")]
    told = offers(a_survey(monkeypatch, gpus, cuda=["cuda:0"]))
    assert {"profile:node", "device:NVIDIA A100-SXM4-80GB", "device:cuda"} <= set(told)
    assert f"model:random:{MISTRAL}" in told
    assert len(told) == len(set(told))


def test_a_server_that_runs_offers_its_engine_and_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU here, too: it may be at another machine."""
    server = Found(url="http://127.0.0.1:11434", engine="ollama", models=("gemma2:2b",))
    told = offers(a_survey(monkeypatch, [], cuda=[], servers=[server]))
    assert {"profile:node", "backend:ollama", "model:gemma2:2b"} <= set(told)


def test_the_text_says_each_gpu_engine_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wider than the terminal."""
    text = list(lines(a_survey(monkeypatch, [FakeGpu(name="NVIDIA H200")], cuda=["cuda:0"])))
    whole = "\n".join(text)
    assert "NVIDIA H200" in whole
    assert "80.0 GB, 0.0 GB in use, 700 W, PCIe 5 × 16; driver 580.65.06, CUDA 13.0" in whole
    assert all(engine in whole for engine in ("llama.cpp", "vllm", "sglang", "ollama", "docker", "podman"))
    assert max(len(line) for one in text for line in one.split("\n")) <= 110


@pytest.mark.parametrize(
    ("built", "warned", "says"),
    [
        (None, "", "is built without CUDA"),
        ("13.0", "", "sees no device"),
        ("13.0", "The NVIDIA driver is\ntoo old", "sees no device: The NVIDIA driver is too old"),
    ],
)
def test_pytorch_without_a_device_says_why(
    built: str | None, warned: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, and with the reason that it gives as a warning."""
    torch = pytest.importorskip("torch")

    def is_available() -> bool:
        if warned:
            warnings.warn("of something else", stacklevel=2)
            warnings.warn(warned, stacklevel=2)
        return False

    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    assert found.cuda_devices() == ([], f"PyTorch {torch.__version__} {says}")


def test_what_pytorch_warns_of_beside_a_gpu_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no reason for a device that is missing, and not lost either."""
    torch = pytest.importorskip("torch")

    def is_available() -> bool:
        warnings.warn("GPU0 is older than this PyTorch supports", stacklevel=2)
        return True

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.warns(UserWarning, match="older than this PyTorch"):
        assert found.cuda_devices() == (["cuda:0"], "")


def test_a_gpu_that_is_lost_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are told: what the one is, and why nothing is known of the other."""
    seen = a_survey(monkeypatch, [FakeGpu(is_lost=True), FakeGpu(name="NVIDIA H200")])
    assert [one.name for one in seen.gpus] == ["NVIDIA H200"]
    whole = " ".join("\n".join(lines(seen)).split())
    assert "not all gpu metrics: facts (GPU is lost): the device fell off the bus; reboot" in whole
    assert sys.modules["pynvml"].opened == 0


@pytest.mark.parametrize("broken", ["OutOfMemoryError", "RuntimeError", "MemoryError"])
def test_a_device_without_room_leaves_the_other_ceilings(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where servers have taken all of a GPU's memory; the reason stands in the rate's place."""
    torch = pytest.importorskip("torch")

    def refuse(*_: object, **__: object) -> object:
        raise (getattr(torch, broken, None) or getattr(builtins, broken))("CUDA has\n none left")

    for name in ("measure_device_bandwidth", "measure_compute", "measure_link"):
        monkeypatch.setattr(ceilings, name, refuse)
    told = list(ceilings.ceilings_here(tmp_path, ["cuda:0"], cores=1, num_bytes=8 * 2**20))
    without = [one for one in told if one.value is None]
    assert {"memory of cuda:0", "matrix product, cuda:0 float16"} <= {one.name for one in without}
    assert all("CUDA has none left" in one.note for one in without)
    assert {"memory, 1 thread", "disk, write"} <= {one.name for one in told if one.value is not None}


def test_an_engine_in_an_environment_of_its_own_is_found(tmp_path: Path) -> None:
    """By the variable that names its interpreter; a path that is none does not count."""
    python = tmp_path / "python"
    python.write_text("")
    here = {one.name: one for one in software.engines_here({"ASSAY_VLLM_PYTHON": str(python)})}
    assert here["vllm"].found == str(python)
    gone = {one.name: one for one in software.engines_here({"ASSAY_SGLANG_PYTHON": str(tmp_path / "no")})}
    assert gone["sglang"].found != str(tmp_path / "no")


def test_the_command_prints_and_asks_the_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the project's folder the claims; elsewhere a line that says where to run it."""
    root = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "harness.hardware", "--no-measure"]
    here = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert here.returncode == 0, here.stderr
    assert "by a run here" in here.stdout
    away = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert away.returncode == 0
    assert away.stdout.endswith(f"{main.NO_CLAIMS}\n")


def test_the_json_has_the_offers(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs; a folder of weights that is none is one line."""
    assert main.main(["--json", "--no-measure"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "profile:pocket" in told["offers"]
    assert told["ceilings"] == []
    assert main.main(["--weights", "/nonexistent"]) == 2
    assert capsys.readouterr().err.startswith("harness.hardware: --weights /nonexistent: no such folder")
