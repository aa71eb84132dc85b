"""Memory's bandwidth is what was read and written, over the time that it took."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.hardware.bandwidth import measure_bandwidth

MB = 10**6


@pytest.mark.parametrize("threads", [1, 2])
def test_the_better_of_reading_and_copying_counts(threads: int) -> None:
    """Above what a disk gives and below what any memory of today does."""
    found = measure_bandwidth(8 * MB, threads=threads)
    assert found.bytes_per_s == max(found.read_bytes_per_s, found.copy_bytes_per_s)
    assert 1e8 < found.bytes_per_s < 1e13
    assert (found.buffer_bytes, found.threads) == (8 * MB, threads)


@pytest.mark.parametrize(("num_bytes", "threads"), [(0, 1), (4096, 2), (MB, 0)])
def test_a_buffer_too_small_for_its_threads_is_refused(num_bytes: int, threads: int) -> None:
    """With the least that makes sense."""
    with pytest.raises(UsageError, match=rf"bandwidth of {num_bytes} bytes by {threads} threads; give"):
        measure_bandwidth(num_bytes, threads=threads)
