"""The sizes and numbers of one model, read from its config once: layers take these, not a config."""

from __future__ import annotations

from typing import Any

from bertconv.records import dataclass

SPREAD = 0.02
"""Standard deviation of new weights where nothing else is said."""


@dataclass(frozen=True)
class Settings:
    """What the layers of a body are made of; sizes are numbers of elements.

    Attributes:
        hidden: size of the hidden states.
        embedding: size of the embeddings, where it differs from `hidden`.
        ffn: size inside the feed-forward layers.
        layers: number of layers.
        groups: groups of layers, where the layers of a group share weights.
        inner: layers of such a group, which are run one after the other as one layer.
        heads: number of attention heads.
        vocab: number of words.
        positions: rows of the table of positions.
        segments: token types; 0 where there are none.
        labels: `num_labels`.
        activation: its name.
        epsilon: of layer normalisation.
        dropout: rate behind embeddings, attention and feed-forward layers.
        attention_dropout: rate of attention probabilities.
        spread: standard deviation of new weights.
        padding: id of the word that fills up sequences.
        relative: "absolute", "relative_key" or "relative_key_query".
        is_decoder: whether nobody may look ahead.
        is_crossed: whether the layers attend to an encoder as well.
        is_tied: whether the output vectors of words are their embeddings.
        dtype: Keras dtype policy.
    """

    hidden: int
    embedding: int
    ffn: int
    layers: int
    groups: int
    inner: int
    heads: int
    vocab: int
    positions: int
    segments: int
    labels: int
    activation: str
    epsilon: float
    dropout: float
    attention_dropout: float
    spread: float
    padding: int | None
    relative: str
    is_decoder: bool
    is_crossed: bool
    is_tied: bool
    dtype: Any

    @property
    def head_size(self) -> int:
        """Size of one attention head."""
        return self.hidden // self.heads

    @classmethod
    def of(cls, config: Any, dtype: Any = None) -> Settings:
        """Those of a config; keys that its family does not have mean what they mean where nothing is said."""
        values = config.values
        hidden = int(values["hidden_size"])
        return cls(
            hidden=hidden, embedding=int(values.get("embedding_size") or hidden),
            ffn=int(values["intermediate_size"]), layers=int(values["num_hidden_layers"]),
            groups=int(values.get("num_hidden_groups") or 1), inner=int(values.get("inner_group_num") or 1),
            heads=int(values["num_attention_heads"]), vocab=int(values["vocab_size"]),
            positions=int(values["max_position_embeddings"]), segments=int(values.get("type_vocab_size") or 0),
            labels=int(values["num_labels"]), activation=values["hidden_act"],
            epsilon=float(values["layer_norm_eps"]), dropout=float(values["hidden_dropout_prob"]),
            attention_dropout=float(values["attention_probs_dropout_prob"]),
            spread=float(values["initializer_range"]), padding=values["pad_token_id"],
            relative=values.get("position_embedding_type") or "absolute",
            is_decoder=bool(values.get("is_decoder")), is_crossed=bool(values.get("add_cross_attention")),
            is_tied=bool(values["tie_word_embeddings"]), dtype=dtype,
        )  # fmt: skip
