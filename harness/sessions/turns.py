"""What becomes of running turns at the server: their tokens are passed on, and some end early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.sessions.contract import Engine, Event, Undone
from harness.sessions.messages import Done, Token
from harness.sessions.protocol import Buffer
from harness.sessions.registry import RunningTurn

if TYPE_CHECKING:
    from harness.sessions.connection import Connection
    from harness.sessions.server import SessionServer

__all__ = ["cancel", "cancelled", "take"]


def take(server: SessionServer, events: Sequence[Event | Undone]) -> set[Connection]:
    """Queue tokens at the connections that they are for; these are to be flushed."""
    written: set[Connection] = set()
    for event in events:
        turn = server.registry.turns.get(event.turn_id)
        # None when it was cancelled, or its session closed, while the step ran.
        if turn is not None:
            if isinstance(event, Undone):
                _on_undone(server, event, turn)
            else:
                _on_event(server, event, turn)
            if turn.session.owner is not None:
                written.add(turn.session.owner)
    return written


def cancel(server: SessionServer, turn: RunningTurn) -> None:
    """End a turn early; its owner is told when the engine has done it."""

    def in_engine(engine: Engine) -> None:
        if turn.engine_turn is not None:
            engine.cancel(turn.engine_turn)

    def then(_: Any, error: Exception | None) -> None:
        # A turn that was refused is its session's no more.
        if turn.done is None and turn.session.turn is turn:
            done, owner = cancelled(server, turn), turn.session.owner
            if owner is not None:
                owner.reply(done)
        if error is not None:
            server.log(f"{turn.session.id}: cancel failed: {error}")

    server.engine.call(in_engine, then)


def cancelled(server: SessionServer, turn: RunningTurn) -> Done:
    """Note that a turn has ended early."""
    server.count("turns_cancelled")
    server.registry.end(turn)
    return turn.end(None)


def _on_event(server: SessionServer, event: Event, turn: RunningTurn) -> None:
    session, owner = turn.session, turn.session.owner
    turn.take(event)
    if owner is not None:
        buffers = () if event.logits is None else (_buffer(event.logits),)
        turn.bytes_down += owner.queue(Token(turn.number, event.token_id), buffers)
    if event.finish_reason is not None:
        server.registry.end(turn)
        done = turn.end(event)
        server.count("turns_done")
        server.log(f"{session.id}: turn {turn.number}: {done.num_tokens} tokens, {_reuse(done)}")
        if owner is not None:
            owner.queue(done)


def _on_undone(server: SessionServer, undone: Undone, turn: RunningTurn) -> None:
    server.registry.end(turn)
    turn.undo(undone.error)
    server.count("turns_undone")
    server.log(f"{turn.session.id}: turn {turn.number}: {undone.error}")
    if turn.session.owner is not None:
        turn.session.owner.queue_refusal(turn.number, undone.error)


def _buffer(logits: Any) -> Buffer:
    return memoryview(logits.numpy() if hasattr(logits, "numpy") else logits)


def _reuse(done: Done) -> str:
    return f"reusing {done.reused_tokens}, computing {done.prefilled_tokens} before the first"
