"""A matrix of weights that is multiplied with rows of activations, in the layout that is fastest here.

On a CPU, oneDNN's blocked layout is twice as fast as the plain one with MKL (AMD EPYC, one thread, 512 wide:
3.6 against 7.8 ms for one row through 30 M weights, 12 against 28 ms for 32 rows). It also gives a row the
same result whatever rows are beside it, but for one: a single row takes another kernel, which sums in
another order where inputs are many. Such a matrix multiplies a single row twice, so that logits do not
depend on the batch.

Trap: packed weights cannot be read or replaced as a tensor.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from harness.errors import UsageError

__all__ = ["Linear", "can_pack"]

_ROWS_HINT = 32
"""Number of rows for which oneDNN chooses its blocks."""


def can_pack(weight: torch.Tensor) -> bool:
    """Whether oneDNN multiplies matrices of this kind here."""
    has_mkldnn: bool = torch._C._has_mkldnn
    if weight.device.type != "cpu" or not has_mkldnn:
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


class Linear:
    """x ↦ x·Wᵀ + b, for weights [outputs, inputs] and an optional bias [outputs]."""

    __slots__ = ("_bias", "_doubles", "_packed", "_weight", "num_bytes")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None, *, packed: bool) -> None:
        self._bias = bias
        self.num_bytes: int = weight.nbytes + (0 if bias is None else bias.nbytes)
        self._packed: Any = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_HINT) if packed else None
        self._weight: torch.Tensor | None = None if packed else weight
        self._doubles = packed and not self._is_alike_alone(weight)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Map rows [rows, inputs] to [rows, outputs]."""
        if self._packed is None:
            assert self._weight is not None
            return F.linear(x, self._weight, self._bias)
        if self._doubles and len(x) == 1:
            return self._multiply(x.expand(2, -1).contiguous())[:1]
        return self._multiply(x)

    def tensors(self) -> list[torch.Tensor]:
        """The weights, and the bias if there is one; writing to them changes the model.

        Raises
        ------
        UsageError: they are packed.
        """
        if self._weight is None:
            raise UsageError("packed weights cannot be read; load the model with packed=False")
        return [self._weight] if self._bias is None else [self._weight, self._bias]

    def _is_alike_alone(self, weight: torch.Tensor) -> bool:
        """Whether a single row's result has the same bits as beside another one."""
        draws = torch.Generator().manual_seed(0)
        rows = torch.randn(2, weight.shape[1], generator=draws).to(weight.dtype)
        return torch.equal(self._multiply(rows[:1].clone()), self._multiply(rows)[:1])

    def _multiply(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._packed, self._bias, "none", [], ""
        )
        return product
