"""Sessions that keep their keys and values on a server, and the wire between.

================  =============================================================================
module            what it holds
================  =============================================================================
`core`            the engine: weights once, a slab per session, batched ragged decoding
`ring`            the engine over several models that share one arena
`contract`        what the server needs of an engine
`counting`        the engine without a model, as baseline and for tests
`hosted`          `core` behind the contract
`messages`        the frames, field by field; `codes`: why a server refuses
`protocol`        how a frame is written
`framing`         how frames are read out of a stream
`limits`          what a peer may ask for
`address`         unix sockets and TCP ports, dead ones replaced
`transport`       a connection on an event loop: bytes counted, no copies, backpressure
`channel`         a connection that blocks, for the plain client
`link`            a link of a declared speed, by waiting
`engine_thread`   the one thread that computes
`registry`        sessions, whose they are, and their latest turns; `turns`: what becomes of these
`connection`      one client at the server; `requests`, `crossing`: what its frames lead to
`server`          all of them, until it is stopped
`client`          the plain client, `client_session` what it opens; `aclient` the one for asyncio
`replies`         what both return
`launch`          a server in a process of its own, for suites
`modes`           what stays on the server while tokens are decoded, and what crosses for each
================  =============================================================================

`python -m harness.sessions serve --help`; the wire is described in `docs/sessions-protocol.md`. Nothing is
imported here: `core` and `ring` need torch, the rest needs msgspec, and neither needs the other.
"""
