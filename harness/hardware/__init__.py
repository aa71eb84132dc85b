"""The machine that runs it all: what it has, and who may use how much of it.

`budget` is a device's memory as one number of bytes that processes share: whoever wants memory draws on it,
and is refused when it is full; what he gets is an `allocation`. `ledger` is what is written down of it,
`ledger_file` the file that they share, and `processes` says who is alive. `bandwidth` and `compute` measure
the two roofs that any computing has here; `nvml` samples a GPU, `gpus` opens those that CUDA may use,
`utilisation` makes means of the samples, and `throttling` says what held the clocks back. `machine`, `disk`
and `links` are for `python -m harness.hardware`, which is `harness.survey`.

Nothing here knows of models, servers or experiments; everything else in the harness may import it.
"""

from __future__ import annotations

from harness.hardware.budget import Allocation, DeviceBudget, Holder

__all__ = ["Allocation", "DeviceBudget", "Holder"]
