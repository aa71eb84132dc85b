"""What a cluster offers, what is sent home, and which tests stay together: without any cluster."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fixtures.clusters_errand import Increments, Piece, keep, supply
from harness.clusters.cluster import Errands, find_address
from harness.clusters.errand import Began, Ended, Errand, Parcel, perform
from harness.clusters.kinds import (
    Node,
    _driver,
    alike,
    default_resources,
    describe_machine,
    eligible,
    is_share,
    num_at_once,
    parse_resources,
)
from harness.errors import UsageError

SENDS = (
    "-c",
    "import sys; from pathlib import Path; from harness.clusters.errand import send; f = Path(sys.argv[1]); "
    "[send(f, i, (f / 'spec').read_bytes() + str(i).encode()) for i in range(3)]; print('done'); {end}",
)


def node(name: str, **resources: float) -> Node:
    return Node(name * 10, name, resources)


def command(end: str = "") -> tuple[str, ...]:
    return tuple(part.replace("{end}", end) for part in SENDS)


def test_an_errand_sends_what_it_finds_in_order_and_says_how_it_ended() -> None:
    """First where it is, last the end of its output."""
    events = list(perform(Errand(name="e", command=command(), spec=b"n"), "here"))
    assert events == [Began("here"), Parcel(b"n0"), Parcel(b"n1"), Parcel(b"n2"), Ended(0, "done")]


def test_a_killed_errand_says_by_what() -> None:
    """As a negative status; what it had sent is there."""
    kill = "sys.stdout.flush(); import os; os.kill(os.getpid(), 9)"
    *_, last, ended = perform(Errand(name="e", command=command(kill), spec=b""), "here")
    assert (last, ended) == (Parcel(b"2"), Ended(-signal.SIGKILL, "done"))


def test_who_stops_listening_ends_the_errand(tmp_path: Path) -> None:
    """Its process, and its folder."""
    told = tmp_path / "told"
    say = f"f.joinpath('x').write_text(f'{{os.getpid()}} {{f}}'); f.joinpath('x').rename({str(told)!r})"
    events = perform(
        Errand(name="e", command=command(f"import os, time; {say}; time.sleep(60)"), spec=b""), "here"
    )
    assert [next(events) for _ in range(4)][-1] == Parcel(b"2")
    while not told.exists():
        time.sleep(0.05)
    events.close()  # type: ignore[attr-defined]
    pid, folder = told.read_text().split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert not Path(folder).exists()


def test_lines_are_sent_as_they_are_added_and_other_files_whole(tmp_path: Path) -> None:
    """A line that is not whole yet waits; what did not change is not sent again."""
    (tmp_path / "telemetry.jsonl").write_text("1\n2")
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "a.json").write_text("{}")
    (tmp_path / "journal.jsonl").write_text("its own\n")
    increments = Increments(tmp_path)
    assert set(increments.take()) == {
        Piece("telemetry.jsonl", b"1\n", True),
        Piece("artifacts/a.json", b"{}", False),
    }
    with (tmp_path / "telemetry.jsonl").open("a") as file:
        file.write("3\n")
    (tmp_path / "artifacts" / "a.json").write_text("{...}")
    assert set(increments.take()) == {
        Piece("telemetry.jsonl", b"23\n", True),
        Piece("artifacts/a.json", b"{...}", False),
    }
    assert increments.take() == ()


def test_what_two_errands_send_is_one_folder(tmp_path: Path) -> None:
    """Lines of both, and no half of one that was there; no path leads out of it."""
    (tmp_path / "telemetry.jsonl").write_bytes(b"torn by a ki")
    for content in (b"1\n", b"2\n"):
        keep(tmp_path, Piece("telemetry.jsonl", content, True))
        keep(tmp_path, Piece("artifacts/a.json", content, False))
    assert (tmp_path / "telemetry.jsonl").read_bytes() == b"1\n2\n"
    assert (tmp_path / "artifacts" / "a.json").read_bytes() == b"2\n"
    with pytest.raises(ValueError, match="leads out of"):
        keep(tmp_path, Piece("../a.json", b"", False))


@pytest.mark.parametrize(
    ("nodes", "with_gpu", "asked"),
    [
        ([node("a", CPU=64, GPU=8), node("b", CPU=64, GPU=8), node("c", CPU=4)], True, {"GPU": 1, "CPU": 8}),
        ([node("a", CPU=4, GPU=8)], True, {"GPU": 1, "CPU": 1}),
        ([node("a", CPU=64), node("b", CPU=60), node("c", CPU=0)], True, {"CPU": 60}),
        ([node("a", CPU=64, GPU=8)], False, {"CPU": 64}),
    ],
)
def test_by_default_a_block_takes_a_gpu_and_its_share_or_a_whole_node(
    nodes: list[Node], with_gpu: bool, asked: Mapping[str, float]
) -> None:
    """What runs side by side on the same processors disturbs."""
    assert default_resources(nodes, with_gpu=with_gpu) == asked


def test_nodes_without_processors_take_nothing() -> None:
    """And a cluster of such nodes says so."""
    with pytest.raises(UsageError, match="no node of the Ray cluster offers a CPU"):
        default_resources([node("a", GPU=1)], with_gpu=True)
    nodes = [node("b", CPU=2), node("a", CPU=2), node("c")]
    assert [found.name for found in eligible(nodes, {"CPU": 2})] == ["a", "b"]


def test_as_many_errands_run_at_once_as_the_nodes_hold() -> None:
    """By what each asks for, of the scarcest resource."""
    nodes = [node("a", CPU=64, GPU=8), node("b", CPU=20, GPU=8), node("c", CPU=64)]
    assert num_at_once(nodes, {"GPU": 1, "CPU": 8}) == 8 + 2
    assert num_at_once(nodes, {"CPU": 64}) == 2
    assert num_at_once(nodes, {"TPU": 1}) == 0


def test_a_whole_node_is_no_share() -> None:
    """Of any that can take the errand: one that has more would run others beside it."""
    nodes = [node("a", CPU=64, GPU=8), node("b", CPU=60)]
    assert is_share(nodes, {"GPU": 1, "CPU": 8})
    assert is_share(nodes, {"CPU": 60})
    assert not is_share(nodes[1:], {"CPU": 60})
    assert not is_share(nodes, {"CPU": 64})
    assert not is_share(nodes, {"GPU": 1})


class _Ray:
    """What `Errands` asks of Ray; one whose cluster is gone never answers."""

    class exceptions:
        class RayError(Exception):
            pass

    def __init__(self, failure: str | None = None, *, breaks: bool = False) -> None:
        self.failure, self.breaks = failure, breaks

    def nodes(self) -> list[dict[str, Any]]:
        assert self.failure is None, "it would wait for ever"
        if self.breaks:
            raise self.exceptions.RayError("the GCS does not answer")
        return [{"NodeID": "a" * 10, "NodeName": "a", "Resources": {"CPU": 4.0}, "Alive": True}]


@pytest.mark.parametrize(
    ("ray", "num"), [(_Ray(), 2), (_Ray("Ray's gcs_server is gone"), 0), (_Ray(breaks=True), 0)]
)
def test_a_cluster_that_is_gone_runs_nothing_at_once(ray: Any, num: int) -> None:
    """It is not asked, since Ray would never answer; and an error of its own is no number either."""
    errands = Errands.__new__(Errands)
    errands._ray = errands._cluster = ray
    errands.resources = {"CPU": 2.0}
    assert errands.num_at_once == num


def test_nodes_of_two_kinds_do_not_measure_one_run() -> None:
    """The message names the kinds, and how to choose one."""
    assert alike({"a": "H100", "b": "H100"}) == "H100"
    with pytest.raises(UsageError, match=r"a: H100; b: L4.* --ray-resources accelerator_type:H100"):
        alike({"a": "H100", "b": "L4"})
    with pytest.raises(UsageError, match="no node of the Ray cluster has what an errand asks for"):
        alike({})


@pytest.mark.parametrize(
    ("told", "number"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19",
            ["NVIDIA driver 535.129.03"],
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build",
            ["NVIDIA driver 580.65.06"],
        ),
        ("NVRM version: unknown", []),
        ("", []),
    ],
)
def test_nodes_with_two_drivers_are_of_two_kinds(tmp_path: Path, told: str, number: list[str]) -> None:
    """Its number is part of what a machine is described by."""
    path = tmp_path / "version"
    path.write_text(f"{told}\nGCC version: gcc 13.2.0\n" if told else "")
    assert _driver(path) == number
    assert _driver(tmp_path / "none") == []


def test_a_file_that_an_option_names_is_supplied_whole(tmp_path: Path) -> None:
    """Once for all that read it; one that is there already and the same is left as it is."""
    piece = Piece("results/node.toml", b"[[backend]]", False)
    supply(tmp_path, piece)
    path = tmp_path / "results" / "node.toml"
    before = path.stat()
    supply(tmp_path, piece)
    assert path.stat().st_ino == before.st_ino
    supply(tmp_path, piece._replace(content=b"other"))
    assert path.read_bytes() == b"other"
    assert list(path.parent.iterdir()) == [path]


def test_a_machine_is_described_without_its_name() -> None:
    """Two equal machines give the same words."""
    assert os.uname().nodename not in describe_machine().split(", ")
    assert f"{os.cpu_count()} CPUs" in describe_machine()


def test_resources_are_names_and_amounts() -> None:
    """As Ray calls them."""
    assert parse_resources("GPU=1,CPU=8,accelerator_type:H100=0.001") == {
        "GPU": 1.0, "CPU": 8.0, "accelerator_type:H100": 0.001
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "GPU", "GPU=", "=1", "GPU=0", "GPU=-1", "GPU=nan", "GPU=1,GPU=2", "GPU=inf"]
)
def test_what_is_no_resource_is_told_in_a_line(text: str) -> None:
    """With one that would do."""
    with pytest.raises(UsageError, match=r"--ray-resources: .* give such as GPU=1,CPU=8"):
        parse_resources(text)


def test_auto_is_the_cluster_of_the_environment_or_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is neither, that is said."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(UsageError, match="no Ray runs on this machine, and RAY_ADDRESS is not set"):
        find_address("auto")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("gpu1:6379\n")
    assert find_address("auto") == "gpu1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "gpu2:6379")
    assert find_address("auto") == "gpu2:6379"
    assert find_address("gpu3:6379") == "gpu3:6379"
