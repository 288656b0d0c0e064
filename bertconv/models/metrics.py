"""Metrics of a model with several outputs: a list counts for each of them, as in Keras 2."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from bertconv.errors import RequestError

BY_USER = ("_user_metrics", "_user_weighted_metrics")
"""Where Keras's CompileMetrics keeps what `compile` was given until it has seen the first outputs."""


def metrics_list(given: Any) -> Any:
    """What Keras 3 takes for metrics: one of them as a list; lists, dicts and None as they are."""
    return given if given is None or isinstance(given, list | tuple | dict) else [given]


def repeat_metrics(compiled: Any, outputs: Iterable[str]) -> None:
    """Let metrics that `compile` got as a plain list count for every output.

    Keras 3 takes a list for one entry per output, whatever is in it. Only here, before the first update, it is known
    which outputs there are labels for.

    Args:
        compiled: the model's CompileMetrics, or None; one that has seen outputs is left alone.
        outputs: their names.

    Raises:
        RequestError: a metric cannot be made a second time.
    """
    if compiled is None or compiled.built:
        return
    for attribute in BY_USER:
        given = getattr(compiled, attribute)
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
