"""Which examples are for training and which are held out.

Two examples of code that differ in names and constants only are the same example: a model that
saw one has seen the other. So code is split by *skeleton*, the syntax tree with every name and
constant replaced by its position of first use, and whole skeletons are held out. Everything else
is split by a hash of its prompt.
"""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache

__all__ = ["canonical_ast", "is_held_out_key", "is_held_out_source"]

HELD_OUT_PERCENT = 12
"""Share of keys, in percent, that no training stream may show."""

_BUILTINS = frozenset({"sorted", "list", "dict", "sum", "len", "max", "min", "range", "abs"})


def is_held_out_key(key: str) -> bool:
    """Whether a key (a prompt, or a canonical tree) belongs to the held-out share.

    The decision is a hash of the key alone, so it is the same on every machine.
    """
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT


@lru_cache(maxsize=200_000)
def is_held_out_source(source: str) -> bool:
    """Whether the skeleton of a piece of Python belongs to the held-out share.

    Raises SyntaxError when the source does not parse.
    """
    return is_held_out_key(canonical_ast(source))


def canonical_ast(source: str) -> str:
    """Return the syntax tree as text, with names and constants canonicalised.

    Names become n0, n1, … in order of first use, every constant becomes 0 (or an empty
    string); operators, builtins and methods stay. Raises SyntaxError when it does not parse.
    """
    tree = ast.parse(source)
    return ast.dump(_Canonicaliser().visit(tree), annotate_fields=False)


class _Canonicaliser(ast.NodeTransformer):
    """Replaces what a renaming or a changed constant would change."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = self._rename(node.name)
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._rename(node.arg)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in _BUILTINS:
            node.id = self._rename(node.id)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        node.value = "" if isinstance(node.value, str) else 0
        return node

    def _rename(self, name: str) -> str:
        return self._names.setdefault(name, f"n{len(self._names)}")
