"""Configs and outputs pass for transformers' own in programs that have imported it, and for nothing else anywhere."""

from __future__ import annotations

import copy
import functools
import pickle
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path

import checkpoints as cp
import pytest

import bertconv
from bertconv import AutoConfig, likeness
from bertconv.families import families

transformers = pytest.importorskip("transformers")
TYPES = sorted({model_type for family in families().values() for model_type in family.model_types})
EACH = pytest.mark.parametrize("model_type", TYPES)
SIZES = {"hidden_size": 24, "num_attention_heads": 2, "num_labels": 3}


class Own(bertconv.BertConfig):
    """A user's config."""

    model_type = "own"

    def __init__(self, scale: float = 2.0, **keys) -> None:
        super().__init__(**keys)
        self.scale = scale


@EACH
def test_a_config_passes_for_that_of_its_family(model_type: str) -> None:
    config = AutoConfig.for_model(model_type, num_labels=3)
    theirs = transformers.AutoConfig.for_model(model_type)
    assert isinstance(config, transformers.PretrainedConfig)
    assert isinstance(config, type(theirs))
    assert isinstance(config, type(config))
    others = [type(transformers.AutoConfig.for_model(other)) for other in TYPES]
    assert [kind.__name__ for kind in others if isinstance(config, kind)] == [
        kind.__name__ for kind in others if isinstance(theirs, kind) and kind is type(theirs)
    ]
    assert not isinstance(config, transformers.T5Config)
    assert not isinstance(theirs, bertconv.BertConfig)


def test_the_class_itself_does_not() -> None:
    """What docs/tensorflow.md says: `issubclass` looks at the class, which has none of theirs among its bases."""
    assert not issubclass(type(bertconv.BertConfig()), transformers.PretrainedConfig)
    assert transformers.PretrainedConfig not in bertconv.BertConfig.__mro__


def test_a_config_of_a_users_class() -> None:
    config = Own(3.0, **SIZES)
    assert isinstance(config, transformers.BertConfig)
    assert isinstance(config, Own)
    again = pickle.loads(pickle.dumps(config))
    assert type(again) is type(copy.deepcopy(config)) is type(config.replace(num_labels=2)) is Own
    assert (again, again.scale, again.num_labels) == (config, 3.0, 3)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_objects_and_their_classes_are_pickled(protocol: int) -> None:
    config = bertconv.BertConfig(**SIZES)
    assert isinstance(config, transformers.BertConfig)
    again = pickle.loads(pickle.dumps([config, config.__class__], protocol))
    assert type(again[0]) is again[1] is bertconv.BertConfig
    assert again[0] == config


def test_the_class_that_a_config_names_is_used_as_its_own() -> None:
    config = bertconv.BertConfig(**SIZES)
    kind = config.__class__
    assert issubclass(kind, transformers.BertConfig)
    assert (kind.__name__, kind.__module__, repr(kind)) == (
        "BertConfig", bertconv.BertConfig.__module__, repr(bertconv.BertConfig),
    )  # fmt: skip
    assert kind == bertconv.BertConfig
    assert bertconv.BertConfig == kind
    assert kind != bertconv.RobertaConfig
    assert {bertconv.BertConfig: 1}[kind] == 1
    for made in (kind(**SIZES), kind.from_dict(config.to_dict()), copy.copy(config), copy.deepcopy(config)):
        assert type(made) is bertconv.BertConfig
        assert made.num_labels == 3
    assert config.__class__ is kind
    assert type(transformers.BertConfig.from_dict(config.to_dict())) is transformers.BertConfig


def test_functions_that_choose_by_class() -> None:
    @functools.singledispatch
    def chosen(_: object) -> str:
        return "any"

    chosen.register(transformers.PretrainedConfig, lambda _: "theirs")
    assert chosen(bertconv.BertConfig()) == "theirs"
    chosen.register(bertconv.BertConfig, lambda _: "ours")
    assert [chosen(kind()) for kind in (bertconv.BertConfig, transformers.BertConfig, dict)] == [
        "ours",
        "theirs",
        "any",
    ]


class Meta(type):
    pass


class Odd(bertconv.BertConfig, metaclass=Meta):
    """A class with a class of its own."""


def test_classes_with_other_bases() -> None:
    """One that no class can be derived from together with theirs stays what it is."""
    assert isinstance(Odd(), transformers.BertConfig)
    assert Odd().__class__ == Odd
    _, first, second, *_ = transformers.PretrainedConfig.__mro__
    clash = type("Clash", (bertconv.BertConfig, second, first), {})()  # theirs has these bases the other way round
    with pytest.raises(TypeError, match="order"):
        type("Clashing", (type(clash), transformers.PretrainedConfig), {})
    assert clash.__class__ is type(clash)
    assert not isinstance(clash, transformers.PretrainedConfig)


def test_transformers_itself_is_told_the_truth(tmp_path: Path) -> None:
    """Its own functions would use what only its own objects have; what they did with a foreign config, they do."""
    pytest.importorskip("torch")
    cp.save(tmp_path, "BertModel", cp.state_dict("BertModel"))
    config = bertconv.BertConfig.from_pretrained(tmp_path)
    assert isinstance(config, transformers.BertConfig)
    model = transformers.AutoModel.from_pretrained(tmp_path, config=config)
    assert type(model.config) is transformers.BertConfig
    with pytest.raises(TypeError, match="PreTrainedConfig"):
        transformers.BertModel(config)
    made = transformers.BertModel(transformers.BertConfig.from_dict(config.to_dict()))  # what docs/tensorflow.md says
    assert made.config.hidden_size == config.hidden_size


def test_an_output_passes_for_theirs() -> None:
    tf = pytest.importorskip("tensorflow")
    from dataclasses import replace

    import keras

    out = bertconv.TFSequenceClassifierOutput(logits=tf.constant([[1.0, 2.0]]))
    assert isinstance(out, transformers.utils.ModelOutput)
    assert isinstance(out, Mapping)
    assert not isinstance(out, tuple)
    assert not isinstance(out, transformers.modeling_outputs.SequenceClassifierOutput)
    through = tf.function(lambda given: given)
    made = [
        pickle.loads(pickle.dumps(out)), copy.copy(out), copy.deepcopy(out), replace(out, loss=None),
        out.__class__(logits=out.logits), tf.nest.map_structure(tf.identity, out), through(out), through(through(out)),
        keras.tree.map_structure(tf.identity, out),
    ]  # fmt: skip
    for each in made:
        assert type(each) is bertconv.TFSequenceClassifierOutput
        assert each.logits.numpy().tolist() == [[1.0, 2.0]]
        assert isinstance(each, transformers.utils.ModelOutput)
    assert through.experimental_get_tracing_count() == 1


def test_an_output_where_a_program_put_ours_in_the_place_of_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that want to keep their imports do so."""
    pytest.importorskip("tensorflow")
    shim = types.ModuleType("transformers.modeling_tf_outputs")
    vars(shim)["TFSequenceClassifierOutput"] = bertconv.TFSequenceClassifierOutput
    monkeypatch.setitem(sys.modules, shim.__name__, shim)
    monkeypatch.setattr(likeness, "_places", {})
    assert isinstance(bertconv.TFSequenceClassifierOutput(), transformers.utils.ModelOutput)


ALONE = """
import sys
from bertconv import BertConfig
config = BertConfig()
assert config.__class__ is BertConfig
assert "transformers" not in sys.modules
import transformers
config.__class__
assert "transformers.models.bert" not in sys.modules, "asking loads nothing"
assert isinstance(config, transformers.PretrainedConfig)
assert "transformers.models.bert" not in sys.modules
assert isinstance(config, transformers.BertConfig)
assert not isinstance(config, transformers.RobertaConfig)
"""


def test_transformers_is_never_loaded() -> None:
    """And whatever of it is loaded later counts from then on."""
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
