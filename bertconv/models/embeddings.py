"""Another number of words: embeddings, output bias, an untied decoder and the config change together."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from bertconv.config import BertConfig
from bertconv.errors import RequestError
from bertconv.models.loading import fresh_values


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
    words.table = _resized(words, words.table, count, 0, model.config)
    words.rows = count
    head = model.get_lm_head()
    if head is not None:
        head.bias = _resized(head, head.bias, count, 0, model.config)
        if head.decoder is not None:
            head.decoder.kernel = _resized(head.decoder, head.decoder.kernel, count, 1, model.config)
            head.decoder.bias = _resized(head.decoder, head.decoder.bias, count, 0, model.config)
            head.decoder.units = count
    _set_config(model, model.config.replace(vocab_size=count))
    # Graphs that were traced before hold the old variables.
    model.train_function = model.test_function = model.predict_function = model._decode_in_graph = None  # noqa: SLF001
    return embeddings


def _set_config(model: Any, config: BertConfig) -> None:
    """Give a model and its layers a config of their own: other models may have been made from the old one."""
    old = model.config
    for layer in model._flatten_layers():  # noqa: SLF001  (Layer has no public list of its layers)
        if getattr(layer, "config", None) is old:
            layer.config = config


def _resized(layer: Any, old: keras.Variable, count: int, axis: int, config: Any) -> keras.Variable:
    """A variable in place of `old`, with another size along one axis."""
    shape = [count if number == axis else size for number, size in enumerate(old.shape)]
    kept = min(count, old.shape[axis])
    values = tf.gather(old.value, tf.range(kept), axis=axis)
    layer._tracker.unlock()  # noqa: SLF001  (a built layer's variables are fixed, and Keras has no public way to exchange one)
    try:
        layer._untrack_variable(old)  # noqa: SLF001
        with layer._open_name_scope():  # noqa: SLF001
            new = layer.new_weight(old.name, tuple(shape), "zeros", autocast=getattr(old, "autocast", True))
    finally:
        layer._tracker.lock()  # noqa: SLF001
    fresh = tf.gather(tf.convert_to_tensor(fresh_values(new, config)), tf.range(kept, count), axis=axis)
    new.assign(tf.concat([values, tf.cast(fresh, values.dtype)], axis))
    return new
