"""RoBERTa-PreLayerNorm (Ott and others, arXiv:1904.01038): normalisation before each half of a layer, and at the end.

Positions and heads are RoBERTa's.
"""

from __future__ import annotations

from collections.abc import Iterator

from bertconv import tasks
from bertconv.verify.reference.family import (
    COMMON_NAMES,
    FINISHED,
    FIRST,
    FROM_IDS,
    NORMS,
    POSITIONS,
    SHIFT,
    Act,
    Family,
    Head,
    Linear,
    Mistake,
    Norm,
    Output,
    Values,
)

_NAMES = {
    **COMMON_NAMES,
    "layer.attention_norm": "attention.LayerNorm",
    "layer.cross_attention_norm": "crossattention.LayerNorm",
    "layer.ffn_norm": "intermediate.LayerNorm",
    "final_norm": "LayerNorm",
}
_POOLED = (Linear("roberta_prelayernorm.pooler.dense"), Act("tanh"))
_HEAD_ACT = "lm_head_act"


def _heads(config: Values) -> dict[str, Head]:
    gelu = Act(config.get(_HEAD_ACT, "gelu"))
    scores = Output("every", (Linear("lm_head.dense"), gelu, Norm("lm_head.layer_norm"), Linear("lm_head.decoder")))
    own = (Linear("classifier.dense"), Act("tanh"), Linear("classifier.out_proj"))
    return {
        tasks.BASE: Head({"last_hidden_state": Output("every"), "pooler_output": Output("pooled")}, _POOLED, True),
        tasks.MASKED_LM: Head({"logits": scores}),
        tasks.CAUSAL_LM: Head({"logits": scores}),
        tasks.SEQUENCE_CLASSIFICATION: Head({"logits": Output("first", own)}),
        tasks.MULTIPLE_CHOICE: Head({"logits": Output("pooled", (Linear("classifier"),))}, _POOLED),
        tasks.TOKEN_CLASSIFICATION: Head({"logits": Output("every", (Linear("classifier"),))}),
        tasks.QUESTION_ANSWERING: Head({"logits": Output("every", (Linear("qa_outputs"),))}),
    }


def _mistakes(config: Values) -> Iterator[Mistake]:
    pad = int(config["pad_token_id"])
    plain = {POSITIONS: "absolute"}
    yield Mistake("position offset", f"B counts positions from 0, A from {pad + 1}.", plain)
    yield Mistake("position offset", f"B counts positions from {pad}, A from {pad + 1}.", {SHIFT: -1})
    yield Mistake("padding counted", "B counts the padding among the positions.", {**plain, SHIFT: pad + 1})
    for finished, words in ((True, ""), (False, "; B leaves out that of the last states")):
        sentence = f"B normalises behind each half of a layer, A before it{words}."
        yield Mistake("norms behind", sentence, {NORMS: "last", FINISHED: finished})
    yield Mistake("missing final norm", "B does not normalise the last states.", {FINISHED: False})
    if config["hidden_act"] != "gelu":
        sentence = f"B's head of words has the activation {config['hidden_act']}, A's gelu."
        yield Mistake("activation of the head", sentence, {_HEAD_ACT: config["hidden_act"]})


FAMILY = Family(
    base="roberta_prelayernorm",
    names=_NAMES,
    heads=_heads,
    ties={
        "lm_head.decoder.weight": "roberta_prelayernorm.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    settings={POSITIONS: FROM_IDS, NORMS: FIRST},
    pads_positions=True,
    is_decoder=True,
    mistakes=_mistakes,
)
