"""Every head of every family against transformers 5 in float64: all outputs and losses.

Families come from the registry, see `family_models.MODEL_TYPES`. Those that share a table (`family_models.FAMILIES` has
one of each) have the same classes under another name: what goes beyond outputs, names and files of them is held once.
"""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import family_models as fm
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from tiny_models import CACHE, relative_error

import bertconv
from bertconv import tasks
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.table import table_for
from bertconv.models.variables import inventory, named_variables

pytestmark = pytest.mark.filterwarnings(  # Keras 3.15 and TensorFlow 2.21 on NumPy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

TOLERANCE = 1e-11
EVERYTHING = {"output_hidden_states": True, "output_attentions": True}
CASES = fm.heads()
EACH = pytest.mark.parametrize(("model_type", "head"), CASES, ids=[head for _, head in CASES])
APART = [case for case in CASES if case[0] in fm.FAMILIES]
EACH_APART = pytest.mark.parametrize(("model_type", "head"), APART, ids=[head for _, head in APART])
STORED = [case for case in CASES if case in APART or fm.family_of(case[0]).tasks[case[1]] == tasks.MASKED_LM]
EACH_STORED = pytest.mark.parametrize(("model_type", "head"), STORED, ids=[head for _, head in STORED])
DECODERS = [case for case in CASES if fm.family_of(case[0]).tasks[case[1]] == tasks.CAUSAL_LM]
EACH_DECODER = pytest.mark.parametrize(("model_type", "head"), DECODERS, ids=[head for _, head in DECODERS])

Pair = tuple[Any, Any]


pair = fm.pair


def flat(output: Any) -> dict[str, np.ndarray]:
    """Name -> array, tuples taken apart: `hidden_states.0`; caches aside."""
    found = {}
    for name, value in output.items():
        parts = {f"{name}.{number}": each for number, each in enumerate(value)} if isinstance(value, tuple) else None
        if name not in (CACHE, "past_key_values"):
            found |= {name: value} if parts is None else parts
    return {name: each.detach().numpy() if torch.is_tensor(each) else np.asarray(each) for name, each in found.items()}


def answer(model: Any, task: str, arrays: fm.Arrays) -> Any:
    """What PyTorch gives; losses that transformers takes in float32 always are taken apart."""
    words = arrays.get("labels") if task in (tasks.CAUSAL_LM, tasks.DISCRIMINATOR) else None
    given = {name: value for name, value in arrays.items() if words is None or name != "labels"}
    if task == tasks.NEXT_SENTENCE and "next_sentence_label" in given:
        given["labels"] = given.pop("next_sentence_label")
    tensors = {name: torch.tensor(value) if isinstance(value, np.ndarray) else value for name, value in given.items()}
    output = model(**tensors)
    if words is not None and task == tasks.DISCRIMINATOR:
        seen = torch.tensor(arrays.get("attention_mask", np.ones_like(words))) == 1
        targets = torch.tensor(words)[seen].double()
        output["loss"] = torch.nn.functional.binary_cross_entropy_with_logits(output.logits[seen], targets)
    elif words is not None:
        shifted = output.logits[:, :-1].flatten(0, 1), torch.tensor(words[:, 1:]).flatten()
        output["loss"] = torch.nn.functional.cross_entropy(*shifted, ignore_index=fm.NO_LABEL)
    return output


def expected(model: Any, task: str, arrays: fm.Arrays) -> dict[str, np.ndarray]:
    """What PyTorch gives, as arrays."""
    with torch.no_grad():
        return flat(answer(model, task, arrays))


def check(models: Pair, arrays: fm.Arrays) -> dict[str, np.ndarray]:
    theirs, ours = models
    wanted = expected(theirs, type(ours).task, arrays)
    found = flat(ours(**arrays))
    if "loss" in found:
        found["loss"] = found["loss"].mean()
    assert sorted(found) == sorted(wanted)
    errors = {name: relative_error(found[name], value) for name, value in wanted.items()}
    assert max(errors.values()) <= TOLERANCE, errors
    return wanted


@EACH
@pytest.mark.parametrize("side", ["right", "left", None])
def test_every_output(pair: Callable[..., Pair], model_type: str, head: str, side: str | None) -> None:
    models = pair(model_type, head)
    config = models[1].config
    if side == "left" and models[1].task == tasks.CAUSAL_LM:
        pytest.skip("rows that may look nowhere are nobody's business")
    wanted = check(models, {**fm.inputs(config, head, 1, side), **fm.labels(config, head, 1), **EVERYTHING})
    assert {"hidden_states.2", "attentions.1"} < set(wanted)


@EACH_APART
def test_embeddings_instead_of_ids(pair: Callable[..., Pair], model_type: str, head: str) -> None:
    models = pair(model_type, head)
    arrays = fm.inputs(models[1].config, head, 2)
    size = models[1].get_input_embeddings().weight.shape[1]
    arrays["inputs_embeds"] = np.random.default_rng(2).standard_normal((*arrays.pop("input_ids").shape, size))
    check(models, {**arrays, **EVERYTHING})


@EACH_APART
def test_positions(pair: Callable[..., Pair], model_type: str, head: str) -> None:
    models = pair(model_type, head)
    if "position_ids" not in models[1].main_layer.model_inputs:
        pytest.skip("the family takes none")
    arrays = fm.inputs(models[1].config, head, 3)
    check(models, {**arrays, "position_ids": np.random.default_rng(3).integers(0, 37, arrays["input_ids"].shape)})


@EACH_APART
def test_in_a_graph(pair: Callable[..., Pair], model_type: str, head: str) -> None:
    model = pair(model_type, head)[1]
    arrays = {name: tf.constant(value) for name, value in fm.inputs(model.config, head, 4).items()}
    wanted = flat(model(**arrays))
    found = flat(tf.function(lambda arrays: model(**arrays))(arrays))
    assert sorted(found) == sorted(wanted)
    for name, value in found.items():
        assert relative_error(value, wanted[name]) <= TOLERANCE


@EACH
def test_names_are_the_tables(pair: Callable[..., Pair], model_type: str, head: str) -> None:
    """By Keras's own paths, and by the neutral id that every variable carries."""
    model = pair(model_type, head)[1]
    table, dialects = table_for(model_type), load_dialects()
    specs = expand(table, dialects.by_name["tf"], model.config.values, table.heads[head])
    wanted = {
        place: (spec.name.removesuffix(":0"), spec.shape) for place, spec in specs.items() if place not in table.tied
    }
    paths = {each.path.removeprefix(f"{model.name}/"): tuple(each.shape) for each in model.weights}
    assert paths == dict(wanted.values())
    assert {name: tuple(each.shape) for name, each in named_variables(model).items()} == paths
    found = {each.neutral_id: each.path.removeprefix(f"{model.name}/") for each in model.weights}
    assert found == {place: name for place, (name, _) in wanted.items()}
    own = inventory(model, model.config, head)
    assert (list(own.known), own.extra) == (list(wanted), {})


FORMATS = ("tf", "tf-safetensors", "pt")


def format_of(model_type: str, head: str) -> str:
    """A Latin square: every family and every task have every format of save_pretrained.

    What is written depends on the table of the family and head, whose names test_names_are_the_tables holds, and on the
    format, whose files know nothing of either; test_every_family has PyTorch's format of every class.
    """
    task = fm.family_of(model_type).tasks[head]
    return FORMATS[(fm.MODEL_TYPES.index(model_type) + sorted(TASKS).index(task)) % len(FORMATS)]


TASKS = {fm.family_of(model_type).tasks[head] for model_type, head in CASES}


@EACH_STORED
def test_there_and_back(pair: Callable[..., Pair], model_type: str, head: str, tmp_path: Path) -> None:
    """Through a format of save_pretrained; PyTorch's is read by the automatic class."""
    model, form = pair(model_type, head)[1], format_of(model_type, head)
    arrays = fm.inputs(model.config, head, 5)
    before = flat(model(**arrays))
    auto = {each.task: each for name in bertconv.__all__ if hasattr(each := getattr(bertconv, name), "from_config")
            and name.startswith("TFAuto")}  # fmt: skip
    reader = auto.get(model.task, type(model)) if form == "pt" else type(model)
    model.save_pretrained(tmp_path, format=form)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert (settings["model_type"], settings["architectures"]) == (model_type, [head])
    again, info = reader.from_pretrained(tmp_path, dtype="float64", output_loading_info=True)
    assert type(again) is type(model)
    assert not any(info.values())
    for name, value in flat(again(**arrays)).items():
        np.testing.assert_array_equal(value, before[name])


def test_every_family_and_task_goes_through_every_format() -> None:
    formats = [
        (model_type, fm.family_of(model_type).tasks[head], format_of(model_type, head)) for model_type, head in APART
    ]
    for kind in (0, 1):
        met: dict[str, set[str]] = {}
        for case in formats:
            met.setdefault(case[kind], set()).add(case[2])
        counts = Counter(case[kind] for case in formats)
        assert {key: len(value) for key, value in met.items()} == {key: min(3, counts[key]) for key in met}


@EACH_APART
def test_arguments_by_name_and_place(pair: Callable[..., Pair], model_type: str, head: str) -> None:
    model = pair(model_type, head)[1]
    names = list(inspect.signature(type(model).call).parameters)
    assert names[:3] == ["self", "input_ids", "attention_mask"]
    assert names[-1] == "training"
    assert tuple(names[1:]) == model.input_names
    arrays = fm.inputs(model.config, head, 6)
    found = flat(model(*(arrays.get(name) for name in names[1:6])))
    for name, value in flat(model(**arrays)).items():
        np.testing.assert_array_equal(value, found[name])
    assert model.task in {tasks.CAUSAL_LM, tasks.BASE} or "use_cache" not in names


@EACH_APART
def test_a_step_of_training(model_type: str, head: str) -> None:
    model = fm.tf_class(model_type, head)(fm.keys(model_type, head))
    given = fm.labels(model.config, head, 7)
    if not given:
        pytest.skip("it has no loss")
    model.compile("sgd", run_eagerly=True)
    history = model.fit({**fm.inputs(model.config, head, 7), **given}, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@EACH_DECODER
def test_cache(pair: Callable[..., Pair], model_type: str, head: str) -> None:
    """Word by word behind the cache, positions going on, as all at once."""
    model = pair(model_type, head)[1]
    ids = fm.inputs(model.config, head, 8, None)["input_ids"]
    whole = model(ids).logits.numpy()
    first = model(ids[:, :4], use_cache=True)
    rest = model(ids[:, 4:], past_key_values=first.past_key_values).logits
    assert relative_error(np.concatenate([first.logits, rest], 1), whole) <= TOLERANCE


@EACH_DECODER
def test_generate(pair: Callable[..., Pair], model_type: str, head: str) -> None:
    """The likeliest words of full logits, and the same for a prompt that is padded on the left."""
    model = pair(model_type, head)[1]
    ids = fm.inputs(model.config, head, 9, None)["input_ids"][:, :4]
    found = model.generate(ids, max_new_tokens=5, eos_token_id=())
    wanted = ids
    for _ in range(5):
        wanted = np.concatenate([wanted, model(wanted).logits.numpy()[:, -1:].argmax(-1)], 1)
    np.testing.assert_array_equal(found, wanted)
    pad = np.full((len(ids), 2), model.config.values["pad_token_id"])
    mask = np.concatenate([np.zeros_like(pad), np.ones_like(ids)], 1)
    padded = model.generate(np.concatenate([pad, ids], 1), mask, max_new_tokens=5, eos_token_id=())
    np.testing.assert_array_equal(padded[:, 2:], wanted)


@EACH_DECODER
def test_cross_attention(pair: Callable[..., Pair], model_type: str, head: str) -> None:
    models = pair(model_type, head, add_cross_attention=True)
    states = np.random.default_rng(10).standard_normal((fm.BATCH, 6, fm.SIZES["hidden_size"]))
    mask = np.array([[1] * 6, [1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 1, 0]])
    arrays = {**fm.inputs(models[1].config, head, 10), "encoder_hidden_states": states, "encoder_attention_mask": mask}
    assert "cross_attentions.1" in check(models, {**arrays, **EVERYTHING})


BASES = pytest.mark.parametrize("model_type", fm.MODEL_TYPES)
EACH_FAMILY = pytest.mark.parametrize("model_type", fm.FAMILIES)


@BASES
def test_the_body_in_a_functional_model(model_type: str, tmp_path: Path) -> None:
    """As a layer among others, and back from one .keras file."""
    head = next(iter(fm.family_of(model_type).tasks))
    layer = fm.tf_class(model_type, head).main_layer(fm.keys(model_type, head))
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, keras.layers.Dense(2)(layer(ids).last_hidden_state))
    model.save(tmp_path / "model.keras")
    given = fm.inputs(layer.config, head, 11, None)["input_ids"]
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(given), model(given))


@BASES
def test_a_head_of_ones_own(model_type: str, tmp_path: Path) -> None:
    """On the family's base class, from a checkpoint of the bare model, and through its own folder."""
    head = next(iter(fm.family_of(model_type).tasks))
    bare = fm.tf_class(model_type, head)
    base = next(kind for kind in bare.__mro__ if kind.__name__.endswith("PreTrainedModel"))

    class Own(base):  # type: ignore[misc, valid-type]
        def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
            super().__init__(config, *inputs, **kwargs)
            self.make_body(add_pooling_layer=False)
            self.top = keras.layers.Dense(4, name="top")

        def call(self, input_ids: Any = None, attention_mask: Any = None, training: bool = False) -> Any:
            hidden = self.body(input_ids, attention_mask=attention_mask, training=training).last_hidden_state
            return self.top(hidden)

    bare(fm.keys(model_type, head)).save_pretrained(tmp_path / "bare")
    with pytest.warns(UserWarning, match="top/"):
        model, info = Own.from_pretrained(tmp_path / "bare", output_loading_info=True)
    assert sorted(info["missing_keys"]) == ["top/bias:0", "top/kernel:0"]
    model.save_pretrained(tmp_path / "own")
    again, info = Own.from_pretrained(tmp_path / "own", output_loading_info=True)
    assert not any(info.values())
    given = fm.inputs(model.config, head, 12, None)["input_ids"]
    np.testing.assert_array_equal(again(given), model(given))


@EACH_FAMILY
def test_a_saved_model(model_type: str, tmp_path: Path) -> None:
    head = next(iter(fm.family_of(model_type).tasks))
    model = fm.tf_class(model_type, head)(fm.keys(model_type, head))
    model.save_pretrained(tmp_path, saved_model=True)
    served = tf.saved_model.load(str(tmp_path / "saved_model" / "1")).signatures["serving_default"]
    known = served.structured_input_signature[1]
    arrays = {name: tf.cast(value, tf.int32) for name, value in fm.inputs(model.config, head, 13).items()}
    assert set(known) == set(arrays)
    for name, value in served(**arrays).items():
        assert relative_error(value, model(**arrays)[name]) <= 1e-5


@BASES
def test_more_words(model_type: str) -> None:
    """New rows beside the old ones, in the embeddings and in what predicts words."""
    head = fm.family_of(model_type).head_for(tasks.MASKED_LM)
    model = fm.tf_class(model_type, head)(fm.keys(model_type, head))
    given = fm.inputs(model.config, head, 14)
    before = model(**given).logits.numpy()
    model.resize_token_embeddings(107)
    after = model(**given).logits.numpy()
    assert after.shape[-1] == model.config.vocab_size == 107
    assert relative_error(after[..., :101], before) <= 1e-5
    assert inventory(model, model.config, head).extra == {}
