"""The log of a load: one entry per request, and a file of them that a crash cannot spoil.

Times are seconds from the begin of the load, on one monotonic clock; a time or count that is not known is
`None`, never 0. `intended_s` is when the request was due, `dispatched_s` when the client came to it, `sent_s`
when it began to connect, `written_s` when it was connected and wrote the request.

A file holds one JSON object per line. A line is appended by one write when its request has ended, so that a
killed client loses no request that had ended, and several processes may write one file. What a crash tore is
cut off when the file is opened again. Only `close` forces the lines to disk: a power failure may take the
last seconds, and forcing each line would stall the event loop for longer than a token takes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.backends.base import Completion
from harness.errors import ClientExhausted, LoadError

__all__ = ["Entry", "RequestLog", "is_clients_fault", "read_log"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One request, from when it was due to its end."""

    index: int
    """Its place in the load."""
    intended_s: float
    dispatched_s: float
    done_s: float
    """When its answer was whole, or it failed."""
    sent_s: float | None = None
    written_s: float | None = None
    first_token_s: float | None = None
    chunk_times_s: tuple[float, ...] = ()
    """Of each piece of the answer that bore text; empty for an answer that came whole."""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    """Both as the server counted them."""
    cached_tokens: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    worker: int = 0
    """The client process that sent it."""
    labels: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What tells loads in one file apart: variant, round, rate."""

    @classmethod
    def of(
        cls, answer: Completion, *, index: int, intended_s: float, dispatched_s: float, begin_s: float,
        worker: int = 0, labels: Mapping[str, Any] | None = None,
    ) -> Entry:  # fmt: skip
        """The entry of an answer; all times given are on the backend's clock."""
        return cls(
            index=index,
            intended_s=intended_s - begin_s,
            dispatched_s=dispatched_s - begin_s,
            done_s=answer.done_s - begin_s,
            sent_s=answer.sent_s - begin_s,
            written_s=None if answer.written_s is None else answer.written_s - begin_s,
            first_token_s=None if answer.first_token_s is None else answer.first_token_s - begin_s,
            chunk_times_s=tuple(time_s - begin_s for time_s in answer.chunk_times_s),
            prompt_tokens=answer.prompt_tokens,
            output_tokens=answer.output_tokens,
            cached_tokens=answer.cached_tokens,
            finish_reason=answer.finish_reason,
            worker=worker,
            labels=labels or {},
        )

    @property
    def is_failed(self) -> bool:
        """Whether it got no whole answer."""
        return self.error is not None

    @property
    def is_clients_fault(self) -> bool:
        """Whether it failed for want of something on this machine, so that the server was not asked."""
        return is_clients_fault(self.error)

    @property
    def dispatch_delay_s(self) -> float:
        """How late the client was: from when the request was due until it was written (or was tried)."""
        out_s = self.sent_s if self.written_s is None else self.written_s
        return (self.dispatched_s if out_s is None else out_s) - self.intended_s

    @property
    def ttft_s(self) -> float | None:
        """Time to the first token, from the intended start."""
        return None if self.first_token_s is None else self.first_token_s - self.intended_s

    @property
    def e2e_latency_s(self) -> float:
        """From the intended start to the end of the answer."""
        return self.done_s - self.intended_s

    @property
    def tpot_s(self) -> float | None:
        """Seconds per output token, the first excluded; `None` below two tokens or without a count."""
        if self.first_token_s is None or self.output_tokens is None or self.output_tokens < 2:
            return None
        return (self.done_s - self.first_token_s) / (self.output_tokens - 1)

    @property
    def itl_s(self) -> tuple[float, ...]:
        """The gaps between neighbouring chunks."""
        return tuple(b - a for a, b in pairwise(self.chunk_times_s))


def is_clients_fault(error: str | None) -> bool:
    """Whether an error, told as "class: message", is this machine's and no word on the server."""
    return error is not None and error.startswith(f"{ClientExhausted.__name__}: ")


class RequestLog:
    """A file that entries are appended to."""

    def __init__(self, path: Path | str, *, mend: bool = True) -> None:
        """Open the file, or make it.

        Arguments: `mend`, cut off what a crash tore; false where another process may be writing.

        Raises
        ------
        LoadError: it cannot be written.
        """
        self.path = Path(path)
        self._fd = -1
        try:
            if mend and self.path.exists():
                _cut_torn_line(self.path)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def append(self, entry: Entry) -> None:
        """Add one entry; it outlives this process when this returns.

        Raises
        ------
        LoadError: it cannot be written.
        """
        line = json.dumps(_plain(entry), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            written = os.write(self._fd, line)
        except OSError as exc:
            raise self._unwritable(exc) from exc
        if written < len(line):
            raise LoadError(f"request log {self.path}: the disk is full; free some space, or log elsewhere")

    def close(self) -> None:
        """Force everything to disk and close; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            if self.path.is_file():  # a pipe or a device has no disk
                os.fsync(fd)
        except OSError as exc:
            raise self._unwritable(exc) from exc
        finally:
            os.close(fd)

    def _unwritable(self, exc: OSError) -> LoadError:
        return LoadError(f"request log {self.path}: cannot be written ({exc.strerror}); give another path")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def read_log(path: Path | str) -> list[Entry]:
    """Every whole entry of a file, in the order of their intended starts; a torn last line is left out.

    Raises
    ------
    LoadError: the file cannot be read, or a whole line of it is no entry.
    """
    path = Path(path)
    try:
        *whole, _ = path.read_bytes().split(b"\n")
    except OSError as exc:
        raise LoadError(f"request log {path}: cannot be read ({exc.strerror}); give the file's path") from exc
    entries = [_entry(f"{path}, line {number}", line) for number, line in enumerate(whole, start=1)]
    return sorted(entries, key=lambda entry: (entry.intended_s, entry.index))


_NAMES = tuple(f.name for f in fields(Entry))
_NEEDED = {"index", "intended_s", "dispatched_s", "done_s"}
_TIMES = ("intended_s", "dispatched_s", "sent_s", "written_s", "first_token_s", "done_s")
_DIGITS = 7
_FIRST = b'{"index"'
"""How each line begins."""


def _plain(entry: Entry) -> dict[str, Any]:
    """An entry as JSON: what is not known is null, times to a tenth of a microsecond."""
    row: dict[str, Any] = {name: getattr(entry, name) for name in _NAMES}
    for name in _TIMES:
        row[name] = None if row[name] is None else round(row[name], _DIGITS)
    row["chunk_times_s"] = [round(time_s, _DIGITS) for time_s in entry.chunk_times_s]
    row["labels"] = dict(entry.labels)
    return row


def _entry(where: str, line: bytes) -> Entry:
    try:
        row = json.loads(line)
    except ValueError as exc:
        raise LoadError(f"request log {where}: no JSON ({exc}); remove the line to go on") from exc
    if not isinstance(row, dict) or not row.keys() >= _NEEDED or not row.keys() <= set(_NAMES):
        raise LoadError(f"request log {where}: not an entry of a request; give a file that a load wrote")
    return Entry(**{**row, "chunk_times_s": tuple(row.get("chunk_times_s") or ())})


def _cut_torn_line(path: Path) -> None:
    """Drop what follows the last newline of a log; refuse a file that is none, since it would be spoiled."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        if not _FIRST.startswith(head := file.read(len(_FIRST))):
            raise LoadError(f"request log {path}: begins with {head!r} and is none; give another path")
        keep = file.seek(0, os.SEEK_END)
        while keep:
            file.seek(keep - 1)
            if file.read(1) == b"\n":
                break
            keep -= 1
        file.truncate(keep)
