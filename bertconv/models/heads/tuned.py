"""Heads that are fine-tuned: sequence and token classification, multiple choice, question answering; discriminators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from bertconv import tasks
from bertconv.errors import RequestError
from bertconv.models import losses
from bertconv.models.blocks import dropout, linear
from bertconv.models.heads.base import Head, OneLabel
from bertconv.models.heads.layers import FirstTokenClassifier, SequenceSummary
from bertconv.models.outputs import (
    ModelOutput,
    TFElectraForPreTrainingOutput,
    TFMultipleChoiceModelOutput,
    TFQuestionAnsweringModelOutput,
    TFSequenceClassifierOutput,
    TFTokenClassifierOutput,
)
from bertconv.models.settings import Settings


class Classifier(OneLabel):
    """Dropout and one linear map, `classifier`, of the pooled states or, without a pooler, of every position.

    Attributes:
        dropout_keys: keys of the config of which the first that is set is the rate of dropout.
        classifier_module: neutral id of the map.
    """

    label_names: ClassVar = ("labels",)
    label_outputs: ClassVar = {"labels": "logits"}
    dropout_keys: ClassVar[tuple[str, ...]] = ("classifier_dropout", "hidden_dropout_prob")
    classifier_module: ClassVar[str] = "classifier.dense"

    @property
    def dropout_rate(self) -> float:
        """Rate of dropout before the classifier."""
        rates = (self.config.values.get(key) for key in self.dropout_keys)
        return float(next(rate for rate in rates if rate is not None))

    def make_head(self, settings: Settings) -> None:
        """See Head."""
        units = 1 if self.task == tasks.MULTIPLE_CHOICE else settings.labels
        self.dropout = dropout(settings, self.dropout_rate)
        self.classifier = linear(settings, settings.hidden, units, "classifier", self.classifier_module)

    def logits(self, outputs: Any, training: bool) -> Any:
        """See Head."""
        states = outputs.pooler_output if self.is_pooled else outputs.last_hidden_state
        return self.classifier(self.dropout(states, training=training))


class SequenceClassification(Classifier):
    """Classifies sequences: one label, several labels, or a number, as `problem_type` says."""

    task = tasks.SEQUENCE_CLASSIFICATION
    is_pooled = True
    output_class = TFSequenceClassifierOutput
    call_doc = """logits: `[batch labels]`; see the main layer's call.

    Args:
        labels: classes `[batch]`, -100 where none counts; or for several labels or a number `[batch labels]`.
    """

    def make_head(self, settings: Settings) -> None:
        """See Head."""
        self.num_labels = settings.labels
        super().make_head(settings)

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.sequence_classification_loss`; Keras hands labels to a compiled function as floats: cast ids."""
        kind = self.config.values["problem_type"]
        return losses.sequence_classification_loss(labels, logits, kind, self.num_labels)


class DeepSequenceClassification(SequenceClassification):
    """Classifies sequences by their first position with two linear maps; the body has no pooler.

    Attributes:
        classifier_act: name of the activation between the two.
    """

    is_pooled = False
    classifier_act: ClassVar[str] = "tanh"

    def make_head(self, settings: Settings) -> None:
        """See Head."""
        self.num_labels = settings.labels
        self.classifier = FirstTokenClassifier(settings, rate=self.dropout_rate, act=self.classifier_act)

    def logits(self, outputs: Any, training: bool) -> Any:
        """See Head."""
        return self.classifier(outputs.last_hidden_state, training=training)


class TokenClassification(Classifier):
    """Classifies tokens."""

    task = tasks.TOKEN_CLASSIFICATION
    has_token_labels = True
    output_class = TFTokenClassifierOutput
    call_doc = """logits: `[batch sequence labels]`; see the main layer's call.

    Args:
        labels: classes, -100 where none counts: `[batch sequence]`.
    """

    def make_head(self, settings: Settings) -> None:
        """See Head."""
        self.num_labels = settings.labels
        super().make_head(settings)

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.token_classification_loss`."""
        return losses.token_classification_loss(labels, logits)


class MultipleChoice(Classifier):
    """Chooses one of several continuations."""

    task = tasks.MULTIPLE_CHOICE
    is_pooled = True
    classifier_module = "choice.dense"
    input_rank: ClassVar = 3
    dummy_shape: ClassVar = (1, 2, 2)
    output_class = TFMultipleChoiceModelOutput
    call_doc = """logits: `[batch choices]`; see the main layer's call, with ids and masks `[batch choices sequence]`.

    Args:
        labels: the right choices, -100 where none counts: `[batch]`.
    """

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.multiple_choice_loss`."""
        return losses.multiple_choice_loss(labels, logits)

    def body_inputs(self, given: dict[str, Any]) -> dict[str, Any]:
        """Every choice as a sequence of its own: `[batch choices ...]` -> `[batch*choices ...]`."""
        merged = {*self.main_layer.model_inputs, "input_ids", "attention_mask", "inputs_embeds"}
        return {name: _merged(value) if name in merged else value for name, value in given.items()}

    def forward(self, *, labels: Any = None, return_dict: bool | None = None, **given: Any) -> Any:
        """See Head."""
        ids, embeds = given["input_ids"], given["inputs_embeds"]
        choices = embeds if ids is None else ids
        if choices is None or choices.shape.rank != (4 if ids is None else 3):
            raise RequestError(
                f"{type(self).__name__} needs the choices of every sample.",
                hint="Give input_ids [batch, choices, sequence], or inputs_embeds [batch, choices, sequence, hidden].",
            )
        output = super().forward(return_dict=True, **given)
        logits = tf.reshape(output.logits, tf.shape(choices)[:2])
        logits.set_shape(choices.shape[:2])
        loss = None if labels is None else self.hf_compute_loss(labels, logits)
        return self.finished(self.output_class(loss, logits, output.hidden_states, output.attentions), return_dict)


class SummarisedMultipleChoice(MultipleChoice):
    """Chooses one of several continuations by one vector for each, made as `summary_...` in the config say."""

    is_pooled = False

    def make_head(self, settings: Settings) -> None:
        """See Head."""
        self.sequence_summary = SequenceSummary(settings, self.config.values, module="choice.summary")
        self.classifier = linear(settings, settings.hidden, 1, "classifier", self.classifier_module)

    def logits(self, outputs: Any, training: bool) -> Any:
        """See Head."""
        return self.classifier(self.sequence_summary(outputs.last_hidden_state, training=training))


class QuestionAnswering(Head):
    """Finds where an answer starts and ends."""

    task = tasks.QUESTION_ANSWERING
    label_names: ClassVar = ("start_positions", "end_positions")
    label_outputs: ClassVar = {"start_positions": "start_logits", "end_positions": "end_logits"}
    call_doc = """start_logits and end_logits: `[batch sequence]`; see the main layer's call.

    Args:
        start_positions: first token of the answer `[batch]`; positions behind the sequence do not count.
        end_positions: its last token: `[batch]`.
    """

    def make_head(self, settings: Settings) -> None:
        """See Head."""
        self.num_labels = settings.labels
        if self.num_labels != 2:
            raise RequestError(
                f"question answering has two outputs, start and end, and the config says num_labels is "
                f"{self.num_labels}.", hint="Set num_labels=2.",
            )  # fmt: skip
        self.qa_outputs = linear(settings, settings.hidden, self.num_labels, "qa_outputs", "qa.dense")

    def logits(self, outputs: Any, training: bool) -> Any:
        """Start and end."""
        return tf.unstack(self.qa_outputs(outputs.last_hidden_state), 2, axis=-1)

    def hf_compute_loss(self, labels: Mapping[str, tf.Tensor], logits: Sequence[tf.Tensor]) -> tf.Tensor:
        """The loss of `start_position` and `end_position` for both outputs; see `losses.question_answering_loss`."""
        return losses.question_answering_loss(labels["start_position"], labels["end_position"], *logits)

    def result(self, outputs: Any, labels: dict[str, Any], training: bool) -> ModelOutput:
        """See Head."""
        start, end = self.logits(outputs, training)
        given = {name.removesuffix("s"): label for name, label in labels.items()}
        has_both = all(label is not None for label in given.values())
        loss = self.hf_compute_loss(given, (start, end)) if has_both else None
        return TFQuestionAnsweringModelOutput(loss, start, end, outputs.hidden_states, outputs.attentions)


class Discriminator(OneLabel):
    """Tells which tokens were replaced; a family sets `make_head` and `logits`."""

    task = tasks.DISCRIMINATOR
    has_token_labels = True
    label_names: ClassVar = ("labels",)
    label_outputs: ClassVar = {"labels": "logits"}
    output_class = TFElectraForPreTrainingOutput
    call_doc = """logits: `[batch sequence]`, above 0 where a token was probably replaced; see the main layer's call.

    Args:
        labels: 1 where a token was replaced, 0 where not, -100 where it does not count, as where attention_mask is 0:
            `[batch sequence]`.
    """

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.discriminator_loss`; what `call` masks must be -100 here."""
        return losses.discriminator_loss(labels, logits)

    def forward(self, *, labels: Any = None, **given: Any) -> Any:
        """See Head."""
        mask = given.get("attention_mask")
        if labels is not None and mask is not None and mask.shape.rank == 2:
            labels = losses.seen_labels(labels, mask)
        return super().forward(labels=labels, **given)


def _merged(tensor: tf.Tensor | None) -> tf.Tensor | None:
    """`[batch choices ...]` -> `[batch*choices ...]`."""
    if tensor is None:
        return None
    return tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], 0))
