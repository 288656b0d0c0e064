"""A decoder's cache under both its names: `past_key_values`, and `cache` as transformers has it since 5.24."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from called_models import assert_close, make
from tiny_models import BATCH, LENGTH, inputs

from bertconv import TFBertModel
from bertconv.errors import RequestError

NAMES = pytest.mark.parametrize("name", ["past_key_values", "cache"])
CUT = 7
IDS = inputs(padded=False)["input_ids"]


def decoder(head: str = "BertLMHeadModel", **changes: Any) -> Any:
    return make(head, is_decoder=True, **changes)


def first(output: Any) -> Any:
    return output[0]


@NAMES
@pytest.mark.parametrize("head", ["BertLMHeadModel", "BertModel"])
@pytest.mark.parametrize("way", ["by name", "in a dict", "to the body"])
def test_call(head: str, name: str, way: str) -> None:
    """What comes behind a cache is what it is in the whole."""
    model = decoder(head)
    if way == "to the body":
        model = model.bert
    past = model(IDS[:, :CUT]).past_key_values
    rest = {"input_ids": IDS[:, CUT:], name: past}
    output = model(rest) if way == "in a dict" else model(**rest)
    assert_close(first(output), first(model(IDS))[:, CUT:], 1e-5)


def test_both_at_once() -> None:
    model = decoder()
    past = model(IDS[:, :CUT]).past_key_values
    for call in (model, model.bert):
        with pytest.raises(RequestError, match=r"got past_key_values twice, as past_key_values and as cache"):
            call(IDS[:, CUT:], past_key_values=past, cache=past)
    with pytest.raises(RequestError, match="past_key_values and cache were both given"):
        model.prepare_inputs_for_generation(IDS, past_key_values=past, cache=past)
    with pytest.raises(RequestError, match="got past_key_values twice"):
        model.generate(IDS[:, : CUT + 1], past_key_values=past, cache=past)
    assert_close(model(IDS[:, CUT:], past_key_values=None, cache=past)[0], model(IDS)[0][:, CUT:], 1e-5)


def test_no_cache_is_taken() -> None:
    """Classes without the argument refuse it under the name that was given."""
    with pytest.raises(RequestError, match="has no argument 'cache'"):
        make("BertForMaskedLM")(IDS, cache=())


def test_output() -> None:
    output = decoder()(IDS)
    assert output.cache is output.past_key_values
    assert list(output) == ["logits", "past_key_values"]
    assert decoder()(IDS, use_cache=False).cache is None
    assert decoder("BertModel")(IDS).cache is not None
    with pytest.raises(AttributeError, match="cache"):
        make("BertForMaskedLM")(IDS).cache  # noqa: B018


@NAMES
def test_prepare_inputs_for_generation(name: str) -> None:
    model = decoder()
    past = model(IDS[:, :-1]).past_key_values
    step = model.prepare_inputs_for_generation(tf.constant(IDS), **{name: past})
    assert step["input_ids"].shape == (BATCH, 1)
    assert "cache" not in step
    assert_close(model(**step).logits, model(IDS).logits[:, -1:], 1e-5)


class NewNames(type(decoder())):  # type: ignore[misc]
    """A user's class that speaks as transformers 5.24 does."""

    def prepare_inputs_for_generation(self, input_ids: Any, cache: Any = None, *more: Any, **kwargs: Any) -> Any:
        found = super().prepare_inputs_for_generation(input_ids, cache, *more, **kwargs)
        return {"cache": found.pop("past_key_values"), **found}


def test_generate_with_steps_of_the_new_name() -> None:
    model = decoder()
    other = NewNames(model.config)
    other.set_weights(model.get_weights())
    wanted = model.generate(IDS, max_new_tokens=4)
    assert wanted.shape == (BATCH, LENGTH + 4)
    np.testing.assert_array_equal(other.generate(IDS, max_new_tokens=4), wanted)


@NAMES
def test_generate_behind_a_cache(name: str) -> None:
    model = decoder()
    past = model(IDS[:, :-1]).past_key_values
    found = model.generate(IDS, max_new_tokens=4, **{name: past})
    np.testing.assert_array_equal(found, model.generate(IDS, max_new_tokens=4))
    with pytest.raises(RequestError, match=f"is of {LENGTH - 1} positions, and the prompts have {CUT} tokens"):
        model.generate(IDS[:, :CUT], max_new_tokens=4, **{name: past})


class Own(TFBertModel):
    """A user's class whose `cache` means something else."""

    def call(self, input_ids: Any = None, cache: str = "", past_key_values: Any = None) -> Any:
        return cache, super().call(input_ids, past_key_values=past_key_values, training=False)


def test_an_argument_of_a_users_own() -> None:
    model = Own(decoder("BertModel").config)
    found, output = model(IDS, cache="elsewhere")
    assert (found, output.last_hidden_state.shape[:2]) == ("elsewhere", IDS.shape)
