from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from harness.backends import Message, Request
from harness.backends.llamacpp import LlamaCppBackend
from harness.errors import LaunchError, UnavailableError
from harness.launchers import Server, UrlLauncher
from harness.launchers.container import ContainerLauncher
from harness.launchers.container_engine import ContainerEngine
from harness.launchers.recipes import container_launcher
from tests.containers.conftest import Leftovers

pytestmark = pytest.mark.containers
ROOT = Path(__file__).parents[2]


def nano(image: str, role: str, *args: str) -> ContainerLauncher:
    """The smallest pocket model in a container."""
    return container_launcher("llamacpp", name=role, model="nano", image=image, args=args)


def ask(server: Server, text: str) -> tuple[str, int | None]:
    """What the server's model answers, and its tokens."""

    async def answer() -> tuple[str, int | None]:
        backend = LlamaCppBackend(server.url, model=server.model, name="small")
        try:
            request = Request(messages=(Message(role="user", content=text),), max_tokens=8, temperature=0.0)
            completion = await backend.generate(request)
            return completion.text, completion.output_tokens
        finally:
            await backend.aclose()

    return asyncio.run(answer())


def test_a_container_serves_and_is_gone_after_stop(image: str, leftovers: Leftovers) -> None:
    """A model in a container answers a chat through its client, and stopping removes the container."""
    with nano(image, leftovers.role).launch() as server:
        assert (server.model, server.engine) == ("nano", "llama.cpp")
        assert server.url.startswith("http://127.0.0.1:")
        assert len(leftovers.names()) == 1
        text, num_tokens = ask(server, "What is 1 + 1?")
        assert text
        assert num_tokens is not None
    assert leftovers.names() == []
    with pytest.raises(LaunchError):
        UrlLauncher(url=server.url, deadline_s=0.2).launch()


def test_two_containers_serve_side_by_side(image: str, leftovers: Leftovers) -> None:
    """Each has a port of its own, and stopping one leaves the other."""
    launcher = nano(image, leftovers.role)
    with launcher.launch() as one:
        with launcher.launch() as two:
            assert one.url != two.url
            assert ask(one, "Name a river.") == ask(two, "Name a river.")
        assert len(leftovers.names()) == 1
        assert ask(one, "Name a river.")


def test_it_listens_on_this_machine_alone(image: str, leftovers: Leftovers) -> None:
    """The port is published on the loopback address and no other."""
    with nano(image, leftovers.role).launch():
        container = leftovers.engine.client.containers.get(leftovers.names()[0])
        assert {one["HostIp"] for one in container.ports["8080/tcp"]} == {"127.0.0.1"}


def test_what_is_asked_for_is_what_runs(image: str, leftovers: Leftovers) -> None:
    """Arguments, variables, shared memory and read-only weights reach the container."""
    launcher = container_launcher(
        "llamacpp",
        name=leftovers.role,
        model="nano@q8_0",
        image=image,
        port=9000,
        args=("--parallel", "2", "--ctx-size", "512"),
        env={"OF_THE_TEST": "1"},
        shm_size="96m",
    )
    with launcher.launch() as server:
        attrs = leftovers.engine.client.containers.get(leftovers.names()[0]).attrs
        with urllib.request.urlopen(f"{server.url}/slots") as answer:
            assert [slot["n_ctx"] for slot in json.load(answer)] == [256, 256]
    assert "OF_THE_TEST=1" in attrs["Config"]["Env"]
    assert attrs["HostConfig"]["ShmSize"] == 96 * 1024**2
    (mount,) = attrs["Mounts"]
    assert mount["Destination"].startswith("/models/nano-q8_0")
    assert not mount["RW"]


def test_an_image_that_is_not_here_comes_with_the_line_that_pulls_it(leftovers: Leftovers) -> None:
    """Nothing is pulled unless told to."""
    launcher = ContainerLauncher(name=leftovers.role, image="docker.io/no/such:1")
    with pytest.raises(UnavailableError, match=r"the image is not here: \w+ pull docker.io/no/such:1"):
        launcher.launch()


def test_an_image_that_cannot_be_pulled_says_how_to_see_why(leftovers: Leftovers) -> None:
    """A pull that fails is an error with the engine's own words."""
    launcher = ContainerLauncher(name=leftovers.role, image="127.0.0.1:9/no/such:1", pull=True)
    with pytest.raises(LaunchError, match=r"the image cannot be had; see why with \w+ pull 127.0.0.1:9"):
        launcher.launch()


def test_a_command_that_exits_shows_the_tail_of_its_log(image: str, leftovers: Leftovers) -> None:
    """An exit before readiness is noticed long before the deadline, and ends with what the program said."""
    launcher = ContainerLauncher(name=leftovers.role, image=image, command=("--no-such-option",))
    with pytest.raises(LaunchError, match=r"(?s)exited with status 2; its log ends:.*usage: llamacpp_server"):
        launcher.launch()


def test_a_command_that_is_not_there_is_the_engines_error(image: str, leftovers: Leftovers) -> None:
    """A container that cannot start is removed, and the engine's words are passed on."""
    launcher = ContainerLauncher(name=leftovers.role, image=image, entrypoint=("/no/such",))
    with pytest.raises(LaunchError, match=f"did not start {image} .*/no/such"):
        launcher.launch()


def test_a_port_that_is_never_opened_ends_at_the_deadline(image: str, leftovers: Leftovers) -> None:
    """A server on another port, or on the container's loopback alone, is given up with both named."""
    launcher = ContainerLauncher(
        name=leftovers.role,
        image=image,
        entrypoint=(str(Path(sys.executable).resolve()), "-c"),
        command=("print('up', flush=True); import time; time.sleep(100)",),
        deadline_s=2.0,
    )
    with pytest.raises(
        LaunchError, match=r"(?s)port 8080 within 2 s .*0\.0\.0\.0, or allow more with deadline_s.*up$"
    ):
        launcher.launch()


def test_a_gpu_that_cannot_be_given_is_told(image: str, leftovers: Leftovers) -> None:
    """podman before 5.4 would start the container without the GPU and say nothing."""
    engine = leftovers.engine
    if engine.program == "docker" or int(engine.version.split(".")[0]) >= 5:
        pytest.skip(f"{engine.program} {engine.version} gives GPUs, or says itself that it cannot")
    launcher = ContainerLauncher(name=leftovers.role, image=image, gpus="all")
    with pytest.raises(UnavailableError, match=r"podman 4\S* gives no GPU through its API; install podman 5"):
        launcher.launch()


def test_a_container_that_somebody_removes_is_an_error(image: str, leftovers: Leftovers) -> None:
    """A container that vanishes while it starts ends the wait at once."""
    launcher = ContainerLauncher(
        name=leftovers.role,
        image=image,
        entrypoint=(str(Path(sys.executable).resolve()), "-c", "import time; time.sleep(100)"),
        deadline_s=60.0,
    )

    def remove() -> None:
        while not (names := leftovers.names()):
            time.sleep(0.05)
        leftovers.engine.client.containers.get(names[0]).remove(force=True)

    thread = threading.Thread(target=remove)
    thread.start()
    with pytest.raises(LaunchError):
        launcher.launch()
    thread.join()


def test_a_socket_that_is_named_is_used(
    image: str, engine: ContainerEngine, leftovers: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DOCKER_HOST names the engine, also where that is a podman with limits of its own."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine.socket}")
    with nano(image, leftovers.role).launch() as server:
        assert server.model == "nano"
        assert len(leftovers.names()) == 1


def test_the_cascade_runs_on_a_container(image: str, engine: ContainerEngine, tmp_path: Path) -> None:
    """An experiment names a container as its backend, uses it, and none is left when it ends."""
    command = [
        *(sys.executable, "-m", "pytest", "bench/test_cascade.py::test_cascade[cascade]", "-q"),
        *("--backend", f"large=container:llamacpp?model=large&image={image}"),
        *("--rounds", "1", "--claims=off", "--results-dir", str(tmp_path), "-p", "no:cacheprovider"),
    ]
    seen: set[str] = set()
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            seen |= set(Leftovers(engine, "large").names())
            time.sleep(0.5)
    assert process.returncode == 0, log.read_text()[-3000:]
    assert seen
    assert not seen & set(Leftovers(engine, "large").names())
