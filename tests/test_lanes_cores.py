"""Cores of GPU lanes: an equal share each, on the side of the machine that the GPU is on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.lanes_cores import cores_beside, cores_near, shared_out

LOW, HIGH = frozenset(range(4)), frozenset(range(4, 8))

sides = st.lists(st.sampled_from([None, LOW, HIGH, LOW | HIGH, frozenset({90})]), max_size=9)
cores = st.lists(st.integers(0, 9), min_size=1, unique=True)


@pytest.mark.parametrize(
    ("near", "expected"),
    [
        ([None, None], [(0, 1, 2, 3), (4, 5, 6, 7)]),
        ([HIGH, LOW, HIGH], [(4, 5), (0, 1), (6, 7)]),
        ([HIGH, None], [(0, 1, 2, 3), (4, 5, 6, 7)]),
        ([LOW | HIGH, LOW], [(0, 1, 2, 3), (4, 5, 6, 7)]),
        ([frozenset({90})], [tuple(range(8))]),
        ([None] * 9, [tuple(range(8))] * 9),
        ([], []),
    ],
    ids=["none-is-told", "two-sides", "one-is-told", "overlap", "not-ours", "more-gpus", "no-gpu"],
)
def test_a_gpu_has_its_share_of_the_cores_on_its_side(
    near: list[frozenset[int] | None], expected: list[tuple[int, ...]]
) -> None:
    """Or of all, where the sides are not told apart; with fewer cores than GPUs, all of them."""
    assert shared_out(near, range(8)) == expected


@given(sides, cores)
def test_no_core_is_in_two_shares_of_equal_size(near: list[frozenset[int] | None], here: list[int]) -> None:
    """But where there are fewer cores than GPUs."""
    shares = shared_out(near, here)
    assert len(shares) == len(near)
    assert len({len(share) for share in shares}) <= 1
    assert all(share and set(share) <= set(here) for share in shares)
    held = [core for share in shares for core in share]
    assert len(set(held)) == len(held) or set(shares) == {tuple(here)}


def test_the_kernel_tells_which_cores_are_near_a_gpu(tmp_path: Path) -> None:
    """Found by its UUID; what is not told is None."""
    driver, bus = tmp_path / "gpus", tmp_path / "devices"
    for place, uuid, listed in (("0000:1b:00.0", "GPU-a", "0-2,8\n"), ("0000:9d:00.0", "GPU-b", "\n")):
        (driver / place).mkdir(parents=True)
        (driver / place / "information").write_text(f"Model: \t\t H200\nGPU UUID: \t {uuid}\nBus: {place}\n")
        (bus / place).mkdir(parents=True)
        (bus / place / "local_cpulist").write_text(listed)
    assert cores_near("GPU-a", driver, bus) == {0, 1, 2, 8}
    assert cores_near("GPU-b", driver, bus) is None
    assert cores_near("GPU-", driver, bus) is None
    assert cores_near("GPU-a", tmp_path / "none", bus) is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs a system that pins processes: Linux")
def test_only_cores_that_this_process_may_use_are_shared_out() -> None:
    """A job's cpuset stays what it was."""
    found = cores_beside(["GPU-a", "GPU-b"])
    assert {core for share in found.values() for core in share} <= os.sched_getaffinity(0)
