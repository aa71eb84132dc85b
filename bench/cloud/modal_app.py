"""An experiment of this suite in a container on Modal, with a GPU; its results folder comes back.

    pip install -e '.[modal]' && modal setup                  # once: asks for the account
    modal run bench/cloud/modal_app.py                        # -m strategies on an L4, into results/
    modal run bench/cloud/modal_app.py --experiment decode --gpu H100 --args "--profile node"
    modal run bench/cloud/modal_app.py \\
        --args "--profile node --backend small=transformers:ORG/NAME?device=cuda:0 --backend large=…"

What runs is this working tree, uncommitted changes included; dependencies are a layer of the image of their
own, built again only when pyproject.toml changes. The command's exit status is pytest's.

Traps. A container that Modal stops takes its files with it, so the suite has a limit of its own, a minute
and a half shorter: what it had measured by then still comes back. Modal runs containers in gVisor, whose
kernel is not the one that numbers from a bare machine were measured on; runs of different machines never
merge. There is no `.git` in the container: its records name no commit. The tree there need not be writable,
so nothing is cached in it.

API: modal.com/docs/guide/images, modal.com/docs/reference/modal.Function (1.6).
"""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TypedDict

import modal

__all__ = [
    "EXPERIMENTS",
    "Outcome",
    "app",
    "command",
    "packed",
    "run_suite",
    "save",
    "suite",
    "suite_limit_s",
    "unpacked",
]

EXPERIMENTS = ("cascade", "routing", "decode", "agents", "strategies")
EXTRAS = ("torch", "routing", "sessions", "gpu", "ray")
"""By name and not `all`: that one names this project, which a package index would be asked for."""
REMOTE = PurePosixPath("/root/assay")
IGNORED = (
    ".git", "**/__pycache__", "**/.*_cache", ".hypothesis", ".tox", ".venv", "venv", "results", "build",
    "dist", "**/*.egg-info",
)  # fmt: skip
"""Of the working tree, what the container does not need."""
GPU = "L4"
LIMIT_S = 3600
SPARE_S = 90.0
"""Between the suite's limit and the container's: enough to stop it, pack its results and send them."""
STOPPED = 124
"""The exit status of a suite that ran past its limit, as `timeout` has it."""
TAIL = 60
"""Lines of output that come back."""


class Outcome(TypedDict):
    """What a run left; plain values, since the caller's side need not know this module."""

    exit_code: int
    """pytest's, or 124."""
    tail: str
    """The last lines of its output."""
    results: bytes
    """The results folder as a gzipped tar."""


def command(experiment: str, args: Sequence[str], results: Path) -> list[str]:
    """The command line of one experiment.

    Raises
    ------
    ValueError: there is no such experiment, or `args` send the results elsewhere.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"experiment {experiment!r}: no such one; use {', '.join(EXPERIMENTS)}")
    elsewhere = [arg for arg in args if arg.partition("=")[0] == "--results-dir"]
    if elsewhere:
        raise ValueError(f"{elsewhere[0]}: results come back from the container; give --into FOLDER instead")
    return [sys.executable, "-m", "pytest", "bench/", "-m", experiment, f"--results-dir={results}",
            "-p", "no:cacheprovider", *args]  # fmt: skip


def run_suite(experiment: str, args: Sequence[str], limit_s: float, root: str = str(REMOTE)) -> Outcome:
    """Run an experiment in the project at `root` and return what it left, also when it failed.

    Raises
    ------
    ValueError: there is no such experiment, or `args` send the results elsewhere.
    """
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        results.mkdir()
        exit_code, tail = _followed(command(experiment, args, results), root, limit_s)
        return Outcome(exit_code=exit_code, tail=tail, results=packed(results))


def packed(folder: Path) -> bytes:
    """Everything in `folder` as a gzipped tar, names relative to it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    return buffer.getvalue()


def unpacked(data: bytes, folder: Path) -> list[Path]:
    """Unpack what `packed` made into `folder`; returns the runs that came.

    Raises
    ------
    FileExistsError: a run of that name is there already. tarfile.FilterError: a name leads out of the folder.
    """
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        runs = [folder / name for name in dict.fromkeys(n.partition("/")[0] for n in tar.getnames())]
        known = next((run for run in runs if run.exists()), None)
        if known is not None:
            raise FileExistsError(f"{known}: exists; nothing was unpacked: give another folder with --into")
        folder.mkdir(parents=True, exist_ok=True)
        tar.extractall(folder, filter="data")
    return runs


def save(outcome: Outcome, into: Path) -> int:
    """Unpack the results into `into`, say where they are, and return the exit status."""
    try:
        runs = unpacked(outcome["results"], into)
    except FileExistsError:
        spare = into / "modal-results.tar.gz"  # a run that was paid for is never thrown away
        spare.write_bytes(outcome["results"])
        print(f"the results are packed in {spare}", file=sys.stderr)
        raise
    if outcome["exit_code"] == STOPPED:
        print("the suite was stopped at its limit; give more with --limit-s", file=sys.stderr)
    if not runs:
        print(f"no results came back; the end of the output:\n{outcome['tail']}", file=sys.stderr)
    for run in runs:
        print(run)
    return outcome["exit_code"]


def suite_limit_s(limit_s: float) -> float:
    """What a container's limit leaves to the suite, in seconds.

    Raises
    ------
    ValueError: it leaves nothing.
    """
    if limit_s <= SPARE_S:
        raise ValueError(
            f"--limit-s {limit_s:g}: give more than the {SPARE_S:g} s that sending results may take"
        )
    return limit_s - SPARE_S


def _followed(argv: Sequence[str], root: str, limit_s: float) -> tuple[int, str]:
    """Run `argv` with its output passed on; its exit status and the last lines."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1",
           "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    stopped = threading.Event()
    process = subprocess.Popen(
        argv, cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip

    def stop() -> None:
        stopped.set()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its watchdog stops the engines; the journal is whole

    timer = threading.Timer(limit_s, stop)
    timer.start()
    tail: deque[str] = deque(maxlen=TAIL)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            tail.append(line)
        exit_code = process.wait()
    finally:
        timer.cancel()
        process.stdout.close()
    return STOPPED if stopped.is_set() else exit_code, "".join(tail)


def _image() -> modal.Image:
    """Debian with this project's dependencies, and the working tree beside them."""
    here = Path(__file__).resolve().parents[2]
    return (
        modal.Image.debian_slim(python_version="3.11")
        .apt_install("gcc", "rustc")  # the source's two tasks are Rust
        .pip_install_from_pyproject(str(here / "pyproject.toml"), optional_dependencies=list(EXTRAS))
        .add_local_dir(here, str(REMOTE), ignore=IGNORED)
    )


# In the container this file lies elsewhere, and the image is there already.
app = modal.App("assay", image=_image() if modal.is_local() else None)
suite = app.function(timeout=LIMIT_S)(run_suite)


@app.local_entrypoint()
def main(
    experiment: str = "strategies",
    gpu: str = GPU,
    args: str = "",
    limit_s: int = LIMIT_S,
    into: str = "results",
) -> None:
    """Run one experiment in the cloud and fetch its results.

    Arguments: `gpu`, as Modal names it, or "none"; `args`, of pytest; `limit_s`, of the container, in
    seconds; `into`, the folder for the results.
    """
    extra, left_s = shlex.split(args), suite_limit_s(limit_s)
    command(experiment, extra, Path(into))  # a mistake costs no container
    run = suite.with_options(gpu=None if gpu == "none" else gpu, timeout=limit_s)
    raise SystemExit(save(run.remote(experiment, extra, left_s), Path(into)))
