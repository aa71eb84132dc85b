"""A small model on llama.cpp inside this process, launched on load and dropped on unload.

    num_bytes = bytes of the weights' tensors in the GGUF file
              + keys and values in f16: 2 B × layers × KV heads × (key + value length) × n_ctx × n_parallel

Both are what llama.cpp allocates for them; its compute buffers are not in it, as they depend on the version.
The cache is of the context that the engine is launched with, not of what is asked: more than half the bytes
of a pocket model are its cache.

Trap: launching blocks the event loop, for 10 to 100 ms. Nothing else of a job runs while a model is loaded.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any

from harness.backends import Backend, BackendSpec, connect, launcher_for, parse_backend
from harness.errors import ModelError, UsageError
from harness.launchers import EmbeddedLauncher

__all__ = ["EmbeddedModel", "gguf_bytes"]

_KV_ELEMENT_BYTES = 2


class EmbeddedModel:
    """A GGUF model behind `connect`."""

    is_kept = False

    def __init__(self, spec: BackendSpec | str, *, name: str | None = None) -> None:
        """Describe the model; nothing is launched yet.

        Parameters
        ----------
        spec: `ROLE=pocket:NAME…` or `ROLE=gguf:FILE…`, with the context that it is launched with.
        name: as planners call it; the role by default.

        Raises
        ------
        UsageError: the spec is none of an embedded engine. ModelError: there are no such weights.
        """
        self.spec = parse_backend(spec) if isinstance(spec, str) else spec
        self.name = name or self.spec.role
        launcher = launcher_for(self.spec) if self.spec.is_embedded else None
        if not isinstance(launcher, EmbeddedLauncher):
            raise UsageError(
                f"{self.name}: {self.spec.label} is not embedded here; use pocket:NAME or gguf:FILE"
            )
        self.slots = launcher.n_parallel
        self.num_bytes = gguf_bytes(launcher.gguf, launcher.n_ctx * launcher.n_parallel)
        self._stack = AsyncExitStack()

    async def load(self) -> Backend:
        """Launch the engine; see `Loadable.load`."""
        connection = await self._stack.enter_async_context(connect(self.spec))
        return connection.backend

    async def unload(self) -> None:
        """Drop the engine."""
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()


@cache
def gguf_bytes(path: Path, num_tokens: int) -> int:
    """Memory of a GGUF model's weights and of the keys and values of so many tokens.

    Raises
    ------
    ModelError: the file cannot be read, or does not say the shape of its cache.
    """
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        kv_bytes = _kv_elements(reader) * _KV_ELEMENT_BYTES
    except (OSError, ValueError, KeyError) as exc:
        raise ModelError(f"{path}: no GGUF file of a known shape ({exc}); convert the model again") from exc
    return sum(int(tensor.n_bytes) for tensor in reader.tensors) + num_tokens * kv_bytes


def _kv_elements(reader: Any) -> int:
    """Numbers that one token leaves in the cache, over all layers."""

    def value(key: str) -> Any:
        field = reader.get_field(key)
        if field is None:
            raise KeyError(f"no {key}")
        return field.contents()

    arch = value("general.architecture")
    layers, heads = value(f"{arch}.block_count"), value(f"{arch}.attention.head_count")
    if reader.get_field(f"{arch}.attention.key_length") is None:
        width = 2 * value(f"{arch}.embedding_length") // heads
    else:
        width = value(f"{arch}.attention.key_length") + value(f"{arch}.attention.value_length")
    kv_heads = heads
    if reader.get_field(f"{arch}.attention.head_count_kv") is not None:
        kv_heads = value(f"{arch}.attention.head_count_kv")
    per_layer = sum(kv_heads) if isinstance(kv_heads, list) else layers * kv_heads
    return int(per_layer * width)
