"""Where the readers and the writer refuse something: found in their source, each with the edit that deletes it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qa.guards.changes import Edit, Marked, Source
from qa.guards.marks import MARKS, Mark, kept, markers

FILES = (
    "bertconv/text.py", "bertconv/config*.py", "bertconv/containers/**/*.py", "bertconv/source/**/*.py",
    "bertconv/formats/**/*.py", "bertconv/saving.py", "bertconv/modules.py",
    "bertconv/tokenizer/**/*.py", "bertconv/convert.py", "bertconv/derive.py", "bertconv/checkpoint.py",
    "bertconv/verify/certificate.py", "bertconv/manifest.py", "bertconv/parts.py", "bertconv/manage/history/search.py",
    "bertconv/manage/adapter/*.py",
)  # fmt: skip
"""The readers and the writer. Marked statements are guards wherever they are."""

PROBE = "_guard_hit"
_NO_REFUSAL = {"_StoppedError", "StopRequested", "AttributeError"}
"""Raised to stop other threads, or because Python's protocols want it."""
_CHECKS = re.compile(r"_?(check|require|refuse|charge)(_\w+)?")
_PREDICATE = re.compile(r"_?is_(?!safetensors$|mistyped$)\w+")
"""Functions that say whether something is sound; those two only choose what to say of it."""


@dataclass(frozen=True)
class Guard:
    """One check.

    Attributes:
        file: relative to the repository.
        line: where it stands.
        kind: "if" (a condition), "or" (one of several alternatives), "and" (a part of what a predicate returns),
            "raise" (a branch that only refuses), "call" (of a check), "except" (an exception that is handled), "mark"
            (a protection that is not a refusal, from `marks`).
        text: its source in one line, or the name of its mark.
        function: where it stands.
        deletion: the edits that take it away.
        probe: the edits that tell when it refuses; `{}` stands for its number.
    """

    file: str
    line: int
    kind: str
    text: str
    function: str
    deletion: tuple[Edit, ...]
    probe: tuple[Edit, ...]

    @property
    def key(self) -> str:
        """What tells it from others, without the number of its line."""
        return f"{self.file} {self.function} {self.kind} {self.text}"

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}: [{self.kind}] {self.text[:120]}"


def find(root: Path, only: str = "") -> list[Guard]:
    """Every guard of a repository, in the order of files and lines; with `only`, of the paths that hold it."""
    refusing = {path for pattern in FILES for path in root.glob(pattern)}
    found = []
    for path in sorted((root / "bertconv").rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if only in name:
            found += find_in(path.read_text(), name, refusals=path in refusing)
    return found


def find_in(text: str, name: str, marks: Mapping[str, Mark] = MARKS, *, refusals: bool = True) -> list[Guard]:
    """The guards of one file, but for those that are kept although nothing needs them.

    Args:
        text: its source.
        name: relative to the repository.
        marks: what becomes of marked statements.
        refusals: look for checks too, not for marks alone.
    """
    finder = _Finder(text, name)
    if refusals:
        finder.visit(finder.source.tree)
    for line, mark in markers(text):
        if mark in marks:
            finder.add_mark(line, mark, marks[mark])
    ignored = kept(text)
    found = [guard for guard in finder.found if guard.line not in ignored]
    return sorted(found, key=lambda guard: (guard.line, guard.deletion[0].start, -guard.deletion[-1].end))


def apply(source: str, edits: Sequence[Edit]) -> str:
    """The source with edits made, the outer ones around the inner."""

    def order(edit: Edit) -> tuple[int, bool]:
        return edit.start, edit.new.startswith(")")

    content = source.encode()
    for edit in sorted(edits, key=order, reverse=True):
        content = content[: edit.start] + edit.new.encode() + content[edit.end :]
    return content.decode()


def probed(source: str, guards: Sequence[tuple[int, Guard]]) -> str:
    """The source with a probe at each of these numbered guards."""
    opening: list[tuple[int, int, str]] = []
    closing: list[tuple[int, int, str]] = []
    for number, guard in guards:
        first, *rest = guard.probe
        length = rest[0].start - first.start if rest else len(source) * 4
        opening.append((first.start, length, first.new.replace("{}", str(number))))
        closing += [(edit.start, length, edit.new.replace("{}", str(number))) for edit in rest]
    content = source.encode()
    inserts = [(at, 1, -length, new) for at, length, new in opening] + [
        (at, 0, length, new) for at, length, new in closing
    ]
    parts, done = [], 0
    for at, _, _, new in sorted(inserts):
        parts += [content[done:at], new.encode()]
        done = at
    mark = "from __future__ import annotations"
    return (b"".join(parts) + content[done:]).decode().replace(mark, f"{mark}; from guards_probe import {PROBE}", 1)


class _Finder(ast.NodeVisitor):
    """Walks the tree of one file."""

    def __init__(self, text: str, name: str) -> None:
        self.source = Source(text)
        self.found: list[Guard] = []
        self._name = name
        self._scope: list[str] = []
        self._handled: set[ast.stmt] = set()

    def _add(self, node: ast.AST, kind: str, text: str, deletion: tuple[Edit, ...], probe: tuple[Edit, ...]) -> None:
        line = getattr(node, "lineno", 0)
        self.found.append(Guard(self._name, line, kind, text, ".".join(self._scope), deletion, probe))

    def _text(self, begin: int, end: int) -> str:
        return " ".join(self.source.raw[begin:end].decode().split())

    def _wrap(self, node: ast.expr, kind: str, *, refuses: bool) -> None:
        """An expression that refuses when it is `refuses`: it never is."""
        begin, end = self.source.span(node)
        never = " and False)" if refuses else " or True)"
        probe = (f"{PROBE}({{}}, (", "))") if refuses else (f"(not {PROBE}({{}}, not (", ")))")
        self._add(
            node, kind, self._text(begin, end), (Edit(begin, begin, "(("), Edit(end, end, f"){never}")),
            (Edit(begin, begin, probe[0]), Edit(end, end, probe[1])),
        )  # fmt: skip

    def _before(self, node: ast.stmt) -> tuple[Edit, ...]:
        begin, _ = self.source.span(node)
        return (Edit(begin, begin, f"{PROBE}({{}})\n{' ' * node.col_offset}"),)

    def _drop(self, node: ast.stmt, kind: str) -> None:
        begin, end = self.source.span(node)
        probe, indent = self._before(node), " " * node.col_offset
        if kind == "call":  # what it calls refuses
            tail = f"\n{indent}except BaseException:\n{indent} {PROBE}({{}})\n{indent} raise"
            probe = (Edit(begin, begin, f"try:\n{indent} "), Edit(end, end, tail))
        self._add(node, kind, self._text(begin, end), (Edit(begin, end, "pass"),), probe)

    # What is a guard

    def _is_predicate(self) -> bool:
        return bool(self._scope) and _PREDICATE.fullmatch(self._scope[-1]) is not None

    def _refuses(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Return) and self._is_predicate():
            return isinstance(node.value, ast.Constant) and node.value.value is False
        if not isinstance(node, ast.Raise) or node.exc is None:
            return False
        made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return not isinstance(made, ast.Name) or made.id not in _NO_REFUSAL

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._scope.append(node.name)
        self.generic_visit(node)
        self._scope.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.append(node.name)
        self.generic_visit(node)
        self._scope.pop()

    def visit_If(self, node: ast.If) -> None:
        if self._refuses(node.body[-1]):
            self._handled.add(node.body[-1])
            if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.Or):
                for part in node.test.values:  # a test that misses one misses all of them together
                    self._wrap(part, "or", refuses=True)
            else:
                self._wrap(node.test, "if", refuses=True)
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if self._is_predicate() and node.value is not None:
            for part in ast.walk(node.value):
                if isinstance(part, ast.BoolOp) and isinstance(part.op, ast.And):
                    for operand in part.values:
                        self._wrap(operand, "and", refuses=False)
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._handled.update(node.body)
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type] if node.type else []
        for kind in kinds:
            begin, end = self.source.span(kind)
            last = self.source.span(node.body[-1])
            text = f"except {self._text(begin, end)}: {self._text(self.source.span(node.body[0])[0], last[1])}"
            # A class that nothing raises here
            self._add(kind, "except", text, (Edit(begin, end, "StopAsyncIteration"),), self._before(node.body[0]))
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        if node not in self._handled and self._refuses(node):
            self._drop(node, "raise")

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            called = node.value.func
            name = (
                called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
            )
            if _CHECKS.fullmatch(name):
                self._drop(node, "call")
        self.generic_visit(node)

    # Protections that are no refusals

    def add_mark(self, line: int, name: str, mark: Mark) -> None:
        """A marked statement."""
        scope, inner, outer = self._innermost(line)
        if inner is None or outer is None:
            raise ValueError(f"{self._name}:{line}, guard: {name}: it is in no function")
        try:
            deletion = (mark.change(Marked(self.source, inner)),)
        except ValueError as error:
            raise ValueError(f"{self._name}:{line}, guard: {name}: {error}") from error
        self.found.append(Guard(self._name, line, "mark", f"{name}: {mark.why}", scope, deletion, self._before(outer)))

    def _innermost(self, line: int) -> tuple[str, ast.stmt | None, ast.stmt | None]:
        """The function at a line, the statement, and the one that something may stand before; None out of functions."""
        scope, function, inner, outer = list[str](), False, None, None
        found: list[ast.AST] = [self.source.tree]
        while found:
            node = found[0]
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                scope.append(node.name)
                function |= isinstance(node, ast.FunctionDef)
            elif function and isinstance(node, ast.stmt):
                inner = node
                outer = outer if self.source.raw.startswith(b"elif", self.source.span(node)[0]) else node
            found = [child for child in self._blocks(node) if child.lineno <= line <= (child.end_lineno or 0)]
        return ".".join(scope), inner, outer

    def _blocks(self, node: ast.AST) -> Iterator[ast.stmt]:
        """The statements right inside of a node."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                yield child
            elif isinstance(child, ast.excepthandler | ast.match_case):
                yield from self._blocks(child)
