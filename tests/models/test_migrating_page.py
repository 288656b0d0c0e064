"""docs/migrating.md: every line of its tables is true, what it says to write works, and its Python runs."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hub_endpoint
import keras
import migrating_compiled  # noqa: F401  (registers its cases, as the next one does)
import migrating_saved  # noqa: F401
import pytest
from migrating_page import CASES, ROWS, TEXT, Row, missing_code, tables
from tiny_models import inputs, labels
from trained_models import CLASSIFIER, compiled, make

import bertconv

sys.path.insert(0, str(Path(__file__).parents[1] / "source"))  # the Hub of the tests lies there

from hub_writes import WritableHub

TESTS = Path(__file__).parents[1]

pytestmark = pytest.mark.filterwarnings(  # Keras 3.15 and TensorFlow 2.21 on NumPy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def test_every_row_has_a_case_and_every_case_a_row() -> None:
    assert len(ROWS) > 40
    assert sorted(row.program for row in ROWS) == sorted(CASES)


@pytest.mark.parametrize("row", ROWS, ids=[row.program for row in ROWS])
def test_row(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case = CASES[row.program]
    assert missing_code(row, case) == []
    case(row)
    assert row.expected == []


def test_names_are_where_the_page_says() -> None:
    import transformers

    places = {"bertconv": bertconv, "transformers": transformers}
    found = 0
    for names, place in tables(("name in 4.57", "where it is now")):
        for name in re.findall(r"`(\w+)`", names):
            assert hasattr(places[re.findall(r"`(\w+)`", place)[0]], name), name
            found += 1
    assert found > 10


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[WritableHub, None, None]:
    """In place of the real one."""
    yield from hub_endpoint.writable(WritableHub(), tmp_path, monkeypatch)


@pytest.mark.filterwarnings("ignore:Use 'content=<...>'")  # huggingface_hub 2.4 to its HTTP library
def test_every_block_of_the_page_runs(hub: WritableHub) -> None:
    model = compiled(optimizer=keras.optimizers.SGD(0.01))
    names: dict[str, Any] = {"model": model, "x": inputs(CLASSIFIER), "y": labels(CLASSIFIER)["labels"]}
    for block in re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE):
        exec(block, names)
    assert names["history"].epoch == [0, 1]
    assert "tf_model.h5" in hub.files("me/tuned")


TESTED = {
    "`model.safetensors` of PyTorch": "models/test_loading.py::test_every_format",
    "nothing in the file fits": "models/test_loading.py::test_no_bert",
    "`tie_word_embeddings=False`": "models/test_loading.py::test_untied_decoder",
    "`position_embedding_type`": "models/test_attention.py::test_relative_positions",
    "3-D and 4-D masks, `head_mask`": "models/test_attention.py::test_masks_of_three_axes test_masks_of_four_axes "
    "test_head_mask_scales_what_a_head_contributes",
    "the pad token's vector": "models/test_gradients.py::test_the_padding_row",
    "hidden positions": "models/test_attention.py::test_masked_positions_cannot_be_seen",
    "`encoder_hidden_states` for a model that is no decoder":
        "models/test_attention.py::test_encoder_states_need_a_decoder",
    "cache with `return_dict=False`": "models/test_attention.py::test_where_a_cache_stands_in_a_tuple",
    "`classifier_dropout` in multiple choice, `problem_type`":
        "models/test_training_steps.py::test_classifier_dropout_of_multiple_choice test_problem_types",
    "-100 in sequence classification and multiple choice": "models/test_losses.py::test_losses_of_rows",
    "QA positions behind the end": "models/test_losses.py::test_answers_outside_the_sequence_are_ignored",
    "NSP loss where some labels are -100": "models/test_losses.py::test_losses_of_rows",
    "class ids as floats with a fraction": "models/test_losses.py::test_class_ids_as_floats_are_whole_numbers",
    "other negative labels": "models/test_losses.py::test_class_ids_that_are_no_classes_raise",
    "`fit` without a computable loss": "models/test_training.py::test_no_loss_is_refused",
    "TensorFlow save of a model built by `build()`, named, or nested":
        "models/test_save_pretrained.py::test_names_do_not_depend_on_how_a_model_is_used",
    "layers that nobody named, saved and loaded in one process":
        "models/test_counted_names.py::test_back_in_the_same_process",
    "a config that no longer describes the weights (`num_labels`, `id2label` of another length)":
        "models/test_save_pretrained.py::test_config_that_was_changed_afterwards",
    "shards of an earlier save": "models/test_save_pretrained.py::test_stale_shards_go_and_other_files_stay",
    "RoBERTa-PreLayerNorm: the last of `hidden_states`":
        "models/test_families_against_transformers.py::test_every_output",
    "activations": "models/test_activations.py::test_the_names_are_those_of_the_config",
    "more layers than the file has": "models/test_loading.py::test_layers_that_are_not_there",
    "names in `output_loading_info`": "models/test_loading.py::test_half_a_head",
    "loading that went well": "models/test_loading.py::test_every_format",
    "the Hub is down, and its files are in the cache": "models/test_loading.py::test_hub_that_is_down",
    "weights drawn anew, shapes that did not match":
        "models/test_loading.py::test_half_a_head test_another_number_of_labels",
    "config values that no model can have (`hidden_size=0`; 37 with 12 heads; `pruned_heads`)":
        "test_config.py::test_heads_divide_the_hidden_size test_sizes_are_whole_numbers",
    "config values that JSON has not (`torch.float16`, tuples)":
        "models/test_from_4_57.py::test_config_values_are_those_of_its_file",
    "the model's `_get_word_embedding_weight`": "models/test_migrating_page.py::test_names_that_are_absent",
}  # fmt: skip
"""Row of "Values that differ" -> the tests that hold it; the file, and its functions."""


def test_every_difference_has_a_test() -> None:
    assert [row[0] for row in tables(("what", "transformers 4.57", "here"))] == list(TESTED)
    for place in TESTED.values():
        file, _, names = place.partition("::")
        tree = ast.parse((TESTS / file).read_text())
        assert {*names.split()} <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, place


def test_names_that_are_absent() -> None:
    assert not hasattr(make(), "_get_word_embedding_weight")
