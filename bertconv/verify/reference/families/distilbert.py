"""DistilBERT (Sanh and others, arXiv:1910.01108): no token types, no pooler, layer norms with a fixed epsilon."""

from __future__ import annotations

from bertconv import tasks
from bertconv.verify.reference.family import Act, Family, Head, Linear, Norm, Output, Values

_NAMES = {
    "word": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "norm": "embeddings.LayerNorm",
    "layer": "transformer.layer.{}",
    "layer.query": "attention.q_lin",
    "layer.key": "attention.k_lin",
    "layer.value": "attention.v_lin",
    "layer.attention_out": "attention.out_lin",
    "layer.attention_norm": "sa_layer_norm",
    "layer.ffn_in": "ffn.lin1",
    "layer.ffn_out": "ffn.lin2",
    "layer.ffn_norm": "output_layer_norm",
}


def _heads(_: Values) -> dict[str, Head]:
    scores = (Linear("vocab_transform"), Act(), Norm("vocab_layer_norm"), Linear("vocab_projector"))
    first = Output("first", (Linear("pre_classifier"), Act("relu"), Linear("classifier")))
    return {
        tasks.BASE: Head({"last_hidden_state": Output("every")}),
        tasks.MASKED_LM: Head({"logits": Output("every", scores)}),
        tasks.SEQUENCE_CLASSIFICATION: Head({"logits": first}),
        tasks.MULTIPLE_CHOICE: Head({"logits": first}),
        tasks.TOKEN_CLASSIFICATION: Head({"logits": Output("every", (Linear("classifier"),))}),
        tasks.QUESTION_ANSWERING: Head({"logits": Output("every", (Linear("qa_outputs"),))}),
    }


FAMILY = Family(
    base="distilbert",
    names=_NAMES,
    heads=_heads,
    ties={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    settings={"layer_norm_eps": 1e-12},
)
