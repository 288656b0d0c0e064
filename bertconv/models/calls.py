"""`call`: of a family's classes, made once from what they take; and what any class's `call` is handed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Self

import keras

from bertconv.models.inputs import (
    FEATURES,
    FLAGS,
    as_tensors,
    is_label,
    is_mapping,
    items,
    named_inputs,
    no_argument,
    whole_batch,
)
from bertconv.records import dataclass

CACHED = ("encoder_hidden_states", "encoder_attention_mask", "past_key_values", "use_cache")
"""What a decoder takes beside what every model takes."""

WHOLE = "_inputs"
"""The name of a whole batch on its way through Keras, where labels or `training` go with it by name."""

_IDS = frozenset(("inputs", "input_ids"))
"""Keywords for the first argument, whatever a user's `call` calls it."""


def argument_names(inputs: Sequence[str], *, is_cached: bool, labels: Sequence[str] = ()) -> tuple[str, ...]:
    """The arguments of `call` in order.

    Args:
        inputs: of the family, beyond input_ids and attention_mask.
        is_cached: whether there are those of a decoder.
        labels: arguments that are labels.
    """
    return (
        "input_ids", "attention_mask", *inputs, "head_mask", "inputs_embeds", *(CACHED if is_cached else ()),
        "output_attentions", "output_hidden_states", "return_dict", *labels, "training",
    )  # fmt: skip


def made_call(names: Sequence[str], doc: str, owner: type) -> Callable[..., Any]:
    """A method `call` with these arguments, None by default and `training` False, which hands them to `forward`.

    Args:
        names: of the arguments.
        doc: what it does.
        owner: the class that it becomes a method of.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    defaults = {name: False if name == "training" else None for name in names}
    given = [inspect.Parameter(name, kind, default=default) for name, default in defaults.items()]
    signature = inspect.Signature([inspect.Parameter("self", kind), *given])

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if unknown := kwargs.keys() - defaults.keys():  # from `**kwargs` of somebody's class, which has more names
            raise no_argument(min(unknown), self.input_names, model=type(self).__name__)
        if args:  # by position: as Python itself binds and complains
            kwargs = dict(list(signature.bind(self, *args, **kwargs).arguments.items())[1:])
        first = kwargs.get(names[0])
        if isinstance(first, list | tuple) or is_mapping(first):  # of `super().call(inputs)` in somebody's class
            kwargs = as_tensors(self, named_inputs(tuple(names), (), kwargs, model=type(self).__name__))
        return self.forward(**{**defaults, **kwargs})

    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__doc__, call.__module__, call.__qualname__ = doc, owner.__module__, f"{owner.__qualname__}.call"
    return call


SETTINGS = ("output_attentions", "output_hidden_states", "return_dict", "use_cache")
"""Arguments of a call that the config has, too."""


def unpack_inputs(call: Callable[..., Any]) -> Callable[..., Any]:
    """A method that gets by name what its first argument holds: a dict or a list, packed as for our own heads.

    As in transformers 4, what it takes of `output_attentions`, `output_hidden_states`, `return_dict` and `use_cache` is
    the config's where it is not given.

    Args:
        call: the method, of a model or of any object with a `config`; its signature says which arguments there are.
    """
    parameters = list(inspect.signature(call).parameters.values())[1:]
    names = tuple(each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY))

    @wraps(call)
    def unpacked(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = named_inputs(names, args, kwargs, model=type(self).__name__)
        found = as_tensors(self, found) if isinstance(self, keras.layers.Layer) else dict(found)
        for name in SETTINGS:
            if name in names and found.get(name) is None:
                found[name] = getattr(self.config, name, None)
        return call(self, **found)

    return unpacked


def without_empty_mask(call: Callable[..., Any]) -> Callable[..., Any]:
    """A method `call` that gets None for a `mask` in which nothing is: Keras 3 makes one like the batch's structure.

    Args:
        call: the method.
    """

    @wraps(call)
    def masked(self: Any, *args: Any, **kwargs: Any) -> Any:
        if all(each is None for each in keras.tree.flatten(kwargs.get("mask"))):
            kwargs.pop("mask", None)
        return call(self, *args, **kwargs)

    return masked


def with_flags(call: Callable[..., Any]) -> Callable[..., Any]:
    """A method `call` with `*args` or `**kwargs`; beside these its signature names `training` and the other flags.

    Keras 3 hands `training` only to who names it, takes no flag beside tensors in `**kwargs`, and when it traces a call
    to build a model it passes what is in `*args` and `**kwargs` under these very names.

    Args:
        call: the method.
    """
    signature = inspect.signature(call)
    parameters = list(signature.parameters.values())
    rest = next((each.name for each in parameters if each.kind == each.VAR_KEYWORD), "")
    spread = next((each.name for each in parameters if each.kind == each.VAR_POSITIONAL), "")
    added = sorted(FLAGS - set(signature.parameters)) if rest else []
    if rest:
        parameters[-1:-1] = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in added]

    @wraps(call)
    def flagged(self: Any, *args: Any, **kwargs: Any) -> Any:
        args = (*args, *kwargs.pop(spread, ()))
        for name in added:  # None where nobody gave it: what it is passed on to may not have it
            if kwargs.get(name, name) is None:
                del kwargs[name]
        return call(self, *args, **{**kwargs.pop(rest, {}), **kwargs})

    flagged.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    flagged.of_user = call  # type: ignore[attr-defined]
    return flagged


@dataclass(frozen=True)
class CallInputs:
    """What a class's `call` takes, and how that which a user passes to the model gets there.

    One of our own takes every argument by name. One of a user's own gets what transformers 4 handed to it: its first
    argument as it was given (a dict stays a dict, a list a list), the others by name. Only where a dict or list holds
    nothing but features that such a `call` has by name does each of them go to its own argument.

    Attributes:
        parameters: those with a name, in order.
        names: the same, and what the family has where `call` takes a whole batch or passes others on.
        first: the parameter that a batch goes to; None for `*args` and where there are only keywords.
        is_ours: whether it was made by `made_call`.
        spreads: whether it has `*args`.
        passes_on: whether it has `**kwargs`.
    """

    parameters: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    first: str | None = None
    is_ours: bool = True
    spreads: bool = False
    passes_on: bool = False

    @classmethod
    def of(cls, call: Callable[..., Any], passed_on: Sequence[str], features: Sequence[str]) -> Self:
        """What a class's `call` takes.

        Args:
            call: the function.
            passed_on: what the class that it derives from takes.
            features: arrays that the family takes.
        """
        call = getattr(call, "of_user", call)
        each = [one for one in inspect.signature(call).parameters.values() if one.name != "self"]
        by_place = [one.name for one in each if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        own = (*by_place, *(one.name for one in each if one.kind == one.KEYWORD_ONLY))
        is_ours = str(getattr(call, "__module__", "")).startswith("bertconv.")
        spreads = any(one.kind == one.VAR_POSITIONAL for one in each)
        passes_on = any(one.kind == one.VAR_KEYWORD for one in each)
        found = cls(own, own, by_place[0] if by_place else None, is_ours, spreads, passes_on)
        if passes_on:
            more: Sequence[str] = passed_on or features
        else:
            more = features if found.takes_whole else ()
        names = (*own, *(name for name in more if name not in own))
        return cls(own, names, found.first, is_ours, spreads, passes_on)

    @property
    def takes_whole(self) -> bool:
        """Whether the first argument is no array in particular: `inputs`, `x`, `*args`."""
        return not self.is_ours and (self.spreads if self.first is None else self.first not in FEATURES)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Its parameters that are labels."""
        return tuple(filter(is_label, self.parameters))

    def is_whole(self, value: Any) -> bool:
        """Whether this first argument is handed on as it is."""
        if self.is_ours or (self.first is None and not self.spreads):
            return False
        if is_mapping(value):
            return self.takes_whole or not all(key in (*self.parameters, "training") for key, _ in items(value))
        return self.takes_whole or (isinstance(value, list | tuple) and len(value) > len(self.parameters))

    def arranged(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, model: str
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments by position (of `*args` alone) and by name for `call` of what was passed to `__call__`.

        Args:
            args: the positional arguments.
            kwargs: the keyword arguments.
            model: the name of the model's class, for messages.

        Raises:
            RequestError: see `named_inputs`.
        """
        if self.is_ours:
            return (), named_inputs(self.names, args, kwargs, model=model)
        packed = dict(items(args[0])) if args and is_mapping(args[0]) else {}
        if WHOLE in packed:
            args, kwargs = (packed.pop(WHOLE), *args[1:]), {**packed, **kwargs}
        if self.first is not None and self.first in kwargs and not args:
            args, kwargs = (kwargs[self.first],), {key: kwargs[key] for key in kwargs if key != self.first}
        if not args:
            args, kwargs = self._gathered(kwargs)
        if args and self.is_whole(args[0]):
            return self._as_given(args, kwargs, model)
        own = self.parameters if self.first else self.names
        names = tuple(dict.fromkeys((*own, *(kwargs if self.passes_on else ()), "training")))
        return (), named_inputs(names, args, kwargs, model=model)

    def _gathered(self, kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Features by keyword as the first argument, where `call` has no such parameters: the ids, or a dict."""
        if not self.takes_whole or self.first is None:
            return (), kwargs
        taken = self.names if self.passes_on else self.parameters
        loose = [name for name in kwargs if name in _IDS or (name in FEATURES and name not in taken)]
        if not loose:
            return (), kwargs
        value = kwargs[loose[0]] if len(loose) == 1 and loose[0] in _IDS else None
        first = {name: kwargs[name] for name in loose} if value is None else value
        return (first,), {name: kwargs[name] for name in kwargs if name not in loose}

    def _as_given(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], model: str
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """As `arranged`, with the first argument as it is."""
        first, *rest = args
        if self.first is None:
            return (whole_batch(first), *rest), dict(kwargs)
        names = tuple(dict.fromkeys((*self.parameters, *(kwargs if self.passes_on else ()), "training")))
        named = named_inputs(names, (None, *rest), kwargs, model=model)
        return (), {self.first: whole_batch(first), **named}

    def separated(self, x: Any, labels: Sequence[str], *, model: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arguments of `call` by name, a whole batch as WHOLE, without the labels among them; and these.

        Args:
            x: inputs of a batch.
            labels: names of labels.
            model: the name of the model's class, for messages.
        """
        inside: dict[str, Any] = {}
        if not self.is_ours and is_mapping(x):
            x = dict(items(x))
            inside = {name: x.pop(name) for name in labels if name in x}
        if self.is_whole(x):
            return {WHOLE: x}, inside
        inputs = named_inputs(self.names, (x,), {}, model=model)
        return inputs, inside | {name: inputs.pop(name) for name in labels if name in inputs}

    def joined(self, inputs: dict[str, Any], labels: Mapping[str, Any], *, were_inside: bool) -> dict[str, Any]:
        """The arguments of `call` with labels among them.

        Args:
            inputs: of `separated`.
            labels: by name.
            were_inside: whether they came among the inputs, where a whole batch has them still.
        """
        if WHOLE not in inputs:
            return {**inputs, **labels}
        taken = () if were_inside else labels if self.passes_on else self.parameters
        by_name = {name: labels[name] for name in labels if name in taken}
        inner = {name: labels[name] for name in labels if name not in by_name}
        x = inputs[WHOLE]
        if inner:
            x = {**(x if is_mapping(x) else {"input_ids": x}), **inner}
        return {WHOLE: x, **by_name}
