"""Which nodes of a cluster can take an errand, and whether they are machines of one kind.

Rounds of different machines never merge, so the nodes of a run have to be alike in what a round depends on:
processor, how many of them, accelerators, and the versions of what measures.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from harness.errors import UsageError

__all__ = [
    "Node",
    "Resources",
    "alike",
    "default_resources",
    "describe_machine",
    "eligible",
    "is_share",
    "num_at_once",
    "parse_resources",
]

Resources = dict[str, float]
_PACKAGES = ("xllamacpp", "torch", "transformers", "pytest-benchmark", "msgspec")


class Node(NamedTuple):
    """A node of a cluster, as Ray lists it."""

    id: str
    name: str
    resources: Mapping[str, float]
    """All that it has, in use or not: `CPU`, `GPU`, `accelerator_type:…`, custom ones."""

    @property
    def label(self) -> str:
        """Its name, and as much of its id as tells two of one machine apart."""
        return f"{self.name}/{self.id[:8]}"


def parse_resources(text: str) -> Resources:
    """`GPU=1,CPU=8,accelerator_type:H100=0.001` as Ray's names and amounts.

    Raises
    ------
    UsageError: a part is no NAME=AMOUNT, or an amount is none.
    """
    found: Resources = {}
    for part in text.split(","):
        name, sep, amount = part.rpartition("=")
        try:
            value = float(amount)
        except ValueError:
            value = -1.0
        if not sep or not name.strip() or not 0 < value < 1e6 or name.strip() in found:
            raise UsageError(f"--ray-resources: {part!r} is no NAME=AMOUNT above 0; give such as GPU=1,CPU=8")
        found[name.strip()] = value
    return found


def eligible(nodes: Iterable[Node], wanted: Mapping[str, float]) -> list[Node]:
    """Those that have, when idle, all that an errand asks for, by label."""
    able = [n for n in nodes if all(n.resources.get(name, 0.0) >= amount for name, amount in wanted.items())]
    return sorted(able, key=lambda node: node.label)


def num_at_once(nodes: Iterable[Node], wanted: Mapping[str, float]) -> int:
    """How many errands idle nodes take side by side."""
    able = eligible(nodes, wanted)
    return sum(min(int(node.resources[name] // amount) for name, amount in wanted.items()) for node in able)


def is_share(nodes: Iterable[Node], wanted: Mapping[str, float]) -> bool:
    """Whether an errand asks for some processors and leaves others, of any node that can take it."""
    cores = wanted.get("CPU", 0.0)
    return cores > 0 and any(node.resources.get("CPU", 0.0) > cores for node in eligible(nodes, wanted))


def default_resources(nodes: Iterable[Node], *, with_gpu: bool) -> Resources:
    """One GPU and its share of the processors, where GPUs are; else a whole machine, since errands disturb.

    Arguments: `with_gpu`, whether what is measured would use one.

    Raises
    ------
    UsageError: no node offers a processor, so that none could take anything.
    """
    able = [node for node in nodes if node.resources.get("CPU", 0.0) >= 1]
    if not able:
        raise UsageError(
            "no node of the Ray cluster offers a CPU; start its nodes with `ray start --num-cpus`"
        )
    gpus = [node for node in able if node.resources.get("GPU", 0.0) >= 1]
    if with_gpu and gpus:
        share = min(node.resources["CPU"] // node.resources["GPU"] for node in gpus)
        return {"GPU": 1.0, "CPU": max(1.0, share)}
    return {"CPU": min(node.resources["CPU"] for node in able)}


def alike(kinds: Mapping[str, str]) -> str:
    """The one kind that all nodes are of.

    Arguments: `kinds`, label of a node → its machine in words.

    Raises
    ------
    UsageError: they are of more than one, or there are none.
    """
    if not kinds:
        raise UsageError(
            "no node of the Ray cluster has what an errand asks for; ask for less with --ray-resources"
        )
    if len(set(kinds.values())) > 1:
        each = "; ".join(f"{label}: {kind}" for label, kind in sorted(kinds.items()))
        raise UsageError(
            f"the nodes differ, and rounds of different machines never merge: {each}. Take those of one "
            "kind, such as --ray-resources accelerator_type:H100=0.001,GPU=1"
        )
    return next(iter(kinds.values()))


def describe_machine() -> str:
    """This machine in what a round depends on, without its name, which equal machines differ by."""
    parts = [platform.machine(), f"{os.cpu_count()} CPUs", _cpu(), f"Python {platform.python_version()}"]
    parts += [f"{name} {found}" for name in _PACKAGES if (found := _version(name))]
    return ", ".join([*parts, *_gpus(), *_driver()])


def _cpu() -> str:
    return _value(Path("/proc/cpuinfo"), "model name") or "unknown processor"


def _value(path: Path, key: str) -> str | None:
    """What the first line `key : value` says."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> list[str]:
    """Of all of them, whatever this process may see."""
    paths = Path("/proc/driver/nvidia/gpus").glob("*/information")
    return sorted(_value(path, "Model") or "GPU" for path in paths)


def _driver(path: Path = Path("/proc/driver/nvidia/version")) -> list[str]:
    """`NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build …` → its number."""
    words = path.read_text().partition("\n")[0].split() if path.is_file() else []
    number = next((word for word in words if word[0].isdigit() and "." in word), None)
    return [f"NVIDIA driver {number}"] if number else []
