"""What a packed model promises: in memory and in files, its bytes are what was packed, or one is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import BudgetError, ModelError, UsageError
from harness.residency.layout import ALIGNMENT_BYTES, ModelLayout
from harness.residency.store.base import Manifest
from harness.residency.store.blob import HostBlob, checksum_of
from harness.residency.store.files import PackedFile, load, save
from harness.residency.store.memory import HostMemory, available_bytes
from harness.residency.store.packing import ITEM_BYTES, HostTensor, pack


def blob(name: str = "tiny", seed: int = 0) -> HostBlob:
    """A model of two layers, with sizes that are no multiples of anything."""
    draw = np.random.default_rng(seed).standard_normal
    return pack(
        name,
        [
            ("embed", [HostTensor("embed", "float32", (7, 3), draw((7, 3), np.float32))]),
            ("layer.0", [_half("a", (5, 5), seed), _half("b", (1,), seed)]),
            ("layer.1", [_half("c", (200, 33), seed)]),
        ],
    )


def _half(name: str, shape: tuple[int, ...], seed: int) -> HostTensor:
    values = np.random.default_rng(seed + len(name)).integers(0, 1 << 16, shape, np.uint16)
    return HostTensor(name, "bfloat16", shape, values)


shapes = st.lists(st.integers(1, 5), max_size=3).map(tuple)


@given(
    chunks=st.lists(
        st.lists(st.tuples(st.sampled_from(sorted(ITEM_BYTES)), shapes), min_size=1, max_size=4),
        min_size=1,
        max_size=5,
    ),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_every_tensor_lies_aligned_in_its_chunk_with_its_own_bytes(
    chunks: list[list[tuple[str, tuple[int, ...]]]], data: st.DataObject
) -> None:
    """Whatever is packed is found again where the manifest says, and nothing else is in the blob."""
    named = [
        (f"chunk.{i}", [_drawn(f"{i}.{j}", *one, data) for j, one in enumerate(inside)])
        for i, inside in enumerate(chunks)
    ]
    packed = pack("m", named)
    manifest, view = packed.manifest, packed.view
    rest = bytearray(view)
    for spec, tensor in zip(manifest.tensors, [t for _, inside in named for t in inside], strict=True):
        at = manifest.layout.starts[spec.chunk] + spec.offset_bytes
        assert at % ALIGNMENT_BYTES == 0
        assert bytes(view[at : at + spec.num_bytes]) == bytes(tensor.data)
        rest[at : at + spec.num_bytes] = bytes(spec.num_bytes)
    assert not any(rest)
    assert packed.address % ALIGNMENT_BYTES == 0
    packed.verify()


def _drawn(name: str, dtype: str, shape: tuple[int, ...], data: st.DataObject) -> HostTensor:
    num_bytes = int(np.prod(shape)) * ITEM_BYTES[dtype]
    return HostTensor(name, dtype, shape, data.draw(st.binary(min_size=num_bytes, max_size=num_bytes)))


def test_nobody_can_write_to_a_blob() -> None:
    """Its view refuses; who writes to its address is killed by the kernel."""
    with pytest.raises(TypeError):
        blob().view[0] = 1
    code = (
        "import ctypes; from tests.test_residency_store import blob; one = blob(); "
        "print(one.checksum() == one.manifest.checksum, flush=True); ctypes.memset(one.address + 8, 1, 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True"
    assert done.returncode == -signal.SIGSEGV


def test_a_blob_of_another_checksum_is_refused() -> None:
    """`verify` says which model, and what to do."""
    one, other = blob(seed=1), blob(seed=2)
    memory = HostMemory(one.num_bytes, owner="m")
    memory.view[:] = one.view
    wrong = HostBlob(
        Manifest(layout=one.manifest.layout, tensors=(), checksum=other.manifest.checksum), memory
    )
    with pytest.raises(ModelError, match=r"^tiny: checksum .* pack them again$"):
        wrong.verify()


def test_a_blob_of_another_size_is_refused() -> None:
    """Memory that does not hold the layout is no blob of it."""
    manifest = blob().manifest
    with pytest.raises(ModelError, match="tiny: 64 bytes for a blob of"):
        HostBlob(manifest, HostMemory(64, owner="m"))


def test_a_closed_blob_cannot_be_looked_at() -> None:
    """Closing twice is fine; a view that was taken before keeps the bytes."""
    one = blob()
    view, whole = one.view, bytes(one.view)
    one.close()
    one.close()
    with pytest.raises(UsageError, match="given back"):
        one.checksum()
    assert bytes(view) == whole


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (HostTensor("w", "float32", (2, 2), bytes(15)), "m: w: 15 bytes where float32 .* needs 16"),
        (HostTensor("w", "float32", (0,), b""), "m: w: 0 bytes"),
        (HostTensor("w", "complex64", (1,), bytes(8)), "m: w: type 'complex64' is unknown; use float64"),
        (HostTensor("w", "uint8", (8,), memoryview(bytes(16))[::2]), "w is not contiguous"),
    ],
)
def test_a_tensor_that_is_not_what_it_says_is_not_packed(tensor: HostTensor, words: str) -> None:
    """Bytes, shape and type have to agree before they are anybody's weights."""
    with pytest.raises(ModelError, match=words):
        pack("m", [("layer.0", [tensor])])


def test_names_are_given_once() -> None:
    """A second tensor of a name could never be found."""
    one = HostTensor("w", "uint8", (1,), b"x")
    with pytest.raises(ModelError, match="m: w occurs twice"):
        pack("m", [("a", [one]), ("b", [one])])
    with pytest.raises(ModelError, match="m: a occurs twice"):
        pack("m", [("a", [one]), ("a", [one._replace(name="v")])])


@pytest.mark.parametrize("num_bytes", [1 << 46, 3 << 29], ids=["more than there is", "more than is allowed"])
def test_memory_that_the_host_has_not_got_is_a_clear_error(num_bytes: int) -> None:
    """Out of memory names who asked for how much."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from harness.residency.store.memory import HostMemory\n"
        f"HostMemory({num_bytes}, owner='phi')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"harness.errors.BudgetError: phi: no {num_bytes} bytes of host memory"), (
        done.stderr
    )


def test_a_model_that_does_not_fit_the_host_leaves_others_as_they_are(tmp_path: Path) -> None:
    """Loading it is refused before a byte is read; those that are there still verify."""
    there = blob()
    save(there, tmp_path)
    huge = json.loads((tmp_path / "manifest.json").read_text())
    free_bytes = available_bytes()
    if free_bytes is None:
        pytest.skip("this host does not say how much memory is free")
    num_bytes = free_bytes // 4096 * 4 * 4096
    tensor = {"name": "w", "dtype": "uint8", "shape": [num_bytes], "offset_bytes": 0, "num_bytes": num_bytes}
    huge["chunks"] = [{"name": "embed", "num_bytes": num_bytes, "tensors": [tensor]}]
    (tmp_path / "manifest.json").write_text(json.dumps(huge))
    try:
        os.truncate(tmp_path / "model.blob", num_bytes)
    except OSError:
        pytest.skip("this file system has no sparse files larger than its memory")
    with pytest.raises(BudgetError, match=f"tiny: no {num_bytes} bytes of host memory"):
        load(tmp_path)
    there.verify()


@given(seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_a_saved_model_is_read_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Manifest and bytes, whole and chunk by chunk, cold or warm."""
    one = blob(seed=seed)
    folder = save(one, tmp_path_factory.mktemp("model") / "a" / "b")
    again = load(folder)
    assert again.manifest == one.manifest
    assert bytes(again.view) == bytes(one.view)
    assert sorted(os.listdir(folder)) == ["manifest.json", "model.blob"]
    with PackedFile.open(folder) as packed:
        starts, buffer = packed.manifest.layout.starts, bytearray(one.num_bytes + 3)
        for chunk in (2, 0, 1):
            packed.forget()
            assert packed.read(chunk, chunk + 1, buffer) == starts[chunk + 1] - starts[chunk]
            assert buffer[: starts[chunk + 1] - starts[chunk]] == one.view[starts[chunk] : starts[chunk + 1]]
        assert packed.read(0, 3, buffer) == one.num_bytes
        assert checksum_of(memoryview(buffer)[: one.num_bytes]) == one.manifest.checksum
        with pytest.raises(ModelError, match="give a larger buffer"):
            packed.read(0, 3, bytearray(64))


def _cut(folder: Path) -> None:
    os.truncate(folder / "model.blob", 100)


def _lengthen(folder: Path) -> None:
    with (folder / "model.blob").open("ab") as file:
        file.write(bytes(64))


def _flip(folder: Path) -> None:
    data = bytearray((folder / "model.blob").read_bytes())
    data[70] ^= 1
    (folder / "model.blob").write_bytes(data)


def _manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return changed


def _first(manifest: dict[str, Any]) -> dict[str, Any]:
    tensor: dict[str, Any] = manifest["chunks"][0]["tensors"][0]
    return tensor


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no blob": (lambda f: (f / "model.blob").unlink(), r"model\.blob: cannot be read \(No such file"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), r"manifest\.json: cannot be read"),
    "truncated": (_cut, r"model\.blob: truncated, 100 bytes of \d+; save the model again"),
    "too long": (_lengthen, r"model\.blob: too long"),
    "a flipped bit": (_flip, r"model\.blob: checksum .* save them again"),
    "half a manifest": (lambda f: os.truncate(f / "manifest.json", 80), "not valid JSON"),
    "another schema": (_manifest(lambda m: m.update(schema=2)), "schema: 2 is not allowed"),
    "a wrong shape": (
        _manifest(lambda m: _first(m).update(shape=[7, 4])),
        r"embed: 84 bytes where float32 \[7, 4\]",
    ),
    "a shape of words": (_manifest(lambda m: _first(m).update(shape=["7"])), "write a list of whole numbers"),
    "a wrong size": (_manifest(lambda m: _first(m).update(num_bytes=80)), "embed: 80 bytes where"),
    "an unknown type": (_manifest(lambda m: _first(m).update(dtype="int4")), "type 'int4' is unknown"),
    "another type": (_manifest(lambda m: _first(m).update(dtype="float16")), "embed: 84 bytes where float16"),
    "a tensor beyond its chunk": (
        _manifest(lambda m: _first(m).update(offset_bytes=64)),
        "over its neighbour",
    ),
    "a negative offset": (
        _manifest(lambda m: _first(m).update(offset_bytes=-64)),
        "whole number, at least 0",
    ),
    "an odd chunk": (_manifest(lambda m: m["chunks"][0].update(num_bytes=100)), "chunk embed has 100 bytes"),
    "a shorter chunk": (_manifest(lambda m: m["chunks"][2].update(num_bytes=64)), "over its neighbour"),
    "no chunks": (_manifest(lambda m: m.update(chunks=[])), "chunks: "),
    "a misspelt key": (_manifest(lambda m: m.update(checksums="x")), "checksums: .* unknown key"),
    "no checksum": (_manifest(lambda m: m.pop("checksum")), "checksum: missing"),
    "a short checksum": (_manifest(lambda m: m.update(checksum="ab")), "64 hexadecimal digits"),
    "a list": (lambda f: (f / "manifest.json").write_text("[]"), "write a JSON object here"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_damaged_file_is_named_with_what_is_wrong_and_what_to_do(tmp_path: Path, name: str) -> None:
    """One line, the file first; no damage gets as far as the bytes being used."""
    damage, words = FAULTS[name]
    save(blob(), tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelError, match=words) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    """Opened whole, cut since: the read says where it ended."""
    one = blob()
    with PackedFile.open(save(one, tmp_path)) as packed:
        _cut(tmp_path)
        with pytest.raises(ModelError, match=r"truncated while it was read, at 100"):
            packed.read(0, 3, bytearray(one.num_bytes))


def test_saving_over_a_model_never_leaves_a_mixture_that_loads(tmp_path: Path) -> None:
    """Stopped between its two files, the folder holds a new blob under an old manifest, and says so."""
    save(blob(seed=1), tmp_path)
    old = (tmp_path / "manifest.json").read_bytes()
    save(blob(seed=2), tmp_path)
    (tmp_path / "manifest.json").write_bytes(old)
    with pytest.raises(ModelError, match="corrupt or of another model"):
        load(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """No draft is left behind."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match=r"file/model: tiny cannot be saved \(Not a directory\)"):
        save(blob(), tmp_path / "file" / "model")
    (tmp_path / "model.blob").mkdir()
    with pytest.raises(ModelError, match="cannot be saved"):
        save(blob(), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file", "model.blob"]


def test_a_layout_says_the_same_before_and_after_packing() -> None:
    """Chunks keep their names and order, each with the padding up to the next."""
    manifest = blob().manifest
    assert [chunk.name for chunk in manifest.layout.chunks] == ["embed", "layer.0", "layer.1"]
    assert isinstance(manifest.layout, ModelLayout)
    assert manifest.layout.num_bytes == 128 + 128 + 13248
