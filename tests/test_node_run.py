"""One command runs everything on a node, with the weights that are there and random ones for the rest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from fake_nvml import FakeGpu, FakeNvml

pytest.importorskip("torch")

from bench import node
from fixtures.decode_variants import Chosen
from fixtures.nodes import load_node
from fixtures.switching_variants import NODE_MODELS
from harness.errors import UnavailableError
from harness.launchers.detect import Found
from harness.survey import found as found_module
from harness.survey.found import Survey, survey

ROOT = Path(__file__).parents[1]
LLAMA, MISTRAL, QWEN = node.SWITCHED


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Survey:
    """A node of two GPUs, without a server and without weights."""
    monkeypatch.setattr(found_module, "servers_here", list)
    monkeypatch.setattr("harness.models.hub.cache_folder", lambda: tmp_path / "none")
    monkeypatch.delenv("ASSAY_WEIGHTS", raising=False)
    return survey()._replace(cuda=["cuda:0", "cuda:1"], no_cuda="")


def a_checkpoint(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("")


def test_without_weights_every_model_is_a_shape(here: Survey) -> None:
    """Of the published sizes; the cascade's are on the last device, out of the others' way."""
    choice = node.chosen(here)
    assert choice.model_id == f"random:{LLAMA}@float16"
    assert choice.models == (f"random:{LLAMA}", f"random:{MISTRAL}", "random:phi-2-as-llama")
    large = "transformers:random:mistralai/Mistral-7B-Instruct-v0.3?device=cuda:1&dtype=float16"
    assert choice.backends["large"] == large
    assert Chosen.of("pocket", choice.model_id).model_id == f"random:{LLAMA}"


def test_in_lanes_every_model_is_on_the_lanes_own_device(here: Survey) -> None:
    """Which is the first one that its worker sees."""
    choice = node.chosen(here, has_lanes=True)
    assert all("device=cuda:0" in spec for spec in choice.backends.values())


@pytest.mark.parametrize("option", ["--ray-address=auto", "--lanes=gpu"])
@pytest.mark.parametrize("more", [(), ("--tiny",)])
def test_what_is_spread_is_on_the_device_that_its_own_process_sees(
    here: Survey,
    option: str,
    more: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Over lanes as over the nodes of a cluster: another device than the first is not there."""
    monkeypatch.setattr(node, "survey", lambda folder: here)
    assert node.main(["--dry", *more, option]) == 0
    told = capsys.readouterr().out
    assert "device=cuda:0" in told
    assert "device=cuda:1" not in told


def test_weights_that_are_there_are_taken(here: Survey, tmp_path: Path) -> None:
    """From a folder, each by itself; the third is then the real one."""
    for name in (MISTRAL, QWEN):
        a_checkpoint(tmp_path / "weights" / name)
    choice = node.chosen(here, tmp_path / "weights")
    assert choice.models == (
        f"random:{LLAMA}", str(tmp_path / "weights" / MISTRAL), str(tmp_path / "weights" / QWEN)
    )  # fmt: skip


def test_the_hubs_cache_is_asked_by_name(
    here: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that records call the model as the hub does."""
    monkeypatch.setattr("harness.models.hub.cache_folder", lambda: tmp_path)
    a_checkpoint(tmp_path / f"models--{LLAMA.replace('/', '--')}" / "snapshots" / "abc")
    assert node.chosen(here).model_id == f"{LLAMA}@float16"


def test_a_server_that_has_the_model_is_asked_instead(here: Survey) -> None:
    """As the seeds' node file has it."""
    server = Found(url="http://127.0.0.1:30000", engine="sglang", models=(node.CASCADE["large"],))
    assert list(node.chosen(here._replace(servers=[server])).backends) == ["small"]


def test_the_node_file_differs_from_the_seeds_in_what_is_loaded_here(here: Survey, tmp_path: Path) -> None:
    """It can be read, and has every role."""
    path = tmp_path / "node.toml"
    path.write_text(node.node_file(node.chosen(here)))
    rows, seed = load_node(str(path)), load_node("seed")
    assert rows.keys() == seed.keys()
    assert {role for role in rows if rows[role].spec != seed[role].spec} == {"large", "small"}
    assert rows["small"].spec.options["device"] == "cuda:1"
    assert len(tomllib.loads(path.read_text())["backend"]) == len(seed)


def test_without_a_gpu_nothing_is_pretended(here: Survey, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason and what to run instead; a status of its own."""
    with pytest.raises(UnavailableError, match="needs an NVIDIA GPU that PyTorch computes on"):
        node.chosen(here._replace(cuda=[], no_cuda="no device"))
    import torch

    if not torch.cuda.is_available():
        assert node.main([]) == node.NO_GPU
        assert "or here: pytest bench/" in capsys.readouterr().err


def test_a_gpu_that_pytorch_does_not_see_is_told_with_what_it_takes(
    here: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line each: no driver, a PyTorch without CUDA beside a driver, no PyTorch; nothing is said twice."""
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml([FakeGpu(name="NVIDIA H200")]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpus, no_gpus = found_module._gpus()
    built = "PyTorch 2.13.0+cpu is built without CUDA"
    with pytest.raises(UnavailableError) as caught:
        node.chosen(here._replace(cuda=[], no_cuda=built, gpus=gpus, no_gpus=no_gpus))
    assert str(caught.value) == (
        f"a node's run needs an NVIDIA GPU that PyTorch computes on ({built}; the driver has NVIDIA H200); "
        "install a PyTorch that is built for this driver's CUDA into this environment, or here: pytest "
        "bench/, or: python -m bench.node --tiny"
    )
    none = here._replace(cuda=[], no_cuda=built, gpus=[], no_gpus="no NVML: no libnvidia-ml here")
    with pytest.raises(
        UnavailableError, match=rf"\({re.escape(built)}; no NVML: .* here\); run it on one, or"
    ):
        node.chosen(none)


@pytest.mark.parametrize("option", ["--ray-address=auto", "-v"])
def test_a_head_without_a_gpu_is_told_that_its_nodes_are_not_looked_at(
    here: Survey, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And how to go on; without nodes there is no word of them."""
    none = here._replace(cuda=[], no_cuda="no device", gpus=[], no_gpus="")
    monkeypatch.setattr(node, "survey", lambda folder: none)
    assert node.main(["--dry", option]) == node.NO_GPU
    told = capsys.readouterr().err
    nodes = "with --ray-address, too, this machine is looked at, and not the nodes' GPUs); begin on a node"
    assert (nodes in told) == (option != "-v")
    assert ("pytest bench/ --profile node --ray-address" in told) == (option != "-v")


def test_one_gpu_that_does_not_hold_the_models_together_is_told(here: Survey) -> None:
    """Before anything runs; of two GPUs each has its own, and a large one has room."""
    facts = found_module.GpuFacts("X", "GPU-1", None, None, 24 * 10**9, None, None, None, None, None)
    one = here._replace(cuda=["cuda:0"], gpus=[facts])
    (told,) = node.crowded(one, node.chosen(one))
    assert "cuda:0 has 24.0 GB, and the cascade's weights beside decode's take 29.0 GB" in told
    both = here._replace(gpus=[facts, facts])
    assert node.crowded(both, node.chosen(both)) == []
    (told,) = node.crowded(both, node.chosen(both, has_lanes=True))
    large = one._replace(gpus=[facts._replace(memory_bytes=80 * 10**9)])
    assert node.crowded(large, node.chosen(large)) == []
    unknown = one._replace(gpus=[facts._replace(memory_bytes=None)])
    assert node.crowded(unknown, node.chosen(unknown)) == []
    assert node.crowded(one, node.chosen(one, is_tiny=True)) == []


def test_a_server_elsewhere_is_not_the_node_files(here: Survey) -> None:
    """It would be asked where nobody answers, and the cascade skipped: the model is loaded here then."""
    server = Found(url="http://127.0.0.1:8000", engine="vllm", models=(node.CASCADE["large"],))
    assert set(node.chosen(here._replace(servers=[server])).backends) == {"large", "small"}


@pytest.mark.parametrize("asked", ["--weights", "ASSAY_WEIGHTS"])
def test_a_folder_of_weights_that_is_not_there_is_refused(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or random weights would be measured in the place of those that were asked for."""
    gone = str(tmp_path / "gone")
    monkeypatch.setenv("ASSAY_WEIGHTS", gone if asked == "ASSAY_WEIGHTS" else str(tmp_path))
    options = ["--weights", gone] if asked == "--weights" else []
    assert node.main(["--tiny", "--dry", *options]) == 2
    assert (
        capsys.readouterr().err
        == f"bench.node: {asked} {gone}: no such folder; give one that holds ORG/NAME\n"
    )


def test_a_dry_run_prints_one_command_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it does not know is pytest's."""
    results = tmp_path / "results"
    asked = ["--tiny", "--dry", "--results-dir", str(results), "-n", "auto", "--lanes", "gpu"]
    assert node.main(asked) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("$ pytest bench/ --profile node --node ")
    assert last.endswith("-n auto --lanes gpu")
    assert not results.exists()


def test_the_models_are_those_that_a_node_switches_between() -> None:
    """By default, too; and the command's own options are no beginnings of pytest's."""
    assert node.SWITCHED == NODE_MODELS
    options, rest = node._parser().parse_known_args(["--results", "x", "--dr"])
    assert (rest, options.dry) == (["--results", "x", "--dr"], False)


@pytest.mark.nightly
def test_the_whole_path_runs_on_a_processor_with_tiny_shapes(tmp_path: Path) -> None:
    """The cascade's baseline and the replayed parts: records of random weights, hardware beside them."""
    command = [sys.executable, "-m", "bench.node", "--tiny", "--no-measure", "--results-dir", str(tmp_path)]
    select = ["-m", "cascade", "-k", "(baseline or all-small) and not edge and not load", "--tasks", "2"]
    ran = subprocess.run(
        [*command, *select, "--rounds", "1", "-p", "no:cacheprovider"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3000:]
    run = Path(ran.stdout.strip().splitlines()[-1].removeprefix("results: "))
    assert "offers" in json.loads((run / "hardware.json").read_text())
    entries = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    records = [one["extra_info"]["assay"] for one in entries]
    assert {one["variant"] for one in records} == {"baseline", "all-small"}
    for record in records:
        assert record["settings"]["weights"] == "random"
        assert not any("solved" in task["treatment"] for task in record["tasks"])
        assert all(check["ok"] for check in record["checks"])
