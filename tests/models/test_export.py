"""Models for other runtimes: TensorFlow Lite, Keras's `export`, and SavedModels as layers."""

from __future__ import annotations

from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_models as tiny
from called_models import CLASSIFIER, NAMES, assert_close, make, tensors

import bertconv
from bertconv.errors import RequestError
from bertconv.models import serving

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")

LITE: dict[str, tuple[str, dict[str, Any]]] = {
    **{head: (head, {}) for head in tiny.HEADS},
    "every output": (
        "BertModel",
        {"output_hidden_states": True, "output_attentions": True, "position_embedding_type": "relative_key_query"},
    ),
}


def small(head: str, **changes: Any) -> Any:
    """One layer, and outputs about as large as 1, so that a difference of 1e-6 says something."""
    return make(head, **{"num_hidden_layers": 1, "initializer_range": 0.1, **changes})


def asked(head: str, length: int) -> dict[str, tf.Tensor]:
    """Inputs of which some are padded; ids of padding are none that are ignored, so only the mask hides them."""
    arrays = {name: value[..., :length].copy() for name, value in tiny.inputs(head).items()}
    arrays["attention_mask"][-1, ..., 2:] = 0
    arrays["input_ids"][arrays["attention_mask"] == 0] = 1
    return tensors(arrays)


def lite_answers(model: bytes, inputs: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """What the interpreter says; it gives its inputs these sizes first."""
    run = tf.lite.Interpreter(model_content=model).get_signature_runner("serving_default")
    return run(**{name: value.numpy() for name, value in inputs.items()})


def assert_lite(content: bytes, model: Any, head: str) -> None:
    """The same outputs for other lengths, by operations that every interpreter has, and none at hidden positions."""
    for length in (7, 4):
        inputs = asked(head, length)
        wanted = model.serving(inputs)
        found = lite_answers(content, inputs)
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            assert found[name].shape == value.shape
            assert np.abs(found[name] - value).max() < 1e-6, name
    unmasked = model.serving({**inputs, "attention_mask": tf.ones_like(inputs["attention_mask"])})
    assert max(float(tf.reduce_max(tf.abs(unmasked[name] - value))) for name, value in wanted.items()) > 1e-3


@pytest.mark.parametrize("case", LITE)
def test_saved_model_to_tensorflow_lite(tmp_path: Path, case: str) -> None:
    """The converter refuses operations that are not its own, as long as it is not stated otherwise.

    It reads one signature: the others of a SavedModel, each traced for itself, stand beside it in two cases.
    """
    head, changes = LITE[case]
    model = small(head, **changes)
    signatures = None if case in (CLASSIFIER, "every output") else {"serving_default": model._served(tf.int32)}
    model.save_pretrained(tmp_path, saved_model=True, signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved_model" / "1"), ["serving_default"])
    assert_lite(converter.convert(), model, head)


@pytest.mark.parametrize("rank", [2, 3, 4])
@pytest.mark.parametrize("is_decoder", [False, True], ids=["encoder", "decoder"])
def test_masks_in_tensorflow_lite(rank: int, is_decoder: bool) -> None:
    """No slice of booleans for a mask of any number of axes; see `mask_bias`."""
    shape = {2: [None, None], 3: [None, None, None], 4: [None, 1, None, None]}[rank]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.int32, name="mask")], autograph=False)
    def bias(mask: tf.Tensor) -> tf.Tensor:
        size = tf.shape(mask)[-1]
        return bertconv.models.attention.mask_bias(mask, "float32", "mask", (size, size), causal=is_decoder)

    content = tf.lite.TFLiteConverter.from_concrete_functions([bias.get_concrete_function()]).convert()
    mask = np.random.default_rng(rank).integers(0, 2, [3, *[5] * (rank - 1)]).astype(np.int32)
    mask = mask[:, :1] if rank == 4 else mask
    interpreter = tf.lite.Interpreter(model_content=content)
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, mask.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, mask)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(found, bias(tf.constant(mask)))


# export


KERAS_EXPORTS = pytest.mark.skipif(
    "input_signature" not in signature(keras.Model.export).parameters, reason="Keras before 3.8 takes no signature"
)


def before(model: Any) -> None:
    assert not model._called


def called(model: Any) -> None:
    model(tiny.inputs())


def fitted(model: Any) -> None:
    model.compile("sgd", metrics=["accuracy"])
    model.fit(tiny.inputs(), tiny.labels(CLASSIFIER), verbose=0)


def predicted(model: Any) -> None:
    model.predict(tiny.inputs(), verbose=0)


@KERAS_EXPORTS
@pytest.mark.parametrize("use", [before, called, fitted, predicted])
def test_export(tmp_path: Path, use: Any) -> None:
    model = small(CLASSIFIER)
    use(model)
    model.export(tmp_path / "out", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    inputs = asked(CLASSIFIER, 7)
    assert_close(loaded.serve(inputs)["logits"], model(inputs).logits)
    assert_close(loaded.signatures["serving_default"](**inputs)["logits"], model(inputs).logits)
    assert len(loaded.variables) == len(model.variables)


@KERAS_EXPORTS
@pytest.mark.parametrize("head", ["BertForMultipleChoice", "BertLMHeadModel"])
def test_export_of_outputs_of_every_layer(tmp_path: Path, head: str) -> None:
    model = small(head, output_hidden_states=True)
    model.export(str(tmp_path / "out"), format="tf_saved_model", verbose=False)
    inputs = asked(head, 7)
    loaded = tf.saved_model.load(str(tmp_path / "out"))  # whose variables live as long as it does
    found, wanted = loaded.serve(inputs), model.serving(inputs)
    assert set(found) == set(wanted)
    assert "hidden_states" in found
    for name, value in wanted.items():
        assert_close(found[name], value)


@KERAS_EXPORTS
def test_export_for_lite(tmp_path: Path) -> None:
    model = small(CLASSIFIER, output_hidden_states=True)
    model.export(tmp_path / "model.tflite", format="litert", verbose=False)
    assert_lite((tmp_path / "model.tflite").read_bytes(), model, CLASSIFIER)


@KERAS_EXPORTS
@pytest.mark.parametrize("is_packed", [False, True])
def test_export_with_a_signature(tmp_path: Path, is_packed: bool) -> None:
    """As Keras has it, a list of arguments; a dict alone is one argument."""
    model = small(CLASSIFIER)
    spec = tf.TensorSpec([None, 7], tf.int64, name="input_ids")
    model.export(tmp_path / "out", verbose=False, input_signature={"input_ids": spec} if is_packed else [spec])
    ids = tf.cast(asked(CLASSIFIER, 7)["input_ids"], tf.int64)
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    assert_close(loaded.serve({"input_ids": ids} if is_packed else ids)["logits"], model(ids).logits)


class Ranker(bertconv.TFBertPreTrainedModel):
    """A user's own head: no output object, and neither return_dict nor token types among its arguments."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.bert = bertconv.TFBertMainLayer(config, name="bert")
        self.score = keras.layers.Dense(1, name="score")

    def call(self, input_ids: Any = None, attention_mask: Any = None, training: bool = False) -> Any:
        return self.score(self.bert(input_ids, attention_mask, training=training).pooler_output)


@pytest.mark.parametrize("way", [pytest.param("export", marks=KERAS_EXPORTS), "save_pretrained"])
def test_class_of_the_user(tmp_path: Path, way: str) -> None:
    model = Ranker(tiny.config(num_hidden_layers=1))
    if way == "export":
        model.export(tmp_path / "saved_model" / "1", verbose=False)
    else:
        model.save_pretrained(tmp_path, saved_model=True)
    inputs = {name: value for name, value in asked(CLASSIFIER, 7).items() if name != "token_type_ids"}
    loaded = tf.saved_model.load(str(tmp_path / "saved_model" / "1"))
    assert_close(loaded.serve(inputs), model(inputs))
    assert_close(loaded.signatures["serving_default"](**inputs)["output_0"], model(inputs))


@KERAS_EXPORTS
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_export_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    wanted = serving.EXPORTED_WITH[form]
    monkeypatch.setattr(serving, "find_spec", lambda name: None if name in wanted else find_spec(name))
    with pytest.raises(RequestError, match=f"the format {form} needs {' and '.join(wanted)}") as caught:
        small(CLASSIFIER).export(tmp_path / "out", format=form)
    assert f"pip install {' '.join(wanted)}" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_export_with_an_old_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.Model, "export", lambda self, filepath, format="tf_saved_model": None)  # noqa: A006, ARG005
    with pytest.raises(
        RequestError, match=rf"Keras {keras.__version__} exports a model only as it was called"
    ) as caught:
        small(CLASSIFIER).export(tmp_path / "out")
    assert "saved_model=True" in caught.value.hint


# As a layer


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # TensorFlow's variables in Keras
@pytest.mark.parametrize("endpoint", ["serve", "serving_default", "int64_serving"])
def test_saved_model_in_a_functional_model(tmp_path: Path, endpoint: str) -> None:
    """Under the name that Keras's own message tells users to give, too; saved and loaded with the rest."""
    model = small(CLASSIFIER)
    model.export_saved_model(tmp_path / "served")
    kind = "int64" if "64" in endpoint else "int32"
    layer = keras.layers.TFSMLayer(str(tmp_path / "served"), call_endpoint=endpoint)
    given = {name: keras.Input((None,), dtype=kind, name=name) for name in NAMES}
    whole = keras.Model(given, layer(given)["logits"] * 2)
    inputs = {name: value.numpy().astype(kind) for name, value in asked(CLASSIFIER, 7).items()}
    assert_close(whole.predict(inputs, verbose=0), model(inputs).logits * 2)
    assert len(whole.weights) == len(model.weights)
    if "64" in endpoint:  # once will do
        return
    whole.save(tmp_path / "whole.keras")
    loaded = keras.models.load_model(tmp_path / "whole.keras", safe_mode=False)
    assert_close(loaded.predict(inputs, verbose=0), model(inputs).logits * 2)
