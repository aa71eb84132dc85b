"""What the engine refuses of what it is given."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace

from harness.errors import UsageError
from harness.sessions.core.session import Session
from harness.sessions.core.turns import Turn

__all__ = ["check_positive", "checked_tokens", "checked_turn"]


def checked_turn(turn: Turn, session: Session, vocab_size: int) -> Turn:
    """A turn as the scheduler takes it.

    Raises
    ------
    UsageError: the session has one already, there is nothing to compute, a token is not in the vocabulary, or
        tokens and answer exceed what the session may hold.
    """
    who = f"session {session.id!r}"
    if session.turn_id is not None:
        raise UsageError(f"{who} has a turn already; wait for its end or cancel it")
    check_positive(f"{who}: max_new_tokens", turn.max_new_tokens)
    tokens = checked_tokens(session.id, turn.new_token_ids, vocab_size)
    if not tokens and not session.tokens:
        raise UsageError(f"{who}: there is no token to go on from; send at least one")
    num = len(session.tokens) + len(tokens) + turn.max_new_tokens
    if num > session.max_tokens:
        raise UsageError(
            f"{who} holds {len(session.tokens)} tokens; {len(tokens)} new and {turn.max_new_tokens} to "
            f"decode exceed its {session.max_tokens}: open it with more, or ask for less"
        )
    if turn.sampling is not None and (trouble := turn.sampling.trouble()):
        raise UsageError(f"{who}: {trouble}")
    return replace(turn, new_token_ids=tokens, stop_ids=tuple(turn.stop_ids))


def checked_tokens(session_id: str, token_ids: Sequence[int], vocab_size: int) -> list[int]:
    """Token ids as plain integers.

    Raises
    ------
    UsageError: one is none, or is not in the vocabulary.
    """
    try:
        tokens = [operator.index(token) for token in token_ids]
    except TypeError as exc:
        raise UsageError(f"session {session_id!r}: token ids are to be integers ({exc})") from exc
    wrong = next((token for token in tokens if not 0 <= token < vocab_size), None)
    if wrong is not None:
        raise UsageError(f"session {session_id!r}: token id {wrong} is not in 0 to {vocab_size - 1}")
    return tokens


def check_positive(name: str, value: int, most: int | None = None) -> None:
    """Check a whole number from 1 to `most`.

    Raises
    ------
    UsageError: it is another.
    """
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < 1 or (most is not None and value > most):
        limit = "at least 1" if most is None else f"1 to {most}"
        raise UsageError(f"{name} is {value!r}; give {limit}")
