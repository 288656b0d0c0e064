"""Classes of the user's own that the automatic classes know: AutoConfig.register and TFAutoModel.register."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tiny_models as tiny
import transformers

from bertconv import (
    AutoConfig,
    BertConfig,
    TFAutoModel,
    TFAutoModelForMaskedLM,
    TFAutoModelForSequenceClassification,
    TFBertForSequenceClassification,
    TFBertModel,
    TFBertPreTrainedModel,
)
from bertconv.config import auto as config_auto
from bertconv.errors import RequestError, UnsupportedCheckpoint


class ReviewConfig(BertConfig):
    model_type = "reviews"


class TFReview(TFBertPreTrainedModel):
    """A head of the user's own."""

    config_class = ReviewConfig

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.make_body(add_pooling_layer=True)
        self.stars = keras.layers.Dense(config.num_labels, name="stars")

    def call(self, input_ids: Any = None, attention_mask: Any = None, training: bool = False) -> Any:
        return self.stars(self.body(input_ids, attention_mask, training=training).pooler_output)


class TFOwnBert(TFBertModel):
    """In the place of bertconv's."""


SIZES = tiny.config(num_hidden_layers=1)
IDS = np.array([[1, 2, 3]])


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(config_auto, "_REGISTERED", {})
    for kind in (TFAutoModel, TFAutoModelForMaskedLM, TFAutoModelForSequenceClassification):
        monkeypatch.setattr(kind, "_registered", {})


def test_a_model_type_of_the_users_own(tmp_path: Path) -> None:
    keys = {key: value for key, value in SIZES.items() if key not in {"model_type", "num_labels"}}
    AutoConfig.register("reviews", ReviewConfig)
    TFAutoModelForSequenceClassification.register(ReviewConfig, TFReview)
    made = TFAutoModelForSequenceClassification.from_config(ReviewConfig(num_labels=5, **keys))
    assert type(made) is TFReview
    before = made(IDS).numpy()
    made.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "reviews"
    config = AutoConfig.from_pretrained(tmp_path)
    assert (type(config), config.num_labels) == (ReviewConfig, 5)
    assert type(AutoConfig.for_model("reviews")) is ReviewConfig
    for given in (None, config, str(tmp_path), json.loads((tmp_path / "config.json").read_text())):
        again = TFAutoModelForSequenceClassification.from_pretrained(tmp_path, config=given)
        assert type(again) is TFReview
        np.testing.assert_array_equal(again(IDS).numpy(), before)
    with pytest.raises(UnsupportedCheckpoint, match="reviews"):  # it is registered for one task
        TFAutoModelForMaskedLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("give", [{}, {"config": True}])
def test_a_model_type_of_the_users_own_begun_from_bert(give: dict[str, Any], tmp_path: Path) -> None:
    plain = tiny.save(tiny.torch_model(num_hidden_layers=1).float(), tmp_path / "plain")
    AutoConfig.register("reviews", ReviewConfig)
    TFAutoModelForSequenceClassification.register(ReviewConfig, TFReview)
    with pytest.warns(UserWarning, match="stars/kernel"):
        model = TFReview.from_pretrained(plain, **{name: ReviewConfig.from_pretrained(plain) for name in give})
    assert model.config.model_type == model.config.to_dict()["model_type"] == "reviews"
    model.save_pretrained(tmp_path / "own")
    again = TFAutoModelForSequenceClassification.from_pretrained(tmp_path / "own")
    assert type(again) is TFReview
    np.testing.assert_array_equal(again(IDS), model(IDS))


@pytest.mark.parametrize("registered", [BertConfig, transformers.BertConfig])
def test_in_the_place_of_a_class_of_bertconvs(registered: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="already") as caught:
        TFAutoModel.register(registered, TFOwnBert)
    assert "exist_ok=True" in caught.value.hint
    TFAutoModel.register(registered, TFOwnBert, exist_ok=True)
    TFBertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    assert type(TFAutoModel.from_pretrained(tmp_path)) is TFOwnBert
    for given in (BertConfig(**SIZES), transformers.BertConfig(**SIZES), SIZES):
        assert type(TFAutoModel.from_config(given)) is TFOwnBert
    made = TFAutoModelForSequenceClassification.from_config(BertConfig(**SIZES))
    assert type(made) is TFBertForSequenceClassification


def test_twice() -> None:
    """As a notebook does whose cell is run again: with classes of the same name that are others."""

    def again(kind: Any, **shown: Any) -> Any:
        return type(kind.__name__, (kind,), {"__module__": kind.__module__, **shown})

    AutoConfig.register("reviews", ReviewConfig)
    TFAutoModel.register(ReviewConfig, TFReview)
    newer = again(ReviewConfig)
    newer_model = again(TFReview, config_class=newer)
    AutoConfig.register("reviews", newer)
    TFAutoModel.register(newer, newer_model)
    config = AutoConfig.for_model("reviews", **SIZES)
    assert type(config) is newer
    assert type(TFAutoModel.from_config(config)) is newer_model


def test_a_name_that_nothing_acts_on() -> None:
    class Own(TFReview):
        pass

    Own.register_for_auto_class("TFAutoModelForSequenceClassification")
    assert (Own._auto_class, TFReview._auto_class) == ("TFAutoModelForSequenceClassification", None)
    Own.register_for_auto_class(TFAutoModel)
    assert Own._auto_class == "TFAutoModel"


def test_what_does_not_fit_together() -> None:
    with pytest.raises(RequestError, match="'reviews', and 'ratings' is to be registered"):
        AutoConfig.register("ratings", ReviewConfig)
    with pytest.raises(RequestError, match="there is a config for 'bert' already"):
        AutoConfig.register("bert", BertConfig)
    with pytest.raises(RequestError, match="TFReview has the config ReviewConfig"):
        TFAutoModel.register(BertConfig, TFReview)


def test_a_config_class_of_transformers(tmp_path: Path) -> None:
    class Theirs(transformers.BertConfig):
        model_type = "theirs"

    class TFTheirs(TFBertModel):
        config_class = Theirs

    AutoConfig.register("theirs", Theirs)
    TFAutoModel.register(Theirs, TFTheirs)
    sizes = {key: value for key, value in SIZES.items() if key != "model_type"}
    made = TFAutoModel.from_config(Theirs(**sizes))
    assert type(made) is TFTheirs
    made.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is Theirs
    assert type(TFAutoModel.from_pretrained(tmp_path)) is TFTheirs


@pytest.mark.parametrize(("config", "model"), [(5, TFReview), (ReviewConfig(), TFReview), (ReviewConfig, 5)])
def test_what_is_no_class_is_not_registered(config: Any, model: Any) -> None:
    with pytest.raises(RequestError, match=r"a class of (configs|models) was expected, not"):
        TFAutoModelForSequenceClassification.register(config, model)
    if config is not ReviewConfig:
        with pytest.raises(RequestError, match="a class of configs was expected, not"):
            AutoConfig.register("reviews", config)
