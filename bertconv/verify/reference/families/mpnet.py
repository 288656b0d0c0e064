"""MPNet (Song and others, arXiv:2004.09297): one table of relative positions for all layers, no token types."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from bertconv import tasks
from bertconv.verify.reference.families import roberta
from bertconv.verify.reference.family import FROM_IDS, POSITIONS, Family, Head, Mistake, Values
from bertconv.verify.reference.modules import Modules

_PAD = 1
"""The pad id is fixed in the classes, whatever a config says."""
_FARTHEST = 128
"""Distances from here on share the last bucket."""
_NAMES = {
    "word": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "norm": "embeddings.LayerNorm",
    "relative": "encoder.relative_attention_bias",
    "layer": "encoder.layer.{}",
    "layer.query": "attention.attn.q",
    "layer.key": "attention.attn.k",
    "layer.value": "attention.attn.v",
    "layer.attention_out": "attention.attn.o",
    "layer.attention_norm": "attention.LayerNorm",
    "layer.ffn_in": "intermediate.dense",
    "layer.ffn_out": "output.dense",
    "layer.ffn_norm": "output.LayerNorm",
}
_TURNED = "relative_turned"


def _heads(config: Values) -> dict[str, Head]:
    """RoBERTa's, none of which is causal here."""
    found = roberta.heads(config, base="mpnet")
    return {task: head for task, head in found.items() if task != tasks.CAUSAL_LM}


def _bias(run: Modules, x: torch.Tensor) -> torch.Tensor:
    """A number for each head and each distance: `[1 heads queries keys]`."""
    places = torch.arange(x.shape[1], device=x.device)
    distances = places[None] - places[:, None]
    if run.config.get(_TURNED):
        distances = -distances
    count, farthest = int(run.config["relative_attention_num_buckets"]), int(run.config.get("farthest", _FARTHEST))
    return run.embedding("mpnet.encoder.relative_attention_bias", _buckets(distances, count, farthest)).permute(
        2, 0, 1
    )[None]


def _buckets(distances: torch.Tensor, count: int, farthest: int) -> torch.Tensor:
    """The row of each distance: half of the rows for either direction, half of these for one distance each.

    The others grow as the logarithm does (Raffel and others, arXiv:1910.10683).
    """
    half = count // 2
    near = half // 2
    far = distances.abs()
    steps = torch.log(far.clamp(min=1).double() / near) / math.log(farthest / near) * (half - near)
    rows = torch.where(far < near, far, (near + steps.long()).clamp(max=half - 1))
    return rows + half * (distances > 0)


def _mistakes(config: Values) -> Iterator[Mistake]:
    yield from roberta.mistakes({**config, "pad_token_id": _PAD})
    yield Mistake("relative positions turned", "B takes what is before a word for what is behind it.", {_TURNED: True})
    for farthest in (64, 256):
        sentence = f"B's buckets of distances end at {farthest}, A's at {_FARTHEST}."
        yield Mistake("relative buckets", sentence, {"farthest": farthest})


FAMILY = Family(
    base="mpnet",
    names=_NAMES,
    heads=_heads,
    ties={
        "lm_head.decoder.weight": "mpnet.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    settings={POSITIONS: FROM_IDS, "pad_token_id": _PAD},
    pads_positions=True,
    bias=_bias,
    mistakes=_mistakes,
)
