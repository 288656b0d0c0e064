"""From ids to hidden states: embeddings, attention with its masks and relative positions, the feed-forward layers."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from bertconv.errors import ShapeMismatch
from bertconv.verify.reference.modules import Modules


def encode(run: Modules, inputs: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, ...]]:
    """Hidden states of the embeddings and of every layer, and the attention of every layer."""
    x = _embedded(run, inputs)
    encoder = inputs["encoder_hidden_states"].to(x.dtype) if "encoder_hidden_states" in inputs else None
    bias = _mask_bias(inputs.get("attention_mask"), x, causal=bool(run.config["is_decoder"]))
    encoder_bias = _mask_bias(inputs.get("encoder_attention_mask"), x)
    is_relative = run.config["position_embedding_type"] != "absolute"
    states, attentions, crossed = [x], [], []
    for number in range(run.config["num_hidden_layers"]):
        place = f"bert.encoder.layer.{number}"
        x, probabilities = _attend(run, f"{place}.attention", x, x, bias, relative=is_relative)
        attentions.append(probabilities)
        if encoder is not None:
            x, probabilities = _attend(run, f"{place}.crossattention", x, encoder, encoder_bias)
            crossed.append(probabilities)
        wide = run.activation(run.linear(f"{place}.intermediate.dense", x))
        x = run.norm(f"{place}.output.LayerNorm", run.linear(f"{place}.output.dense", wide) + x)
        states.append(x)
    found = {"hidden_states": tuple(states), "attentions": tuple(attentions)}
    return found if encoder is None else {**found, "cross_attentions": tuple(crossed)}


def _embedded(run: Modules, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Words, segments and, unless they are relative, positions: `[batch sequence hidden]`."""
    ids = inputs["input_ids"]
    x = run.embedding("bert.embeddings.word_embeddings", ids, run.config["pad_token_id"])
    types = inputs.get("token_type_ids", torch.zeros_like(ids))
    x = x + run.embedding("bert.embeddings.token_type_embeddings", types)
    if run.config["position_embedding_type"] == "absolute":
        positions = inputs.get("position_ids", torch.arange(ids.shape[1], device=ids.device)[None])
        x = x + run.embedding("bert.embeddings.position_embeddings", positions)
    return run.norm("bert.embeddings.LayerNorm", x)


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


def _attend(
    run: Modules,
    place: str,
    x: torch.Tensor,
    source: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    relative: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of x `[batch queries hidden]` to the source `[batch keys hidden]`, added to x and normalised.

    Returns:
        New states, and the probabilities `[batch heads queries keys]`.
    """
    query = _split(run, run.linear(f"{place}.self.query", x))
    key = _split(run, run.linear(f"{place}.self.key", source))
    value = _split(run, run.linear(f"{place}.self.value", source))
    scores = query @ key.transpose(2, 3)
    if relative:
        scores = scores + _distance_scores(run, f"{place}.self.distance_embedding", query, key)
    scores = scores * query.shape[-1] ** -0.5
    if bias is not None:
        # In float16 a negative score and the bias add up to negative infinity, and a row of that is NaN.
        scores = (scores + bias).clamp(min=torch.finfo(scores.dtype).min)
    probabilities = scores.softmax(-1)
    context = (probabilities @ value).transpose(1, 2).flatten(2)
    return run.norm(f"{place}.output.LayerNorm", run.linear(f"{place}.output.dense", context) + x), probabilities


def _split(run: Modules, x: torch.Tensor) -> torch.Tensor:
    """`[batch sequence hidden]` as `[batch heads sequence head]`."""
    return x.reshape(*x.shape[:2], int(run.config["num_attention_heads"]), -1).transpose(1, 2)


def _distance_scores(run: Modules, name: str, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """What the distance of two positions adds, by a vector for each: `[batch heads queries keys]`.

    Sources: Shaw and others, arXiv:1803.02155, for `relative_key`; method 4 of Huang and others, arXiv:2009.13658, for
    `relative_key_query`, where keys take part as well.
    """
    places = torch.arange(query.shape[2], device=query.device)
    distances = places[:, None] - places[None] + int(run.config["max_position_embeddings"]) - 1
    table = run.embedding(name, distances)
    scores = torch.einsum("bhqd,qkd->bhqk", query, table)
    is_one_sided = run.config["position_embedding_type"] == "relative_key"
    return scores if is_one_sided else scores + torch.einsum("bhkd,qkd->bhqk", key, table)
