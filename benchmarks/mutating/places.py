"""The places of a source that can be changed, and the one change of each."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Add, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr, ast.Pow: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Nodes that can be changed and how, in order; no annotations, texts or messages."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if change := _change(node):
            yield node, change
        stack += reversed([child for child in _children(node)])


def _children(node: ast.AST) -> Iterator[ast.AST]:
    skipped: tuple[Any, ...] = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, skipped):
                yield child


def _change(node: ast.AST) -> str:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        return f"{type(node.ops[0]).__name__} -> {COMPARISONS[type(node.ops[0])].__name__}"
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in OPERATORS:
        return f"{type(node.op).__name__} -> {OPERATORS[type(node.op)].__name__}"
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        return f"{node.value} -> {_other(node.value)}"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        return f"{type(node.op).__name__} removed"
    return ""


def _other(value: Any) -> Any:
    return not value if isinstance(value, bool) else value + 1


def mutate(node: Any) -> None:
    """Change the node in place."""
    if isinstance(node, ast.Compare):
        node.ops[0] = COMPARISONS[type(node.ops[0])]()
    elif isinstance(node, ast.Constant):
        node.value = _other(node.value)
    elif isinstance(node, ast.UnaryOp):
        node.op = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Invert()
        if isinstance(node.op, ast.Invert):
            operand = copy.copy(node.operand)
            node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), operand)
            ast.copy_location(node.operand, operand)
    else:
        node.op = OPERATORS[type(node.op)]()


def mutated(source: str, number: int) -> ast.Module:
    """The source with the change of its ``number``-th place; lines keep their numbers."""
    tree = ast.parse(source)
    for index, (node, _) in enumerate(places(tree)):
        if index == number:
            mutate(node)
    return ast.fix_missing_locations(tree)


def statement_lines(source: str) -> dict[int, range]:
    """Of every line that holds code, the lines of its statement; headers of blocks stand alone."""
    lines: dict[int, range] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None) or getattr(node, "cases", None)
            end = _first_line(body[0]) - 1 if body else node.end_lineno or node.lineno
            span = range(node.lineno, max(end, node.lineno) + 1)
            lines.update(dict.fromkeys(span, span))
    return lines


def _first_line(node: Any) -> int:
    return int(getattr(node, "pattern", node).lineno)
