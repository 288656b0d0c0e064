"""load_weights and save_weights as programs for transformers 4 call them, beside Keras's own files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import checkpoints as cp
import h5py
import keras
import numpy as np
import pytest
import tiny_models as tiny

from bertconv import TFBertForTokenClassification
from bertconv.errors import BertconvError, MissingTensors, OutputError, RequestError, ShapeMismatch
from bertconv.models.variables import named_variables

pytestmark = pytest.mark.filterwarnings(  # Keras 3.15 and TensorFlow 2.21 on NumPy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

FILES = {
    "h5": "tf_model.h5", "safetensors": "model.safetensors", "tf-safetensors": "model.safetensors",
    "bin": "pytorch_model.bin", "sharded": "model.safetensors.index.json",
    "sharded-bin": "pytorch_model.bin.index.json",
}  # fmt: skip
ONE = {"num_hidden_layers": 1}


def made(head: str, **changes: Any) -> Any:
    labels = 2 if head == "BertForQuestionAnswering" else cp.LABELS
    return tiny.tf_class(head)(tiny.config(head, **{"num_labels": labels, **ONE, **changes}))


def weights(model: Any) -> cp.Tensors:
    return {name: variable.numpy() for name, variable in named_variables(model).items()}


def checkpoint(folder: Path, head: str, container: str = "h5") -> tuple[Path, cp.Tensors]:
    """The folder, and what a model should hold afterwards."""
    changes = {**ONE, "labels": 2 if head == "BertForQuestionAnswering" else cp.LABELS}
    state = cp.state_dict(head, **changes)
    cp.save(folder, head, state, container, **changes)
    return folder, {name.removesuffix(":0"): value for name, value in cp.tf_state(state).items()}


@pytest.mark.parametrize(
    ("head", "container"),
    [*((head, "h5") for head in cp.HEADS), *(("BertForPreTraining", each) for each in FILES if each != "h5")],
)
def test_files_of_transformers(tmp_path: Path, head: str, container: str) -> None:
    folder, wanted = checkpoint(tmp_path, head, container)
    model = made(head)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.load_weights(str(folder / FILES[container]))
    cp.assert_same(weights(model), wanted)


@pytest.mark.parametrize("name", ["weights.hdf5", "epoch.03.h5", ""])
def test_any_name_and_folders(tmp_path: Path, name: str) -> None:
    """Reported by content; the config beside it is not needed."""
    folder, wanted = checkpoint(tmp_path, "BertForMaskedLM")
    (folder / "config.json").unlink()
    path = (folder / "tf_model.h5").rename(folder / name) if name else folder
    model = made("BertForMaskedLM")
    model.load_weights(path)
    cp.assert_same(weights(model), wanted)


def test_files_of_keras_stay_keras(tmp_path: Path) -> None:
    model, other = made("BertForMaskedLM"), made("BertForMaskedLM")
    for name in ("m.weights.h5", "m.keras"):
        (model.save if name == "m.keras" else model.save_weights)(tmp_path / name)
        other.set_weights([np.zeros_like(each) for each in other.get_weights()])
        other.load_weights(tmp_path / name)
        cp.assert_same(weights(other), weights(model))


def test_weights_that_the_file_lacks(tmp_path: Path) -> None:
    """Refused before anything is changed; with by_name they stay as they are, and a warning names them."""
    folder, wanted = checkpoint(tmp_path, "BertModel")
    model = made("BertForTokenClassification")
    before = weights(model)
    with pytest.raises(MissingTensors, match="lacks weights of TFBertForTokenClassification") as caught:
        model.load_weights(folder / "tf_model.h5")
    assert "classifier/kernel:0" in str(caught.value)
    assert "by_name=True" in caught.value.hint
    cp.assert_same(weights(model), before)
    with pytest.warns(UserWarning, match="left as they were, since the checkpoint lacks them"):
        model.load_weights(folder / "tf_model.h5", by_name=True)
    own = {name: value for name, value in before.items() if name.startswith("classifier")}
    cp.assert_same(weights(model), {name: value for name, value in wanted.items() if "pooler" not in name} | own)


@pytest.mark.parametrize(
    ("changes", "what"), [({"vocab_size": 103}, "vocab_size is 101, not 103"), ({"num_labels": 4}, "classifier"),
                          ({"intermediate_size": 41}, "intermediate")],
)  # fmt: skip
def test_other_sizes(tmp_path: Path, changes: dict[str, int], what: str) -> None:
    folder, wanted = checkpoint(tmp_path, "BertForTokenClassification")
    model = made("BertForTokenClassification", **changes)
    before = weights(model)
    with pytest.raises(ShapeMismatch, match=what) as caught:
        model.load_weights(folder / "tf_model.h5")
    assert "skip_mismatch=True" in caught.value.hint
    cp.assert_same(weights(model), before)
    with pytest.warns(UserWarning, match="left as they were, since their shapes differ"):
        model.load_weights(folder / "tf_model.h5", skip_mismatch=True)
    found = weights(model)
    kept = {name for name in found if found[name].shape != wanted[name].shape}
    assert kept
    cp.assert_same(found, {name: before[name] if name in kept else wanted[name] for name in found})


class Extended(TFBertForTokenClassification):
    """A user's class, whose own layer is not built before the first call."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.extra = keras.layers.Dense(3, name="extra")

    def call(self, input_ids: Any = None, token_type_ids: Any = None, training: bool = False) -> Any:
        return self.extra(super().call(input_ids, token_type_ids=token_type_ids, training=training).logits)


def test_layers_of_a_users_own(tmp_path: Path) -> None:
    settings = tiny.config("BertForTokenClassification", **ONE)
    model, other = Extended(settings), Extended(settings)
    model.save_pretrained(tmp_path)
    other.load_weights(tmp_path / "tf_model.h5")
    assert "extra/kernel" in weights(other)
    cp.assert_same(weights(other), weights(model))


def test_no_name_of_a_file() -> None:
    model = made("BertModel")
    for call in (model.load_weights, model.save_weights, model.save_pretrained):
        with pytest.raises(RequestError, match="is None"):
            call(None)


def test_no_such_file(tmp_path: Path) -> None:
    """A path is never taken for a Hub id."""
    for name in ("missing.h5", "org/name"):
        with pytest.raises(BertconvError, match="no such file"):
            made("BertModel").load_weights(name)
    with pytest.raises(RequestError, match="takes no objects_to_skip"):
        made("BertModel").load_weights(tmp_path / "tf_model.h5", objects_to_skip=[])


@pytest.mark.parametrize("head", ["BertForTokenClassification", "BertForPreTraining"])
@pytest.mark.parametrize(("name", "how"), [("x.h5", {}), ("run/x.hdf5", {}), ("x", {"save_format": "h5"})])
def test_save_weights_by_old_names(tmp_path: Path, head: str, name: str, how: dict[str, Any]) -> None:
    """One file and nothing beside it, laid out as Keras 2's, which h5py tells."""
    model, other = made(head), made(head)
    model.save_weights(tmp_path / name, **how)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    other.load_weights(str(tmp_path / name))
    cp.assert_same(weights(other), weights(model))
    with h5py.File(tmp_path / name) as file:
        assert "bert" in [layer.decode() for layer in file.attrs["layer_names"]]
        stored = [each.decode() for layer in file.attrs["layer_names"] for each in file[layer].attrs["weight_names"]]
    assert {*weights(model)} <= {each.partition("/")[2].removesuffix(":0") for each in stored}


def test_save_weights_of_a_users_own_layers(tmp_path: Path) -> None:
    class Own(TFBertForTokenClassification):
        def __init__(self, config: Any, **kwargs: Any) -> None:
            super().__init__(config, **kwargs)
            self.gate = keras.layers.Dense(2, name="gate")
            self.gate.build((None, 3))

    model, other = (Own(tiny.config("BertForTokenClassification", **ONE)) for _ in range(2))
    model.save_weights(tmp_path / "x.h5")
    other.load_weights(tmp_path / "x.h5")
    assert np.array_equal(other.gate.kernel, model.gate.kernel)
    cp.assert_same(weights(other), weights(model))


def test_save_weights_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_text("before")
    with pytest.raises(RequestError, match=r"x\.h5: is there already"):
        made("BertModel").save_weights(path, overwrite=False)
    assert path.read_text() == "before"
    model, other = made("BertModel"), made("BertModel")
    model.save_weights(path)
    other.load_weights(path)
    cp.assert_same(weights(other), weights(model))
    before = path.read_bytes()
    (tmp_path / "folder.h5").mkdir()
    for place in (path / "x.h5", tmp_path / "folder.h5"):
        with pytest.raises(OutputError, match="cannot be written"):
            model.save_weights(place)
    assert path.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == {"x.h5", "folder.h5"}


@pytest.mark.parametrize(
    ("name", "how"), [("weights", {}), ("model.keras", {}), ("x", {"save_format": "tf"}), ("x.h5", {"options": None})]
)
def test_save_weights_by_names_that_are_gone(tmp_path: Path, name: str, how: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        made("BertModel").save_weights(tmp_path / name, **how)
    if "options" not in how:
        assert caught.value.message == f"save_weights writes files called .weights.h5 or .h5, and not {name}."
        assert "save_pretrained" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
