"""What somebody meets who has a checkpoint of another program and has read nothing: guessed words, and hints."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import pytest
from click.shell_completion import ShellComplete

from bertconv.cli.main import cli as group

Cli = Callable[..., cp.Outcome]
HEAD = "BertForMaskedLM"


@pytest.fixture(scope="module")
def src(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = cp.save(tmp_path_factory.mktemp("newcomer") / "src", HEAD, cp.state_dict(HEAD))
    return folder


@pytest.fixture
def old(cli: Cli, src: Path, tmp_path: Path) -> Path:
    """A folder as it was downloaded in 2018: nothing of transformers or bertconv, and the list of another machine."""
    folder = tmp_path / "uncased_L-2"
    assert cli("convert", src, folder, "--to", "tf1", "--verify", "none").code == 0
    for name in ("config.json", "bertconv.json"):
        (folder / name).unlink()
    (folder / "checkpoint").write_text('model_checkpoint_path: "/home/somebody/bert_model.ckpt"\n')
    (folder / "bert_model.ckpt.meta").write_bytes(os.urandom(99))
    return folder


@pytest.mark.parametrize(
    ("guess", "meant"),
    [
        ("google", "tf1"), ("TensorFlow-1", "tf1"), ("kerashub", "keras-hub"), ("keras_hub", "keras-hub"),
        ("pytorch", "pt"), ("tensorflow", "tf"), ("modelgarden", "garden"), ("flax-safetensor", "flax-safetensors"),
    ],
)  # fmt: skip
def test_a_format_by_another_word(cli: Cli, src: Path, tmp_path: Path, guess: str, meant: str) -> None:
    done = cli("convert", src, tmp_path / "out", "--to", guess)
    assert done.code == 2
    assert done.err.rstrip().endswith(f"Did you mean '{meant}'?")


@pytest.mark.parametrize("word", ["onnx", "gguf", ""])
def test_nothing_is_guessed_of_a_word_that_is_none(cli: Cli, src: Path, tmp_path: Path, word: str) -> None:
    assert "Did you mean" not in cli("convert", src, tmp_path / "out", "--to", word).err


@pytest.mark.parametrize(("command", "to"), [("pt2tf", "tf"), ("tf2pt", "pt")])
def test_another_program_s_weights_in_one_direction(cli: Cli, old: Path, tmp_path: Path, command: str, to: str) -> None:
    done = cli(command, old, tmp_path / "out")
    assert done.code == 2
    assert "holds TensorFlow 1 weights" in done.err
    assert f"Use `bertconv convert SRC DST --to {to}`." in done.err


@pytest.mark.parametrize(("to", "file"), [("pt", "model.safetensors"), ("tf", "tf_model.h5")])
def test_a_folder_of_2018(cli: Cli, old: Path, tmp_path: Path, to: str, file: str) -> None:
    out = tmp_path / "out"
    done = cli("convert", old / "bert_model.ckpt", out, "--to", to, "--verify", "weights")
    assert done.code == 0, done.err
    assert "(TensorFlow 1 names, bundle)" in done.out
    assert f"Wrote {out}: {file}, config.json, bertconv.json" in done.out


def test_every_file_that_was_written_is_named(cli: Cli, src: Path, tmp_path: Path) -> None:
    for to in ("tf1", "keras-hub"):
        out = tmp_path / to
        lines = cli("convert", src, out, "--to", to, "--verify", "weights").out.splitlines()
        told = next(line for line in lines if line.startswith("Wrote ")).removeprefix(f"Wrote {out}: ")
        assert sorted(told.rstrip(".").split(", ")) == sorted(path.name for path in out.iterdir())


def test_a_command_of_a_group_has_its_own_options(cli: Cli) -> None:
    done = cli("tables", "dialects", "nope")
    assert "`--map FILE` takes one of your own." in done.err
    assert "has no --map" not in done.err


def test_a_dialect_by_its_format(cli: Cli) -> None:
    assert (
        "google (tf1), garden, flax and keras_hub (keras-hub)." in cli("tables", "show", "bert", "--dialect", "t5").err
    )


@pytest.mark.parametrize(
    ("words", "begun", "wanted"),
    [
        (["convert", "a", "b", "--to"], "flax", {"flax", "flax-safetensors"}),
        (["tables", "show"], "xlm", {"xlm-roberta"}),
        (["tables", "dialects"], "m", {"mpnet"}),
        (["tables", "show", "bert", "--dialect"], "t", {"tf", "tf-safetensors", "tf1"}),
    ],
)
def test_what_a_shell_completes(words: list[str], begun: str, wanted: set[str]) -> None:
    found = ShellComplete(group, {}, "bertconv", "_BERTCONV_COMPLETE").get_completions(words, begun)
    assert {one.value for one in found} == wanted


def test_columns_of_an_explanation(cli: Cli) -> None:
    lines = cli("tables", "explain", "bert.pooler.dense.weight", "--family", "bert").out.splitlines()
    width = len("in keras_hub ")
    inner = [line for line in lines if line.startswith("in ")]
    assert len(inner) > 4
    assert all(line[width - 1] == " " != line[width] for line in inner)
