"""What every family's classes can beside their outputs: gradients, files, graphs, dropout, Keras; no names here.

The families are those with a file of TensorFlow classes, one of each table: others share all that is held here. What
they compute is in test_families_against_transformers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import family_models as fm
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from test_families_against_transformers import answer, check, flat
from tiny_models import relative_error

import bertconv
from bertconv import tasks
from bertconv.errors import RequestError
from bertconv.families import family_of
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import TensorSpec, expand
from bertconv.mapping.table import table_for

TOLERANCE, NOISE = 1e-9, 1e-13
"""Of a variable's largest gradient; and of the largest of all, for those that are zero but for rounding."""
OUTPUTS = {"last_hidden_state", "pooler_output", "logits"}

CASES = [case for case in fm.heads() if case[0] in fm.FAMILIES]
EACH = pytest.mark.parametrize(("model_type", "head"), CASES, ids=[head for _, head in CASES])
EACH_FAMILY = pytest.mark.parametrize("model_type", fm.FAMILIES)

Pair = tuple[Any, Any]


pair = fm.pair


def head_of(model_type: str, task: str = tasks.SEQUENCE_CLASSIFICATION) -> str:
    head = family_of(model_type).head_for(task)
    assert head is not None
    return head


def labelled(model: Any, head: str, seed: int) -> fm.Arrays:
    return {**fm.inputs(model.config, head, seed), **fm.labels(model.config, head, seed)}


def specs_of(head: str, config: Any, dialect: str) -> list[TensorSpec]:
    """The table's tensors of a class, without the copies that a tied model does not have."""
    table, dialects = table_for(config.model_type), load_dialects()
    found = expand(table, dialects.by_name[dialect], config.values, table.heads[head])
    return [spec for spec in found.values() if not (config.values["tie_word_embeddings"] and spec.id in table.tied)]


def loss_of(output: Any, total: Callable[[Any], Any], mean: Callable[[Any], Any]) -> Any:
    """The loss; where there is none, a sum over the outputs, each element with a weight of its own."""
    if output.get("loss") is not None:
        return mean(output["loss"])
    return sum(
        total(value) for name, value in output.items() if name in {"last_hidden_state", "pooler_output", "logits"}
    )


def weights_of(value: Any) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(tuple(value.shape))


@EACH
def test_gradients(pair: Callable[..., Pair], model_type: str, head: str) -> None:
    """In every variable, padding's rows among them; a variable that takes no part has none on either side."""
    theirs, ours = pair(model_type, head)
    arrays = labelled(ours, head, 1)
    theirs.zero_grad()
    output = answer(theirs, ours.task, arrays)
    loss_of(output, lambda value: (value * torch.tensor(weights_of(value))).sum(), torch.mean).backward()
    table = table_for(model_type)
    prefix = f"{table.base}." if head == table.base_head else ""
    grads = {name: value.grad for name, value in theirs.named_parameters()}
    wanted = {spec.id: grads.pop(spec.name.removeprefix(prefix)) for spec in specs_of(head, ours.config, "pt")}
    assert not grads
    with tf.GradientTape() as tape:
        loss = loss_of(ours(**arrays), lambda value: tf.reduce_sum(value * weights_of(value)), tf.reduce_mean)
    found = tape.gradient(loss, [each.value for each in ours.weights])
    ours_by_place = dict(zip([each.neutral_id for each in ours.weights], found, strict=True))
    taking_part = {place for place, value in wanted.items() if value is not None}
    assert {place for place, value in ours_by_place.items() if value is not None} == taking_part
    floor = NOISE * max(float(value.abs().max()) for value in wanted.values() if value is not None)
    kernels = {each.neutral_id for each in ours.weights if each.name == "kernel"}
    for place in taking_part:
        value = np.asarray(tf.convert_to_tensor(ours_by_place[place]))
        error = np.abs((value.T if place in kernels else value) - wanted[place].numpy()).max()
        assert error <= TOLERANCE * float(wanted[place].abs().max()) + floor, place


@EACH
def test_weights_are_in_the_tables_order(pair: Callable[..., Pair], model_type: str, head: str) -> None:
    """Which is that of transformers' own TensorFlow classes."""
    model = pair(model_type, head)[1]
    names = [spec.name.removesuffix(":0") for spec in specs_of(head, model.config, "tf")]
    assert [each.path.removeprefix(f"{model.name}/") for each in model.weights] == names


@EACH_FAMILY
@pytest.mark.filterwarnings("ignore:.*not used by this class")
def test_the_first_layers(pair: Callable[..., Pair], model_type: str, tmp_path: Path) -> None:
    """By both spellings of the key, of a checkpoint with more of them."""
    whole = pair(model_type, head_of(model_type))[1]
    whole.save_pretrained(tmp_path)
    wanted = {each.path: each.numpy() for each in whole.weights}
    schema = whole.config.family.schema
    for key in {"num_hidden_layers", schema.spelled("num_hidden_layers")}:
        short = type(whole).from_pretrained(tmp_path, **{key: 1}, dtype="float64", name=whole.name)
        assert short.config.num_hidden_layers == 1
        assert all(np.array_equal(each.numpy(), wanted[each.path]) for each in short.weights)


@EACH
def test_pytorch_reads_what_is_saved(pair: Callable[..., Pair], model_type: str, head: str, tmp_path: Path) -> None:
    """As transformers does, nothing missing or left over, bit for bit; and a pickle of PyTorch's comes back."""
    theirs, ours = pair(model_type, head)
    ours.save_pretrained(tmp_path / "pt", format="pt")
    again, info = type(theirs).from_pretrained(tmp_path / "pt", output_loading_info=True, dtype="float64")
    assert not any(info.values())
    wanted = theirs.state_dict()
    for name, value in again.state_dict().items():
        assert torch.equal(value, wanted[name]), name
    (tmp_path / "pt" / "model.safetensors").unlink()
    torch.save(wanted, tmp_path / "pt" / "pytorch_model.bin")
    pickled, info = type(ours).from_pretrained(tmp_path / "pt", dtype="float64", output_loading_info=True)
    assert not any(info.values())
    for one, other in zip(pickled.weights, ours.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@EACH
def test_functional_model(pair: Callable[..., Pair], model_type: str, head: str) -> None:
    model = pair(model_type, head)[1]
    arrays = fm.inputs(model.config, head, 2)
    symbols = {name: keras.Input(value.shape[1:], dtype="int64", name=name) for name, value in arrays.items()}
    outer = keras.Model(symbols, model(symbols))
    wanted = flat(model(**arrays))
    for name, value in flat(outer(arrays)).items():
        assert relative_error(value, wanted[name]) <= TOLERANCE


@EACH
def test_rates_of_dropout(model_type: str, head: str) -> None:
    """Every rate of the config is its own, and those of PyTorch's class are those of ours."""
    family = family_of(model_type)
    rated = [key for key, value in family.schema.defaults.items() if "drop" in key and not isinstance(value, bool)]
    rates = {key: (number + 1) / 32 for number, key in enumerate(rated)}
    theirs = fm.torch_model(model_type, head, **rates)
    ours = fm.tf_class(model_type, head)(fm.keys(model_type, head, **rates))
    wanted = {each.p for each in theirs.modules() if isinstance(each, torch.nn.Dropout)}
    assert wanted <= set(rates.values())
    layers = [each for each in ours._flatten_layers() if "Dropout" in type(each).__name__]
    assert {each.rate for each in layers} == wanted


@EACH
def test_arguments_are_the_tables(model_type: str, head: str) -> None:
    table, kind = table_for(model_type), fm.tf_class(model_type, head)
    names = ["input_ids", "attention_mask", *table.inputs, "head_mask", "inputs_embeds"]
    assert list(inspect.signature(kind.call).parameters)[1 : 1 + len(names)] == names
    assert kind.main_layer.model_inputs == tuple(table.inputs)
    assert kind.__name__ in bertconv.__all__
    assert {kind.main_layer.__name__, f"TF{table.prefix}PreTrainedModel"} < set(bertconv.__all__)
    assert kind.call.__doc__
    assert kind.__doc__


@EACH_FAMILY
def test_words_of_an_untied_model(pair: Callable[..., Pair], model_type: str, tmp_path: Path) -> None:
    """Their own output vectors: computed with, saved, loaded, and resized together with the embeddings."""
    head = head_of(model_type, tasks.MASKED_LM)
    models = pair(model_type, head, tie_word_embeddings=False)
    check(models, labelled(models[1], head, 3))
    ours = models[1]
    ours.save_pretrained(tmp_path)
    again, info = type(ours).from_pretrained(tmp_path, dtype="float64", output_loading_info=True)
    assert not any(info.values())
    arrays = fm.inputs(ours.config, head, 3)
    before = again(**arrays).logits.numpy()
    np.testing.assert_array_equal(before, ours(**arrays).logits)
    again.resize_token_embeddings(ours.config.vocab_size + 5)
    assert relative_error(again(**arrays).logits[..., : before.shape[-1]], before) <= TOLERANCE
    assert again.get_output_embeddings() is not again.get_input_embeddings()


@EACH_FAMILY
def test_head_from_a_body_and_back(pair: Callable[..., Pair], model_type: str, tmp_path: Path) -> None:
    """A checkpoint without a head lacks that head alone, and one with a head gives its body."""
    body = pair(model_type, family_of(model_type).head_for(tasks.BASE))[1]
    kind = fm.tf_class(model_type, head_of(model_type))
    body.save_pretrained(tmp_path / "body")
    settings = {"config": body.config.replace(num_labels=fm.LABELS), "dtype": "float64"}
    with pytest.warns(UserWarning, match="newly initialised"):
        tuned, info = kind.from_pretrained(tmp_path / "body", output_loading_info=True, **settings)
    prefix = kind.base_model_prefix
    assert info["missing_keys"]
    assert not any(name.startswith(f"{prefix}/") for name in info["missing_keys"])
    assert not info["mismatched_keys"]
    tuned.save_pretrained(tmp_path / "tuned")
    settings = {"dtype": "float64", "add_pooling_layer": tuned.is_pooled, "output_loading_info": True}
    again, info = type(body).from_pretrained(tmp_path / "tuned", **settings)
    assert not info["missing_keys"]
    arrays = fm.inputs(body.config, family_of(model_type).head_for(tasks.BASE), 5)
    np.testing.assert_array_equal(again(**arrays).last_hidden_state, body(**arrays).last_hidden_state)


@pytest.mark.filterwarnings("ignore:__array__ implementation")
@EACH_FAMILY
def test_keras_file(pair: Callable[..., Pair], model_type: str, tmp_path: Path) -> None:
    model = pair(model_type, head := head_of(model_type))[1]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    arrays = fm.inputs(model.config, head, 7)
    np.testing.assert_array_equal(again(**arrays).logits, model(**arrays).logits)


@EACH_FAMILY
def test_half_precision_and_xla(model_type: str) -> None:
    head = head_of(model_type)
    model = fm.tf_class(model_type, head)(fm.keys(model_type, head), dtype="mixed_float16")
    arrays = {name: tf.constant(value) for name, value in fm.inputs(model.config, head, 9).items()}
    direct = model(**arrays).logits
    assert direct.dtype == tf.float16
    compiled = tf.function(lambda arrays: model(**arrays).logits, jit_compile=True)(arrays)
    assert relative_error(compiled, direct) <= 0.02


@EACH_FAMILY
def test_longest_sequence(pair: Callable[..., Pair], model_type: str) -> None:
    """As many tokens as there are positions, and one more is refused."""
    head = head_of(model_type)
    theirs, ours = pair(model_type, head)
    room = fm.SIZES["max_position_embeddings"] - ours.body.embeddings.first_position
    ids = np.random.default_rng(0).integers(3, ours.config.vocab_size, (2, room))
    check((theirs, ours), {"input_ids": ids, "output_attentions": True})
    with pytest.raises(RequestError, match="position"):
        ours(np.concatenate([ids, ids[:, :1]], 1))


OF_BODIES = {
    "distilbert": bertconv.TFBaseModelOutput,
    "electra": bertconv.TFBaseModelOutputWithPastAndCrossAttentions,
    "mpnet": bertconv.TFBaseModelOutputWithPooling,
    "albert": bertconv.TFBaseModelOutputWithPooling,
}
"""What transformers 4.57.6 gives where a family has less than BERT."""


@EACH_FAMILY
def test_a_body_gives_the_output_that_it_gave(pair: Callable[..., Pair], model_type: str) -> None:
    head = head_of(model_type, tasks.BASE)
    model = pair(model_type, head)[1]
    found = model(fm.inputs(model.config, head, 11))
    assert type(found) is OF_BODIES.get(model_type, bertconv.TFBaseModelOutputWithPoolingAndCrossAttentions)
    assert len(model(fm.inputs(model.config, head, 11), return_dict=False)) == len(found)


@EACH_FAMILY
def test_a_family_without_decoders_looks_both_ways(pair: Callable[..., Pair], model_type: str) -> None:
    head = head_of(model_type, tasks.BASE)
    theirs, ours = pair(model_type, head)
    if ours.main_layer.is_cached:
        pytest.skip("it has decoders")
    reported = type(ours)({**fm.keys(model_type, head), "is_decoder": True}, dtype="float64")
    reported.set_weights(ours.get_weights())
    check((theirs, reported), fm.inputs(ours.config, head, 10))


@EACH_FAMILY
@pytest.mark.parametrize("wrap", [lambda call: call, tf.function], ids=["eager", "graph"])
def test_no_sequence_at_all_is_a_batch_too(pair: Callable[..., Pair], model_type: str, wrap: Any) -> None:
    """As where the last batch of a data set is divided among several devices."""
    model = pair(model_type, head_of(model_type))[1]
    arrays = {name: tf.constant(array[:0]) for name, array in fm.inputs(model.config, head_of(model_type)).items()}
    assert "attention_mask" in arrays
    found = wrap(lambda: model(arrays, output_attentions=True))()
    length = arrays["input_ids"].shape[1]
    assert found.logits.shape == (0, model.config.num_labels)
    assert found.attentions[0].shape == (0, model.config.num_attention_heads, length, length)
