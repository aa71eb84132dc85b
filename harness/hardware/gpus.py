"""The GPUs that this process may use, opened for NVML.

CUDA and NVML number devices differently: NVML by the bus, CUDA by what CUDA_VISIBLE_DEVICES lists, and by its
own order where CUDA_DEVICE_ORDER is not PCI_BUS_ID. A UUID ("GPU-…", or as much of it as is unique) means the
same device to both. A number there is taken as NVML's: right where all GPUs are alike, since CUDA then orders
them by the bus too.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import UnavailableError
from harness.hardware.nvml import Gpu, num_gpus

__all__ = ["open_visible"]

VARIABLE = "CUDA_VISIBLE_DEVICES"


def open_visible(environ: Mapping[str, str]) -> list[Gpu]:
    """Every device that CUDA_VISIBLE_DEVICES leaves, in its order. Close each.

    Raises
    ------
    UnavailableError: package, library, driver or permission is missing, or a device that the variable names.
    """
    count = num_gpus()
    found: list[Gpu] = []
    try:
        for name in _names(environ.get(VARIABLE), count):
            found.append(_opened(name, count))
    except BaseException:
        for gpu in found:
            gpu.close()
        raise
    return found


def _names(listed: str | None, count: int) -> list[str]:
    """As the variable lists them; CUDA ends the list at the first that it cannot read."""
    if listed is None:
        return [str(index) for index in range(count)]
    names = []
    for part in (part.strip() for part in listed.split(",")):
        is_index = part.isdecimal() and int(part) < count
        if not is_index and not part.startswith(("GPU-", "MIG-")):
            break
        names.append(part)
    return names


def _opened(name: str, count: int) -> Gpu:
    if name.isdecimal():
        return Gpu.open(index=int(name))
    try:
        return Gpu.open(name)
    except UnavailableError as exc:
        if name.startswith("MIG-"):
            raise
        # CUDA takes the beginning of a UUID for all of it.
        return _by_beginning(name, count, exc)


def _by_beginning(name: str, count: int, why: UnavailableError) -> Gpu:
    for index in range(count):
        gpu = Gpu.open(index=index)
        if (gpu.uuid or "").startswith(name):
            return gpu
        gpu.close()
    raise why
