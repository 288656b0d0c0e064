"""config_class and configs of the user's own: subclasses of transformers' config, and classes that only work like it.

The values are those of transformers 4.57.6: a model's config is the user's object, and comes back as one.
"""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_models as tiny
import torch
import transformers

import bertconv
from bertconv import BertConfig, TFBertForSequenceClassification, TFBertMainLayer, TFBertModel, TFBertPreTrainedModel
from bertconv.errors import RequestError

pytestmark = pytest.mark.filterwarnings(  # Keras 3.15 and TensorFlow 2.21 on NumPy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

SMALL = tiny.config(num_hidden_layers=1, num_labels=5)
IDS = np.array([[1, 2, 3], [4, 5, 6]])


class Theirs(transformers.BertConfig):
    """As users write it: a key and a method more."""

    model_type = "bert"

    def __init__(self, extra: int = 1, **keys: Any) -> None:
        super().__init__(**keys)
        self.extra = extra

    def twice(self) -> int:
        return 2 * self.extra


class Plain:
    """A class of no package, which is written and made as transformers' are; under a model type of its own."""

    model_type = "mine"

    def __init__(self, extra: int = 1, hidden_dropout_prob: float = 0.25, **keys: Any) -> None:
        self.extra, self.hidden_dropout_prob = extra, hidden_dropout_prob
        vars(self).update(keys)

    def twice(self) -> int:
        return 2 * self.extra

    def to_dict(self) -> dict[str, Any]:
        return {**copy.deepcopy(vars(self)), "model_type": self.model_type}

    @classmethod
    def from_dict(cls, keys: dict[str, Any]) -> Plain:
        return cls(**{key: value for key, value in keys.items() if key != "model_type"})


class OnBase(TFBertPreTrainedModel):
    config_class = Theirs

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.bert = TFBertMainLayer(config, name="bert")
        self.out = keras.layers.Dense(config.twice(), name="out")

    def call(self, input_ids: Any = None, attention_mask: Any = None, training: bool = False) -> Any:
        return self.out(self.bert(input_ids, attention_mask=attention_mask, training=training)[1])


class OnHead(TFBertForSequenceClassification):
    config_class: ClassVar[Any] = Theirs


class OnHeadPlain(TFBertForSequenceClassification):
    config_class: ClassVar[Any] = Plain


CLASSES = pytest.mark.parametrize("kind", [OnBase, OnHeadPlain], ids=lambda kind: kind.__name__)


def made(kind: Any, **keys: Any) -> Any:
    own = {key: value for key, value in SMALL.items() if key != "model_type"}
    return kind.config_class(**{**own, "extra": 3, **keys})


def scores(model: Any) -> np.ndarray:
    found = model(IDS)
    return np.asarray(found if isinstance(found, tf.Tensor) else found.logits)


@CLASSES
def test_the_users_object_is_the_models_config(kind: Any) -> None:
    config = made(kind)
    model = kind(config)
    assert model.config is model.bert.config is config
    assert isinstance(config, kind.config_class)
    assert type(config).__name__ == kind.config_class.__name__
    assert (config.twice(), config.max_length, config.is_decoder, config.hidden_size) == (6, 20, False, 35)
    assert not hasattr(config, "keys_to_ignore_at_inference")
    assert scores(model).shape == (2, 6 if issubclass(kind, OnBase) else 5)
    config.output_attentions = True
    assert len(model.bert(IDS).attentions) == 1


@CLASSES
def test_saved_and_back(kind: Any, tmp_path: Path) -> None:
    model = kind(made(kind))
    model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["extra"], written["model_type"]) == (3, kind.config_class.model_type)
    assert written["architectures"] == [kind.__name__]
    again, info = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert (info["missing_keys"], info["unexpected_keys"]) == ([], [])
    assert isinstance(again.config, kind.config_class)
    assert (again.config.twice(), again.config.num_labels, again.config.name_or_path) == (6, 5, str(tmp_path))
    np.testing.assert_array_equal(scores(again), scores(model))
    changed = kind.from_pretrained(tmp_path, output_attentions=True, max_length=7, task_specific_params={"a": 1})
    assert (changed.config.output_attentions, changed.config.max_length) == (True, 7)
    assert (changed.config.extra, changed.config.task_specific_params) == (3, {"a": 1})
    given = made(kind)
    assert kind.from_pretrained(tmp_path, config=given).config.twice() == 6
    with pytest.raises(RequestError, match="no argument extras"):
        kind.from_pretrained(tmp_path, extras=5)
    assert json.loads(again.config.to_bytes()) == {**written, "architectures": [kind.__name__]}


@pytest.mark.parametrize("kind", [OnHead, OnHeadPlain], ids=lambda kind: kind.__name__)
def test_a_checkpoint_that_knows_nothing_of_the_class(kind: Any, tmp_path: Path) -> None:
    """The user's defaults hold where the file says nothing, and are overridden as any key."""
    theirs = tiny.torch_model("BertForSequenceClassification", num_hidden_layers=1, num_labels=5)
    folder = tiny.save(theirs, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config["hidden_dropout_prob"]
    (folder / "config.json").write_text(json.dumps(config))
    model = kind.from_pretrained(folder, extra=4, dtype="float64")
    assert isinstance(model.config, kind.config_class)
    dropout = 0.25 if kind is OnHeadPlain else 0.1
    assert (model.config.twice(), model.config.hidden_dropout_prob, model.config.num_labels) == (8, dropout, 5)
    with torch.no_grad():
        wanted = theirs(torch.tensor(IDS)).logits.numpy()
    np.testing.assert_allclose(scores(model), wanted, rtol=1e-9, atol=1e-12)


@CLASSES
def test_from_config_of_an_object_and_of_keys(kind: Any) -> None:
    config = made(kind)
    assert kind.from_config(config).config is config
    model = kind.from_config({**SMALL, "model_type": kind.config_class.model_type, "extra": 4})
    assert (type(model.config).__name__, model.config.twice()) == (kind.config_class.__name__, 8)
    again = kind.from_config(json.loads(json.dumps(model.get_config())))
    assert (again.config.twice(), again.config.num_labels) == (8, 5)
    if kind is not OnBase:  # whose own lines ask the object for what only the class has
        ours = kind(BertConfig(**SMALL))
        assert (isinstance(ours.config, Plain), ours.config.twice(), ours.config.num_labels) == (True, 2, 5)


@pytest.mark.parametrize("kind", [Theirs, Plain])
def test_a_users_config_for_our_classes(kind: Any, tmp_path: Path) -> None:
    own = {key: value for key, value in SMALL.items() if key not in {"model_type", "vocab_size"}}
    config = kind(**own, vocab_size=101, extra=3)
    model = TFBertForSequenceClassification(config)
    assert model.config is config
    model.resize_token_embeddings(47)
    assert (model.config.vocab_size, model.config.twice(), model.bert.config is model.config) == (47, 6, True)
    model.save_pretrained(tmp_path)
    other = TFBertForSequenceClassification.from_pretrained(tmp_path, config=kind(**own, extra=4, vocab_size=47))
    assert (isinstance(other.config, kind), other.config.twice()) == (True, 8)
    np.testing.assert_array_equal(scores(other), scores(model))
    if kind is Theirs:
        plain = TFBertForSequenceClassification.from_pretrained(tmp_path)
        assert (type(plain.config), plain.config.extra) == (BertConfig, 3)
        auto = bertconv.TFAutoModelForSequenceClassification
        assert auto.from_pretrained(tmp_path, config=kind(**own, extra=4, vocab_size=47)).config.twice() == 8
        assert auto.from_config(kind(**own, vocab_size=7, extra=5)).config.twice() == 10


@pytest.mark.parametrize("kind", [OnHead, OnHeadPlain], ids=lambda kind: kind.__name__)
def test_copies_pickles_and_changes(kind: Any) -> None:
    config = kind(made(kind)).config
    for same in (copy.deepcopy(config), copy.copy(config), pickle.loads(pickle.dumps(config))):
        assert type(same) is type(config)
        assert (same == config, same.twice(), same.values["hidden_size"]) == (True, 6, 35)
        same.extra = 9
        assert (same != config, same.twice(), same.raw["extra"], config.extra) == (True, 18, 9, 3)
    config.hidden_dropout_prob = 0.5
    assert (config.values["hidden_dropout_prob"], config.to_dict()["hidden_dropout_prob"]) == (0.5, 0.5)
    assert made(kind) != config
    assert made(kind, hidden_dropout_prob=0.5) == config


def test_nonsense_leaves_the_users_object_as_it_was() -> None:
    config = made(OnHead, hidden_size=37)
    with pytest.raises(RequestError, match="hidden_size 37 is not a multiple"):
        OnHead(config)
    assert type(config) is Theirs


def test_transformers_own_class_as_config_class(tmp_path: Path) -> None:
    class OfTransformers(TFBertForSequenceClassification):
        config_class: ClassVar[Any] = transformers.BertConfig

    OfTransformers(transformers.BertConfig(**SMALL, extra=3)).save_pretrained(tmp_path)
    model = OfTransformers.from_pretrained(tmp_path, num_labels=5)
    assert isinstance(model.config, transformers.BertConfig)
    assert (model.config.extra, model.config.num_labels, model.config.max_length) == (3, 5, 20)
    model.config.num_labels = 3
    assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}


def test_an_object_of_transformers_becomes_one_of_ours() -> None:
    theirs = transformers.BertConfig(**SMALL, extra=3)
    model = TFBertModel(theirs)
    assert (type(model.config), model.config.extra, model.config.max_length) == (BertConfig, 3, 20)
    assert type(theirs) is transformers.BertConfig


def test_names_of_models_and_types(tmp_path: Path) -> None:
    model = TFBertModel(BertConfig(**SMALL))
    assert (model.name_or_path, model.config.name_or_path) == ("", "")
    model.save_pretrained(tmp_path)
    again = TFBertModel.from_pretrained(tmp_path, max_length=7)
    assert (again.name_or_path, again.config.name_or_path, again.config.max_length) == (str(tmp_path),) * 2 + (7,)
    assert TFBertModel(BertConfig(**SMALL, _name_or_path="x")).name_or_path == "x"
    assert [BertConfig(torch_dtype=one).dtype for one in (torch.float16, tf.float16)] == ["float16"] * 2


# generate


@pytest.fixture(scope="module")
def decoder() -> Any:
    keys = tiny.config("BertLMHeadModel", num_hidden_layers=1, initializer_range=0.5)
    return bertconv.TFBertLMHeadModel(BertConfig(**keys), dtype="float64")


def test_generate_goes_by_the_config(decoder: Any) -> None:
    before = decoder.config
    wanted = decoder.generate(IDS, max_length=6)
    how = {"do_sample": True, "temperature": 3.0, "top_k": 4, "top_p": 0.9}
    drawn = decoder.generate(IDS, max_length=6, seed=(1, 2), **how)
    assert (wanted.numpy() != drawn.numpy()).any()
    try:
        decoder.config = before.replace(max_length=6)
        np.testing.assert_array_equal(decoder.generate(IDS), wanted)
        assert decoder.generate(IDS, max_new_tokens=1).shape == (2, 4)
        assert decoder.generate(IDS, max_length=5).shape == (2, 5)
        decoder.config = before.replace(max_length=6, **how)
        np.testing.assert_array_equal(decoder.generate(IDS, seed=(1, 2)), drawn)
        np.testing.assert_array_equal(decoder.generate(IDS, do_sample=False), wanted)
    finally:
        decoder.config = before


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_beams", 4), ("repetition_penalty", 1.2), ("no_repeat_ngram_size", 3), ("min_length", 5),
     ("bad_words_ids", [[1]]), ("forced_eos_token_id", 3), ("return_dict_in_generate", True)],
)  # fmt: skip
def test_other_ways_of_decoding_are_not_passed_over(decoder: Any, key: str, value: Any) -> None:
    before = decoder.config
    try:
        decoder.config = before.replace(**{key: value})
        with pytest.raises(RequestError, match=f"the config asks for {key}="):
            decoder.generate(IDS, max_new_tokens=1)
        decoder.config = before.replace(early_stopping=True, length_penalty=2.0, bad_words_ids=None, num_beams=1)
        assert decoder.generate(IDS, max_new_tokens=1).shape == (2, 4)
    finally:
        decoder.config = before
