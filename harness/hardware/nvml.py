"""NVIDIA's management library: how busy a GPU is, what it draws, its clocks, what its memory holds.

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
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from harness.errors import HarnessError, UnavailableError, UsageError
from harness.hardware.utilisation import Sample, Usage, usage

__all__ = ["PERIOD_S", "Device", "Gpu", "GpuFacts", "Sampler", "num_gpus"]

PERIOD_S = 0.02
"""Between two readings; the driver's own numbers change no faster."""
_MAX_SAMPLES = 1_000_000
"""Kept at most, five hours: then the oldest go."""
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


class GpuFacts(NamedTuple):
    """What a device is; what is not told is None."""

    name: str
    uuid: str | None
    driver: str | None
    cuda: str | None
    """The newest CUDA that the driver runs."""
    memory_bytes: int | None
    used_bytes: int | None
    """By all processes, now."""
    power_limit_w: float | None
    pcie_generation: int | None
    """Of the slot and the device, at most."""
    pcie_lanes: int | None
    is_sliced: bool | None
    """Whether it is cut into slices (MIG)."""


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
        nvml = _library()
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
            clocks = [self._offered(self._clock, kind) for kind in (nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM)]
            throttle = self._offered(nvml.nvmlDeviceGetCurrentClocksEventReasons)
        sm_hz, memory_hz = (None if mhz is None else mhz * 1e6 for mhz in clocks)
        return Sample(
            at_s=perf_counter(),
            gpu_share=None if rates is None else rates.gpu / 100,
            memory_share=None if rates is None else rates.memory / 100,
            power_w=None if power_mw is None else power_mw / 1000,
            energy_j=None if energy_mj is None else energy_mj / 1000,
            used_bytes=None if memory is None else int(memory.used),
            sm_hz=sm_hz,
            memory_hz=memory_hz,
            throttle=throttle,
        )

    def facts(self) -> GpuFacts:
        """What it is; what the driver does not tell is None.

        Raises
        ------
        UnavailableError: it no longer answers.
        """
        nvml = self._nvml
        with _plain(nvml, "facts"):
            memory = self._offered(nvml.nvmlDeviceGetMemoryInfo)
            power_mw = self._offered(nvml.nvmlDeviceGetEnforcedPowerLimit)
            mig = self._offered(nvml.nvmlDeviceGetMigMode)
            return GpuFacts(
                name=_text(self._offered(nvml.nvmlDeviceGetName)) or "a GPU without a name",
                uuid=_text(self._offered(nvml.nvmlDeviceGetUUID)),
                driver=_text(nvml.nvmlSystemGetDriverVersion()),
                cuda=_cuda_version(nvml.nvmlSystemGetCudaDriverVersion_v2()),
                memory_bytes=None if memory is None else int(memory.total),
                used_bytes=None if memory is None else int(memory.used),
                power_limit_w=None if power_mw is None else power_mw / 1000,
                pcie_generation=self._offered(nvml.nvmlDeviceGetMaxPcieLinkGeneration),
                pcie_lanes=self._offered(nvml.nvmlDeviceGetMaxPcieLinkWidth),
                is_sliced=None if mig is None else bool(mig[0]),
            )

    @property
    def uuid(self) -> str | None:
        """As CUDA has it too, "GPU-…"."""
        with _plain(self._nvml, "its UUID"):
            return _text(self._offered(self._nvml.nvmlDeviceGetUUID))

    def close(self) -> None:
        """Let the library go."""
        self._nvml.nvmlShutdown()

    def _offered(self, ask: Callable[..., Any], *more: Any) -> Any:
        nvml = self._nvml
        try:
            return ask(self._handle, *more)
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
            return None  # this device, or this driver's library, does not tell

    def _clock(self, handle: Any, kind: int) -> Any:
        return self._nvml.nvmlDeviceGetClockInfo(handle, kind)

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
        self._samples: deque[Sample] = deque(maxlen=_MAX_SAMPLES)
        self._samples_lock = threading.Lock()
        self._stopping = threading.Event()
        self.failed: str | None = None
        """Why reading ended early, on one line."""
        self._thread = threading.Thread(target=self._run, name="nvml-sampler", daemon=True)
        self._thread.start()

    def usage(self, began_s: float, done_s: float) -> Usage:
        """What was read in a stretch on `perf_counter`'s clock. Raises ValueError if it has no length."""
        return usage(self.samples(), began_s, done_s)

    def take(self) -> None:
        """Read now: what ends here is then known to its end. A device that failed is not read again."""
        if self.failed is not None:
            return
        try:
            with self._samples_lock:  # two threads read, and the readings stay in the order of time
                self._samples.append(self._device.read())
        except HarnessError as exc:
            self.failed = str(exc)

    def samples(self) -> list[Sample]:
        """What was read and is kept, in the order of time."""
        with self._samples_lock:
            return list(self._samples)

    def forget(self, before_s: float) -> None:
        """Drop what was read before a moment on `perf_counter`'s clock, but for the last of it.

        A value runs in a straight line from there.
        """
        with self._samples_lock:
            while len(self._samples) > 1 and self._samples[1].at_s <= before_s:
                self._samples.popleft()

    def close(self) -> None:
        """End the thread; a second call does nothing."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while self.failed is None and not self._stopping.wait(self._period_s):
            self.take()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def num_gpus() -> int:
    """How many devices the driver has, whatever CUDA_VISIBLE_DEVICES says.

    Raises
    ------
    UnavailableError: as `Gpu.open`.
    """
    nvml = _library()
    with _plain(nvml, "no NVML"):
        nvml.nvmlInit()
    try:
        with _plain(nvml, "counting"):
            return int(nvml.nvmlDeviceGetCount())
    finally:
        nvml.nvmlShutdown()


def _library() -> Any:
    try:
        return import_module("pynvml")
    except ImportError as exc:
        line = "nvidia-ml-py is missing; run: pip install 'assay[gpu]'"
        raise UnavailableError(f"gpu metrics: {line}") from exc


def _text(value: Any) -> str | None:
    """Old versions of the package give bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _cuda_version(number: int) -> str:
    """12040 is 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"


@contextmanager
def _plain(nvml: Any, what: str) -> Iterator[None]:
    """Say NVML's error on one line, with what to do about it."""
    try:
        yield
    except nvml.NVMLError as exc:
        kind = type(exc).__name__.removeprefix("NVMLError_")
        remedy = _REMEDIES.get(kind, "see NVML's documentation of this error")
        raise UnavailableError(f"gpu metrics: {what} ({exc}): {remedy}") from exc
