"""Users' config objects that are no plain data: what is in them stays, and what a model reads is what they say."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as tiny
import transformers

from bertconv import BertConfig, TFBertForSequenceClassification
from bertconv.errors import OutputError, RequestError

IDS = np.array([[1, 2, 3]])


def model_of(config: Any) -> Any:
    """A model that keeps this object."""
    own = type("TFOwn", (TFBertForSequenceClassification,), {"config_class": type(config)})
    return own(config)


class Slotted(transformers.BertConfig):
    __slots__ = ("tags",)

    def __init__(self, **keys: Any) -> None:
        super().__init__(**keys)
        self.tags = ["a"]


class Computed(transformers.BertConfig):
    @property
    def num_labels(self) -> int:
        return 5

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        """It never changes."""


class Named(transformers.BertConfig):
    def __init__(self, family: str = "ours", **keys: Any) -> None:
        super().__init__(**keys)
        self.family = family


@pytest.mark.parametrize("value", [np.arange(3.0), threading.Lock(), len], ids=["table", "lock", "function"])
def test_what_json_cannot_hold_stays_in_the_config_and_out_of_files(tmp_path: Path, value: Any) -> None:
    config = Slotted(**tiny.config())
    config.of_mine = value
    model = model_of(config)
    assert model(IDS).hidden_states is None
    config.output_hidden_states = True
    assert len(model(IDS).hidden_states) == config.num_hidden_layers + 1
    assert model.config.of_mine is value
    with pytest.raises(RequestError, match="JSON"):
        model.save_pretrained(tmp_path / "saved")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])
def test_copies_have_what_stands_in_slots(copied: Any) -> None:
    config = model_of(Slotted(**tiny.config())).config
    config.tags = ["b"]
    again = copied(config)
    assert (again.tags, type(again), again == config) == (["b"], type(config), True)


def test_a_key_that_is_a_property_is_what_the_property_says() -> None:
    model = model_of(Computed(**tiny.config()))
    assert model(IDS).logits.shape == (1, 5)


def test_a_key_that_a_model_needs_for_itself_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="Named has 'family'"):
        model_of(Named(**tiny.config()))


def test_a_class_may_be_derived_from_what_isinstance_believes() -> None:
    class Own(BertConfig(**tiny.config()).__class__):  # type: ignore[misc]
        extra = 3

    assert Own.__mro__[1] is BertConfig
    assert (Own(**tiny.config()).extra, isinstance(Own(), transformers.BertConfig)) == (3, True)


def test_save_weights_writes_through_a_link_and_says_what_it_cannot_write(tmp_path: Path) -> None:
    model = TFBertForSequenceClassification(BertConfig(**tiny.config()))
    (tmp_path / "link.h5").symlink_to("there.h5")
    model.save_weights(tmp_path / "link.h5")
    assert (tmp_path / "link.h5").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.h5", "there.h5"]
    (tmp_path / "folder.h5").mkdir()
    for name in ("folder.h5", "there.h5/x.h5", f"{'n' * 300}.h5"):
        with pytest.raises(OutputError, match=r"cannot be written: .+\n.+\."):
            model.save_weights(tmp_path / name)
