"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("assay", deadline=None)  # on a busy machine a call may take any time
settings.load_profile("assay")

if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg")):
    # Triton reads it as it is imported, which PyTorch may do: kernels then run on the processor.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session", autouse=True)
def _runs_started_by_a_test_are_nobodys_workers() -> Iterator[None]:
    """Else, under `-n`, pytest-benchmark switches itself off in them too: it looks for the variable.

    And tables would be as narrow as the workers are told to be.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WORKER", "WORKER_COUNT", "TESTRUNUID"):
            patch.delenv(f"PYTEST_XDIST_{name}", raising=False)
        patch.delenv("COLUMNS", raising=False)
        yield
