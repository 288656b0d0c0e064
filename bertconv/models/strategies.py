"""tf.distribute: a model's variables, its optimizer's and its metrics' belong to one strategy, the model's own."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import tensorflow as tf

from bertconv.errors import RequestError

_TOGETHER = "Make the model and its optimizer inside the same `with strategy.scope():`."


def scope_of(strategy: Any) -> AbstractContextManager[Any]:
    """The scope in which new variables are a strategy's; none is entered where there is one already, or no strategy."""
    return nullcontext() if strategy is None or tf.distribute.has_strategy() else strategy.scope()


def strategy_of(variables: Iterable[Any]) -> Any:
    """The strategy in whose scope variables of a layer or an optimizer were made; None for none."""
    return next(filter(None, map(_made_under, variables)), None)


def check_scope(model: Any) -> None:
    """Refuse to train a model in the scope of a strategy that it was made outside of.

    Raises:
        RequestError: its variables are one device's, or another strategy's.
    """
    if not tf.distribute.has_strategy():
        return
    current = tf.distribute.get_strategy()
    if any(_made_under(variable) is not current for variable in model.weights):
        raise RequestError(
            f"{type(model).__name__} was made outside the scope of the {type(current).__name__} that is to train it.",
            hint=_TOGETHER,
        )


def take_optimizer(model: Any, optimizer: Any) -> None:
    """Make an optimizer one of the model's strategy: what was made outside its scope stays the same object.

    Before its first step an optimizer has but a learning rate and a count of steps, which are made anew with the values
    they have; its moments come later, beside the model's variables.

    Raises:
        RequestError: it belongs to another strategy than the model, or trained a model outside the strategy already.
    """
    inner = getattr(optimizer, "inner_optimizer", None)  # of a LossScaleOptimizer
    if inner is not None:
        take_optimizer(model, inner)
    variables, strategy = optimizer._variables, model._distribute_strategy  # noqa: SLF001  (without the inner one's)
    own = strategy_of(variables)
    if own is strategy:
        return
    if strategy is None or own is not None:
        raise RequestError(
            f"{optimizer.name} was made in the scope of a {type(own).__name__}, and {type(model).__name__} was not.",
            hint=_TOGETHER,
        )
    if optimizer.built:
        raise RequestError(
            f"{optimizer.name} was made and used outside the scope of the model's {type(strategy).__name__}.",
            hint="Make a new one inside `with strategy.scope():`.",
        )
    optimizer._distribution_strategy = strategy  # noqa: SLF001
    take_variables(variables, strategy)


def take_variables(variables: Iterable[Any], strategy: Any) -> None:
    """Give Keras's variables, which stay the same objects, ones of the strategy with the same values."""
    with scope_of(strategy):
        for variable in variables:
            if _made_under(variable) is not strategy:
                variable._initialize(variable.numpy())  # noqa: SLF001


def _made_under(variable: Any) -> Any:
    """The strategy of Keras's or TensorFlow's variable, which is noted in every variable of a strategy; or None."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    return getattr(value, "_distribute_strategy", None)
