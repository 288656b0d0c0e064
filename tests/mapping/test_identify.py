"""What a file's names alone tell: dialect, prefix, and the place of every tensor; and what is refused by name."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_headers import HEADS, REAL, only, prefixed, renamed, stored, without

from bertconv.errors import DamagedCheckpoint, MappingError, UnknownTensors, UnsupportedCheckpoint
from bertconv.mapping.identify import StoredTensor

WRAPPERS = REAL.dialects.by_name["pt"].wrappers
BOTH = pytest.mark.parametrize("dialect", REAL.dialects.everywhere)
EVERY = pytest.mark.parametrize("head", HEADS)


def without_base(tensors: list[StoredTensor]) -> list[StoredTensor]:
    return [stored(tensor.name.removeprefix("bert."), *tensor.shape) for tensor in tensors]


@EVERY
@BOTH
def test_every_tensor_of_every_head_finds_its_place(head: str, dialect: str) -> None:
    header = REAL.header(head, dialect, copies=True)
    identity = REAL.identify(header)
    assert identity.dialect.name == dialect
    assert (identity.prefix, identity.unrecognised, identity.outside) == ("", (), ())
    owned = {place for place in identity.by_id if place.split(".")[0] in REAL.table.heads[head]}
    assert len(owned) == len(header)


@pytest.mark.parametrize("head", ["BertModel", "BertForPreTraining"])
@pytest.mark.parametrize(
    "prefix", [f"{one}." for one in WRAPPERS] + [f"{a}.{b}." for a, b in permutations(WRAPPERS, 2)]
)
def test_known_wrappers_are_taken_off_in_any_order(head: str, prefix: str) -> None:
    identity = REAL.identify(prefixed(REAL.header(head), prefix))
    assert (identity.prefix, identity.unrecognised) == (prefix, ())


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(WRAPPERS), max_size=6))
def test_wrappers_may_stand_in_any_number(wrappers: list[str]) -> None:
    prefix = "".join(f"{wrapper}." for wrapper in wrappers)
    assert REAL.identify(prefixed(REAL.header("BertForMaskedLM"), prefix)).prefix == prefix


def test_doubled_base_is_a_prefix() -> None:
    header = prefixed(REAL.header("BertForMaskedLM"), "bert.")
    assert REAL.identify(header).prefix == "bert."
    assert not REAL.identify(header).unrecognised


@pytest.mark.parametrize("head", HEADS[1:])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_base_may_be_left_out_while_the_head_stands_at_the_root(head: str, prefix: str) -> None:
    identity = REAL.identify(prefixed(without_base(REAL.header(head)), prefix))
    assert (identity.prefix, identity.unrecognised) == (prefix, ())


def test_head_may_stand_outside_the_wrapper() -> None:
    header = REAL.header("BertForSequenceClassification")
    wrapped = [*prefixed(without(header, "classifier"), "model."), *only(header, "classifier")]
    assert not REAL.identify(wrapped).unrecognised


@EVERY
@pytest.mark.parametrize(
    "scope", ["tf_bert_model_3/", "bert_lm/", "u/tf_bert_model_1/", "a/b/c/", "tf_bert_for_masked_lm/", "bert/"]
)
@pytest.mark.parametrize("suffix", [":0", ""])
def test_tensorflow_scopes_are_taken_off_with_and_without_number(head: str, scope: str, suffix: str) -> None:
    header = renamed(prefixed(REAL.header(head, "tf"), scope), **{":0": suffix})
    identity = REAL.identify(header)
    assert (identity.dialect.name, identity.prefix, identity.unrecognised) == ("tf", scope, ())


def test_keras_2_repeats_are_two_claims_to_one_place() -> None:
    identity = REAL.identify(REAL.keras_header("BertForMaskedLM"))
    twice = [place for place, tensors in identity.by_id.items() if len(tensors) == 2]
    assert {place.split(".")[0] for place in twice} == {"embeddings"}
    assert len(twice) == 5
    assert not identity.unrecognised


@pytest.mark.parametrize(
    ("dialect", "new", "old"),
    [
        ("pt", "LayerNorm.weight", "LayerNorm.gamma"),
        ("pt", "LayerNorm.bias", "LayerNorm.beta"),
        ("tf", "word_embeddings/weight", "word_embeddings/embeddings"),
        ("tf", "position_embeddings/embeddings", "position_embeddings/weight"),
        ("tf", "token_type_embeddings/embeddings", "token_type_embeddings/weight"),
    ],
)
def test_old_names_are_read(dialect: str, new: str, old: str) -> None:
    header = REAL.header("BertForPreTraining", dialect)
    aged = renamed(header, **{new: old})
    assert aged != header
    assert REAL.identify(aged).by_id.keys() == REAL.identify(header).by_id.keys()


def test_gamma_is_a_norm_and_nothing_else() -> None:
    header = [*REAL.header("BertModel"), stored("pooler.dense.gamma", 35, 35)]
    assert [tensor.name for tensor in REAL.identify(header).unrecognised] == ["pooler.dense.gamma"]


@pytest.mark.parametrize("prefix", ["encoder_q.", "model.student.", "net."])
def test_unknown_prefix_is_refused_with_the_flag_that_helps(prefix: str) -> None:
    header = prefixed(REAL.header("BertForMaskedLM"), prefix)
    with pytest.raises(UnknownTensors, match=f"begins with '{prefix}'") as refusal:
        REAL.identify(header)
    assert refusal.value.hint.endswith(f"--strip-prefix {prefix}")
    assert REAL.identify(header, prefix).unrecognised == ()
    assert REAL.identify(header, prefix).prefix == prefix


@BOTH
def test_two_encoders_are_refused_until_one_is_chosen(dialect: str) -> None:
    header = REAL.header("BertModel", dialect)
    mark = REAL.dialects.by_name[dialect].separator
    both = [*prefixed(header, f"query{mark}"), *prefixed(header, f"passage{mark}")]
    with pytest.raises(MappingError, match=f"2 encoders, under 'passage{mark}', 'query{mark}'") as refusal:
        REAL.identify(both)
    assert "--strip-prefix" in refusal.value.hint
    identity = REAL.identify(both, f"query{mark}")
    assert len(identity.by_id) == len(identity.outside) == len(header)


def test_two_dialects_in_one_file_are_two_encoders() -> None:
    with pytest.raises(MappingError, match="2 encoders"):
        REAL.identify([*REAL.header("BertModel"), *REAL.header("BertModel", "tf")])


@BOTH
def test_prefix_that_nothing_has_leaves_no_bert(dialect: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="holds no BERT"):
        REAL.identify(REAL.header("BertModel", dialect), "student.")


@pytest.mark.parametrize("names", [(), ("roberta.encoder.layer.0.weight",), ("a\x1b[31m", "b", "c", "d")])
def test_what_is_no_bert_is_refused_with_some_of_its_names(names: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=f"none of its {len(names)} tensors") as refusal:
        REAL.identify([stored(name, 1) for name in names])
    assert str(refusal.value).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.default.weight", "LoRA"),
        ("base_model.model.bert.encoder.layer.0.attention.self.query.lora_B.weight", "LoRA"),
        ("base_model.model.bert.embeddings.word_embeddings.lora_embedding_A.default", "LoRA"),
        ("bert.encoder.layer.0.output.adapters.en.adapter_up.weight", "adapters"),
        ("prompt_encoder.default.embedding.weight", "adapters"),
        ("bert.encoder.layer.0.attention.self.query.SCB", "quantised"),
        ("bert.encoder.layer.0.attention.self.query.weight_format", "quantised"),
        ("bert.encoder.layer.0.attention.self.query.qweight", "quantised"),
        ("bert.encoder.layer.0.attention.self.query.qzeros", "quantised"),
        ("bert.encoder.layer.0.attention.self.query.weight.absmax", "quantised"),
        ("bert.encoder.layer.0.attention.self.query.weight.quant_state.bitsandbytes__nf4", "quantised"),
        ("bert.encoder.layer.0.attention.self.query._packed_params._packed_params", "quantised"),
        ("bert.encoder.layer.0.attention.self.query.weight_scale", "quantised"),
        ("bert.encoder.layer.0.attention.self.query.weight_scale_inv", "quantised"),
        ("encoder.layers.0.self_attention.query_key_value.weight", "Megatron"),
        ("language_model.embedding.word_embeddings.weight", "Megatron"),
    ],
)
def test_adapters_and_quantised_weights_are_refused_by_name(name: str, what: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=what) as refusal:
        REAL.identify([*REAL.header("BertModel"), stored(name, 1)])
    assert refusal.value.tensor == name
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("dialect", "more"),
    [("pt", "embeddings.LayerNorm.gamma"), ("tf", "bert/embeddings/word_embeddings/embeddings:0")],
)
def test_two_claims_to_one_place_are_damage(dialect: str, more: str) -> None:
    with pytest.raises(DamagedCheckpoint, match="both claim to be embeddings") as refusal:
        REAL.identify([*REAL.header("BertModel", dialect), stored(more, 35)])
    assert refusal.value.tensor == more


def test_layers_are_known_as_far_as_they_follow_each_other() -> None:
    deep = REAL.header("BertModel", num_hidden_layers=13)
    assert not REAL.identify(deep).unrecognised
    torn = REAL.identify(without(deep, "layer.4."))
    assert {tensor.name.split(".")[2] for tensor in torn.unrecognised} == {str(number) for number in range(5, 13)}


@BOTH
@settings(deadline=None, max_examples=30)
@given(st.randoms(use_true_random=False))
def test_order_of_the_header_does_not_matter(dialect: str, order: random.Random) -> None:
    header = REAL.header("BertForPreTraining", dialect)
    straight = REAL.identify(header)
    shuffled = REAL.identify(order.sample(header, len(header)))
    assert shuffled.prefix == straight.prefix
    assert shuffled.by_id == straight.by_id
