"""A packed model as two files, `model.blob` and `manifest.json`, read back whole or chunk by chunk.

The manifest is written last, and says what the blob has to be: who was stopped in between, or mixed two
models' files, is told so when they are read. Nothing is unpickled, and nothing is believed: sizes are checked
before memory is taken, the checksum before anything is computed on.

Traps: a file that was just written or read is in the page cache, and "from disk" means from memory then.
`PackedFile.forget` asks the kernel to drop it, which it does only for pages that have been written back; a
file on tmpfs is memory and stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from harness.errors import ModelError, WorkloadError
from harness.reading import Reader, label, read_json
from harness.residency.layout import Chunk, ModelLayout
from harness.residency.store.base import Manifest, TensorSpec
from harness.residency.store.blob import HostBlob, checksum_of
from harness.residency.store.memory import HostMemory
from harness.residency.store.packing import check_tensor

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["BLOB_FILE", "MANIFEST_FILE", "PackedFile", "load", "save"]

BLOB_FILE = "model.blob"
MANIFEST_FILE = "manifest.json"
SCHEMA = 1
_DOCS = "harness/residency/store/files.py"
_DIGITS = frozenset("0123456789abcdef")


def save(blob: HostBlob, folder: str | os.PathLike[str]) -> Path:
    """Write a model into a folder, which is made; return the folder. Each file is there whole or not at all.

    Raises
    ------
    ModelError: the folder cannot be written to, or the disk is full.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        _write(place / BLOB_FILE, lambda file: file.write(blob.view))
        text = json.dumps(_as_json(blob.manifest), indent=1) + "\n"
        _write(place / MANIFEST_FILE, lambda file: file.write(text.encode()))
    except OSError as exc:
        why = exc.strerror or exc
        raise ModelError(f"{place}: {blob.name} cannot be saved ({why}); name a folder with room") from exc
    return place


def load(folder: str | os.PathLike[str]) -> HostBlob:
    """Read a model into memory that nobody can write to.

    Raises
    ------
    ModelError: a file is missing, truncated, too long, not what the manifest says, or no manifest at all.
    BudgetError: the host has no memory for it.
    """
    with PackedFile.open(folder) as packed:
        manifest = packed.manifest
        memory = HostMemory(manifest.layout.num_bytes, owner=manifest.layout.name)
        with memory.view as view:
            packed.read(0, manifest.layout.num_chunks, view)
            found = checksum_of(view)
        if found != manifest.checksum:
            memory.close()
            raise ModelError(
                f"{packed.path}: checksum {found[:12]}… where {MANIFEST_FILE} says "
                f"{manifest.checksum[:12]}…; the weights are corrupt or of another model: save them again"
            )
    return HostBlob(manifest, memory)


class PackedFile:
    """A saved model, open to be read chunk by chunk into a buffer of the caller's."""

    def __init__(self, manifest: Manifest, path: Path, descriptor: int) -> None:
        self.manifest = manifest
        self.path = path
        """Of the blob."""
        self._descriptor = descriptor

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Self:
        """Open a saved model; sizes are checked, bytes are not.

        Raises
        ------
        ModelError: as `load` has it, save for the checksum.
        """
        place = Path(folder)
        manifest = _read_manifest(place / MANIFEST_FILE)
        path = place / BLOB_FILE
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise ModelError(f"{path}: cannot be read ({exc.strerror}); save the model again") from exc
        found, needed = os.fstat(descriptor).st_size, manifest.layout.num_bytes
        if found != needed:
            os.close(descriptor)
            how = "truncated" if found < needed else "too long"
            raise ModelError(f"{path}: {how}, {found} bytes of {needed}; save the model again")
        return cls(manifest, path, descriptor)

    def read(self, first: int, last: int, into: Buffer) -> int:
        """Read chunks `first` up to, not including, `last` to the begin of a buffer; return their bytes.

        Raises
        ------
        ModelError: the file ends too soon, or cannot be read.
        """
        layout = self.manifest.layout
        at, end = layout.starts[first], layout.starts[last]
        view = memoryview(into).cast("B")[: end - at]
        if view.nbytes < end - at:
            raise ModelError(f"{self.path}: {end - at} bytes into {view.nbytes}; give a larger buffer")
        while at < end:
            try:
                num_bytes = os.preadv(self._descriptor, [view], at)
            except OSError as exc:
                raise ModelError(
                    f"{self.path}: cannot be read ({exc.strerror}); look after the disk"
                ) from exc
            if not num_bytes:
                raise ModelError(f"{self.path}: truncated while it was read, at {at}; save the model again")
            at += num_bytes
            view = view[num_bytes:]
        return layout.span_bytes(first, last)

    def forget(self) -> None:
        """Ask the kernel to drop the file from its page cache: the next read comes from the disk."""
        os.fsync(self._descriptor)
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under another name, and give it its own when it is whole and on the disk."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _as_json(manifest: Manifest) -> dict[str, Any]:
    tensors = [[] for _ in manifest.layout.chunks]  # type: list[list[dict[str, Any]]]
    for one in manifest.tensors:
        row = {"name": one.name, "dtype": one.dtype, "shape": list(one.shape)}
        tensors[one.chunk].append(row | {"offset_bytes": one.offset_bytes, "num_bytes": one.num_bytes})
    chunks = [
        {"name": chunk.name, "num_bytes": chunk.num_bytes, "tensors": inside}
        for chunk, inside in zip(manifest.layout.chunks, tensors, strict=True)
    ]
    return {"schema": SCHEMA, "name": manifest.layout.name, "checksum": manifest.checksum, "chunks": chunks}


def _read_manifest(path: Path) -> Manifest:
    try:
        return _manifest(Reader(str(path), read_json(path, _DOCS).value, _DOCS))
    except WorkloadError as exc:
        raise ModelError(str(exc)) from exc
    except ModelError as exc:
        raise ModelError(f"{path}: {exc}") from exc


def _manifest(reader: Reader) -> Manifest:
    reader.keys({"schema", "name", "checksum", "chunks"}, set())
    reader.schema()
    name, checksum = reader.text("name"), reader.text("checksum")
    if len(checksum) != 64 or not _DIGITS.issuperset(checksum):
        reader.fail("checksum", "write the 64 hexadecimal digits that saving wrote")
    chunks: list[Chunk] = []
    tensors: list[TensorSpec] = []
    at = 0
    for index, value in enumerate(reader.objects("chunks")):
        chunk = reader.at(f"chunk {label(value, 'name', index)}", value)
        chunk.keys({"name", "num_bytes", "tensors"}, set())
        chunks.append(Chunk(chunk.text("name"), at, chunk.count("num_bytes")))
        at += chunks[-1].num_bytes
        for number, inside in enumerate(chunk.objects("tensors")):
            tensor = chunk.at(f"tensor {label(inside, 'name', number)}", inside)
            tensors.append(_tensor(tensor, index))
    return Manifest(
        layout=ModelLayout(name=name, chunks=tuple(chunks)), tensors=tuple(tensors), checksum=checksum
    )


def _tensor(reader: Reader, chunk: int) -> TensorSpec:
    reader.keys({"name", "dtype", "shape", "offset_bytes", "num_bytes"}, set())
    shape, offset_bytes = reader.value["shape"], reader.value["offset_bytes"]
    if not isinstance(shape, list) or any(type(size) is not int or size < 1 for size in shape):
        reader.fail("shape", "write a list of whole numbers, at least 1")
    if type(offset_bytes) is not int or offset_bytes < 0:
        reader.fail("offset_bytes", "write a whole number, at least 0")
    name, dtype, num_bytes = reader.text("name"), reader.text("dtype"), reader.count("num_bytes")
    check_tensor(name, dtype, shape, num_bytes)
    return TensorSpec(name, dtype, tuple(shape), chunk, offset_bytes, num_bytes)
