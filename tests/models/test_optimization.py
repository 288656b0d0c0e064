"""The optimiser and its schedule: against torch.optim.AdamW, a closed formula, Keras's own saving, XLA and replicas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given
from hypothesis import strategies as st
from warm_python import WarmPython

from bertconv.errors import RequestError
from bertconv.models.optimization import NO_DECAY, AdamWeightDecay, WarmUp, create_optimizer

GOLDEN = Path(__file__).parents[1] / "golden"
SHAPES = {"bert/words/weight": (7, 3), "bert/dense/kernel": (3, 5), "bert/dense/bias": (5,),
          "bert/LayerNorm/gamma": (4,), "bert/LayerNorm/beta": (4,)}  # fmt: skip
SPARED = {"bert/dense/bias", "bert/LayerNorm/gamma", "bert/LayerNorm/beta"}
IDS = [[1, 4, 1], [1, 4, 6]]


@pytest.fixture
def float64() -> Iterator[None]:
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


def new_variables(dtype: str = "float64") -> dict[str, keras.Variable]:
    random = np.random.default_rng(3)
    variables = {}
    for path, shape in SHAPES.items():
        scope, name = path.rsplit("/", 1)
        with keras.name_scope(scope.split("/")[0]), keras.name_scope(scope.split("/")[1]):
            variables[path] = keras.Variable(random.normal(size=shape), dtype=dtype, name=name)
        assert variables[path].path == path
    return variables


def gradients(steps: int) -> Iterator[dict[str, Any]]:
    """Random ones of very different sizes; the embedding's are rows, some ids twice, as `tf.gather` gives them."""
    random = np.random.default_rng(5)
    for _ in range(steps):
        scale = 10.0 ** random.uniform(-6, 1)
        each = {path: tf.constant(scale * random.normal(size=shape)) for path, shape in SHAPES.items()}
        rows = tf.constant(scale * random.normal(size=(6, 3)))
        each["bert/words/weight"] = tf.IndexedSlices(rows, tf.reshape(IDS, [-1]), tf.constant([7, 3]))
        yield each


def dense(gradient: Any) -> np.ndarray:
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient.numpy()
    out = np.zeros(gradient.dense_shape.numpy())
    np.add.at(out, gradient.indices.numpy(), gradient.values.numpy())
    return out


def clipped(arrays: dict[str, np.ndarray], each: float | None, together: float | None) -> dict[str, np.ndarray]:
    norms = {path: np.linalg.norm(array) for path, array in arrays.items()}
    if each:
        return {path: array * min(1, each / norms[path]) for path, array in arrays.items()}
    if together:
        whole = np.sqrt(sum(norm**2 for norm in norms.values()))
        return {path: array * min(1, together / whole) for path, array in arrays.items()}
    return arrays


def rate(step: float, peak: float, steps: int, warmup: int, ratio: float, power: float) -> float:
    if step < warmup:
        return peak * step / warmup
    done = min((step - warmup) / ((steps - warmup) or 1), 1)
    return peak * (ratio + (1 - ratio) * (1 - done) ** power)


def torch_run(steps: int, settings: dict[str, Any], *, hat: bool) -> dict[str, np.ndarray]:
    """The same by torch.optim.AdamW in two groups under LambdaLR; `hat` moves epsilon to where Keras has it."""
    settings = {"weight_decay_rate": 0.0, "power": 1.0, "min_lr_ratio": 0.0, "adam_epsilon": 1e-8, **settings}
    values = {path: torch.tensor(variable.numpy()) for path, variable in new_variables().items()}
    epsilon, beta = settings["adam_epsilon"], settings.get("adam_beta2", 0.999)
    decayed = [value for path, value in values.items() if path not in SPARED]
    rest = [value for path, value in values.items() if path in SPARED]
    groups = [{"params": decayed, "weight_decay": settings["weight_decay_rate"]}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(settings.get("adam_beta1", 0.9), beta), eps=epsilon)
    plan = (settings["init_lr"], settings["num_train_steps"], settings["num_warmup_steps"])
    tail = (settings["min_lr_ratio"], settings["power"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, *plan, *tail))
    for step, each in enumerate(gradients(steps), 1):
        arrays = {path: dense(gradient) for path, gradient in each.items()}
        arrays = clipped(arrays, settings.get("adam_clipnorm"), settings.get("adam_global_clipnorm"))
        for path, value in values.items():
            value.grad = torch.tensor(arrays[path])
        for group in optimizer.param_groups:
            group["eps"] = epsilon / np.sqrt(1 - beta**step) if hat else epsilon
        optimizer.step()
        schedule.step()
    return {path: value.numpy() for path, value in values.items()}


def keras_run(steps: int, settings: dict[str, Any], **run: Any) -> dict[str, np.ndarray]:
    variables = new_variables()
    optimizer, _ = create_optimizer(**settings)
    optimizer.build(list(variables.values()))

    @tf.function(**run)
    def step(each: list[Any]) -> None:
        optimizer.apply(each, list(variables.values()))

    for each in gradients(steps):
        step(list(each.values()))
    return {path: variable.numpy() for path, variable in variables.items()}


PLAN = {"init_lr": 0.05, "num_train_steps": 17, "num_warmup_steps": 6}
SETTINGS = {
    "plain": PLAN,
    "decay": {**PLAN, "weight_decay_rate": 0.3},
    "everything": {**PLAN, "weight_decay_rate": 0.1, "min_lr_ratio": 0.2, "power": 1.7, "adam_beta1": 0.8,
                   "adam_beta2": 0.97, "adam_epsilon": 1e-3},
    "no warm-up": {**PLAN, "num_warmup_steps": 0, "weight_decay_rate": 0.1},
    "clipped one by one": {**PLAN, "weight_decay_rate": 0.1, "adam_clipnorm": 0.02},
    "clipped together": {**PLAN, "weight_decay_rate": 0.1, "adam_global_clipnorm": 0.02},
}  # fmt: skip


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_twenty_steps_are_those_of_torch(settings: dict[str, Any], jit: bool) -> None:
    expected = torch_run(20, settings, hat=True)
    for path, value in keras_run(20, settings, jit_compile=jit).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-10, atol=1e-12, err_msg=path)


@pytest.mark.usefixtures("float64")
def test_epsilon_is_where_the_docstring_says() -> None:
    settings = {**PLAN, "adam_epsilon": 1e-3, "weight_decay_rate": 0.1}
    plain, ours = torch_run(20, settings, hat=False), keras_run(20, settings)
    assert max(np.abs(plain[path] - ours[path]).max() for path in SHAPES) > 1e-3
    settings["adam_epsilon"] = 1e-12
    plain, ours = torch_run(20, settings, hat=False), keras_run(20, settings)
    assert max(np.abs(plain[path] - ours[path]).max() for path in SHAPES) < 1e-5


@given(
    peak=st.floats(1e-7, 10),
    counts=st.tuples(st.integers(1, 10**6), st.integers(0, 10**6)).map(sorted).filter(lambda pair: pair[1] > 0),
    ratio=st.floats(0, 1),
    power=st.just(0.0) | st.floats(0.25, 4),
    share=st.floats(0, 1.5),
)
def test_the_schedule_is_its_formula(peak: float, counts: list[int], ratio: float, power: float, share: float) -> None:
    warmup, steps = counts
    _, schedule = create_optimizer(peak, steps, warmup, ratio, power=power)
    for step in {int(share * steps), 0, warmup - 1, warmup, warmup + 1, steps, 2 * steps} - {-1}:
        expected = rate(step, peak, steps, warmup, ratio, power)
        # (1 - done) loses what float32 loses, and a small power makes more of it
        done = min(max(step - warmup, 0) / ((steps - warmup) or 1), 1)
        loss = abs((1 - done) ** power - (max(1 - done - 2e-7, 0)) ** power) + 1e-5
        assert float(schedule(step)) == pytest.approx(expected, abs=2 * peak * loss)


@pytest.mark.parametrize("jit", [False, True])
def test_the_schedule_works_in_a_graph(jit: bool) -> None:
    _, schedule = create_optimizer(0.3, 10, 4, min_lr_ratio=0.1, power=2)
    compiled = tf.function(schedule, jit_compile=jit, input_signature=[tf.TensorSpec((), tf.int64)])
    # what transformers 4.57.6 printed for this schedule
    observed = [0, 0.075, 0.15, 0.225, 0.3, 0.2175, 0.15, 0.0975, 0.06, 0.0375, 0.03, 0.03]
    assert [float(compiled(step)) for step in range(12)] == pytest.approx(observed, rel=1e-6)


def test_a_training_that_is_all_warm_up_has_no_nan() -> None:
    _, schedule = create_optimizer(0.3, 4, 4, min_lr_ratio=0.5)
    assert [float(schedule(step)) for step in (0, 2, 4, 5, 9)] == pytest.approx([0, 0.15, 0.3, 0.15, 0.15])


def test_the_warm_up_may_be_a_curve_and_may_lead_anywhere() -> None:
    cosine = keras.optimizers.schedules.CosineDecay(0.4, 5)
    schedule = WarmUp(0.4, cosine, 2, power=2.0)
    assert [float(schedule(step)) for step in range(5)] == pytest.approx(
        [0, 0.1, *(float(cosine(step)) for step in range(3))]
    )
    copy = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert [float(copy(step)) for step in range(9)] == [float(schedule(step)) for step in range(9)]


def test_the_inner_schedule_sees_no_step_before_its_first() -> None:
    seen = []
    schedule = WarmUp(0.4, lambda step: seen.append(float(step)) or 0.1, 2)
    assert [float(schedule(step)) for step in range(4)] == pytest.approx([0, 0.2, 0.1, 0.1])
    assert seen == [0, 0, 0, 1]


def test_without_warm_up_it_is_the_polynomial() -> None:
    _, schedule = create_optimizer(0.3, 10, 0)
    assert isinstance(schedule, keras.optimizers.schedules.PolynomialDecay)


def test_counts_may_come_from_numpy_and_tf_data() -> None:
    count = tf.data.Dataset.range(10).cardinality()
    optimizer, schedule = create_optimizer(np.float32(0.5), count, np.int64(4))
    assert float(schedule(2)) == 0.25
    json.dumps(optimizer.get_config())


def golden_names() -> Iterator[tuple[str, str]]:
    for file in sorted(GOLDEN.glob("Bert*.txt")):
        for line in file.read_text().splitlines():
            if len(parts := line.split(" | ")) > 2:
                yield parts[1].split(" [")[0], parts[2].split(" [")[0].split(" or ")[0].removesuffix(":0")


def test_what_is_decayed_is_what_pytorch_decays() -> None:
    optimizer, _ = create_optimizer(**PLAN, weight_decay_rate=0.1)
    names = list(golden_names())
    seen = set()
    for torch_name, path in names:
        spared = any(word in torch_name for word in ("bias", "LayerNorm.weight"))
        assert optimizer.decays(f"tf_bert_for_masked_lm_1/{path}") is not spared, path
        seen.add(spared)
    assert len(names) > 100
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("path", "decayed"),
    [("debias_model/dense/kernel", True), ("LayerNorm_free/bert/dense/kernel", True), ("kernel", True),
     ("bias", False), ("a/layer_normalization_3/beta", False), ("mlm___cls/predictions/bias", False)],
)  # fmt: skip
def test_the_model_may_have_any_name(path: str, decayed: bool) -> None:
    assert create_optimizer(**PLAN, weight_decay_rate=0.1)[0].decays(path) is decayed


def test_what_is_included_is_decayed_in_any_case() -> None:
    optimizer, _ = create_optimizer(**PLAN, weight_decay_rate=0.1, include_in_weight_decay=["pooler/.*/bias:0"])
    assert optimizer.decays("m/bert/pooler/dense/bias")
    assert not optimizer.decays("m/bert/dense/bias")


def still(optimizer: Any, variables: dict[str, Any]) -> set[str]:
    """Paths that a step with gradients of zero leaves as they are: those without decay."""
    before = {path: variable.numpy() for path, variable in variables.items()}
    optimizer.apply([tf.zeros(variable.shape) for variable in variables.values()], list(variables.values()))
    return {path for path, variable in variables.items() if (variable.numpy() == before[path]).all()}


@pytest.mark.parametrize("wrap", [lambda inner: inner, keras.optimizers.LossScaleOptimizer], ids=["bare", "scaled"])
def test_decay_alone_is_a_factor(wrap: Any) -> None:
    variables = new_variables("float32")
    before = variables["bert/dense/kernel"].numpy()
    optimizer = AdamWeightDecay(0.5, weight_decay_rate=0.25, exclude_from_weight_decay=NO_DECAY)
    assert still(wrap(optimizer), variables) == SPARED
    np.testing.assert_allclose(variables["bert/dense/kernel"].numpy(), before * (1 - 0.5 * 0.25), rtol=1e-6)


def test_without_a_rate_nothing_is_decayed() -> None:
    optimizer, _ = create_optimizer(0.1, 10, 0)
    assert isinstance(optimizer, keras.optimizers.Adam)
    assert optimizer.weight_decay_rate == 0
    assert still(optimizer, new_variables("float32")) == set(SHAPES)


def test_keras_own_way_to_spare_variables_still_works() -> None:
    optimizer, _ = create_optimizer(0.1, 10, 0, weight_decay_rate=0.1)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    assert still(optimizer, new_variables("float32")) == {*SPARED, "bert/dense/kernel"}


def test_plain_tensorflow_variables_go_by_their_name() -> None:
    variables = {"kernel": tf.Variable([2.0, 3.0], name="a/kernel"), "bias": tf.Variable([2.0], name="a/bias")}
    assert still(AdamWeightDecay(0.5, weight_decay_rate=0.25, exclude_from_weight_decay=["bias"]), variables) == {
        "bias"
    }


@pytest.mark.parametrize(
    "options",
    [{}, {"amsgrad": True}, {"gradient_accumulation_steps": 2}, {"use_ema": True, "ema_overwrite_frequency": 3},
     {"clipvalue": 0.01}],
    ids=str,
)  # fmt: skip
def test_where_gradients_are_dense_it_is_keras_own(options: dict[str, Any]) -> None:
    runs = []
    for optimizer in (
        AdamWeightDecay(0.1, weight_decay_rate=0.2, **options),
        keras.optimizers.AdamW(0.1, weight_decay=0.2, epsilon=1e-7, **options),
    ):
        variables = new_variables("float32")
        for each in gradients(6):
            arrays = [tf.constant(dense(gradient), tf.float32) for gradient in each.values()]
            optimizer.apply(arrays, list(variables.values()))
        runs.append([variable.numpy() for variable in variables.values()])
    for ours, theirs in zip(*runs, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


def test_half_precision_moves() -> None:
    variable = keras.Variable([4.0, 8.0], dtype="bfloat16")
    AdamWeightDecay(0.5).apply([tf.constant([2.0, -1.0], tf.bfloat16)], [variable])
    np.testing.assert_allclose(tf.cast(variable.value, tf.float32), [3.5, 8.5], rtol=0.01)


def new_model() -> keras.Model:
    keras.utils.set_random_seed(11)
    model = keras.Sequential(
        [keras.layers.Embedding(13, 6), keras.layers.LayerNormalization(name="LayerNorm"),
         keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(3, name="classifier")]
    )  # fmt: skip
    model.build((None, 4))
    return model


def compiled(model: keras.Model, **options: Any) -> keras.Model:
    optimizer, _ = create_optimizer(0.1, 12, 3, weight_decay_rate=0.2, include_in_weight_decay=["classifier/bias"])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    return model


def data() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    return random.integers(0, 13, (8, 4)), random.integers(0, 3, 8)


def weights_after(model: keras.Model, epochs: int) -> list[np.ndarray]:
    model.fit(*data(), batch_size=4, epochs=epochs, shuffle=False, verbose=0)
    return [variable.numpy() for variable in model.weights]


def test_fit_is_the_same_under_xla() -> None:
    pairs = zip(
        weights_after(compiled(new_model(), run_eagerly=True), 3),
        weights_after(compiled(new_model(), jit_compile=True), 3),
        strict=True,
    )
    for plain, fast in pairs:
        np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")  # Keras 3.15 with numpy 2.4
def test_training_goes_on_after_saving(tmp_path: Path) -> None:
    whole = weights_after(compiled(new_model()), 5)
    model = compiled(new_model())
    weights_after(model, 2)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert type(again.optimizer) is AdamWeightDecay
    for part, one in zip(weights_after(again, 3), whole, strict=True):
        np.testing.assert_allclose(part, one, rtol=1e-5, atol=1e-6)


def test_the_config_is_json_and_comes_back() -> None:
    optimizer, _ = create_optimizer(
        0.1, 12, 3, 0.1, 0.8, 0.95, 1e-6, 2.0, weight_decay_rate=0.2, power=2, include_in_weight_decay=["x"]
    )
    saved = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    again = keras.optimizers.deserialize(saved)
    assert again.get_config() == optimizer.get_config()
    assert again.decays("ax/bias")
    assert not again.decays("a/bias")
    assert (again.weight_decay_rate, again.clipnorm, again.epsilon) == (0.2, 2.0, 1e-6)


REPLICAS = """
import sys
import keras, numpy as np, tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, sys.argv[1])
import test_optimization as here
alone = here.weights_after(here.compiled(here.new_model()), 3)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = here.compiled(here.new_model())
for one, both in zip(alone, here.weights_after(model, 3), strict=True):
    np.testing.assert_allclose(both, one, rtol=1e-4, atol=1e-5)
print("replicas", strategy.num_replicas_in_sync)
"""


def test_two_replicas_train_as_one(warm: WarmPython) -> None:
    here = Path(__file__).parent
    done = warm.run("-c", REPLICAS, here, folder=here, places=(here.parent,))
    assert "replicas 2" in done.stdout, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"num_train_steps": 0, "num_warmup_steps": 0}, "0 training steps"),
        ({"num_train_steps": -2, "num_warmup_steps": 0}, "-2 training steps"),
        ({"num_warmup_steps": 18}, "18 warm-up steps of 17"),
        ({"num_warmup_steps": -1}, "-1 warm-up steps"),
        ({"num_train_steps": float("nan")}, "nan training steps"),
        ({"adam_clipnorm": 1.0, "adam_global_clipnorm": 1.0}, "both"),
        ({"init_lr": float("nan")}, "init_lr"),
        ({"min_lr_ratio": -0.1}, "min_lr_ratio"),
        ({"weight_decay_rate": -0.1}, "weight_decay_rate"),
        ({"weight_decay_rate": 0.1, "include_in_weight_decay": ["layer["]}, "regular expression"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(change: dict[str, Any], part: str) -> None:
    with pytest.raises(RequestError, match=part) as refusal:
        create_optimizer(**{**PLAN, **change})
    assert refusal.value.hint
