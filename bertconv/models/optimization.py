"""How BERT and its relatives are fine-tuned: Adam with decoupled weight decay, linear warm-up, polynomial decay."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bertconv.errors import RequestError

NO_DECAY = (r"(LayerNorm|layer_norm)[^/]*/[^/]+$", r"bias[^/]*$")
"""Paths of variables that are not decayed: those of a layer normalisation, and biases.

Only the variable's own name and its layer's count, so that a model called "debias" is decayed all the same.
"""


def create_optimizer(
    init_lr: float,
    num_train_steps: int,
    num_warmup_steps: int,
    min_lr_ratio: float = 0.0,
    adam_beta1: float = 0.9,
    adam_beta2: float = 0.999,
    adam_epsilon: float = 1e-8,
    adam_clipnorm: float | None = None,
    adam_global_clipnorm: float | None = None,
    weight_decay_rate: float = 0.0,
    power: float = 1.0,
    include_in_weight_decay: Sequence[str] | None = None,
) -> tuple[AdamWeightDecay, keras.optimizers.schedules.LearningRateSchedule]:
    """Make the optimiser and its schedule: up from 0 in a line, then down along a polynomial.

    At step t, counted from 0, with w warm-up steps of n in all, the learning rate is `init_lr * t / w` while t < w, and
    then `end + (init_lr - end) * (1 - min((t - w) / (n - w), 1)) ** power`, where `end = init_lr * min_lr_ratio`.

    Args:
        init_lr: learning rate at the end of the warm-up.
        num_train_steps: steps of the whole training, warm-up included.
        num_warmup_steps: steps of the warm-up; 0 for none.
        min_lr_ratio: learning rate at the end of the training, as a part of `init_lr`.
        adam_beta1: decay of the first moment.
        adam_beta2: decay of the second moment.
        adam_epsilon: added to the root of the second moment.
        adam_clipnorm: clip the gradient of each variable to this norm.
        adam_global_clipnorm: clip all gradients together to this norm; only one of the two can be given.
        weight_decay_rate: decay per step in units of the learning rate; biases and layer normalisations are spared.
        power: of the polynomial; 1 is a line.
        include_in_weight_decay: regular expressions; variables whose path has one are decayed although they are spared.

    Returns:
        The optimiser, and the schedule that it follows, to look at.

    Raises:
        RequestError: steps, rates or patterns that make no sense.
    """
    steps, warmup = _steps(num_train_steps, num_warmup_steps)
    if adam_clipnorm is not None and adam_global_clipnorm is not None:
        raise RequestError("Gradients cannot be clipped both one by one and together.",
                           hint="Give adam_clipnorm or adam_global_clipnorm.")  # fmt: skip
    peak = _amount("init_lr", init_lr)
    schedule: keras.optimizers.schedules.LearningRateSchedule = PolynomialDecay(
        initial_learning_rate=peak,
        decay_steps=(steps - warmup) or 1,  # a training that ends with its warm-up has nothing to divide by
        end_learning_rate=peak * _amount("min_lr_ratio", min_lr_ratio),
        power=float(power),
    )
    if warmup:
        schedule = WarmUp(peak, schedule, warmup)
    optimizer = AdamWeightDecay(
        schedule, adam_beta1, adam_beta2, adam_epsilon,
        weight_decay_rate=_amount("weight_decay_rate", weight_decay_rate),
        include_in_weight_decay=include_in_weight_decay, exclude_from_weight_decay=NO_DECAY,
        clipnorm=adam_clipnorm, global_clipnorm=adam_global_clipnorm,
    )  # fmt: skip
    return optimizer, schedule


@keras.saving.register_keras_serializable(package="bertconv")
class PolynomialDecay(keras.optimizers.schedules.PolynomialDecay):
    """Keras's schedule, in Keras's float type throughout: its own makes float32 constants in float64 too."""

    def __call__(self, step: Any) -> tf.Tensor:
        """The learning rate of a step (a scalar, counted from 0)."""
        if self.cycle:
            return super().__call__(step)
        with keras.name_scope(self.name or "PolynomialDecay"):
            dtype = keras.config.floatx()
            end = tf.constant(self.end_learning_rate, dtype)
            done = tf.minimum(keras.ops.cast(step, dtype) / tf.constant(self.decay_steps, dtype), 1)
            return end + (self.initial_learning_rate - end) * (1 - done) ** self.power


@keras.saving.register_keras_serializable(package="bertconv")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises from 0 for some steps and then follows another schedule, whose steps start there.

    Args:
        initial_learning_rate: learning rate at the end of the warm-up.
        decay_schedule_fn: the schedule that follows; any function of the step.
        warmup_steps: length of the warm-up, in steps.
        power: the rise is `(step / warmup_steps) ** power`.
        name: scope of its operations in a graph.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_schedule_fn: Callable[[Any], Any],
        warmup_steps: float,
        power: float = 1.0,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.initial_learning_rate = initial_learning_rate
        self.decay_schedule_fn = decay_schedule_fn
        self.warmup_steps = warmup_steps
        self.power = power
        self.name = name

    def __call__(self, step: Any) -> tf.Tensor:
        """The learning rate of a step (a scalar, counted from 0), in Keras's float type."""
        with keras.name_scope(self.name or "WarmUp"):
            dtype = keras.config.floatx()
            now = keras.ops.cast(step, dtype)
            length = tf.constant(self.warmup_steps, dtype)
            risen = self.initial_learning_rate * (now / length) ** self.power
            # both sides are computed, so the other schedule must not see a step before its first
            after = tf.cast(self.decay_schedule_fn(tf.maximum(now - length, 0)), dtype)
            return tf.where(now < length, risen, after)

    def get_config(self) -> dict[str, Any]:
        """The arguments; the inner schedule as Keras serialises it."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_schedule_fn": keras.saving.serialize_keras_object(self.decay_schedule_fn),
            "warmup_steps": self.warmup_steps,
            "power": self.power,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmUp:
        """The reverse of `get_config`."""
        inner = config["decay_schedule_fn"]
        if isinstance(inner, dict):
            inner = keras.saving.deserialize_keras_object(_named(inner))
        return cls(**{**config, "decay_schedule_fn": inner})


@keras.saving.register_keras_serializable(package="bertconv")
class AdamWeightDecay(keras.optimizers.Adam):
    """Adam with decoupled weight decay that goes by the paths of variables, right for embeddings and in float64.

    At step t, counted from 1, for a variable with gradient g, learning rate r and decay rate d (0 where it is spared):

        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g ** 2
        p = p - r * d * p - r * sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t) * m / (sqrt(v) + epsilon)

    (Kingma and Ba 2015, section 2, with their "epsilon hat"; decay as in Loshchilov and Hutter 2019.) So does Keras,
    and so did transformers 4.57. PyTorch differs: it adds epsilon to `sqrt(v / (1 - beta_2 ** t))`, as if epsilon were
    `epsilon * sqrt(1 - beta_2 ** t)` here; this fades as t grows, and matters only where gradients are tiny.

    Keras's own Adam takes the gradient of an embedding as a list of rows and squares each of them, so that a token that
    occurs twice adds `a ** 2 + b ** 2` to v where `(a + b) ** 2` belongs; clipping by norm errs likewise. Here the rows
    are summed first, as tf_keras and PyTorch do.

    Args:
        learning_rate: a number or a schedule.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the root of the second moment.
        amsgrad: take the largest v so far.
        weight_decay_rate: decay per step in units of the learning rate.
        include_in_weight_decay: regular expressions; a variable whose path has one is decayed in any case.
        exclude_from_weight_decay: regular expressions; a variable whose path has one is not decayed.
        name: of the optimiser.
        lr: `learning_rate`, as Keras 2 called it; it counts where both are given, as it did there.
        decay: Keras 2's decay over time, which must be 0: a schedule says the same.
        **kwargs: `clipnorm`, `clipvalue`, `global_clipnorm`, `use_ema`, ... as all Keras optimisers take them.

    Attributes:
        lr: the learning rate as in Keras 2: a tf.Variable to read and assign, or what a schedule gives now, which may
            be called with a step where weights decay.

    Raises:
        RequestError: a pattern is not a regular expression, or there is a decay over time.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay_rate: float = 0.0,
        include_in_weight_decay: Sequence[str] | None = None,
        exclude_from_weight_decay: Sequence[str] | None = None,
        name: str = "AdamWeightDecay",
        *,
        lr: Any = None,
        decay: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if decay:
            raise RequestError(
                f"decay={decay} is an argument of Keras 2's optimisers, and Keras 3 has none.",
                hint=f"Give learning_rate=keras.optimizers.schedules.InverseTimeDecay(learning_rate, 1, {decay}).",
            )
        learning_rate = learning_rate if lr is None else lr
        beta_1, beta_2, epsilon = float(beta_1), float(beta_2), float(epsilon)  # Keras 2's configs hold numpy's
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=None, name=name, **kwargs)
        self.weight_decay_rate = float(weight_decay_rate)
        self._include = _patterns(include_in_weight_decay)
        self._exclude = _patterns(exclude_from_weight_decay)

    @property
    def lr(self) -> Any:
        """The learning rate: the variable of TensorFlow, for `K.set_value` takes no other, or the schedule.

        4.57 had the schedule where weights decay, and what it gives now where they do not.
        """
        rate = self._learning_rate
        if not callable(rate):
            return rate.value
        return _Followed(self, rate) if self.weight_decay_rate else self.learning_rate

    @lr.setter
    def lr(self, value: Any) -> None:
        self.learning_rate = value

    def _decayed_lr(self, dtype: Any) -> tf.Tensor:
        """The learning rate of this step, as Keras 2 called it; programs have it in metrics that log the rate."""
        return tf.cast(keras.ops.convert_to_tensor(self.learning_rate), dtype)

    def decays(self, path: str) -> bool:
        """Whether a variable of this path is decayed."""
        if not self.weight_decay_rate:
            return False
        included = any(re.search(pattern, path) for pattern in self._include)
        return included or not any(re.search(pattern, path) for pattern in self._exclude)

    def build(self, variables: Sequence[Any]) -> None:
        """Create the moments; decide what is decayed, since an update sees variables of TensorFlow, without paths."""
        if not self.built:  # what the user excluded in Keras's own way stays excluded
            paths = [getattr(variable, "path", variable.name) for variable in variables]
            pairs = zip(variables, paths, strict=True)
            spared = [each for each, path in pairs if not (self.decays(path) and self._use_weight_decay(each))]
            self.exclude_from_weight_decay(var_list=spared)
        super().build(variables)

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """One step; gradients may be None, dense, or rows of an embedding (`tf.IndexedSlices`)."""
        super().apply([_dense(gradient) for gradient in grads], trainable_variables)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: Any) -> None:
        """Move one variable and its moments.

        Python's floats meet tensors as they are: `tf.cast(0.9, "float64")`, as Keras has it, goes through float32.
        Powers need at least float32: 0.999 is 1 in bfloat16.
        """
        dtype = variable.dtype
        wide = dtype if dtype.size > 4 else tf.float32
        index = self._get_variable_index(variable)
        m, v = self._momentums[index].value, self._velocities[index].value
        gradient = tf.cast(gradient, dtype)
        m.assign_add((gradient - m) * (1 - self.beta_1))
        v.assign_add((tf.square(gradient) - v) * (1 - self.beta_2))
        if self.amsgrad:
            largest = self._velocity_hats[index].value
            largest.assign(tf.maximum(largest, v))
            v = largest
        time = keras.ops.cast(self.iterations, wide) + 1
        rate = keras.ops.cast(learning_rate, wide)
        alpha = rate * tf.sqrt(1 - self.beta_2**time) / (1 - self.beta_1**time)
        change = tf.cast(alpha, dtype) * m / (tf.sqrt(v) + self.epsilon)
        if self._use_weight_decay(variable):
            change += tf.cast(rate * self.weight_decay_rate, dtype) * variable
        variable.assign_sub(change)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        config = super().get_config()
        del config["weight_decay"]  # Keras's own decay, which is off
        ours = {"include_in_weight_decay": list(self._include), "exclude_from_weight_decay": list(self._exclude)}
        return {**config, "weight_decay_rate": self.weight_decay_rate, **ours}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> AdamWeightDecay:
        """The reverse of `get_config`, and of that of transformers 4.57, whose schedule is a `WarmUp` of its own.

        Args:
            config: the arguments.
            custom_objects: names -> classes of schedules that Keras does not know.
        """
        rate = config.get("learning_rate")
        rate = _named(rate) if isinstance(rate, dict) else rate
        made: AdamWeightDecay = super().from_config(
            {**config, "learning_rate": rate}, {"WarmUp": WarmUp, **(custom_objects or {})}
        )
        return made


class _Followed(keras.optimizers.schedules.LearningRateSchedule):
    """The schedule of an optimizer, to call; as a number it is what this gives for the step of the optimizer."""

    def __init__(self, optimizer: Any, schedule: Callable[[Any], Any]) -> None:
        self.optimizer, self.schedule = optimizer, schedule

    def __call__(self, step: Any) -> Any:
        return self.schedule(step)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        return tf.convert_to_tensor(self.optimizer.learning_rate, dtype, name=name)

    def numpy(self) -> Any:
        return tf.convert_to_tensor(self).numpy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.numpy(), dtype)

    def __float__(self) -> float:
        return float(self.numpy())

    def get_config(self) -> dict[str, Any]:
        return dict(keras.saving.serialize_keras_object(self.schedule)["config"])


def _named(schedule: dict[str, Any]) -> dict[str, Any]:
    """A serialised schedule for Keras 3, whose own cannot be called where their name is None, as Keras 2 left it."""
    config = schedule.get("config")
    if not isinstance(config, dict):
        return schedule
    return {**schedule, "config": {key: value for key, value in config.items() if (key, value) != ("name", None)}}


def _dense(gradient: Any) -> Any:
    """Sum the rows of an embedding's gradient; as good as free, since Adam moves the whole table anyway."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, gradient.dense_shape[0])


def _patterns(given: Iterable[str] | None) -> tuple[str, ...]:
    """Regular expressions, checked; `kernel:0` means `kernel`, as variables were called in Keras 2."""
    given = [given] if isinstance(given, str) else given or ()
    patterns = tuple(str(pattern).removesuffix(":0") for pattern in given)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise RequestError(
                f"{pattern!r} is not a regular expression: {error}.",
                hint="Patterns for the weight decay are searched in paths of variables: bert/pooler/dense/kernel.",
            ) from error
    return patterns


def _steps(train: float, warmup: float) -> tuple[float, float]:
    """Plain numbers, which can be saved, of what may come from numpy or tf.data."""
    train, warmup = float(train), float(warmup)
    if not (1 <= train < math.inf and 0 <= warmup <= train):
        raise RequestError(
            f"{warmup:g} warm-up steps of {train:g} training steps make no schedule.",
            hint="num_train_steps counts all steps, at least 1, and num_warmup_steps those of them that warm up.",
        )
    return train, warmup


def _amount(name: str, value: float) -> float:
    if not 0 <= float(value) < math.inf:
        raise RequestError(
            f"{name}={float(value)} is not a number from 0 up.", hint="Rates are small positive numbers."
        )
    return float(value)
