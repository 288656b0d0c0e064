"""What a user passes to a model, as keyword arguments of its `call`: tensors, arrays, lists, dicts, BatchEncoding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeGuard

import keras
import numpy as np
import tensorflow as tf

from bertconv.errors import RequestError
from bertconv.text import closest

FLAGS = frozenset(("output_attentions", "output_hidden_states", "return_dict", "use_cache", "training"))
"""Arguments of `call` that are True or False and no arrays."""

FEATURES = frozenset(
    ("input_ids", "attention_mask", "token_type_ids", "position_ids", "head_mask", "inputs_embeds",
     "encoder_hidden_states", "encoder_attention_mask")
)  # fmt: skip
"""Arguments that are arrays and no labels."""

ARRAYS = FEATURES | {"labels", "next_sentence_label", "sentence_order_label", "start_positions", "end_positions"}
"""Arguments that are arrays; what a user's own class has beside them may be anything."""

CACHE = "past_key_values"
"""The argument, and the output, that holds a decoder's cache."""

OTHER_NAMES = {"cache": CACHE}
"""Names that transformers 5.24 gave to arguments: taken by every class that has the old one and none of the new."""


def named_inputs(
    names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, model: str
) -> dict[str, Any]:
    """The keyword arguments for `call` of what was passed to `__call__`.

    The first argument, which may also be given as `input_ids` or by its old name `inputs`, is the ids themselves
    (tensor, array or nested list of numbers: [batch sequence]) or several arguments in one: a list or tuple of
    tensors in the order of `names`, a list of KerasTensors that are called like arguments, a mapping, or a batch of a
    data set, of which only the features are taken (see `is_batch`).

    Args:
        names: the parameters of `call` in order, the ids first.
        args: the positional arguments.
        kwargs: the keyword arguments.
        model: the name of the model's class, for messages.

    Returns:
        The arguments that are not None: lists of numbers as numpy arrays, tensors and arrays as they were, and those
        that no class of ours has as they were.

    Raises:
        RequestError: an argument that is unknown, given twice, or neither an array nor a list of numbers: text,
            lists of different lengths, PyTorch tensors; a flag that is not True or False; several encodings.
    """
    if len(args) > len(names):
        raise _too_many(names, len(args), model)
    found: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for given, value in _given(names, args, kwargs, model):
        name = given if given in names else OTHER_NAMES.get(given, given)
        if name not in names:
            raise no_argument(given, names, model=model)
        if value is None:
            continue
        if name in found:
            also = "" if spelled[name] == given else f", as {spelled[name]} and as {given}"
            raise RequestError(f"{model} got {name} twice{also}.", hint="Pass every argument once.")
        found[name], spelled[name] = _value(name, value), given
    return found


def as_tensors(layer: keras.layers.Layer, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as tensors, with floats in the type that the layer computes in, as Keras would do it by itself.

    Variables are read: what follows may add to a tensor in place, and a custom gradient allows no variable in it.

    Masks and labels keep their type, since numbers that half precision lacks occur in them: the most negative float32
    in a mask that is added, a large target of a regression.

    Args:
        layer: whose arguments they are; its `label_names`, where it has them, are labels.
        given: what `named_inputs` returned.

    Raises:
        RequestError: a `keras.Input` for ids has no integers, which Keras would make of every batch.
    """
    labels = getattr(layer, "label_names", ())

    def converted(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):  # a whole batch
            return {key: converted(str(key), each) for key, each in value.items()}
        if isinstance(value, keras.KerasTensor) and name.endswith("_ids") and "float" in value.dtype:
            raise RequestError(f"{name} is {value.dtype}, not integers.", hint='Give `keras.Input` dtype="int32".')
        casts = name not in labels and not name.endswith("_mask") and not is_label(name)
        return keras.tree.map_structure(
            lambda each: layer.dtype_policy.convert_input(_read(each), casts and layer.autocast, layer.input_dtype),
            value,
        )

    return {name: value if name in FLAGS else converted(name, value) for name, value in given.items()}


def plain_batch(x: Any) -> Any:
    """What `fit`, `evaluate` or `predict` gets, every mapping as a plain dict and the lists in it as numpy arrays.

    Args:
        x: a mapping, such as transformers' BatchEncoding, or a tuple with mappings in it; anything else is returned
            as it is. Nothing that the user passed is changed.

    Raises:
        RequestError: a list in a mapping is empty, holds text, or lists of different lengths.
    """
    if type(x) is tuple:
        return tuple(map(plain_batch, x))
    if not is_mapping(x):
        return x
    return {key: _array(str(key), value) if _is_list(value) else value for key, value in items(x)}


def whole_batch(value: Any) -> Any:
    """A batch as a user's own `call` gets it: every mapping as a plain dict, lists of numbers as numpy arrays."""
    if is_mapping(value):
        return {key: whole_batch(each) for key, each in items(value)}
    if not _is_list(value) or not len(value):
        return value
    parts = [whole_batch(each) for each in value]
    if not any(_is_tensor(each) or isinstance(each, dict | list | tuple) for each in value) or _is_rows(value, parts):
        return _array("inputs", value)
    return tuple(parts) if isinstance(value, tuple) else parts


def is_label(name: str) -> bool:
    """Whether an argument of a user's own `call` is called as labels are."""
    return "label" in name or name in {"start_positions", "end_positions"}


def is_batch(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether this is a batch as data sets have it: features by name, and after them labels and sample weights."""
    return isinstance(value, list | tuple) and 1 <= len(value) <= 3 and is_mapping(value[0])


def unpacked_batch(x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
    """Features, labels and sample weights, where the first argument may be a batch that holds all of them.

    Raises:
        RequestError: labels or sample weights are in the batch and beside it; several encodings.
    """
    check_one_encoding(x)
    if not is_batch(x):
        return x, y, sample_weight
    inside = (*x[1:], None, None)[:2]
    for name, one, other in (("labels", inside[0], y), ("sample weights", inside[1], sample_weight)):
        if one is not None and other is not None:
            raise RequestError(f"{name} are in the batch and beside it.", hint="Give them once.")
    return x[0], y if inside[0] is None else inside[0], sample_weight if inside[1] is None else inside[1]


def check_one_encoding(batch: Any) -> None:
    """Refuse several encodings in a list or tuple, of which all but the first would be taken for labels and weights.

    Labels and sample weights may be mappings, too: by the names of labels or outputs.

    Raises:
        RequestError: a mapping after the first one has features, or the very names that the first has.
    """
    if not isinstance(batch, list | tuple) or not batch or not is_mapping(batch[0]):
        return
    first = set(batch[0].keys())
    others = [set(each.keys()) for each in batch[1:] if is_mapping(each)]
    if any(names & FEATURES or (names and names == first) for names in others):
        raise RequestError(
            f"a {type(batch).__name__} of {len(batch)} encodings is no batch.",
            hint='Pad them together, `tokenizer(texts, padding=True, return_tensors="np")`, or join their arrays.',
        )


def _given(
    names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any], model: str
) -> Iterable[tuple[str, Any]]:
    """Every name and value as passed; what the first argument holds in its place."""
    aliases = {"inputs": names[0]}
    passed = [*zip(names, args, strict=False), *((aliases.get(name, name), kwargs[name]) for name in kwargs)]
    return chain.from_iterable(
        _unpacked(names, value, model) if name == names[0] else [(name, value)] for name, value in passed
    )


def _unpacked(names: tuple[str, ...], value: Any, model: str) -> Iterable[tuple[str, Any]]:
    if is_mapping(value):
        return items(value)
    check_one_encoding(value)
    if is_batch(value):
        return items(value[0])
    if not isinstance(value, list | tuple) or not any(map(_is_tensor, value)):
        return [(names[0], value)]
    if len(value) > len(names):
        raise _too_many(names, len(value), model)
    tensors = [element for element in value if element is not None]
    if all(isinstance(tensor, keras.KerasTensor) and tensor.name in names for tensor in tensors):
        return [(tensor.name, tensor) for tensor in tensors]
    if getattr(value[0], "ndim", None) in (0, 1):
        raise RequestError(
            f"{names[0]} is a list of rows, but arrays in a list stand for one argument each.",
            hint="Make one array of the rows, [batch sequence]: `np.stack(rows)`.",
        )
    return zip(names, value, strict=False)


def _read(value: Any) -> Any:
    """The value of a variable; anything else as it is."""
    return tf.convert_to_tensor(value) if isinstance(value, tf.Variable | keras.Variable) else value


def _value(name: str, value: Any) -> Any:
    if name in FLAGS:
        return _flag(name, value)
    if name == CACHE:
        return _nested(name, value)
    if name not in ARRAYS:
        return value
    return _array(name, value) if _is_list(value) else _numbers(name, value)


def _flag(name: str, value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if name == "training" and _is_tensor(value):
        return value
    raise RequestError(f"{name} is {value!r:.80}, not True or False.", hint=f"Pass {name}=True or {name}=False.")


def _nested(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_nested(name, element) for element in value)
    return None if value is None else _numbers(name, value)


def _array(name: str, value: Sequence[Any]) -> np.ndarray[Any, Any]:
    """An array of a nested list; only its first element is looked at in Python, since a data set is a long list."""
    first: Any = value
    while _is_list(first) and len(first):
        first = first[0]
    if isinstance(first, str | bytes) or _is_tensor(first):
        _numbers(name, first)
    if _is_tensor(first) and not isinstance(first, np.ndarray):
        raise RequestError(f"{name} is a list of tensors.", hint="Make one tensor of them with tf.stack.")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise RequestError(
            f"{name} holds lists of different lengths.",
            hint="Pad them to one length, `tokenizer(..., padding=True)`, and pass the attention_mask.",
        ) from error
    if not array.size:
        raise RequestError(f"{name} is an empty list.", hint="Pass one number or more.")
    _numbers(name, array)
    return array


def _numbers(name: str, value: Any) -> Any:
    """The tensor or array itself, if numbers are in it."""
    if _is_torch(value):
        raise RequestError(
            f"{name} is a PyTorch tensor.", hint='Pass its `.numpy()`, or tokenise with `return_tensors="np"`.'
        )
    if _is_text(value):
        raise RequestError(
            f"{name} is text, not numbers.",
            hint='Tokenise first: `tokenizer(text, padding=True, return_tensors="np")`.',
        )
    if getattr(value, "ragged_rank", None) is not None:
        raise RequestError(f"{name} has rows of different lengths.", hint="Pad them: pass its `.to_tensor()`.")
    if isinstance(value, np.ndarray) and value.dtype == object:
        raise RequestError(f"{name} holds objects, not numbers.", hint="Pad lists to one length, and leave None out.")
    if not _is_tensor(value):
        raise RequestError(
            f"{name} is of type {type(value).__name__}.", hint="Pass a tensor, an array or a list of numbers."
        )
    return value


def _is_text(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "SUT" or (value.dtype == object and any(map(_is_text, value.flat)))
    dtype = getattr(value, "dtype", None)
    return bool(getattr(dtype, "name", dtype) == "string")


def _is_torch(value: Any) -> bool:
    return any(kind.__module__.partition(".")[0] == "torch" for kind in type(value).__mro__)


def _is_rows(value: Sequence[Any], parts: Sequence[Any]) -> bool:
    """Whether a nested list holds rows of numbers and no tensors."""
    is_bare = all(_is_list(each) for each in value)
    return is_bare and all(isinstance(each, np.ndarray) for each in parts)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, np.generic)


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether this has values by name: a dict, or what looks like one."""
    return hasattr(value, "keys") and hasattr(value, "__getitem__")


def items(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Every name and value of what `is_mapping` takes for one."""
    keys = mapping.keys()  # not every mapping iterates over its keys
    return [(key, mapping[key]) for key in keys]


def _too_many(names: tuple[str, ...], count: int, model: str) -> RequestError:
    return RequestError(f"{model} takes at most {len(names)} arguments, not {count}.", hint=_known(names))


def _known(names: tuple[str, ...]) -> str:
    return f"Its arguments are {', '.join(names)}."


def no_argument(name: object, names: tuple[str, ...], *, model: str) -> RequestError:
    """The error for an argument that `call` does not take, with the one that was meant."""
    meant = closest(str(name), names)
    hint = f"Did you mean {meant!r}?" if meant is not None else _known(names)
    return RequestError(f"{model} has no argument {name!r}.", hint=hint)
