"""How a server comes to be, and how it goes: `launch()` returns when it answers, `stop()` when it is gone."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

__all__ = ["Launcher", "Server"]


class Server:
    """A server that answers. Usable as a context manager, which stops it."""

    __slots__ = ("_stop", "engine", "held", "model", "pid", "start_s", "url")

    def __init__(
        self,
        *,
        url: str,
        model: str,
        start_s: float,
        stop: Callable[[], None] | None = None,
        engine: str | None = None,
        held: object = None,
        pid: int | None = None,
    ) -> None:
        """Take over a running server.

        Parameters
        ----------
        url: its root, without `/v1`.
        model: the model's name as the server knows it.
        start_s: seconds from asking for it until it answered.
        stop: ends it; `None` for a server that is not ours to end.
        engine: what serves, by its own word ("sglang"); `None` when it does not say.
        held: an engine that lives in this process and has no URL, for its own kind of backend.
        pid: the program's process, where it is one that we started.
        """
        self.url = url
        self.model = model
        self.start_s = start_s
        self.engine = engine
        self.held = held
        self.pid = pid
        self._stop = stop

    def stop(self) -> None:
        """End the server if it is ours; return when it is gone. A second call does nothing."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Server({self.url}, {self.model})"


@runtime_checkable
class Launcher(Protocol):
    """A way to a server; launching twice gives two."""

    @property
    def name(self) -> str:
        """The role's name in this run ("small", "large"): what errors call it."""

    def launch(self) -> Server:
        """Start the server and return when it answers.

        Raises
        ------
        LaunchError: it did not come up within its deadline; the message ends with the tail of its log.
        UnavailableError: what it needs is not installed here; the message is the line that installs it.
        """
