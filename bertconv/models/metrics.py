"""Metrics of a model with several outputs: a list counts for each of them, as in Keras 2."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import keras

from bertconv.errors import RequestError

BY_USER = ("_user_metrics", "_user_weighted_metrics")
"""Where Keras's CompileMetrics keeps what `compile` was given until it has seen the first outputs."""


def metrics_list(given: Any) -> Any:
    """What Keras 3 takes for metrics: one of them as a list, a list of nothing as None; other lists and dicts stay."""
    if isinstance(given, list | tuple) and all(each is None for each in given):
        return None
    return given if given is None or isinstance(given, list | tuple | dict) else [given]


def by_position(loss_weights: Any, metrics: Any) -> tuple[Any, Any]:
    """Both in Keras 3's order: metrics that stand as loss weights were given third, as in Keras 2's `compile`."""
    given = [each for each in keras.tree.flatten(loss_weights) if each is not None]
    is_turned = bool(given) and all(isinstance(each, str) or callable(each) for each in given)
    return (metrics, loss_weights) if is_turned else (loss_weights, metrics)


def by_output(given: Any, label_outputs: Mapping[str, str]) -> Any:
    """A dict with the names of labels replaced by those of the outputs that they are for; anything else as it is."""
    if not isinstance(given, Mapping):
        return given
    return {label_outputs.get(name, name): value for name, value in given.items()}


def repeat_metrics(compiled: Any, outputs: Collection[str]) -> None:
    """Let metrics that `compile` got as a plain list count for every output.

    Keras 3 takes a list for one entry per output, whatever is in it. Only here, before the first update, it is known
    which outputs there are labels for.

    Args:
        compiled: the model's CompileMetrics, or None; one that has seen outputs is left alone.
        outputs: their names.

    Raises:
        RequestError: a metric cannot be made a second time; a dict names something that is no output with labels.
    """
    if compiled is None or compiled.built:
        return
    for attribute in BY_USER:
        given = getattr(compiled, attribute)
        if isinstance(given, Mapping) and (unknown := [str(name) for name in given if name not in outputs]):
            raise RequestError(
                f"there are metrics for {', '.join(unknown)}, which is no output that has labels.",
                hint=f"Outputs with labels are {', '.join(outputs)}.",
            )
        if given and isinstance(given, list | tuple) and all(map(_is_metric, given)):
            # The first output has the user's own objects, and every other one has copies: a metric has one state.
            repeated = {
                name: [_copy(each) if number else each for each in given] for number, name in enumerate(outputs)
            }
            vars(compiled)[attribute] = repeated  # Keras would track it as a part of a layer


def _is_metric(value: Any) -> bool:
    return value is not None and not isinstance(value, list | tuple | dict)


def _copy(metric: Any) -> Any:
    """The same metric with a state of its own; names and functions have none."""
    if not isinstance(metric, keras.metrics.Metric):
        return metric
    try:
        return type(metric).from_config(metric.get_config())
    except TypeError as error:
        raise RequestError(
            f"the metric {metric.name} cannot be made for every output: {error}.",
            hint="Give metrics as a dict by output, or let its get_config return what its __init__ takes.",
        ) from error
