"""Tiny models of every family in transformers 5, with the settings under which the reference runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
import transformers
from tiny_models import relative_error

from bertconv import tasks
from bertconv.verify.reference import Reference, canonical_names
from bertconv.verify.reference import family_of as reference_family

Arrays = dict[str, np.ndarray]
Tensors = dict[str, torch.Tensor]

BATCH, CHOICES, LENGTH = 3, 4, 11
TOLERANCE = 1e-12
SIZES = {
    "vocab_size": 101, "num_attention_heads": 5, "hidden_size": 35, "intermediate_size": 53,
    "max_position_embeddings": 37, "type_vocab_size": 3, "num_hidden_layers": 2,
}  # fmt: skip
FACTORISED = {**SIZES, "embedding_size": 23}
SHARED = {"num_hidden_layers": 6, "num_hidden_groups": 2, "inner_group_num": 3}

CLASSES = {
    tasks.BASE: "Model", tasks.MASKED_LM: "ForMaskedLM", tasks.CAUSAL_LM: "ForCausalLM",
    tasks.PRETRAINING: "ForPreTraining", tasks.SEQUENCE_CLASSIFICATION: "ForSequenceClassification",
    tasks.TOKEN_CLASSIFICATION: "ForTokenClassification", tasks.MULTIPLE_CHOICE: "ForMultipleChoice",
    tasks.QUESTION_ANSWERING: "ForQuestionAnswering", tasks.DISCRIMINATOR: "ForPreTraining",
    tasks.NEXT_SENTENCE: "ForNextSentencePrediction",
}  # fmt: skip
COMMON = (
    tasks.BASE, tasks.MASKED_LM, tasks.SEQUENCE_CLASSIFICATION, tasks.MULTIPLE_CHOICE, tasks.TOKEN_CLASSIFICATION,
    tasks.QUESTION_ANSWERING,
)  # fmt: skip
MODELS: dict[str, tuple[str, str, dict[str, Any], tuple[str, ...]]] = {
    "bert": ("bert", "Bert", SIZES, (*COMMON, tasks.CAUSAL_LM, tasks.PRETRAINING, tasks.NEXT_SENTENCE)),
    "roberta": ("roberta", "Roberta", SIZES, (*COMMON, tasks.CAUSAL_LM)),
    "xlm-roberta": ("roberta", "XLMRoberta", SIZES, (*COMMON, tasks.CAUSAL_LM)),
    "camembert": ("roberta", "Camembert", SIZES, (*COMMON, tasks.CAUSAL_LM)),
    "distilbert": ("distilbert", "DistilBert", SIZES, COMMON),
    "electra": ("electra", "Electra", FACTORISED, (*COMMON, tasks.CAUSAL_LM, tasks.DISCRIMINATOR)),
    "mpnet": ("mpnet", "MPNet", SIZES, COMMON),
    "albert": ("albert", "Albert", {**FACTORISED, **SHARED}, (*COMMON, tasks.PRETRAINING)),
}
"""model_type -> family, prefix of the class names, sizes, tasks."""

HEADS = [(kind, task) for kind, (_, _, _, own) in MODELS.items() for task in own]
TWINS = ("xlm-roberta", "camembert")
COMPUTED = [(kind, task) for kind, task in HEADS if kind not in TWINS or task == tasks.MASKED_LM]
"""What is computed: RoBERTa's duplicates are RoBERTa by another name, so that one head of each is enough; names are
compared of every head."""
WORDS = (tasks.MASKED_LM, tasks.CAUSAL_LM, tasks.PRETRAINING)
WORD_HEADS = [(kind, task) for kind, task in COMPUTED if task in WORDS]
DISTILBERT = {
    "hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers",
    "intermediate_size": "hidden_dim", "hidden_act": "activation",
}  # fmt: skip
"""Neutral keys that DistilBERT calls otherwise."""
DEFAULTS = {
    "pad_token_id": 0, "is_decoder": False, "add_cross_attention": False, "tie_word_embeddings": True,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12, "position_embedding_type": "absolute",
}  # fmt: skip


def family_of(kind: str) -> str:
    return MODELS[kind][0]


def class_name(kind: str, task: str) -> str:
    """transformers' class of a task, such as BertLMHeadModel."""
    rest = "LMHeadModel" if (kind, task) == ("bert", tasks.CAUSAL_LM) else CLASSES[task]
    return MODELS[kind][1] + rest


def settings_of(kind: str, task: str, **changes: Any) -> dict[str, Any]:
    """Neutral keys of a tiny model's config."""
    labels = 2 if task == tasks.QUESTION_ANSWERING else 7
    pad = {"pad_token_id": 1} if has_positions_from_ids(kind) else {}
    causal = {"is_decoder": task == tasks.CAUSAL_LM}
    own = {"relative_attention_num_buckets": 32} if kind == "mpnet" else {}
    return {**DEFAULTS, **MODELS[kind][2], **pad, **causal, **own, "num_labels": labels, **changes}


def has_positions_from_ids(kind: str) -> bool:
    return family_of(kind) in ("roberta", "mpnet")


def has_segments(kind: str) -> bool:
    return family_of(kind) not in ("distilbert", "mpnet")


def config_of(kind: str, task: str, **changes: Any) -> Any:
    """transformers' config of a tiny model, dropout off."""
    values = settings_of(kind, task, **changes)
    if kind == "distilbert":
        values = {DISTILBERT.get(key, key): value for key, value in values.items()}
        values |= {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "qa_dropout": 0.0}
    values |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "summary_last_dropout": 0.0}
    values |= {"classifier_dropout_prob": 0.0}
    name = f"{MODELS[kind][1]}Config"
    return getattr(transformers, name)(**values, attn_implementation="eager")


def model_of(kind: str, task: str, *, std: float = 0.3, seed: int = 0, **changes: Any) -> Any:
    """A model of transformers 5 in float64 with normal weights of this spread in every parameter."""
    keywords = {"add_pooling_layer": changes.pop("add_pooling_layer")} if "add_pooling_layer" in changes else {}
    config = config_of(kind, task, **changes)
    model = getattr(transformers, class_name(kind, task))(config, **keywords).eval().double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    return model


@cache
def shared_model(kind: str, task: str, **changes: Any) -> Any:
    """One that no test changes."""
    return model_of(kind, task, **changes)


def canonical(kind: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    names = canonical_names(tensors, family_of(kind))
    return {names[name]: tensors[name] for name in names}


def reference_of(kind: str, task: str, state: Mapping[str, torch.Tensor], **changes: Any) -> Reference:
    return Reference(state, settings_of(kind, task, **changes), task, family_of(kind))


def inputs_of(kind: str, task: str, padding: str = "right", seed: int = 0) -> Arrays:
    """Ids, with token types where there are any, and a mask.

    Args:
        kind: the model_type.
        task: of the model.
        padding: "right", "left", "none" (and no mask), or "holes": pad ids between the words, which nobody masks.
        seed: of the ids.
    """
    rng = np.random.default_rng(seed)
    shape = (BATCH, CHOICES, LENGTH) if task == tasks.MULTIPLE_CHOICE else (BATCH, LENGTH)
    ids = rng.integers(2, SIZES["vocab_size"], shape)
    found = {"input_ids": ids}
    if has_segments(kind):
        found["token_type_ids"] = rng.integers(0, SIZES["type_vocab_size"], shape)
    pad = settings_of(kind, task)["pad_token_id"]
    if padding in ("left", "right"):
        lengths = rng.integers(1, LENGTH, shape[:-1])
        lengths.flat[0] = LENGTH
        mask = (np.arange(LENGTH) < lengths[..., None]).astype(np.int64)
        found["attention_mask"] = mask if padding == "right" else np.ascontiguousarray(mask[..., ::-1])
        ids[found["attention_mask"] == 0] = pad
    elif padding == "holes":
        ids[rng.random(shape) < 0.3] = pad
    return found


def tensors_of(arrays: Arrays) -> dict[str, Any]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def flat(outputs: Mapping[str, Any]) -> Tensors:
    """Name -> tensor, tuples taken apart: `hidden_states.0`."""
    found = {}
    for name, value in outputs.items():
        found |= {f"{name}.{n}": each for n, each in enumerate(value)} if isinstance(value, tuple) else {name: value}
    return found


def theirs(kind: str, model: Any, inputs: Mapping[str, Any]) -> Tensors:
    """transformers' outputs; hidden states of layers within a layer, which version 5 reports, are left out."""
    found = dict(model(**inputs, output_hidden_states=True, output_attentions=True, **no_cache(kind)))
    inner = getattr(model.config, "inner_group_num", 1)
    found["hidden_states"] = (found["hidden_states"][0], *found["hidden_states"][inner::inner])
    return flat(found)


def no_cache(kind: str) -> dict[str, Any]:
    return {"use_cache": False} if family_of(kind) in ("bert", "roberta", "electra") else {}


def differences(found: Mapping[str, Any], expected: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Relative error of each tensor, which must be the same on both sides."""
    tensors = flat(found)
    assert sorted(tensors) == sorted(expected)
    return {name: relative_error(tensors[name].detach(), expected[name].detach()) for name in expected}


def sources() -> Arrays:
    """An encoder's states and their mask, for cross-attention."""
    states = np.random.default_rng(5).standard_normal((BATCH, 6, SIZES["hidden_size"]))
    mask = np.array([[1] * 6, [1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 1, 0]])
    return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


# Gradients


def spread_loss(outputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Every element of every output with a weight of its own."""
    generator = torch.Generator().manual_seed(3)
    parts = [
        (outputs[name] * torch.randn(outputs[name].shape, dtype=torch.float64, generator=generator)).sum()
        for name in sorted(outputs)
    ]
    return torch.stack(parts).sum()


def gradients_of(kind: str, task: str, model: Any, inputs: Mapping[str, Any], **changes: Any) -> Tensors:
    """The reference's gradients that are there, once they are known to be transformers'; `changes` are settings."""
    named = dict(model.named_parameters())
    wanted = torch.autograd.grad(spread_loss(theirs(kind, model, inputs)), list(named.values()), allow_unused=True)
    state = {name: value.detach().clone().requires_grad_() for name, value in canonical(kind, named).items()}
    found = flat(reference_of(kind, task, state, **changes)(inputs))
    ours = torch.autograd.grad(spread_loss(found), list(state.values()), allow_unused=True)
    assert len(ours) == len(wanted)
    assert [value is None for value in ours] == [value is None for value in wanted]
    largest = max(float(each.abs().max()) for each in wanted if each is not None)
    errors = {}
    for name, mine, other in zip(state, ours, wanted, strict=True):
        if mine is not None:
            own = float(other.abs().max())
            # A gradient that is exactly zero, as of a key's bias, is noise on both sides.
            errors[name] = float((mine - other).abs().max()) / (own if own > 1e-9 * largest else largest)
    assert max(errors.values()) <= TOLERANCE, errors
    return {name: value for name, value in zip(state, ours, strict=True) if value is not None}


# What is watched

Seen = list[tuple[str, torch.Tensor, torch.Tensor]]


def watched(run: Reference, inputs: Mapping[str, Any]) -> Seen:
    seen: Seen = []
    run(inputs, lambda *facts: seen.append(facts))
    return seen


def hooked(kind: str, model: Any, inputs: Mapping[str, Any]) -> Seen:
    """The modules of transformers' model with weights, as they run."""
    seen: Seen = []
    base = reference_family(family_of(kind)).base

    def hook(name: str) -> Callable[..., None]:
        return lambda _, given, found: seen.append((name, given[0], found))

    prefix = "" if hasattr(model, base) else f"{base}."
    classes = (torch.nn.Linear, torch.nn.LayerNorm, torch.nn.Embedding)
    modules = [(name, module) for name, module in model.named_modules() if isinstance(module, classes)]
    handles = [module.register_forward_hook(hook(prefix + name)) for name, module in modules]
    with torch.no_grad():
        model(**inputs, **no_cache(kind))
    for handle in handles:
        handle.remove()
    return seen
