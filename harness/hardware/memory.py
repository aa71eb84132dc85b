"""What a device's or the machine's own allocator refuses is out of memory, as the device budget's refusal is.

The budget counts what the suite knows of. A context, a library's buffers, or another program take memory that
it does not, so that the device may refuse first: that is as physical, and says no numbers.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import BudgetError

__all__ = ["REFUSED", "out_of_memory"]

REFUSED = "the device's own allocator refused"
"""How such a `BudgetError` begins."""


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
        if not is_device and "DefaultCPUAllocator" not in str(exc):
            raise
        said = " ".join(str(exc).split())[:300]
        raise BudgetError(f"{REFUSED}: {said}") from None
