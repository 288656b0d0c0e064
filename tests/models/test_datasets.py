"""Tables to batches: which columns, padded how, in which order; what is wrong said in a sentence."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer, DataCollatorForTokenClassification
from warm_python import WarmPython

from bertconv.errors import RequestError
from bertconv.models.datasets import prepare_tf_dataset

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "inputs_embeds", "return_dict", "labels", "training")
LABELS = ("labels",)
ROWS = [[2, 11, 3], [2, 12, 13, 14, 3], [2, 3], [2, 15, 16, 3], [2, 17, 18, 19, 20, 3]]
TABLE = {
    "text": ["a", "b c d", "", "e f", "g h i j"],
    "input_ids": ROWS,
    "attention_mask": [[1] * len(row) for row in ROWS],
    "label": [1, 0, 2, 1, 0],
}


class Table:
    """What `datasets.Dataset` looks like from outside."""

    def __init__(self, columns: dict[str, list[Any]], reads: list[Any] | None = None) -> None:
        self.columns_by_name = columns
        self.reads = [] if reads is None else reads

    @property
    def column_names(self) -> list[str]:
        return list(self.columns_by_name)

    @property
    def features(self) -> dict[str, str]:
        return dict.fromkeys(self.columns_by_name, "Value")

    def __len__(self) -> int:
        return len(next(iter(self.columns_by_name.values())))

    def __getitem__(self, key: Any) -> Any:
        self.reads.append((self.column_names, key))
        if isinstance(key, str):
            return self.columns_by_name[key]
        if isinstance(key, int):
            return {name: column[key] for name, column in self.columns_by_name.items()}
        assert all(type(row) is int for row in key)
        return {name: [column[row] for row in key] for name, column in self.columns_by_name.items()}

    def select_columns(self, names: list[str]) -> Table:
        return type(self)({name: self.columns_by_name[name] for name in names}, self.reads)


class OldTable:
    """An older one: `features` and nothing to select by."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.features = dict.fromkeys(columns, "Value")
        self.inner = Table(columns)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, key: Any) -> Any:
        return self.inner[key]


class Rows:
    """As a map-style data set of torch: rows by number and nothing else."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.rows[number]


SOURCES = {
    "datasets.Dataset": Table,
    "old datasets.Dataset": OldTable,
    "torch Dataset": Rows,
    "dict": dict,
    "BatchEncoding": UserDict,
    "list of dicts": lambda columns: Rows(columns).rows,
    "tuple of dicts": lambda columns: tuple(Rows(columns).rows),
    "arrays": lambda columns: {name: [np.asarray(value) for value in column] for name, column in columns.items()},
    "object arrays": lambda columns: {name: as_objects(column) for name, column in columns.items()},
    "torch tensors": lambda columns: {
        name: [torch.tensor(value) for value in column] for name, column in columns.items() if name != "text"
    },
    "tensorflow tensors": lambda columns: {name: [tf.constant(value) for value in c] for name, c in columns.items()},
}


def as_objects(column: list[Any]) -> np.ndarray:
    out = np.empty(len(column), object)
    out[:] = column
    return out


def batches(dataset: Any, **options: Any) -> list[Any]:
    options = {"shuffle": False, **options}
    inputs, labels = options.pop("inputs", INPUTS), options.pop("labels", LABELS)
    return list(prepare_tf_dataset(inputs, labels, dataset, **options).as_numpy_iterator())


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_kind_of_table_gives_the_same_batches(source: Any) -> None:
    first, second = batches(source(TABLE), batch_size=3)
    features, labels = first
    assert features.keys() == {"input_ids", "attention_mask"}
    np.testing.assert_array_equal(features["input_ids"], [[2, 11, 3, 0, 0], [2, 12, 13, 14, 3], [2, 3, 0, 0, 0]])
    np.testing.assert_array_equal(features["attention_mask"], [[1, 1, 1, 0, 0], [1] * 5, [1, 1, 0, 0, 0]])
    np.testing.assert_array_equal(labels, [1, 0, 2])
    assert second[0]["input_ids"].shape == (2, 6)
    np.testing.assert_array_equal(second[1], [1, 0])


def test_a_data_set_is_read_in_batches_and_only_what_is_needed() -> None:
    table = Table(TABLE)
    batches(table, batch_size=3)
    names = ["input_ids", "attention_mask", "label"]
    assert table.reads == [(names, [0, 1]), (names, [0, 1, 2]), (names, [3, 4])]


def test_the_specification_fixes_types_and_no_sizes() -> None:
    table = {**TABLE, "inputs_embeds": np.ones((5, 4, 3), np.float64), "token_type_ids": np.zeros((5, 4), np.uint8)}
    data = prepare_tf_dataset(INPUTS, LABELS, table, batch_size=2)
    assert data.element_spec == (
        {
            "input_ids": tf.TensorSpec((None, None), tf.int64),
            "attention_mask": tf.TensorSpec((None, None), tf.int64),
            "token_type_ids": tf.TensorSpec((None, None), tf.int64),
            "inputs_embeds": tf.TensorSpec((None, None, None), tf.float32),
        },
        tf.TensorSpec((None,), tf.int64),
    )
    for features, labels in data:
        tf.nest.map_structure(lambda value, spec: spec.is_compatible_with(value) or pytest.fail(str(spec)),
                              (features, labels), data.element_spec)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "sizes"),
    [({"batch_size": 2}, [2, 2, 1]), ({"batch_size": 2, "drop_remainder": True}, [2, 2]), ({"batch_size": 5}, [5]),
     ({"batch_size": 2, "shuffle": True}, [2, 2]), ({}, [5]), ({"batch_size": 9}, [5]),
     ({"batch_size": 3, "shuffle": True, "drop_remainder": False, "prefetch": False}, [3, 2])],
)  # fmt: skip
def test_the_length_is_known(options: dict[str, Any], sizes: list[int]) -> None:
    data = prepare_tf_dataset(INPUTS, LABELS, TABLE, **{"shuffle": False, **options})
    assert len(data) == len(sizes)
    assert [len(labels) for _, labels in data] == sizes


def epochs(count: int = 3) -> list[list[int]]:
    keras.utils.set_random_seed(23)
    table = {"input_ids": np.arange(40)[:, None], "labels": np.arange(40)}
    data = prepare_tf_dataset(INPUTS, LABELS, table, batch_size=7, drop_remainder=False)
    return [[int(label) for _, labels in data for label in labels] for _ in range(count)]


def test_each_epoch_has_another_order_and_every_row_once() -> None:
    orders = epochs()
    assert all(sorted(order) == list(range(40)) for order in orders)
    assert len({tuple(order) for order in [*orders, range(40)]}) == 4
    assert epochs() == orders


@pytest.mark.parametrize(
    ("columns", "labels", "expected"),
    [
        (["input_ids"], LABELS, None),
        (["input_ids", "label"], LABELS, "labels"),
        (["input_ids", "label_ids"], LABELS, "labels"),
        (["input_ids", "labels"], LABELS, "labels"),
        (["input_ids", "label"], ("next_sentence_label",), None),
        (["input_ids", "next_sentence_label", "label"], ("next_sentence_label",), "next_sentence_label"),
        (["input_ids", "label", "labels", "label_ids"], LABELS, "labels"),
        (["input_ids", "start_positions", "end_positions"], ("start_positions", "end_positions"), "both"),
    ],
)
def test_labels_go_apart(columns: list[str], labels: tuple[str, ...], expected: str | None) -> None:
    values = {name: [number, number + 1] for number, name in enumerate(columns)}
    table = {**values, "input_ids": [[5], [6]], "idx": [0, 1]}
    (batch,) = batches(table, labels=labels, inputs=("input_ids", *labels))
    features, found = batch if expected else (batch, None)
    assert list(features) == ["input_ids"]
    if expected == "both":
        assert {name: list(value) for name, value in found.items()} == {
            "start_positions": [1, 2],
            "end_positions": [2, 3],
        }
    elif expected:
        source = expected if expected in values else columns[1]
        assert found.tolist() == values[source]


def test_floats_are_labels_too() -> None:
    (_, scores), = batches({"input_ids": [[5], [6], [7]], "label": [3, 2.5, 0]})  # fmt: skip
    assert (scores.dtype, scores.tolist()) == (np.float32, [3, 2.5, 0])
    kinds = {labels.dtype for _, labels in batches({"input_ids": [[5], [6], [7]], "label": [3, 2, 0.5]}, batch_size=1)}
    assert kinds == {np.dtype(np.float32)}  # which the first rows alone would not have shown
    (_, classes), = batches({"input_ids": [[5], [6]], "labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]})  # fmt: skip
    assert (classes.dtype, classes.shape) == (np.float32, (2, 3))
    (_, flags), = batches({"input_ids": [[5], [6]], "labels": [True, False]})  # fmt: skip
    assert (flags.dtype, flags.tolist()) == (np.int64, [1, 0])


ragged = st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1, max_size=9)


def padded(rows: list[list[int]], fill: int) -> list[list[int]]:
    longest = max(map(len, rows))
    return [row + [fill] * (longest - len(row)) for row in rows]


@settings(max_examples=40, deadline=None)
@given(rows=ragged, size=st.integers(1, 9), kind=st.sampled_from(["dict", "datasets.Dataset", "object arrays"]))
def test_rows_are_padded_to_the_longest_of_their_batch(rows: list[list[int]], size: int, kind: str) -> None:
    table = SOURCES[kind]({"input_ids": rows, "labels": rows})
    found = batches(table, batch_size=size)
    chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
    for (features, labels), chunk in zip(found, chunks, strict=True):
        assert features["input_ids"].tolist() == padded(chunk, 0)
        assert labels.tolist() == padded(chunk, -100)
        assert features["input_ids"].dtype == labels.dtype == np.int64


def test_choices_are_padded_on_every_level() -> None:
    rows = [[[2, 5, 3], [2, 3]], [[2, 7, 8, 9, 3], [2, 6, 3], [2, 3]]]
    (features, labels), = batches({"input_ids": rows, "labels": [1, 0]})  # fmt: skip
    assert features["input_ids"].tolist() == [
        [[2, 5, 3, 0, 0], [2, 3, 0, 0, 0], [0] * 5],
        [[2, 7, 8, 9, 3], [2, 6, 3, 0, 0], [2, 3, 0, 0, 0]],
    ]
    assert labels.tolist() == [1, 0]


def test_embeddings_are_padded_too() -> None:
    random = np.random.default_rng(1)
    rows = [random.normal(size=(size, 3)) for size in (2, 4)]
    (features,) = batches({"inputs_embeds": rows})
    expected = np.zeros((2, 4, 3), np.float32)
    expected[0, :2], expected[1] = rows
    np.testing.assert_array_equal(features["inputs_embeds"], expected)


def test_no_mask_is_made_up() -> None:
    (features,) = batches({"input_ids": ROWS})
    assert list(features) == ["input_ids"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join(["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]", *"abcdefghij"]))
    tokenizer = BertTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token_id == 4
    return tokenizer


@pytest.fixture(params=["right", "left"])
def side(request: pytest.FixtureRequest, tokenizer: BertTokenizer) -> Iterator[str]:
    before = tokenizer.padding_side
    tokenizer.padding_side = request.param
    yield request.param
    tokenizer.padding_side = before


@pytest.mark.usefixtures("side")
@pytest.mark.parametrize("kind", ["datasets.Dataset", "dict", "arrays", "object arrays", "tensorflow tensors"])
def test_a_tokenizer_pads_its_own_way(kind: str, tokenizer: BertTokenizer) -> None:
    encoded = dict(tokenizer(TABLE["text"]))
    table = {**TABLE, **encoded, "labels": [[9] * len(row) for row in encoded["input_ids"]]}
    (features, labels), = batches(SOURCES[kind](table), tokenizer=tokenizer)  # fmt: skip
    expected = tokenizer(TABLE["text"], padding=True, return_tensors="np")
    assert features.keys() == expected.keys() == {"input_ids", "attention_mask", "token_type_ids"}
    for name, values in expected.items():
        np.testing.assert_array_equal(features[name], values, err_msg=name)
    np.testing.assert_array_equal(labels, np.where(expected["attention_mask"], 9, -100))


@pytest.mark.usefixtures("side")
def test_a_tokenizer_makes_the_mask(tokenizer: BertTokenizer) -> None:
    encoded = tokenizer(TABLE["text"])
    (features,) = batches({"input_ids": encoded["input_ids"]}, tokenizer=tokenizer)
    expected = tokenizer(TABLE["text"], padding=True, return_tensors="np")
    np.testing.assert_array_equal(features["attention_mask"], expected["attention_mask"])
    (without,) = batches({"input_ids": encoded["input_ids"]}, tokenizer=tokenizer, inputs=("input_ids",))
    assert list(without) == ["input_ids"]


def test_a_collator_of_transformers_works(tokenizer: BertTokenizer) -> None:
    encoded = tokenizer(TABLE["text"])
    table = Table({**TABLE, **encoded, "labels": [[9] * len(row) for row in encoded["input_ids"]]})
    collate = DataCollatorForTokenClassification(tokenizer, return_tensors="np", label_pad_token_id=-7)
    (features, labels), = batches(table, collate_fn=collate, tokenizer=object())  # fmt: skip
    np.testing.assert_array_equal(labels, np.where(features["attention_mask"], 9, -7))


@pytest.mark.parametrize("kind", ["datasets.Dataset", "old datasets.Dataset", "torch Dataset", "dict", "list of dicts"])
def test_a_collator_gets_rows_and_arguments_and_may_make_labels(kind: str) -> None:
    seen = []

    def collate(rows: list[dict[str, Any]], *, add: int) -> dict[str, Any]:
        seen.append(rows)
        ids = np.array([row["input_ids"][0] for row in rows])
        return {"input_ids": torch.tensor(ids[:, None]), "labels": ids + add, "label": ids, "unknown": ids}

    (features, labels), = batches(SOURCES[kind](TABLE), collate_fn=collate, collate_fn_args={"add": 5})  # fmt: skip
    assert seen[-1][2] == {"input_ids": [2, 3], "attention_mask": [1, 1], "label": 2}
    assert list(features) == ["input_ids"]
    assert labels.tolist() == [7] * 5


def test_a_single_row_is_enough() -> None:
    (features, labels), = batches({"input_ids": [[4, 5]], "label": [1]})  # fmt: skip
    assert features["input_ids"].tolist() == [[4, 5]]
    assert labels.tolist() == [1]


def test_rows_that_begin_empty_stay_whole_numbers() -> None:
    (features,) = batches({"input_ids": [[], [], [7]]})
    assert (features["input_ids"].dtype, features["input_ids"].tolist()) == (np.int64, [[0], [0], [7]])


def model() -> keras.Model:
    keras.utils.set_random_seed(3)
    ids, mask = (keras.Input((None,), dtype="int32", name=name) for name in ("input_ids", "attention_mask"))
    vectors = keras.layers.Embedding(21, 4)(ids)
    pooled = keras.layers.GlobalAveragePooling1D()(vectors, mask=keras.ops.cast(mask, "bool"))
    model = keras.Model({"input_ids": ids, "attention_mask": mask}, keras.layers.Dense(3)(pooled))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_fit_takes_it() -> None:
    data = prepare_tf_dataset(INPUTS, LABELS, Table(TABLE), batch_size=2, drop_remainder=False)
    history = model().fit(data, epochs=2, verbose=0, validation_data=data, shuffle=False)
    assert np.isfinite(history.history["val_loss"]).all()
    assert model().predict(data, verbose=0).shape == (5, 3)


REPLICAS = """
import sys
import numpy as np, tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, sys.argv[1])
import test_datasets as here
table = {name: column[:4] for name, column in here.TABLE.items()}
make = lambda: here.prepare_tf_dataset(here.INPUTS, here.LABELS, table, batch_size=4, shuffle=False)
alone = here.model().fit(make(), verbose=0)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    both = here.model()
np.testing.assert_allclose(both.fit(make(), verbose=0).history["loss"], alone.history["loss"], rtol=1e-5)
print("equal")
"""


def test_two_replicas_share_a_batch(warm: WarmPython) -> None:
    here = Path(__file__).parent
    done = warm.run("-c", REPLICAS, here, folder=here, places=(here.parent,))
    assert "equal" in done.stdout, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("dataset", "part"),
    [
        (Table({"text": ["a"], "label": [1]}), "the data has text, label"),
        ({"train": Table(TABLE), "test": Table(TABLE)}, "train, test"),
        ({"labels": [1]}, "None of the columns"),
        ({"input_ids": [[1], [2]], "labels": [1]}, "input_ids has 2, labels has 1"),
        ({"input_ids": []}, "no rows"),
        (Table({"input_ids": []}), "no rows"),
        ([], "list is not a table"),
        ([[1, 2], [3, 4]], "list is not a table"),
        ("text", "str is not a table"),
        (7, "int is not a table"),
        (tf.data.Dataset.range(3), "not a table"),
        (iter([{"input_ids": [1]}]), "not a table"),
        ([{"input_ids": [1]}, {"input_ids": [1], "labels": 2}], "Row 1 has the columns input_ids, labels"),
        ({"input_ids": [["a", "b"]]}, "input_ids does not hold numbers"),
        (
            {"input_ids": [[1], [2]], "label": ["good", "bad"]},
            "label does not hold numbers|labels does not hold numbers",
        ),
        ({"input_ids": [[1], [2]], "label": [1, None]}, "labels does not hold numbers"),
        ({"input_ids": [[1, None], [2]]}, "input_ids does not hold numbers"),
        ({"input_ids": [[1], [2]], "labels": 7}, "labels is a int"),
        ({"input_ids": [[1], 2]}, "nested to different depths"),
    ],
)
def test_what_is_no_table_is_refused(dataset: Any, part: str) -> None:
    with pytest.raises(RequestError, match=part) as refusal:
        batches(dataset)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": True}, "batch_size=True"),
        ({"batch_size": 2.0}, "batch_size=2.0"),
        ({"batch_size": 6, "shuffle": True}, "has 5 rows and a batch 6"),
        ({"collate_fn": list}, "collate_fn made a list"),
        ({"collate_fn": lambda rows: {"labels": [1] * len(rows), "idx": rows}}, "collate_fn made labels, idx, which"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], part: str) -> None:
    with pytest.raises(RequestError, match=part) as refusal:
        batches(TABLE, **options)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ({"input_ids": [[1], [2], [2.5]]}, "not the same in all rows: 2 axes of float64"),
        ({"input_ids": [[1], [2], [[3]]]}, "not the same in all rows: 3 axes"),
        ({"input_ids": [[1], [2], [None]]}, "input_ids does not hold numbers"),
        ({"input_ids": [[1], [2], [3]], "labels": [1.5, 2.5, "3.5"]}, "labels does not hold numbers"),
    ],
)
def test_what_shows_only_later_is_said_later(table: dict[str, Any], part: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=part):
        batches(table, batch_size=1)


def test_a_column_that_goes_missing_is_named() -> None:
    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        names = ["input_ids", "labels"] if len(rows) == 2 else ["input_ids"]
        return dict.fromkeys(names, np.ones((len(rows), 1), int))

    with pytest.raises(tf.errors.InvalidArgumentError, match="A batch lacks the column labels"):
        batches(TABLE, batch_size=3, collate_fn=collate)
