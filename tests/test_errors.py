"""The tree of errors: what each also is, its exit code, and how it reads."""

from __future__ import annotations

import inspect
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv import errors
from bertconv.errors import BertconvError

TREE: dict[str, tuple[int, type[Exception], str]] = {
    "ParityError": (1, ValueError, "BertconvError"),
    "RequestError": (2, ValueError, "BertconvError"),
    "MissingPath": (2, OSError, "RequestError"),
    "MappingError": (3, ValueError, "BertconvError"),
    "MissingConfig": (3, OSError, "MappingError"),
    "MissingTensors": (3, KeyError, "MappingError"),
    "UnknownTensors": (3, KeyError, "MappingError"),
    "UnknownPrefix": (3, KeyError, "UnknownTensors"),
    "ShapeMismatch": (3, ValueError, "MappingError"),
    "TiedTensorsDiffer": (3, ValueError, "MappingError"),
    "AmbiguousHead": (3, ValueError, "MappingError"),
    "AmbiguousFamily": (3, ValueError, "MappingError"),
    "BadTable": (3, ValueError, "MappingError"),
    "UnsafeCheckpoint": (4, ValueError, "BertconvError"),
    "DamagedCheckpoint": (5, ValueError, "BertconvError"),
    "MissingFiles": (5, OSError, "DamagedCheckpoint"),
    "UnsupportedCheckpoint": (6, NotImplementedError, "BertconvError"),
    "UnsupportedModel": (6, ValueError, "UnsupportedCheckpoint"),
    "UnsupportedRuntime": (6, ImportError, "UnsupportedCheckpoint"),
    "OutputError": (7, OSError, "BertconvError"),
    "HubError": (8, OSError, "BertconvError"),
}
"""Name -> exit code, the built-in that a caller may catch, the parent."""

EVERY = pytest.mark.parametrize("name", TREE)


def test_the_tree_is_whole() -> None:
    classes = dict(inspect.getmembers(errors, inspect.isclass))
    assert set(classes) == {"BertconvError", *TREE}
    assert BertconvError.exit_code == 9


@EVERY
def test_each_error_is_its_built_in_and_has_its_code(name: str) -> None:
    code, built_in, parent = TREE[name]
    kind = getattr(errors, name)
    with pytest.raises(built_in) as caught:
        raise kind("is wrong.", hint="Fix it.", file="a.bin", tensor="b")
    assert kind.exit_code == caught.value.exit_code == code
    assert kind.__bases__[0].__name__ == parent
    assert isinstance(caught.value, BertconvError)
    assert inspect.getdoc(kind)


@EVERY
def test_the_picture_in_the_module_shows_it(name: str) -> None:
    code, built_in, parent = TREE[name]
    line = next(line for line in errors.__doc__.splitlines() if f"- {name}" in line)
    if built_in.__name__ not in {base.__name__ for base in getattr(errors, parent).__mro__}:
        assert f"({built_in.__name__})" in line
    if parent == "BertconvError":
        assert f" {code}  " in line


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ({}, "is wrong."),
        ({"file": "a.bin"}, "a.bin: is wrong."),
        ({"tensor": "x.y"}, "x.y: is wrong."),
        ({"file": "a.bin", "tensor": "x.y"}, "a.bin: x.y: is wrong."),
        ({"file": "", "tensor": ""}, "is wrong."),
        ({"hint": "Fix it."}, "is wrong.\nFix it."),
        ({"file": "a\nb\x1b[2J", "tensor": "\u202e"}, "a\\nb\\x1b[2J: \\u202e: is wrong."),
    ],
)
@EVERY
def test_the_text_names_file_tensor_and_hint(name: str, places: dict[str, str], text: str) -> None:
    assert str(getattr(errors, name)("is wrong.", **places)) == text


@EVERY
def test_the_json_says_the_same(name: str) -> None:
    error = getattr(errors, name)("is wrong.", hint="Fix it.", file="a\n.bin", tensor="x")
    facts = json.loads(json.dumps(error.to_json()))
    assert facts == {
        "code": TREE[name][0],
        "kind": name,
        "file": "a\n.bin",
        "tensor": "x",
        "message": "is wrong.",
        "hint": "Fix it.",
    }
    assert (getattr(errors, name)("is wrong.").to_json()["file"], error.exit_code) == (None, TREE[name][0])


@EVERY
def test_an_error_survives_the_way_between_processes(name: str) -> None:
    error = getattr(errors, name)("is wrong.", hint="Fix it.", file="a.bin", tensor="x")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@settings(deadline=None)
@given(st.text(), st.text())
def test_names_from_a_file_never_reach_the_terminal_as_they_are(file: str, tensor: str) -> None:
    text = str(BertconvError("is wrong.", file=file, tensor=tensor))
    assert text.isprintable()
    assert text.endswith("is wrong.")
