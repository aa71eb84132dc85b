"""The real engine behind the server: `core` as the contract has it, and what crosses the wire as bytes.

A token's keys and values are one row on the wire, [layers, 2, kv_heads, head_dim]: what a session gained are
the rows behind those that are there already, and a client appends them without moving any. In a slab tokens
are an inner axis, so rows are gathered and scattered once per crossing.

Weights cross by their place in `Model.tensors()`: "0", "1", … Only unpacked weights can be replaced, and they
decode slower (see `core.linear`), so a server that takes weights must not be compared with one that does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from harness.errors import BudgetError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.sessions.contract import Event, Info, KvRows, Turn
from harness.sessions.core import Engine, load
from harness.sessions.core import Turn as CoreTurn
from harness.sessions.protocol import Buffer

__all__ = ["HostedEngine"]


class HostedEngine:
    """An engine of `core`, for the server's engine thread."""

    def __init__(self, engine: Engine, *, takes_weights: bool = False) -> None:
        model = engine.model
        self._engine = engine
        self._rows_shape = (model.slab_shape.num_layers, 2, model.shape.num_kv_heads, model.shape.head_dim)
        self._tensors = model.tensors() if takes_weights else []
        self.info = Info(
            model=model.name,
            vocab_size=model.shape.vocab_size,
            max_session_tokens=engine.max_session_tokens,
            kv_token_bytes=model.slab_shape.token_bytes,
            kv_dtype=str(model.dtype).removeprefix("torch."),
            takes_weights=takes_weights,
        )

    @classmethod
    def load(
        cls,
        name: str,
        budget: DeviceBudget,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        takes_weights: bool = False,
        threads: int = 1,
        **settings: Any,
    ) -> HostedEngine:
        """Load a model in this thread and draw its weights from the budget.

        Arguments: `threads`, within one operation; `settings` as `core.Engine` takes them.
        """
        torch.set_num_threads(threads)
        loaded = load(name, device=device, dtype=dtype, packed=False if takes_weights else None)
        settings["max_session_tokens"] = min(
            loaded.max_positions, settings.get("max_session_tokens", loaded.max_positions)
        )
        return cls(Engine(loaded.model, budget, **settings), takes_weights=takes_weights)

    @property
    def is_idle(self) -> bool:
        """Whether no turn is queued or runs."""
        return self._engine.is_idle

    @property
    def is_blocked(self) -> bool:
        """Whether turns are queued and none runs."""
        return self._engine.is_blocked

    def open(self, session_id: str, max_tokens: int, *, model: str = "") -> None:
        """Open a session; there is one model."""
        self._engine.open(session_id, max_tokens)

    def close(self, session_id: str) -> None:
        """End a session."""
        self._engine.close(session_id)

    def submit(self, turn: Turn) -> int:
        """Queue a turn."""
        return self._engine.submit(CoreTurn(*turn))

    def step(self) -> Sequence[Event]:
        """Admit turns and compute one batch."""
        return self._engine.step()

    def cancel(self, turn_id: int) -> bool:
        """End a turn and undo it."""
        return self._engine.cancel(turn_id)

    def stats(self) -> Mapping[str, Any]:
        """The engine's counters, in one level."""
        found: dict[str, Any] = self._engine.stats()._asdict()
        found.update(found.pop("counts")._asdict())
        return found

    def read_kv(self, session_id: str, start: int, most: int) -> KvRows:
        """Rows from position `start` on, copied out of the slab.

        Raises
        ------
        BudgetError: there is no room for them, or they went when memory was short.
        UsageError: the session is not open, has a turn, or holds fewer tokens.
        """
        info = self._engine.info(session_id)
        # But for the last token of a turn, which is computed with the next.
        if info.num_computed < info.num_tokens - 1:
            raise BudgetError(
                f"session {session_id!r}: memory was short, and the keys and values of "
                f"{info.num_tokens - 1 - info.num_computed} tokens were dropped; a turn computes them again"
            )
        end = min(start + most, info.num_computed)
        kv = self._engine.read_kv(session_id, start, max(start, end))
        token_ids = self._engine.token_ids(session_id)[start : start + kv.shape[3]]
        return KvRows(token_ids, _as_bytes(kv.permute(3, 0, 1, 2, 4).contiguous()))

    def write_kv(self, session_id: str, start: int, kv: KvRows) -> None:
        """Put rows into the slab."""
        rows = torch.frombuffer(kv.rows, dtype=self._engine.model.dtype)
        placed = rows.view(len(kv.token_ids), *self._rows_shape).permute(1, 2, 3, 0, 4)
        self._engine.write_kv(session_id, kv.token_ids, placed, start)

    def write_weights(self, names: Sequence[str], buffers: Sequence[Buffer]) -> None:
        """Overwrite weights in place; all sizes are checked before the first is written.

        Raises
        ------
        UsageError: there is no such weight, or its size is another.
        """
        pairs = [
            (self._weight(name, len(buffer)), buffer) for name, buffer in zip(names, buffers, strict=True)
        ]
        with torch.inference_mode():
            for tensor, buffer in pairs:
                tensor.copy_(torch.frombuffer(buffer, dtype=tensor.dtype).view(tensor.shape))
                self._engine.model.copies.up(tensor.nbytes)

    def shutdown(self) -> None:
        """Give all memory back."""
        self._engine.shutdown()

    def _weight(self, name: str, num_bytes: int) -> torch.Tensor:
        num = len(self._tensors)
        if not name.isdecimal() or int(name) >= num:
            raise UsageError(f"weight {name!r}; there are 0 to {num - 1}, in the order of Model.tensors()")
        tensor = self._tensors[int(name)]
        if tensor.nbytes != num_bytes:
            raise UsageError(f"weight {name} has {tensor.nbytes} bytes, not {num_bytes}; send it whole")
        return tensor


def _as_bytes(tensor: torch.Tensor) -> memoryview:
    # As bytes: not every dtype of torch is one of numpy.
    found: memoryview = tensor.view(-1).view(torch.uint8).numpy().data
    return found
