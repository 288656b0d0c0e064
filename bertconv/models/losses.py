"""The losses of the heads: in the shapes that users of transformers' TensorFlow classes know, with PyTorch's mean.

The mean of what a function returns is what PyTorch's head returns as its loss: entries labelled -100 are ignored, and
nothing but ignored entries gives NaN, with gradient zero. A loss of shape [batch] has 0 for an ignored entry and the
others times batch / number of the others. Logits below float32 are cast to float32, so no loss is below it.

A class id that is neither -100 nor a class raises tf.errors.InvalidArgumentError, eagerly and under tf.function; XLA
drops such checks, and there the loss becomes NaN.
"""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from bertconv.errors import RequestError

IGNORED = -100
"""The class id of what has no label (`ignore_index` of torch.nn.CrossEntropyLoss)."""

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]


def masked_lm_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of every token that has a label.

    Args:
        labels: [batch sequence], token ids or -100.
        logits: [batch sequence vocab].

    Returns:
        [1]

    Raises:
        RequestError: labels that are not whole numbers or do not fit the logits.
    """
    return _mean(*_cross_entropy(labels, logits))


def next_labels(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """At each position the label of the next one, and none at the last: [batch sequence]; errors as for the losses.

    Moving the labels gives the same as cutting the logits, which would copy [batch sequence vocab].
    """
    labels = _reshape(_class_ids(labels), tf.convert_to_tensor(logits), -1)
    none = tf.fill(tf.shape(labels[..., :1]), tf.constant(IGNORED, labels.dtype))
    return tf.concat([labels[..., 1:], none], axis=-1)


def pretraining_loss(
    labels: tf.Tensor, next_sentence_label: tf.Tensor, prediction_logits: tf.Tensor, seq_relationship_logits: tf.Tensor
) -> tf.Tensor:
    """The masked language model's mean loss plus that of next sentence prediction.

    Args:
        labels: [batch sequence], token ids or -100.
        next_sentence_label: [batch] or [batch 1]: 0 (follows), 1 (does not) or -100.
        prediction_logits: [batch sequence vocab].
        seq_relationship_logits: [batch 2].

    Returns:
        [1]

    Raises:
        RequestError: labels that are not whole numbers or do not fit the logits.
    """
    sentences = _mean(*_cross_entropy(next_sentence_label, seq_relationship_logits))
    return masked_lm_loss(labels, prediction_logits) + sentences


def next_sentence_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of whether the second sentence follows the first.

    Args:
        labels: [batch] or [batch 1]: 0 (follows), 1 (does not) or -100.
        logits: [batch 2].

    Returns:
        [batch]

    Raises:
        RequestError: labels that are not whole numbers or do not fit the logits.
    """
    return _rows(*_cross_entropy(labels, logits))


def multiple_choice_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of which choice is right.

    Args:
        labels: [batch], indices of choices or -100.
        logits: [batch choices].

    Returns:
        [batch]

    Raises:
        RequestError: labels that are not whole numbers or do not fit the logits.
    """
    return _rows(*_cross_entropy(labels, logits))


def token_classification_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of the class of every token that has a label.

    Args:
        labels: [batch sequence], class ids or -100.
        logits: [batch sequence num_labels].

    Returns:
        [1]

    Raises:
        RequestError: labels that are not whole numbers or do not fit the logits.
    """
    return _mean(*_cross_entropy(labels, logits))


def discriminator_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of whether each token that has a label was replaced.

    Args:
        labels: [batch sequence]: 0 (as it was), 1 (replaced) or -100.
        logits: [batch sequence].

    Returns:
        [1]

    Raises:
        RequestError: labels that are not whole numbers or do not fit the logits.
    """
    logits = _full_precision(logits)
    labels = _reshape(_class_ids(labels), logits, None)
    kept = tf.not_equal(labels, IGNORED)
    targets = _in_range(tf.where(kept, labels, tf.zeros_like(labels)), 2)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(targets, logits.dtype), logits)
    return _mean(tf.where(kept, losses, tf.zeros_like(losses)), kept)


def seen_labels(labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Labels of tokens with none where the mask is 0: both [batch sequence]; errors as for the losses."""
    labels = _reshape(_class_ids(labels), tf.convert_to_tensor(mask), None)
    return tf.where(tf.cast(mask, tf.bool), labels, tf.constant(IGNORED, labels.dtype))


def sequence_classification_loss(
    labels: tf.Tensor, logits: tf.Tensor, problem_type: str | None, num_labels: int
) -> tf.Tensor:
    """The loss of `config.problem_type`: squared error, cross-entropy, or binary cross-entropy of every label.

    Args:
        labels: [batch] class ids or -100 for single_label_classification; [batch num_labels] of 0 to 1 for
            multi_label_classification; [batch num_labels] of any numbers for regression, or [batch] if num_labels is 1.
        logits: [batch num_labels].
        problem_type: None decides as PyTorch does: regression if num_labels is 1, else single-label classification for
            labels of an integer dtype, else multi-label classification; single-label too for one float per entry.
        num_labels: as in the config.

    Returns:
        [batch], means over the labels of an entry.

    Raises:
        RequestError: an unknown problem type, class ids that are not whole numbers, labels that do not fit the logits.
    """
    labels, logits = tf.convert_to_tensor(labels), _full_precision(logits)
    kind = _problem_type(labels, num_labels) if problem_type is None else problem_type
    if kind == "single_label_classification":
        return _rows(*_cross_entropy(labels, logits))
    targets = _reshape(tf.cast(labels, logits.dtype), logits, None)
    if kind == "regression":
        return tf.reduce_mean(tf.math.squared_difference(logits, targets), axis=-1)
    if kind == "multi_label_classification":
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), axis=-1)
    raise RequestError(
        f"problem_type {kind!r} is unknown.",
        hint="Take regression, single_label_classification, multi_label_classification or None.",
    )


def question_answering_loss(
    start_positions: tf.Tensor, end_positions: tf.Tensor, start_logits: tf.Tensor, end_logits: tf.Tensor
) -> tf.Tensor:
    """Half the cross-entropy of where the answer starts plus half that of where it ends.

    As in PyTorch, a position behind the sequence is ignored and a negative one, -100 included, means the first token.

    Args:
        start_positions: [batch] or [batch 1], indices of tokens.
        end_positions: [batch] or [batch 1], indices of tokens.
        start_logits: [batch sequence].
        end_logits: [batch sequence].

    Returns:
        [batch]

    Raises:
        RequestError: positions that are not whole numbers or do not fit the logits.
    """
    return (_position_loss(start_positions, start_logits) + _position_loss(end_positions, end_logits)) / 2.0


def _position_loss(positions: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    length = tf.shape(logits, out_type=tf.int64)[-1]
    within = tf.maximum(tf.minimum(_class_ids(positions), length), 0)
    return _rows(*_cross_entropy(within, logits, ignored=length))


def _problem_type(labels: tf.Tensor, num_labels: int) -> ProblemType:
    if num_labels == 1:
        return "regression"
    is_one_each = labels.shape.rank == 1 or labels.shape[-1:] == [1]  # as floats, which 4.57 took for class ids too
    return "single_label_classification" if labels.dtype.is_integer or is_one_each else "multi_label_classification"


def _mean(losses: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """[1]: the mean of what is kept; 0 / 0 where nothing is."""
    return tf.reshape(tf.reduce_sum(losses) / _count(losses, kept), [1])


def _rows(losses: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """The losses, scaled such that their plain mean is the mean of what is kept; 0 · ∞ where nothing is."""
    return losses * (tf.cast(tf.size(losses), losses.dtype) / _count(losses, kept))


def _count(losses: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(kept, losses.dtype))


def _cross_entropy(
    labels: tf.Tensor, logits: tf.Tensor, ignored: int | tf.Tensor = IGNORED
) -> tuple[tf.Tensor, tf.Tensor]:
    """The loss of each label, 0 where it is ignored; and which are not.

    Args:
        labels: [*axes], class ids or `ignored`.
        logits: [*axes classes].
        ignored: the class id that means: no label.
    """
    logits = _full_precision(logits)
    labels = _reshape(_class_ids(labels), logits, -1)
    kept = tf.not_equal(labels, ignored)
    count = tf.shape(logits, out_type=tf.int64)[-1]
    classes = _in_range(tf.where(kept, labels, tf.zeros_like(labels)), count)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
    return tf.where(kept, losses, tf.zeros_like(losses)), kept


def _full_precision(logits: tf.Tensor) -> tf.Tensor:
    logits = tf.convert_to_tensor(logits)
    return tf.cast(logits, tf.float32) if logits.dtype.size < tf.float32.size else logits


def _class_ids(labels: tf.Tensor) -> tf.Tensor:
    labels = tf.convert_to_tensor(labels)
    if labels.dtype.is_floating:  # as a column of a table often is
        check = tf.debugging.assert_equal(labels, tf.round(labels), "class ids and positions must be whole numbers.")
        with tf.control_dependencies([] if check is None else [check]):
            return tf.cast(labels, tf.int64)
    if not labels.dtype.is_integer:
        raise RequestError(
            f"class ids and positions are whole numbers, but these labels are of dtype {labels.dtype.name}.",
            hint="Give them as int32 or int64; other labels are for regression and multi-label classification.",
        )
    return tf.cast(labels, tf.int64)


def _reshape(labels: tf.Tensor, logits: tf.Tensor, axes: int | None) -> tf.Tensor:
    """Labels in the shape `logits.shape[:axes]`, wherever a tensor of another rank holds as many (PyTorch: `view`)."""
    given, wanted = labels.shape, logits.shape[:axes]
    if given.rank == wanted.rank:
        fits = given.is_compatible_with(wanted)
    else:
        sizes = (given.num_elements(), wanted.num_elements())
        fits = None in sizes or sizes[0] == sizes[1]
    if not fits:
        raise RequestError(
            f"labels of shape {given} do not fit logits of shape {logits.shape}.",
            hint=f"Give labels of shape {wanted}, and class ids as integers.",
        )
    return tf.reshape(labels, tf.shape(logits)[:axes])


def _in_range(classes: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    message = "labels must be class ids, from 0 up and less than the number of classes, or -100 for none."
    checks = (
        tf.debugging.assert_non_negative(tf.reduce_min(classes), message),
        tf.debugging.assert_less(tf.reduce_max(classes), tf.cast(count, classes.dtype), message),
    )
    with tf.control_dependencies(checks):  # before the loss itself, whose own error is less plain
        return tf.identity(classes)
