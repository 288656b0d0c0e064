"""What programs still have from Keras 2: names that mean another thing in Keras 3, arguments and objects."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from typing import Any

import keras
import tensorflow as tf

from bertconv.errors import RequestError
from bertconv.models.keras_internals import every_layer

IGNORED = ("workers", "use_multiprocessing", "max_queue_size")
"""Arguments of Keras 2 for the processes that a generator or a Sequence ran in; Keras 3 has them on its PyDataset."""


class Keras2Names:
    """`metrics_names`, `compiled_loss`, `compiled_metrics` and `submodules` as they were.

    Keras 3 has all but the last, but calls the metrics "compile_metrics", counts no loss, and counts the outputs for
    the loss.
    """

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` returns, in its order; once there was a step, as in Keras 2."""
        compiled = self._compile_metrics  # type: ignore[attr-defined]
        if compiled is not None and not compiled.built:
            return ["loss"]
        return self._in_order(self.get_metrics_result())  # type: ignore[attr-defined]

    def _flatten_metrics_in_order(self, logs: Any) -> Any:
        """For Keras: what `evaluate` and its kin return; Keras 3 has what two metrics are called by twice."""
        found = [logs[name] for name in self._in_order(logs)]
        return found[0] if len(found) == 1 else found

    def _in_order(self, logs: Collection[str]) -> list[str]:
        """Names of logs: those of the metrics in their order, then the others."""
        metrics = chain.from_iterable(getattr(each, "metrics", (each,)) for each in self.metrics)  # type: ignore[attr-defined]
        first = [name for name in dict.fromkeys(each.name for each in metrics) if name in logs]
        return [*first, *sorted(set(logs) - set(first))]

    @property
    def submodules(self) -> tuple[Any, ...]:
        """The layers inside, of every depth, which Keras 2 had from tf.Module."""
        return tuple(every_layer(self)[1:])

    def compiled_loss(
        self, y: Any, y_pred: Any, sample_weight: Any = None, regularization_losses: Any = None
    ) -> tf.Tensor:
        """The loss that was compiled, which also counts for the one that is logged.

        Args:
            y: labels.
            y_pred: outputs.
            sample_weight: one number for each sample.
            regularization_losses: of no effect; the model's own are in the sum.
        """
        loss = self.compute_loss(None, y, y_pred, sample_weight)  # type: ignore[attr-defined]
        whole = loss * tf.cast(tf.distribute.get_strategy().num_replicas_in_sync, loss.dtype)
        samples = tf.shape(keras.tree.flatten(y)[0])[0]
        self._loss_tracker.update_state(whole, sample_weight=samples)  # type: ignore[attr-defined]
        return loss

    @property
    def compiled_metrics(self) -> _Compiled:
        """The metrics that were compiled."""
        return _Compiled(self)

    def _get_metrics_result_or_logs(self, logs: Any) -> Any:
        """For Keras: what is logged of an epoch; what the last step returned where none counted a loss, as in Keras 2.

        Keras 3 takes a returned "loss" for the one that it counts, and logs 0 if a `train_step` does not count any.
        """
        tracker = self._loss_tracker  # type: ignore[attr-defined]
        if isinstance(logs, dict) and tracker is not None and not float(tf.convert_to_tensor(tracker.count.value)):
            return logs
        return super()._get_metrics_result_or_logs(logs)  # type: ignore[misc]


class _Compiled:
    """Metrics of a model, to be updated."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def update_state(self, y: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self._model.compute_metrics(None, y, y_pred, sample_weight)


def without_workers(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `fit` and its kin by name, without `IGNORED`."""
    return {name: value for name, value in arguments.items() if name not in IGNORED}


def refuse_keras_2(*given: Any) -> None:
    """RequestError for optimizers, losses, metrics and callbacks of Keras 2, in any structure."""
    for each in keras.tree.flatten(given):
        # A function has a module of its own, a class or an object those of its bases.
        kinds = (each, *(each if isinstance(each, type) else type(each)).__mro__)
        if any(str(getattr(kind, "__module__", "")).partition(".")[0] == "tf_keras" for kind in kinds):
            raise RequestError(
                f"{getattr(each, '__name__', type(each).__name__)} is of Keras 2 (tf_keras), and the model of Keras 3.",
                hint="Take what is called so from `keras`, after `import keras`.",
            )
