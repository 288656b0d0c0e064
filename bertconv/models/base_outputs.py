"""Outputs of models without a head, by what their family can have, and those that only users' own models give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bertconv.models.outputs import (
    ModelOutput,
    Tensor,
    Tensors,
    TFBaseModelOutputWithPoolingAndCrossAttentions,
    WithCache,
)


@dataclass(eq=False)
class TFBaseModelOutput(ModelOutput):
    """What a model without a head and without a pooler gives.

    Attributes:
        last_hidden_state: [batch sequence hidden].
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence key].
    """

    last_hidden_state: Tensor = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass(eq=False)
class TFBaseModelOutputWithPooling(ModelOutput):
    """What a model without a head gives.

    Attributes:
        last_hidden_state: [batch sequence hidden].
        pooler_output: [batch hidden], of the first token.
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence key].
    """

    last_hidden_state: Tensor = None
    pooler_output: Tensor = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass(eq=False)
class TFBaseModelOutputWithPast(WithCache):
    """What a decoder without a head gives.

    Attributes:
        last_hidden_state: [batch sequence hidden].
        past_key_values: per layer (key, value), each [batch head sequence head_size].
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence key].
    """

    last_hidden_state: Tensor = None
    past_key_values: tuple[Tensors, ...] | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass(eq=False)
class TFBaseModelOutputWithCrossAttentions(ModelOutput):
    """What a model without a head that reads another one's states gives.

    Attributes:
        last_hidden_state: [batch sequence hidden].
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence key].
        cross_attentions: per layer, [batch head sequence encoder_sequence].
    """

    last_hidden_state: Tensor = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None
    cross_attentions: Tensors | None = None


@dataclass(eq=False)
class TFBaseModelOutputWithPastAndCrossAttentions(WithCache):
    """What a decoder without a head that reads another model's states gives.

    Attributes:
        last_hidden_state: [batch sequence hidden].
        past_key_values: per layer (key, value), each [batch head sequence head_size].
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence key].
        cross_attentions: per layer, [batch head sequence encoder_sequence].
    """

    last_hidden_state: Tensor = None
    past_key_values: tuple[Tensors, ...] | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None
    cross_attentions: Tensors | None = None


@dataclass(eq=False)
class TFCausalLMOutput(ModelOutput):
    """What a model that predicts the next word gives.

    Attributes:
        loss: [1], only with labels.
        logits: [batch sequence vocab].
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence key].
    """

    loss: Tensor = None
    logits: Tensor = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass(eq=False)
class TFCausalLMOutputWithPast(WithCache):
    """What a decoder that predicts the next word gives.

    Attributes:
        loss: [1], only with labels.
        logits: [batch sequence vocab].
        past_key_values: per layer (key, value), each [batch head sequence head_size].
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence key].
    """

    loss: Tensor = None
    logits: Tensor = None
    past_key_values: tuple[Tensors, ...] | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass(eq=False)
class TFSequenceClassifierOutputWithPast(WithCache):
    """What a decoder that classifies sequences gives.

    Attributes:
        loss: [batch], only with labels.
        logits: [batch label].
        past_key_values: per layer (key, value), each [batch head sequence head_size].
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence key].
    """

    loss: Tensor = None
    logits: Tensor = None
    past_key_values: tuple[Tensors, ...] | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


OF_BODIES: Mapping[tuple[bool, bool], type[ModelOutput]] = {
    (True, True): TFBaseModelOutputWithPoolingAndCrossAttentions,
    (True, False): TFBaseModelOutputWithPastAndCrossAttentions,
    (False, True): TFBaseModelOutputWithPooling,
    (False, False): TFBaseModelOutput,
}
"""Whether a family can have a decoder's cache, and a pooler -> what its models without a head give."""
