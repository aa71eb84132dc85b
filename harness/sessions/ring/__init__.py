"""Several models through one arena, with the engine of `core`.

================  =============================================================================
module            what it holds
================  =============================================================================
`minis`           the published models at a thousandth of their size
`packed`          which tensor lies in which chunk of a blob
`weights`         a model over views of the arena: waits for a chunk, computes, says so
`loading`         from a name to a blob on the host, and to the resident reference
`serve`           one request after the other, each of another model
`engine`          the engine behind the session server: sessions of several models, one budget
================  =============================================================================

Importing any of them imports torch; nothing is imported here.
"""
