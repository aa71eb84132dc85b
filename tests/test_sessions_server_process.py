"""`python -m harness.sessions serve` as a process: it starts, is killed, and leaves nothing."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from harness.errors import BackendBroken
from harness.hardware.budget import DeviceBudget
from harness.sessions.__main__ import main
from harness.sessions.address import dial
from harness.sessions.client import SessionClient
from harness.sessions.counting import continuation
from tests.session_servers import COMMAND, serving


def test_a_killed_server_is_followed_by_another_at_the_same_socket(tmp_path: Path) -> None:
    """The file that it left is replaced, and its clients see the end of the connection."""
    path = tmp_path / "s"
    with serving("--socket", str(path)) as (process, address):
        client = SessionClient.connect(address, timeout_s=60)
        process.kill()
        process.wait()
        assert path.exists()
        with pytest.raises(BackendBroken, match="the connection ended"):
            client.ping()
        client.close()
        with serving("--socket", str(path)) as (_, again), SessionClient.connect(again) as client:
            client.ping()


def test_a_killed_server_gives_its_part_of_a_shared_budget_back(tmp_path: Path) -> None:
    """The budget outlives it."""
    budget = DeviceBudget.create(10**6, path=tmp_path / "ledger")
    with serving("--port", "0", "--budget", str(budget.path)) as (process, address):
        client = SessionClient.connect(address, timeout_s=60)
        client.open(1000)
        assert budget.used_bytes == 64_000
        client.close()
        process.kill()
        process.wait()
        assert budget.used_bytes == 0
    budget.remove()


def test_a_server_without_descriptors_goes_on_when_it_has_some_again(tmp_path: Path) -> None:
    """More connections than it may have files: some wait, a turn goes on, and then all is as before."""
    path = tmp_path / "s"
    with serving("--socket", str(path)) as (process, address):
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (40, 40))
        with SessionClient.connect(address, timeout_s=60) as client:
            session = client.open(1000)
            crowd = [dial(address, timeout_s=60) for _ in range(60)]
            assert session.generate([1], max_new_tokens=500).token_ids == continuation([1], 500)
            for sock in crowd:
                sock.close()
        with SessionClient.connect(address, timeout_s=60) as client:
            assert client.open(100).generate([1], max_new_tokens=5).token_ids == continuation([1], 5)


def test_an_address_that_is_taken_ends_the_second_server(tmp_path: Path) -> None:
    """With one line that says what to do, and status 2; the first goes on."""
    path = str(tmp_path / "s")
    with serving("--socket", path) as (_, address):
        second = subprocess.run([*COMMAND, "--socket", path], capture_output=True, text=True, timeout=60)
        assert second.returncode == 2
        assert second.stderr == f"error: unix:{path}: a server listens there; stop it or give another path\n"
        with SessionClient.connect(address) as client:
            client.ping()


def test_a_server_tells_what_it_does_when_asked_to(tmp_path: Path) -> None:
    """That a session was reused is a line of its log."""
    with serving("--socket", str(tmp_path / "s"), "--verbose") as (process, address):
        with SessionClient.connect(address, timeout_s=60, name="me") as client:
            session = client.open(100)
            session.generate([1, 2, 3], max_new_tokens=5)
            session.generate([4], max_new_tokens=2)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert "session-1: turn 3: 2 tokens, reusing 7, computing 2 before the first" in log
    assert "connection 1 ('me'): left" in log


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--link-bps", "9000000000"], "model a faster one by its bytes"),
        (["--socket", "/no/such/folder/s"], "No such file or directory"),
        (["--budget", "/no/such/ledger"], "/no/such/ledger"),
        (["--socket", "x" * 200], "give 1 to 107"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On one line, with status 2."""
    assert main(["serve", "--model", "counting", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--budget-gb", "nan"], ["--max-sessions", "0"], []])
def test_arguments_that_make_no_sense_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """By argparse, with what they should be."""
    with pytest.raises(SystemExit) as left:
        main(["serve", *arguments] if arguments else [])
    assert left.value.code == 2
    assert os.linesep in capsys.readouterr().err
