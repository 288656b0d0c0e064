"""The rules of the house: which way imports go, how long things are, what is never written, what is never loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import bertconv

PACKAGE = Path(bertconv.__file__).parent
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

LAYERS = (
    {"errors", "text", "report", "tasks"},
    {"families", "table_files"},
    {"config", "config_auto", "config_checks", "config_content"},
    {"source"},
    {"tokenizer"},
    {"mapping"},
    {"formats"},
    {"modules", "record", "saving"},
    {"models"},
    {"verify"},
    {"convert", "inspection", "verification"},
    {"testing"},
    {"cli", "pytest_plugin"},
)
"""A part may import its own layer and those before it."""

FRAMEWORKS = ("tensorflow", "torch", "keras", "transformers", "numpy", "h5py", "huggingface_hub")
EACH = pytest.mark.parametrize("file", FILES, ids=str)


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text())


def module(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(("bertconv", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(file: Path) -> Iterator[str]:
    """Full names of the modules that a file imports anywhere, functions included, what only types need aside."""
    aside = {inner for node in ast.walk(tree(file)) if is_for_types(node) for inner in ast.walk(node)}
    for node in (node for node in ast.walk(tree(file)) if node not in aside):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if is_module(inner) else node.module or ""


def is_module(name: str) -> bool:
    place = PACKAGE.parent.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def part(name: str) -> str | None:
    """The part of the package that a module is in; None for the package itself and for others."""
    parts = name.split(".")
    return parts[1] if parts[0] == "bertconv" and len(parts) > 1 else None


def layer(name: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if name in parts)


@EACH
def test_imports_go_one_way(file: Path) -> None:
    own = part(module(file))
    for name in imports(file):
        other = part(name)
        if other is not None and is_module(name):
            assert own is not None, f"the package itself imports {name}"
            assert layer(other) <= layer(own), f"{module(file)} imports {name}"


def test_imports_of_modules_make_no_circle() -> None:
    graph = {module(file): {name for name in imports(file) if part(name) and is_module(name)} for file in FILES}
    done: set[str] = set()
    while ready := {name for name, wants in graph.items() if name not in done and wants <= done | {name}}:
        done |= ready
    assert set(graph) - done == set()


def test_every_part_has_its_layer() -> None:
    parts = {found for file in FILES if (found := part(module(file)))}
    assert parts <= set().union(*LAYERS)


@EACH
def test_files_are_short(file: Path) -> None:
    assert len((PACKAGE / file).read_text().splitlines()) <= 400


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the statements; signature and docstring are for the reader."""
    first = function.body[ast.get_docstring(function) is not None :]
    return function.end_lineno - first[0].lineno + 1 if first else 0


@EACH
def test_functions_are_short(file: Path) -> None:
    functions = [node for node in ast.walk(tree(file)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {node.name: lines for node in functions if (lines := body_lines(node)) > 50} == {}


@EACH
def test_nothing_is_asserted(file: Path) -> None:
    assert [node.lineno for node in ast.walk(tree(file)) if isinstance(node, ast.Assert)] == []


@EACH
def test_no_exception_is_caught_wholesale(file: Path) -> None:
    broad = []
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {ast.unparse(kind) if kind else "everything" for kind in kinds}
            is_cleanup = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if names & {"everything", "Exception", "BaseException"} and not is_cleanup:
                broad.append(node.lineno)
    assert broad == [] or file == Path("cli/main.py")


@EACH
def test_modules_say_what_they_are(file: Path) -> None:
    empty = not (PACKAGE / file).read_text().strip()
    assert (empty and file.name == "__init__.py") or ast.get_docstring(tree(file))


@pytest.mark.parametrize("name", ["bertconv", "bertconv.cli", "bertconv.cli.main", "bertconv.mapping.plan"])
def test_importing_loads_no_framework(name: str) -> None:
    code = f"import sys, {name}; print(*sorted(sys.modules.keys() & set({FRAMEWORKS!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_public_names_are_importable() -> None:
    pytest.importorskip("tensorflow")
    names = getattr(bertconv, "__all__", [])
    assert sorted(set(names)) == sorted(names)
    assert all(getattr(bertconv, name) is not None for name in names)
    assert set(names) <= set(dir(bertconv))
    assert bertconv.__version__
