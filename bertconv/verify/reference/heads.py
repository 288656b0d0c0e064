"""The nine heads of BERT in PyTorch: what each makes of the last hidden states, and the weights it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from bertconv.errors import MissingTensors, RequestError, ShapeMismatch
from bertconv.verify.reference.modules import Modules, State

Outputs = dict[str, torch.Tensor]

POOLER = "bert.pooler.dense"
DECODER = "cls.predictions.decoder"
WORDS = "bert.embeddings.word_embeddings.weight"

_TIES = {f"{DECODER}.weight": WORDS, f"{DECODER}.bias": "cls.predictions.bias"}

_PREDICTIONS = ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", DECODER)
_NEXT_SENTENCE = "cls.seq_relationship"


@dataclass(frozen=True)
class Head:
    """One of the nine classes.

    Attributes:
        modules: what it has beyond embeddings and encoder.
        outputs: takes the modules and the last hidden states `[batch sequence hidden]`; the names of what it returns
            are those of transformers.
        optional: modules that a checkpoint may lack (add_pooling_layer=False).
    """

    modules: tuple[str, ...]
    outputs: Callable[[Modules, torch.Tensor], Outputs]
    optional: tuple[str, ...] = ()


def _pooled(run: Modules, hidden: torch.Tensor) -> torch.Tensor:
    """The first position's state through a layer of its own: `[batch hidden]`."""
    return torch.tanh(run.linear(POOLER, hidden[:, 0]))


def _word_scores(run: Modules, hidden: torch.Tensor) -> torch.Tensor:
    """Scores of every word at every position: `[batch sequence vocab]`."""
    dense, norm, decoder = _PREDICTIONS
    return run.linear(decoder, run.norm(norm, run.activation(run.linear(dense, hidden))))


def _base(run: Modules, hidden: torch.Tensor) -> Outputs:
    pooled = {"pooler_output": _pooled(run, hidden)} if run.has(POOLER) else {}
    return {"last_hidden_state": hidden, **pooled}


def _pretraining(run: Modules, hidden: torch.Tensor) -> Outputs:
    pooled = _pooled(run, hidden)
    return {
        "prediction_logits": _word_scores(run, hidden),
        "seq_relationship_logits": run.linear(_NEXT_SENTENCE, pooled),
    }


def _words(run: Modules, hidden: torch.Tensor) -> Outputs:
    return {"logits": _word_scores(run, hidden)}


def _next_sentence(run: Modules, hidden: torch.Tensor) -> Outputs:
    return {"logits": run.linear(_NEXT_SENTENCE, _pooled(run, hidden))}


def _sequence(run: Modules, hidden: torch.Tensor) -> Outputs:
    return {"logits": run.linear("classifier", _pooled(run, hidden))}


def _tokens(run: Modules, hidden: torch.Tensor) -> Outputs:
    return {"logits": run.linear("classifier", hidden)}


def _answer(run: Modules, hidden: torch.Tensor) -> Outputs:
    scores = run.linear("qa_outputs", hidden)
    if scores.shape[-1] != 2:
        raise ShapeMismatch(
            f"question answering has two outputs, start and end, and this one has {scores.shape[-1]}.",
            hint="Name the model class that the weights were trained as.",
        )
    start, end = scores.unbind(-1)
    return {"start_logits": start, "end_logits": end}


HEADS: Mapping[str, Head] = MappingProxyType(
    {
        "BertModel": Head((), _base, optional=(POOLER,)),
        "BertForPreTraining": Head((POOLER, *_PREDICTIONS, _NEXT_SENTENCE), _pretraining),
        "BertForMaskedLM": Head(_PREDICTIONS, _words),
        "BertLMHeadModel": Head(_PREDICTIONS, _words),
        "BertForNextSentencePrediction": Head((POOLER, _NEXT_SENTENCE), _next_sentence),
        "BertForSequenceClassification": Head((POOLER, "classifier"), _sequence),
        "BertForMultipleChoice": Head((POOLER, "classifier"), _sequence),
        "BertForTokenClassification": Head(("classifier",), _tokens),
        "BertForQuestionAnswering": Head(("qa_outputs",), _answer),
    }
)


def has_cross_attention(config: Mapping[str, Any]) -> bool:
    """Whether a decoder attends to an encoder's states."""
    return bool(config["is_decoder"] and config["add_cross_attention"])


def complete(state: State, config: Mapping[str, Any], head: Head) -> State:
    """The weights with the tied ones in their places, once it is clear that all are there.

    The decoder's own weights count where the config unties them. Otherwise, and where they are absent, the word
    embeddings and the head's bias stand in.

    Raises:
        MissingTensors: a weight that every forward pass uses is absent.
        RequestError: the weights are of several element types.
    """
    found = dict(state)
    is_tied = bool(config["tie_word_embeddings"])
    for copy, original in _TIES.items() if DECODER in head.modules else ():
        if original in found and (is_tied or copy not in found):
            found[copy] = found[original]
        elif copy in found and is_tied:
            found[original] = found[copy]
    present = tuple(module for module in head.optional if {f"{module}.weight", f"{module}.bias"} & found.keys())
    needed = list(_needed(config, (*head.modules, *present)))
    absent = list(dict.fromkeys(_TIES.get(name, name) for name in needed if name not in found))
    if absent:
        raise MissingTensors(
            f"is not among the weights{f', nor are {len(absent) - 1} others' if absent[1:] else ''}.",
            hint="Check that the checkpoint is whole, and that its config and its model class are its own.",
            tensor=absent[0],
        )
    kinds = {found[name].dtype for name in needed}
    if len(kinds) > 1 or not all(kind.is_floating_point for kind in kinds):
        raise RequestError(
            f"the weights are of {', '.join(sorted(map(str, kinds)))}.",
            hint="Cast all of them to one floating-point type.",
        )
    return found


def _needed(config: Mapping[str, Any], head_modules: tuple[str, ...]) -> Iterator[str]:
    """Names of the weights that every forward pass uses."""
    is_absolute = config["position_embedding_type"] == "absolute"
    kinds = ("word", "token_type", "position") if is_absolute else ("word", "token_type")
    yield from (f"bert.embeddings.{kind}_embeddings.weight" for kind in kinds)
    parts = ["self.query", "self.key", "self.value", "output.dense", "output.LayerNorm"]
    within = [f"attention.{part}" for part in parts]
    within += [f"crossattention.{part}" for part in parts] if has_cross_attention(config) else []
    within += ["intermediate.dense", "output.dense", "output.LayerNorm"]
    places = [f"bert.encoder.layer.{number}" for number in range(config["num_hidden_layers"])]
    if not is_absolute:
        yield from (f"{place}.attention.self.distance_embedding.weight" for place in places)
    body = ["bert.embeddings.LayerNorm", *(f"{place}.{part}" for place in places for part in within)]
    for module in (*body, *head_modules):
        yield f"{module}.weight"
        yield f"{module}.bias"
