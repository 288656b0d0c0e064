"""The heads that are fine-tuned: sequence and token classification, multiple choice, question answering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from bertconv.config import BertConfig
from bertconv.errors import RequestError
from bertconv.models import losses
from bertconv.models.bert import TFBertMainLayer
from bertconv.models.bert_heads import TFBertPreTrainedModel, serializable
from bertconv.models.layers import Dropout, Linear
from bertconv.models.outputs import (
    TFMultipleChoiceModelOutput,
    TFQuestionAnsweringModelOutput,
    TFSequenceClassifierOutput,
    TFTokenClassifierOutput,
)


def _dropout(config: BertConfig, dtype: Any) -> Dropout:
    """Dropout before a classifier: `classifier_dropout`, or the hidden states' where it is not set."""
    rate = config.values["classifier_dropout"]
    return Dropout(float(config.values["hidden_dropout_prob"] if rate is None else rate), dtype=dtype)


@serializable
class TFBertForSequenceClassification(TFBertPreTrainedModel, table_head="BertForSequenceClassification"):
    """BERT that classifies sequences: one label, several labels, or a number, as `problem_type` says."""

    label_names: ClassVar = ("labels",)
    label_outputs: ClassVar = {"labels": "logits"}

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.num_labels = int(self.config.values["num_labels"])
        self.bert = TFBertMainLayer(self.config, dtype=self.dtype_policy)
        self.dropout = _dropout(self.config, self.dtype_policy)
        hidden = int(self.config.values["hidden_size"])
        self.classifier = Linear(self.config, hidden, self.num_labels, name="classifier", dtype=self.dtype_policy)
        self.post_init()

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.sequence_classification_loss`; Keras hands labels to a compiled function as floats: cast ids."""
        kind = self.config.values["problem_type"]
        return losses.sequence_classification_loss(labels, logits, kind, self.num_labels)

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
    ) -> TFSequenceClassifierOutput | tuple[Any, ...]:
        """logits: `[batch labels]`; see TFBertMainLayer.call.

        Args:
            labels: classes `[batch]`, -100 where none counts; or for several labels or a number `[batch labels]`.
        """
        outputs = self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids,
            position_ids=position_ids, head_mask=head_mask, inputs_embeds=inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, use_cache=False,
            return_dict=True, training=training,
        )  # fmt: skip
        logits = self.classifier(self.dropout(outputs.pooler_output, training=training))
        loss = None if labels is None else self.hf_compute_loss(labels, logits)
        return self.finished(
            TFSequenceClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions), return_dict
        )


@serializable
class TFBertForMultipleChoice(TFBertPreTrainedModel, table_head="BertForMultipleChoice"):
    """BERT that chooses one of several continuations."""

    label_names: ClassVar = ("labels",)
    label_outputs: ClassVar = {"labels": "logits"}
    input_rank: ClassVar = 3
    dummy_shape: ClassVar = (1, 2, 2)

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.bert = TFBertMainLayer(self.config, dtype=self.dtype_policy)
        self.dropout = _dropout(self.config, self.dtype_policy)
        hidden = int(self.config.values["hidden_size"])
        self.classifier = Linear(self.config, hidden, 1, name="classifier", dtype=self.dtype_policy)
        self.post_init()

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.multiple_choice_loss`."""
        return losses.multiple_choice_loss(labels, logits)

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
    ) -> TFMultipleChoiceModelOutput | tuple[Any, ...]:
        """logits: `[batch choices]`; see TFBertMainLayer.call, with ids and masks `[batch choices sequence]`.

        Args:
            labels: the right choices, -100 where none counts: `[batch]`.
        """
        given = inputs_embeds if input_ids is None else input_ids
        if given is None or given.shape.rank != (4 if input_ids is None else 3):
            raise RequestError(
                f"{type(self).__name__} needs the choices of every sample.",
                hint="Give input_ids [batch, choices, sequence], or inputs_embeds [batch, choices, sequence, hidden].",
            )
        outputs = self.bert(
            input_ids=_merged(input_ids), attention_mask=_merged(attention_mask),
            token_type_ids=_merged(token_type_ids), position_ids=_merged(position_ids), head_mask=head_mask,
            inputs_embeds=_merged(inputs_embeds), output_attentions=output_attentions,
            output_hidden_states=output_hidden_states, use_cache=False, return_dict=True, training=training,
        )  # fmt: skip
        scores = self.classifier(self.dropout(outputs.pooler_output, training=training))
        logits = tf.reshape(scores, tf.shape(given)[:2])
        logits.set_shape(given.shape[:2])
        loss = None if labels is None else self.hf_compute_loss(labels, logits)
        return self.finished(
            TFMultipleChoiceModelOutput(loss, logits, outputs.hidden_states, outputs.attentions), return_dict
        )


@serializable
class TFBertForTokenClassification(TFBertPreTrainedModel, table_head="BertForTokenClassification"):
    """BERT that classifies tokens."""

    label_names: ClassVar = ("labels",)
    label_outputs: ClassVar = {"labels": "logits"}
    has_token_labels = True

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.num_labels = int(self.config.values["num_labels"])
        self.bert = TFBertMainLayer(self.config, add_pooling_layer=False, dtype=self.dtype_policy)
        self.dropout = _dropout(self.config, self.dtype_policy)
        hidden = int(self.config.values["hidden_size"])
        self.classifier = Linear(self.config, hidden, self.num_labels, name="classifier", dtype=self.dtype_policy)
        self.post_init()

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.token_classification_loss`."""
        return losses.token_classification_loss(labels, logits)

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
    ) -> TFTokenClassifierOutput | tuple[Any, ...]:
        """logits: `[batch sequence labels]`; see TFBertMainLayer.call.

        Args:
            labels: classes, -100 where none counts: `[batch sequence]`.
        """
        outputs = self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids,
            position_ids=position_ids, head_mask=head_mask, inputs_embeds=inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, use_cache=False,
            return_dict=True, training=training,
        )  # fmt: skip
        logits = self.classifier(self.dropout(outputs.last_hidden_state, training=training))
        loss = None if labels is None else self.hf_compute_loss(labels, logits)
        return self.finished(
            TFTokenClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions), return_dict
        )


@serializable
class TFBertForQuestionAnswering(TFBertPreTrainedModel, table_head="BertForQuestionAnswering"):
    """BERT that finds where an answer starts and ends."""

    label_names: ClassVar = ("start_positions", "end_positions")
    label_outputs: ClassVar = {"start_positions": "start_logits", "end_positions": "end_logits"}

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.num_labels = int(self.config.values["num_labels"])
        if self.num_labels != 2:
            raise RequestError(
                f"question answering has two outputs, start and end, and the config says num_labels is "
                f"{self.num_labels}.", hint="Set num_labels=2.",
            )  # fmt: skip
        self.bert = TFBertMainLayer(self.config, add_pooling_layer=False, dtype=self.dtype_policy)
        hidden = int(self.config.values["hidden_size"])
        self.qa_outputs = Linear(self.config, hidden, self.num_labels, name="qa_outputs", dtype=self.dtype_policy)
        self.post_init()

    def hf_compute_loss(self, labels: Mapping[str, tf.Tensor], logits: Sequence[tf.Tensor]) -> tf.Tensor:
        """The loss of `start_position` and `end_position` for both outputs; see `losses.question_answering_loss`."""
        return losses.question_answering_loss(labels["start_position"], labels["end_position"], *logits)

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
        start_positions: tf.Tensor | None = None,
        end_positions: tf.Tensor | None = None,
        training: bool = False,
    ) -> TFQuestionAnsweringModelOutput | tuple[Any, ...]:
        """start_logits and end_logits: `[batch sequence]`; see TFBertMainLayer.call.

        Args:
            start_positions: first token of the answer `[batch]`; positions behind the sequence do not count.
            end_positions: its last token: `[batch]`.
        """
        outputs = self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids,
            position_ids=position_ids, head_mask=head_mask, inputs_embeds=inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, use_cache=False,
            return_dict=True, training=training,
        )  # fmt: skip
        start, end = tf.unstack(self.qa_outputs(outputs.last_hidden_state), 2, axis=-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            given = {"start_position": start_positions, "end_position": end_positions}
            loss = self.hf_compute_loss(given, (start, end))
        output = TFQuestionAnsweringModelOutput(loss, start, end, outputs.hidden_states, outputs.attentions)
        return self.finished(output, return_dict)


def _merged(tensor: tf.Tensor | None) -> tf.Tensor | None:
    """`[batch choices ...]` -> `[batch*choices ...]`."""
    if tensor is None:
        return None
    return tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], 0))
