"""A stand-in for the module `pynvml`, with its names, of devices that a test sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_FunctionNotFound(NVMLError):
    pass


class NVMLError_NotFound(NVMLError):
    pass


class NVMLError_GpuIsLost(NVMLError):
    pass


@dataclass
class FakeGpu:
    """What a device tells; `None` where it does not tell."""

    uuid: str = "GPU-aaaa-0"
    name: str = "NVIDIA Fake 80GB"
    gpu_percent: int | None = 90
    power_mw: int | None = 300_000
    energy_mj: int | None = None
    used_bytes: int = 1_000
    total_bytes: int = 80_000_000_000
    sm_mhz: int | None = 1_500
    throttle: int | None = 0
    is_lost: bool = False


@dataclass
class FakeNvml:
    """The module. Put it into `sys.modules["pynvml"]`."""

    gpus: list[FakeGpu] = field(default_factory=lambda: [FakeGpu()])
    opened: int = 0
    """Initialisations that were not shut down again."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported
    NVMLError_FunctionNotFound = NVMLError_FunctionNotFound
    NVMLError_NotFound = NVMLError_NotFound
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        if index >= len(self.gpus):
            raise NVMLError_NotFound("Not Found")
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        for gpu in self.gpus:
            if gpu.uuid == uuid:
                return gpu
        raise NVMLError_NotFound("Not Found")

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65.06"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13_000

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:
        return gpu.name

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        _alive(gpu)
        return gpu.uuid

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> Any:
        _alive(gpu)
        return SimpleNamespace(gpu=_told(gpu.gpu_percent), memory=_told(gpu.gpu_percent) // 2)

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:
        return _told(gpu.power_mw)

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> int:
        return _told(gpu.energy_mj)

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> Any:
        _alive(gpu)
        return SimpleNamespace(used=gpu.used_bytes, total=gpu.total_bytes)

    def nvmlDeviceGetClockInfo(self, gpu: FakeGpu, kind: int) -> int:
        return _told(gpu.sm_mhz) if kind == self.NVML_CLOCK_SM else 2_600

    def nvmlDeviceGetCurrentClocksEventReasons(self, gpu: FakeGpu) -> int:
        return _told(gpu.throttle)

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu: FakeGpu) -> int:
        return 700_000

    def nvmlDeviceGetMaxPcieLinkGeneration(self, gpu: FakeGpu) -> int:
        return 5

    def nvmlDeviceGetMaxPcieLinkWidth(self, gpu: FakeGpu) -> int:
        return 16

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> list[int]:
        raise NVMLError_NotSupported("Not Supported")


def _alive(gpu: FakeGpu) -> None:
    if gpu.is_lost:
        raise NVMLError_GpuIsLost("GPU is lost")


def _told(value: int | None) -> int:
    if value is None:
        raise NVMLError_NotSupported("Not Supported")
    return value
