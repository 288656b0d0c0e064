"""TensorFlow's side: the checkpoint rebuilt through from_pretrained, every layer watched; or its SavedModel."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bertconv.checkpoint import Checkpoint
from bertconv.errors import RequestError
from bertconv.formats.streaming import reordered
from bertconv.mapping.expand import target_specs, transpose_specs
from bertconv.mapping.plan import Plan
from bertconv.verify.cases import IDS, Batch
from bertconv.verify.places import OUTPUT, Array, Passes, Place, Tell, placed
from bertconv.verify.quiet import import_tensorflow


class TensorFlowRunner:
    """Runs a checkpoint with TensorFlow's names on the CPU, where float32 is float32.

    Args:
        side: the checkpoint.
        rounding: neutral id -> element type that its tensor is rounded to before anything is computed.

    Raises:
        RequestError: TensorFlow is not installed.
    """

    def __init__(self, side: Checkpoint, rounding: Mapping[str, str]) -> None:
        tf = _tensorflow()
        import keras

        self.side = side
        self._rounding = rounding
        self._plan: Plan | None = None
        self.framework = f"TF{side.head} on TensorFlow {tf.__version__}, Keras {keras.__version__}"

    def run(self, dtype: str, batches: Sequence[Batch], tell: Tell) -> None:
        """Every batch in this element type, and all that is to be seen of it."""
        tf = _tensorflow()
        with tf.device("/CPU:0"):
            model = self.model(dtype)
            for number, batch in enumerate(batches):
                inputs = _inputs(batch, dtype)
                if batch.deep:
                    with _watched(model, number, tell):
                        outputs = model(inputs, output_hidden_states=True, output_attentions=True, return_dict=True)
                    _tell_outputs(outputs, number, tell)
                else:
                    flat = {
                        name: tf.reshape(one, [-1, one.shape[-1]]) if name in IDS else one
                        for name, one in inputs.items()
                    }
                    body = getattr(model, self.side.table.base)
                    outputs = body(**flat, output_hidden_states=True, return_dict=True)
                    _tell_outputs({"hidden_states": outputs["hidden_states"]}, number, tell)

    def gradients(self, batch: Batch, weigh: Callable[[str, tuple[int, ...]], Array]) -> dict[str, Array]:
        """As those of `TorchRunner`."""
        tf = _tensorflow()
        from bertconv.models.variables import FRAMEWORK, inventory

        with tf.device("/CPU:0"):
            model = self.model("float64")
            own = inventory(model, model.config, self.side.head)
            with tf.GradientTape() as tape:
                outputs = model(_inputs(batch, "float64"), training=False, return_dict=True)
                loss = sum(
                    tf.reduce_sum(value * weigh(name, tuple(value.shape)))
                    for name, value in outputs.items()
                    if tf.is_tensor(value)
                )
            found = tape.gradient(loss, [variable.value for variable in own.known.values()])
        here, there = (
            target_specs(own.table, dialect, model.config, self.side.head, own.groups)
            for dialect in (own.dialects.of(FRAMEWORK), own.dialects.reference)
        )
        arrays = {}
        for place, gradient in zip(own.known, found, strict=True):
            if gradient is not None:
                turn = transpose_specs(here[place], there[place])
                arrays[place] = reordered(np.asarray(gradient), turn).reshape(there[place].canonical.shape)
        return arrays

    def model(self, dtype: str) -> Any:
        """The checkpoint in an element type, as from_pretrained of its class loads it.

        What is run is what users load: the class is made, its variables are listed, planned and filled by the same
        functions, from the files on the disk. Only the finding and the parsing of the files are not done again: the
        side was read by the same reader, and its files are held open and looked at in the end, so that they cannot be
        other ones. The plan is the loader's own, into variables, and not the side's; it is the same for every element
        type. Stored copies were compared when the side was opened.
        """
        import bertconv
        from bertconv.models.loading import load_opened, request_of

        side = self.side
        lacks_pooler = "pooler" in side.table.optional.get(side.head, ()) and not any(
            place.startswith("pooler.") for place in side.tensors
        )
        extra = {"add_pooling_layer": False} if lacks_pooler else {}
        kind = getattr(bertconv, f"TF{side.head}")
        request = request_of(
            kind, side.source.given, side.plan.config, lambda config: kind(config, dtype=dtype, **extra)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the class is used; the notes have the files
            model, self._plan = load_opened(side.header, side.plan.config, request, self._plan)
        if self._rounding:
            _round(model, side, self._rounding)
        return model


class SavedModelRunner:
    """Runs the `saved_model/<version>` of a folder as a server would.

    Args:
        folder: of the checkpoint.

    Raises:
        RequestError: there is none, or TensorFlow is not installed.
    """

    def __init__(self, folder: Path) -> None:
        versions = sorted(
            (path for path in folder.glob("saved_model/*") if path.name.isdigit()), key=lambda one: int(one.name)
        )
        if not versions:
            raise RequestError(
                "holds no SavedModel.", hint="Write one with save_pretrained(..., saved_model=True).", file=str(folder)
            )
        self.path = versions[-1]
        self.framework = f"SavedModel {self.path.name} on TensorFlow {_tensorflow().__version__}"

    def run(self, dtype: str, batches: Sequence[Batch], tell: Tell) -> None:  # noqa: ARG002  (it has the type it was saved in)
        """Every batch through its signature; only outputs are seen."""
        tf = _tensorflow()
        with tf.device("/CPU:0"):
            signature = tf.saved_model.load(str(self.path)).signatures["serving_default"]
            known = signature.structured_input_signature[1]
            for number, batch in enumerate(batches):
                full = {"attention_mask": np.ones_like(batch.inputs["input_ids"]), **batch.inputs}
                outputs = signature(**{name: tf.constant(full[name], spec.dtype) for name, spec in known.items()})
                for name, value in outputs.items():
                    if len(value.shape) and name not in ("hidden_states", "attentions", "past_key_values"):
                        tell(number, Place(name, OUTPUT, None, name), np.asarray(value))


def _tensorflow() -> Any:
    if importlib.util.find_spec("tensorflow") is None:
        raise RequestError(
            "TensorFlow is not installed, and the outputs of TensorFlow weights are computed with it.",
            hint="Install it (`pip install 'bertconv[tf]'`), or compare weights alone.\n"
            "That is --level weights, and --verify weights in a conversion.",
        )
    import_tensorflow()
    import tensorflow as tf

    return tf


def _inputs(batch: Batch, dtype: str) -> dict[str, Any]:
    tf = _tensorflow()
    return {
        name: tf.constant(value, dtype if value.dtype.kind == "f" else "int32") for name, value in batch.inputs.items()
    }


@contextmanager
def _watched(model: Any, batch: int, tell: Tell) -> Any:
    """Every layer that is a module of the mapping table tells what it was given and what it returned."""
    from bertconv.models.keras_internals import every_layer, inner_layers

    watched = [layer for layer in every_layer(model) if getattr(layer, "module", "") and not inner_layers(layer)]
    passes = Passes()
    for layer in watched:
        _watch(layer, passes, batch, tell)
    try:
        yield
    finally:
        for layer in watched:
            del layer.call


def _watch(layer: Any, passes: Passes, batch: int, tell: Tell) -> None:
    inner = layer.call

    def call(given: Any, *args: Any, **kwargs: Any) -> Any:
        returned = inner(given, *args, **kwargs)
        before, after = passes.places(layer.module)
        if before is not None:
            tell(batch, before, _array(given))
        tell(batch, after, _array(returned))
        return returned

    object.__setattr__(layer, "call", call)


def _array(tensor: Any) -> Array:
    tf = _tensorflow()
    if tensor.dtype in (tf.bfloat16, tf.float16):
        tensor = tf.cast(tensor, tf.float32)
    return np.asarray(tensor)


def _tell_outputs(outputs: Mapping[str, Any], batch: int, tell: Tell) -> None:
    for place, value in placed(outputs):
        tell(batch, place, _array(value))


def _round(model: Any, side: Checkpoint, rounding: Mapping[str, str]) -> None:
    tf = _tensorflow()
    from bertconv.models.variables import inventory

    for place, variable in inventory(model, model.config, side.head).known.items():
        if (through := rounding.get(place)) is not None:
            variable.assign(tf.cast(tf.cast(variable.value, through), variable.dtype))
