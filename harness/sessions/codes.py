"""Why a server refuses: the codes of the wire, and which of them an error of the engine is."""

from __future__ import annotations

from enum import IntEnum

from harness.errors import ArenaError, BudgetError, HarnessError, UnavailableError

__all__ = ["Code", "refusal"]


class Code(IntEnum):
    """Why the server refused; from 100 on the connection is closed after it."""

    BAD_REQUEST = 1
    """It makes no sense: a token id that the model lacks, a turn that is too long, a duplicate number."""
    NO_SESSION = 2
    """This connection has no such session, or no session has that token."""
    BUSY = 3
    """A turn of that session still runs."""
    BUDGET = 4
    """The device budget has no room."""
    TOO_MANY = 5
    """A limit on counts is reached: sessions of a connection."""
    NOT_OFFERED = 6
    """This server or its engine does not do that."""
    TAKEN = 7
    """The session was resumed by another connection; it is gone from this one."""
    FAILED = 8
    """The engine failed at this request, or could not go on with this turn, which has not happened then."""
    MALFORMED = 100
    """The bytes are no frame: wrong magic, unknown kind, a header that does not decode."""
    VERSION = 101
    """The peer speaks no version that is spoken here."""
    TOO_LARGE = 102
    """A declared length is beyond its limit."""
    UNEXPECTED = 103
    """A frame that has no place here: anything before hello, a second hello."""
    TIMEOUT = 104
    """No hello, half a frame, nothing for too long, or a peer that does not read."""
    OVERLOADED = 105
    """The server has too many connections, or too much to receive."""
    STOPPING = 106
    """The server stops, or its engine broke."""


def refusal(error: Exception) -> tuple[Code, str]:
    """The protocol's words for what the engine raised."""
    if isinstance(error, BudgetError):
        return Code.BUDGET, str(error)
    if isinstance(error, UnavailableError):
        return Code.NOT_OFFERED, str(error)
    if isinstance(error, ArenaError):
        return Code.FAILED, str(error)
    if isinstance(error, HarnessError):
        return Code.BAD_REQUEST, str(error)
    return Code.FAILED, f"the engine failed: {type(error).__name__}: {error}"
