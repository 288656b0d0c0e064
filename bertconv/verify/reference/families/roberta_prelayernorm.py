"""RoBERTa-PreLayerNorm (Ott and others, arXiv:1904.01038): normalisation before each half of a layer, and at the end.

Positions and heads are RoBERTa's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bertconv.verify.reference.families import roberta
from bertconv.verify.reference.family import (
    COMMON_NAMES,
    FINISHED,
    FIRST,
    FROM_IDS,
    NORMS,
    POSITIONS,
    Family,
    Mistake,
    Values,
)

_NAMES = {
    **COMMON_NAMES,
    "layer.attention_norm": "attention.LayerNorm",
    "layer.cross_attention_norm": "crossattention.LayerNorm",
    "layer.ffn_norm": "intermediate.LayerNorm",
    "final_norm": "LayerNorm",
}


def _mistakes(config: Values) -> Iterator[Mistake]:
    yield from roberta.mistakes(config)
    for finished, words in ((True, ""), (False, "; B leaves out that of the last states")):
        sentence = f"B normalises behind each half of a layer, A before it{words}."
        yield Mistake("norms behind", sentence, {NORMS: "last", FINISHED: finished})
    yield Mistake("missing final norm", "B does not normalise the last states.", {FINISHED: False})


FAMILY = Family(
    base="roberta_prelayernorm",
    names=_NAMES,
    heads=partial(roberta.heads, base="roberta_prelayernorm"),
    ties={
        "lm_head.decoder.weight": "roberta_prelayernorm.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    settings={POSITIONS: FROM_IDS, NORMS: FIRST},
    pads_positions=True,
    is_decoder=True,
    mistakes=_mistakes,
)
