"""The PyTorch oracle of every family against transformers 5 in float64: outputs, gradients, modules, names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import reference_models as rm
import torch
from reference_models import COMPUTED, HEADS, MODELS, SIZES, TOLERANCE, TWINS, WORD_HEADS, WORDS, Tensors
from tiny_models import relative_error

from bertconv import tasks
from bertconv.errors import MissingTensors, RequestError, UnsupportedCheckpoint
from bertconv.verify.reference import Reference, canonical_names, family_names, family_of

PADDINGS = ("right", "left", "none", "holes")
CROSS = {"is_decoder": True, "add_cross_attention": True}
CROSS_HEADS = [(kind, task) for kind in ("bert", "roberta", "electra") for task in (tasks.BASE, tasks.CAUSAL_LM)]
UNTIED = {"tie_word_embeddings": False}

heads = pytest.mark.parametrize(("kind", "task"), COMPUTED)
named_heads = pytest.mark.parametrize(("kind", "task"), [head for head in HEADS if head[0] != "bert"])
"""Names of BERT's, longer and stranger ones, are in test_reference.py."""


def check(kind: str, task: str, inputs: Mapping[str, Any], model: Any = None, **changes: Any) -> Tensors:
    """That both give the same; what transformers gives."""
    model = model or rm.shared_model(kind, task, **changes)
    run = rm.reference_of(kind, task, rm.canonical(kind, model.state_dict()), **changes)
    tensors = rm.tensors_of(dict(inputs))
    with torch.no_grad():
        expected = rm.theirs(kind, model, tensors)
    errors = rm.differences(run(tensors), expected)
    assert max(errors.values()) <= TOLERANCE, errors
    return expected


def test_every_family_is_here() -> None:
    assert {rm.family_of(kind) for kind in MODELS} == set(family_names())


@pytest.mark.parametrize("padding", PADDINGS)
@heads
def test_every_output_of_every_head(kind: str, task: str, padding: str) -> None:
    expected = check(kind, task, rm.inputs_of(kind, task, padding, 1))
    assert {"hidden_states.2", "attentions.1"} < set(expected)


@heads
def test_ids_alone(kind: str, task: str) -> None:
    check(kind, task, {"input_ids": rm.inputs_of(kind, task, "left", 2)["input_ids"]})


@pytest.mark.parametrize(("kind", "task"), [head for head in COMPUTED if head != ("distilbert", tasks.MULTIPLE_CHOICE)])
def test_positions(kind: str, task: str) -> None:
    """Not of DistilBERT's choices, which transformers forgets to bring into rows."""
    inputs = rm.inputs_of(kind, task, seed=3)
    rows = np.random.default_rng(3).integers(0, SIZES["max_position_embeddings"], inputs["input_ids"].shape)
    check(kind, task, {**inputs, "position_ids": rows})
    if task != tasks.MULTIPLE_CHOICE:
        check(kind, task, {**inputs, "position_ids": rows[:1]})  # one row for all


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize(("kind", "task"), CROSS_HEADS)
def test_cross_attention(kind: str, task: str, masked: bool) -> None:
    source = rm.sources()
    if not masked:
        del source["encoder_attention_mask"]
    expected = check(kind, task, {**rm.inputs_of(kind, task), **source}, **CROSS)
    assert {"cross_attentions.1", "attentions.1"} < set(expected)


@pytest.mark.parametrize(("kind", "task"), CROSS_HEADS)
def test_cross_attention_without_an_encoder(kind: str, task: str) -> None:
    expected = check(kind, task, rm.inputs_of(kind, task), **CROSS)
    assert not any(name.startswith("cross_attentions") for name in expected)


@pytest.mark.parametrize("task", [tasks.BASE, tasks.CAUSAL_LM])
@pytest.mark.parametrize("kind", ["roberta", "roberta-prelayernorm", "electra"])
def test_causal_or_not(kind: str, task: str) -> None:
    """A model for causal language is one of its config's, as in transformers."""
    inputs = rm.inputs_of(kind, task, "right")
    both, back = (check(kind, task, inputs, is_decoder=flag)["hidden_states.2"] for flag in (False, True))
    assert relative_error(both, back) > 0.01


@pytest.mark.parametrize("kind", ["distilbert", "mpnet", "albert"])
def test_is_decoder_is_not_heeded_by_the_others(kind: str) -> None:
    state = rm.canonical(kind, rm.shared_model(kind, tasks.BASE).state_dict())
    tensors = rm.tensors_of(rm.inputs_of(kind, tasks.BASE))
    one, other = (rm.reference_of(kind, tasks.BASE, state, is_decoder=flag)(tensors) for flag in (False, True))
    assert torch.equal(one["last_hidden_state"], other["last_hidden_state"])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["bert", "roberta", "roberta-prelayernorm", "mpnet", "albert"])
def test_without_pooler(kind: str) -> None:
    inputs = rm.inputs_of(kind, tasks.BASE)
    model = rm.model_of(kind, tasks.BASE, add_pooling_layer=False)
    expected = rm.theirs(kind, model, rm.tensors_of(inputs))
    expected.pop("pooler_output", None)
    found = rm.reference_of(kind, tasks.BASE, rm.canonical(kind, model.state_dict()))(rm.tensors_of(inputs))
    assert max(rm.differences(found, expected).values()) <= TOLERANCE
    assert "pooler_output" not in found


CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    *((kind, task, {"hidden_act": "silu"}) for kind, task in COMPUTED if kind not in TWINS),
    *((kind, tasks.BASE, {"layer_norm_eps": 0.3}) for kind in MODELS if kind not in TWINS),
    *((kind, tasks.MASKED_LM, {"num_attention_heads": 7}) for kind in MODELS if kind not in TWINS),
    ("roberta", tasks.MASKED_LM, {"pad_token_id": 3}), ("mpnet", tasks.BASE, {"pad_token_id": 3}),
    ("electra", tasks.BASE, {"embedding_size": 35}), ("electra", tasks.MASKED_LM, {"embedding_size": 35}),
    ("electra", tasks.MULTIPLE_CHOICE, {"summary_use_proj": False}),
    ("electra", tasks.MULTIPLE_CHOICE, {"summary_activation": "tanh"}),
    ("electra", tasks.MULTIPLE_CHOICE, {"summary_activation": ""}),
    ("albert", tasks.PRETRAINING, {"embedding_size": 35}),
    ("albert", tasks.PRETRAINING, {"num_hidden_groups": 1, "inner_group_num": 1}),
    ("albert", tasks.BASE, {"num_hidden_layers": 5, "num_hidden_groups": 3, "inner_group_num": 1}),
    ("albert", tasks.BASE, {"num_hidden_layers": 4, "num_hidden_groups": 4, "inner_group_num": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "task", "changes"), CHANGES, ids=str)
def test_other_configs(kind: str, task: str, changes: dict[str, Any]) -> None:
    check(kind, task, rm.inputs_of(kind, task, seed=4), **changes)


def test_distances_of_every_bucket() -> None:
    """Long sequences: near, far, and beyond the last bucket."""
    ids = np.random.default_rng(0).integers(2, 101, (1, 300))
    check("mpnet", tasks.BASE, {"input_ids": ids}, max_position_embeddings=310, num_hidden_layers=1)


def test_other_summaries_are_refused() -> None:
    state = rm.canonical("electra", rm.shared_model("electra", tasks.MULTIPLE_CHOICE).state_dict())
    with pytest.raises(UnsupportedCheckpoint, match="'mean'"):
        rm.reference_of("electra", tasks.MULTIPLE_CHOICE, state, summary_type="mean")
    rm.reference_of("electra", tasks.BASE, state, summary_type="mean")


def test_positions_need_a_pad_id() -> None:
    state = rm.canonical("roberta", rm.shared_model("roberta", tasks.BASE).state_dict())
    with pytest.raises(UnsupportedCheckpoint, match="no pad_token_id"):
        rm.reference_of("roberta", tasks.BASE, state, pad_token_id=None)


@pytest.mark.parametrize("pad", [-2, 5000])
def test_positions_need_a_row_behind_the_pad_id(pad: int) -> None:
    state = rm.canonical("roberta", rm.shared_model("roberta", tasks.BASE).state_dict())
    with pytest.raises(UnsupportedCheckpoint, match=f"pad_token_id, which is {pad}: a table of .* has none for a tok"):
        rm.reference_of("roberta", tasks.BASE, state, pad_token_id=pad)


def test_distilberts_epsilon_is_fixed() -> None:
    state = rm.canonical("distilbert", rm.shared_model("distilbert", tasks.BASE).state_dict())
    tensors = rm.tensors_of(rm.inputs_of("distilbert", tasks.BASE))
    one, other = (
        rm.reference_of("distilbert", tasks.BASE, state, layer_norm_eps=epsilon)(tensors) for epsilon in (1e-12, 0.3)
    )
    assert torch.equal(one["last_hidden_state"], other["last_hidden_state"])  # type: ignore[arg-type]


# Tied weights


@pytest.mark.parametrize(("kind", "task"), WORD_HEADS)
def test_untied_decoder(kind: str, task: str) -> None:
    """With weights and a bias of its own; what is called the head's bias then has no effect, as in transformers 5."""
    state = rm.canonical(kind, rm.shared_model(kind, task, **UNTIED).state_dict())
    for copy, original in family_of(rm.family_of(kind)).ties.items():
        assert not torch.equal(state[copy], state[original])
    check(kind, task, rm.inputs_of(kind, task), **UNTIED)


@pytest.mark.parametrize(("kind", "task"), WORD_HEADS)
def test_one_of_two_tied_copies_is_enough(kind: str, task: str) -> None:
    model = rm.shared_model(kind, task)
    state = rm.canonical(kind, model.state_dict())
    inputs = rm.tensors_of(rm.inputs_of(kind, task))
    expected = rm.theirs(kind, model, inputs)
    ties = family_of(rm.family_of(kind)).ties
    for gone in (*({name} for name in (*ties, *ties.values())), set(ties)):
        fewer = {name: value for name, value in state.items() if name not in gone}
        assert max(rm.differences(rm.reference_of(kind, task, fewer)(inputs), expected).values()) <= TOLERANCE


# Gradients


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@heads
def test_gradients(kind: str, task: str, tied: bool) -> None:
    """Also of a padding's row, which is none where it is looked up, and through a wholly masked sequence."""
    arrays = rm.inputs_of(kind, task, "right", 6)
    arrays["attention_mask"][1] = 0
    changes = {"tie_word_embeddings": tied}
    found = rm.gradients_of(kind, task, rm.shared_model(kind, task, **changes), rm.tensors_of(arrays), **changes)
    family = family_of(rm.family_of(kind))
    original = f"{family.base}.embeddings.word_embeddings.weight"
    copies = [
        copy for copy, of in family.ties.items() if of == original
    ]  # duplicates' heads come first: a tied one is named
    words = next(found[name] for name in (original, *copies) if name in found)
    assert words.any()
    assert bool(words[rm.settings_of(kind, task)["pad_token_id"]].any()) == (tied and task in WORDS)


# What is watched

WATCHED = [
    *((kind, task, {}) for kind, task in COMPUTED),
    *((kind, task, UNTIED) for kind, task in WORD_HEADS),
    *((kind, task, CROSS) for kind, task in CROSS_HEADS),
]


@pytest.mark.parametrize(("kind", "task", "changes"), WATCHED, ids=str)
def test_watch_sees_every_module_of_transformers_in_order(kind: str, task: str, changes: dict[str, Any]) -> None:
    model = rm.shared_model(kind, task, **changes)
    inputs = rm.tensors_of({**rm.inputs_of(kind, task), **(rm.sources() if changes == CROSS else {})})
    state = rm.canonical(kind, model.state_dict())
    found = rm.watched(rm.reference_of(kind, task, state, **changes), inputs)
    expected = rm.hooked(kind, model, inputs)
    assert [name for name, _, _ in found] == [name for name, _, _ in expected]
    biases = family_of(rm.family_of(kind)).ties.values()  # of heads, which are their decoders'
    unseen = {name.rpartition(".")[0] for name in state} - {name for name, _, _ in found}
    assert unseen <= {name.removesuffix(".bias") for name in biases}
    for (name, *ours), (_, *wanted) in zip(found, expected, strict=True):
        for mine, other in zip(ours, wanted, strict=True):
            assert relative_error(mine.detach(), other.detach()) <= TOLERANCE, name


# Names


@pytest.mark.parametrize("prefix", ["", "module.", "a.b-c.7."])
@named_heads
def test_names_under_a_prefix(kind: str, task: str, prefix: str) -> None:
    names = list(rm.shared_model(kind, task).state_dict())
    base = family_of(rm.family_of(kind)).base
    expected = {prefix + name: name if task != tasks.BASE else f"{base}.{name}" for name in names}
    junk = ["optimizer.state.0.exp_avg", "global_step", f"{prefix}encoder.layer.0.lora_A.weight"]
    assert canonical_names([*junk, *expected], rm.family_of(kind)) == expected


@named_heads
def test_gamma_and_beta(kind: str, task: str) -> None:
    names = list(canonical_names(rm.shared_model(kind, task).state_dict(), rm.family_of(kind)).values())
    leaves = {"weight": "gamma", "bias": "beta"}
    old = {
        re.sub(r"(?i)(layer_?norm)\.(weight|bias)$", lambda m: f"{m[1]}.{leaves[m[2]]}", name): name for name in names
    }
    assert sum(name.endswith("gamma") for name in old) > 2
    assert canonical_names(old, rm.family_of(kind)) == old


@named_heads
def test_every_missing_weight_is_named(kind: str, task: str) -> None:
    parameters = {name: value.detach() for name, value in rm.shared_model(kind, task).named_parameters()}
    state = rm.canonical(kind, parameters)
    head = family_of(rm.family_of(kind)).heads({})[task]
    optional = {step.name for step in head.pooled if hasattr(step, "name")} if head.optional else set()
    ties = family_of(rm.family_of(kind)).ties
    for name in state:
        fewer = {other: value for other, value in state.items() if other != name}
        with pytest.raises(MissingTensors, match=re.escape(ties.get(name, name))):
            rm.reference_of(kind, task, fewer)
    bare = {name: value for name, value in state.items() if name.rpartition(".")[0] not in optional}
    rm.reference_of(kind, task, bare)


def test_what_cannot_be_asked() -> None:
    state = rm.canonical("distilbert", rm.shared_model("distilbert", tasks.BASE).state_dict())
    with pytest.raises(RequestError, match="no distilbert model has the task 'pretraining'"):
        Reference(state, rm.settings_of("distilbert", tasks.BASE), tasks.PRETRAINING, "distilbert")
    run = rm.reference_of("distilbert", tasks.BASE, state)
    ids = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(RequestError, match="no input 'token_type_ids'"):
        run({"input_ids": ids, "token_type_ids": ids})
