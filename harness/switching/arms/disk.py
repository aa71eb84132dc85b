"""serverless-warm, serverless-cold: a model's file is read for every request, into the arena.

What a function does that starts with nothing. The file is the packed blob, so that reading it is one
sequential read without parsing; what a serverless platform adds (a process, imports, a container) is left
out, which flatters it. Warm, the file is in the kernel's page cache, which is a copy in host memory; cold, it
is dropped from there before each request, untimed.

Physics: max(size ÷ disk, size ÷ link), as a chunk crosses the link while the next one is read. Bytes land in
the arena: whoever maps the file and computes on the page cache has copied nothing to a device.

Traps: a file on tmpfs is memory and cannot be cold, and a container's file system may keep a cache of its
own; so what came from the storage device is counted by the kernel (`/proc/self/io`) and recorded, and without
it the cold arm is not available. Below a virtual machine's disk there is the host's cache, of which nobody
here is told: "cold" is then its speed.

Source: jaewan/Djinn, OSDI_Evaluation/exp1, "Serverless" (load from disk per request).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import torch

from harness.errors import ModelError, UnavailableError
from harness.launchers.scratch import scratch_folder
from harness.residency.policies.base import Plan
from harness.residency.store.blob import HostBlob, checksum_of
from harness.residency.store.files import PackedFile, save
from harness.residency.store.memory import HostMemory
from harness.switching.arms.arena import answer_of
from harness.switching.arms.whole import Pace, WholeArm
from harness.switching.base import Answer, Ask
from harness.switching.setting import Setting

__all__ = ["ServerlessCold", "ServerlessWarm"]

_MOSTLY = 0.9
"""Of a file, to be called cold: the kernel may have kept a few pages."""
_IO = Path("/proc/self/io")


class ServerlessWarm(WholeArm):
    """Reads from the page cache."""

    name: ClassVar[str] = "serverless-warm"
    is_cold: ClassVar[bool] = False

    def __init__(self, setting: Setting) -> None:
        """Save the models to files, and let go of them in memory.

        Raises
        ------
        UnavailableError: the folder's files cannot be read cold, where that is wanted.
        ModelError: there is no such model, or no room for its file.
        """
        super().__init__(setting)
        self._stack = ExitStack()
        try:
            self._arena = _Arena(setting)
            self._stack.callback(self._arena.close)
            self._files = self._saved(setting)
            self._models = {name: self._over(host, self._arena.memory) for name, host in self._hosts.items()}
            # Their views hold the arena's memory.
            self._stack.callback(self._models.clear)
            for name, host in self._hosts.items():
                host.blob.close()
                self._prepare(self._files[name])
            if self.is_cold:
                self._check_is_cold()
        except BaseException:
            self.close()
            raise

    def checksums(self) -> Mapping[str, str]:
        """Of every file, now and when it was packed."""
        found: dict[str, str] = {}
        for name, file in self._files.items():
            held = bytearray(file.manifest.layout.num_bytes)
            file.read(0, file.manifest.layout.num_chunks, held)
            found |= {name: checksum_of(held), f"packed:{name}": file.manifest.checksum}
            self._prepare(file)
        return found

    def close(self) -> None:
        """Remove the files, unless a folder was named, and give the arena back."""
        self._stack.close()
        super().close()

    def _answer(self, ask: Ask) -> Answer:
        file = self._files[ask.model]
        before_bytes = _from_device_bytes()
        try:
            generated = self._generate(
                ask, self._models[ask.model], lambda plan: self._arena.read(plan, file)
            )
        finally:
            after_bytes = _from_device_bytes()
            self._prepare(file)
        counted = None if before_bytes is None or after_bytes is None else after_bytes - before_bytes
        return replace(answer_of(ask, generated), disk_bytes=counted)

    def _prepare(self, file: PackedFile) -> None:
        """Have the next read find the page cache as the arm has it."""
        if self.is_cold:
            file.forget()

    def _saved(self, setting: Setting) -> dict[str, PackedFile]:
        root = Path(setting.folder or self._stack.enter_context(scratch_folder("assay-serverless")))
        files: dict[str, PackedFile] = {}
        for name, host in self._hosts.items():
            folder = root / f"{name.replace('/', '--')}-{setting.dtype}-{setting.seed}"
            if not _is_saved(host.blob, folder):
                save(host.blob, folder)
            files[name] = self._stack.enter_context(PackedFile.open(folder))
        return files

    def _check_is_cold(self) -> None:
        file = next(iter(self._files.values()))
        size = file.manifest.layout.num_bytes
        before_bytes = _from_device_bytes()
        file.read(0, file.manifest.layout.num_chunks, bytearray(size))
        after_bytes = _from_device_bytes()
        self._prepare(file)
        remedy = "name a folder on a disk as the setting's folder, or leave the arm out"
        if before_bytes is None or after_bytes is None:
            what = f"{_IO} does not say what is read from the disk"
            raise UnavailableError(f"{self.name}: {what}; {remedy}")
        if after_bytes - before_bytes < _MOSTLY * size:
            raise UnavailableError(
                f"{self.name}: {file.path} is not dropped from memory: of {size} bytes, "
                f"{after_bytes - before_bytes} came from a disk (tmpfs?); {remedy}"
            )


class ServerlessCold(ServerlessWarm):
    """Reads from the disk."""

    name: ClassVar[str] = "serverless-cold"
    is_cold: ClassVar[bool] = True


class _Arena:
    """Memory of the device, touched before, and the way into it behind the file."""

    def __init__(self, setting: Setting) -> None:
        self._rate = setting.link_bytes_per_s
        if setting.device == "cpu":
            self._host: Any = HostMemory(setting.arena_bytes, owner="arena")
            self.memory: Any = torch.frombuffer(self._host.view, dtype=torch.uint8)
        else:
            self._host = None
            self.memory = torch.zeros(setting.arena_bytes, dtype=torch.uint8, device=setting.device)

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""
        self.memory = None
        if self._host is not None:
            self._host.close()

    def read(self, plan: Plan, file: PackedFile) -> None:
        """Read a plan's chunks into their places; return when the link has had time for the last of them."""
        pace = Pace(self._rate)
        for load in plan.loads:
            place = slice(load.arena_offset, load.arena_offset + load.num_bytes)
            if self._host is not None:
                with self._host.view[place] as view:
                    file.read(load.chunk, load.chunk + 1, view)
            else:
                staged = bytearray(load.num_bytes)
                file.read(load.chunk, load.chunk + 1, staged)
                self.memory[place].copy_(torch.frombuffer(staged, dtype=torch.uint8))
            pace.add(load.num_bytes, from_s=perf_counter())
        pace.wait()
        if self.memory.is_cuda:
            torch.cuda.synchronize()


def _is_saved(blob: HostBlob, folder: Path) -> bool:
    """Whether the folder holds this very model, as far as its manifest says."""
    with contextlib.suppress(ModelError), PackedFile.open(folder) as file:
        return file.manifest == blob.manifest
    return False


def _from_device_bytes() -> int | None:
    """What the storage layer fetched for this process so far; None where the kernel does not say."""
    try:
        rows = dict(row.split(": ") for row in _IO.read_text().splitlines())
        return int(rows["read_bytes"])
    except (OSError, KeyError, ValueError):
        return None
