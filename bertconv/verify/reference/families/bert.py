"""BERT (Devlin and others, arXiv:1810.04805)."""

from __future__ import annotations

from bertconv import tasks
from bertconv.verify.reference.family import COMMON_NAMES, Act, Family, Head, Linear, Norm, Output, Values

_POOLED = (Linear("bert.pooler.dense"), Act("tanh"))
_SCORES = Output("every", (
    Linear("cls.predictions.transform.dense"), Act(), Norm("cls.predictions.transform.LayerNorm"),
    Linear("cls.predictions.decoder"),
))  # fmt: skip
_IS_NEXT = Output("pooled", (Linear("cls.seq_relationship"),))


def _heads(_: Values) -> dict[str, Head]:
    choice = Head({"logits": Output("pooled", (Linear("classifier"),))}, _POOLED)
    return {
        tasks.BASE: Head({"last_hidden_state": Output("every"), "pooler_output": Output("pooled")}, _POOLED, True),
        tasks.PRETRAINING: Head({"prediction_logits": _SCORES, "seq_relationship_logits": _IS_NEXT}, _POOLED),
        tasks.MASKED_LM: Head({"logits": _SCORES}),
        tasks.CAUSAL_LM: Head({"logits": _SCORES}),
        tasks.NEXT_SENTENCE: Head({"logits": _IS_NEXT}, _POOLED),
        tasks.SEQUENCE_CLASSIFICATION: choice,
        tasks.MULTIPLE_CHOICE: choice,
        tasks.TOKEN_CLASSIFICATION: Head({"logits": Output("every", (Linear("classifier"),))}),
        tasks.QUESTION_ANSWERING: Head({"logits": Output("every", (Linear("qa_outputs"),))}),
    }


FAMILY = Family(
    base="bert",
    names=COMMON_NAMES,
    heads=_heads,
    ties={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    is_decoder=True,
)
