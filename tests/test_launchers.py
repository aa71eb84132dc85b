from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from harness.errors import LaunchError, UnavailableError, UsageError
from harness.launchers import EmbeddedLauncher, ProcessLauncher, Server, UrlLauncher, canned, process
from harness.launchers.canned import CannedServer
from harness.launchers.watchdog import Watchdog
from harness.models import gguf_path

CANNED = (sys.executable, canned.__file__, "--port", "{port}")
ROOT = Path(__file__).parents[1]


def is_group_alive(group: int) -> bool:
    """Whether a process of the group runs; one that has ended and is not collected yet does not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of_group) == group and state not in "ZX":
            return True
    return False


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true in that time."""
    ends_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends_s:
            return False
        time.sleep(0.02)
    return True


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Loading(BaseHTTPRequestHandler):
    """Refuses a few times, as a server does while it loads its weights, and then names its model."""

    num_refusals = 0

    def do_GET(self) -> None:
        """Answer."""
        if Loading.num_refusals:
            Loading.num_refusals -= 1
            self.send_error(503, "Loading model")
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": [{"id": "late"}]}')

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def nano_gguf() -> Path:
    """The smallest pocket model."""
    return gguf_path("nano")


class TestServer:
    """What a launch gives back."""

    def test_stops_once(self) -> None:
        """A server is stopped by the first call and by no later one."""
        stops: list[int] = []
        with Server(url="http://x", model="m", start_s=0.0, stop=lambda: stops.append(1)) as server:
            server.stop()
        assert stops == [1]

    def test_a_server_that_is_not_ours_is_left_running(self) -> None:
        """Stopping a server without a way to stop it does nothing."""
        Server(url="http://x", model="m", start_s=0.0).stop()


class TestUrlLauncher:
    """Servers that run already."""

    def test_takes_the_only_model(self) -> None:
        """Without a model in the URL, the server's only one is used."""
        with CannedServer() as running:
            server = UrlLauncher(url=running.url).launch()
        assert (server.url, server.model) == (running.url, "canned")
        assert 0 < server.start_s < 5

    def test_an_unserved_model_is_named_beside_the_served_ones(self) -> None:
        """Asking for a model that the server does not have is an error that lists what it has."""
        with CannedServer() as running, pytest.raises(UsageError, match=r"large: .* serves canned, not qwen"):
            UrlLauncher(name="large", url=running.url, model="qwen").launch()

    def test_a_dead_url_names_role_url_reason_and_remedy(self) -> None:
        """A URL that nobody answers is one clear error, at the deadline."""
        url = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(LaunchError) as caught:
            UrlLauncher(name="large", url=url, deadline_s=0.2).launch()
        message = str(caught.value)
        assert message.startswith(f"large: no server answers at {url} within 0.2 s (Connection refused)")
        assert "--backend large=URL" in message

    def test_a_server_that_still_loads_is_waited_for(self) -> None:
        """A server error is taken for loading, and waited out."""
        with HTTPServer(("127.0.0.1", 0), Loading) as loading:
            Loading.num_refusals = 2
            thread = threading.Thread(target=loading.serve_forever, daemon=True)
            thread.start()
            try:
                server = UrlLauncher(url=f"http://127.0.0.1:{loading.server_port}").launch()
            finally:
                loading.shutdown()
                thread.join(5)
        assert server.model == "late"
        assert Loading.num_refusals == 0

    def test_a_silent_server_does_not_outlast_the_deadline(self) -> None:
        """A server that accepts and never answers is given up at the deadline."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            began_s = time.monotonic()
            with pytest.raises(LaunchError, match="timed out"):
                UrlLauncher(url=url, deadline_s=0.5).launch()
        assert time.monotonic() - began_s < 2

    def test_a_server_of_another_kind_is_told_so(self) -> None:
        """A server that answers, but with no list of models, is not taken for an engine."""
        program = (sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1")
        with (
            ProcessLauncher(command=program, model="none", ready_path="/").launch() as files,
            pytest.raises(LaunchError, match="OpenAI-compatible"),
        ):
            UrlLauncher(url=files.url).launch()


class TestProcessLauncher:
    """Servers started as programs."""

    def test_a_program_serves_and_is_gone_after_stop(self) -> None:
        """The server answers when `launch` returns, and its group is empty when `stop` returns."""
        with ProcessLauncher(command=CANNED).launch() as server:
            assert server.model == "canned"
            assert UrlLauncher(url=server.url).launch().model == "canned"
        with pytest.raises(LaunchError):
            UrlLauncher(url=server.url, deadline_s=0.1).launch()

    def test_workers_that_ignore_the_polite_signal_are_killed(self, tmp_path: Path) -> None:
        """Stopping ends the whole group, also a worker that outlives its leader and ignores SIGTERM."""
        worker = tmp_path / "pid"
        stubborn = f"trap '' TERM; echo $$ > {worker}; while :; do sleep 0.1; done"
        command = ("sh", "-c", f'sh -c "{stubborn.replace("$", chr(92) + "$")}" & exec "$@"', "sh", *CANNED)
        server = ProcessLauncher(command=command, grace_s=0.5).launch()
        assert within(5, lambda: worker.exists() and worker.read_text().strip() != "")
        pid = int(worker.read_text())
        group = os.getpgid(pid)
        server.stop()
        assert within(2, lambda: not is_group_alive(group))

    def test_a_program_that_exits_shows_the_tail_of_its_log(self, tmp_path: Path) -> None:
        """An exit before readiness is an error that ends with what the program last said."""
        command = ("sh", "-c", "echo no weights found >&2; exit 3")
        began_s = time.monotonic()
        with pytest.raises(
            LaunchError, match=r"engine: `sh .*` exited with status 3; its log .*/log ends:\nno weights found"
        ):
            ProcessLauncher(name="engine", command=command, log=tmp_path / "log").launch()
        assert time.monotonic() - began_s < 5
        assert (tmp_path / "log").read_text() == "no weights found\n"

    def test_a_program_that_never_answers_is_stopped_at_the_deadline(self, tmp_path: Path) -> None:
        """A program without a server is given up at the deadline, and its group is stopped."""
        pid = tmp_path / "pid"
        command = ("sh", "-c", f"echo $$ > {pid}; exec sleep 100")
        with pytest.raises(LaunchError, match=r"did not answer within 0\.5 s .*; allow more with deadline_s"):
            ProcessLauncher(command=command, deadline_s=0.5).launch()
        assert not is_group_alive(int(pid.read_text()))

    def test_a_port_that_is_asked_for_is_the_one_that_serves(self) -> None:
        """A given port is used as it is."""
        port = free_port()
        with ProcessLauncher(command=CANNED, port=port).launch() as server:
            assert server.url == f"http://127.0.0.1:{port}"

    def test_a_port_in_use_is_told_before_anything_starts(self, tmp_path: Path) -> None:
        """A given port that somebody else has is an error, and the program is not started."""
        started = tmp_path / "started"
        with CannedServer() as other:
            port = int(other.url.rpartition(":")[2])
            with pytest.raises(LaunchError, match=f"large: port {port} of 127.0.0.1 is in use; stop"):
                ProcessLauncher(name="large", command=("touch", str(started)), port=port).launch()
        assert not started.exists()

    def test_a_chosen_port_that_is_lost_is_chosen_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A program that ends because somebody took its port meanwhile is started again on another."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            ports = iter([taken.getsockname()[1], free_port()])
            monkeypatch.setattr(process, "free_port", lambda host: next(ports))
            with ProcessLauncher(command=CANNED).launch() as server:
                assert server.model == "canned"
        assert next(ports, None) is None

    def test_an_answer_on_a_lost_port_is_not_taken_for_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another server that answers on the port of a program that failed is never returned."""
        with CannedServer() as other:
            port = int(other.url.rpartition(":")[2])
            monkeypatch.setattr(process, "free_port", lambda host: port)

            def answered_at_last(url: str, deadline_s: float, give_up: Callable[[], bool]) -> None:
                assert within(deadline_s, give_up)

            monkeypatch.setattr(process, "wait_until_answering", answered_at_last)
            with pytest.raises(LaunchError, match="exited with status 1"):
                ProcessLauncher(command=("sh", "-c", "exit 1")).launch()

    def test_a_model_that_must_be_fetched_comes_with_the_line_that_does(self) -> None:
        """A server that runs without the model is stopped, and the error is the line that fetches it."""
        launcher = ProcessLauncher(command=CANNED, name="small", model="qwen", fetch="ollama pull qwen")
        with pytest.raises(UnavailableError, match="small: the server has no model qwen: ollama pull qwen"):
            launcher.launch()

    def test_an_interpreter_without_the_package_comes_with_its_install_line(self) -> None:
        """A Python that lacks the engine is unavailable before it is started."""
        command, install = (sys.executable, "-m", "no_such_engine"), "pip install it"
        for python in (sys.executable, "python3"):
            launcher = ProcessLauncher(
                command=(python, *command[1:]), packages=("no_such_engine",), install=install
            )
            with pytest.raises(UnavailableError, match=r"lacks one of no_such_engine: pip install it"):
                launcher.launch()

    def test_progress_is_the_last_line_of_the_log(self) -> None:
        """Whoever asks is told what the program says while it starts."""
        said: list[str] = []
        command = ("sh", "-c", 'echo first; echo loading 1 of 2; sleep 1.5; exec "$@"', "sh", *CANNED)
        with ProcessLauncher(command=command, on_progress=said.append).launch():
            pass
        assert set(said) == {"loading 1 of 2"}

    def test_an_interrupt_while_starting_stops_the_program(self, tmp_path: Path) -> None:
        """Ctrl-C during the wait leaves no program and no log behind."""
        suite = (
            "import os, signal, sys, tempfile\n"
            "from harness.launchers import ProcessLauncher\n"
            f"tempfile.tempdir = {str(tmp_path)!r}\n"
            # A suite in the background of a shell inherits that interrupts are ignored.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "pid = os.path.join(tempfile.tempdir, 'pid')\n"
            "command = ('sh', '-c', f'echo $$ > {pid}; kill -INT {os.getpid()}; exec sleep 100')\n"
            "try:\n"
            "    ProcessLauncher(command=command).launch()\n"
            "except KeyboardInterrupt:\n"
            "    print('interrupted')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", suite], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
        )
        assert (done.stdout, done.stderr) == ("interrupted\n", "")
        assert not is_group_alive(int((tmp_path / "pid").read_text()))
        assert [path.name for path in tmp_path.iterdir()] == ["pid"]

    def test_a_missing_program_comes_with_its_install_line(self) -> None:
        """A program that is not on PATH is unavailable, and the error says how to get it."""
        with pytest.raises(UnavailableError, match="no-such-engine is not on PATH: pip install it"):
            ProcessLauncher(command=("no-such-engine",), install="pip install it").launch()


class TestWatchdog:
    """What is left when the suite is killed: nothing."""

    @pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM], ids=lambda sign: sign.name)
    def test_no_server_outlives_a_killed_suite(self, sign: signal.Signals, tmp_path: Path) -> None:
        """Servers end soon after the process that launched them is killed, even when it cannot react."""
        suite = (
            "import sys, tempfile, time\n"
            "from harness.launchers import ProcessLauncher, canned\n"
            f"tempfile.tempdir = {str(tmp_path)!r}\n"
            "command = (sys.executable, canned.__file__, '--port', '{port}')\n"
            "servers = [ProcessLauncher(command=command).launch() for _ in range(2)]\n"
            "print(*(s.url for s in servers), flush=True)\n"
            "time.sleep(100)\n"
        )
        with subprocess.Popen([sys.executable, "-c", suite], cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            urls = process.stdout.readline().decode().split()
            groups = [_group_of(url) for url in urls]
            assert all(map(is_group_alive, groups))
            process.send_signal(sign)
            process.wait(5)
        assert len(groups) == 2
        assert within(5, lambda: not any(map(is_group_alive, groups)))
        assert within(5, lambda: not list(tmp_path.iterdir()))

    def test_a_watchdog_that_is_younger_than_the_kill_does_its_work(self, tmp_path: Path) -> None:
        """A suite killed before its watchdog has even started is cleaned up after all the same."""
        suite = (
            "import os, signal, subprocess\n"
            "from harness.launchers.watchdog import Watchdog\n"
            "group = subprocess.Popen(['sleep', '100'], start_new_session=True).pid\n"
            "print(group, flush=True)\n"
            "watchdog = Watchdog()\n"
            "watchdog.guard('group', group)\n"
            f"watchdog.guard('file', {str(tmp_path / 'file')!r})\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        (tmp_path / "file").touch()
        done = subprocess.run([sys.executable, "-c", suite], cwd=ROOT, stdout=subprocess.PIPE, check=False)
        assert within(5, lambda: not is_group_alive(int(done.stdout)))
        assert within(5, lambda: not (tmp_path / "file").exists())

    def test_a_container_is_removed_until_it_stays_away(self, tmp_path: Path) -> None:
        """One whose creation is in flight at the kill is asked for, and again, since it may yet come back."""
        path = tmp_path / "engine.sock"
        answers = ["404 Not Found", "500 Server Error", "204 No Content", "404 Not Found", "204 No Content"]
        asked: list[str] = []
        with socket.socket(socket.AF_UNIX) as engine:
            engine.bind(str(path))
            engine.listen()
            watchdog = Watchdog()
            watchdog.guard("container", "assay-small-1", path)
            threading.Thread(target=watchdog.close).start()
            engine.settimeout(0.1)
            while watchdog.is_alive:
                with contextlib.suppress(TimeoutError):
                    connection, _ = engine.accept()
                    with connection:
                        asked.append(connection.recv(4096).decode().splitlines()[0])
                        answer = answers.pop(0) if answers else "404 Not Found"
                        connection.sendall(f"HTTP/1.0 {answer}\r\n\r\n".encode())
        assert not answers
        assert set(asked) == {"DELETE /containers/assay-small-1?force=1&v=1 HTTP/1.0"}

    def test_a_released_group_is_left_alone(self) -> None:
        """Closing the watchdog stops what it guards and nothing that it was told to forget."""
        kept = subprocess.Popen(["sleep", "100"], start_new_session=True)
        stopped = subprocess.Popen(["sleep", "100"], start_new_session=True)
        try:
            watchdog = Watchdog()
            for process in (kept, stopped):
                watchdog.guard("group", process.pid)
            watchdog.release("group", kept.pid)
            watchdog.close()
            assert stopped.wait(5) == -signal.SIGTERM
            assert kept.poll() is None
        finally:
            for process in (kept, stopped):
                process.kill()
                process.wait()

    def test_a_server_starts_only_under_guard(self, tmp_path: Path) -> None:
        """A suite killed between starting a program and guarding it leaves a gate that never opens."""
        started = tmp_path / "started"
        suite = (
            "import os, signal, sys\n"
            "from harness.launchers import group, process\n"
            "class Killer:\n"
            "    def guard(self, kind, group):\n"
            "        print(group, flush=True)\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "group.the_watchdog = Killer\n"
            f"process.ProcessLauncher(command=('touch', {str(started)!r})).launch()\n"
        )
        done = subprocess.run([sys.executable, "-c", suite], cwd=ROOT, stdout=subprocess.PIPE, check=False)
        assert done.returncode == -signal.SIGKILL
        assert within(5, lambda: not is_group_alive(int(done.stdout)))
        assert not started.exists()


class TestEmbeddedLauncher:
    """llama.cpp in this process."""

    def test_relaunches_within_a_second(self, nano_gguf: Path) -> None:
        """The engine starts and stops fast enough to be relaunched for each round, on a new port."""
        launcher = EmbeddedLauncher(gguf=nano_gguf, model="nano")
        began_s = time.monotonic()
        for _ in range(3):
            with launcher.launch() as server:
                assert UrlLauncher(url=server.url).launch().model == "nano"
                assert 0 < server.start_s < 1
            with pytest.raises(LaunchError):
                UrlLauncher(url=server.url, deadline_s=0.1).launch()
        assert time.monotonic() - began_s < 6

    def test_two_engines_run_side_by_side(self, nano_gguf: Path) -> None:
        """One process holds several engines, each under its own name."""
        with (
            EmbeddedLauncher(gguf=nano_gguf, model="one").launch() as one,
            EmbeddedLauncher(gguf=nano_gguf, model="two").launch() as two,
        ):
            assert [UrlLauncher(url=s.url).launch().model for s in (one, two)] == ["one", "two"]

    def test_says_nothing(self, nano_gguf: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """Starting and stopping the engine writes nothing to the terminal."""
        with EmbeddedLauncher(gguf=nano_gguf, model="nano").launch():
            pass
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("bad", ["missing", "not-gguf", "truncated"])
    def test_a_bad_file_is_named(
        self, bad: str, nano_gguf: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """A file that is no model, or not whole, is one error with its path."""
        path = tmp_path / "bad.gguf"
        if bad == "not-gguf":
            path.write_bytes(b"weights")
        elif bad == "truncated":
            path.write_bytes(nano_gguf.read_bytes()[:-1000])
        with pytest.raises(LaunchError, match=f"small: .*{path}"):
            EmbeddedLauncher(name="small", gguf=path, model="nano").launch()
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("num_clients", [1, 3])
    def test_stops_while_it_answers(self, nano_gguf: Path, num_clients: int) -> None:
        """Stopping an engine with requests running and waiting takes little time and ends all of them."""
        # In a process of its own: an engine that waits for its clients freezes the interpreter.
        suite = (
            "import json, pathlib, socket, urllib.parse\n"
            "from harness.launchers import EmbeddedLauncher\n"
            f"path = pathlib.Path({str(nano_gguf)!r})\n"
            "server = EmbeddedLauncher(gguf=path, model='m').launch()\n"
            "body = json.dumps({'prompt': 'x', 'max_tokens': 900, 'ignore_eos': True, 'stream': True})\n"
            "address = urllib.parse.urlsplit(server.url)\n"
            "clients = []\n"
            f"for _ in range({num_clients}):\n"
            "    clients.append(socket.create_connection((address.hostname, address.port)))\n"
            "    head = f'POST /v1/completions HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: {len(body)}'\n"
            "    clients[-1].sendall((head + '\\r\\n\\r\\n' + body).encode())\n"
            "clients[0].recv(100)\n"
            "server.stop()\n"
            "print('stopped')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", suite], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
        )
        assert (done.stdout, done.stderr, done.returncode) == ("stopped\n", "", 0)

    def test_stops_at_once_after_its_start(self, nano_gguf: Path) -> None:
        """An engine that was never asked anything is stopped like any other."""
        suite = (
            "import pathlib\n"
            "from harness.launchers import EmbeddedLauncher\n"
            f"launcher = EmbeddedLauncher(gguf=pathlib.Path({str(nano_gguf)!r}), model='m')\n"
            "for _ in range(20):\n"
            "    launcher.launch().stop()\n"
        )
        done = subprocess.run([sys.executable, "-c", suite], cwd=ROOT, timeout=20, check=False)
        assert done.returncode == 0

    def test_an_engine_left_running_does_not_keep_the_process(self, nano_gguf: Path) -> None:
        """A process that forgets to stop its engine still ends, and cleanly."""
        suite = (
            "import pathlib\n"
            "from harness.launchers import EmbeddedLauncher\n"
            f"EmbeddedLauncher(gguf=pathlib.Path({str(nano_gguf)!r}), model='m').launch()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", suite], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
        )
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)

    def test_a_missing_package_comes_with_its_install_line(
        self, monkeypatch: pytest.MonkeyPatch, nano_gguf: Path
    ) -> None:
        """Without the engine's package, the error is the line that installs it."""
        monkeypatch.setitem(sys.modules, "xllamacpp", None)
        with pytest.raises(UnavailableError, match="pip install xllamacpp"):
            EmbeddedLauncher(gguf=nano_gguf, model="nano").launch()


def _group_of(url: str) -> int:
    """The process group of the canned server at this URL, by its port on the command line."""
    port = url.rpartition(":")[2]
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if cmdline.read_bytes().split(b"\0")[-2:-1] == [port.encode()]:
                return os.getpgid(int(cmdline.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    raise AssertionError(f"no process serves {url}")
