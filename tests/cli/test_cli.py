"""The command line: what it prints and where, and with which code it exits, in real situations."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import checkpoints as cp
import h5py
import numpy as np
import pytest
from checkpoints import Outcome

from bertconv import __version__, checkpoint, errors, saving
from bertconv.cli import demo
from bertconv.cli.main import ALIASES, COMMANDS
from bertconv.formats.output import formats

Cli = Callable[..., Outcome]
MLM, BASE = "BertForMaskedLM", "BertModel"
CONTAINERS = ("safetensors", "bin", "legacy", "sharded", "sharded-bin", "h5", "tf-safetensors")


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return cp.save(tmp_path / "in", MLM, cp.state_dict(MLM))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


# Help


SUBCOMMANDS = [(name,) for name in (*COMMANDS, *ALIASES)] + [
    ("tables", name) for name in ("show", "dialects", "check", "explain")
]


@pytest.mark.parametrize("name", SUBCOMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_every_command(cli: Cli, name: tuple[str, ...], flag: str) -> None:
    done = cli(*name, flag)
    assert done.code == 0
    assert done.out.startswith(f"Usage: bertconv {' '.join(name)} ")
    assert done.err == ""


@pytest.mark.parametrize("arguments", [("--help",), ("-h",)])
def test_help(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.code == 0
    assert all(f"  {name} " in done.out for name in COMMANDS)
    assert not any(alias in done.out for alias in ALIASES)


def test_nothing_at_all(cli: Cli) -> None:
    done = cli()
    assert done.code == (0 if version("click").startswith("8.1.") else 2)  # click itself decides
    assert "Usage: bertconv" in done.out + done.err


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"bertconv, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [("pt2tf",), ("pt2tf", "a"), ("nonsense",), ("pt2tf", "a", "b", "--nonsense"), ("convert", "a", "b"),
     ("convert", "a", "b", "--to", "onnx"), ("pt2tf", "a", "b", "--dtype", "int8"), ("tables", "nonsense"),
     ("inspect", "a", "--config", "/no/such/file")],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Usage:" in done.err


@pytest.mark.parametrize(("shell", "mark"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --no")])
def test_completion_scripts(shell: str, mark: str) -> None:
    done = cp.run(_BERTCONV_COMPLETE=f"{shell}_source")
    assert done.code == 0
    assert mark in done.out
    assert done.err == ""


def test_completion() -> None:
    done = cp.run(_BERTCONV_COMPLETE="bash_complete", COMP_WORDS="bertconv in", COMP_CWORD="1")
    assert done.out.split() == ["plain,inspect"]


# Success


@pytest.mark.parametrize(
    ("name", "container", "file"),
    [("pt2tf", "safetensors", "tf_model.h5"), ("pt-to-tf", "bin", "tf_model.h5"), ("tf2pt", "h5", "model.safetensors"),
     ("tf-to-pt", "tf-safetensors", "model.safetensors")],
)  # fmt: skip
def test_both_directions(cli: Cli, tmp_path: Path, out: Path, name: str, container: str, file: str) -> None:
    state = cp.state_dict(MLM)
    done = cli(name, cp.save(tmp_path / "in", MLM, state, container), out)
    assert done.code == 0
    assert done.err == ""
    assert "nothing lost" in done.out.splitlines()[-1]
    assert f"Wrote {out}: {file}, config.json, bertconv.json." in done.out
    assert sorted(path.name for path in out.iterdir()) == sorted([file, "config.json", "bertconv.json"])
    cp.assert_same(cp.written(out), state if file.endswith("safetensors") else cp.tf_state(state))


@pytest.mark.parametrize("command", ["convert", "pt2tf", "tf2pt"])
def test_help_says_what_can_be_written(cli: Cli, command: str) -> None:
    lines = cli(command, "--help").out.splitlines()
    begin = lines.index("Formats that can be written (`bertconv convert --to`):")
    told = [line.split(maxsplit=1) for line in lines[begin + 1 :]]
    assert told == [[name, form.contents] for name, form in formats().items()]
    assert ["tf-safetensors", "model.safetensors with TensorFlow's names"] in told
    assert ["flax", "flax_model.msgpack with Flax's names"] in told


def test_a_format_that_cannot_be_written(cli: Cli, src: Path, out: Path) -> None:
    done = cli("convert", src, out, "--to", "pt-hdf5")
    assert done.code == 2
    assert f"'pt-hdf5' is not one of {', '.join(map(repr, formats()))}." in done.err


@pytest.mark.parametrize("form", ["pt", "tf", "tf-safetensors"])
def test_convert_as_json(cli: Cli, src: Path, out: Path, form: str) -> None:
    done = cli("convert", src, out, "--to", form, "--json")
    assert done.code == 0
    assert done.err == ""
    report = json.loads(done.out)
    assert report["ok"] is True
    assert report["coverage"] == 1
    assert report["target"]["format"] == form
    assert report["verified"] == "weights"
    assert len(report["tensors"]) == len(cp.state_dict(MLM))
    assert all(tensor["digest"].startswith("sha256:") for tensor in report["tensors"])


def test_options_reach_the_conversion(cli: Cli, src: Path, out: Path) -> None:
    done = cli(
        "pt2tf", src, out, "--head", BASE, "--dtype", "float16", "--max-shard-size", "20kB", "--verify", "none",
        "--init-missing", "--json",
    )  # fmt: skip
    assert done.code == 0
    report = json.loads(done.out)
    assert report["head"] == BASE
    assert report["ok"] is False
    assert report["verified"] == "none"
    assert len(report["target"]["files"]) > 1
    assert {tensor["dtype"] for tensor in report["tensors"]} == {"float16"}
    assert {tensor["state"] for tensor in report["tensors"]} == {"loaded", "initialised"}


@pytest.mark.parametrize("flag", ["--quiet", "-q"])
def test_quiet(cli: Cli, src: Path, out: Path, flag: str) -> None:
    """The last lines: without outputs that were compared that is the summary alone."""
    done = cli("pt2tf", src, out, flag)
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"42/42 tensors, 24,392 parameters, 97.6 kB in .*, nothing lost\n", done.out)
    assert cli("pt2tf", src, out, flag).err != ""


ROW = "bert.encoder.layer.{0...1}.output.dense.bias"
NAMES = [ROW.replace("{0...1}", number) for number in "01"]
TERMINAL = "from bertconv.cli import streams; streams._Descriptor.isatty = lambda _: True"


def lines_with(word: str, text: str) -> list[str]:
    return [line for line in text.splitlines() if word in line]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A checkpoint with tensors that are not simply loaded, and with a long note."""
    state = cp.torch_tensors(cp.state_dict("BertForPreTraining"))
    strided = {name: tensor.T.contiguous().T if tensor.ndim == 2 else tensor for name, tensor in state.items()}
    folder = cp.write_config(tmp_path / "odd", cp.config("BertForPreTraining"))
    (folder / "pytorch_model.bin").write_bytes(cp.torch_bytes(strided))
    return folder


def test_a_log_lists_what_is_not_simply_loaded(cli: Cli, odd: Path, out: Path) -> None:
    done = cli("pt2tf", odd, out, "--head", MLM)
    assert lines_with("loaded", done.out) == ["42 of 42 tensors loaded (--verbose lists them)"]
    assert lines_with("cls.seq_relationship.weight", done.out)[0].split(" | ")[1].strip() == "unused"
    (note,) = lines_with("Note: not contiguous", done.out)
    assert len(note) < 500
    assert note.endswith(" ... (--verbose shows all of it)")


def test_a_terminal_shows_every_tensor_with_layers_folded(odd: Path, out: Path) -> None:
    done = cp.run("pt2tf", odd, out, "--head", MLM, before=TERMINAL, NO_COLOR="1")
    assert len(lines_with(ROW, done.out)) == 1
    assert not any(lines_with(f"{name} ", done.out) for name in NAMES)
    assert lines_with("cls.seq_relationship.weight", done.out)


@pytest.mark.parametrize("flag", ["--verbose", "-v"])
def test_verbose_has_every_tensor_on_a_line(cli: Cli, odd: Path, out: Path, flag: str) -> None:
    done = cli("pt2tf", odd, out, "--head", MLM, flag)
    assert done.code == 0
    for name in NAMES:
        (line,) = lines_with(f"{name} ", done.out)
        assert line.split(" | ")[1].strip() == "loaded"
    assert "{0...1}" not in "".join(lines_with(" | ", done.out))
    (note,) = lines_with("Note: not contiguous", done.out)
    assert note.endswith("cls.predictions.transform.dense.weight.")


def test_verbose_inspect_has_every_tensor_on_a_line(cli: Cli, odd: Path) -> None:
    out = cli("inspect", odd, "--verbose").out
    assert all(len(lines_with(f"{name} ", out)) == 1 for name in NAMES)
    assert len(lines_with(f"{ROW} ", cli("inspect", odd, "--tensors").out)) == 1
    assert lines_with("note        not contiguous", out)[0].endswith("cls.predictions.transform.dense.weight.")


@pytest.mark.parametrize("arguments", [("pt2tf", "a", "b", "-q", "-v"), ("verify", "a", "b", "--verbose", "--quiet")])
def test_quiet_and_verbose_exclude_each_other(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert done.err.endswith("Error: --quiet and --verbose exclude each other.\n")


@pytest.mark.parametrize("name", ["pt2tf", "tf2pt", "convert"])
def test_help_says_what_a_log_gets_and_what_is_fast(cli: Cli, name: str) -> None:
    text = " ".join(cli(name, "--help").out.split())
    assert "for a fast run set weights, here or as BERTCONV_VERIFY=weights" in text
    assert "the output is no terminal, as in a log, tensors that were simply loaded, or all computed" in text


@pytest.mark.parametrize("flags", [(), ("--json",), ("--quiet",)])
def test_dry_run_writes_nothing(cli: Cli, src: Path, out: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    before = cp.snapshot(tmp_path)
    done = cli("pt2tf", src, out / "deep" / "er", "--dry-run", *flags)
    assert done.code == 0
    assert cp.snapshot(tmp_path) == before
    assert "Wrote" not in done.out
    if flags == ("--json",):
        assert json.loads(done.out)["dry_run"] is True


def test_dry_run_refuses_as_the_run_would(cli: Cli, src: Path, out: Path) -> None:
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert cli("pt2tf", src, out, "--dry-run").code == 7


def test_a_pipe_gets_plain_text(src: Path, out: Path) -> None:
    done = cp.run("pt2tf", src, out, TERM="xterm-256color")
    assert done.code == 0
    assert done.err == ""
    assert "\x1b" not in done.out
    assert "\r" not in done.out


def test_no_framework_is_imported(src: Path, out: Path) -> None:
    names = "{'torch', 'tensorflow', 'transformers', 'safetensors', 'huggingface_hub', 'rich'}"
    setup = f"import atexit, sys; atexit.register(lambda: print({names} & set(sys.modules)))"
    assert cp.run("pt2tf", src, out, before=setup).out.endswith("nothing lost\nset()\n")


@pytest.mark.parametrize("arguments", [("--help",), ("tables", "show", "bert"), ("tables", "show", "bert", "--json")])
def test_a_closed_pipe_is_no_error(arguments: tuple[str, ...]) -> None:
    """As in `bertconv tables show bert | head -1`, with a head that is quicker than we are."""
    outcome = cp.run_into_a_closed_pipe(*arguments)
    assert outcome.code in {128 + 13, -13}
    assert outcome.err == ""


# Errors


def parity(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flips a bit of the staged output after it was written."""
    write = saving.write_weights

    def write_and_flip(folder: Path, files: Any, *rest: Any, **options: Any) -> Any:
        found = write(folder, files, *rest, **options)
        with (folder / files[0].name).open("r+b") as file:
            file.seek(files[0].tensors[0][1])
            first = file.read(1)
            file.seek(files[0].tensors[0][1])
            file.write(bytes([first[0] ^ 1]))
        return found

    monkeypatch.setattr(saving, "write_weights", write_and_flip)


def missing(src: Path, _: pytest.MonkeyPatch) -> None:
    state = cp.state_dict(MLM)
    del state["bert.encoder.layer.1.output.dense.bias"]
    cp.save(src, MLM, state)


def unknown(src: Path, _: pytest.MonkeyPatch) -> None:
    cp.save(src, MLM, {**cp.state_dict(MLM), "bert.pooler_2.dense.weight": np.ones((3, 3), np.float32)})


def mismatch(src: Path, _: pytest.MonkeyPatch) -> None:
    cp.write_config(src, cp.config(MLM, intermediate_size=64))


def differing(src: Path, _: pytest.MonkeyPatch) -> None:
    state = cp.state_dict(MLM)
    cp.save(src, MLM, {**state, cp.DECODER: state[cp.WORD] + 1})


def no_config(src: Path, _: pytest.MonkeyPatch) -> None:
    (src / "config.json").unlink()


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def pickled(src: Path, _: pytest.MonkeyPatch) -> None:
    (src / "model.safetensors").write_bytes(cp.torch_bytes({"weight": Payload()}))


def linked(src: Path, _: pytest.MonkeyPatch) -> None:
    (src / "model.safetensors").rename(src.parent / "elsewhere")
    (src / "model.safetensors").symlink_to(src.parent / "elsewhere")


def truncated(src: Path, _: pytest.MonkeyPatch) -> None:
    os.truncate(src / "model.safetensors", 20_000)


def exported(src: Path, _: pytest.MonkeyPatch) -> None:
    (src / "model.safetensors").rename(src / "model.gguf")


def other_model(src: Path, _: pytest.MonkeyPatch) -> None:
    (src / "model.safetensors").write_bytes(cp.safetensors_bytes({"wte.weight": np.ones((3, 4), np.float32)}))


def occupied(src: Path, _: pytest.MonkeyPatch) -> None:
    (src.parent / "out").mkdir()
    (src.parent / "out" / "mine.txt").write_text("mine")


def bug(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("surely not")

    monkeypatch.setattr(checkpoint, "make_plan", broken)


def fine(src: Path, _: pytest.MonkeyPatch) -> None:
    assert src.exists()


Case = tuple[Callable[..., None], tuple[str, ...], int, str]
SITUATIONS: list[Case] = [
    (parity, (), 1, "ParityError"),
    (fine, ("--head", "BertForTea"), 2, "RequestError"),
    (fine, ("--max-shard-size", "many"), 2, "RequestError"),
    (fine, ("--max-shard-size", "0"), 2, "RequestError"),
    (fine, ("--ignore-missing", "("), 2, "RequestError"),
    (fine, ("--allow-unknown", "["), 2, "RequestError"),
    (missing, (), 3, "MissingTensors"),
    (fine, ("--head", "BertForQuestionAnswering"), 3, "MissingTensors"),
    (unknown, (), 3, "UnknownTensors"),
    (mismatch, (), 3, "ShapeMismatch"),
    (differing, (), 3, "TiedTensorsDiffer"),
    (no_config, (), 3, "MissingConfig"),
    (pickled, (), 4, "UnsafeCheckpoint"),
    (linked, (), 4, "UnsafeCheckpoint"),
    (truncated, (), 5, "DamagedCheckpoint"),
    (exported, (), 6, "UnsupportedCheckpoint"),
    (other_model, (), 6, "UnsupportedCheckpoint"),
    (occupied, (), 7, "OutputError"),
    (bug, (), 9, "ZeroDivisionError"),
]


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("case", SITUATIONS, ids=lambda case: " ".join((case[0].__name__, *case[1])))
def test_exit_codes(cli: Cli, src: Path, monkeypatch: pytest.MonkeyPatch, case: Case, as_json: bool) -> None:
    prepare, options, code, kind = case
    out = src.parent / "out"
    prepare(src, monkeypatch)
    before = cp.snapshot(out.parent)
    done = cli("pt2tf", src, out, *options, *(["--json"] if as_json else []))
    assert done.code == code
    assert cp.snapshot(out.parent) == before
    if as_json:
        assert done.err == ""
        answer = json.loads(done.out)
        assert answer["ok"] is False
        assert (answer["error"]["code"], answer["error"]["kind"]) == (code, kind)
        assert answer["error"]["hint"]
    else:
        assert done.out == ""
        assert len(done.err.splitlines()) >= 2
        assert ("Traceback" in done.err) == (code == 9)
    if code != 9:
        assert getattr(errors, kind).exit_code == code


@pytest.mark.parametrize("as_json", [False, True])
def test_a_bug_asks_for_a_report(
    cli: Cli, src: Path, out: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    bug(src, monkeypatch)
    done = cli("pt2tf", src, out, *(["--json"] if as_json else []))
    assert "eport it to" in done.out + done.err
    if not as_json:
        assert __version__ in done.err
        assert "ZeroDivisionError: surely not" in done.err


@pytest.mark.parametrize("given", ["org/name", "org/name@abc", "no-such-model"])
def test_hub_that_is_not_asked(cli: Cli, tmp_path: Path, out: Path, given: str) -> None:
    done = cli("pt2tf", given, out, "--local-files-only", "--cache-dir", tmp_path / "cache", "--json")
    assert done.code == 8
    assert json.loads(done.out)["error"]["kind"] == "HubError"


@pytest.mark.parametrize("given", ["./no/such/folder", "no/such/folder/at/all", "/no/such", "nowhere://a/b", ""])
def test_no_such_source(cli: Cli, out: Path, given: str) -> None:
    done = cli("pt2tf", given, out, "--json")
    assert done.code == 2
    kind = "RequestError" if "://" in given else "MissingPath"  # an address of a kind that is not read
    assert json.loads(done.out)["error"]["kind"] == kind


@pytest.mark.parametrize(
    ("name", "container", "better"),
    [("pt2tf", "h5", "tf2pt"), ("pt2tf", "tf-safetensors", "tf2pt"), ("tf2pt", "safetensors", "pt2tf"),
     ("tf2pt", "bin", "pt2tf")],
)  # fmt: skip
def test_wrong_direction(cli: Cli, tmp_path: Path, out: Path, name: str, container: str, better: str) -> None:
    done = cli(name, cp.save(tmp_path / "in", MLM, cp.state_dict(MLM), container), out)
    assert done.code == 2
    assert f"bertconv {better}" in done.err
    assert "bertconv convert" in done.err
    assert not out.exists()


def test_wrong_direction_by_file(cli: Cli, tmp_path: Path, out: Path) -> None:
    done = cli("pt2tf", cp.save(tmp_path / "in", MLM, cp.state_dict(MLM), "h5") / "tf_model.h5", out)
    assert done.code == 2
    assert "tf_model.h5" in done.err
    assert "bertconv tf2pt" in done.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html>\n<html>not found</html>", ("HTML page", "pytorch_model.bin")),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", ("git lfs pull", "pytorch_model.bin")),
        (b"", ("pytorch_model.bin",)),
        (b'{"error": "not found"}', ("JSON", "pytorch_model.bin")),
        (b"\x1f\x8b\x08" + b"\0" * 99, ("gzip", "pytorch_model.bin")),
    ],
    ids=["html", "lfs", "empty", "json", "gzip"],
)
@pytest.mark.parametrize("name", ["convert", "inspect"])
def test_files_that_are_no_checkpoints(
    cli: Cli, tmp_path: Path, out: Path, name: str, content: bytes, words: tuple[str, ...]
) -> None:
    folder = cp.write_config(tmp_path / "in", cp.config())
    (folder / "pytorch_model.bin").write_bytes(content)
    done = cli("inspect", folder) if name == "inspect" else cli("convert", folder, out, "--to", "tf")
    assert done.code == 5
    assert all(word in done.err for word in words)


def test_unknown_prefix(cli: Cli, tmp_path: Path, out: Path) -> None:
    state = cp.prefixed(cp.state_dict(MLM), "teacher.")
    folder = cp.save(tmp_path / "in", MLM, state)
    done = cli("pt2tf", folder, out)
    assert done.code == 3
    assert "--strip-prefix teacher." in done.err
    assert cli("pt2tf", folder, out, "--strip-prefix", "teacher.").code == 0


def test_missing_config(cli: Cli, src: Path, tmp_path: Path, out: Path) -> None:
    (src / "config.json").rename(tmp_path / "elsewhere.json")
    done = cli("pt2tf", src / "model.safetensors", out)
    assert done.code == 3
    assert "--config" in done.err
    assert cli("pt2tf", src / "model.safetensors", out, "--config", tmp_path / "elsewhere.json").code == 0


def test_overwrite(cli: Cli, src: Path, out: Path) -> None:
    assert cli("pt2tf", src, out).code == 0
    assert "--overwrite" in cli("pt2tf", src, out).err
    assert cli("convert", src, out, "--to", "pt", "--overwrite").code == 0
    assert sorted(path.name for path in out.iterdir()) == ["bertconv.json", "config.json", "model.safetensors"]


# inspect


@pytest.mark.parametrize("container", CONTAINERS)
def test_inspect(cli: Cli, tmp_path: Path, container: str) -> None:
    folder = cp.save(tmp_path / "in", MLM, cp.state_dict(MLM), container)
    found = json.loads(cli("inspect", folder, "--json").out)
    assert MLM in {found["head"], *found["equals"]}
    assert found["dialect"] == ("tf" if container in {"h5", "tf-safetensors"} else "pt")
    assert found["tensors"] >= len(cp.state_dict(MLM))
    assert found["sizes"]["vocab_size"] == cp.SIZES["vocab_size"]
    done = cli("inspect", folder, "--tensors")
    assert done.code == 0
    assert done.err == ""
    assert MLM in done.out
    assert "{0...1}" in done.out


SEQ, TOKEN = "BertForSequenceClassification", "BertForTokenClassification"


def test_inspect_and_convert_where_nothing_says_which_class_it_is(cli: Cli, tmp_path: Path, out: Path) -> None:
    folder = cp.save(tmp_path / "in", SEQ, cp.state_dict(SEQ), architectures=None)
    found = json.loads(cli("inspect", folder, "--json").out)
    assert (found["head"], found["alternatives"], found["equals"]) == ("", [SEQ, TOKEN], [SEQ, TOKEN])
    assert found["sizes"]["num_labels"] == cp.LABELS
    done = cli("inspect", folder)
    assert f"class       {SEQ} or {TOKEN}\n" in done.out
    assert f"convert with --head {SEQ} or --head {TOKEN}" in done.out
    done = cli("pt2tf", folder, out)
    assert (done.code, out.exists()) == (3, False)
    assert f"the tensors fit {SEQ} and {TOKEN} alike" in done.err
    for head in (SEQ, TOKEN):
        assert cli("pt2tf", folder, out, "--head", head, "--overwrite", "--quiet").code == 0
        assert cp.config_of(out)["architectures"] == [head]
        found = json.loads(cli("inspect", folder, "--head", head, "--json").out)
        assert (found["head"], found["alternatives"]) == (head, [])


@pytest.mark.parametrize(
    ("changes", "odd"),
    [({"hidden_act": "snake"}, "hidden_act 'snake' is unknown"), ({"vocab_size": "many"}, "vocab_size is 'many'"),
     ({"model_type": "roberta"}, "model_type is 'roberta'")],
    ids=str,
)  # fmt: skip
def test_inspect_tells_of_the_names_whatever_the_config_is(
    cli: Cli, tmp_path: Path, changes: dict[str, Any], odd: str
) -> None:
    folder = cp.save(tmp_path / "in", "BertForPreTraining", cp.state_dict("BertForPreTraining"), **changes)
    done = cli("inspect", folder)
    assert done.code == 0
    assert "names       PyTorch\n" in done.out
    assert "class       BertForPreTraining\n" in done.out
    assert odd in done.out
    found = json.loads(cli("inspect", folder, "--json").out)
    assert (found["dialect"], found["is_known"], found["sizes"]["vocab_size"]) == ("pt", True, 101)


def test_inspect_as_another_family(cli: Cli, tmp_path: Path) -> None:
    """The names are a family's, though not the one that is asked for."""
    done = cli("inspect", cp.save(tmp_path / "in", MLM, cp.state_dict()), "--family", "roberta")
    assert "names       not certain: see below\n" in done.out
    assert "model_type is 'bert', not 'roberta'" in done.out


def test_inspect_of_names_that_are_not_certain(cli: Cli, tmp_path: Path) -> None:
    """Two encoders are a BERT's names, and more than one."""
    two = {**cp.prefixed(cp.state_dict(), "question."), **cp.prefixed(cp.state_dict(), "answer.")}
    done = cli("inspect", cp.save(tmp_path / "in", MLM, two))
    assert "names       not certain: see below\n" in done.out
    assert "holds 2 encoders" in done.out


def test_another_architecture_is_told_by_its_config_first(cli: Cli, tmp_path: Path, out: Path) -> None:
    """Its prefix is none that a tool put there."""
    state = cp.renamed(cp.state_dict(MLM), "^bert", "nezha")
    done = cli("pt2tf", cp.save(tmp_path / "in", MLM, state, model_type="nezha"), out)
    assert (done.code, "model_type is 'nezha'" in done.err, "--strip-prefix" in done.err) == (6, True, False)
    done = cli("pt2tf", cp.save(tmp_path / "own", MLM, state), out)
    assert (done.code, "--strip-prefix nezha." in done.err) == (3, True)


def test_inspect_says_what_decided(cli: Cli, tmp_path: Path) -> None:
    folder = cp.save(tmp_path / "in", SEQ, cp.state_dict(SEQ), architectures=None, finetuning_task="mrpc")
    done = cli("inspect", folder)
    assert f"class       {SEQ} ({TOKEN} fits as well)\n" in done.out
    assert f"note        the class is {SEQ}: finetuning_task is 'mrpc'.\n" in done.out


NOT_BERT = {"wte.weight": np.ones((3, 4), np.float32), "h.0.ln.weight": np.ones(4, np.float16)}


def other_h5(path: Path) -> None:
    with h5py.File(path, "w") as root:
        root.create_dataset("dense/kernel:0", data=NOT_BERT["wte.weight"])


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("model.safetensors", lambda path: path.write_bytes(cp.safetensors_bytes(NOT_BERT))),
        ("pytorch_model.bin", lambda path: path.write_bytes(cp.torch_bytes(cp.torch_tensors(NOT_BERT)))),
        ("tf_model.h5", other_h5),
    ],
)
def test_inspect_what_is_no_bert(cli: Cli, tmp_path: Path, name: str, write: Callable[[Path], object]) -> None:
    write(tmp_path / name)
    done = cli("inspect", tmp_path / name)
    assert done.code == 0
    assert "of no known family" in done.out
    found = json.loads(cli("inspect", tmp_path / name, "--json").out)
    assert found["head"] == ""
    assert any("named as their embeddings are" in sentence for sentence in found["notes"])


def test_inspect_escapes_names(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(cp.torch_bytes(cp.torch_tensors({"\x1b[31mred": np.ones(3, np.float32)})))
    done = cli("inspect", tmp_path / "a.bin", "--tensors")
    assert done.code in {0, 5}
    assert "\x1b" not in done.out + done.err


# tables


def test_tables_show(cli: Cli) -> None:
    done = cli("tables", "show", "bert")
    assert done.code == 0
    assert "bert.encoder.layer.{0...11}.attention.self.query.weight" in done.out
    assert "bert/encoder/layer_._{0...11}/attention/self/query/kernel:0" in done.out
    roberta = cli("tables", "show", "xlm-roberta")
    assert "roberta/encoder/layer_._{0...11}/attention/self/query/kernel:0" in roberta.out
    assert "XLMRobertaForMaskedLM" in roberta.out


@pytest.mark.parametrize("head", [MLM, f"TF{MLM}"])
def test_tables_show_one_class(cli: Cli, head: str) -> None:
    rows = json.loads(cli("tables", "show", "--head", head, "--json").out)
    assert all(MLM in row["owned_by"] for row in rows)
    assert "mlm.bias.value" in {row["id"] for row in rows}
    assert "nsp.dense.weight" not in {row["id"] for row in rows}


@pytest.mark.parametrize(
    "arguments", [("show", "gpt"), ("show",), ("show", "--head", "BertForTea"), ("explain", "no.such.name")]
)
def test_tables_of_nothing(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli("tables", *arguments).code == 2


def test_tables_check(cli: Cli, tmp_path: Path) -> None:
    assert "sound" in cli("tables", "check").out
    table = tmp_path / "table.toml"
    table.write_text("format = 1\n")
    done = cli("tables", "check", "--map", table)
    assert done.code == 3
    assert "table.toml" in done.err
    done = cli("pt2tf", tmp_path, tmp_path / "out", "--map", table, "--json")
    assert json.loads(done.out)["error"]["kind"] == "BadTable"


LAYER_7 = "bert.encoder.layer.7.output.dense.weight"
LAYER_7_TF = "bert/encoder/layer_._7/output/dense/kernel:0"


@pytest.mark.parametrize("name", [LAYER_7, LAYER_7.removeprefix("bert."), LAYER_7_TF, LAYER_7_TF.removesuffix(":0")])
def test_tables_explain_a_layer(cli: Cli, name: str) -> None:
    done = cli("tables", "explain", name)
    assert done.code == 0
    assert "layer.7.ffn_out.weight" in done.out
    assert "transposed" in done.out
    assert (LAYER_7 if "/" in name else LAYER_7_TF) in done.out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cls.predictions.decoder.weight", ("tied to", "tie_word_embeddings")),
        ("bert.embeddings.LayerNorm.gamma", ("embeddings.norm.scale",)),
        ("bert.embeddings.position_ids", ("left out", "position_ids$")),
        ("bert.encoder.layer.11.crossattention.self.key.bias", ("add_cross_attention",)),
    ],
)
def test_tables_explain(cli: Cli, name: str, words: tuple[str, ...]) -> None:
    done = cli("tables", "explain", name)
    assert done.code == 0
    assert all(word in done.out for word in words)
    assert json.loads(cli("tables", "explain", name, "--json").out)["name"]


@pytest.mark.parametrize("family", ["bert", "albert", "electra"])
def test_tables_explain_looks_in_the_family_that_is_asked_for(cli: Cli, family: str) -> None:
    """Many families have a `classifier.weight`; without --family the first one's owners are reported."""
    prefix = {"bert": "Bert", "albert": "Albert", "electra": "Electra"}[family]
    done = cli("tables", "explain", "classifier.weight", "--family", family)
    assert done.code == 0
    words = ["ForMultipleChoice", "ForTokenClassification"]
    words += [] if family == "electra" else ["ForSequenceClassification"]  # ELECTRA's is classifier.out_proj
    assert all(prefix + word in done.out for word in words)


def test_tables_explain_finds_the_families(cli: Cli) -> None:
    story = json.loads(cli("tables", "explain", "embeddings.word_embeddings.weight", "--json").out)
    assert {story["family"], *story["also in"].split(", ")} >= {"bert", "distilbert", "electra", "mpnet", "roberta"}
    one = json.loads(cli("tables", "explain", "lm_head.decoder.bias", "--family", "camembert", "--json").out)
    assert one["owned by"] == "CamembertForCausalLM, CamembertForMaskedLM"
    assert "also in" not in one
    assert json.loads(cli("tables", "explain", "roberta.pooler.dense.bias", "--json").out)["family"] == "roberta"


# demo


needs_demo = pytest.mark.skipif(importlib.util.find_spec(demo.PACKAGE) is None, reason=f"{demo.PACKAGE} is not there")


@needs_demo
def test_demo(cli: Cli, out: Path) -> None:
    pytest.importorskip("tensorflow")
    done = cli("demo", out)
    assert done.code == 0
    assert "Both outputs hold the same weights: sha256:" in done.out
    assert "\nThe same model: 103/103 tensors equal" in done.out
    assert "The same model" in (out / "parity.html").read_text()
    assert (out / "tf" / "tf_model.h5").exists()
    assert (out / "pt" / "model.safetensors").exists()


def test_demo_without_its_package(cli: Cli, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PACKAGE", "no_such_package_anywhere")
    done = cli("demo", out)
    assert done.code == 2
    assert "pip install" in done.err
    assert not out.exists()


# `python -m bertconv`


@pytest.mark.parametrize("arguments", [["--version"], ["inspect", "--help"], ["frob"], ["inspect", "no-such-folder"]])
def test_the_package_is_run_as_the_command(arguments: list[str]) -> None:
    """The same words, the same exit code, and the command's name in what it says."""
    run = [[sys.executable, "-m", "bertconv"], [sys.executable, "-c", cp.COMMAND]]
    one, other = (subprocess.run([*each, *arguments], capture_output=True, text=True, check=False) for each in run)
    assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)
    assert "bertconv" in one.stdout + one.stderr or arguments == ["inspect", "no-such-folder"]
    assert "__main__" not in one.stdout + one.stderr


def test_importing_the_module_of_the_package_runs_nothing() -> None:
    """Processes that multiprocessing starts import the main module again."""
    done = subprocess.run(
        [sys.executable, "-c", "import bertconv.__main__"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
