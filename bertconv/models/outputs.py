"""What a model's call returns: dictionaries that are dataclasses, tuples and Keras trees at the same time."""

from __future__ import annotations

import copy
from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn, Self, TypeAlias

import optree

from bertconv.likeness import Alike

Tensor: TypeAlias = Any
"""A tf.Tensor; a KerasTensor in a functional model, a numpy array after `predict`, a PerReplica of tf.distribute."""

Tensors: TypeAlias = tuple[Tensor, ...]


@dataclass(eq=False)
class ModelOutput(Alike, dict[str, Any]):
    """The base of all outputs; a subclass is a dataclass whose fields default to None.

    A field is read as `out.logits`, `out["logits"]`, or by its place among the fields that are not None: `out[0]`,
    `out[:2]`. A field that is None is no key and has no place. Keys keep the order of the fields, whatever order they
    were set in. The only argument may also be a mapping or (name, value) pairs, as for a dict. One exception: an output
    made empty and filled by key, which is how tf.nest rebuilds one, keeps keys that are set to None.

    Raises:
        TypeError: an unknown field as a keyword, or a field is to be deleted.
        KeyError: an unknown or empty field as a key.
        AttributeError: an unknown field as an attribute.
    """

    _alike = ("transformers.modeling_tf_outputs:{name}", "transformers.utils.generic:ModelOutput")

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Register the subclass in Keras's own namespace: `predict` and functional models see its tensors."""
        super().__init_subclass__(**arguments)

        def unflatten(names: tuple[str, ...], values: Iterable[Any]) -> ModelOutput:
            return _restored(cls, dict(zip(names, values, strict=True)))

        optree.register_pytree_node(cls, _flatten, unflatten, namespace="keras")

    def __post_init__(self) -> None:
        if not self:
            vars(self).clear()  # fields that were never set: see __setitem__
            return
        names = field_names(self)
        pairs = _pairs(self[names[0]]) if list(self) == names[:1] else None
        if pairs is not None:
            self[names[0]] = None
            self.update(pairs)

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __missing__(self, key: str) -> NoReturn:
        problem = f"{type(self).__name__}.{key} is None, so it is no key" if key in field_names(self) else self._no(key)
        raise KeyError(problem)

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in field_names(self):
            raise KeyError(self._no(name))
        # A tree whose leaves become None keeps its shape: tf.nest makes an empty output and sets key after key.
        self._set(name, value, is_key=value is not None or name not in vars(self))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in field_names(self):
            raise AttributeError(self._no(name))
        self._set(name, value, is_key=value is not None)

    def _set(self, name: str, value: Any, *, is_key: bool) -> None:
        object.__setattr__(self, name, value)
        if is_key and name in self:
            super().__setitem__(name, value)
        elif is_key or name in self:
            keys = {*self, name} if is_key else {*self} - {name}
            super().clear()
            super().update((key, getattr(self, key)) for key in field_names(self) if key in keys)

    # tf.nest and tf.distribute rebuild dictionaries through the methods of MutableMapping; dict's own would go past
    # __setitem__.
    update = MutableMapping.update
    setdefault = MutableMapping.setdefault

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc, override]
        self.update(other)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), dict(self))

    def copy(self) -> Self:
        """A shallow copy of the same class."""
        return copy.copy(self)

    def _refuse(self, *_: Any) -> NoReturn:
        raise TypeError(f"a field of {type(self).__name__} cannot be deleted; set it to None")

    __delitem__ = __delattr__ = pop = popitem = clear = _refuse

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are not None, in order."""
        return tuple(value for value in self.values() if value is not None)

    def _no(self, name: object) -> str:
        return f"{type(self).__name__} has no field {name!r}, only {', '.join(field_names(self))}"


def field_names(out: ModelOutput | type[ModelOutput]) -> list[str]:
    """Names of all fields of an output or of a class of them, in order."""
    return [field.name for field in fields(out)]


def _restored(cls: type[ModelOutput], items: dict[str, Any]) -> ModelOutput:
    """An output with exactly these keys, None or not."""
    out = cls.__new__(cls)
    vars(out).update(dict.fromkeys(field_names(cls)) | items)
    dict.update(out, items)
    return out


def _flatten(out: ModelOutput) -> tuple[tuple[Any, ...], tuple[str, ...], tuple[str, ...]]:
    return tuple(out.values()), tuple(out), tuple(out)


def _pairs(value: Any) -> list[tuple[str, Any]] | None:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple | ItemsView | Iterator):
        items = list(value)
        if all(isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str) for item in items):
            return items
    return None


class WithCache(ModelOutput):
    """An output with the cache of a decoder, which transformers 5.24 calls `cache`."""

    past_key_values: tuple[Tensors, ...] | None

    @property
    def cache(self) -> tuple[Tensors, ...] | None:
        """The same as `past_key_values`."""
        return self.past_key_values


@dataclass(eq=False)
class TFBaseModelOutputWithPoolingAndCrossAttentions(WithCache):
    """What a model without a head gives.

    Attributes:
        last_hidden_state: [batch sequence hidden].
        pooler_output: [batch hidden], of the first token; None without a pooler.
        past_key_values: per layer (key, value), or (key, value, cross key, cross value), each
            [batch head sequence head_size]; only of a decoder that caches.
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence key].
        cross_attentions: per layer, [batch head sequence encoder_sequence].
    """

    last_hidden_state: Tensor = None
    pooler_output: Tensor = None
    past_key_values: tuple[Tensors, ...] | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None
    cross_attentions: Tensors | None = None


@dataclass(eq=False)
class TFBertForPreTrainingOutput(ModelOutput):
    """What TFBertForPreTraining gives.

    Attributes:
        loss: [1], only with both labels.
        prediction_logits: [batch sequence vocab].
        seq_relationship_logits: [batch 2].
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence sequence].
    """

    loss: Tensor = None
    prediction_logits: Tensor = None
    seq_relationship_logits: Tensor = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass(eq=False)
class TFAlbertForPreTrainingOutput(ModelOutput):
    """What TFAlbertForPreTraining gives.

    Attributes:
        loss: [1], only with both labels.
        prediction_logits: [batch sequence vocab].
        sop_logits: [batch label]; the first says that the sentences stand in their order.
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer that is run, [batch head sequence sequence].
    """

    loss: Tensor = None
    prediction_logits: Tensor = None
    sop_logits: Tensor = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass(eq=False)
class TFElectraForPreTrainingOutput(ModelOutput):
    """What a discriminator such as TFElectraForPreTraining gives.

    Attributes:
        loss: [1], only with labels.
        logits: [batch sequence], above 0 where a token was probably replaced.
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence sequence].
    """

    loss: Tensor = None
    logits: Tensor = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass(eq=False)
class TFMaskedLMOutput(ModelOutput):
    """What a model that predicts masked words gives.

    Attributes:
        loss: [1], only with labels.
        logits: [batch sequence vocab].
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence sequence].
    """

    loss: Tensor = None
    logits: Tensor = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass(eq=False)
class TFCausalLMOutputWithCrossAttentions(WithCache):
    """What a model that predicts the next word gives.

    Attributes:
        loss: [1], only with labels.
        logits: [batch sequence vocab].
        past_key_values: per layer (key, value), or (key, value, cross key, cross value), each
            [batch head sequence head_size]; only of a decoder that caches.
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence key].
        cross_attentions: per layer, [batch head sequence encoder_sequence].
    """

    loss: Tensor = None
    logits: Tensor = None
    past_key_values: tuple[Tensors, ...] | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None
    cross_attentions: Tensors | None = None


@dataclass(eq=False)
class TFNextSentencePredictorOutput(ModelOutput):
    """What a model that tells whether a sentence follows another one gives.

    Attributes:
        loss: [batch], only with labels.
        logits: [batch 2]; the first says that the second sentence follows.
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence sequence].
    """

    loss: Tensor = None
    logits: Tensor = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass(eq=False)
class TFSequenceClassifierOutput(ModelOutput):
    """What a model that classifies sequences gives.

    Attributes:
        loss: [batch], only with labels.
        logits: [batch label].
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence sequence].
    """

    loss: Tensor = None
    logits: Tensor = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass(eq=False)
class TFMultipleChoiceModelOutput(ModelOutput):
    """What a model that chooses one of several continuations gives.

    Attributes:
        loss: [batch], only with labels.
        logits: [batch choice].
        hidden_states: of the embeddings and after each layer, [batch*choice sequence hidden].
        attentions: per layer, [batch*choice head sequence sequence].
    """

    loss: Tensor = None
    logits: Tensor = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass(eq=False)
class TFTokenClassifierOutput(ModelOutput):
    """What a model that classifies tokens gives.

    Attributes:
        loss: [1], only with labels.
        logits: [batch sequence label].
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence sequence].
    """

    loss: Tensor = None
    logits: Tensor = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass(eq=False)
class TFQuestionAnsweringModelOutput(ModelOutput):
    """What a model that finds answers gives.

    Attributes:
        loss: [batch], only with both positions.
        start_logits: [batch sequence].
        end_logits: [batch sequence].
        hidden_states: of the embeddings and after each layer, [batch sequence hidden].
        attentions: per layer, [batch head sequence sequence].
    """

    loss: Tensor = None
    start_logits: Tensor = None
    end_logits: Tensor = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None
