"""What GPUs did in a round is in its record and in telemetry.jsonl; a throttled one is marked."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from fake_nvml import FakeGpu, FakeNvml
from hypothesis import given
from hypothesis import strategies as st

from fixtures import gpu_rounds
from fixtures.gpu_rounds import ROUND_METRICS, GpuWatch, Stretch, _usage, values_of, watch_of
from fixtures.options import Settings
from fixtures.pairing import Arm, Measured, Pairing
from harness.errors import UnavailableError
from harness.hardware.gpus import open_visible
from harness.hardware.nvml import Gpu, Sampler, num_gpus
from harness.hardware.throttling import REASONS, held_back
from harness.hardware.utilisation import Sample, Usage, usage
from reports.records import Record


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    """A driver with two devices; whatever a test opens it closes."""
    fake = FakeNvml([FakeGpu(uuid="GPU-aa-1"), FakeGpu(uuid="GPU-bb-2", power_mw=100_000)])
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    yield fake
    assert fake.opened == 0


class Benchmark:
    """pytest-benchmark's fixture, as far as pairing calls it."""

    def __init__(self) -> None:
        self.enabled, self.has_error = True, False
        self.extra_info: dict[str, object] = {}

    def pedantic(self, target, *, setup, teardown, rounds, warmup_rounds) -> None:  # type: ignore[no-untyped-def]
        for _ in range(rounds + warmup_rounds):
            setup()
            target()
            teardown()


def record() -> Record:
    return Record(experiment="decode", variant="full", control="native", backend="sessions", profile="node")


def measured_beside(watch: GpuWatch, *, seconds: float = 0.12) -> Record:
    def run() -> Measured:
        time.sleep(seconds)
        return Measured({"total_s": seconds}, tokens=10, tasks=2)

    found = record()
    paired = Pairing(Benchmark(), Settings(rounds=2, warmup_rounds=1), None, watch)
    return paired.run(found, Arm("full", run), Arm("native", run))


def test_a_round_has_the_energy_of_all_devices_by_token_and_by_task(nvml: FakeNvml, tmp_path: Path) -> None:
    """300 W and 100 W for as long as the round took; both arms alike."""
    watch = GpuWatch(open_visible({}), lambda: tmp_path, period_s=0.005)
    found = measured_beside(watch)
    watch.close()
    for values in [arm for each in found.rounds for arm in (each.treatment, each.control)]:
        assert values is not None
        assert values["gpu_power_w"] == pytest.approx(400)
        energy_j = values["gpu_energy_j"]
        assert energy_j is not None
        assert energy_j >= 400 * 0.12
        assert values["gpu_energy_j_per_token"] == pytest.approx(energy_j / 10)
        assert values["gpu_energy_j_per_task"] == pytest.approx(energy_j / 2)
        assert values["gpu_sm_mhz"] == pytest.approx(1500)
        assert (values["gpu_throttled_share"], values["gpu_power_capped"]) == (0, 0)
        assert values["gpu_busy_share"] is None  # shorter than the driver's own period
        assert values["total_s"] == 0.12
    assert set(ROUND_METRICS) <= set(found.metrics)
    assert Record.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_telemetry_has_a_line_per_device_and_round_with_its_readings(nvml: FakeNvml, tmp_path: Path) -> None:
    """Warm-ups too, which say that they are."""
    watch = GpuWatch(open_visible({}), lambda: tmp_path, period_s=0.002)
    measured_beside(watch)
    watch.close()
    events = [json.loads(line) for line in (tmp_path / "telemetry.jsonl").read_text().splitlines()]
    assert len(events) == 3 * 2 * 2
    assert {(one["phase"], one["round"]) for one in events} == {("warm-up", None), ("round", 0), ("round", 1)}
    assert {one["device"] for one in events} == {"GPU-aa-1", "GPU-bb-2"}
    for one in events:
        assert one["event"] == "gpu_round"
        assert 5 <= len(one["samples"]) <= 200
        assert all(0 <= sample["at_s"] <= one["length_s"] for sample in one["samples"])


class Counting:
    """A device of 1,000 W that has a counter of its energy, and may be lost."""

    def __init__(self) -> None:
        self.is_lost = False

    def read(self) -> Sample:
        if self.is_lost:
            raise UnavailableError("gpu metrics: reading (gone): reboot")
        at_s = time.perf_counter()
        return Sample(at_s, None, None, None, 1000 * at_s, None)


def read_for(sampler: Sampler, num: int) -> float:
    """When so many readings and most of a period more have passed."""
    while len(sampler.samples()) < num:
        time.sleep(0.01)
    time.sleep(0.8 * LONG_S)
    return time.perf_counter()


LONG_S = 0.25


def test_energy_counts_up_to_the_end_and_not_to_the_last_reading() -> None:
    """A counter that is read seldom would miss most of a period."""
    began_s = time.perf_counter()
    with Sampler(Counting(), period_s=LONG_S) as sampler:
        stretch = Stretch("full", "treatment", 0, began_s + 1.1 * LONG_S, read_for(sampler, 7))
        found = _usage(sampler, stretch)
    assert found.power_w == pytest.approx(1000)


def test_of_a_device_that_was_lost_on_the_way_no_energy_is_told() -> None:
    """Its counter stands still from then on, and it drew something."""
    device, began_s = Counting(), time.perf_counter()
    with Sampler(device, period_s=0.005) as sampler:
        while len(sampler.samples()) < 10:
            time.sleep(0.01)
        device.is_lost = True
        found = _usage(sampler, Stretch("full", "treatment", 0, began_s, time.perf_counter()))
    assert (found.energy_j, found.power_w) == (None, None)
    assert sampler.failed == "gpu metrics: reading (gone): reboot"


def test_the_readers_of_jobs_pass_over_what_gpus_tell(nvml: FakeNvml, tmp_path: Path) -> None:
    """Both write to one file."""
    from reports.experiments.telemetry import read

    watch = GpuWatch(open_visible({}), lambda: tmp_path, period_s=0.005)
    measured_beside(watch, seconds=0.01)
    watch.close()
    assert read(tmp_path) == []


@pytest.mark.parametrize(
    ("mask", "is_throttled", "is_capped"), [(0x20, 1.0, 0.0), (0x04, 1.0, 1.0), (0x01, 0.0, 0.0)]
)
def test_a_throttled_round_is_marked(
    nvml: FakeNvml, tmp_path: Path, mask: int, is_throttled: float, is_capped: float
) -> None:
    """By heat or by the power cap, on any one device; an idle device is not throttled."""
    nvml.gpus[1].throttle = mask
    watch = GpuWatch(open_visible({}), lambda: tmp_path, period_s=0.005)
    found = measured_beside(watch)
    watch.close()
    for each in found.rounds:
        assert each.treatment is not None
        assert each.treatment["gpu_throttled_share"] == is_throttled
        assert each.treatment["gpu_power_capped"] == is_capped


def test_a_device_that_tells_nothing_leaves_no_number(nvml: FakeNvml, tmp_path: Path) -> None:
    """What one of two does not tell is absent for both together, and never 0."""
    nvml.gpus[1] = FakeGpu(uuid="GPU-bb-2", power_mw=None, sm_mhz=None, throttle=None)
    watch = GpuWatch(open_visible({}), lambda: tmp_path, period_s=0.005)
    found = measured_beside(watch)
    watch.close()
    values = found.rounds[0].treatment
    assert values is not None
    absent = ("gpu_energy_j", "gpu_power_w", "gpu_energy_j_per_token", "gpu_sm_mhz")
    assert [values[name] for name in absent] == [None] * 4
    assert values["gpu_throttled_share"] == 0  # as far as is known


def test_a_device_that_is_lost_is_said_and_the_round_counts_all_the_same(
    nvml: FakeNvml, tmp_path: Path
) -> None:
    """Its readings end; nothing fails."""
    watch = GpuWatch(open_visible({}), lambda: tmp_path, period_s=0.005)
    nvml.gpus[0].is_lost = True
    found = measured_beside(watch)
    assert not found.failures
    assert watch.failed == [
        "GPU-aa-1: gpu metrics: reading (GPU is lost): the device fell off the bus; reboot"
    ]
    watch.close()


def test_a_device_that_does_not_tell_its_name_is_not_watched_and_none_stays_open(nvml: FakeNvml) -> None:
    """The one before it is let go of, too."""
    nvml.gpus[1].is_lost = True
    watch = GpuWatch.open(None, {})
    assert "the device fell off the bus" in watch.why_not
    watch.close()
    assert not [one for one in threading.enumerate() if one.name == "nvml-sampler"]


def test_a_telemetry_file_that_cannot_be_written_fails_the_round(nvml: FakeNvml, tmp_path: Path) -> None:
    """And not the benchmark: pytest-benchmark drops one whose target raised."""
    watch = GpuWatch(open_visible({}), lambda: tmp_path / "gone", period_s=0.005)
    found = measured_beside(watch, seconds=0.01)
    watch.close()
    assert found.complete
    assert {one.arm for one in found.failures} == {"treatment", "control"}
    assert all("FileNotFoundError" in one.error for one in found.failures)


def test_lanes_say_why_nothing_was_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their controller prints it once, however many lanes say it; a lane that crashed says nothing."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    outputs = []
    for _ in range(2):
        worker = SimpleNamespace(
            option=SimpleNamespace(profile="node"), stash=pytest.Stash(), workeroutput={},
            add_cleanup=lambda _: None,
        )  # fmt: skip
        watch_of(cast(pytest.Config, worker))
        gpu_rounds.pytest_sessionfinish(SimpleNamespace(config=worker))
        outputs.append(json.loads(json.dumps(worker.workeroutput)))  # what crosses to another process
    printed: list[str] = []
    config = SimpleNamespace(stash=pytest.Stash())
    for output in outputs:
        gpu_rounds.pytest_testnodedown(SimpleNamespace(config=config, workeroutput=output))
    gpu_rounds.pytest_testnodedown(SimpleNamespace(config=config))
    gpu_rounds.pytest_terminal_summary(SimpleNamespace(config=config, write_line=printed.append))
    assert printed == [
        "no energy, no clocks: gpu metrics: nvidia-ml-py is missing; run: pip install 'assay[gpu]'"
    ]


def test_without_a_driver_nothing_is_watched_and_the_reason_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record has no GPU metric then, not even an empty one."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    watch = GpuWatch.open(None, {})
    found = measured_beside(watch, seconds=0.0)
    watch.close()
    assert watch.why_not == "gpu metrics: nvidia-ml-py is missing; run: pip install 'assay[gpu]'"
    assert not found.metrics
    assert found.rounds[0].treatment == {"total_s": 0.0}


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        (None, ["GPU-aa-1", "GPU-bb-2"]),
        ("1", ["GPU-bb-2"]),
        ("1,0", ["GPU-bb-2", "GPU-aa-1"]),
        ("GPU-bb-2", ["GPU-bb-2"]),
        ("GPU-bb", ["GPU-bb-2"]),
        ("", []),
        ("-1", []),
        ("0,7,1", ["GPU-aa-1"]),
    ],
)
def test_the_devices_are_those_that_cuda_sees(nvml: FakeNvml, listed: str | None, names: list[str]) -> None:
    """CUDA ends the list at the first entry that names none."""
    gpus = open_visible({} if listed is None else {"CUDA_VISIBLE_DEVICES": listed})
    assert [gpu.uuid for gpu in gpus] == names
    for gpu in gpus:
        gpu.close()


def test_a_uuid_that_no_device_has_is_one_line(nvml: FakeNvml) -> None:
    """And what was opened before it is closed again."""
    with pytest.raises(UnavailableError, match="GPU-zz"):
        open_visible({"CUDA_VISIBLE_DEVICES": "GPU-aa-1,GPU-zz"})
    assert nvml.opened == 0


def test_a_device_says_what_it_is(nvml: FakeNvml) -> None:
    """With the driver, and with what it does not tell left out."""
    assert num_gpus() == 2
    with Gpu.open(index=0) as gpu:
        facts = gpu.facts()
    assert (facts.name, facts.driver, facts.cuda) == ("NVIDIA Fake 80GB", "580.65.06", "13.0")
    assert (facts.memory_bytes, facts.power_limit_w) == (80_000_000_000, 700.0)
    assert (facts.pcie_generation, facts.pcie_lanes, facts.is_sliced) == (5, 16, None)


@given(st.integers(0, 0x7FF))
def test_reasons_are_those_of_the_bits(mask: int) -> None:
    """Idle, clocks that were set and the display hold nothing back."""
    assert held_back(mask) == tuple(word for bit, word in REASONS.items() if bit & mask)
    assert held_back(mask & 0x103) == ()


def test_the_reasons_are_counted_over_a_stretch() -> None:
    """The most frequent first; readings before it do not count."""
    masks = [0x40, 0x04, 0x24, 0x00, 0x04]
    samples = [Sample(at_s, None, None, 1.0, None, 1, throttle=mask) for at_s, mask in enumerate(masks)]
    found = usage(samples, 0.5, 4.5)
    assert found.throttled_share == 0.75
    assert found.throttled_by == ("power cap", "heat, by the driver")


def test_the_sum_over_devices_is_absent_where_one_is_unknown() -> None:
    """Half the energy would be another number."""
    told, silent = Usage(9, 0.5, 0.5, 100.0, 10.0, 5), Usage(0, None, None, None, None, None)
    assert values_of([told, told], tokens=4)["gpu_energy_j_per_token"] == 5.0
    assert values_of([told, silent], tokens=4)["gpu_energy_j"] is None
    assert values_of([told], tokens=0)["gpu_energy_j_per_token"] is None


def test_a_stretch_without_length_is_no_measurement(nvml: FakeNvml) -> None:
    """A target that takes no time at all has no power."""
    watch = GpuWatch(open_visible({}), period_s=0.005)
    assert watch.note(record(), Stretch("full", "treatment", 0, 1.0, 1.0)) == {}
    watch.close()


def test_the_tables_say_energy_and_which_rounds_were_throttled(nvml: FakeNvml, tmp_path: Path) -> None:
    """In the terminal and in Markdown, from the record alone."""
    from reports.tabular.gpus import gpu_table

    nvml.gpus[0].throttle = 0x04
    watch = GpuWatch(open_visible({}), None, period_s=0.005)
    found = Record.from_json(measured_beside(watch).to_json())
    watch.close()
    (table,) = gpu_table([found])
    titles, row = table.rows
    cells = dict(zip(titles, row, strict=True))
    assert cells["variant"] == "full"
    assert float(cells["W"]) == pytest.approx(400)
    assert cells["busy %"] == "–"
    assert cells["throttled rounds"] == "2 of 2"
    why = "by the power cap in 2; at 100% of the readings at most"
    assert table.notes[1:] == (
        f"throttled: full: 2 of 2 rounds; {why}",
        f"throttled: native, beside full: 2 of 2 rounds; {why}",
    )
    assert gpu_table([record()]) == []
