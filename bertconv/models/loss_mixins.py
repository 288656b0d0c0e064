"""Losses that a user's own class takes beside a family's base class, under transformers 4's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from bertconv.models import losses


class TFCausalLanguageModelingLoss:
    """`hf_compute_loss` of words; labels must be moved already, so that each stands where it is predicted."""

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.masked_lm_loss`."""
        return losses.masked_lm_loss(labels, logits)


class TFMaskedLanguageModelingLoss(TFCausalLanguageModelingLoss):
    """`hf_compute_loss` of masked words."""


class TFQuestionAnsweringLoss:
    """`hf_compute_loss` of where an answer starts and ends."""

    def hf_compute_loss(self, labels: Mapping[str, tf.Tensor], logits: Sequence[tf.Tensor]) -> tf.Tensor:
        """The loss of `start_position` and `end_position`; see `losses.question_answering_loss`."""
        return losses.question_answering_loss(labels["start_position"], labels["end_position"], *logits)


class TFTokenClassificationLoss:
    """`hf_compute_loss` of the class of each token."""

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.token_classification_loss`."""
        return losses.token_classification_loss(labels, logits)


class TFSequenceClassificationLoss:
    """`hf_compute_loss` of a sequence's class; of a number where there is one logit, or as `problem_type` says."""

    config: Any

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.sequence_classification_loss`."""
        count = 1 if logits.shape.rank == 1 else int(logits.shape[-1])
        kind = self.config.values.get("problem_type")
        if kind is None:
            kind = "regression" if count == 1 else "single_label_classification"
        return losses.sequence_classification_loss(labels, logits, kind, count)


class TFMultipleChoiceLoss:
    """`hf_compute_loss` of which choice is right."""

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.multiple_choice_loss`."""
        return losses.multiple_choice_loss(labels, logits)


class TFNextSentencePredictionLoss:
    """`hf_compute_loss` of whether the second sentence follows the first."""

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.next_sentence_loss`."""
        return losses.next_sentence_loss(labels, logits)
