"""The PyTorch oracle of every family but BERT against transformers 5 in float64: outputs, gradients, modules, names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import reference_models as rm
import torch
from reference_models import HEADS, MODELS, SIZES, Tensors
from tiny_models import relative_error

from bertconv import tasks
from bertconv.errors import MissingTensors, RequestError, UnsupportedCheckpoint
from bertconv.verify.reference import Reference, canonical_names, family_names, family_of

TOLERANCE = 1e-12
PADDINGS = ("right", "left", "none", "holes")
WORDS = (tasks.MASKED_LM, tasks.CAUSAL_LM, tasks.PRETRAINING)
WORD_HEADS = [(kind, task) for kind, task in HEADS if task in WORDS]
CROSS = {"is_decoder": True, "add_cross_attention": True}
HeadCase = tuple[str, str]

heads = pytest.mark.parametrize(("kind", "task"), HEADS)


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


def test_every_family_but_bert_is_here() -> None:
    assert {rm.family_of(kind) for kind in MODELS} == set(family_names()) - {"bert"}


@pytest.mark.parametrize("padding", PADDINGS)
@heads
def test_every_output_of_every_head(kind: str, task: str, padding: str) -> None:
    expected = check(kind, task, rm.inputs_of(kind, task, padding, 1))
    assert {"hidden_states.2", "attentions.1"} < set(expected)


@heads
def test_ids_alone(kind: str, task: str) -> None:
    check(kind, task, {"input_ids": rm.inputs_of(kind, task, "left", 2)["input_ids"]})


@pytest.mark.parametrize(("kind", "task"), [head for head in HEADS if head != ("distilbert", tasks.MULTIPLE_CHOICE)])
def test_positions(kind: str, task: str) -> None:
    """Not of DistilBERT's choices, which transformers forgets to bring into rows."""
    inputs = rm.inputs_of(kind, task, seed=3)
    rows = np.random.default_rng(3).integers(0, SIZES["max_position_embeddings"], inputs["input_ids"].shape)
    check(kind, task, {**inputs, "position_ids": rows})


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "camembert", "roberta-prelayernorm", "electra"])
@pytest.mark.parametrize("task", [tasks.BASE, tasks.CAUSAL_LM])
def test_cross_attention(kind: str, task: str) -> None:
    rng = np.random.default_rng(5)
    source = {
        "encoder_hidden_states": rng.standard_normal((rm.BATCH, 6, SIZES["hidden_size"])),
        "encoder_attention_mask": np.array([[1] * 6, [1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 1, 0]]),
    }
    expected = check(kind, task, {**rm.inputs_of(kind, task), **source}, **CROSS)
    assert "cross_attentions.1" in expected
    check(kind, task, rm.inputs_of(kind, task), **CROSS)


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


@pytest.mark.parametrize("kind", ["roberta", "roberta-prelayernorm", "mpnet", "albert"])
def test_without_pooler(kind: str) -> None:
    inputs = rm.inputs_of(kind, tasks.BASE)
    model = rm.model_of(kind, tasks.BASE, add_pooling_layer=False)
    expected = rm.theirs(kind, model, rm.tensors_of(inputs))
    expected.pop("pooler_output", None)
    found = rm.reference_of(kind, tasks.BASE, rm.canonical(kind, model.state_dict()))(rm.tensors_of(inputs))
    assert max(rm.differences(found, expected).values()) <= TOLERANCE
    assert "pooler_output" not in found


CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    *((kind, task, {"hidden_act": "silu"}) for kind, task in HEADS if kind not in ("xlm-roberta", "camembert")),
    *((kind, tasks.BASE, {"layer_norm_eps": 0.3}) for kind in MODELS),
    *((kind, tasks.MASKED_LM, {"num_attention_heads": 7}) for kind in MODELS),
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
    check(kind, task, rm.inputs_of(kind, task), tie_word_embeddings=False)


@pytest.mark.parametrize(("kind", "task"), WORD_HEADS)
def test_one_of_two_tied_copies_is_enough(kind: str, task: str) -> None:
    model = rm.shared_model(kind, task)
    state = rm.canonical(kind, model.state_dict())
    inputs = rm.tensors_of(rm.inputs_of(kind, task))
    expected = rm.theirs(kind, model, inputs)
    ties = family_of(rm.family_of(kind)).ties
    for gone in (*ties, *ties.values()):
        fewer = {name: value for name, value in state.items() if name != gone}
        assert max(rm.differences(rm.reference_of(kind, task, fewer)(inputs), expected).values()) <= TOLERANCE


# Gradients


def spread_loss(outputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Every element of every output with a weight of its own."""
    generator = torch.Generator().manual_seed(3)
    parts = [
        (outputs[name] * torch.randn(outputs[name].shape, dtype=torch.float64, generator=generator)).sum()
        for name in sorted(outputs)
    ]
    return torch.stack(parts).sum()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@heads
def test_gradients(kind: str, task: str, tied: bool) -> None:
    """Also of a padding's rows, which are none where they are looked up."""
    model = rm.shared_model(kind, task, tie_word_embeddings=tied)
    inputs = rm.tensors_of(rm.inputs_of(kind, task, "right", 6))
    named = dict(model.named_parameters())
    wanted = torch.autograd.grad(spread_loss(rm.theirs(kind, model, inputs)), list(named.values()), allow_unused=True)
    state = {name: value.detach().clone().requires_grad_() for name, value in rm.canonical(kind, named).items()}
    found = rm.flat(rm.reference_of(kind, task, state, tie_word_embeddings=tied)(inputs))
    ours = torch.autograd.grad(spread_loss(found), list(state.values()), allow_unused=True)
    assert len(ours) == len(wanted)
    assert [value is None for value in ours] == [value is None for value in wanted]
    largest = max(float(each.abs().max()) for each in wanted if each is not None)
    errors = {}
    for name, mine, other in zip(state, ours, wanted, strict=True):
        if mine is not None:
            own = float(other.abs().max())
            errors[name] = float((mine - other).abs().max()) / (own if own > 1e-9 * largest else largest)
    assert max(errors.values()) <= 1e-9, errors


# What is watched


def hooked(kind: str, model: Any, inputs: Mapping[str, Any]) -> list[str]:
    """The modules of transformers' model with weights, as they run."""
    seen: list[str] = []
    base = family_of(rm.family_of(kind)).base

    def hook(name: str) -> Callable[..., None]:
        return lambda *_: seen.append(name)

    prefix = "" if hasattr(model, base) else f"{base}."
    classes = (torch.nn.Linear, torch.nn.LayerNorm, torch.nn.Embedding)
    handles = [
        module.register_forward_hook(hook(prefix + name))
        for name, module in model.named_modules() if isinstance(module, classes)
    ]  # fmt: skip
    with torch.no_grad():
        model(**inputs, **rm.no_cache(kind))
    for handle in handles:
        handle.remove()
    return seen


@heads
def test_watch_sees_every_module_of_transformers_in_order(kind: str, task: str) -> None:
    model = rm.shared_model(kind, task)
    inputs = rm.tensors_of(rm.inputs_of(kind, task))
    seen: list[str] = []
    run = rm.reference_of(kind, task, rm.canonical(kind, model.state_dict()))
    run(inputs, lambda name, *_: seen.append(name))
    assert seen == hooked(kind, model, inputs)


# Names


@pytest.mark.parametrize("prefix", ["", "module.", "a.b-c.7."])
@heads
def test_names_under_a_prefix(kind: str, task: str, prefix: str) -> None:
    names = list(rm.shared_model(kind, task).state_dict())
    base = family_of(rm.family_of(kind)).base
    expected = {prefix + name: name if task != tasks.BASE else f"{base}.{name}" for name in names}
    junk = ["optimizer.state.0.exp_avg", "global_step", f"{prefix}encoder.layer.0.lora_A.weight"]
    assert canonical_names([*junk, *expected], rm.family_of(kind)) == expected


@heads
def test_gamma_and_beta(kind: str, task: str) -> None:
    names = list(canonical_names(rm.shared_model(kind, task).state_dict(), rm.family_of(kind)).values())
    leaves = {"weight": "gamma", "bias": "beta"}
    old = {
        re.sub(r"(?i)(layer_?norm)\.(weight|bias)$", lambda m: f"{m[1]}.{leaves[m[2]]}", name): name for name in names
    }
    assert sum(name.endswith("gamma") for name in old) > 2
    assert canonical_names(old, rm.family_of(kind)) == old


@heads
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
