"""BERT without a head (Devlin et al. 2018, arXiv:1810.04805): TFBertMainLayer, what it takes and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from bertconv.config import BertConfig
from bertconv.errors import RequestError
from bertconv.models.attention import mask_bias
from bertconv.models.bert_layers import Context, TFBertEmbeddings, TFBertEncoder, TFBertPooler
from bertconv.models.checks import check_axes
from bertconv.models.inputs import as_tensors, named_inputs
from bertconv.models.layers import BertLayer
from bertconv.models.outputs import ModelOutput, TFBaseModelOutputWithPoolingAndCrossAttentions
from bertconv.models.replacing import run

BODY_INPUTS = (
    "input_ids", "attention_mask", "token_type_ids", "position_ids", "head_mask", "inputs_embeds",
    "encoder_hidden_states", "encoder_attention_mask", "past_key_values", "use_cache", "output_attentions",
    "output_hidden_states", "return_dict", "training",
)  # fmt: skip
"""What the main layer takes, in the order of its arguments."""


@keras.saving.register_keras_serializable(package="bertconv")
class TFBertMainLayer(BertLayer):
    """BERT without a head, as a Keras layer of its own: use it in functional models and in models of your own.

    Args:
        config: BertConfig, a transformers config object, or a dict.
        add_pooling_layer: whether there is a pooler.
        name: of the layer; checkpoints call it "bert".
        dtype: Keras dtype policy.
    """

    config_class = BertConfig

    def __init__(
        self,
        config: Any,
        add_pooling_layer: bool = True,
        *,
        name: str = "bert",
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        config = BertConfig.coerce(config)
        super().__init__(config, name=name, dtype=dtype)
        trainable = kwargs.pop("trainable", True)
        if kwargs:
            raise RequestError(f"TFBertMainLayer has no argument {', '.join(kwargs)}.", hint="Take it out.")
        check_decoder(config)
        dtype = self.dtype_policy
        self.is_decoder = bool(config.values["is_decoder"])
        self.embeddings = TFBertEmbeddings(config, dtype=dtype)
        self.encoder = TFBertEncoder(config, dtype=dtype)
        self.pooler = TFBertPooler(config, dtype=dtype) if add_pooling_layer else None
        self.trainable = trainable  # for every layer inside

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `call`; the inputs may also be packed into one dict or list, as for the models."""
        given = named_inputs(BODY_INPUTS, args, kwargs, model=type(self).__name__)
        return super().__call__(**as_tensors(self, given))

    def call(
        self,
        input_ids: tf.Tensor | None = None,
        attention_mask: tf.Tensor | None = None,
        token_type_ids: tf.Tensor | None = None,
        position_ids: tf.Tensor | None = None,
        head_mask: tf.Tensor | None = None,
        inputs_embeds: tf.Tensor | None = None,
        encoder_hidden_states: tf.Tensor | None = None,
        encoder_attention_mask: tf.Tensor | None = None,
        past_key_values: Sequence[tuple[tf.Tensor, ...]] | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> TFBaseModelOutputWithPoolingAndCrossAttentions | tuple[Any, ...]:
        """The hidden states of every position, and the pooled first one.

        Args:
            input_ids: `[batch sequence]`; this or inputs_embeds.
            attention_mask: 1 where a position may be looked at: `[batch keys]`, `[batch queries keys]` or
                `[batch heads|1 queries keys]`; keys include those in the cache.
            token_type_ids: `[batch sequence]`; zeros by default.
            position_ids: `[batch sequence]`; 0, 1, 2 ... by default, after those in the cache.
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
        if (input_ids is None) == (inputs_embeds is None):
            raise RequestError("exactly one of input_ids and inputs_embeds is needed.", hint="Give one of the two.")
        check_axes(input_ids, "input_ids", [None, None])
        hidden = int(self.config.values["hidden_size"])
        check_axes(inputs_embeds, "inputs_embeds", [None, None, hidden])
        self._check_encoder(encoder_hidden_states)
        check_axes(encoder_hidden_states, "encoder_hidden_states", [None, None, hidden])
        layers = len(self.encoder.layer)
        past = _caches(past_key_values, layers)
        past_length = _length(past[0][0], 2) if past and past[0] is not None else 0
        embedded = run(
            self.embeddings, input_ids, position_ids, token_type_ids, inputs_embeds, past_length, bool(training)
        )
        batch, length = _length(embedded, 0), _length(embedded, 1)
        context = self._context(
            (batch, length, past_length), attention_mask, encoder_hidden_states, encoder_attention_mask, bool(training)
        )
        head_masks = _head_masks(head_mask, layers, int(self.config.values["num_attention_heads"]))
        results = run(self.encoder, tf.reshape(embedded, [-1, hidden]), context, head_masks, past)
        unfold = [embedded, *(tf.reshape(result.hidden, [batch, length, hidden]) for result in results)]
        pooled = None if self.pooler is None else run(self.pooler, unfold[-1])
        cached = self._says("use_cache", use_cache) and self.is_decoder
        attentions = self._says("output_attentions", output_attentions)
        crossed = attentions and encoder_hidden_states is not None
        output = TFBaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=unfold[-1],
            pooler_output=pooled,
            past_key_values=tuple(result.cache for result in results) if cached else None,
            hidden_states=tuple(unfold) if self._says("output_hidden_states", output_hidden_states) else None,
            attentions=tuple(result.attention for result in results) if attentions else None,
            cross_attentions=tuple(result.cross_attention for result in results) if crossed else None,
        )
        if self._says("return_dict", return_dict):
            return output
        return (output.last_hidden_state, pooled, *output.to_tuple()[1 + (pooled is not None) :])

    def _says(self, key: str, given: bool | None) -> bool:
        return bool(self.config.values[key]) if given is None else bool(given)

    def _check_encoder(self, states: tf.Tensor | None) -> None:
        if states is None:
            return
        if not self.is_decoder:
            raise RequestError(
                "encoder_hidden_states were given, and the config says that this is no decoder.",
                hint="Set is_decoder and add_cross_attention in the config, or leave them out.",
            )
        if not self.config.values["add_cross_attention"]:
            raise RequestError(
                "encoder_hidden_states were given, and the model has no cross-attention.",
                hint="Set add_cross_attention in the config, or leave them out.",
            )

    def _context(
        self,
        sizes: tuple[Any, Any, Any],
        mask: tf.Tensor | None,
        encoder: tf.Tensor | None,
        encoder_mask: tf.Tensor | None,
        training: bool,
    ) -> Context:
        batch, length, past_length = sizes
        wide = self.wide_dtype
        keys = past_length + length
        bias: tf.Tensor | None = None
        if mask is not None or self.is_decoder:
            mask = tf.ones((1, keys), tf.bool) if mask is None else mask
            bias = mask_bias(mask, wide, "attention_mask", (length, keys), causal=self.is_decoder)
        encoder_bias: tf.Tensor | None = None
        if encoder is not None:
            encoder = tf.cast(encoder, self.compute_dtype)
            if encoder_mask is not None:
                both = (length, _length(encoder, 1))
                encoder_bias = mask_bias(encoder_mask, wide, "encoder_attention_mask", both)
        return Context(batch, bias, encoder, encoder_bias, training)

    def get_config(self) -> dict[str, Any]:
        """For Keras: the config and how the layer was made."""
        return {
            "config": self.config.to_dict(),
            "add_pooling_layer": self.pooler is not None,
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TFBertMainLayer:
        """The layer that `get_config` described."""
        settings = dict(config)
        settings["dtype"] = keras.saving.deserialize_keras_object(settings["dtype"])
        return cls(**settings)


def check_decoder(config: BertConfig) -> None:
    """Refuse cross-attention in a model that is no decoder."""
    if config.values["add_cross_attention"] and not config.values["is_decoder"]:
        raise RequestError(
            "the config adds cross-attention to a model that is no decoder.",
            hint="Set is_decoder as well, or take add_cross_attention out.",
        )


def finished(output: ModelOutput, return_dict: bool | None, config: BertConfig) -> Any:
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
