"""NVIDIA's management library: how busy a GPU is, what it draws, how much of its memory is taken.

A thread reads the device every `PERIOD_S`; `utilisation` makes means of the readings. The library comes with
the driver, and nvidia-ml-py (`import pynvml`, the extra `gpu`) only calls it: neither is imported until a
device is opened.

    with Gpu.open(uuid) as gpu, Sampler(gpu) as sampler:
        ...
        found = sampler.usage(began_s, done_s)

Traps: NVML numbers devices by the bus, CUDA by its own order and CUDA_VISIBLE_DEVICES, so open a device by
its UUID. `gpu_share` says that some kernel ran, not how many multiprocessors it used: a decode step of one
sequence can show 100 %. A slice of a GPU (MIG) has no shares. A reading takes about a millisecond of this
machine's time, and none of the GPU's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol, Self

from harness.errors import HarnessError, UnavailableError, UsageError
from harness.hardware.utilisation import Sample, Usage, usage

__all__ = ["PERIOD_S", "Device", "Gpu", "Sampler"]

PERIOD_S = 0.02
"""Between two readings; the driver's own numbers change no faster."""
_MAX_SAMPLES = 1_000_000
"""Kept at most: five hours."""
_REMEDIES = {
    "LibraryNotFound": "no libnvidia-ml here; install NVIDIA's driver, or run the container with --gpus all",
    "DriverNotLoaded": "the driver is not loaded; run: modprobe nvidia",
    "LibRmVersionMismatch": "the driver's module and its library differ in version; reboot, or restart the "
    "container",
    "NoPermission": "this user may not ask the driver; give it read access to /dev/nvidiactl",
    "NotFound": "there is no such device; run: nvidia-smi -L",
    "InvalidArgument": "there is no such device; run: nvidia-smi -L",
    "GpuIsLost": "the device fell off the bus; reboot",
    "NotSupported": "this device does not tell; a slice of a GPU (MIG) does not, the whole one does",
}
"""NVML's error → what it means here and what to do."""


class Device(Protocol):
    """What a sampler reads."""

    def read(self) -> Sample:
        """One reading. Raises UnavailableError when the device no longer answers."""
        ...


class Gpu:
    """An open device. Close it."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    @classmethod
    def open(cls, uuid: str | None = None, *, index: int = 0) -> Gpu:
        """Open a device by its UUID ("GPU-…", as CUDA has it too), or by NVML's own index.

        Raises
        ------
        UnavailableError: package, library, driver, permission or device is missing; the message is the line
            that would change that.
        UsageError: the index is negative.
        """
        if index < 0:
            raise UsageError(f"gpu metrics: device index is {index}; give 0 or more")
        try:
            nvml = import_module("pynvml")
        except ImportError as exc:
            line = "nvidia-ml-py is missing; run: pip install 'assay[gpu]'"
            raise UnavailableError(f"gpu metrics: {line}") from exc
        with _plain(nvml, "no NVML"):
            nvml.nvmlInit()
        try:
            with _plain(nvml, uuid or f"device {index}"):
                if uuid is None:
                    return cls(nvml, nvml.nvmlDeviceGetHandleByIndex(index))
                return cls(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid))
        except BaseException:
            nvml.nvmlShutdown()
            raise

    def read(self) -> Sample:
        """One reading; what the device does not offer is None.

        Raises
        ------
        UnavailableError: it no longer answers.
        """
        nvml = self._nvml
        with _plain(nvml, "reading"):
            rates = self._offered(nvml.nvmlDeviceGetUtilizationRates)
            power_mw = self._offered(nvml.nvmlDeviceGetPowerUsage)
            energy_mj = self._offered(nvml.nvmlDeviceGetTotalEnergyConsumption)
            memory = self._offered(nvml.nvmlDeviceGetMemoryInfo)
        return Sample(
            at_s=perf_counter(),
            gpu_share=None if rates is None else rates.gpu / 100,
            memory_share=None if rates is None else rates.memory / 100,
            power_w=None if power_mw is None else power_mw / 1000,
            energy_j=None if energy_mj is None else energy_mj / 1000,
            used_bytes=None if memory is None else int(memory.used),
        )

    def close(self) -> None:
        """Let the library go."""
        self._nvml.nvmlShutdown()

    def _offered(self, ask: Callable[[Any], Any]) -> Any:
        try:
            return ask(self._handle)
        except self._nvml.NVMLError_NotSupported:
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Sampler:
    """Reads a device in a thread of its own, until it is closed or the device fails.

    Arguments: `period_s`, between two readings.
    """

    def __init__(self, device: Device, *, period_s: float = PERIOD_S) -> None:
        if not period_s > 0:
            raise UsageError(f"gpu metrics: sampling every {period_s} s; give more than 0")
        self._device, self._period_s = device, period_s
        self._samples: list[Sample] = []
        self._stopping = threading.Event()
        self.failed: str | None = None
        """Why reading ended early, on one line."""
        self._thread = threading.Thread(target=self._run, name="nvml-sampler", daemon=True)
        self._thread.start()

    def usage(self, began_s: float, done_s: float) -> Usage:
        """What was read in a stretch on `perf_counter`'s clock. Raises ValueError if it has no length."""
        return usage(self._samples[:], began_s, done_s)

    def close(self) -> None:
        """End the thread; a second call does nothing."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._period_s) and len(self._samples) < _MAX_SAMPLES:
                self._samples.append(self._device.read())
        except HarnessError as exc:
            self.failed = str(exc)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _plain(nvml: Any, what: str) -> Iterator[None]:
    """Say NVML's error on one line, with what to do about it."""
    try:
        yield
    except nvml.NVMLError as exc:
        kind = type(exc).__name__.removeprefix("NVMLError_")
        remedy = _REMEDIES.get(kind, "see NVML's documentation of this error")
        raise UnavailableError(f"gpu metrics: {what} ({exc}): {remedy}") from exc
