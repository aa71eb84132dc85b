"""A stand-in for a CUDA graph on a processor: what a step asks PyTorch for is kept, and done again.

As a graph it knows only the tensors that were there when it was recorded, and nothing that Python counted or
read meanwhile; and it refuses what a graph refuses: to read a number out of a tensor, or to make one of
Python's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Tape"]

REFUSED = ("_local_scalar_dense", "nonzero", "lift_fresh", "item", "_to_copy")
MAKES = ("new_empty", "empty", "empty_like", "new_empty_strided")


class Tape:
    """A recorder of steps; see `harness.sessions.core.decoding.recorders`."""

    def __init__(self, kernels: Any) -> None:
        self._kernels = kernels
        self.num_replays = 0
        self.names: set[str] = set()

    def record(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Keep what the step does."""
        step()
        log: list[Callable[[], None]] = []
        with _Log(log, self.names), self._kernels.logged(log):
            result = step()

        def replay() -> torch.Tensor:
            self.num_replays += 1
            for again in log:
                again()
            return result

        return replay


class _Log(TorchDispatchMode):
    def __init__(self, log: list[Callable[[], None]], names: set[str]) -> None:
        super().__init__()
        self._log, self._names = log, names

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in REFUSED:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        self._names.add(name)
        out = func(*args, **(kwargs or {}))
        is_view = any(ret.alias_info is not None for ret in func._schema.returns)
        if name not in MAKES and not (is_view and not func._schema.is_mutable):

            def again() -> None:
                found = func(*args, **(kwargs or {}))
                for old, new in zip(tree_leaves(out), tree_leaves(found), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)

            self._log.append(again)
        return out


class Kernels:
    """The module of kernels, whose launches can be kept too."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._log: list[Callable[[], None]] | None = None

    def __getattr__(self, name: str) -> Any:
        return _Launcher(getattr(self._module, name), self)

    def logged(self, log: list[Callable[[], None]]) -> _Logging:
        return _Logging(self, log)


class _Logging:
    def __init__(self, kernels: Kernels, log: list[Callable[[], None]]) -> None:
        self._kernels, self._its_log = kernels, log

    def __enter__(self) -> None:
        self._kernels._log = self._its_log

    def __exit__(self, *exc: object) -> None:
        self._kernels._log = None


class _Launcher:
    def __init__(self, kernel: Any, kernels: Kernels) -> None:
        self._kernel, self._kernels = kernel, kernels

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def launch(*args: Any, **kwargs: Any) -> None:
            with torch.utils._python_dispatch._disable_current_modes():
                self._kernel[grid](*args, **kwargs)
            if self._kernels._log is not None:
                self._kernels._log.append(lambda: self._kernel[grid](*args, **kwargs))

        return launch
