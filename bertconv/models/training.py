"""compile, fit, evaluate and predict as users of the TensorFlow classes know them, on Keras 3's own training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import keras
import tensorflow as tf

from bertconv.errors import RequestError
from bertconv.models.batches import as_dataset
from bertconv.models.calls import WHOLE, CallInputs
from bertconv.models.class_weights import weigh_classes
from bertconv.models.compiled_loss import is_own_loss, warn_of_probabilities
from bertconv.models.datasets import prepare_tf_dataset
from bertconv.models.first_graph import build_metrics, build_optimizer
from bertconv.models.inputs import check_one_encoding, is_label, plain_batch, unpacked_batch
from bertconv.models.keras2_names import Keras2Names, refuse_keras_2, without_workers
from bertconv.models.keras_internals import every_layer, has_training
from bertconv.models.metrics import by_output, by_position, metrics_list, repeat_metrics
from bertconv.models.outputs import ModelOutput
from bertconv.models.replacing import is_stale
from bertconv.models.strategies import check_scope, scope_of, take_optimizer, take_variables

SAMPLE_WEIGHT = "_sample_weight"
"""The name of sample weights on their way through Keras among the inputs; see `TrainingMixin._with_weights`."""

LABEL_OUTPUTS = {
    "start_positions": "start_logits", "end_positions": "end_logits",
    "next_sentence_label": "seq_relationship_logits", "sentence_order_label": "sop_logits",
}  # fmt: skip
"""Labels of transformers' heads that have an output of their own name."""


class TrainingMixin(Keras2Names):
    """The head's own loss where no other is compiled; labels among the inputs or beside them.

    Attributes:
        label_names: arguments of `call` that are labels.
        label_outputs: label -> the output that it is for.
        has_token_labels: whether each token has a label, rather than each sample.
    """

    label_names: ClassVar[tuple[str, ...]] = ()
    label_outputs: ClassVar[Mapping[str, str]] = {}
    has_token_labels: ClassVar[bool] = False
    input_names: ClassVar[tuple[str, ...]]
    call_inputs: ClassVar[CallInputs]
    optimizer: Any = None
    _compile_metrics: Any = None
    _has_own_loss = True

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = "auto",
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configure training; arguments as for `keras.Model.compile`.

        Args:
            optimizer: a Keras 3 optimizer or its name.
            loss: a Keras 3 loss; "auto", None or the model's `hf_compute_loss` takes the head's own.
            loss_weights: see Keras; metrics may stand here instead, third as in Keras 2, and these be fourth.
            metrics: see Keras; one metric or a plain list counts for every output that has labels, and is logged with
                the output's name where there are several (`start_logits_accuracy`); a dict is by the name of an
                output or its label (`{"start_logits": [...]}`, `{"start_positions": [...]}`).
            weighted_metrics: as metrics.
            kwargs: see Keras; `jit_compile` is off by default, since every new sequence length would be compiled anew.
        """
        loss_weights, metrics = by_position(loss_weights, metrics)
        refuse_keras_2(optimizer, loss, metrics, weighted_metrics)
        loss, loss_weights, metrics, weighted_metrics = (
            by_output(each, self.label_outputs) for each in (loss, loss_weights, metrics, weighted_metrics)
        )
        own = is_own_loss(self, loss)
        if not own:
            warn_of_probabilities(self, loss)
        self._has_own_loss = own
        self._is_named = any(isinstance(each, Mapping) for each in (metrics, weighted_metrics, loss))
        if kwargs.get("jit_compile", "auto") == "auto":
            kwargs["jit_compile"] = False
        # Keras leaves what is not given anew as an earlier call had it; in Keras 2 each call stood for itself.
        self.loss = self._compile_loss = self._compile_metrics = None
        strategy = self._distribute_strategy  # type: ignore[attr-defined]
        with scope_of(strategy):
            super().compile(  # type: ignore[misc]
                optimizer=optimizer, loss=None if own else loss, loss_weights=loss_weights,
                metrics=metrics_list(metrics), weighted_metrics=metrics_list(weighted_metrics), **kwargs,
            )  # fmt: skip
        if strategy is not None:
            given = [each for each in keras.tree.flatten([metrics, weighted_metrics]) if hasattr(each, "variables")]
            take_variables([*self.variables, *(variable for each in given for variable in each.variables)], strategy)  # type: ignore[attr-defined]
        take_optimizer(self, self.optimizer)

    def get_compile_config(self) -> Any:
        """For Keras: how the model was compiled."""
        return super().get_compile_config()  # type: ignore[misc]

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """For Keras: compile as a saved model was, its optimizer's variables included."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)  # type: ignore[attr-defined]

    def train_step(self, data: Any) -> Any:
        """One step of `fit`."""
        inputs, y, weights = self._arranged(data)
        if not has_training(self):  # its layers are told all the same, as in Keras 2
            inputs["training"] = True
        build_optimizer(self)
        return super().train_step((inputs, y, weights))  # type: ignore[misc]

    def test_step(self, data: Any) -> Any:
        """One step of `evaluate`."""
        return super().test_step(self._arranged(data))  # type: ignore[misc]

    def predict_step(self, data: Any) -> Any:
        """One step of `predict`: labels among the inputs are left out."""
        check_one_encoding(data)
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(x, Mapping):
            x = {name: value for name, value in x.items() if name not in self.label_names}
        return super().predict_step((x,))  # type: ignore[misc]

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """For Keras: under a tf.distribute.Strategy make the metrics' variables, from the shapes of one batch.

        Keras takes the mean of the replicas' batches, in which ids are floats, and labels may lie among the inputs.
        """
        strategy = self._distribute_strategy  # type: ignore[attr-defined]
        if strategy is None:
            return
        if iterator is not None:
            *_, batches = next(iter(iterator))
            data_batch = next(batches)
        batch = keras.tree.map_structure(lambda value: strategy.experimental_local_results(value)[0], data_batch)
        with strategy.scope():
            self._symbolic_build(data_batch=self._arranged(batch))  # type: ignore[attr-defined]

    def _build_by(self, batch: Any) -> None:
        """Layers without weights get theirs by a batch, as in Keras 2: a graph for batches of any size cannot."""
        if not all(layer.built for layer in every_layer(self)):
            self(self._arranged(batch[:1])[0])  # type: ignore[operator]

    def _arranged(self, data: Any) -> tuple[Any, Any, Any]:
        """Labels where the compiled loss needs them: among the inputs for the head's own, beside them for Keras's."""
        check_one_encoding(data)
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(x, Mapping) and SAMPLE_WEIGHT in x:
            x = dict(x)
            weights = tf.cast(x.pop(SAMPLE_WEIGHT), keras.backend.floatx())
            x = x.get(WHOLE, x)
        names = self.label_names
        if not (names or self._has_own_loss or self.call_inputs.is_ours) and isinstance(x, Mapping):
            names = tuple(filter(is_label, x))  # its call knows no labels, and the compiled loss needs them
        inputs, inside = self.call_inputs.separated(x, names, model=type(self).__name__)
        if self._has_own_loss:
            if inside and isinstance(y, Mapping):  # some here, some there: those among the inputs count
                y = {**self._labels(y), **inside}
            labels = inside if y is None else self._labels(y)
            inputs = self.call_inputs.joined(inputs, labels, were_inside=y is None)
        return inputs, (inside or None) if y is None else y, weights

    def _labels(self, y: Any) -> dict[str, Any]:
        """Labels given as y, as arguments of `call`."""
        by_output = {output: label for label, output in self.label_outputs.items()}
        if isinstance(y, Mapping):
            named = {by_output.get(str(name), str(name)): value for name, value in y.items()}
            if unknown := [name for name in named if name not in self.label_names]:
                raise self._no_loss(f"labels are called {', '.join(unknown)}")
            return named
        values = y if isinstance(y, list | tuple) else (y,)
        if len(values) != len(self.label_names):
            raise self._no_loss(f"{len(values)} labels were given")
        return dict(zip(self.label_names, values, strict=True))

    def _no_loss(self, problem: str) -> RequestError:
        names = " and ".join(self.label_names)
        hint = f"Give {names}, in x or as y, or compile with a loss." if names else "Compile with a loss."
        return RequestError(f"{type(self).__name__} cannot compute its loss: {problem}.", hint=hint)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The scalar that training minimises: the mean of the head's own loss, or the compiled one.

        Raises:
            RequestError: no loss can be computed from what was given.
        """
        if y_pred is None:
            raise RequestError(
                "compute_loss is Keras's, for x, y and y_pred.", hint="Call hf_compute_loss(labels, logits)."
            )
        if not self._has_own_loss:
            y, y_pred = self._matched(y, y_pred)
            return super().compute_loss(x, y, y_pred, sample_weight, training=training)  # type: ignore[misc]
        loss = y_pred.get("loss") if isinstance(y_pred, Mapping) else None
        if loss is None:
            raise self._no_loss("labels are missing")
        if sample_weight is not None:
            if keras.tree.is_nested(sample_weight) or loss.shape[0] == 1 != sample_weight.shape[0]:
                raise RequestError(
                    "sample weights need a loss per sample, and this head's loss is one number.",
                    hint="Leave the labels of samples that should not count at -100.",
                )
            loss *= tf.reshape(tf.cast(sample_weight, loss.dtype), [-1])
        total = tf.reduce_mean(loss) + sum(map(tf.reduce_sum, self.losses))  # type: ignore[attr-defined]
        return total / tf.distribute.get_strategy().num_replicas_in_sync

    def make_train_function(self, force: bool = False) -> Any:
        """For Keras: the graph of a step, made anew when layers were replaced."""
        check_scope(self)
        return super().make_train_function(force or is_stale(self, "train_function"))  # type: ignore[misc]

    def make_test_function(self, force: bool = False) -> Any:
        """As `make_train_function`."""
        return super().make_test_function(force or is_stale(self, "test_function"))  # type: ignore[misc]

    def make_predict_function(self, force: bool = False) -> Any:
        """As `make_train_function`."""
        return super().make_predict_function(force or is_stale(self, "predict_function"))  # type: ignore[misc]

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Update the metrics with labels and the outputs that they are for."""
        if self._compile_metrics is None:  # labels may be for the model's own loss alone
            return super().compute_metrics(x, y, y_pred, sample_weight)  # type: ignore[misc]
        y, y_pred = self._matched(y, y_pred)
        if isinstance(y_pred, Mapping) and max(len(y_pred), len(self.label_outputs)) > 1:
            repeat_metrics(self._compile_metrics, y_pred)
        build_metrics(self._compile_metrics, y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)  # type: ignore[misc]

    def _matched(self, y: Any, y_pred: Any) -> tuple[Any, Any]:
        """Labels and the outputs that they are for, in the same structure."""
        if y is None or not isinstance(y_pred, Mapping):
            is_alone = isinstance(y, Mapping) and len(y) == 1 and tf.is_tensor(y_pred)
            return next(iter(y.values())) if is_alone else y, y_pred
        if not isinstance(y_pred, ModelOutput) and isinstance(y, Mapping) and set(y) == set(y_pred):
            return y, y_pred
        outputs = {name: value for name, value in y_pred.items() if name != "loss"}
        if isinstance(y, Mapping):
            labels = {self.label_outputs.get(name, name): value for name, value in y.items()}
            if len(labels) == 1 and not self.call_inputs.is_ours and not set(labels) & set(outputs):
                labels = dict(zip(outputs, labels.values(), strict=False))  # of a user's class: its first output
        else:
            values = y if isinstance(y, list | tuple) else (y,)
            labels = dict(zip(outputs, values, strict=False))
        if unknown := [name for name in labels if name not in outputs]:
            raise RequestError(f"there is no output {', '.join(unknown)}.", hint=f"There are {', '.join(outputs)}.")
        if len(labels) == 1 and not self._is_named:
            name, label = labels.popitem()
            return label, outputs[name]
        return labels, {name: outputs[name] for name in labels}

    def fit(self, x: Any = None, y: Any = None, *args: Any, validation_data: Any = None, **kwargs: Any) -> Any:
        """Train; as `keras.Model.fit`, and x may be a BatchEncoding, or a batch of a data set: `(features, labels)`.

        `workers`, `use_multiprocessing` and `max_queue_size` of Keras 2 do nothing, as in `evaluate` and `predict`.
        """
        kwargs = without_workers(kwargs)
        refuse_keras_2(args, list(kwargs.values()))
        x, y = self._unpacked(x, y, kwargs)
        x = as_dataset(x, self._build_by, shuffle=kwargs.get("shuffle", True), steps=kwargs.get("steps_per_epoch"))
        if isinstance(x, tf.data.Dataset):
            kwargs["shuffle"] = False  # Keras warns of what means nothing here: a dataset shuffles itself
        weights = kwargs.get("sample_weight")
        x, y, kwargs["class_weight"] = weigh_classes(self, x, y, kwargs.get("class_weight"), weights)
        x, kwargs["sample_weight"] = self._with_weights(x, y, weights)
        steps = kwargs.get("validation_steps")
        validation_data = as_dataset(plain_batch(validation_data), self._build_by, steps=steps)
        if isinstance(validation_data, tuple) and len(validation_data) == 3:
            inputs, targets, weights = validation_data
            inputs, weights = self._with_weights(inputs, targets, weights)
            validation_data = (inputs, targets, weights)
        return super().fit(x, y, *args, validation_data=validation_data, **kwargs)  # type: ignore[misc]

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Loss and metrics; as `keras.Model.evaluate`, with x as for `fit`."""
        kwargs = without_workers(kwargs)
        x, y = self._unpacked(x, y, kwargs)
        if (weights := kwargs.get("sample_weight")) is not None:
            x, kwargs["sample_weight"] = self._with_weights(x, y, weights)
        return super().evaluate(as_dataset(x, self._build_by), y, *args, **kwargs)  # type: ignore[misc]

    def predict(self, x: Any, *args: Any, pad_value: float | None = None, **kwargs: Any) -> Any:
        """The output object with numpy arrays; as `keras.Model.predict`, with x as for `fit`.

        Args:
            x: inputs; labels among or beside them are left out.
            args: see Keras.
            pad_value: what fills up shorter batches, -100 for instance. Without it, outputs whose batches differ in
                length are a tf.RaggedTensor, as in Keras; with it, all of them are arrays of the greatest length.
            kwargs: see Keras.
        """
        x = as_dataset(plain_batch(unpacked_batch(x)[0]), self._build_by)
        found = super().predict(x, *args, **without_workers(kwargs))  # type: ignore[misc]
        return found if pad_value is None else keras.tree.map_structure(partial(_padded, fill=pad_value), found)

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, **kwargs: Any
    ) -> Any:
        """One step of training; as `keras.Model.train_on_batch`, with x as for `fit`."""
        kwargs["sample_weight"] = sample_weight
        x, y = self._unpacked(x, y, kwargs)
        x, y, kwargs["class_weight"] = weigh_classes(self, x, y, class_weight, kwargs["sample_weight"])
        return super().train_on_batch(x, y, **kwargs)  # type: ignore[misc]

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Loss and metrics of one batch; as `keras.Model.test_on_batch`, with x as for `fit`."""
        kwargs["sample_weight"] = sample_weight
        x, y = self._unpacked(x, y, kwargs)
        return super().test_on_batch(x, y, **kwargs)  # type: ignore[misc]

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs of one batch; as `keras.Model.predict_on_batch`, with x as for `fit`."""
        found = super().predict_on_batch(plain_batch(unpacked_batch(x)[0]))  # type: ignore[misc]
        # Keras gives every replica of a strategy the whole batch, and returns the outputs of all, one behind the other.
        count = self.distribute_strategy.num_replicas_in_sync  # type: ignore[attr-defined]
        return found if count == 1 else keras.tree.map_structure(lambda value: value[: len(value) // count], found)

    @staticmethod
    def _unpacked(x: Any, y: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Features and labels of what Keras is given; sample weights of a whole batch go to the other arguments."""
        x, y, weights = unpacked_batch(x, y, kwargs.get("sample_weight"))
        if weights is not None:
            kwargs["sample_weight"] = weights
        return plain_batch(x), plain_batch(y)

    def _with_weights(self, x: Any, y: Any, weights: Any) -> tuple[Any, Any]:
        """Inputs and sample weights, these among the inputs where Keras drops or repeats those beside them.

        It drops an array of them where there is no y, and repeats it for each label in a dict or list.
        """
        is_dropped = y is None or keras.tree.is_nested(y)
        if not (is_dropped and hasattr(weights, "shape") and (isinstance(x, Mapping) or hasattr(x, "shape"))):
            return x, weights
        first = self.input_names[0] if self.call_inputs.is_ours else WHOLE
        named = x if isinstance(x, Mapping) else {first: x}
        return {**named, SAMPLE_WEIGHT: weights}, None

    def prepare_tf_dataset(
        self,
        dataset: Any,
        batch_size: int = 8,
        shuffle: bool = True,
        tokenizer: Any = None,
        collate_fn: Any = None,
        collate_fn_args: Any = None,
        drop_remainder: bool | None = None,
        prefetch: bool = True,
    ) -> tf.data.Dataset:
        """A tf.data.Dataset for `fit` from a Hugging Face dataset or columns.

        Args:
            dataset: a `datasets.Dataset`, a dict of columns, or a sequence of dicts.
            batch_size: samples per batch.
            shuffle: whether to draw them in another order each epoch.
            tokenizer: pads the samples of a batch; without one, zeros do.
            collate_fn: makes a batch of a list of samples.
            collate_fn_args: its further arguments.
            drop_remainder: leave out a last batch that is not full; by default when shuffling.
            prefetch: prepare the next batch while one is used.
        """
        labels = self.label_names or (() if self.call_inputs.is_ours else ("labels",))  # for the loss that is compiled
        names = tuple(name for name in self.input_names if name not in (*labels, "training"))
        return prepare_tf_dataset(
            names, labels, dataset, batch_size=batch_size, shuffle=shuffle, tokenizer=tokenizer,
            collate_fn=collate_fn, collate_fn_args=collate_fn_args, drop_remainder=drop_remainder, prefetch=prefetch,
        )  # fmt: skip


def _padded(value: Any, fill: float) -> Any:
    """A tf.RaggedTensor as an array, filled up to the greatest length; anything else as it is."""
    return value.to_tensor(fill).numpy() if isinstance(value, tf.RaggedTensor) else value


def outputs_of_labels(labels: Sequence[str]) -> dict[str, str]:
    """The outputs that the labels of a user's own class are for, as far as their names tell."""
    found = {name: LABEL_OUTPUTS[name] for name in labels if name in LABEL_OUTPUTS}
    if {"next_sentence_label", "sentence_order_label"} & set(found) and "labels" in labels:
        found["labels"] = "prediction_logits"
    return found
