from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from harness.errors import LaunchError, ModelError, UnavailableError, UsageError
from harness.launchers import ContainerLauncher, ProcessLauncher, UrlLauncher, container_engine, recipes
from harness.launchers.recipe import engines, load, recipe
from harness.launchers.recipes import container_launcher, process_launcher
from harness.models import checkpoint, gguf_path

ENGINES = ("ollama", "sglang", "vllm", "transformers", "llamacpp")
MINIMAL = """
[[engine]]
name = "engine"
program = "engine"
args = ["--port", "{port}"]
weights = "gguf"
ready_path = "/health"
deadline_s = 1
install = "pip install engine"
source = "its documentation"
"""


@pytest.fixture
def no_llama_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without llama-server on PATH."""
    which = recipes.shutil.which
    monkeypatch.setattr(recipes.shutil, "which", lambda name: None if name == "llama-server" else which(name))


def words(launcher: ProcessLauncher) -> str:
    return " ".join(launcher.command)


class TestTheFile:
    """What recipes.toml may hold."""

    def test_every_engine_has_a_recipe_with_a_source(self) -> None:
        """The engines of the project can be started, and each recipe says where it is from."""
        assert engines() == ENGINES
        assert all(recipe(engine).source for engine in ENGINES)

    @pytest.mark.parametrize("engine", ["ollama", "sglang", "vllm", "llamacpp"])
    def test_engines_with_an_official_image_name_it(self, engine: str) -> None:
        """The image is named whole, registry and tag, so that podman and docker take it for the same."""
        part = recipe(engine).container
        assert part is not None
        assert len(part.image.split("/")) == 3
        assert ":" in part.image
        assert part.gpu in ("required", "when present", "never")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (("program", "programme"), r"engine engine: unknown key 'programme'"),
            (('install = "pip install engine"', ""), r"engine engine: key 'install' is missing; add it"),
            (("deadline_s = 1", 'deadline_s = "1"'), r"deadline_s is '1'; it must be of type float"),
            (("{port}", "{prot}"), r"unknown placeholder \{prot\} in '\{prot\}'; use \{weights\}"),
            (('"gguf"', '"onnx"'), r"weights is 'onnx'; use one of checkpoint, gguf, library"),
            (('program = "engine"', ""), r"neither program nor module is given"),
            (("[[engine]]", "[[motor]]"), r"unknown table 'motor'; use \[\[engine\]\]"),
            (
                ('documentation"\n', 'd"\n[engine.cpu]\nthreads = 1\n'),
                r"engine engine: cpu: unknown key 'threads'",
            ),
            (("[[engine]]", "[[engine]"), r"bad.toml: cannot be read"),
        ],
        ids=["unknown", "missing", "type", "placeholder", "weights", "program", "table", "nested", "syntax"],
    )
    def test_a_mistake_is_named(self, change: tuple[str, str], message: str, tmp_path: Path) -> None:
        """An unknown or missing key, a wrong type and a wrong value are errors with file, engine and key."""
        path = tmp_path / "bad.toml"
        path.write_text(MINIMAL.replace(*change))
        with pytest.raises(UsageError, match=message):
            load(path)

    def test_an_engine_stands_once(self, tmp_path: Path) -> None:
        """Two recipes for one engine are an error."""
        path = tmp_path / "twice.toml"
        path.write_text(MINIMAL + MINIMAL)
        with pytest.raises(UsageError, match="engine engine: given twice"):
            load(path)

    def test_an_unknown_engine_is_told_the_known_ones(self) -> None:
        """A wrong name comes with the right ones."""
        with pytest.raises(UsageError, match="unknown engine 'tgi'; use one of ollama, sglang"):
            recipe("tgi")


class TestModels:
    """What a model's name becomes."""

    def test_a_pocket_model_is_its_checkpoint(self) -> None:
        """Engines that load checkpoints get the folder, absolute, and serve it under its short name."""
        launcher = process_launcher("vllm", name="small", model="nano", device="cpu")
        assert f"--model {checkpoint('nano').resolve()} --served-model-name nano " in words(launcher)
        assert launcher.model == "nano"
        assert launcher.env["HF_HUB_OFFLINE"] == "1"

    @pytest.mark.usefixtures("no_llama_server")
    @pytest.mark.parametrize(("model", "quant"), [("nano", "f16"), ("nano@q8_0", "q8_0")])
    def test_a_pocket_model_is_its_gguf_for_llamacpp(self, model: str, quant: str) -> None:
        """llama.cpp gets the file, in the quantisation that is asked for."""
        launcher = process_launcher("llamacpp", name="small", model=model)
        assert f"--model {gguf_path('nano', quant)} --alias nano" in words(launcher)

    def test_a_folder_is_taken_as_it_is(self, tmp_path: Path) -> None:
        """Any checkpoint's folder can be served."""
        (tmp_path / "config.json").write_text("{}")
        launcher = process_launcher("sglang", name="large", model=str(tmp_path))
        assert f"--model-path {tmp_path} --served-model-name {tmp_path.name} " in words(launcher)

    def test_a_name_is_left_to_the_engine(self) -> None:
        """A model that is not here is fetched by the engine, which is then not told to stay offline."""
        launcher = process_launcher("vllm", name="large", model="Qwen/Qwen2.5-0.5B-Instruct", device="gpu")
        assert "--model Qwen/Qwen2.5-0.5B-Instruct " in words(launcher)
        assert "HF_HUB_OFFLINE" not in launcher.env

    def test_transformers_serves_a_model_under_its_path(self) -> None:
        """`transformers serve` answers to the path alone."""
        launcher = process_launcher("transformers", name="small", model="nano")
        assert launcher.model == str(checkpoint("nano").resolve())

    @pytest.mark.parametrize(
        ("engine", "model", "message"),
        [
            (
                "llamacpp",
                "/no/such.gguf",
                "is no GGUF file and no pocket model; use one of nano",
            ),
            ("llamacpp", "/", "/ is a folder; llamacpp needs a GGUF file"),
            ("vllm", "/", "/ has no config.json; vllm needs a checkpoint's folder"),
            ("vllm", "nano@q8_0", "vllm loads checkpoints, not q8_0; name the model nano"),
            ("llamacpp", "nano@q3_k", "q3_k"),
        ],
    )
    def test_a_model_that_the_engine_cannot_load_is_told(self, engine: str, model: str, message: str) -> None:
        """The wrong kind of weights is an error before anything starts."""
        with pytest.raises(ModelError, match=message):
            process_launcher(engine, name="small", model=model)


class TestPrograms:
    """What is run, and with what."""

    def test_the_devices_part_is_added(self) -> None:
        """On a CPU vLLM gets what it needs there; on a GPU it can sleep."""
        cpu = process_launcher("vllm", name="large", model="nano", device="cpu")
        gpu = process_launcher("vllm", name="large", model="nano", device="gpu")
        assert "--enforce-eager" in cpu.command
        assert cpu.env["VLLM_CPU_KVCACHE_SPACE"] == "1"
        assert "--enable-sleep-mode" in gpu.command
        assert "--enforce-eager" not in gpu.command
        assert cpu.env["VLLM_SERVER_DEV_MODE"] == gpu.env["VLLM_SERVER_DEV_MODE"] == "1"

    def test_an_unknown_device_is_refused(self) -> None:
        """A device is cpu or gpu."""
        with pytest.raises(UsageError, match="vllm: device is 'tpu'; use cpu or gpu"):
            process_launcher("vllm", name="large", model="nano", device="tpu")

    def test_what_is_given_wins(self) -> None:
        """Own arguments come last, own variables replace the recipe's, and so does the deadline."""
        launcher = process_launcher(
            "vllm",
            name="large",
            model="nano",
            device="cpu",
            args=("--max-num-seqs", "2"),
            env={"OMP_NUM_THREADS": "4"},
            deadline_s=7,
            port=30000,
        )
        assert launcher.command[-2:] == ("--max-num-seqs", "2")
        assert launcher.env["OMP_NUM_THREADS"] == "4"
        assert (launcher.deadline_s, launcher.port) == (7, 30000)

    def test_an_engine_in_its_own_environment_is_reached_by_its_interpreter(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The interpreter is an argument, else a variable, else this one."""

        def program(python: str | None = None) -> str:
            return process_launcher("vllm", name="large", model="nano", python=python).command[0]

        monkeypatch.delenv("ASSAY_VLLM_PYTHON", raising=False)
        assert program() == sys.executable
        monkeypatch.setenv("ASSAY_VLLM_PYTHON", "/envs/vllm/bin/python")
        assert program() == "/envs/vllm/bin/python"
        assert program("/other/python") == "/other/python"

    def test_a_missing_interpreter_is_told(self) -> None:
        """An environment that is not there is unavailable, with the line that would make it."""
        launcher = process_launcher("sglang", name="large", model="nano", python="/no/python")
        with pytest.raises(
            UnavailableError,
            match=r"large: /no/python does not exist: pip install sglang, .* ASSAY_SGLANG_PYTHON",
        ):
            launcher.launch()

    def test_ollama_is_a_program(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ollama listens where its variable says, and is told where to get it when it is missing."""
        launcher = process_launcher("ollama", name="small", model="qwen2.5:0.5b-instruct")
        assert launcher.command == ("ollama", "serve")
        assert launcher.env["OLLAMA_HOST"] == "{host}:{port}"
        assert launcher.fetch == "ollama pull qwen2.5:0.5b-instruct"
        monkeypatch.setenv("PATH", "/no/where")
        with pytest.raises(UnavailableError, match=r"small: ollama is not on PATH: https://ollama"):
            launcher.launch()

    def test_ollama_takes_no_interpreter(self) -> None:
        """A Python for a program that is none is a mistake."""
        with pytest.raises(UsageError, match="ollama: it is a program and needs no Python; leave out /py"):
            process_launcher("ollama", name="small", model="qwen2.5:0.5b", python="/py")

    def test_llama_server_is_used_where_it_is(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """llama.cpp's own program comes before the wheel's."""
        program = tmp_path / "llama-server"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert process_launcher("llamacpp", name="small", model="nano").command[0] == "llama-server"


@pytest.mark.usefixtures("no_llama_server")
class TestLlamaCppServer:
    """The wheel's engine as a program."""

    def test_it_serves_a_pocket_model(self) -> None:
        """The server answers a chat under the model's short name, and says what engine it is."""
        with process_launcher("llamacpp", name="small", model="nano").launch() as server:
            assert (server.model, server.engine) == ("nano", "llama.cpp")
            found = UrlLauncher(url=server.url).launch()
            assert (found.model, found.engine) == ("nano", "llama.cpp")
            body = {"messages": [{"role": "user", "content": "1 + 1"}], "max_tokens": 3}
            url = f"{server.url}/v1/chat/completions"
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())) as answer:
                assert json.load(answer)["usage"]["completion_tokens"] <= 3

    def test_slots_share_the_context(self) -> None:
        """As with llama-server, the context is divided among the slots."""
        args = ("--parallel", "4", "--ctx-size", "2048")
        launcher = process_launcher("llamacpp", name="small", model="nano", args=args)
        with launcher.launch() as server, urllib.request.urlopen(f"{server.url}/slots") as answer:
            assert [slot["n_ctx"] for slot in json.load(answer)] == [512] * 4

    def test_it_ends_politely(self) -> None:
        """SIGTERM ends it with status 0."""
        command = [sys.executable, "-m", "harness.launchers.llamacpp_server", "--port", "0"]
        process = subprocess.Popen(
            [*command, "--model", str(gguf_path("nano"))],
            cwd=Path(__file__).parents[1],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        with process.stderr:
            assert process.stderr.readline().startswith("nano-")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0

    def test_a_bad_file_ends_it_with_the_reason(self, tmp_path: Path) -> None:
        """A file that is no model is named in the launcher's error."""
        bad = tmp_path / "bad.gguf"
        bad.write_text("weights")
        launcher = process_launcher("llamacpp", name="small", model=str(bad))
        with pytest.raises(LaunchError, match=r"(?s)small: .* exited with status 1.*bad.gguf starts with"):
            launcher.launch()


class TestTransformersServe:
    """The Hugging Face server, where it is installed."""

    def test_it_serves_a_pocket_model(self) -> None:
        """It is ready when its model is, answers to the path, and lists models without a hub's cache."""
        pytest.importorskip("torch", exc_type=ImportError)
        with process_launcher("transformers", name="small", model="nano", device="cpu").launch() as server:
            assert server.model == str(checkpoint("nano").resolve())
            with urllib.request.urlopen(f"{server.url}/v1/models") as answer:
                assert json.load(answer)["data"] == []


class TestContainers:
    """The same engines as containers; nothing is started here."""

    def test_a_pocket_model_is_seen_inside(self) -> None:
        """The weights of this machine are mounted, and the arguments name them where they are inside."""
        launcher = container_launcher("llamacpp", name="small", model="nano", gpus="none")
        weights = gguf_path("nano")
        command = f"--model /models/{weights.name} --alias nano --host 0.0.0.0 --port 8080 "
        assert " ".join(launcher.command).startswith(command)
        assert (launcher.weights, launcher.model, launcher.port) == (str(weights), "nano", 8080)
        assert launcher.image == "ghcr.io/ggml-org/llama.cpp:server"

    def test_an_official_image_gets_what_its_engine_needs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """GPUs, shared memory, the image's own port, and the key to gated models."""
        monkeypatch.setattr(recipes, "_has_gpu", lambda: True)
        monkeypatch.setenv("HF_TOKEN", "key")
        launcher = container_launcher("sglang", name="large", model="Qwen/Qwen2.5-7B-Instruct")
        assert (launcher.gpus, launcher.shm_size, launcher.port) == ("all", str(32 * 2**30), 30000)
        assert launcher.entrypoint == ("python3", "-m", "sglang.launch_server")
        assert "--host 0.0.0.0 --port 30000" in " ".join(launcher.command)
        assert "--device" not in launcher.command
        assert launcher.weights is None
        assert launcher.env["HF_TOKEN"] == "key"

    def test_fetched_models_are_kept_on_this_machine(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The folder of fetched models is seen inside where there is one."""
        monkeypatch.setenv("HOME", str(tmp_path))
        assert container_launcher("ollama", name="small", model="qwen2.5:0.5b").mounts == ()
        (tmp_path / ".ollama").mkdir()
        (mount,) = container_launcher("ollama", name="small", model="qwen2.5:0.5b").mounts
        assert (mount.source, mount.target) == (str(tmp_path / ".ollama"), "/root/.ollama")
        assert not mount.is_read_only

    def test_ollama_listens_to_the_world_inside(self) -> None:
        """A server that listens on the container's loopback is reached by nobody."""
        launcher = container_launcher("ollama", name="small", model="qwen2.5:0.5b")
        assert launcher.env["OLLAMA_HOST"] == "0.0.0.0:11434"
        assert launcher.command == ("serve",)
        assert "ollama pull qwen2.5:0.5b" in launcher.fetch

    def test_an_image_for_gpus_is_refused_without_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An official image that cannot serve here is unavailable, before gigabytes of it are pulled."""
        monkeypatch.setattr(recipes, "_has_gpu", lambda: False)
        with pytest.raises(UnavailableError, match=r"large: \S+ needs an NVIDIA GPU.*process:vllm"):
            container_launcher("vllm", name="large", model="nano")
        launcher = container_launcher("vllm", name="large", model="nano", image="my/vllm-cpu:1")
        assert (launcher.image, launcher.gpus) == ("my/vllm-cpu:1", "none")
        assert "--enforce-eager" in launcher.command

    def test_weights_are_served_under_the_models_name(self, tmp_path: Path) -> None:
        """A folder given as weights is mounted, and the model's name is but a name."""
        (tmp_path / "config.json").write_text("{}")
        launcher = container_launcher(
            "vllm", name="large", model="Qwen/Qwen2.5-7B", weights=str(tmp_path), gpus="0,1"
        )
        assert f"--model /models/{tmp_path.name} --served-model-name Qwen/Qwen2.5-7B" in " ".join(
            launcher.command
        )
        assert launcher.weights == str(tmp_path)
        assert launcher.gpus == "0,1"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"model": None}, "small: llamacpp needs a model; name one with model=NAME"),
            ({"model": "nano", "port": 70000}, "small: port is 70000; give the server's inside"),
            ({"model": "nano", "gpus": "two"}, "small: gpus is 'two'; use all, none or indexes"),
        ],
        ids=["model", "port", "gpus"],
    )
    def test_a_mistake_is_told(self, options: dict[str, Any], message: str) -> None:
        """An option that makes no sense is an error before anything starts."""
        with pytest.raises(UsageError, match=message):
            container_launcher("llamacpp", name="small", **options)

    def test_an_engine_without_an_image_is_told(self) -> None:
        """`transformers serve` has no official image."""
        with pytest.raises(UsageError, match="small: transformers has no official image; use process:trans"):
            container_launcher("transformers", name="small", model="nano")


class TestContainerEngines:
    """Where docker or podman is looked for; none is needed here."""

    @pytest.fixture(autouse=True)
    def _no_engine(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        pytest.importorskip("docker")
        for variable in ("DOCKER_HOST", "CONTAINER_HOST"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setattr(container_engine, "_is_listening", lambda path: False)
        monkeypatch.setenv("PATH", str(tmp_path))

    def test_a_machine_without_any_is_told_what_to_install(self) -> None:
        """Neither docker nor podman: the error is the line that changes that."""
        with pytest.raises(UnavailableError, match="small: neither docker nor podman runs here: apt install"):
            ContainerLauncher(name="small", image="x").launch()

    @pytest.mark.parametrize("host", ["tcp://gpu1:2375", "ssh://gpu1"])
    def test_an_engine_elsewhere_is_refused(self, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its ports are not here, and nobody could clean up after a kill."""
        monkeypatch.setenv("DOCKER_HOST", host)
        with pytest.raises(UnavailableError, match=f"small: DOCKER_HOST is {host}, an engine elsewhere"):
            ContainerLauncher(name="small", image="x").launch()

    def test_a_socket_that_nobody_serves_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A DOCKER_HOST without an engine behind it is an error with its path."""
        monkeypatch.setenv("DOCKER_HOST", "unix:///no/such.sock")
        with pytest.raises(LaunchError, match=r"small: .* engine at /no/such.sock does not answer"):
            ContainerLauncher(name="small", image="x").launch()

    def test_a_missing_sdk_comes_with_its_install_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the Docker SDK, the error is the line that installs it."""
        monkeypatch.setitem(sys.modules, "docker", None)
        with pytest.raises(UnavailableError, match='containers need the Docker SDK: pip install "docker'):
            ContainerLauncher(name="small", image="x").launch()

    def test_weights_that_are_not_there_are_named(self) -> None:
        """A mount of nothing is refused: docker would make an empty folder of it."""
        with pytest.raises(UsageError, match="small: /no/such is not there; give a folder or file"):
            ContainerLauncher(name="small", image="x", weights="/no/such")
