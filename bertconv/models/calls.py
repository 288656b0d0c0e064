"""`call` of a family's classes, made once from what they take; `inspect.signature` and positions are as users know."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

CACHED = ("encoder_hidden_states", "encoder_attention_mask", "past_key_values", "use_cache")
"""What a decoder takes beside what every model takes."""


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
        if args or kwargs.keys() - defaults.keys():  # by position, or wrong: as Python itself binds and complains
            kwargs = dict(list(signature.bind(self, *args, **kwargs).arguments.items())[1:])
        return self.forward(**{**defaults, **kwargs})

    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__doc__, call.__module__, call.__qualname__ = doc, owner.__module__, f"{owner.__qualname__}.call"
    return call
