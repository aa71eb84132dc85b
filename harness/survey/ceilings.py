"""What no experiment here can beat, measured: memory, matrix products, the link to a GPU, the disk.

Each is one number now, on a machine that others may use: the best of a few passes, some seconds in all. What
cannot be measured says what it would take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.errors import HarnessError
from harness.hardware.bandwidth import measure_bandwidth, measure_device_bandwidth
from harness.hardware.compute import measure_compute
from harness.hardware.disk import measure_disk
from harness.hardware.links import measure_link
from harness.hardware.memory import out_of_memory

__all__ = ["Ceiling", "ceilings_here"]

_BUFFER = 256 * 2**20
_DEVICE_BUFFER = 2 * 2**30
_WHY_LEN = 300


class Ceiling(NamedTuple):
    """A rate that bounds what runs here."""

    name: str
    value: float | None
    """None where it could not be measured."""
    unit: str
    note: str
    """How it was measured, or why it was not."""


def ceilings_here(
    folder: Path, devices: Sequence[str], *, cores: int = 1, num_bytes: int = _BUFFER
) -> Iterator[Ceiling]:
    """Each as soon as it is measured.

    Arguments: `folder`, whose disk counts; `devices`, as PyTorch calls them; `cores` that may be used;
    `num_bytes`, of each buffer.
    """
    for threads in sorted({1, cores}):
        yield from _memory(num_bytes, threads)
    yield _measured("matrix product, cpu float32", "FLOP/s", _product("cpu", "float32"))
    for device in devices or ("cuda:0",):
        yield from _on_device(device, is_there=bool(devices), num_bytes=num_bytes)
    yield from _disk(folder, num_bytes)


Told = Sequence[tuple[float, str]]


def _memory(num_bytes: int, threads: int) -> Iterator[Ceiling]:
    def measure() -> Told:
        found = measure_bandwidth(num_bytes, threads=threads)
        size = f"{num_bytes // 2**20} MiB"
        return [
            (found.read_bytes_per_s, f"read, {size}"),
            (found.copy_bytes_per_s, f"copy, {size}, both ways"),
        ]

    yield from _several((f"memory, {_threads(threads)}",) * 2, "B/s", measure)


def _on_device(device: str, *, is_there: bool, num_bytes: int) -> Iterator[Ceiling]:
    if is_there:
        for dtype in ("float16", "bfloat16"):
            yield _measured(f"matrix product, {device} {dtype}", "FLOP/s", _product(device, dtype))

        def memory() -> Told:
            found = measure_device_bandwidth(_DEVICE_BUFFER, device)
            return [
                (found.read_bytes_per_s, "read, 2 GiB"),
                (found.copy_bytes_per_s, "copy, 2 GiB, both ways"),
            ]

        yield from _several((f"memory of {device}",) * 2, "B/s", memory)

    def link() -> Told:
        *rates, size = measure_link(device, num_bytes)
        return [(rate, f"{size // 2**20} MiB") for rate in rates]

    ways = ("host to device, pinned", "host to device, pageable", "device to host, pinned",
            "device to host, pageable")  # fmt: skip
    yield from _several(ways, "B/s", link)


def _disk(folder: Path, num_bytes: int) -> Iterator[Ceiling]:
    def measure() -> Told:
        found = measure_disk(folder, num_bytes)
        where = f"{found.system or 'unknown file system'}, {found.num_bytes // 2**20} MiB"
        where += ", in memory: no disk" if found.is_memory else ", the page cache told to let go"
        return [(found.write_bytes_per_s, f"{where}, with fsync"), (found.read_bytes_per_s, where)]

    yield from _several(("disk, write", "disk, read"), "B/s", measure)


def _product(device: str, dtype: str) -> Callable[[], tuple[float, str]]:
    def measure() -> tuple[float, str]:
        found = measure_compute(device=device, dtype=dtype)
        return found.flop_per_s, f"{found.size} × {found.size}, {_threads(found.threads)}"

    return measure


def _measured(name: str, unit: str, measure: Callable[[], tuple[float, str]]) -> Ceiling:
    (found,) = _several((name,), unit, lambda: [measure()])
    return found


def _several(names: Sequence[str], unit: str, measure: Callable[[], Told]) -> list[Ceiling]:
    try:
        with out_of_memory():
            told = measure()
    except (HarnessError, RuntimeError) as exc:  # torch's, of a device that is broken: the rest can be told
        why = " ".join(str(exc).split())[:_WHY_LEN]
        return [Ceiling(name, None, unit, why) for name in dict.fromkeys(names)]
    return [Ceiling(name, value, unit, note) for name, (value, note) in zip(names, told, strict=True)]


def _threads(num: int) -> str:
    return f"{num} thread{'s' * (num > 1)}"
