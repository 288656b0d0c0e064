"""Processes in which TensorFlow, Keras or the environment are not as needed, and what an import brings in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bertconv

HIDDEN = """
import sys
from importlib.machinery import PathFinder

class Hidden(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in NAMES else super().find_spec(name, path, target)

sys.meta_path = [Hidden if finder is PathFinder else finder for finder in sys.meta_path
                 if "editable" not in str(finder).lower()]
"""
"""Run first: the modules called NAMES are not installed."""

USE = "from bertconv import TFBertModel; print(TFBertModel.__name__)"


def run(code: str, *hidden: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own; an empty variable is taken out of the environment."""
    before = HIDDEN.replace("NAMES", repr(hidden)) if hidden else ""
    mixed = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "", "KERAS_BACKEND": "", **environment}
    root = str(Path(bertconv.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", before + code], capture_output=True, text=True, check=False, cwd=root,
        stdin=subprocess.DEVNULL, env={name: value for name, value in mixed.items() if value},
    )  # fmt: skip


def last_lines(text: str, count: int) -> list[str]:
    return text.strip().splitlines()[-count:]


def test_keras_2_is_one_sentence() -> None:
    """tf_keras is not installed here, and is not asked for: what counts is what the user said."""
    code = """
import os, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import bertconv
    from bertconv import TFBertModel, TFBertForMaskedLM, TFAutoModel
    import keras
    model = TFBertModel(dict(vocab_size=11, hidden_size=6, num_attention_heads=2, num_hidden_layers=1,
                             intermediate_size=5))
    model([[1, 2]])
found = [str(each.message) for each in caught if "TF_USE_LEGACY_KERAS" in str(each.message)]
assert len(found) == 1, found
assert isinstance(model, keras.Model)
assert os.environ["TF_USE_LEGACY_KERAS"] == "True"
print(found[0])
"""
    done = run(code, TF_USE_LEGACY_KERAS="True")
    assert done.returncode == 0, done.stderr
    (sentence,) = done.stdout.strip().splitlines()
    assert "unset the variable" in sentence
    assert "  " not in sentence
    assert sentence.count(". ") == 0
    assert sentence.endswith(".")


@pytest.mark.parametrize(("backend", "first"), [("torch", ""), ("torch", "import keras; "), ("jax", "")])
def test_another_backend(backend: str, first: str) -> None:
    """Also where the backend is not installed."""
    done = run(first + USE, KERAS_BACKEND=backend)
    assert done.returncode == 1
    sentence = f"Keras runs on {backend} in this process, and the TF classes need TensorFlow."
    assert last_lines(done.stderr, 2) == [
        f"bertconv.errors.UnsupportedRuntime: {sentence}",
        "Set KERAS_BACKEND=tensorflow before keras is imported.",
    ]


def test_old_keras() -> None:
    code = """
import importlib.machinery, sys, types
keras = sys.modules["keras"] = types.ModuleType("keras")
keras.__spec__, keras.__version__ = importlib.machinery.ModuleSpec("keras", None), "2.15.0"
"""
    done = run(code + USE)
    assert last_lines(done.stderr, 2) == [
        "bertconv.errors.UnsupportedRuntime: Keras 2.15.0 is installed, and the TF classes need Keras 3.",
        "Upgrade: `pip install --upgrade 'bertconv[tf]'`.",
    ]


def test_without_tensorflow() -> None:
    done = run(USE, "tensorflow")
    assert done.returncode == 1
    assert last_lines(done.stderr, 2) == [
        "bertconv.errors.UnsupportedRuntime: TensorFlow is not installed, and the TF classes are built on it.",
        "Install it: `pip install 'bertconv[tf]'`.",
    ]


def test_without_keras() -> None:
    """TensorFlow without it is an installation that someone cut."""
    done = run(USE, "keras")
    assert done.returncode == 1
    assert last_lines(done.stderr, 2) == [
        "bertconv.errors.UnsupportedRuntime: Keras is not installed, and the TF classes are built on it.",
        "Install it: `pip install 'bertconv[tf]'`.",
    ]


NEED_TENSORFLOW = (
    "AdamWeightDecay", "ModelOutput", "WarmUp", "create_optimizer", "get_initializer", "get_tf_activation",
    "shape_list", "unpack_inputs",
)  # fmt: skip
"""Public names that need it, beside those that begin with TF."""


def test_every_public_name_without_tensorflow() -> None:
    """Those that need no framework are there; the others are an ImportError, which programs catch, each time."""
    code = """
import bertconv
for name in [*bertconv.__all__, *bertconv.__all__]:
    try:
        exec(f"from bertconv import {name}")
        print(name, "is there")
    except ImportError as error:
        assert str(error).splitlines() == ["TensorFlow is not installed, and the TF classes are built on it.",
                                           "Install it: `pip install 'bertconv[tf]'`."], error
        print(name, "needs TensorFlow")
"""
    done = run(code, "tensorflow", "keras", "torch", "transformers")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    for line in lines:
        needs = line.startswith(("TF", *NEED_TENSORFLOW))
        assert line.endswith("needs TensorFlow" if needs else "is there"), line


def test_names_that_are_looked_for_without_tensorflow() -> None:
    """One that needs it exists all the same, and says so; one that does not exist is Python's own business."""
    code = """
import bertconv
assert not hasattr(bertconv, "TFBertModl")
assert hasattr(bertconv, "BertConfig")
try:
    hasattr(bertconv, "TFBertModel")
except ImportError as error:
    assert isinstance(error, bertconv.BertconvError) and error.exit_code == 6, error
else:
    raise SystemExit("TFBertModel was found without TensorFlow")
try:
    from bertconv import TFBertModl
except ImportError as error:
    print(error)
bertconv.TFBertModl
"""
    done = run(code, "tensorflow", "keras", "torch", "transformers")
    assert done.stdout.startswith("cannot import name 'TFBertModl' from 'bertconv'"), done.stderr
    assert "has no attribute 'TFBertModl'. Did you mean: 'TFBertModel'?" in last_lines(done.stderr, 1)[0]


LOADED = """
import sys
def loaded(watched):
    return sorted({name.partition(".")[0] for name in sys.modules} & set(watched.split()))
"""
FRAMEWORKS = "tensorflow keras tf_keras torch transformers jax h5py datasets"


@pytest.mark.parametrize("code", ["", "from bertconv import BertConfig, convert_checkpoint; import bertconv.cli"])
def test_imports_without_frameworks(code: str) -> None:
    """`import bertconv` costs nothing: not even numpy, click or rich."""
    watched = FRAMEWORKS if code else f"{FRAMEWORKS} numpy click rich safetensors huggingface_hub"
    done = run(f"import bertconv; dir(bertconv)\n{code}\n{LOADED}\nprint(loaded({watched!r}))")
    assert done.stdout == "[]\n", done.stderr


def test_the_classes_bring_in_tensorflow_and_keras_alone() -> None:
    """h5py comes with Keras itself, whatever we do; no other framework comes at all, not even to train and save."""
    code = f"""
import keras, tensorflow
alone = loaded({FRAMEWORKS!r})
from bertconv import {", ".join(name for name in bertconv.__all__ if name != "__version__")}
assert loaded({FRAMEWORKS!r}) == alone, loaded({FRAMEWORKS!r})
import tempfile
import numpy as np
folder = tempfile.mkdtemp()
keras.config.set_floatx("float64")  # which counts until somebody asks for Keras's global policy: no import does
model = TFBertForSequenceClassification(dict(vocab_size=11, hidden_size=6, num_attention_heads=2, num_hidden_layers=1,
                                             intermediate_size=5))
assert model.weights[0].dtype == "float64", model.weights[0].dtype
model.compile("adam")
model.fit({{"input_ids": [[1, 2], [3, 4]]}}, np.array([0, 1]), verbose=0)
model.save_pretrained(folder)
TFAutoModelForSequenceClassification.from_pretrained(folder)
print(*loaded("torch transformers tf_keras jax datasets"), *{{"tensorflow", "keras"}} - set(alone))
"""
    done = run(LOADED + code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_keras_imported_first_or_last() -> None:
    """Neither the environment nor keras.config is touched by the import; the backend is that which was loaded."""
    code = """
import os
before = {**os.environ, "KERAS_BACKEND": "torch"}
import keras
os.environ["KERAS_BACKEND"] = "torch"  # which says nothing once Keras is there
keras.config.set_floatx("float64")
keras.config.set_epsilon(1e-5)
def state():
    each = keras.config
    return each.floatx(), each.epsilon(), each.image_data_format(), each.backend(), each.dtype_policy().name
found = state()
from bertconv import TFBertModel
assert state() == found
import tensorflow as tf
assert tf.keras.Model is keras.Model
changed = {name for name in {**before, **os.environ} if before.get(name) != os.environ.get(name)}
assert not {name for name in changed if "KERAS" in name}, changed
print("fine")
"""
    done = run(code, TF_USE_LEGACY_KERAS="0")
    assert "Warning" not in done.stderr
    assert done.stdout == "fine\n", done.stderr
