"""How a marked statement is changed: by its form and by names of Python's own, never by names of this repository."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")


@dataclass(frozen=True)
class Edit:
    """Bytes of a source file that are replaced."""

    start: int
    end: int
    new: str


class Source:
    """A file's text and tree, and where in its bytes nodes stand."""

    def __init__(self, text: str) -> None:
        self.text, self.raw, self.tree = text, text.encode(), ast.parse(text)
        self.starts = [0]
        for line in self.raw.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Where it begins and ends."""
        begin = self.starts[node.lineno - 1] + node.col_offset
        return begin, self.starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)

    def of(self, node: ast.expr | ast.stmt) -> str:
        """Its own text."""
        begin, end = self.span(node)
        return self.raw[begin:end].decode()

    def head(self, statement: ast.stmt) -> tuple[int, int]:
        """The span of a statement without the statements inside it: up to the colon."""
        begin, end = self.span(statement)
        if hasattr(statement, "body"):
            own = (value for name, value in ast.iter_fields(statement) if name not in _BLOCKS)
            parts = (part for value in own for part in (value if isinstance(value, list) else [value]))
            inner = (node for part in parts if isinstance(part, ast.AST) for node in ast.walk(part))
            ends = (self.span(node)[1] for node in inner if isinstance(node, ast.expr))
            end = self.raw.index(b":", max(ends, default=begin)) + 1
        return begin, end


@dataclass(frozen=True)
class Marked:
    """A statement with a marker: the innermost one at its line."""

    source: Source
    statement: ast.stmt

    def inside(self, *kinds: type[ast.expr]) -> Iterator[ast.expr]:
        """Expressions of these kinds that belong to the statement itself."""
        begin, end = self.source.head(self.statement)
        for node in ast.walk(self.statement):
            if isinstance(node, ast.expr) and isinstance(node, kinds):
                first, last = self.source.span(node)
                if begin <= first and last <= end:
                    yield node


Change = Callable[[Marked], Edit]
"""Raises ValueError where the statement has not the form that it changes."""


def drop(marked: Marked) -> Edit:
    """The statement does nothing."""
    return replace("pass")(marked)


def replace(new: str) -> Change:
    """The statement is another one."""
    return lambda marked: Edit(*marked.source.span(marked.statement), new)


def never(marked: Marked) -> Edit:
    """The condition of the `if` or `while` does not hold."""
    return Edit(*marked.source.span(_condition(marked)), "False")


def always(marked: Marked) -> Edit:
    """The condition of the `if` or `while` holds."""
    return Edit(*marked.source.span(_condition(marked)), "True")


def _condition(marked: Marked) -> ast.expr:
    test = getattr(marked.statement, "test", None)
    if isinstance(test, ast.expr):
        return test
    raise ValueError(f"there is no condition: {ast.unparse(marked.statement)[:80]}")


def first(marked: Marked) -> Edit:
    """`x if condition else y` is x."""
    node = _choice(marked)
    return Edit(*marked.source.span(node), marked.source.of(node.body))


def last(marked: Marked) -> Edit:
    """`x if condition else y` is y."""
    node = _choice(marked)
    return Edit(*marked.source.span(node), marked.source.of(node.orelse))


def _choice(marked: Marked) -> ast.IfExp:
    found = [node for node in marked.inside(ast.IfExp) if isinstance(node, ast.IfExp)]
    if len(found) != 1:
        raise ValueError(f"it has {len(found)} conditional expressions, not one: {ast.unparse(marked.statement)[:80]}")
    return found[0]


def operand(number: int, new: str = "True") -> Change:
    """One operand of the statement's outermost `and` or `or` is something else."""

    def change(marked: Marked) -> Edit:
        found = [node for node in marked.inside(ast.BoolOp) if isinstance(node, ast.BoolOp)]
        if not found or len(found[0].values) <= number:
            raise ValueError(f"its operands are not the expected ones: {ast.unparse(marked.statement)[:80]}")
        return Edit(*marked.source.span(found[0].values[number]), new)

    return change


def before(count: int) -> Change:
    """The statement comes before so many that stand in front of it in its block."""

    def change(marked: Marked) -> Edit:
        block = next(
            value
            for node in ast.walk(marked.source.tree)
            for value in vars(node).values()
            if isinstance(value, list) and marked.statement in value
        )
        at = block.index(marked.statement)
        if at < count:
            raise ValueError(f"only {at} statements stand before it: {ast.unparse(marked.statement)[:80]}")
        moved = [block[at], *block[at - count : at]]
        text = f"\n{' ' * marked.statement.col_offset}".join(marked.source.of(node) for node in moved)
        return Edit(marked.source.span(block[at - count])[0], marked.source.span(marked.statement)[1], text)

    return change


def sub(pattern: str, new: str) -> Change:
    """The text of the statement up to its colon is changed by a regular expression, which must find something."""

    def change(marked: Marked) -> Edit:
        begin, end = marked.source.head(marked.statement)
        text, count = re.subn(pattern, new, marked.source.raw[begin:end].decode())
        if not count:
            raise ValueError(f"it has nothing like {pattern}: {ast.unparse(marked.statement)[:80]}")
        return Edit(begin, end, text)

    return change
