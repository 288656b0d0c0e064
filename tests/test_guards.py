"""Checks of the readers and the writer are deleted, and a test notices; `python -m qa.guards` does it with all of them.

BERTCONV_GUARDS_SEED=7 chooses other ones.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qa import ROOT
from qa.guards import changes, find, marks

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and descriptors of processes"),
]

SEED = os.environ.get("BERTCONV_GUARDS_SEED", "1")
SAMPLED = "containers/pytorch/calls.py"
QUICK = tuple(f"tests/formats/pytorch/test_{name}.py" for name in ("guards_pytorch", "holders", "hostile", "reader"))
"""Where the sample is taken, what a pickle may call: these tests are quick, and enough to miss each of its guards.

The other files' guards need tests of minutes, which run anyway: that they miss each guard, the campaign shows.
"""
GUARDS = find.find(ROOT)


def campaign(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qa.guards", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


# The guards of this repository


def test_a_sample_of_them_is_missed_when_it_is_gone() -> None:
    pytest.importorskip("torch")
    sample = ("--sample", "12", "--seed", SEED, "--only", SAMPLED)
    done = campaign(*sample, "--json", *(word for name in QUICK for word in ("--tests", name)))
    assert done.returncode == 0, f"python -m qa.guards {' '.join(sample)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    rows = json.loads(done.stdout)
    assert len(rows) == 12
    assert all(row["status"] == "killed" and row["by"] for row in rows)


def refuses(path: Path) -> bool:
    """Whether it raises anything of its own but what stops threads."""
    raised = [node.exc for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise) and node.exc]
    return any(word in ast.unparse(node) for node in raised for word in ("Error(", "Checkpoint(", "(file", "refuse"))


def test_every_file_that_refuses_something_has_guards() -> None:
    paths = {path.relative_to(ROOT).as_posix(): path for pattern in find.FILES for path in ROOT.glob(pattern)}
    lacking = {name for name, path in paths.items() if refuses(path)} - {guard.file for guard in GUARDS}
    assert not lacking
    assert len(GUARDS) > 400
    assert {guard.kind for guard in GUARDS} == {"if", "or", "and", "raise", "call", "except", "mark"}


def test_every_mark_has_a_change_and_every_change_is_marked_once() -> None:
    assert marks.unmatched(ROOT) == []
    marked = [guard.text.partition(":")[0] for guard in GUARDS if guard.kind == "mark"]
    assert sorted(marked) == sorted(marks.MARKS)


def test_every_guard_that_nothing_needs_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {path: path.read_text() for path in (ROOT / "bertconv").rglob("*.py")}
    kept = {(path.relative_to(ROOT).as_posix(), line) for path, text in texts.items() for line in marks.kept(text)}
    assert kept
    assert not kept & {(guard.file, guard.line) for guard in GUARDS}
    monkeypatch.setattr(find, "kept", lambda _: set())
    assert not kept - {(guard.file, guard.line) for guard in find.find(ROOT)}


@pytest.mark.parametrize("file", sorted({guard.file for guard in GUARDS}))
def test_a_deletion_and_the_probes_leave_a_program(file: str) -> None:
    source = (ROOT / file).read_text()
    own = [guard for guard in GUARDS if guard.file == file]
    compile(find.probed(source, list(enumerate(own))), file, "exec")
    for guard in own:
        changed = find.apply(source, guard.deletion)
        assert changed != source
        compile(changed, file, "exec")


# What is a guard, and what its deletion is


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if x > 1:\n    raise Bad", ["if ((x > 1) and False):\n    raise Bad"]),
        (
            "if x or y:\n    note()\n    raise bad(x)",
            [
                "if ((x) and False) or y:\n    note()\n    raise bad(x)",
                "if x or ((y) and False):\n    note()\n    raise bad(x)",
            ],
        ),
        ("if x:\n    a()\nelif y := z:\n    raise y", ["if x:\n    a()\nelif ((y := z) and False):\n    raise y"]),
        ("if x:\n    a()\nelse:\n    raise self.bad(x)", ["if x:\n    a()\nelse:\n    pass"]),
        ("match x:\n    case _:\n        raise Bad", ["match x:\n    case _:\n        pass"]),
        ("self.check_size(x)", ["pass"]),
        (
            "try:\n    a()\nexcept (KeyError, OSError) as e:\n    raise Bad from e",
            [
                "try:\n    a()\nexcept (StopAsyncIteration, OSError) as e:\n    raise Bad from e",
                "try:\n    a()\nexcept (KeyError, StopAsyncIteration) as e:\n    raise Bad from e",
            ],
        ),
        ("return x and y", []),
        ("raise AttributeError(x)", []),
        ("if x:\n    raise", []),
        ("if x:\n    return False", []),
    ],
)
def test_deletions(before: str, after: list[str]) -> None:
    def function(body: str, name: str = "f") -> str:
        return f"def {name}():\n" + "\n".join(f"    {line}" for line in body.splitlines())

    source = function(before)
    guards = find.find_in(source, "x.py", {})
    assert [find.apply(source, guard.deletion) for guard in guards] == [function(body) for body in after]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return x and y", ["return ((x) or True) and y", "return x and ((y) or True)"]),
        ("if x: return False", ["if ((x) and False): return False"]),
    ],
)
def test_deletions_in_what_answers_yes_or_no(before: str, after: list[str]) -> None:
    source = f"def is_sound():\n    {before}"
    guards = find.find_in(source, "x.py", {})
    assert [find.apply(source, guard.deletion).splitlines()[1].strip() for guard in guards] == after


MARKED = """
def f(path, wanted):
    if path.is_link() and wanted:  # why it is so; guard: one
        # guard: two
        return read(
            path,
            strict=True,  # guard: three, four
        )
    elif wanted:  # guard: five
        note()
        close(path)  # guard: six
    value = path if wanted else b":"  # guard: seven
    return path and not wanted  # guard: eight
"""


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("one", changes.never, "if False:"),
        ("one", changes.operand(1), "if path.is_link() and True:"),
        ("two", changes.replace("return 1"), "return 1"),
        ("three", changes.sub(r",\s*strict=\w+", ""), "path,  # guard: three, four"),
        ("four", changes.sub("True", "False"), "strict=False,"),
        ("five", changes.always, "elif True:"),
        ("six", changes.drop, "pass"),
        ("six", changes.before(1), "close(path)\n        note()"),
        ("seven", changes.first, "value = path"),
        ("seven", changes.last, 'value = b":"'),
        ("eight", changes.operand(0), "return True and not wanted"),
    ],
)
def test_changes_of_marked_statements(name: str, change: changes.Change, line: str) -> None:
    (guard,) = find.find_in(MARKED, "x.py", {name: marks.Mark(change, "gone")}, refusals=False)
    changed = find.apply(MARKED, guard.deletion)
    compile(changed, "x.py", "exec")
    compile(find.probed(MARKED, [(0, guard)]), "x.py", "exec")
    assert line in changed


@pytest.mark.parametrize(
    ("name", "change"),
    [("one", changes.first), ("two", changes.never), ("six", changes.before(2)), ("seven", changes.operand(0)),
     ("eight", changes.sub("nothing of the kind", ""))],
)  # fmt: skip
def test_a_statement_of_another_form_is_named(name: str, change: changes.Change) -> None:
    with pytest.raises(ValueError, match=f"x.py:.*guard: {name}: "):
        find.find_in(MARKED, "x.py", {name: marks.Mark(change, "gone")})


def test_marks_that_are_lost_doubled_or_unknown_are_told(tmp_path: Path) -> None:
    (tmp_path / "bertconv").mkdir()
    names = list(marks.MARKS)
    lines = [f"f()  # guard: {name}" for name in (*names[1:], names[1], "nobody")]
    (tmp_path / "bertconv/x.py").write_text("\n".join([*lines, "x = '# guard: text'", ""]))
    reported = marks.unmatched(tmp_path)
    assert sorted(text.split("`")[1] for text in reported) == sorted(
        f"guard: {name}" for name in (*names[:2], "nobody")
    )
    assert sum(text.count("x.py:") for text in reported) == 3


# The tool itself

PLANTED = '''"""Halves."""

from __future__ import annotations


def half(number):
    if number % 2:
        raise ValueError("odd")
    if number < 0:
        raise ValueError("negative")
    if number > 100:
        raise ValueError("large")
    return number // 2
'''
TESTS = """
import pytest
from bertconv.source.half import half

def test_odd():
    with pytest.raises(ValueError, match="odd"):
        half(3)

def test_negative():
    try:
        half(-2)
    except ValueError:
        pass

def test_red_anyway():
    with pytest.raises(ValueError, match="something"):
        half(200)
"""


def test_a_check_that_no_test_misses_is_found(tmp_path: Path) -> None:
    (tmp_path / "bertconv/source").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "bertconv/__init__.py").touch()
    (tmp_path / "bertconv/source/__init__.py").touch()
    (tmp_path / "bertconv/source/half.py").write_text(PLANTED)
    (tmp_path / "tests/test_half.py").write_text(TESTS)
    done = campaign("--root", str(tmp_path), "--json")
    assert done.returncode == 1, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert [(row["text"], row["status"]) for row in rows] == [
        ("number % 2", "killed"), ("number < 0", "survived"), ("number > 100", "unreached"),
    ]  # fmt: skip
    assert rows[0]["by"] == "tests/test_half.py::test_odd"


def test_what_hangs_is_ended(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from qa.guards.bench import in_fork; log = Path(sys.argv[1]);"
        "assert in_fork(lambda: time.sleep(60), log, 0.3) is None; assert in_fork(lambda: 7, log, 600.0) == 7"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "log")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
