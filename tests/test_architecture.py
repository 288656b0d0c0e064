"""The rules of the house: which way imports go, how long things are, what is never written, what is never loaded."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import bertconv
from bertconv.containers.registry import CONTAINERS
from bertconv.families import families
from bertconv.mapping.dialects import load_dialects
from bertconv.table_files import table_names

PACKAGE = Path(bertconv.__file__).parent
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

LAYERS = (
    {"arguments", "errors", "likeness", "progress", "records", "text", "tasks", "warn"},
    {"families", "presets", "table_files"},
    {"containers"},
    {"config"},
    {"source"},
    {"config_hub"},
    {"tokenizer"},
    {"mapping"},
    {"formats"},
    {"checkpoint", "derive", "digests", "manifest", "modules", "parts", "preset_files", "record", "report", "saving"},
    {"models"},
    {"verify"},
    {"convert", "inspection", "verification", "manage"},
    {"catalog"},
    {"fleet"},
    {"testing"},
    {"cli", "pytest_plugin"},
    {"__main__"},
)  # fmt: skip
"""A part may import its own layer and those before it."""

FRAMEWORKS = (
    "tensorflow", "torch", "keras", "transformers", "numpy", "h5py", "huggingface_hub", "sqlalchemy", "psycopg",
)  # fmt: skip
FOLDERS: dict[str, list[Path]] = {}
for _file in FILES:
    FOLDERS.setdefault(_file.parts[0] if len(_file.parts) > 1 else "bertconv", []).append(_file)


def in_each(check: Callable[[Path], None]) -> Callable[[str], None]:
    """A test of every folder's files: a test for each of them took longer to begin and end than to look."""

    @pytest.mark.parametrize("folder", FOLDERS)
    @functools.wraps(check)
    def of_folder(folder: str) -> None:
        wrong = {}
        for file in FOLDERS[folder]:
            try:
                check(file)
            except AssertionError as error:
                wrong[file.as_posix()] = str(error)
        assert not wrong, "\n".join(f"{file}: {words}" for file, words in wrong.items())

    del of_folder.__wrapped__  # pytest would look for its arguments there
    return of_folder


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text())


@cache
def nodes(file: Path) -> list[ast.AST]:
    return list(ast.walk(tree(file)))


def module(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(("bertconv", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@cache
def imports(file: Path) -> list[str]:
    """Full names of the modules that a file imports anywhere, functions included, what only types need aside."""
    aside = {inner for node in nodes(file) if is_for_types(node) for inner in ast.walk(node)}
    found = []
    for node in (node for node in nodes(file) if node not in aside):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.append(inner if is_module(inner) else node.module or "")
    return found


@cache
def is_module(name: str) -> bool:
    place = PACKAGE.parent.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def part(name: str) -> str | None:
    """The part of the package that a module is in; None for the package itself and for others."""
    parts = name.split(".")
    return parts[1] if parts[0] == "bertconv" and len(parts) > 1 else None


def layer(name: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if name in parts)


@in_each
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


@in_each
def test_files_are_short(file: Path) -> None:
    assert len((PACKAGE / file).read_text().splitlines()) <= 400


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the statements; signature and docstring are for the reader."""
    first = function.body[ast.get_docstring(function) is not None :]
    return function.end_lineno - first[0].lineno + 1 if first else 0


@in_each
def test_functions_are_short(file: Path) -> None:
    functions = [node for node in nodes(file) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {node.name: lines for node in functions if (lines := body_lines(node)) > 50} == {}


def test_files_of_tests_have_names_of_their_own() -> None:
    """pytest imports them by their names alone: of two alike it collects one, and fails."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()


@in_each
def test_nothing_is_asserted(file: Path) -> None:
    assert [node.lineno for node in nodes(file) if isinstance(node, ast.Assert)] == []


OUTERMOST = {
    "cli/main.py": "a command reports a bug with its trace",
    "fleet/engines/ray.py": "Ray's start raises bare exceptions: tried again, or told with the cause",
    "fleet/work.py": "a worker reports a bug in one item with its trace, and does the next",
}
"""Files that may catch any exception, in their outermost frame -> why."""


@in_each
def test_no_exception_is_caught_wholesale(file: Path) -> None:
    broad = []
    for node in nodes(file):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {ast.unparse(kind) if kind else "everything" for kind in kinds}
            is_cleanup = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if names & {"everything", "Exception", "BaseException"} and not is_cleanup:
                broad.append(node.lineno)
    assert broad == [] or file.as_posix() in OUTERMOST


@in_each
def test_records_are_those_of_the_package(file: Path) -> None:
    """Frozen dataclasses of the standard library cost four times as much at every start; only they can have slots."""
    imported = {
        name.asname or name.name
        for node in nodes(file)
        if isinstance(node, ast.ImportFrom) and node.module == "dataclasses"
        for name in node.names
    }
    made = [ast.unparse(one) for node in nodes(file) if isinstance(node, ast.ClassDef)
            for one in node.decorator_list]  # fmt: skip
    assert not ("dataclass" in imported and "dataclass(frozen=True)" in made)


@in_each
def test_modules_say_what_they_are(file: Path) -> None:
    empty = not (PACKAGE / file).read_text().strip()
    assert (empty and file.name == "__init__.py") or ast.get_docstring(tree(file))


@pytest.mark.parametrize("name", ["bertconv", "bertconv.cli", "bertconv.cli.main", "bertconv.mapping.planner"])
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


# Names of families, dialects and containers stand in the files that own them


FAMILY_NAMES = {name for one in families().values() for name in (one.model_type, one.prefix)}
FAMILY = re.compile(rf"(?<![A-Za-z])(?:TF)?({'|'.join(sorted(FAMILY_NAMES, key=len, reverse=True))})(?![a-z])")
"""A family's name in a literal, alone or as a part: "bert", "bert.encoder", "TFBertModel", "rust-bert"."""
DIALECT_NAMES = frozenset(load_dialects().by_name)
CONTAINER_NAMES = frozenset(container.name for container in CONTAINERS)
FAMILY_FILES = ("models/families/*.py", "verify/reference/families/*.py")
OWN_LINES, WITH_ATTENTION = 250, {"albert": 400, "mpnet": 400}
"""Most lines of a family's own Python, and of those with an attention or an order of layers of their own."""

OWNERS = (
    *((file, "family", "they are the family") for file in FAMILY_FILES),
    ("__init__.py", "family", "the public names"),
    ("config/classes.py", "family", "one thin config class for each model type"),
    ("config/__init__.py", "family", "the same classes, by the name of the package"),
    ("containers/**/*.py", "container", "they are the containers"),
)
"""Files, what they may name, and why."""

MODULE = "the module that Python imports, not the container"
TOKENIZER = "what the tokenizers library calls its classes and sentence-transformers its files"
USER = "a format or a dialect that users type; every command and function has its own default"
EXAMPLE = "an example in a text for users"
EXCEPTIONS = {
    ("cli/convert.py", "pt"): USER, ("cli/convert.py", "tf"): USER, ("convert.py", "tf"): USER,
    ("cli/demo.py", "pt"): USER, ("cli/demo.py", "tf"): USER,
    ("models/saving.py", "tf"): USER, ("models/pretrained.py", "tf"): "what transformers' classes say of themselves",
    ("containers/bundle/__init__.py", "bert"): "bert_model.ckpt, what Google calls the files of a checkpoint",
    ("mapping/identify.py", "bert"): "bert4keras and keras-bert, the names of other programs",
    ("mapping/evidence.py", "tf"): "what classes of TensorFlow begin with, not the dialect",
    ("cli/options.py", "roberta"): EXAMPLE, ("cli/verify.py", "roberta"): EXAMPLE,
    ("cli/parts.py", "Bert"): EXAMPLE,
    ("config/auto.py", "Bert"): EXAMPLE,
    ("models/auto.py", "Bert"): EXAMPLE, ("arguments.py", "Bert"): EXAMPLE,
    ("models/optimization.py", "bert"): EXAMPLE,
    ("table_files.py", "bert"): EXAMPLE, ("table_files.py", "Bert"): EXAMPLE,
    ("config/content.py", "bert"): "bert_config.json, Google's name of a config file",
    ("config/content.py", "albert"): "albert_config.json, Google's name of a config file",
    ("source/sidecars.py", "bert"): "bert_config.json and sentence_bert_config.json, names of files",
    ("source/module_settings.py", "bert"): TOKENIZER, ("tokenizer/files.py", "bert"): TOKENIZER,
    ("tokenizer/rules.py", "Bert"): TOKENIZER,
    ("source/refusals.py", "bert"): "rust-bert, the name of another program",
    **dict.fromkeys(
        (("manage/doctor/programs.py", name) for name in ("bert", "roberta", "xlm-roberta", "distilbert", "albert")),
        "the families that KerasHub loads",
    ),
    ("models/serving.py", "onnx"): "what Keras calls the kind of its export",
    ("models/inputs.py", "torch"): MODULE, ("modules.py", "torch"): MODULE, ("verify/compare.py", "torch"): MODULE,
    ("verify/output_causes.py", "torch"): MODULE, ("verify/torch_runner.py", "torch"): MODULE,
}  # fmt: skip
"""File and the name that it may hold -> why that cannot be asked of the registry, the table or the dialect."""


def literals(file: Path) -> Iterator[str]:
    """The strings of a file, without its docstrings."""
    aside = {
        statement.value
        for node in nodes(file)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in node.body
        if isinstance(statement, ast.Expr)
    }
    for node in nodes(file):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in aside:
            yield node.value


def names_in(literal: str) -> set[tuple[str, str]]:
    """Kind and name of what a literal names: families anywhere in it, a dialect or a container alone."""
    found = {("family", name) for name in FAMILY.findall(literal)}
    return found | {(kind, literal) for kind, names in (("dialect", DIALECT_NAMES), ("container", CONTAINER_NAMES))
                    if literal in names}  # fmt: skip


def foreign_names() -> set[tuple[str, str]]:
    """File and name, where the file does not own what it names."""
    found = set()
    for file in FILES:
        own = {kind for place, kind, _ in OWNERS if (PACKAGE / file) in PACKAGE.glob(place)}
        names = set().union(*map(names_in, literals(file)))
        found |= {(file.as_posix(), name) for kind, name in names if kind not in own}
    return found


def test_names_stand_in_the_files_that_own_them() -> None:
    """A new family, dialect or container is one file more, not a line in forty: ask the registry, table or dialect."""
    assert foreign_names() - set(EXCEPTIONS) == set()


def test_no_exception_is_left_over() -> None:
    assert set(EXCEPTIONS) - foreign_names() == set()


@pytest.mark.parametrize(
    ("literal", "names"),
    [("bert", {"bert"}), ("bert.encoder", {"bert"}), ("TFXLMRobertaModel", {"XLMRoberta"}), ("rust-bert", {"bert"}),
     ("xlm-roberta", {"xlm-roberta"}), ("bertconv", set()), ("pt", {"pt"}), ("pt2tf", set()), ("hdf5", {"hdf5"}),
     ("in torch", set()), ("albertine", set())],
)  # fmt: skip
def test_a_name_is_seen(literal: str, names: set[str]) -> None:
    assert {name for _, name in names_in(literal)} == names


@pytest.mark.parametrize("stem", table_names())
def test_a_familys_own_code_is_short(stem: str) -> None:
    files = [
        PACKAGE / "models" / "families" / f"{stem}.py",
        PACKAGE / "verify" / "reference" / "families" / f"{stem}.py",
    ]
    lines = sum(len(file.read_text().splitlines()) for file in files)
    assert lines <= WITH_ATTENTION.get(stem, OWN_LINES)
