"""Keys of a config that decide what the same tensors compute."""

from __future__ import annotations

from collections.abc import Iterator

from bertconv.checkpoint import Checkpoint
from bertconv.tasks import CAUSAL_LM
from bertconv.verify.cases import FROM_IDS
from bertconv.verify.parity import ConfigDifference

_CONFIG_CAUSES = {
    "hidden_act": "activation",
    "layer_norm_eps": "layer-norm epsilon",
    "is_decoder": "causal mask",
    "tie_word_embeddings": "tied decoder",
    "position_embedding_type": "position embeddings",
    "num_attention_heads": "number of heads",
    "summary_activation": "activation of the head",
    "summary_use_proj": "summary layer",
    "num_hidden_groups": "groups of layers",
    "inner_group_num": "inner layers",
}
"""Config keys that decide what the same tensors compute -> the name of the mistake when they differ."""
NAMED = {**_CONFIG_CAUSES, "num_hidden_layers": "number of layers", "pad_token_id": "position offset"}
"""The same, with those keys that decide it in some families only."""

_GENERATING = ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "decoder_start_token_id")
"""Config keys that decide what `generate()` begins and ends with; no output of a single call shows them."""
_SHARED = "num_hidden_groups"
"""A key of families whose layers share weights: there the number of layers is not seen from the tensors."""


def config_differences(a: Checkpoint, b: Checkpoint) -> Iterator[ConfigDifference]:
    """Keys of the two configs that decide what the same tensors compute, where their values differ."""
    one, other = a.values, b.values
    keys = [*_CONFIG_CAUSES, *(_GENERATING if a.task == CAUSAL_LM else ())]
    if not any(place.partition(".")[0] in a.table.heads[a.head] for place in a.table.tied):
        keys.remove("tie_word_embeddings")  # nothing of this class is tied
    keys += ["num_hidden_layers"] if _SHARED in one else []
    keys += ["pad_token_id"] if a.table.positions == FROM_IDS and "pad_token_id" not in keys else []
    for key in keys:
        if one.get(key) != other.get(key):
            yield ConfigDifference(key, one.get(key), other.get(key))
