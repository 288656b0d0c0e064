"""Heads that predict words: masked ones, the next ones, and those of pretraining."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from bertconv import tasks
from bertconv.models import losses
from bertconv.models.generation import GenerationMixin
from bertconv.models.heads.base import Head, OneLabel
from bertconv.models.heads.layers import DenseWordScores
from bertconv.models.outputs import (
    ModelOutput,
    TFBertForPreTrainingOutput,
    TFCausalLMOutputWithCrossAttentions,
    TFMaskedLMOutput,
    TFNextSentencePredictorOutput,
)
from bertconv.models.pretrained import TFPreTrainedModel
from bertconv.models.settings import Settings


class LMHead(TFPreTrainedModel):
    """What the base class of a family has whose words are scored by one layer, `lm_head`, as RoBERTa's are."""

    def make_words(self, settings: Settings) -> None:
        """See TFPreTrainedModel; the activation is fixed, whatever the config says."""
        self.lm_head = DenseWordScores(settings, act="gelu", name="lm_head")

    def score_words(self, hidden: tf.Tensor) -> tf.Tensor:
        """See TFPreTrainedModel."""
        return self.lm_head(hidden, self.body.embeddings.weight)

    def get_lm_head(self) -> Any:
        """See TFPreTrainedModel."""
        return getattr(self, "lm_head", None)


class Words(Head):
    """A head that scores words; a family sets `make_words` and `score_words` once, in the base class of its heads."""

    has_token_labels = True

    def make_head(self, settings: Settings) -> None:
        """See Head."""
        self.make_words(settings)

    def logits(self, outputs: Any, training: bool) -> Any:
        """Scores of every word: `[batch sequence vocab]`."""
        return self.score_words(outputs.last_hidden_state)


class Sentences(Head):
    """A head that tells how two sentences follow each other; a family sets these two."""

    is_pooled = True

    def make_sentences(self, settings: Settings) -> None:
        """Make the layers."""
        raise NotImplementedError

    def score_sentences(self, outputs: Any, training: bool) -> Any:
        """Scores of the body's outputs: `[batch 2]`."""
        raise NotImplementedError


class MaskedLM(Words, OneLabel):
    """Predicts masked words."""

    task = tasks.MASKED_LM
    label_names: ClassVar = ("labels",)
    label_outputs: ClassVar = {"labels": "logits"}
    output_class = TFMaskedLMOutput
    call_doc = """logits: `[batch sequence vocab]`; see the main layer's call.

    Args:
        labels: words to predict, -100 where none: `[batch sequence]`.
    """

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        if self.config.values.get("is_decoder"):
            warnings.warn("a masked language model looks both ways; this config has is_decoder set.", stacklevel=2)

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.masked_lm_loss`."""
        return losses.masked_lm_loss(labels, logits)


class CausalLM(GenerationMixin, Words):
    """A decoder that predicts the next word; needs `is_decoder` in the config to look backwards only."""

    task = tasks.CAUSAL_LM
    is_cached = True
    label_names: ClassVar = ("labels",)
    label_outputs: ClassVar = {"labels": "logits"}
    call_doc = """logits: `[batch sequence vocab]`, past_key_values: the cache; see the main layer's call.

    Args:
        labels: the words themselves, -100 where none counts: `[batch sequence]`; the loss shifts them.
    """

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        if not self.config.values["is_decoder"]:
            warnings.warn(
                "without is_decoder in its config the model sees the words that it is to predict.", stacklevel=2
            )

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.masked_lm_loss`: labels are those of the next words, as `call` moves them."""
        return losses.masked_lm_loss(labels, logits)

    def result(self, outputs: Any, labels: dict[str, Any], training: bool) -> ModelOutput:
        """See Head."""
        logits, words = self.logits(outputs, training), labels["labels"]
        loss = None if words is None else self.hf_compute_loss(losses.next_labels(words, logits), logits)
        return TFCausalLMOutputWithCrossAttentions(
            loss, logits, outputs.past_key_values, outputs.hidden_states, outputs.attentions, outputs.cross_attentions
        )


class PreTraining(Sentences, Words):
    """Predicts masked words and how two sentences follow each other; a family sets `make_sentences`."""

    task = tasks.PRETRAINING
    label_names: ClassVar = ("labels", "next_sentence_label")
    label_outputs: ClassVar = {"labels": "prediction_logits", "next_sentence_label": "seq_relationship_logits"}
    output_class: ClassVar[Any] = TFBertForPreTrainingOutput
    call_doc = """prediction_logits: `[batch sequence vocab]`, seq_relationship_logits: `[batch 2]`; see the main layer.

    Args:
        labels: words to predict, -100 where none: `[batch sequence]`.
        next_sentence_label: 0 where the second sentence follows the first: `[batch]`.
    """

    def make_head(self, settings: Settings) -> None:
        """See Head."""
        self.make_sentences(settings)
        self.make_words(settings)

    def hf_compute_loss(self, labels: Mapping[str, tf.Tensor], logits: Sequence[tf.Tensor]) -> tf.Tensor:
        """The loss of both labels for both outputs, in order; see `losses.pretraining_loss`."""
        return losses.pretraining_loss(*(labels[name] for name in self.label_names), *logits)

    def result(self, outputs: Any, labels: dict[str, Any], training: bool) -> ModelOutput:
        """See Head."""
        both = self.logits(outputs, training), self.score_sentences(outputs, training)
        has_all = all(label is not None for label in labels.values())
        loss = self.hf_compute_loss(labels, both) if has_all else None
        return self.output_class(loss, *both, outputs.hidden_states, outputs.attentions)


class NextSentence(Sentences, OneLabel):
    """Tells whether the second sentence follows the first; a family sets `make_sentences`."""

    task = tasks.NEXT_SENTENCE
    label_names: ClassVar = ("next_sentence_label",)
    label_outputs: ClassVar = {"next_sentence_label": "logits"}
    output_class = TFNextSentencePredictorOutput
    call_doc = """logits: `[batch 2]`; see the main layer's call.

    Args:
        next_sentence_label: 0 where the second sentence follows the first, -100 where it does not count: `[batch]`.
    """

    def make_head(self, settings: Settings) -> None:
        """See Head."""
        self.make_sentences(settings)

    def logits(self, outputs: Any, training: bool) -> Any:
        """See Head."""
        return self.score_sentences(outputs, training)

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """See `losses.next_sentence_loss`."""
        return losses.next_sentence_loss(labels, logits)
