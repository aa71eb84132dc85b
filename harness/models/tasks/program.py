"""Run small programs that a pocket model wrote, without trusting them.

The families write a tiny language: one function, assignments, loops over the argument, list
comprehensions, a few builtins and methods. Anything else is refused before it runs, so a program
can neither reach outside nor run for long, and no process is needed per answer. (Programs of real
models are graded by the sandbox in `harness.grading` instead.)
"""

from __future__ import annotations

import ast
import builtins
from typing import Any

__all__ = ["LISTS", "TEXTS", "behaviour"]

LISTS: tuple[list[int], ...] = (
    [], [1], [3, 1, 2], [5, 5, 8, -2, 7], [10, 4, 4, 9, 6, 1, 3], [2, 4, 6, 8, 12, 7, 7, -5, 0],
    list(range(15)),
)  # fmt: skip
"""Inputs for programs over lists."""
TEXTS: tuple[str, ...] = (
    "", " ", "abc", "  Hello World ", "banana split", "Testing CODE again",
    "a stone on the road", "xylophone notes",
)  # fmt: skip
"""Inputs for programs over text."""

_BUILTIN_NAMES = ("sum", "len", "max", "min", "sorted", "list", "dict", "range", "abs")
_BUILTINS = {name: getattr(builtins, name) for name in _BUILTIN_NAMES}
_METHODS = frozenset(["append", "upper", "lower", "strip", "replace", "count", "fromkeys"])
_NODES = (
    ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign,
    ast.For, ast.If, ast.Expr, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Store, ast.Constant,
    ast.Attribute, ast.List, ast.ListComp, ast.comprehension, ast.Compare, ast.BinOp, ast.UnaryOp,
    ast.USub, ast.Add, ast.Sub, ast.Mult, ast.Mod, ast.Gt, ast.Lt, ast.GtE, ast.LtE, ast.Eq,
    ast.NotEq, ast.Subscript, ast.Slice,
)  # fmt: skip
_MAX_NODES = 160
_MAX_CONSTANT = 99
_MAX_LOOPS = 4
_MAX_PRODUCTS = 3
"""Three products of at most 99 keep the longest list or text a program can make in memory."""


def behaviour(source: str, entry_point: str, inputs: tuple[tuple[Any, ...], ...]) -> list[str] | None:
    """What a program does: the repr of its result for each tuple of arguments.

    A call that raises gives the exception's name. Returns None when the source does not parse, is
    outside the tiny language, or does not define the entry point.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    if not _is_allowed(tree):
        return None
    namespace: dict[str, Any] = {"__builtins__": _BUILTINS}
    tree = ast.fix_missing_locations(_SnapshotLoops().visit(tree))
    exec(compile(tree, "<answer>", "exec"), namespace)
    function = namespace.get(entry_point)
    return None if function is None else [_call(function, arguments) for arguments in inputs]


def _call(function: Any, arguments: tuple[Any, ...]) -> str:
    copies = [list(value) if isinstance(value, list) else value for value in arguments]
    try:
        return repr(function(*copies))
    except Exception as exc:  # whatever the answer raises is what the answer does
        return type(exc).__name__


class _SnapshotLoops(ast.NodeTransformer):
    """Makes every loop run over a copy, so that one which appends to its own list ends."""

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.iter = ast.Call(func=ast.Name(id="list", ctx=ast.Load()), args=[node.iter], keywords=[])
        return node


def _is_allowed(tree: ast.Module) -> bool:
    nodes = list(ast.walk(tree))

    def num(*kinds: type[ast.AST]) -> int:
        return sum(isinstance(node, kinds) for node in nodes)

    if (
        len(nodes) > _MAX_NODES
        or num(ast.For, ast.comprehension) > _MAX_LOOPS
        or num(ast.Mult) > _MAX_PRODUCTS
    ):
        return False
    if len(tree.body) != 1 or num(ast.FunctionDef) != 1:
        return False
    return isinstance(tree.body[0], ast.FunctionDef) and all(_is_allowed_node(node) for node in nodes)


def _is_allowed_node(node: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef):
        return not node.decorator_list and not node.args.defaults
    if isinstance(node, ast.Name):
        return not node.id.startswith("_")
    if isinstance(node, ast.Attribute):
        return node.attr in _METHODS
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, int) or abs(node.value) <= _MAX_CONSTANT
    return isinstance(node, _NODES)
