"""SavedModels and checkpoints of TensorFlow 2 as sources: where they lie, whose config they have, what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from checkpoints import (
    POOLER,
    assert_same,
    keras_name,
    read_safetensors,
    save,
    save_weights,
    state_dict,
    tf_state,
    write_config,
)

from bertconv import convert_checkpoint
from bertconv.errors import BertconvError, DamagedCheckpoint, MappingError, UnsafeCheckpoint, UnsupportedCheckpoint
from bertconv.source import SourceOptions, open_source

HEAD = "BertForMaskedLM"
ANYTHING = b"\xff\x00 no protocol buffer of any kind"
"""A graph that nobody may read."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of TensorFlow, whose files a SavedModel would call variables."""
    folder = tmp_path_factory.mktemp("made")
    source = save(folder / "pt", HEAD, state_dict(HEAD))
    convert_checkpoint(source, folder / "tf1", to="tf1")
    return folder


def saved_model(folder: Path, bundle: Path) -> Path:
    """A SavedModel with these weights, and without a config."""
    (folder / "variables").mkdir(parents=True)
    for name in ("index", "data-00000-of-00001"):
        shutil.copy(bundle / "tf1" / f"bert_model.ckpt.{name}", folder / "variables" / f"variables.{name}")
    (folder / "saved_model.pb").write_bytes(ANYTHING)
    return folder


def as_transformers_saves(folder: Path, bundle: Path, version: str = "1") -> Path:
    """The folder of a model with a SavedModel below it, without other weights."""
    saved_model(folder / "saved_model" / version, bundle)
    shutil.copy(bundle / "pt" / "config.json", folder)
    return folder


@pytest.mark.parametrize("given", [".", "saved_model.pb", "variables/variables", "variables/variables.index"])
def test_a_saved_model_is_given_by_its_folder_or_any_part(bundle: Path, tmp_path: Path, given: str) -> None:
    folder = saved_model(tmp_path / "exported", bundle)
    config = bundle / "pt" / "config.json"
    convert_checkpoint(folder / given, tmp_path / "out", to="pt", config=config)
    found, expected = (read_safetensors(path / "model.safetensors")[0] for path in (tmp_path / "out", bundle / "pt"))
    assert_same(found, expected)


def test_its_config_is_that_of_the_folder_that_it_was_saved_in(bundle: Path, tmp_path: Path) -> None:
    folder = as_transformers_saves(tmp_path / "model", bundle)
    for given in (folder / "saved_model" / "1", folder / "saved_model" / "1" / "saved_model.pb", folder):
        source = open_source(given)
        assert source.config is not None
        assert source.config.resolve() == (folder / "config.json").resolve()


def test_a_folder_called_otherwise_has_nobody_else_s_config(bundle: Path, tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "elsewhere" / "1", bundle)
    shutil.copy(bundle / "pt" / "config.json", tmp_path)
    assert open_source(folder).config is None
    with pytest.raises(MappingError, match="config"):
        convert_checkpoint(folder, tmp_path / "out", to="pt")


def test_the_newest_version_of_several_is_read(bundle: Path, tmp_path: Path) -> None:
    folder = as_transformers_saves(tmp_path / "model", bundle, "2")
    saved_model(folder / "saved_model" / "10", bundle)
    source = open_source(folder)
    assert source.weights.index == "saved_model/10/variables/variables.index"


def test_weights_of_the_model_itself_win_over_its_saved_model(bundle: Path, tmp_path: Path) -> None:
    folder = as_transformers_saves(tmp_path / "model", bundle)
    save_weights(folder, HEAD, state_dict(HEAD), "h5")
    source = open_source(folder)
    assert source.weights.files == ("tf_model.h5",)
    assert any("saved_model/1/variables/variables.index is there too" in note for note in source.notes)


@pytest.mark.parametrize("lacking", ["variables.index", "variables.data-00000-of-00001", "."])
def test_a_saved_model_without_its_variables_is_refused(bundle: Path, tmp_path: Path, lacking: str) -> None:
    folder = saved_model(tmp_path / "exported", bundle)
    path = folder / "variables" / lacking
    shutil.rmtree(path) if lacking == "." else path.unlink()
    with pytest.raises((DamagedCheckpoint, UnsupportedCheckpoint), match="variables|SavedModel"):
        open_source(folder)


@pytest.mark.parametrize(
    "linked", ["variables", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
def test_links_out_of_it_are_not_followed(bundle: Path, tmp_path: Path, linked: str) -> None:
    folder = saved_model(tmp_path / "exported", bundle)
    shutil.copy(bundle / "pt" / "config.json", folder)
    path = folder / linked
    path.rename(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    with pytest.raises((UnsafeCheckpoint, UnsupportedCheckpoint)):
        convert_checkpoint(folder, tmp_path / "out", to="pt")
    assert not (tmp_path / "out").exists()


def test_a_link_to_the_folder_of_versions_is_not_followed(bundle: Path, tmp_path: Path) -> None:
    folder = as_transformers_saves(tmp_path / "model", bundle)
    (folder / "saved_model").rename(tmp_path / "outside")
    (folder / "saved_model").symlink_to(tmp_path / "outside")
    with pytest.raises(BertconvError):
        open_source(folder)


def test_the_config_around_it_is_no_link(bundle: Path, tmp_path: Path) -> None:
    folder = as_transformers_saves(tmp_path / "model", bundle)
    (folder / "config.json").rename(tmp_path / "config.json")
    (folder / "config.json").symlink_to(tmp_path / "config.json")
    with pytest.raises(UnsafeCheckpoint, match="link"):
        open_source(folder / "saved_model" / "1")


def test_the_graph_of_a_saved_model_is_never_opened(bundle: Path, tmp_path: Path) -> None:
    """Not even where it is nothing that could be opened as a file."""
    folder = saved_model(tmp_path / "exported", bundle)
    (folder / "saved_model.pb").unlink()
    os.mkfifo(folder / "saved_model.pb")
    source = open_source(folder, SourceOptions(config=bundle / "pt" / "config.json"))
    assert source.weights.index == "variables/variables.index"


@pytest.fixture(scope="module")
def of_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What TensorFlow saves of variables with the names of Hugging Face's TensorFlow classes, in every way."""
    tf = pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("tensorflow")
    scope = keras_name(HEAD)
    tensors = tf_state({name: one for name, one in state_dict(HEAD).items() if name not in POOLER})
    model = tf.Module()
    model.parts = [tf.Variable(one, name=f"{scope}/{name.removesuffix(':0')}") for name, one in tensors.items()]
    tf.saved_model.save(model, str(folder / "saved"))
    tf.train.Checkpoint(model=model, step=tf.Variable(3)).save(str(folder / "saves" / "ckpt"))
    (folder / "written").mkdir()
    tf.train.Checkpoint(anything=model).write(str(folder / "written" / "weights"))
    twice = tf.Module()
    twice.again, twice.parts = [tf.Variable(one, name=one.name.removesuffix(":0")) for one in model.parts], model.parts
    tf.saved_model.save(twice, str(folder / "twice"))
    source = save(folder / "pt", HEAD, state_dict(HEAD))
    for name in ("saved", "saves", "written", "twice"):
        write_config(folder / name, json.loads((source / "config.json").read_text()))
    return folder


@pytest.mark.parametrize("name", ["saved", "saves", "written", "twice"])
def test_variables_are_found_by_their_own_names(of_tensorflow: Path, tmp_path: Path, name: str) -> None:
    """Whatever was wrapped around them, and whatever the keys are: only the names of the `tf` table are needed."""
    report = convert_checkpoint(of_tensorflow / name, tmp_path / "out", to="pt")
    found, expected = (
        read_safetensors(path / "model.safetensors")[0] for path in (tmp_path / "out", of_tensorflow / "pt")
    )
    assert_same(found, expected)
    assert report.source["dialect"] == "tf"
