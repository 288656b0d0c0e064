"""The PyTorch oracle of BERT against transformers 5 in float64: what test_reference_families.py does not ask of all."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import checkpoints as cp
import numpy as np
import pytest
import reference_models as rm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_models import TOLERANCE, Tensors, flat
from relative_bert import KINDS, LAYERS, relative_outputs, relative_state
from tiny_models import BATCH, HEADS, LENGTH, SIZES, config, inputs, relative_error, torch_inputs, torch_model
from transformers.activations import ACT2FN

from bertconv import tasks
from bertconv.config import BertConfig
from bertconv.config.classes import ACTIVATIONS
from bertconv.errors import (
    DamagedCheckpoint,
    MappingError,
    MissingTensors,
    RequestError,
    ShapeMismatch,
    UnsupportedCheckpoint,
)
from bertconv.mapping.table import table_for
from bertconv.verify.reference import Reference, activations
from bertconv.verify.reference import canonical_names as canonical_names_of

EVERYTHING = {"output_hidden_states": True, "output_attentions": True, "use_cache": False}
CROSS = {"is_decoder": True, "add_cross_attention": True}
DECODERS = ["BertModel", "BertLMHeadModel"]
WORD_HEADS = ["BertForPreTraining", "BertForMaskedLM", "BertLMHeadModel"]
SIDES = pytest.mark.parametrize("changes", [{}, {"is_decoder": True}], ids=["encoder", "decoder"])
TASKS = table_for("bert").tasks

Arrays = Mapping[str, np.ndarray]


def reference_of(state: Mapping[str, torch.Tensor], settings: Mapping[str, Any], head: str) -> Reference:
    return Reference(state, settings, TASKS[head], "bert")


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    return canonical_names_of(names, "bert")


@cache
def shared_model(head: str = "BertModel", **changes: Any) -> Any:
    """A model of transformers that no test changes."""
    return torch_model(head, **changes)


def values(head: str = "BertModel", **changes: Any) -> dict[str, Any]:
    return dict(BertConfig(**config(head, **changes)).values)


def canonical(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    names = canonical_names(tensors)
    return {names[name]: tensors[name] for name in names}


def weights(model: Any) -> Tensors:
    """Every parameter once: a tied decoder is not there."""
    return canonical({name: value.detach() for name, value in model.named_parameters()})


def reference(model: Any, head: str = "BertModel", **changes: Any) -> Reference:
    return reference_of(canonical(model.state_dict()), values(head, **changes), head)


def theirs(model: Any, head: str, arrays: Arrays) -> Tensors:
    with torch.no_grad():
        return flat(model(**torch_inputs(head, arrays), **EVERYTHING))


def assert_same(found: Mapping[str, Any], expected: Mapping[str, torch.Tensor]) -> None:
    tensors = flat(found)
    assert sorted(tensors) == sorted(expected)
    errors = {name: relative_error(tensors[name].detach(), expected[name].detach()) for name in expected}
    assert max(errors.values()) <= TOLERANCE, errors


def check(head: str, arrays: Arrays, model: Any = None, **changes: Any) -> Tensors:
    """That both give the same; what transformers gives."""
    model = model or shared_model(head, **changes)
    expected = theirs(model, head, arrays)
    assert_same(reference(model, head, **changes)(torch_inputs(head, arrays)), expected)
    return expected


# Outputs


@pytest.mark.parametrize("head", [head for head in HEADS if head != "BertLMHeadModel"])
def test_every_head_may_be_causal(head: str) -> None:
    causal, plain = (check(head, inputs(head, 4), is_decoder=flag) for flag in (True, False))
    assert relative_error(causal["hidden_states.2"], plain["hidden_states.2"]) > 0.01


def test_a_decoder_without_pooler() -> None:
    changes = CROSS
    model = torch_model(add_pooling_layer=False, **changes)
    assert "pooler_output" not in reference(model, **changes)(torch_inputs("BertModel", inputs()))
    expected = theirs(model, "BertModel", inputs())
    expected.pop("pooler_output", None)
    assert_same(reference(model, **changes)(torch_inputs("BertModel", inputs())), expected)


@pytest.mark.parametrize(
    "changes",
    [{"num_attention_heads": 1}, {"num_attention_heads": 35}, {"type_vocab_size": 1},
     {"pad_token_id": None}, {"chunk_size_feed_forward": 1}],
    ids=str,
)  # fmt: skip
def test_other_configs(changes: dict[str, Any]) -> None:
    arrays = inputs()
    arrays["token_type_ids"] %= changes.get("type_vocab_size", 3)
    check("BertForPreTraining", arrays, **changes)


def test_no_layers() -> None:
    model = shared_model(num_hidden_layers=0)
    found = reference(model, num_hidden_layers=0)(torch_inputs("BertModel", inputs()))
    expected = model(**torch_inputs("BertModel", inputs()))
    assert (len(found["hidden_states"]), found["attentions"]) == (1, ())
    assert relative_error(found["last_hidden_state"], expected.last_hidden_state.detach()) <= TOLERANCE


def test_24_layers() -> None:
    assert "hidden_states.24" in check("BertForPreTraining", inputs(), num_hidden_layers=24, std=0.05)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), head=st.sampled_from(HEADS))
def test_every_size(data: st.DataObject, head: str) -> None:
    def number(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    heads, length, segments, words = number(1, 4), number(1, 9), number(1, 3), number(1, 50)
    changes = {
        "num_attention_heads": heads, "hidden_size": heads * number(1, 5), "intermediate_size": number(1, 20),
        "num_hidden_layers": number(1, 3), "type_vocab_size": segments, "vocab_size": words,
        "max_position_embeddings": number(length, 12), "layer_norm_eps": 1e-5, "tie_word_embeddings": number(0, 1) == 1,
    }  # fmt: skip
    shape = (number(1, 3), number(1, 3), length) if head == "BertForMultipleChoice" else (number(1, 3), length)
    rng = np.random.default_rng(number(0, 2**32))
    arrays = {
        "input_ids": rng.integers(0, words, shape), "token_type_ids": rng.integers(0, segments, shape),
        "attention_mask": rng.integers(0, 2, shape),
    }  # fmt: skip
    check(head, arrays, torch_model(head, **changes), **changes)


# Masks


@SIDES
def test_masks_of_three_axes(changes: dict[str, Any]) -> None:
    """As transformers' mask of four axes: it takes the place of a decoder's rule that nobody looks ahead."""
    seen = np.random.default_rng(2).random((BATCH, LENGTH, LENGTH)) < 0.6
    seen[1, 2:5] = False
    arrays, model = inputs(padded=False), shared_model(**changes)
    added = np.where(seen[:, None], 0.0, np.finfo(np.float64).min)
    expected = theirs(model, "BertModel", {**arrays, "attention_mask": added})
    for mask in (seen, seen.astype(np.int64), seen.astype(np.float32)):
        tensors = torch_inputs("BertModel", {**arrays, "attention_mask": mask})
        assert_same(reference(model, **changes)(tensors), expected)


def test_masks_of_three_axes_for_choices() -> None:
    head = "BertForMultipleChoice"
    run, arrays = reference(shared_model(head), head), inputs(head)
    mask = arrays["attention_mask"]
    full = np.broadcast_to(mask[:, :, None], (*mask.shape, LENGTH))
    expected = flat(run(torch_inputs(head, arrays)))
    assert_same(run(torch_inputs(head, {**arrays, "attention_mask": full.copy()})), expected)


@SIDES
def test_a_wholly_masked_sequence(changes: dict[str, Any]) -> None:
    arrays = inputs()
    arrays["attention_mask"][1] = 0
    arrays["attention_mask"][2, :3] = 0  # on the left: a decoder's first positions see nothing
    expected = check("BertModel", arrays, **changes)
    assert np.allclose(expected["attentions.1"][1], 1 / LENGTH, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_wholly_masked_sequence_is_finite_in_every_type(dtype: str) -> None:
    state = {name: value.to(getattr(torch, dtype)) for name, value in weights(shared_model()).items()}
    arrays = inputs()
    arrays["attention_mask"][1] = 0
    found = flat(reference_of(state, values(), "BertModel")(torch_inputs("BertModel", arrays)))
    assert {value.dtype for value in found.values()} == {getattr(torch, dtype)}
    assert all(value.isfinite().all() for value in found.values())


def test_a_wholly_masked_sequence_with_low_scores_in_float16() -> None:
    """They and the mask add up to less than float16 has, which is negative infinity everywhere."""
    state = {name: value.half() for name, value in weights(shared_model()).items()}
    place = "bert.encoder.layer.0.attention.self"
    state |= {
        f"{place}.query.bias": torch.full((35,), 10.0).half(),
        f"{place}.key.bias": torch.full((35,), -10.0).half(),
    }
    arrays = inputs()
    arrays["attention_mask"][1] = 0
    found = reference_of(state, values(), "BertModel")(torch_inputs("BertModel", arrays))["attentions"][0][1]
    assert np.allclose(found, 1 / LENGTH, rtol=1e-3)


def test_an_encoders_states_are_cast() -> None:
    state = {name: value.float() for name, value in weights(shared_model(**CROSS)).items()}
    arrays = torch_inputs("BertModel", {**inputs(), **rm.sources()})
    found = flat(reference_of(state, values(**CROSS), "BertModel")(arrays))
    assert {value.dtype for value in found.values()} == {torch.float32}


@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-5), ("float16", 0.02), ("bfloat16", 0.1)])
@pytest.mark.parametrize("head", HEADS)
def test_other_element_types(head: str, dtype: str, near: float) -> None:
    model, arrays = shared_model(head, std=0.1), torch_inputs(head, inputs(head))
    kind = getattr(torch, dtype)
    state = {name: value.to(kind) for name, value in weights(model).items()}
    found = flat(reference_of(state, values(head), head)(arrays))
    expected = flat(reference_of({name: value.double() for name, value in state.items()}, values(head), head)(arrays))
    assert {value.dtype for value in found.values()} == {kind}
    errors = [relative_error(found[name].double(), expected[name]) for name in expected]
    assert 1e-9 < max(errors) < near


# Activations


def test_every_activation_is_known() -> None:
    assert set(activations.ACTIVATIONS) == ACTIVATIONS


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations(name: str) -> None:
    """Values and gradients, with the numbers where definitions change; and far outside, where transformers has some."""
    usual = [*np.linspace(-30, 30, 6001), -10.0, -3.0, 0.0, 3.0, 6.0, 10.0, 20.0]
    far = [sign * 10.0**power for sign in (-1, 1) for power in (-300, -8, 2, 4, 50)]
    x = torch.tensor([*usual, *far], dtype=torch.float64)
    for ours, wanted in zip(slopes(activations.activation(name), x), slopes(ACT2FN[name], x), strict=True):
        assert wanted[: len(usual)].isfinite().all()
        known = wanted.isfinite()
        torch.testing.assert_close(ours[known], wanted[known], rtol=TOLERANCE, atol=TOLERANCE)


def slopes(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = x.clone().requires_grad_()
    found = function(leaf)
    return found.detach(), *torch.autograd.grad(found.sum(), leaf)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_in_a_model(name: str) -> None:
    expected = check("BertForMaskedLM", inputs(seed=9), hidden_act=name)
    if name not in {"gelu", "gelu_python", "gelu_10"}:  # those are one and the same below 10
        usual = theirs(shared_model("BertForMaskedLM"), "BertForMaskedLM", inputs(seed=9))
        assert relative_error(expected["logits"], usual["logits"]) > 1e3 * TOLERANCE


@pytest.mark.parametrize("name", ["prelu", "xielu", "GELU", ""])
def test_other_activations_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=re.escape(repr(name))):
        activations.activation(name)
    with pytest.raises(UnsupportedCheckpoint):
        reference_of(weights(shared_model()), {**values(), "hidden_act": name}, "BertModel")


# Relative positions


@SIDES
@pytest.mark.parametrize("kind", KINDS)
def test_relative_positions(kind: str, changes: dict[str, Any]) -> None:
    arrays, state = inputs(), relative_state()
    settings_ = values(position_embedding_type=kind, **changes)
    found = reference_of(canonical(state), settings_, "BertModel")(torch_inputs("BertModel", arrays))
    expected = relative_outputs(state, kind, arrays, causal=bool(changes))
    ours = [*found["hidden_states"], *found["attentions"]]
    assert max(relative_error(*pair) for pair in zip(ours, expected, strict=True)) <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_cross_attention_has_no_relative_positions(kind: str) -> None:
    """Its probabilities are those of its queries and keys alone, as in transformers 4.57.6."""
    tables = {name: value for name, value in relative_state().items() if "distance" in name}
    model = shared_model(**CROSS)
    arrays = torch_inputs("BertModel", {**inputs(), "encoder_hidden_states": rm.sources()["encoder_hidden_states"]})
    seen: dict[str, torch.Tensor] = {}
    run = reference_of(
        weights(model) | canonical_tables(tables), values(position_embedding_type=kind, **CROSS), "BertModel"
    )
    found = run(arrays, lambda name, _, out: seen.update({name: out}))
    heads = SIZES["num_attention_heads"]
    for number, probabilities in enumerate(found["cross_attentions"]):
        query, key = (
            seen[f"bert.encoder.layer.{number}.crossattention.self.{name}"].unflatten(-1, (heads, -1)).transpose(1, 2)
            for name in ("query", "key")
        )
        expected = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        assert relative_error(probabilities, expected) <= TOLERANCE


def canonical_tables(tables: Mapping[str, torch.Tensor]) -> Tensors:
    return {f"bert.{name}": value for name, value in tables.items()}


# Tied weights


def test_a_decoder_is_no_part_of_a_base_model() -> None:
    state = canonical(shared_model("BertForMaskedLM").state_dict())
    del state[cp.WORD]
    with pytest.raises(MissingTensors, match=re.escape(cp.WORD)):
        reference_of(state, values(), "BertModel")


@pytest.mark.parametrize("head", WORD_HEADS)
def test_a_config_that_ties_them_wins_over_copies(head: str) -> None:
    state = canonical(shared_model(head).state_dict())
    state |= {cp.DECODER: state[cp.WORD] + 1, cp.DECODER_BIAS: state[cp.MLM_BIAS] + 1}
    expected = theirs(shared_model(head), head, inputs(head))
    assert_same(reference_of(state, values(head), head)(torch_inputs(head, inputs(head))), expected)


def test_an_untied_decoder_may_share_the_bias() -> None:
    head, untied = "BertForMaskedLM", {"tie_word_embeddings": False}
    model = torch_model(head, **untied)
    model.cls.predictions.decoder.bias = model.cls.predictions.bias
    state = canonical(model.state_dict())
    del state[cp.DECODER_BIAS]
    found = reference_of(state, values(head, **untied), head)(torch_inputs(head, inputs()))
    assert_same(found, theirs(model, head, inputs()))


# Gradients


def test_gradients_of_a_decoder_with_cross_attention() -> None:
    arrays = torch_inputs("BertModel", {**inputs(), **rm.sources()})
    found = rm.gradients_of("bert", tasks.BASE, shared_model(**CROSS), arrays, **CROSS)
    assert any("crossattention" in name for name in found)


@pytest.mark.parametrize("pad", [-1, -101, 100])
def test_paddings_at_the_end(pad: int) -> None:
    changes = {"pad_token_id": pad}
    arrays = inputs()
    arrays["input_ids"][0, :3] = pad % SIZES["vocab_size"]
    found = rm.gradients_of("bert", tasks.BASE, torch_model(**changes), torch_inputs("BertModel", arrays), **changes)
    assert not found[cp.WORD][pad].any()


def test_a_padding_that_is_no_word_has_no_effect() -> None:
    state = {name: value.clone().requires_grad_() for name, value in weights(shared_model()).items()}
    outputs = reference_of(state, values(pad_token_id=5000), "BertModel")(torch_inputs("BertModel", inputs()))
    assert torch.autograd.grad(outputs["last_hidden_state"].square().sum(), state[cp.WORD])[0][0].any()


# What is watched


@pytest.mark.parametrize("head", HEADS)
def test_what_is_watched_can_be_recomputed(head: str) -> None:
    state = canonical(shared_model(head).state_dict())
    functional = torch.nn.functional
    for name, given_, found in rm.watched(reference_of(state, values(head), head), torch_inputs(head, inputs(head))):
        weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
        if bias is None:
            expected = weight[given_]
        elif weight.ndim == 1:
            expected = functional.layer_norm(given_, weight.shape, weight, bias, 1e-12)
        else:
            expected = functional.linear(given_, weight, bias)
        assert torch.equal(found, expected), name


@pytest.mark.parametrize("kind", KINDS)
def test_distances_are_watched_and_positions_are_not(kind: str) -> None:
    state = canonical(relative_state())
    run = reference_of(state, values(position_embedding_type=kind), "BertModel")
    names = [name for name, _, _ in rm.watched(run, torch_inputs("BertModel", inputs()))]
    assert sum(name.endswith("attention.self.distance_embedding") for name in names) == LAYERS
    expected = {name.rpartition(".")[0] for name in state} - {"bert.embeddings.position_embeddings"}
    assert (len(names), set(names)) == (len(expected), expected)


def test_watching_changes_nothing() -> None:
    run, arrays = reference(shared_model()), torch_inputs("BertModel", inputs())
    plain, seen = flat(run(arrays)), flat(run(arrays, lambda *_: None))
    assert all(torch.equal(plain[name], seen[name]) for name in plain)


# Names

WRAPPERS = ["", "module.", "model.", "_orig_mod.", "0.auto_model.", "module._orig_mod.model.", "bert.", "a.b-c.7.bert."]
JUNK = [
    "embeddings.position_ids", "embeddings.token_type_ids", "encoder.layer.0.attention.self.query.lora_A.weight",
    "encoder.layer.x.output.dense.weight", "encoder.layer.0.output.dense.gamma", "pooler.dense.kernel",
    "encoder.layer.0.crossattention.self.distance_embedding.weight", "encoder.layer.0.output.LayerNorm.weight.exp_avg",
    "encoder.encoder.layer.0.output.dense.weight",
]  # fmt: skip


@cache
def names_of(head: str) -> tuple[str, ...]:
    changes = {"num_hidden_layers": 11, **(CROSS if head in DECODERS else {})}
    found = list(shared_model(head, **changes).state_dict())
    if head == "BertModel":
        found += [f"encoder.layer.{number}.attention.self.distance_embedding.weight" for number in range(11)]
    return tuple(found)


def full(head: str, name: str) -> str:
    return f"bert.{name}" if head == "BertModel" else name


@pytest.mark.parametrize("prefix", WRAPPERS)
@pytest.mark.parametrize("head", HEADS)
def test_names_under_a_prefix(head: str, prefix: str) -> None:
    body = prefix if head == "BertModel" else f"{prefix}bert."
    junk = [*(body + name for name in JUNK), "optimizer.state.0.exp_avg", "global_step", "lm_head.weight", "x.cls.bias"]
    expected = {prefix + name: full(head, name) for name in names_of(head)}
    assert canonical_names([*junk[:5], *expected, *junk[5:]]) == expected


@given(parts=st.lists(st.from_regex(r"[^.\n]{1,6}", fullmatch=True), max_size=4), head=st.sampled_from(HEADS))
def test_names_under_any_prefix(parts: list[str], head: str) -> None:
    prefix = "".join(f"{part}." for part in parts)
    expected = {prefix + name: full(head, name) for name in names_of(head)}
    assert canonical_names(expected) == expected


def test_a_head_may_stand_outside_its_bodys_prefix() -> None:
    names = ["net.bert.bert.embeddings.word_embeddings.weight", "net.bert.pooler.dense.bias", "other.qa_outputs.weight"]
    heads = {
        "net.bert.cls.seq_relationship.bias": "cls.seq_relationship.bias", "net.classifier.weight": "classifier.weight",
        "qa_outputs.bias": "qa_outputs.bias", "net.bert.bert.cls.predictions.bias": "cls.predictions.bias",
    }  # fmt: skip
    assert canonical_names([*names, *heads]) == {names[0]: cp.WORD, **heads}


def test_gamma_and_beta() -> None:
    head = "BertForPreTraining"
    expected = {
        re.sub(
            r"(LayerNorm)\.(weight|bias)$", lambda m: f"{m[1]}.{'gamma' if m[2] == 'weight' else 'beta'}", name
        ): name
        for name in names_of(head)
    }
    assert sum(name.endswith(("gamma", "beta")) for name in expected) == 48
    assert canonical_names(expected) == expected


def test_a_file_with_a_prefix_and_gamma_runs() -> None:
    head = "BertForPreTraining"
    state = {
        f"module.{name}".replace("LayerNorm.weight", "LayerNorm.gamma"): value
        for name, value in shared_model(head).state_dict().items()
    }
    expected = theirs(shared_model(head), head, inputs(head))
    assert_same(reference_of(canonical(state), values(head), head)(torch_inputs(head, inputs(head))), expected)


def test_names_that_cannot_be_told_apart() -> None:
    with pytest.raises(UnsupportedCheckpoint, match="none of its 1 tensors"):
        canonical_names(["roberta.lm_head.weight"])
    with pytest.raises(MappingError, match=r"2 encoders, under 'a\.', 'b\.bert\.'"):
        canonical_names(["a.embeddings.word_embeddings.weight", "b.bert.embeddings.word_embeddings.weight"])
    both = [f"embeddings.LayerNorm.{leaf}" for leaf in ("gamma", "weight")]
    with pytest.raises(DamagedCheckpoint, match=r"gamma and .*weight both stand for bert\.embeddings\.LayerNorm"):
        canonical_names(["embeddings.word_embeddings.weight", *both])


# Errors


@pytest.mark.parametrize("head", HEADS)
def test_every_missing_weight_is_named(head: str) -> None:
    changes = CROSS if head in DECODERS else {}
    state = weights(shared_model(head, **changes))
    optional = {f"bert.pooler.dense.{leaf}" for leaf in ("weight", "bias")}
    for name in state:
        fewer = {other: value for other, value in state.items() if other != name}
        with pytest.raises(MissingTensors, match=re.escape(name)) as caught:
            reference_of(fewer, values(head, **changes), head)
        assert caught.value.tensor == name
    bare = {name: value for name, value in state.items() if name not in optional}
    if head == "BertModel":
        reference_of(bare, values(head, **changes), head)
    elif bare != state:
        with pytest.raises(MissingTensors, match="nor are 1 others"):
            reference_of(bare, values(head, **changes), head)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_distances_are_named(kind: str) -> None:
    with pytest.raises(MissingTensors, match=r"layer\.0\.attention\.self\.distance_embedding\.weight: .* nor are 1"):
        reference_of(weights(shared_model()), values(position_embedding_type=kind), "BertModel")


def test_weights_of_other_heads_do_no_harm() -> None:
    state = weights(shared_model("BertForPreTraining")) | {"classifier.weight": torch.zeros(1, dtype=torch.int64)}
    expected = theirs(shared_model("BertForPreTraining").bert, "BertModel", inputs())
    assert_same(reference_of(state, values(), "BertModel")(torch_inputs("BertModel", inputs())), expected)


def test_what_cannot_be_asked() -> None:
    state = weights(shared_model())
    with pytest.raises(RequestError, match="'fun'"):
        Reference(state, values(), "fun", "bert")
    with pytest.raises(RequestError, match="'discriminator'"):
        Reference(state, values(), "discriminator", "bert")
    with pytest.raises(RequestError, match="family 'gpt'") as caught:
        Reference(state, values(), "base", "gpt")
    assert "bert" in caught.value.hint
    with pytest.raises(RequestError, match=r"torch\.float32, torch\.float64"):
        reference_of(state | {cp.WORD: state[cp.WORD].float()}, values(), "BertModel")
    with pytest.raises(RequestError, match=r"torch\.int64"):
        reference_of({name: value.long() for name, value in state.items()}, values(), "BertModel")
    run, arrays = reference_of(state, values(), "BertModel"), torch_inputs("BertModel", inputs())
    with pytest.raises(RequestError, match="no input 'encoder_hidden_states'"):
        run(arrays | torch_inputs("BertModel", rm.sources()))
    with pytest.raises(RequestError, match="no input_ids"):
        run({"attention_mask": arrays["attention_mask"]})
    with pytest.raises(ShapeMismatch, match="4 axes"):
        run(arrays | {"attention_mask": arrays["attention_mask"][:, None, None]})


def test_question_answering_has_two_outputs() -> None:
    head = "BertForQuestionAnswering"
    state = weights(shared_model("BertForTokenClassification"))
    state |= {f"qa_outputs.{leaf}": state[f"classifier.{leaf}"] for leaf in ("weight", "bias")}
    with pytest.raises(ShapeMismatch, match="this one has 7"):
        reference_of(state, values(head), head)(torch_inputs(head, inputs()))


def test_it_is_independent_of_tables_and_keras_and_loaded_only_when_asked_for() -> None:
    code = (
        "import sys, bertconv, bertconv.verify; early = 'torch' in sys.modules; import bertconv.verify.reference;"
        "wrong = ('bertconv.ma', 'bertconv.mo', 'tensorflow', 'keras', 'transf');"
        "print(early, *sorted(name for name in sys.modules if name.startswith(wrong)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
