"""BERT with relative positions in PyTorch, straight from the formulas: transformers 5 has none any more.

For both kinds, with and without the rule that nobody looks ahead, transformers 4.57.6's PyTorch classes give the same
bit for bit (seen once, by hand).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from tiny_models import SIZES, config, torch_model

State = dict[str, torch.Tensor]

KINDS = ("relative_key", "relative_key_query")
HEADS, LAYERS, HIDDEN = SIZES["num_attention_heads"], SIZES["num_hidden_layers"], SIZES["hidden_size"]
HEAD_SIZE = HIDDEN // HEADS
POSITIONS = SIZES["max_position_embeddings"]
LOWEST = torch.finfo(torch.float64).min


def relative_state(seed: int = 0) -> State:
    """Large random weights under PyTorch's names."""
    found = dict(torch_model(seed=seed).state_dict())
    generator = torch.Generator().manual_seed(seed + 1)
    for number in range(LAYERS):
        table = torch.randn(2 * POSITIONS - 1, HEAD_SIZE, dtype=torch.float64, generator=generator)
        found[f"encoder.layer.{number}.attention.self.distance_embedding.weight"] = table / 2
    return found


def relative_outputs(
    state: State, kind: str, arrays: Mapping[str, np.ndarray], *, causal: bool = False
) -> list[torch.Tensor]:
    """Hidden states of the embeddings and every layer, then the attention probabilities of every layer."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return torch.nn.functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return torch.nn.functional.layer_norm(x, (HIDDEN,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-12)

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (HEADS, HEAD_SIZE)).transpose(1, 2)

    ids, types, mask = (torch.tensor(arrays[name]) for name in ("input_ids", "token_type_ids", "attention_mask"))
    words = torch.nn.functional.embedding(ids, state["embeddings.word_embeddings.weight"], padding_idx=0)
    words = words + state["embeddings.token_type_embeddings.weight"][types]
    hidden, probabilities = [norm(words, "embeddings.LayerNorm")], []
    places = torch.arange(ids.shape[1])
    seen = mask[:, None, None, :].bool()
    if causal:
        seen = seen & (places[None, :] <= places[:, None])
    for number in range(LAYERS):
        place, x = f"encoder.layer.{number}", hidden[-1]
        query, key, value = (heads(linear(x, f"{place}.attention.self.{name}")) for name in ("query", "key", "value"))
        table = state[f"{place}.attention.self.distance_embedding.weight"]
        far = table[places[:, None] - places[None, :] + POSITIONS - 1]
        scores = query @ key.transpose(2, 3) + torch.einsum("bhld,lrd->bhlr", query, far)
        if kind == "relative_key_query":
            scores = scores + torch.einsum("bhrd,lrd->bhlr", key, far)
        scores = (scores / HEAD_SIZE**0.5).masked_fill(~seen, LOWEST)
        probabilities.append(scores.softmax(-1))
        mixed = (probabilities[-1] @ value).transpose(1, 2).flatten(2)
        x = norm(linear(mixed, f"{place}.attention.output.dense") + x, f"{place}.attention.output.LayerNorm")
        wide = torch.nn.functional.gelu(linear(x, f"{place}.intermediate.dense"))
        hidden.append(norm(linear(wide, f"{place}.output.dense") + x, f"{place}.output.LayerNorm"))
    return [*hidden, *probabilities]


def relative_folder(folder: Path, kind: str, **changes: Any) -> Path:
    """A checkpoint with the weights of `relative_state` in PyTorch's format."""
    safetensors.torch.save_file(relative_state(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config(**changes, position_embedding_type=kind)))
    return folder
