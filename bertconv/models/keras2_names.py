"""What a `train_step` or a loop of the user's own has from Keras 2, and Keras 3 has with another meaning."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class Keras2Names:
    """`metrics_names`, `compiled_loss` and `compiled_metrics` as they were.

    Keras 3 has them, but calls the metrics "compile_metrics", counts no loss, and counts the outputs for the loss.
    """

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` returns, in its order; once there was a step, as in Keras 2."""
        compiled = self._compile_metrics  # type: ignore[attr-defined]
        if compiled is not None and not compiled.built:
            return ["loss"]
        found = self._flatten_metrics_in_order({name: name for name in self.get_metrics_result()})  # type: ignore[attr-defined]
        return found if isinstance(found, list) else [found]

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
        if isinstance(logs, dict) and tracker is not None and not float(tracker.count):
            return logs
        return super()._get_metrics_result_or_logs(logs)  # type: ignore[misc]


class _Compiled:
    """Metrics of a model, to be updated."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def update_state(self, y: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self._model.compute_metrics(None, y, y_pred, sample_weight)
