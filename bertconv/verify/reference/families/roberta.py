"""RoBERTa, XLM-RoBERTa and CamemBERT (Liu and others, arXiv:1907.11692).

Positions are counted from the ids and begin behind the pad id; heads pool for
themselves; gelu is fixed in the head of words.
"""

from __future__ import annotations

from collections.abc import Iterator

from bertconv import tasks
from bertconv.verify.reference.family import (
    COMMON_NAMES,
    FROM_IDS,
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

_HEAD_ACT = "lm_head_act"


def heads(config: Values, base: str = "roberta") -> dict[str, Head]:
    """The heads of a model whose base model has this prefix."""
    pooled = (Linear(f"{base}.pooler.dense"), Act("tanh"))
    gelu = Act(config.get(_HEAD_ACT, "gelu"))
    scores = Output("every", (Linear("lm_head.dense"), gelu, Norm("lm_head.layer_norm"), Linear("lm_head.decoder")))
    own = (Linear("classifier.dense"), Act("tanh"), Linear("classifier.out_proj"))
    return {
        tasks.BASE: Head({"last_hidden_state": Output("every"), "pooler_output": Output("pooled")}, pooled, True),
        tasks.MASKED_LM: Head({"logits": scores}),
        tasks.CAUSAL_LM: Head({"logits": scores}),
        tasks.SEQUENCE_CLASSIFICATION: Head({"logits": Output("first", own)}),
        tasks.MULTIPLE_CHOICE: Head({"logits": Output("pooled", (Linear("classifier"),))}, pooled),
        tasks.TOKEN_CLASSIFICATION: Head({"logits": Output("every", (Linear("classifier"),))}),
        tasks.QUESTION_ANSWERING: Head({"logits": Output("every", (Linear("qa_outputs"),))}),
    }


def mistakes(config: Values) -> Iterator[Mistake]:
    """Those of positions that are counted from the ids, and of the head of words."""
    pad = int(config["pad_token_id"])
    plain = {POSITIONS: "absolute"}
    yield Mistake("position offset", f"B counts positions from 0, A from {pad + 1}.", plain)
    yield Mistake("position offset", f"B counts positions from {pad}, A from {pad + 1}.", {SHIFT: -1})
    yield Mistake("padding counted", "B counts the padding among the positions.", {**plain, SHIFT: pad + 1})
    if config["hidden_act"] != "gelu":
        sentence = f"B's head of words has the activation {config['hidden_act']}, A's gelu."
        yield Mistake("activation of the head", sentence, {_HEAD_ACT: config["hidden_act"]})


FAMILY = Family(
    base="roberta",
    names=COMMON_NAMES,
    heads=heads,
    ties={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    settings={POSITIONS: FROM_IDS},
    pads_positions=True,
    is_decoder=True,
    mistakes=mistakes,
)
