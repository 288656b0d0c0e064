"""ALBERT (Lan and others, arXiv:1909.11942): layers that share weights by groups, embeddings of their own size."""

from __future__ import annotations

from collections.abc import Iterator

from bertconv import tasks
from bertconv.verify.reference.family import (
    Act,
    Family,
    Head,
    Linear,
    Mistake,
    Norm,
    Order,
    Output,
    Values,
)

_NAMES = {
    "word": "embeddings.word_embeddings",
    "segment": "embeddings.token_type_embeddings",
    "position": "embeddings.position_embeddings",
    "norm": "embeddings.LayerNorm",
    "project": "encoder.embedding_hidden_mapping_in",
    "layer": "encoder.albert_layer_groups.{}.albert_layers.{}",
    "layer.query": "attention.query",
    "layer.key": "attention.key",
    "layer.value": "attention.value",
    "layer.distance": "attention.distance_embedding",
    "layer.attention_out": "attention.dense",
    "layer.attention_norm": "attention.LayerNorm",
    "layer.ffn_in": "ffn",
    "layer.ffn_out": "ffn_output",
    "layer.ffn_norm": "full_layer_layer_norm",
}
_POOLED = (Linear("albert.pooler"), Act("tanh"))
_SCORES = Output("every", (
    Linear("predictions.dense"), Act(), Norm("predictions.LayerNorm"), Linear("predictions.decoder")
))  # fmt: skip


def _heads(_: Values) -> dict[str, Head]:
    choice = Head({"logits": Output("pooled", (Linear("classifier"),))}, _POOLED)
    order = Output("pooled", (Linear("sop_classifier.classifier"),))
    return {
        tasks.BASE: Head({"last_hidden_state": Output("every"), "pooler_output": Output("pooled")}, _POOLED, True),
        tasks.PRETRAINING: Head({"prediction_logits": _SCORES, "sop_logits": order}, _POOLED),
        tasks.MASKED_LM: Head({"logits": _SCORES}),
        tasks.SEQUENCE_CLASSIFICATION: choice,
        tasks.MULTIPLE_CHOICE: choice,
        tasks.TOKEN_CLASSIFICATION: Head({"logits": Output("every", (Linear("classifier"),))}),
        tasks.QUESTION_ANSWERING: Head({"logits": Output("every", (Linear("qa_outputs"),))}),
    }


def _order(config: Values) -> Order:
    """Layers take the groups one after another, in equal parts, and run through all inner layers of theirs."""
    layers, groups, inner = (int(config[key]) for key in ("num_hidden_layers", "num_hidden_groups", "inner_group_num"))
    for number in range(layers):
        group = number % groups if config.get("groups_in_turn") else int(number / (layers / groups))
        numbers = range(inner)[::-1] if config.get("inner_backwards") else range(inner)
        yield tuple((group, one) for one in numbers)


def _mistakes(config: Values) -> Iterator[Mistake]:
    if 1 < config["num_hidden_groups"] < config["num_hidden_layers"]:
        sentence = "B goes through the groups of layers in turn, A stays in each for its part of the layers."
        yield Mistake("groups in turn", sentence, {"groups_in_turn": True})
    if config["inner_group_num"] > 1:
        yield Mistake("inner layers backwards", "B runs a group's layers backwards.", {"inner_backwards": True})
        yield Mistake("inner layers left out", "B runs only the first layer of each group.", {"inner_group_num": 1})
    if config["num_hidden_groups"] > 1:
        yield Mistake("one group", "B runs every layer with the weights of the first group.", {"num_hidden_groups": 1})
    if config["embedding_size"] == config["hidden_size"]:
        yield Mistake("missing projection", "B leaves out the layer behind the embeddings.", {"projects": False})


FAMILY = Family(
    base="albert",
    names=_NAMES,
    heads=_heads,
    ties={
        "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    },
    order=_order,
    projects=lambda config: bool(config.get("projects", True)),
    mistakes=_mistakes,
)
