"""What a device's or the machine's own allocator refuses is out of memory, as the device budget's refusal is.

The budget counts what the suite knows of. A context, a library's buffers, or another program take memory that
it does not, so that the device may refuse first: that is as physical, and says no numbers.
"""

from __future__ import annotations

import errno
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import BudgetError

__all__ = ["REFUSED", "give_back", "out_of_memory"]

REFUSED = "the device's own allocator refused"
"""How such a `BudgetError` begins."""
_SAID = ("DefaultCPUAllocator", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How PyTorch says it where it has no class for it: a processor, a GPU's context, a library's buffers."""


@contextmanager
def out_of_memory() -> Iterator[None]:
    """Map a device's or the machine's own refusal to a `BudgetError` of one line; torch need not be there."""
    try:
        yield
    except MemoryError as exc:
        said = str(exc) or "allocation failed"
        raise BudgetError(f"{REFUSED}: the machine has no memory left: {said}") from None
    except OSError as exc:
        if exc.errno != errno.ENOMEM:
            raise
        raise BudgetError(f"{REFUSED}: the machine has no memory left: {exc.strerror}") from None
    except RuntimeError as exc:
        torch = sys.modules.get("torch")
        is_device = torch is not None and isinstance(exc, torch.OutOfMemoryError)
        if not is_device and not any(said in str(exc) for said in _SAID):
            raise
        said = " ".join(str(exc).split())[:300]
        raise BudgetError(f"{REFUSED}: {said}") from None


def give_back() -> None:
    """Return to the GPUs what PyTorch keeps of memory that nothing here uses any more.

    Its allocator holds whatever it ever had, for this process alone: to another one that memory is gone.
    Nothing happens where no GPU was used.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
