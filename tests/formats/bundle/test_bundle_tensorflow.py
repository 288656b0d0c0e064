"""Tensor bundles and TensorFlow: what either writes, the other reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from bundles import elements, numbers, open_bundle, write

from bertconv.containers.bundle import Bundle, ObjectBundle
from bertconv.containers.stored import ITEM_SIZE, StoredTensor
from bertconv.errors import DamagedCheckpoint

tf = pytest.importorskip("tensorflow")

PREFIX = "bert_model.ckpt"
KINDS = sorted(set(ITEM_SIZE) - {"float8_e4m3fn", "float8_e5m2"})
"""Element types that have variables in TensorFlow."""


@contextmanager
def tensors(prefix: Path) -> Iterator[dict[str, StoredTensor]]:
    with closing(open_bundle(prefix)) as header:
        yield {tensor.name: tensor for tensor in header.tensors}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By the Saver of TensorFlow 1: every element type, and variables in parts along either axis."""
    folder, v1 = tmp_path_factory.mktemp("saved"), tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        for number, kind in enumerate(KINDS):
            v1.get_variable(f"all/{kind}", initializer=tf.constant(numbers((number + 1, 3), kind), kind))
        for axis, name in enumerate(("rows", "columns")):
            parts = v1.fixed_size_partitioner(3, axis=axis)
            value = v1.random_normal_initializer(seed=axis)
            v1.get_variable(name, shape=(10, 7), partitioner=parts, initializer=value, dtype="float32")
        v1.get_variable("none", shape=(0, 4))
        v1.train.get_or_create_global_step()
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(folder / PREFIX))
    return folder / PREFIX


def held_to_tensorflow(prefix: Path) -> set[str]:
    """Every tensor as TensorFlow reads it; the names."""
    reader = tf.train.load_checkpoint(str(prefix))
    with tensors(prefix) as found:
        for name, tensor in found.items():
            expected = reader.get_tensor(name)
            assert (tensor.dtype, tensor.shape) == (expected.dtype.name, expected.shape), name
            assert elements(tensor) == expected.tobytes(), name
    return set(found)


def test_what_the_saver_of_tensorflow_1_writes(saved: Path) -> None:
    names = held_to_tensorflow(saved)
    assert names == {*(f"all/{kind}" for kind in KINDS), "rows", "columns", "none"}
    with closing(open_bundle(saved)) as header:
        assert header.others == ("global_step",)
        assert header.notes == ("2 tensors were saved in slices",)


def test_pieces_of_a_tensor_in_slices(saved: Path) -> None:
    expected = tf.train.load_checkpoint(str(saved)).get_tensor("columns").tobytes()
    with tensors(saved) as found:
        for start, length in ((0, 1), (5, 30), (27, 29), (279, 1), (0, 280)):
            buffer = bytearray(length)
            found["columns"].read_into(memoryview(buffer), start)
            assert buffer == expected[start : start + length]


def test_several_files_that_tensorflow_merged(tmp_path: Path) -> None:
    prefixes = [str(tmp_path / f"part{number}") for number in range(3)]
    for number, prefix in enumerate(prefixes):
        value = tf.constant(numbers((number + 2, 5), "float32", number))
        tf.raw_ops.SaveV2(prefix=prefix, tensor_names=[f"t{number}"], shape_and_slices=[""], tensors=[value])
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=prefixes, destination_prefix=str(tmp_path / PREFIX))
    assert len(list(tmp_path.glob(f"{PREFIX}.data-*-of-00003"))) == 3
    assert held_to_tensorflow(tmp_path / PREFIX) == {"t0", "t1", "t2"}


def test_a_checkpoint_of_objects_has_the_names_of_its_variables(tmp_path: Path) -> None:
    """Whatever is around them, under two names, in a circle, with an optimizer's state beside."""
    inner, outer = tf.Module(), tf.Module()
    inner.kernel = tf.Variable(numbers((3, 4), "float32"), name="bert/dense/kernel")
    outer.again, outer.layers = inner, [inner, tf.Module()]
    outer.layers[1].bias = tf.Variable(numbers((4,), "float32"), name="bert/dense/bias")
    outer.layers[1].up = outer
    outer.optimizer = tf.Module()
    outer.optimizer.m = tf.Variable(numbers((3, 4), "float32"), name="m")
    outer.optimizer.kernels = [inner.kernel]
    tf.train.Checkpoint(model=outer, optimizer=outer.optimizer, words=tf.Variable(["a", "bc"])).save(tmp_path / "c")
    with tensors(tmp_path / "c-1") as found:
        assert {name: elements(tensor) for name, tensor in found.items()} == {
            "bert/dense/kernel": inner.kernel.numpy().tobytes(),
            "bert/dense/bias": outer.layers[1].bias.numpy().tobytes(),
        }
    with closing(open_bundle(tmp_path / "c-1")) as header:
        end = "/.ATTRIBUTES/VARIABLE_VALUE"
        assert header.others == tuple(sorted(f"{one}{end}" for one in ("optimizer/m", "save_counter", "words")))


def test_two_models_in_one_checkpoint_stay_apart(tmp_path: Path) -> None:
    values = {name: numbers((2, number + 2), "float32", number) for number, name in enumerate(("student", "teacher"))}
    modules = {name: tf.Module() for name in values}
    for name, module in modules.items():
        module.kernel = tf.Variable(values[name], name="kernel")
    tf.train.Checkpoint(**modules).write(tmp_path / "both")
    with tensors(tmp_path / "both") as found:
        assert {name: elements(tensor) for name, tensor in found.items()} == {
            f"{name}/kernel": value.tobytes() for name, value in values.items()
        }


def test_a_model_that_is_exported_under_two_keys_is_one(tmp_path: Path) -> None:
    """As Keras 3 exports one: the same variables, as `variables` and as `_all_variables`."""
    value = numbers((3, 4), "float32")
    one, other = (tf.Module() for _ in range(2))
    one.v, other.v = (tf.Variable(value, name="dense/kernel") for _ in range(2))
    tf.train.Checkpoint(variables=one, _all_variables=other).write(tmp_path / "m")
    with tensors(tmp_path / "m") as found:
        assert list(found) == ["dense/kernel"]


@pytest.mark.parametrize("limit", [1 << 40, 64])
def test_tensorflow_reads_what_is_written(limit: int, tmp_path: Path) -> None:
    values = {
        f"all/{kind}": numbers((number + 2, 3), kind) for number, kind in enumerate(KINDS) if kind != "complex128"
    }
    write(tmp_path / "out", values, Bundle(), limit)
    reader = tf.train.load_checkpoint(str(tmp_path / "out"))
    assert set(reader.get_variable_to_shape_map()) == set(values)
    for name, value in values.items():
        assert reader.get_tensor(name).tobytes() == value.tobytes(), name
    assert held_to_tensorflow(tmp_path / "out" / PREFIX) == set(values)


@pytest.mark.parametrize("limit", [1 << 40, 30])
def test_tensorflow_restores_objects_and_asks_for_nothing_more(limit: int, tmp_path: Path) -> None:
    values = {"encoder/kernel": numbers((3, 4), "float32", 1), "encoder/output_bias.Sbias": numbers((4,), "float32", 2)}
    write(tmp_path / "out", values, ObjectBundle(), limit)
    module = tf.Module()
    module.kernel = tf.Variable(np.zeros((3, 4), "f4"))
    setattr(module, "output_bias/bias", tf.Variable(np.zeros(4, "f4")))
    checkpoint = tf.train.Checkpoint(encoder=module)
    checkpoint.restore(tf.train.latest_checkpoint(tmp_path / "out")).assert_consumed()
    assert module.kernel.numpy().tobytes() == values["encoder/kernel"].tobytes()
    assert getattr(module, "output_bias/bias").numpy().tobytes() == values["encoder/output_bias.Sbias"].tobytes()
    assert checkpoint.save(tmp_path / "out" / "again").endswith("again-2")


def change(prefix: Path) -> None:
    file = prefix.with_name(f"{prefix.name}.data-00000-of-00001")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def test_both_refuse_what_was_changed(tmp_path: Path) -> None:
    """The checksum that we write is TensorFlow's."""
    write(tmp_path / "out", {"kernel": numbers((30, 4), "float32")}, Bundle())
    change(tmp_path / "out" / PREFIX)
    with pytest.raises(tf.errors.OpError, match="Checksum does not match"):
        tf.train.load_checkpoint(str(tmp_path / "out")).get_tensor("kernel")
    with pytest.raises(DamagedCheckpoint, match="differs from its checksum"):
        open_bundle(tmp_path / "out" / PREFIX)
