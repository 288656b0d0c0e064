"""SavedModel: signatures for int32 and int64 ids, named outputs, dynamic shapes; TensorFlow alone serves it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow as tf

from bertconv.models.outputs import ModelOutput

STACKED = ("hidden_states", "attentions", "cross_attentions", "past_key_values")
"""Outputs of one tensor per layer, which a signature returns as one."""


class ServingMixin:
    """What a model gives to TF Serving."""

    input_names: ClassVar[tuple[str, ...]]
    input_rank: ClassVar[int] = 2

    @property
    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """Inputs of the serving signature: `[batch sequence]`, or `[batch choices sequence]`."""
        shape = [None] * self.input_rank
        names = ("input_ids", "attention_mask", "token_type_ids")
        return {name: tf.TensorSpec(shape, tf.int32, name=name) for name in names if name in self.input_names}

    def serving(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The outputs as a server returns them, for a dict of inputs."""
        return self.serving_output(self(dict(inputs), training=False, return_dict=True))  # type: ignore[operator]

    def serving_output(self, output: ModelOutput) -> dict[str, tf.Tensor]:
        """Every output by its name; those of every layer in one tensor, layers first."""
        return {
            name: tf.stack(tf.nest.map_structure(tf.convert_to_tensor, value)) if name in STACKED else value
            for name, value in output.items()
            if name != "loss"
        }

    def export_saved_model(self, folder: Path, signatures: Any = None) -> None:
        """Write a SavedModel.

        Args:
            folder: where to.
            signatures: name -> tf.function with an input signature; by default `serving_default` for int32 and
                `int64_serving` for int64 ids.
        """
        module = tf.Module()
        module.weights_ = [weight.value for weight in self.weights]  # type: ignore[attr-defined]
        module.state_ = [variable.value for variable in self.non_trainable_variables]  # type: ignore[attr-defined]
        if signatures is None:
            module.serve = self._served(tf.int32)  # what keras.layers.TFSMLayer calls
            signatures = {
                "serving_default": module.serve.get_concrete_function(),
                "int64_serving": self._served(tf.int64).get_concrete_function(),
            }
        tf.saved_model.save(module, str(folder), signatures=signatures)

    def _served(self, kind: tf.DType) -> Any:
        specs = {name: tf.TensorSpec(spec.shape, kind, name=name) for name, spec in self.input_signature.items()}
        return tf.function(self.serving, input_signature=[specs], autograph=False)
