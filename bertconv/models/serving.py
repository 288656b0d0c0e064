"""SavedModel and Keras's exports: named outputs, dynamic shapes; what is written runs without bertconv."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import keras
import tensorflow as tf

from bertconv.errors import RequestError
from bertconv.models.outputs import ModelOutput

EXPORTED_WITH = {"onnx": ("tf2onnx", "onnx"), "openvino": ("openvino",)}
"""Packages that a format of `export` needs beside TensorFlow."""

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

    def serving(self, inputs: Mapping[str, tf.Tensor]) -> Any:
        """The outputs as a server returns them, for a dict of inputs: a dict, or what a user's own class gives."""
        return self._serve(dict(inputs))

    def _serve(self, *inputs: Any) -> Any:
        flags = {"training": False, "return_dict": True}
        known = {name: value for name, value in flags.items() if name in self.input_names}
        output = self(*inputs, **known)  # type: ignore[operator]
        return self.serving_output(output) if isinstance(output, ModelOutput) else output

    def serving_output(self, output: ModelOutput) -> dict[str, tf.Tensor]:
        """Every output by its name; those of every layer in one tensor, layers first."""
        return {
            name: tf.stack(tf.nest.map_structure(tf.convert_to_tensor, value)) if name in STACKED else value
            for name, value in output.items()
            if name != "loss"
        }

    @property
    def _default_save_signature(self) -> None:
        """For TensorFlow: none but those that are given. Keras would make one of the last call, with ids as floats."""

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
            serve, serve_int64 = self._served(tf.int32), self._served(tf.int64)
            signatures = {
                "serving_default": serve.get_concrete_function(),
                "int64_serving": serve_int64.get_concrete_function(),
            }
            # keras.layers.TFSMLayer passes one dict, which a signature does not take: it looks for an attribute first.
            module.serve = module.serving_default = serve
            module.int64_serving = serve_int64
            # As in what Keras 2 wrote: a loaded SavedModel is called like the model, or by the name of its method.
            module.serving = serve
            module.__call__ = _called(serve, serve_int64)
        tf.saved_model.save(module, str(folder), signatures=signatures)

    def export(
        self,
        filepath: str | os.PathLike[str],
        format: str = "tf_saved_model",  # noqa: A002  (Keras's name)
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Write the model for a runtime; as `keras.Model.export`, with the outputs that `serving` has.

        Args:
            filepath: where to: a folder, or a file for "onnx" and "litert" (`model.tflite`).
            format: "tf_saved_model", "litert", or what else Keras knows.
            verbose: see Keras.
            input_signature: see Keras; by default `input_signature` of the model, so it need not have been called.
            kwargs: see Keras.

        Raises:
            RequestError: the format needs a package that is not installed, or Keras is older than 3.8.
        """
        if "input_signature" not in signature(keras.Model.export).parameters:
            raise RequestError(
                f"Keras {keras.__version__} exports a model only as it was called last.",
                hint="Upgrade Keras to 3.8, or write a SavedModel: `save_pretrained(folder, saved_model=True)`.",
            )
        if missing := [name for name in EXPORTED_WITH.get(format, ()) if find_spec(name) is None]:
            raise RequestError(
                f"the format {format} needs {' and '.join(missing)}, which this Python does not have.",
                hint=f"Install it: `pip install {' '.join(missing)}`.",
            )
        self.build_in_name_scope()  # type: ignore[attr-defined]
        wanted = self.input_signature if input_signature is None else input_signature
        wanted = wanted if isinstance(wanted, list | tuple) else [wanted]
        if verbose is not None:
            kwargs["verbose"] = verbose
        Exported(self).export(filepath, format=format, input_signature=wanted, **kwargs)

    def _served(self, kind: tf.DType) -> Any:
        specs = {name: tf.TensorSpec(spec.shape, kind, name=name) for name, spec in self.input_signature.items()}
        return tf.function(self.serving, input_signature=[specs], autograph=False)


def _called(*served: Any) -> Any:
    """A function `(inputs, training=False)` for the inputs of each of these, which does nothing but call it."""
    kinds = {spec.dtype: each for each in served for spec in each.input_signature[0].values()}

    def call(inputs: Mapping[str, tf.Tensor], training: bool = False) -> Any:  # noqa: ARG001  (a server trains nothing)
        return kinds[next(iter(inputs.values())).dtype](inputs)

    function = tf.function(call, autograph=False)
    for each in served:
        function.get_concrete_function(*each.input_signature)
    return function


class Exported(keras.Model):
    """A model as `export` writes it: Keras has each of its outputs be one tensor."""

    def __init__(self, model: Any) -> None:
        super().__init__(dtype=model.dtype_policy)
        self.model = model
        self.built = True

    def call(self, *inputs: Any, training: bool = False) -> Any:
        """Arguments of the model, by position; see `serving`."""
        return self.model._serve(*inputs)  # noqa: SLF001
