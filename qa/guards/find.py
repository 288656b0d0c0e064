"""Where the readers and the writer refuse something: found in their source, each with the edit that deletes it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qa.guards.marks import KEPT, TEXTS, Text

FILES = (
    "bertconv/text.py", "bertconv/config.py", "bertconv/config_checks.py", "bertconv/config_content.py",
    "bertconv/source/**/*.py", "bertconv/formats/**/*.py", "bertconv/saving.py", "bertconv/modules.py",
    "bertconv/tokenizer/**/*.py", "bertconv/convert.py", "bertconv/verify/certificate.py",
)  # fmt: skip
"""The readers and the writer."""

PROBE = "_guard_hit"
_NO_REFUSAL = {"_StoppedError", "StopRequested", "AttributeError"}
"""Raised to stop other threads, or because Python's protocols want it."""
_CHECKS = re.compile(r"_?(check|require|refuse|charge)(_\w+)?")
_PREDICATE = re.compile(r"_?is_(?!safetensors$|mistyped$)\w+")
"""Functions that say whether something is sound; those two only choose what to say of it."""


@dataclass(frozen=True)
class Edit:
    """Bytes of a source file that are replaced."""

    start: int
    end: int
    new: str


@dataclass(frozen=True)
class Guard:
    """One check.

    Attributes:
        file: relative to the repository.
        line: where it stands.
        kind: "if" (a condition), "or" (one of several alternatives), "and" (a part of what a predicate returns),
            "raise" (a branch that only refuses), "call" (of a check), "except" (an exception that is handled), "text"
            (a protection that is not a refusal, from `marks`).
        text: its source in one line.
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
    paths = sorted({path for pattern in FILES for path in root.glob(pattern)})
    names = [(path, path.relative_to(root).as_posix()) for path in paths]
    return [guard for path, name in names if only in name for guard in find_in(path.read_text(), name)]


def find_in(source: str, name: str, texts: Sequence[Text] = TEXTS) -> list[Guard]:
    """The guards of one file, but for those that are kept although nothing needs them."""
    finder = _Finder(source, name)
    finder.visit(finder.tree)
    for text in texts:
        if text.file == name and source.count(text.old) == 1:
            finder.add_text(text)
    found = [guard for guard in finder.found if not is_kept(guard)]
    return sorted(found, key=lambda guard: (guard.line, guard.deletion[0].start, -guard.deletion[-1].end))


def is_kept(guard: Guard) -> bool:
    """Whether it is one of those that nothing needs; an exception is told without what is done about it."""
    return (guard.file, guard.function, guard.text.partition(":")[0]) in KEPT


def stale(root: Path, texts: Sequence[Text] = TEXTS) -> list[str]:
    """Textual changes that do not fit exactly once, and what is out of date about them."""
    found = []
    for text in texts:
        count = (root / text.file).read_text().count(text.old) if (root / text.file).exists() else 0
        if count != 1:
            found.append(f"{text.file} holds it {count} times instead of once ({text.why}):\n{text.old}")
    return found


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

    def __init__(self, source: str, name: str) -> None:
        self.tree = ast.parse(source)
        self.found: list[Guard] = []
        self._source, self._name = source.encode(), name
        self._starts = [0]
        for line in self._source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._scope: list[str] = []
        self._handled: set[ast.stmt] = set()

    # Places

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        begin = self._starts[node.lineno - 1] + node.col_offset
        return begin, self._starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)

    def _add(self, node: ast.AST, kind: str, text: str, deletion: tuple[Edit, ...], probe: tuple[Edit, ...]) -> None:
        line = getattr(node, "lineno", 0)
        self.found.append(Guard(self._name, line, kind, text, ".".join(self._scope), deletion, probe))

    def _text(self, begin: int, end: int) -> str:
        return " ".join(self._source[begin:end].decode().split())

    def _wrap(self, node: ast.expr, kind: str, *, refuses: bool) -> None:
        """An expression that refuses when it is `refuses`: it never is."""
        begin, end = self._span(node)
        never = " and False)" if refuses else " or True)"
        probe = (f"{PROBE}({{}}, (", "))") if refuses else (f"(not {PROBE}({{}}, not (", ")))")
        self._add(
            node, kind, self._text(begin, end), (Edit(begin, begin, "(("), Edit(end, end, f"){never}")),
            (Edit(begin, begin, probe[0]), Edit(end, end, probe[1])),
        )  # fmt: skip

    def _before(self, node: ast.stmt) -> tuple[Edit, ...]:
        begin, _ = self._span(node)
        return (Edit(begin, begin, f"{PROBE}({{}})\n{' ' * node.col_offset}"),)

    def _drop(self, node: ast.stmt, kind: str) -> None:
        begin, end = self._span(node)
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
            begin, end = self._span(kind)
            last = self._span(node.body[-1])
            text = f"except {self._text(begin, end)}: {self._text(self._span(node.body[0])[0], last[1])}"
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

    def add_text(self, text: Text) -> None:
        """A textual change inside of a function."""
        begin = self._source.index(text.old.encode())
        scope, stmt = self._innermost(begin + len(text.old) - len(text.old.lstrip()))
        if stmt is None:
            raise ValueError(f"this is in no function of {self._name}: {text.old}")
        line = self._source.count(b"\n", 0, begin) + 1
        deletion = (Edit(begin, begin + len(text.old.encode()), text.new),)
        self.found.append(Guard(self._name, line, "text", text.why, scope, deletion, self._before(stmt)))

    def _innermost(self, at: int) -> tuple[str, ast.stmt | None]:
        """The function and the statement at an offset; no statement outside of functions."""
        scope, found = "", None
        node: ast.AST = self.tree
        while (inner := next(self._around(node, at), None)) is not None:
            node = inner
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                scope += f".{node.name}"
            elif (
                "." in scope
                and isinstance(node, ast.stmt)
                and not self._source.startswith(b"elif", self._span(node)[0])
            ):
                found = node
        return scope.lstrip("."), found

    def _around(self, node: ast.AST, at: int) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt | ast.expr):
                begin, end = self._span(child)
                if begin <= at < end:
                    yield child
            elif isinstance(
                child,
                ast.excepthandler | ast.match_case | ast.withitem | ast.comprehension | ast.keyword | ast.arguments,
            ):
                yield from self._around(child, at)
