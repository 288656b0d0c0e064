"""From ids to hidden states: embeddings, attention with its masks and relative positions, the feed-forward layers."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from bertconv.errors import ShapeMismatch
from bertconv.verify.reference.family import (
    FINISHED,
    FIRST,
    FROM_IDS,
    NORMS,
    POSITIONS,
    SHIFT,
    Family,
    Values,
)
from bertconv.verify.reference.modules import Modules

_POWER = "score_power"
"""A setting for mistakes: the power of a head's size that scores are multiplied by, which is -0.5."""


def is_relative(family: Family, config: Values) -> bool:
    """Whether there is a vector for each distance instead of one for each position."""
    return "layer.distance" in family.names and config.get("position_embedding_type", "absolute") != "absolute"


def encode(
    run: Modules, family: Family, inputs: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, dict[str, tuple[torch.Tensor, ...]]]:
    """The last hidden states; and those of the embeddings and of every layer, and every attention."""
    x = _embedded(run, family, inputs)
    encoder = inputs["encoder_hidden_states"].to(x.dtype) if "encoder_hidden_states" in inputs else None
    causal = family.is_decoder and bool(run.config["is_decoder"])
    bias = _mask_bias(inputs.get("attention_mask"), x, causal=causal)
    encoder_bias = _mask_bias(inputs.get("encoder_attention_mask"), x)
    added = None if family.bias is None else family.bias(run, x)
    states, attentions, crossed = [x], [], []
    for layer in family.order(run.config):
        for numbers in layer:
            block = _Block(run, family, numbers)
            x, probabilities = block.attend("", x, None, bias, added)
            attentions.append(probabilities)
            if encoder is not None:
                x, probabilities = block.attend("cross_", x, encoder, encoder_bias)
                crossed.append(probabilities)
            x = block.feed_forward(x)
        states.append(x)
    if "final_norm" in family.names and run.config.get(FINISHED, True):
        x = states[-1] = run.norm(family.place("final_norm"), x)
    found = {"hidden_states": tuple(states), "attentions": tuple(attentions)}
    return x, found if encoder is None else {**found, "cross_attentions": tuple(crossed)}


def _embedded(run: Modules, family: Family, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Words, segments where there are any and, unless they are relative, positions: `[batch sequence hidden]`."""
    ids, padding = inputs["input_ids"], run.config["pad_token_id"]
    x = run.embedding(family.place("word"), ids, padding)
    if "segment" in family.names and run.config["type_vocab_size"]:
        types = inputs.get("token_type_ids", torch.zeros_like(ids))
        x = x + run.embedding(family.place("segment"), types)
    if not is_relative(family, run.config):
        rows = inputs["position_ids"] if "position_ids" in inputs else _positions(run.config, ids)
        x = x + run.embedding(family.place("position"), rows, padding if family.pads_positions else None)
    x = run.norm(family.place("norm"), x)
    return run.linear(family.place("project"), x) if family.projects(run.config) else x


def _positions(config: Values, ids: torch.Tensor) -> torch.Tensor:
    """Rows of the table of positions, `[batch|1 sequence]`: 0, 1, 2 ..., or counted from the ids.

    Source for the latter: fairseq's `make_positions`, as RoBERTa was trained with it.
    """
    if config.get(POSITIONS) == FROM_IDS:
        padding = int(config["pad_token_id"])
        words = (ids != padding).long()
        rows = words.cumsum(1) * words + padding
    else:
        rows = torch.arange(ids.shape[1], device=ids.device)[None]
    shift = int(config.get(SHIFT, 0))
    return (rows + shift).clamp(0, int(config["max_position_embeddings"]) - 1) if shift else rows


def _mask_bias(mask: torch.Tensor | None, x: torch.Tensor, *, causal: bool = False) -> torch.Tensor | None:
    """What is added to the scores, `[batch|1 1 queries|1 keys]`: 0, or the most negative number where nobody may look.

    Negative infinity would make NaN of a query that may look nowhere.
    """
    if mask is not None and mask.ndim not in (2, 3):
        raise ShapeMismatch(f"a mask has {mask.ndim} axes.", hint="Give it [batch, keys] or [batch, queries, keys].")
    seen = None if mask is None else mask.bool()[:, None, None] if mask.ndim == 2 else mask.bool()[:, None]
    if causal and (seen is None or seen.shape[2] == 1):
        rule = torch.ones(1, 1, x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        seen = rule if seen is None else seen & rule
    if seen is None:
        return None
    return torch.zeros(seen.shape, dtype=x.dtype, device=x.device).masked_fill(~seen, torch.finfo(x.dtype).min)


class _Block:
    """The modules of one layer."""

    def __init__(self, run: Modules, family: Family, numbers: tuple[int, ...]) -> None:
        self._run, self._family, self._numbers = run, family, numbers
        self._normalises_first = run.config.get(NORMS) == FIRST

    def attend(
        self, kind: str, x: torch.Tensor, source: torch.Tensor | None, bias: torch.Tensor | None,
        added: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Attention of x `[batch queries hidden]` to the source `[batch keys hidden]`, added to x; one is normalised.

        Args:
            kind: "" or "cross_".
            x: the states.
            source: what they look at; by default at themselves.
            bias: of the mask.
            added: what the family adds to the scores.

        Returns:
            New states, and the probabilities `[batch heads queries keys]`.
        """
        given = self._before(f"{kind}attention_norm", x)
        source = given if source is None else source
        query = self._split(self._linear(f"{kind}query", given))
        key = self._split(self._linear(f"{kind}key", source))
        value = self._split(self._linear(f"{kind}value", source))
        scores = query @ key.transpose(2, 3)
        if not kind and is_relative(self._family, self._run.config):
            scores = scores + self._distance_scores(query, key)
        scores = scores * query.shape[-1] ** float(self._run.config.get(_POWER, -0.5))
        if added is not None:
            scores = scores + added
        if bias is not None:
            # In float16 a negative score and the bias add up to negative infinity, and a row of that is NaN.
            scores = (scores + bias).clamp(min=torch.finfo(scores.dtype).min)
        probabilities = scores.softmax(-1)
        context = (probabilities @ value).transpose(1, 2).flatten(2)
        x = self._behind(f"{kind}attention_norm", self._linear(f"{kind}attention_out", context) + x)
        return x, probabilities

    def feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two linear maps with the activation between them, added to x; one is normalised."""
        wide = self._run.activation(self._linear("ffn_in", self._before("ffn_norm", x)))
        return self._behind("ffn_norm", self._linear("ffn_out", wide) + x)

    def _before(self, role: str, x: torch.Tensor) -> torch.Tensor:
        return self._norm(role, x) if self._normalises_first else x

    def _behind(self, role: str, x: torch.Tensor) -> torch.Tensor:
        return x if self._normalises_first else self._norm(role, x)

    def _linear(self, role: str, x: torch.Tensor) -> torch.Tensor:
        return self._run.linear(self._family.place(f"layer.{role}", self._numbers), x)

    def _norm(self, role: str, x: torch.Tensor) -> torch.Tensor:
        return self._run.norm(self._family.place(f"layer.{role}", self._numbers), x)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch sequence hidden]` as `[batch heads sequence head]`."""
        return x.reshape(*x.shape[:2], int(self._run.config["num_attention_heads"]), -1).transpose(1, 2)

    def _distance_scores(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """What the distance of two positions adds, by a vector for each: `[batch heads queries keys]`.

        Sources: Shaw and others, arXiv:1803.02155, for `relative_key`; method 4 of Huang and others, arXiv:2009.13658,
        for `relative_key_query`, where keys take part as well.
        """
        config = self._run.config
        places = torch.arange(query.shape[2], device=query.device)
        distances = places[:, None] - places[None] + int(config["max_position_embeddings"]) - 1
        table = self._run.embedding(self._family.place("layer.distance", self._numbers), distances)
        scores = torch.einsum("bhqd,qkd->bhqk", query, table)
        is_one_sided = config["position_embedding_type"] == "relative_key"
        return scores if is_one_sided else scores + torch.einsum("bhkd,qkd->bhqk", key, table)
