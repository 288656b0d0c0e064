"""Another number of words: embeddings, output bias, an untied decoder and the config change together."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bertconv.errors import RequestError
from bertconv.models.keras_internals import every_layer, exchanged
from bertconv.models.strategies import scope_of, strategy_of


def resize_token_embeddings(
    model: Any, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None
) -> Any:
    """Give the model another number of words; old rows stay, new ones are drawn as at the start, new biases are zero.

    Args:
        model: the model itself.
        new_num_tokens: words afterwards; None leaves them as they are.
        pad_to_multiple_of: round the number up to a multiple of this.

    Returns:
        The layer of embeddings. Compile the model again before training it.

    Raises:
        RequestError: not a positive number.
    """
    embeddings = model.get_input_embeddings()
    count = embeddings.vocab_size if new_num_tokens is None else new_num_tokens
    if pad_to_multiple_of:
        count = -(-count // pad_to_multiple_of) * pad_to_multiple_of
    if count < 1:
        raise RequestError(f"{count} words are asked for.", hint="Give a positive number.")
    if count == embeddings.vocab_size:
        return embeddings
    words = embeddings.word_embeddings
    words.table = _resized(words, words.table, count, 0)
    words.rows = count
    head = model.get_lm_head()
    for layer in () if head is None else filter(None, (head, head.decoder)):
        if getattr(layer, "kernel", None) is not None:  # before the bias: Keras's files go by the order
            layer.kernel = _resized(layer, layer.kernel, count, 1)
        layer.bias = _resized(layer, layer.bias, count, 0)
        layer.units = count
    _set_config(model, model.config.replace(vocab_size=count))
    # Graphs that were traced before hold the old variables.
    model.train_function = model.test_function = model.predict_function = model._decode_in_graph = None  # noqa: SLF001
    return embeddings


def _set_config(model: Any, config: Any) -> None:
    """Give a model and its layers a config of their own: other models may have been made from the old one."""
    old = model.config
    for layer in every_layer(model):
        if getattr(layer, "config", None) is old:
            layer.config = config


def _resized(layer: Any, old: Any, count: int, axis: int) -> Any:
    """A variable in place of `old`, with another size along one axis."""
    shape = tuple(count if number == axis else size for number, size in enumerate(old.shape))
    kept = min(count, old.shape[axis])
    values = tf.gather(old.value, tf.range(kept), axis=axis)
    autocast = getattr(old, "autocast", True)
    with scope_of(strategy_of([old])):
        new = exchanged(layer, old, lambda: layer.new_weight(old.name, shape, old.role, autocast=autocast))
    new.neutral_id = old.neutral_id
    new.assign(tf.concat([values, tf.gather(new.value, tf.range(kept, count), axis=axis)], axis))
    return new
