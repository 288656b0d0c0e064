"""TFBertModel, and the heads that predict words and next sentences."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from bertconv.config import BertConfig
from bertconv.mapping.ignore import ignore_lists
from bertconv.mapping.table import load_dialects, load_table
from bertconv.models import losses
from bertconv.models.activations import activation
from bertconv.models.bert import TFBertMainLayer, check_decoder
from bertconv.models.generation import GenerationMixin
from bertconv.models.layers import BertLayer, LayerNorm, Linear
from bertconv.models.outputs import (
    TFBaseModelOutputWithPoolingAndCrossAttentions,
    TFBertForPreTrainingOutput,
    TFCausalLMOutputWithCrossAttentions,
    TFMaskedLMOutput,
    TFNextSentencePredictorOutput,
)
from bertconv.models.pretrained import TFPreTrainedModel
from bertconv.models.replacing import run

serializable = keras.saving.register_keras_serializable(package="bertconv")


class TFBertPreTrainedModel(TFPreTrainedModel):
    """The base of every BERT: subclass it for a head of your own, with a TFBertMainLayer as `self.bert`.

    The two ignore lists are those of the mapping table for the class's head; a subclass may replace or extend them.
    """

    config_class = BertConfig
    base_model_prefix = "bert"

    def __init_subclass__(cls, table_head: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if table_head is not None:
            lists = ignore_lists(load_table(), load_dialects(), table_head)
            cls.table_head = table_head
            cls._keys_to_ignore_on_load_unexpected = list(lists.unexpected)
            cls._keys_to_ignore_on_load_missing = list(lists.missing)

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        check_decoder(self.config)


@serializable
class TFBertModel(TFBertPreTrainedModel, table_head="BertModel"):
    """BERT without a head: hidden states, and the pooled first one unless `add_pooling_layer` is False."""

    def __init__(self, config: Any, add_pooling_layer: bool = True, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.bert = TFBertMainLayer(self.config, add_pooling_layer, dtype=self.dtype_policy)
        self.post_init()

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
        """last_hidden_state: `[batch sequence hidden]`, pooler_output: `[batch hidden]`; see TFBertMainLayer.call."""
        return self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids,
            position_ids=position_ids, head_mask=head_mask, inputs_embeds=inputs_embeds,
            encoder_hidden_states=encoder_hidden_states, encoder_attention_mask=encoder_attention_mask,
            past_key_values=past_key_values, use_cache=use_cache, output_attentions=output_attentions,
            output_hidden_states=output_hidden_states, return_dict=return_dict, training=training,
        )  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        """The config as a dict, and under `keras` how the Keras model was made."""
        config = super().get_config()
        config["keras"]["add_pooling_layer"] = self.bert.pooler is not None
        return config


class TFBertPredictionHeadTransform(BertLayer):
    """A linear map, the activation, and layer normalisation."""

    def __init__(self, config: BertConfig, *, name: str = "transform", dtype: Any = None) -> None:
        super().__init__(config, name=name, dtype=dtype)
        hidden = int(config.values["hidden_size"])
        self.dense = Linear(config, hidden, hidden, name="dense", dtype=dtype)
        self.transform_act_fn = activation(config.values["hidden_act"])
        self.LayerNorm = LayerNorm(config, dtype=dtype)

    def call(self, hidden: tf.Tensor) -> tf.Tensor:
        """hidden: `[rows hidden]` -> the same shape."""
        return run(self.LayerNorm, self.transform_act_fn(run(self.dense, hidden)))


class TFBertLMPredictionHead(BertLayer):
    """Scores of every word; the output vectors are the embeddings, or a decoder of their own when untied."""

    def __init__(self, config: BertConfig, *, name: str = "predictions", dtype: Any = None) -> None:
        super().__init__(config, name=name, dtype=dtype)
        hidden, vocab = int(config.values["hidden_size"]), int(config.values["vocab_size"])
        self.transform = TFBertPredictionHeadTransform(config, dtype=dtype)
        is_tied = bool(config.values["tie_word_embeddings"])
        self.decoder = None if is_tied else Linear(config, hidden, vocab, name="decoder", dtype=dtype)

    def build(self, input_shape: Any = None) -> None:
        """Create the bias and the layers."""
        self.bias = self.new_weight("bias", (int(self.config.values["vocab_size"]),), "zeros")
        super().build()

    def call(self, hidden: tf.Tensor, words: Any) -> tf.Tensor:
        """hidden: `[batch sequence hidden]`, words: `[vocab hidden]` -> `[batch sequence vocab]`."""
        rows = run(self.transform, tf.reshape(hidden, [-1, int(self.config.values["hidden_size"])]))
        if self.decoder is None:
            vectors = tf.cast(words.value, rows.dtype)
            scores = tf.nn.bias_add(tf.matmul(rows, vectors, transpose_b=True), self.bias)
        else:
            scores = run(self.decoder, rows)
        return tf.reshape(scores, tf.concat([tf.shape(hidden)[:2], tf.shape(scores)[1:]], 0))


class TFBertMLMHead(BertLayer):
    """The head that predicts words."""

    def __init__(self, config: BertConfig, *, name: str = "mlm___cls", dtype: Any = None) -> None:
        super().__init__(config, name=name, dtype=dtype)
        self.predictions = TFBertLMPredictionHead(config, dtype=dtype)

    def call(self, hidden: tf.Tensor, words: Any) -> tf.Tensor:
        """hidden: `[batch sequence hidden]`, words: `[vocab hidden]` -> `[batch sequence vocab]`."""
        return run(self.predictions, hidden, words)


class TFBertNSPHead(BertLayer):
    """The head that tells whether the second sentence follows the first."""

    def __init__(self, config: BertConfig, *, name: str = "nsp___cls", dtype: Any = None) -> None:
        super().__init__(config, name=name, dtype=dtype)
        self.seq_relationship = Linear(
            config, int(config.values["hidden_size"]), 2, name="seq_relationship", dtype=dtype
        )

    def call(self, pooled: tf.Tensor) -> tf.Tensor:
        """pooled: `[batch hidden]` -> `[batch 2]`."""
        return run(self.seq_relationship, pooled)


@serializable
class TFBertForPreTraining(TFBertPreTrainedModel, table_head="BertForPreTraining"):
    """BERT as it is pretrained: masked words and next sentences."""

    label_names: ClassVar = ("labels", "next_sentence_label")
    label_outputs: ClassVar = {"labels": "prediction_logits", "next_sentence_label": "seq_relationship_logits"}
    has_token_labels = True

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.bert = TFBertMainLayer(self.config, dtype=self.dtype_policy)
        self.nsp = TFBertNSPHead(self.config, dtype=self.dtype_policy)
        self.mlm = TFBertMLMHead(self.config, dtype=self.dtype_policy)
        self.post_init()

    def hf_compute_loss(self, labels: Mapping[str, tf.Tensor], logits: Sequence[tf.Tensor]) -> tf.Tensor:
        """The loss of `labels` and `next_sentence_label` for both outputs, in order; see `losses.pretraining_loss`."""
        return losses.pretraining_loss(labels["labels"], labels["next_sentence_label"], *logits)

    def call(
        self,
        input_ids: tf.Tensor | None = None,
        attention_mask: tf.Tensor | None = None,
        token_type_ids: tf.Tensor | None = None,
        position_ids: tf.Tensor | None = None,
        head_mask: tf.Tensor | None = None,
        inputs_embeds: tf.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        labels: tf.Tensor | None = None,
        next_sentence_label: tf.Tensor | None = None,
        training: bool = False,
    ) -> TFBertForPreTrainingOutput | tuple[Any, ...]:
        """prediction_logits: `[batch sequence vocab]`, seq_relationship_logits: `[batch 2]`; see TFBertMainLayer.call.

        Args:
            labels: words to predict, -100 where none: `[batch sequence]`.
            next_sentence_label: 0 where the second sentence follows the first: `[batch]`.
        """
        outputs = self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids,
            position_ids=position_ids, head_mask=head_mask, inputs_embeds=inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, use_cache=False,
            return_dict=True, training=training,
        )  # fmt: skip
        words = self.mlm(outputs.last_hidden_state, self.bert.embeddings.weight)
        follows = self.nsp(outputs.pooler_output)
        loss = None
        if labels is not None and next_sentence_label is not None:
            given = {"labels": labels, "next_sentence_label": next_sentence_label}
            loss = self.hf_compute_loss(given, (words, follows))
        output = TFBertForPreTrainingOutput(loss, words, follows, outputs.hidden_states, outputs.attentions)
        return self.finished(output, return_dict)


@serializable
class TFBertForMaskedLM(TFBertPreTrainedModel, table_head="BertForMaskedLM"):
    """BERT that predicts masked words."""

    label_names: ClassVar = ("labels",)
    label_outputs: ClassVar = {"labels": "logits"}
    has_token_labels = True

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        if self.config.values["is_decoder"]:
            warnings.warn("a masked language model looks both ways; this config has is_decoder set.", stacklevel=2)
        self.bert = TFBertMainLayer(self.config, add_pooling_layer=False, dtype=self.dtype_policy)
        self.mlm = TFBertMLMHead(self.config, dtype=self.dtype_policy)
        self.post_init()

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.masked_lm_loss`."""
        return losses.masked_lm_loss(labels, logits)

    def call(
        self,
        input_ids: tf.Tensor | None = None,
        attention_mask: tf.Tensor | None = None,
        token_type_ids: tf.Tensor | None = None,
        position_ids: tf.Tensor | None = None,
        head_mask: tf.Tensor | None = None,
        inputs_embeds: tf.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        labels: tf.Tensor | None = None,
        training: bool = False,
    ) -> TFMaskedLMOutput | tuple[Any, ...]:
        """logits: `[batch sequence vocab]`; see TFBertMainLayer.call.

        Args:
            labels: words to predict, -100 where none: `[batch sequence]`.
        """
        outputs = self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids,
            position_ids=position_ids, head_mask=head_mask, inputs_embeds=inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, use_cache=False,
            return_dict=True, training=training,
        )  # fmt: skip
        logits = self.mlm(outputs.last_hidden_state, self.bert.embeddings.weight)
        loss = None if labels is None else self.hf_compute_loss(labels, logits)
        return self.finished(TFMaskedLMOutput(loss, logits, outputs.hidden_states, outputs.attentions), return_dict)


@serializable
class TFBertLMHeadModel(GenerationMixin, TFBertPreTrainedModel, table_head="BertLMHeadModel"):
    """BERT as a decoder that predicts the next word; needs `is_decoder` in the config to look backwards only."""

    label_names: ClassVar = ("labels",)
    label_outputs: ClassVar = {"labels": "logits"}
    has_token_labels = True

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        if not self.config.values["is_decoder"]:
            warnings.warn(
                "without is_decoder in its config the model sees the words that it is to predict.", stacklevel=2
            )
        self.bert = TFBertMainLayer(self.config, add_pooling_layer=False, dtype=self.dtype_policy)
        self.mlm = TFBertMLMHead(self.config, dtype=self.dtype_policy)
        self.post_init()

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.masked_lm_loss`: labels are those of the next words, as `call` moves them."""
        return losses.masked_lm_loss(labels, logits)

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
        labels: tf.Tensor | None = None,
        training: bool = False,
    ) -> TFCausalLMOutputWithCrossAttentions | tuple[Any, ...]:
        """logits: `[batch sequence vocab]`, past_key_values: the cache; see TFBertMainLayer.call.

        Args:
            labels: the words themselves, -100 where none counts: `[batch sequence]`; the loss shifts them.
        """
        outputs = self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids,
            position_ids=position_ids, head_mask=head_mask, inputs_embeds=inputs_embeds,
            encoder_hidden_states=encoder_hidden_states, encoder_attention_mask=encoder_attention_mask,
            past_key_values=past_key_values, use_cache=use_cache, output_attentions=output_attentions,
            output_hidden_states=output_hidden_states, return_dict=True, training=training,
        )  # fmt: skip
        logits = self.mlm(outputs.last_hidden_state, self.bert.embeddings.weight)
        loss = None if labels is None else self.hf_compute_loss(losses.next_labels(labels, logits), logits)
        output = TFCausalLMOutputWithCrossAttentions(
            loss, logits, outputs.past_key_values, outputs.hidden_states, outputs.attentions, outputs.cross_attentions
        )
        return self.finished(output, return_dict)


@serializable
class TFBertForNextSentencePrediction(TFBertPreTrainedModel, table_head="BertForNextSentencePrediction"):
    """BERT that tells whether the second sentence follows the first."""

    label_names: ClassVar = ("next_sentence_label",)
    label_outputs: ClassVar = {"next_sentence_label": "logits"}

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.bert = TFBertMainLayer(self.config, dtype=self.dtype_policy)
        self.nsp = TFBertNSPHead(self.config, dtype=self.dtype_policy)
        self.post_init()

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.next_sentence_loss`."""
        return losses.next_sentence_loss(labels, logits)

    def call(
        self,
        input_ids: tf.Tensor | None = None,
        attention_mask: tf.Tensor | None = None,
        token_type_ids: tf.Tensor | None = None,
        position_ids: tf.Tensor | None = None,
        head_mask: tf.Tensor | None = None,
        inputs_embeds: tf.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        next_sentence_label: tf.Tensor | None = None,
        training: bool = False,
    ) -> TFNextSentencePredictorOutput | tuple[Any, ...]:
        """logits: `[batch 2]`; see TFBertMainLayer.call.

        Args:
            next_sentence_label: 0 where the second sentence follows the first, -100 where it does not count: `[batch]`.
        """
        outputs = self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids,
            position_ids=position_ids, head_mask=head_mask, inputs_embeds=inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, use_cache=False,
            return_dict=True, training=training,
        )  # fmt: skip
        logits = self.nsp(outputs.pooler_output)
        loss = None if next_sentence_label is None else self.hf_compute_loss(next_sentence_label, logits)
        return self.finished(
            TFNextSentencePredictorOutput(loss, logits, outputs.hidden_states, outputs.attentions), return_dict
        )
