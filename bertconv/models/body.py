"""The body of every family (BERT's: Devlin et al. 2018, arXiv:1810.04805): what it takes and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import keras
import tensorflow as tf

from bertconv.config import Config
from bertconv.config.foreign import config_for
from bertconv.errors import RequestError
from bertconv.models.attention import mask_bias
from bertconv.models.base_outputs import OF_BODIES
from bertconv.models.blocks import Context
from bertconv.models.calls import argument_names, made_call
from bertconv.models.checks import check_axes
from bertconv.models.inputs import as_tensors, named_inputs
from bertconv.models.layers import BaseLayer
from bertconv.models.outputs import ModelOutput, field_names
from bertconv.models.replacing import run
from bertconv.models.settings import Settings

CALL_DOC = """The hidden states of every position, and the pooled first one.

Not every family takes all of these; see the signature.

Args:
    input_ids: `[batch sequence]`; this or inputs_embeds.
    attention_mask: 1 where a position may be looked at: `[batch keys]`, `[batch queries keys]` or
        `[batch heads|1 queries keys]`; keys include those in the cache.
    token_type_ids: `[batch sequence]`; zeros by default.
    position_ids: `[batch sequence]`; by default counted from 0, after those in the cache, or as the family counts.
    head_mask: `[heads]` or `[layers heads]`; the attention probabilities are multiplied by it.
    inputs_embeds: `[batch sequence hidden]` instead of the word embeddings.
    encoder_hidden_states: `[batch encoder_sequence hidden]` for a decoder with cross-attention.
    encoder_attention_mask: as attention_mask, over the encoder's positions.
    past_key_values: the cache of an earlier call: per layer 2 tensors `[batch heads positions head]`, or 4 with
        those of cross-attention.
    use_cache: whether a decoder returns its cache; by default as the config says.
    output_attentions: whether to return attention probabilities; by default as the config says.
    output_hidden_states: whether to return the states of every layer; by default as the config says.
    return_dict: an output object, or a tuple; by default as the config says.
    training: whether dropout is on.

Raises:
    RequestError: arguments that contradict each other or the config.
    tf.errors.InvalidArgumentError: in a graph, ids out of range (on XLA they cannot be checked).
"""


class MainLayer(BaseLayer):
    """A family's model without a head, as a Keras layer of its own; a family's class sets `make_layers`.

    Args:
        config: of the family, a transformers config object, or a dict.
        add_pooling_layer: whether there is a pooler.
        name: of the layer; by default as checkpoints call it.
        dtype: Keras dtype policy.
        kwargs: `trainable`.

    Attributes:
        config_class: class of the config.
        base_name: name of the layer in checkpoints.
        model_inputs: what the family takes beyond input_ids and attention_mask, in order.
        is_cached: whether the family can be a decoder with a cache.
        can_pool: whether the family has a pooler at all.
        output_class: of what a call gives; it has the fields that the family can have.
        embeddings, encoder, pooler: what `make_layers` makes.
    """

    config_class: ClassVar[type[Config]]
    base_name: ClassVar[str]
    model_inputs: ClassVar[tuple[str, ...]] = ("token_type_ids", "position_ids")
    is_cached: ClassVar[bool] = True
    can_pool: ClassVar[bool] = True
    output_class: ClassVar[type[ModelOutput]]
    input_names: ClassVar[tuple[str, ...]] = ()
    call: ClassVar[Any]
    embeddings: Any
    encoder: Any
    pooler: Any = None

    def __init_subclass__(cls, *, is_family: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if is_family:
            cls.input_names = argument_names(cls.model_inputs, is_cached=cls.is_cached)
            cls.call = made_call(cls.input_names, CALL_DOC, cls)
            cls.output_class = OF_BODIES[cls.is_cached, cls.can_pool]
            keras.saving.register_keras_serializable(package="bertconv")(cls)

    def __init__(
        self,
        config: Any,
        add_pooling_layer: bool = True,
        *,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        config = config_for(type(self), config)
        super().__init__(name=name or self.base_name, dtype=dtype)
        self.config = config
        trainable = kwargs.pop("trainable", True)
        if kwargs:
            raise RequestError(f"{type(self).__name__} has no argument {', '.join(kwargs)}.", hint="Take it out.")
        check_decoder(config)
        settings = Settings.of(config, self.dtype_policy)
        if not self.is_cached:  # the family has no decoders, whatever its config says
            settings = replace(settings, is_decoder=False, is_crossed=False)
        self.settings = settings
        self.make_layers(settings, add_pooling_layer=add_pooling_layer and self.can_pool)
        self.trainable = trainable  # for every layer inside

    def make_layers(self, settings: Settings, *, add_pooling_layer: bool) -> None:
        """Make `embeddings`, `encoder` and `pooler` (None for none), in the order in which checkpoints have them."""
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `call`; the inputs may also be packed into one dict or list, as for the models."""
        given = named_inputs(self.input_names, args, kwargs, model=type(self).__name__)
        return super().__call__(**as_tensors(self, given))

    def project(self, embedded: tf.Tensor) -> tf.Tensor:
        """Embeddings in the size of the hidden states: `[batch sequence embedding]` -> `[batch sequence hidden]`."""
        return embedded

    def finish(self, hidden: tf.Tensor) -> tf.Tensor:
        """The last hidden states, from what the last layer gives: `[batch sequence hidden]` -> the same shape."""
        return hidden

    def pool(self, hidden: tf.Tensor) -> tf.Tensor | None:
        """The pooled states `[batch hidden]` of `[batch sequence hidden]`; None without a pooler."""
        return None if self.pooler is None else run(self.pooler, hidden)

    def forward(
        self,
        *,
        input_ids: tf.Tensor | None,
        attention_mask: tf.Tensor | None,
        inputs_embeds: tf.Tensor | None,
        head_mask: tf.Tensor | None,
        token_type_ids: tf.Tensor | None = None,
        position_ids: tf.Tensor | None = None,
        encoder_hidden_states: tf.Tensor | None = None,
        encoder_attention_mask: tf.Tensor | None = None,
        past_key_values: Sequence[tuple[tf.Tensor, ...]] | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> ModelOutput | tuple[Any, ...]:
        """What `call` does."""
        hidden, settings = self.settings.hidden, self.settings
        self._check(input_ids, inputs_embeds, encoder_hidden_states)
        past = _caches(past_key_values, len(self.encoder.steps()))
        past_length = _length(past[0][0], 2) if past and past[0] is not None else 0
        embedded = self.project(
            run(self.embeddings, input_ids, position_ids, token_type_ids, inputs_embeds, past_length, bool(training))
        )
        batch, length = _length(embedded, 0), _length(embedded, 1)
        context = self._context(
            (batch, length, past_length), attention_mask, encoder_hidden_states, encoder_attention_mask, bool(training)
        )
        inner = self.encoder.inner
        head_masks = _head_masks(head_mask, len(past) // inner, settings.heads)
        every_mask = [mask for mask in head_masks for _ in range(inner)]
        results = run(self.encoder, tf.reshape(embedded, [-1, hidden]), context, every_mask, past)
        states = [result.hidden for result in results[inner - 1 :: inner]]
        unfold = [embedded, *(tf.reshape(state, [batch, length, hidden]) for state in states)]
        unfold[-1] = self.finish(unfold[-1])
        cached = self._says("use_cache", use_cache) and settings.is_decoder
        attentions = self._says("output_attentions", output_attentions)
        crossed = attentions and encoder_hidden_states is not None
        found = {
            "last_hidden_state": unfold[-1],
            "pooler_output": self.pool(unfold[-1]),
            "past_key_values": tuple(result.cache for result in results) if cached else None,
            "hidden_states": tuple(unfold) if self._says("output_hidden_states", output_hidden_states) else None,
            "attentions": tuple(result.attention for result in results) if attentions else None,
            "cross_attentions": tuple(result.cross_attention for result in results) if crossed else None,
        }
        if self._says("return_dict", return_dict):
            return self.output_class(**{name: found[name] for name in field_names(self.output_class)})
        # A tuple keeps the place of a pooler that the family has and the model has not, as in transformers.
        return tuple(
            value for name, value in found.items() if value is not None or (name == "pooler_output" and self.can_pool)
        )

    def _says(self, key: str, given: bool | None) -> bool:
        return bool(self.config.values[key]) if given is None else bool(given)

    def _check(self, ids: tf.Tensor | None, embeds: tf.Tensor | None, states: tf.Tensor | None) -> None:
        """Refuse inputs that contradict each other or the config."""
        if (ids is None) == (embeds is None):
            raise RequestError("exactly one of input_ids and inputs_embeds is needed.", hint="Give one of the two.")
        check_axes(ids, "input_ids", [None, None])
        check_axes(embeds, "inputs_embeds", [None, None, self.settings.embedding])
        if states is None:
            return
        if not self.settings.is_decoder:
            raise RequestError(
                "encoder_hidden_states were given, and the config says that this is no decoder.",
                hint="Set is_decoder and add_cross_attention in the config, or leave them out.",
            )
        if not self.settings.is_crossed:
            raise RequestError(
                "encoder_hidden_states were given, and the model has no cross-attention.",
                hint="Set add_cross_attention in the config, or leave them out.",
            )
        check_axes(states, "encoder_hidden_states", [None, None, self.settings.hidden])

    def _context(
        self,
        sizes: tuple[Any, Any, Any],
        mask: tf.Tensor | None,
        encoder: tf.Tensor | None,
        encoder_mask: tf.Tensor | None,
        training: bool,
    ) -> Context:
        batch, length, past_length = sizes
        wide, is_decoder = self.wide_dtype, self.settings.is_decoder
        keys = past_length + length
        bias: tf.Tensor | None = None
        if mask is not None or is_decoder:
            mask = tf.ones((1, keys), tf.bool) if mask is None else mask
            bias = mask_bias(mask, wide, "attention_mask", (length, keys), causal=is_decoder)
        encoder_bias: tf.Tensor | None = None
        if encoder is not None:
            encoder = tf.cast(encoder, self.compute_dtype)
            if encoder_mask is not None:
                both = (length, _length(encoder, 1))
                encoder_bias = mask_bias(encoder_mask, wide, "encoder_attention_mask", both)
        return Context(batch, bias, encoder, encoder_bias, training, length, past_length)

    def get_config(self) -> dict[str, Any]:
        """For Keras: the config and how the layer was made."""
        return {
            "config": self.config.own_keys(),
            "add_pooling_layer": self.pooler is not None,
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The layer that `get_config` described."""
        settings = dict(config)
        settings["dtype"] = keras.saving.deserialize_keras_object(settings["dtype"])
        return cls(**settings)


def check_decoder(config: Any) -> None:
    """Refuse cross-attention in a model that is no decoder."""
    if config.values.get("add_cross_attention") and not config.values.get("is_decoder"):
        raise RequestError(
            "the config adds cross-attention to a model that is no decoder.",
            hint="Set is_decoder as well, or take add_cross_attention out.",
        )


def finished(output: ModelOutput, return_dict: bool | None, config: Any) -> Any:
    """The output object, or its tuple where that is asked for."""
    wanted = config.values["return_dict"] if return_dict is None else return_dict
    return output if wanted else output.to_tuple()


def _length(tensor: tf.Tensor, axis: int) -> int | tf.Tensor:
    """Size of an axis: a number where it is known."""
    known = tensor.shape[axis]
    return tf.shape(tensor)[axis] if known is None else int(known)


def _caches(past: Sequence[tuple[tf.Tensor, ...]] | None, layers: int) -> tuple[tuple[tf.Tensor, ...] | None, ...]:
    """The cache of every layer."""
    if past is None:
        return (None,) * layers
    if len(past) != layers:
        raise RequestError(
            f"past_key_values is of {len(past)} layers, and the model has {layers}.",
            hint="Give what an earlier call of this model returned.",
        )
    return tuple(past)


def _head_masks(mask: tf.Tensor | None, layers: int, heads: int) -> Sequence[tf.Tensor | None]:
    """One mask per layer, `[heads 1 1]`."""
    if mask is None:
        return [None] * layers
    shape = tf.TensorShape(mask.shape)
    if not (shape.is_compatible_with([heads]) or shape.is_compatible_with([layers, heads])):
        raise RequestError(
            f"head_mask has the shape {shape}.",
            hint=f"Give [heads] or [layers, heads]: [{heads}], [{layers}, {heads}].",
        )
    rows = tf.unstack(mask, layers) if mask.shape.rank == 2 else [mask] * layers
    return [row[:, tf.newaxis, tf.newaxis] for row in rows]
