"""One model as one stretch of host memory that nobody can write to.

Weights are read-only, so what was evicted from a device is still here, byte by byte: eviction copies nothing.
That they are what was packed is not a promise but the memory's protection, and the checksum can show it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from harness.errors import ModelError
from harness.residency.store.base import Manifest
from harness.residency.store.memory import HostMemory

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["HostBlob", "checksum_of"]

DIGEST_BYTES = 32


class HostBlob:
    """A packed model; seals the memory that it is given."""

    def __init__(self, manifest: Manifest, memory: HostMemory) -> None:
        """Take over memory that holds what the manifest says.

        Raises
        ------
        ModelError: it is of another size.
        """
        if memory.num_bytes != manifest.layout.num_bytes:
            raise ModelError(
                f"{manifest.layout.name}: {memory.num_bytes} bytes for a blob of "
                f"{manifest.layout.num_bytes}; pack it again"
            )
        memory.seal()
        self.manifest = manifest
        self._memory = memory

    @property
    def name(self) -> str:
        """The model's."""
        return self.manifest.layout.name

    @property
    def num_bytes(self) -> int:
        """Of all chunks."""
        return self._memory.num_bytes

    @property
    def address(self) -> int:
        """Of the first byte; a multiple of 64."""
        return self._memory.address

    @property
    def view(self) -> memoryview:
        """The bytes, to be read.

        Raises
        ------
        UsageError: the blob is closed.
        """
        return self._memory.view.toreadonly()

    def checksum(self) -> str:
        """BLAKE2b of the bytes as they are now."""
        return checksum_of(self.view)

    def verify(self) -> None:
        """Check the bytes against the day they were packed.

        Raises
        ------
        ModelError: they are others.
        """
        found = self.checksum()
        if found != self.manifest.checksum:
            raise ModelError(
                f"{self.name}: checksum {found[:12]}… where {self.manifest.checksum[:12]}… was packed; "
                "something has written to the weights: pack them again"
            )

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""
        self._memory.close()


def checksum_of(data: Buffer) -> str:
    """BLAKE2b as hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()
