"""The suite as a job of a Ray cluster, sent from a machine that is no node of it; its results come back.

    python -m harness.clusters --address http://gpu1:8265 -- -m cascade --profile node

Sends the working tree, runs `pytest bench/ --ray-address auto …` on the head, passes its output on, and puts
the run's folder into `--into`. The exit status is pytest's.

Ray offers no way to fetch a file from a job, so results travel in its output: each line of a journal as soon
as it is written, everything else packed at the end. A job that was lost leaves the journal of what finished.

Needs `ray[default]` on both sides, and a head that was started with its dashboard.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import logging
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from harness.clusters.cluster import EXCLUDED
from harness.errors import HarnessError, LaunchError, UnavailableError, UsageError

__all__ = ["Home", "main", "run_here", "submit"]

ROOT = Path(__file__).resolve().parents[2]
MARK = "assay-job"
"""What a line begins with that carries results."""
_CHUNK = 60_000
_LOOK_S = 0.5
_OWN = ("--results-dir", "--ray-address")
"""Options of pytest that are chosen here."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status: pytest's, or 2 with one line on what cannot be done."""
    args = _parser().parse_args(argv)
    rest = [arg for arg in args.pytest if arg != "--"]
    try:
        if args.here:
            return run_here(rest)
        _refuse_own(rest)
        return submit(args.address, rest, args.into, python=args.python)
    except HarnessError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2


def submit(address: str, options: Sequence[str], into: Path, *, python: str = "python") -> int:
    """Run the suite with pytest's `options` as a job, and fetch what it leaves into a folder in `into`.

    Arguments: `address`, of the dashboard, http://HOST:8265; `python`, as the head finds it.

    Raises
    ------
    UnavailableError: ray[default] is not installed here.
    LaunchError: nothing answers there, or the job came to no end.
    """
    sdk = _sdk()
    home = Home(into)
    try:
        client = sdk.JobSubmissionClient(address)
        job = client.submit_job(
            entrypoint=shlex.join([python, "-m", "harness.clusters", "--here", "--", *options]),
            runtime_env={"working_dir": str(ROOT), "excludes": list(EXCLUDED)},
        )
    except (ConnectionError, RuntimeError, ValueError) as exc:
        raise LaunchError(
            f"ray at {address}: {_one_line(exc)}; give the dashboard, http://HOST:8265"
        ) from exc
    print(f"{job} on {address}; stop it with: ray job stop --address {address} {job}", flush=True)
    try:
        asyncio.run(_follow(client, job, home))
    except (KeyboardInterrupt, HarnessError, OSError):
        client.stop_job(job)  # no one would take what it finds
        raise
    status = home.exit_status
    if status is None:
        info = client.get_job_info(job)
        raise LaunchError(f"{job}: {info.status}, {_one_line(info.message or '')}; home came {home.came}")
    print(home.came)
    return status


class Home:
    """What comes back: lines to show, and results to keep."""

    def __init__(self, into: Path) -> None:
        self._into = into
        self._rest = ""
        self._packed: list[str] = []
        self.exit_status: int | None = None
        """pytest's; None while it has not said."""
        self.runs: list[Path] = []
        """Folders that something came for."""

    @property
    def came(self) -> str:
        """What did, in words."""
        return ", ".join(map(str, self.runs)) or "nothing"

    def take(self, text: str) -> str:
        """Keep what the text carries; returns what of it is to be shown."""
        *lines, self._rest = (self._rest + text).split("\n")
        return "".join(f"{line}\n" for line in lines if not self._took(line))

    def _took(self, line: str) -> bool:
        mark, _, told = line.partition(" ")
        kind, _, content = told.partition(" ")
        if mark != MARK or kind not in ("line", "part", "end"):
            return False
        if kind == "line":
            self._journal(content)
        elif kind == "part":
            self._packed.append(content)
        else:
            self._end(int(content))
        return True

    def _journal(self, content: str) -> None:
        name, _, packed = content.partition(" ")
        with (self._run(name) / "journal.jsonl").open("ab") as file:
            file.write(zlib.decompress(base64.b64decode(packed)))

    def _end(self, status: int) -> None:
        """Unpack all of it, the journals in place of what came of them before."""
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode("".join(self._packed))), mode="r:gz") as tar:
            for name in dict.fromkeys(entry.partition("/")[0] for entry in tar.getnames()):
                self._run(name)
            tar.extractall(self._into, filter="data")
        self.exit_status = status

    def _run(self, name: str) -> Path:
        """A run's folder; one of that name that was there before this job is left alone."""
        run = self._into / Path(name).name
        if run not in self.runs:
            if run.exists():
                raise UsageError(f"{run}: exists, and is of another run; give another folder with --into")
            run.mkdir(parents=True)
            self.runs.append(run)
        return run


def run_here(options: Sequence[str]) -> int:
    """On the head: run the suite over the cluster, and print what it leaves, as it leaves it."""
    with tempfile.TemporaryDirectory(prefix="assay-job-") as folder:
        results = Path(folder) / "results"
        chosen = [f"--results-dir={results}", "--ray-address=auto", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "bench/", *chosen, *options]
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        # `ray job stop` asks first: what was measured is sent before this ends.
        signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
        journals = _Journals(results)
        watch = threading.Thread(target=journals.watch, daemon=True)
        watch.start()
        assert process.stdout is not None
        for line in process.stdout:
            _say(line.rstrip("\n"))
        status = process.wait()
        journals.stop()
        watch.join()
        packed = base64.b64encode(_packed(results)).decode()
        for start in range(0, len(packed), _CHUNK):
            _say(f"{MARK} part {packed[start : start + _CHUNK]}")
        _say(f"{MARK} end {status}")
        return status


class _Journals:
    """Prints each whole line that a journal gains."""

    def __init__(self, results: Path) -> None:
        self._results, self._stopped = results, threading.Event()
        self._sent: dict[Path, int] = {}

    def watch(self) -> None:
        while not self._stopped.wait(_LOOK_S):
            self._look()
        self._look()

    def stop(self) -> None:
        self._stopped.set()

    def _look(self) -> None:
        for path in sorted(self._results.glob("*/journal.jsonl")):
            content = path.read_bytes()[self._sent.get(path, 0) :]
            content = content[: content.rfind(b"\n") + 1]
            if content:
                self._sent[path] = self._sent.get(path, 0) + len(content)
                _say(f"{MARK} line {path.parent.name} {base64.b64encode(zlib.compress(content)).decode()}")


_SAYING = threading.Lock()


def _say(line: str) -> None:
    """One whole line, whoever else prints."""
    with _SAYING:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _packed(folder: Path) -> bytes:
    """Everything in `folder` as a gzipped tar, names relative to it; an empty one where there is none."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            tar.add(path, path.name)
    return buffer.getvalue()


async def _follow(client: Any, job: str, home: Home) -> None:
    """Show the job's output until it ends."""
    async for text in client.tail_job_logs(job):
        sys.stdout.write(home.take(text))
        sys.stdout.flush()
    sys.stdout.write(home.take("\n"))
    ends_s = time.monotonic() + 10
    while home.exit_status is None and time.monotonic() < ends_s:
        if str(client.get_job_status(job)) in ("SUCCEEDED", "FAILED", "STOPPED"):
            break
        await asyncio.sleep(_LOOK_S)


def _sdk() -> Any:
    try:
        sdk = import_module("ray.job_submission")
    except ImportError as exc:
        raise UnavailableError("ray[default] is missing; run: pip install 'ray[default]'") from exc
    logging.getLogger("ray").setLevel(logging.WARNING)  # it names each file that it does not send
    return sdk


def _refuse_own(options: Sequence[str]) -> None:
    for option in options:
        if option == "--resume":
            raise UsageError("--resume: a job begins a run of its own; leave it out")
        if option.partition("=")[0] in _OWN:
            raise UsageError(f"{option}: is chosen on the cluster; give --into FOLDER for the results")


def _one_line(what: object) -> str:
    return " ".join(str(what).split())[:400]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.clusters",
        description="Run the suite as a job of a Ray cluster, and fetch its results.",
    )
    parser.add_argument(
        "--address", default=os.environ.get("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265"),
        metavar="URL", help="the cluster's dashboard (default: http://127.0.0.1:8265)",
    )  # fmt: skip
    parser.add_argument(
        "--into", type=Path, default=Path("results"), metavar="DIR", help="for the run's folder"
    )
    parser.add_argument(
        "--python", default="python", metavar="PATH", help="on the head, with the project's extras"
    )
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "pytest", nargs="*", metavar="-- OPTION", help="of pytest: -- -m cascade --profile node"
    )
    return parser
