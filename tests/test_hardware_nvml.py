"""What a GPU is asked, by a thread of its own; and what is said where there is none."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import pytest

from harness.errors import UnavailableError, UsageError
from harness.hardware.nvml import _REMEDIES, Gpu, Sampler, _plain
from harness.hardware.utilisation import Sample

needs_pynvml = pytest.mark.skipif(find_spec("pynvml") is None, reason="pip install 'assay[gpu]'")


class Told:
    """A device that draws 50 W, and fails after so many readings."""

    def __init__(self, num: int = 10**9) -> None:
        self.left = num
        self.enough = threading.Event()

    def read(self) -> Sample:
        self.left -= 1
        if self.left < 0:
            self.enough.set()
            raise UnavailableError("gpu metrics: reading (gone): reboot")
        return Sample(time.perf_counter(), 0.5, 0.25, 50.0, None, 7)


def has_driver() -> bool:
    try:
        Gpu.open().close()
    except UnavailableError:
        return False
    return True


@needs_pynvml
def test_without_a_driver_one_line_says_what_is_missing() -> None:
    """The real library's own error, mapped once."""
    if has_driver():
        pytest.skip("this machine has NVIDIA's driver")
    with pytest.raises(UnavailableError) as caught:
        Gpu.open()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("gpu metrics: no NVML (")
    assert type(caught.value.__cause__).__name__.startswith("NVMLError")


@needs_pynvml
@pytest.mark.parametrize("kind", sorted(_REMEDIES))
def test_every_error_that_we_know_is_one_of_the_librarys(kind: str) -> None:
    """And is said with what to do."""
    import pynvml

    error = getattr(pynvml, f"NVMLError_{kind}")
    with pytest.raises(UnavailableError, match="gpu metrics: opening") as caught, _plain(pynvml, "opening"):
        raise error
    assert _REMEDIES[kind] in str(caught.value)


@needs_pynvml
def test_an_error_that_we_do_not_know_is_told_as_it_is() -> None:
    """With the library's own words."""
    import pynvml

    with pytest.raises(UnavailableError, match=r"see NVML's documentation"), _plain(pynvml, "asking"):
        raise pynvml.NVMLError_Timeout


def test_without_the_package_one_line_says_which_extra_to_install() -> None:
    """In a process that cannot import it; importing the module itself asks for nothing."""
    code = (
        "import sys; import harness.hardware.nvml as n; assert 'pynvml' not in sys.modules\n"
        "sys.modules['pynvml'] = None\n"
        "try: n.Gpu.open()\n"
        "except n.UnavailableError as exc: print(exc)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ("gpu metrics: nvidia-ml-py is missing; run: pip install 'assay[gpu]'")


def test_a_sampler_reads_until_it_is_closed() -> None:
    """Readings lie within the stretch, and its power is the device's."""
    device = Told(40)
    began_s = time.perf_counter()
    with Sampler(device, period_s=0.002) as sampler:
        assert device.enough.wait(20)
    found = sampler.usage(began_s, time.perf_counter())
    assert found.power_w == pytest.approx(50)
    assert found.peak_bytes == 7
    assert sampler.failed == "gpu metrics: reading (gone): reboot"
    assert not [one for one in threading.enumerate() if one.name == "nvml-sampler"]


def test_settings_that_make_no_sense_are_refused() -> None:
    """A period of nothing, and a device before the first."""
    with pytest.raises(UsageError, match="sampling every 0 s"):
        Sampler(Told(), period_s=0)
    with pytest.raises(UsageError, match="device index is -1"):
        Gpu.open(index=-1)


@pytest.mark.gpu
@needs_pynvml
def test_a_real_device_tells_its_power_and_memory() -> None:
    """By its UUID as CUDA has it; for longer than the driver's own period."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU and a PyTorch that is built with CUDA")
    uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    matrix = torch.ones(2048, 2048, device="cuda")
    with Gpu.open(uuid) as gpu, Sampler(gpu) as sampler:
        began_s = time.perf_counter()
        while time.perf_counter() - began_s < 2.5:
            (matrix @ matrix).sum().item()
        found = sampler.usage(began_s, time.perf_counter())
    assert sampler.failed is None
    assert found.gpu_share is None or found.gpu_share > 0.1
    assert found.energy_j is None or found.energy_j > 0
    assert found.peak_bytes is not None
    assert found.peak_bytes >= matrix.nbytes
