"""The doctor: every finding has its id, names whom it concerns, and its command makes it go away."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest
import sick
from checkpoints import Outcome
from sick import NORM, QUERY, changed, copy_row, put

from bertconv import Diagnosis, Finding, diagnose
from bertconv.cli.main import COMMANDS
from bertconv.errors import DamagedCheckpoint, RequestError
from bertconv.manage.doctor.programs import PROGRAMS

CONVERT, REMOVE, NO_COMMAND = "bertconv convert", "rm --", ""

HEADERS: dict[str, tuple[sick.Made, str, str, str]] = {
    "TensorFlow's names": (sick.tf_names, "other-frameworks-names", "error", CONVERT),
    "TensorFlow's file": (sick.tf_file, "tensorflow-file", "warning", CONVERT),
    "a pickle": (sick.pickle, "pickle", "warning", CONVERT),
    "module.": (sick.prefixed("module."), "unread-prefix", "error", CONVERT),
    "_orig_mod.": (sick.prefixed("_orig_mod."), "unread-prefix", "error", CONVERT),
    "0.auto_model.": (sick.prefixed("0.auto_model."), "unread-prefix", "error", CONVERT),
    "doubled": (sick.prefixed("bert."), "unread-prefix", "error", CONVERT),
    "of nobody": (sick.prefixed("student's."), "unread-prefix", "error", CONVERT),
    "gamma and beta": (sick.old_norms, "norm-names", "note", CONVERT),
    "gamma elsewhere": (sick.old_norms_of_others, "norm-names", "error", CONVERT),
    "no head": (sick.no_head, "head-missing", "error", CONVERT),
    "another head": (sick.other_head, "head-missing", "error", CONVERT),
    "half a head": (sick.half_a_head, "tensors-missing", "error", CONVERT),
    "half a body": (sick.half_a_body, "tensors-missing", "error", NO_COMMAND),
    "a head too much": (sick.head_left_out, "head-left-out", "note", CONVERT),
    "no class": (sick.no_class, "class-not-named", "note", CONVERT),
    "a class of nobody": (sick.strange_class, "class-not-known", "warning", CONVERT),
    "no pooler": (sick.no_pooler, "pooler-missing", "note", NO_COMMAND),
    "a strange tensor": (sick.strange_tensor, "unknown-tensors", "note", CONVERT),
    "a strange part": (sick.strange_part, "unknown-tensors", "warning", NO_COMMAND),
    "stored twice": (sick.stored_twice, "stored-twice", "note", CONVERT),
    "bert_config.json": (sick.other_config_name, "config-name", "error", CONVERT),
    "no config": (sick.no_config, "no-config", "error", NO_COMMAND),
    "no model type": (sick.no_model_type, "no-model-type", "warning", CONVERT),
    "another vocabulary": (sick.vocabulary, "vocabulary-rows", "error", CONVERT),
    "another size": (sick.other_sizes, "config-sizes", "error", NO_COMMAND),
    "labels not said": (sick.labels_not_said, "label-rows", "error", CONVERT),
    "other labels": (sick.other_labels, "label-rows", "error", NO_COMMAND),
    "labels disagree": (sick.labels_disagree, "labels-disagree", "error", NO_COMMAND),
    "narrower": (sick.narrower, "config-type", "warning", CONVERT),
    "wider": (sick.wider, "config-type", "note", CONVERT),
    "mixed": (sick.mixed, "mixed-types", "warning", CONVERT),
    "another file name": (sick.other_file_name, "file-name", "warning", CONVERT),
    "no metadata": (sick.metadata(...), "metadata", "warning", CONVERT),
    "wrong metadata": (sick.metadata({"format": "pt"}), "metadata", "warning", CONVERT),
    "a .bin beside": (sick.beside("bin"), "second-weights", "note", REMOVE),
    "shards beside": (sick.beside("sharded"), "second-weights", "warning", REMOVE),
    "stale shards": (sick.stale_shards, "stale-shards", "warning", REMOVE),
    "an adapter": (sick.adapter, "adapter-beside", "warning", REMOVE),
    "no tokenizer": (sick.bare, "no-tokenizer", "warning", NO_COMMAND),
    "a damaged tokenizer": (sick.damaged_tokenizer, "tokenizer-damaged", "warning", NO_COMMAND),
    "too many words": (sick.too_many_words, "tokens-without-row", "error", "bertconv resize"),
    "too few words": (sick.too_few_words, "padding-rows", "note", NO_COMMAND),
    "two tokenizers": (sick.two_tokenizers, "tokenizer-files-disagree", "note", NO_COMMAND),
    "4.57's TensorFlow": (sick.healthy, "tensorflow-cannot-load", "note", CONVERT),
}
WEIGHTS: dict[str, tuple[sick.Made, str, str, str]] = {
    "NaN": (changed(QUERY, put((3, 4), np.nan)), "nan", "error", NO_COMMAND),
    "infinite": (changed(QUERY, put((3, 4), -np.inf)), "infinite", "error", NO_COMMAND),
    "zeros": (changed(QUERY, put(..., 0)), "all-zero", "warning", NO_COMMAND),
    "a norm of zeros": (changed(NORM, put(..., 0)), "norm-scale-zero", "error", NO_COMMAND),
    "a scale of zero": (changed(NORM, put(3, -0.0)), "norm-scale-zero", "warning", NO_COMMAND),
    "a dead row": (changed(cp.WORD, put(17, 0)), "dead-rows", "warning", NO_COMMAND),
    "a constant row": (changed(cp.WORD, put(100, 0.5)), "dead-rows", "warning", NO_COMMAND),
    "untrained tokens": (changed(cp.WORD, copy_row(90, 99, 100)), "identical-rows", "warning", NO_COMMAND),
    "too large": (changed(QUERY, put((1, 1), 65520)), "float16-overflow", "note", NO_COMMAND),
    "too large for its config": (sick.too_large_for_its_config, "loads-as-infinite", "error", CONVERT),
    "too small": (changed(QUERY, put((1, 1), 5e-8)), "float16-underflow", "note", NO_COMMAND),
    "copies differ": (sick.copies_differ, "copies-differ", "error", CONVERT),
    "a stale copy": (sick.stale_copy, "stale-copy", "note", CONVERT),
    "another .bin": (sick.beside("bin", 2), "second-weights-differ", "error", REMOVE),
    "another .h5": (sick.beside("h5", 2), "second-weights-differ", "error", REMOVE),
    "a damaged .bin": (sick.beside_damaged, "second-weights-differ", "error", REMOVE),
}


PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"


def test_the_page_has_every_finding() -> None:
    rows = re.findall(r"^\| (`[a-z0-9-]+`(?:, `[a-z0-9-]+`)*) \|", PAGE.read_text(), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    made = {row[1] for row in (*HEADERS.values(), *WEIGHTS.values())}
    elsewhere = {
        "class-not-certain", "family-not-certain", "config-damaged", "unsupported", "refused", "kerashub-pooler",
        "kerashub-segments", "kerashub-activation", "kerashub-epsilon",
    }  # fmt: skip
    assert sorted(named) == sorted(made | elsewhere)


def of(found: Diagnosis, name: str) -> list[Finding]:
    return [finding for finding in found.findings if finding.id == name]


def repaired(command: str, folder: Path) -> Path:
    """Run a command that the doctor gave, and return where the repaired checkpoint is."""
    words = shlex.split(command)
    if words[0] == "rm":
        subprocess.run(words, check=True)
        return folder
    assert cp.call(*words[1:]) == 0
    return Path(words[3])


def check(folder: Path, name: str, severity: str, command: str, *, deep: bool) -> None:
    found = diagnose(folder, deep=deep)
    [finding] = of(found, name)
    assert finding.severity == severity
    assert finding.command.startswith(command)
    assert bool(finding.command) == bool(command)
    assert finding.command or finding.advice
    assert set(finding.affects) <= PROGRAMS.keys()
    assert finding.affects
    if severity != "note":
        assert not found.healthy
    if command and shlex.split(command)[-1] in (*COMMANDS, "--"):
        assert of(diagnose(repaired(finding.command, folder), deep=deep), name) == []


@pytest.mark.parametrize("name", HEADERS)
def test_a_finding_is_made_and_its_command_repairs_it(tmp_path: Path, name: str) -> None:
    made, *expected = HEADERS[name]
    check(made(tmp_path / "a model"), *expected, deep=False)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_finding_about_numbers_is_made_and_its_command_repairs_it(tmp_path: Path, name: str) -> None:
    made, *expected = WEIGHTS[name]
    folder = made(tmp_path / "model")
    assert of(diagnose(folder), expected[0]) == []
    check(folder, *expected, deep=True)


def test_a_healthy_checkpoint_has_notes_alone(tmp_path: Path) -> None:
    folder = sick.with_words(tmp_path / "in", cp.SIZES["vocab_size"])
    found = diagnose(folder, deep=True)
    assert found.healthy
    assert {finding.id for finding in found.findings} == {"kerashub-pooler", "tensorflow-cannot-load"}


@pytest.mark.parametrize(
    ("container", "dtype"),
    [("safetensors", "bfloat16"), ("sharded", "float16"), ("h5", "float32"), ("tf-safetensors", "float64"),
     ("tf-safetensors", "bfloat16")],
)  # fmt: skip
def test_a_healthy_checkpoint_of_any_type_has_no_sick_number(tmp_path: Path, container: str, dtype: str) -> None:
    folder = cp.save(tmp_path / "in", sick.LM, sick.state(dtype=dtype), container)
    before, after = diagnose(folder), diagnose(folder, deep=True)
    assert [finding.id for finding in after.findings] == [finding.id for finding in before.findings]


@pytest.mark.parametrize(
    ("dtype", "value", "name"),
    [("bfloat16", np.nan, "nan"), ("float16", np.inf, "infinite"), ("float64", 1e300, "float16-overflow"),
     ("bfloat16", 65536, "float16-overflow"), ("float32", 65519.9, ""), ("bfloat16", 65280, ""),
     ("float64", 2.0**-24, ""), ("float64", 2.0**-25, "float16-underflow"), ("bfloat16", 1e-30, "float16-underflow"),
     ("float16", 6e-8, ""), ("float32", 0.0, "")],
)  # fmt: skip
def test_numbers_are_judged_by_their_type(tmp_path: Path, dtype: str, value: float, name: str) -> None:
    folder = changed(QUERY, put((2, 2), value), dtype=dtype)(tmp_path / "in")
    known = {"nan", "infinite", "float16-overflow", "float16-underflow"}
    assert {finding.id for finding in diagnose(folder, deep=True).findings} & known == ({name} if name else set())


def test_rows_are_looked_at_wherever_pieces_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bertconv.formats import streaming

    monkeypatch.setattr(streaming, "PIECE", 64)  # rows of 140 bytes end within pieces

    def spoil(words: np.ndarray) -> None:
        words[5:9] = np.nan
        words[20] = words[70]
        words[99] = 0.25

    found = diagnose(changed(cp.WORD, spoil)(tmp_path / "in"), deep=True)
    [nan], [same], [dead] = (of(found, name) for name in ("nan", "identical-rows", "dead-rows"))
    assert nan.message.startswith("there are NaN in bert.embeddings.word_embeddings.weight, 140 in all")
    assert "20 'word15', 70 'word65'" in same.message
    assert "5 in all" in dead.message  # those of NaN hold one number throughout too
    assert "99 'word94'" in dead.message


def test_rows_that_nothing_reads_may_be_zero(tmp_path: Path) -> None:
    """Padding rows, the row of the padding token, and the positions of RoBERTa that are never counted."""
    head = "RobertaForMaskedLM"
    tensors = {name: value.copy() for name, value in sick.state(head).items()}
    tensors["roberta.embeddings.word_embeddings.weight"][1] = 0
    tensors["roberta.embeddings.position_embeddings.weight"][:2] = 0
    folder = cp.save(tmp_path / "in", head, tensors, pad_token_id=1)
    assert of(diagnose(folder, deep=True), "dead-rows") == []
    tensors["roberta.embeddings.position_embeddings.weight"][2] = 0
    cp.save_weights(folder, head, tensors, "safetensors")
    assert "1 in all (2)" in of(diagnose(folder, deep=True), "dead-rows")[0].message
    padded = sick.with_words(tmp_path / "padded", 80)
    tensors = {name: value.copy() for name, value in sick.state().items()}
    tensors[cp.WORD][80:] = 0
    cp.save_weights(padded, sick.LM, tensors, "safetensors")
    found = diagnose(padded, deep=True)
    assert of(found, "dead-rows") == of(found, "identical-rows") == []


@pytest.mark.parametrize("made", [sick.half_a_body, sick.strange_part, sick.other_sizes])
def test_no_command_is_given_that_would_be_refused(tmp_path: Path, made: sick.Made) -> None:
    assert {finding.command for finding in diagnose(made(tmp_path / "in")).findings} == {""}


def test_numbers_are_looked_at_without_a_config_too(tmp_path: Path) -> None:
    folder = changed(QUERY, put((3, 4), np.nan))(tmp_path / "in")
    (folder / "config.json").unlink()
    assert {"nan", "no-config"} <= {finding.id for finding in diagnose(folder, deep=True).findings}


def test_where_copies_differ_every_conversion_keeps_them_apart(tmp_path: Path) -> None:
    folder = sick.copies_differ(tmp_path / "in")
    (folder / "config.json").write_text(json.dumps(cp.config(sick.LM, architectures=None)))
    finding = of(diagnose(folder, deep=True), "class-not-named")[0]
    assert finding.command.endswith("--untie")
    assert of(diagnose(repaired(finding.command, folder)), "class-not-named") == []


@pytest.mark.parametrize(
    ("changes", "name", "severity"),
    [({"hidden_act": "relu"}, "kerashub-activation", "warning"), ({}, "kerashub-activation", "note"),
     ({"hidden_act": "gelu_new"}, "kerashub-activation", ""), ({"layer_norm_eps": 1e-5}, "kerashub-epsilon", "note"),
     ({"layer_norm_eps": 1e-3}, "kerashub-epsilon", "warning"), ({}, "kerashub-epsilon", ""),
     ({"type_vocab_size": 3}, "kerashub-segments", "note"), ({}, "kerashub-pooler", "")],
)  # fmt: skip
def test_what_kerashub_ignores(tmp_path: Path, changes: dict[str, Any], name: str, severity: str) -> None:
    sizes = {"type_vocab_size": 2, **changes}
    folder = cp.save(tmp_path / "in", sick.CLASSIFIER, sick.state(sick.CLASSIFIER, **sizes), **sizes)
    found = of(diagnose(folder), name)
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    assert all(finding.affects == ("kerashub",) for finding in found)


def test_only_what_concerns_a_program_is_told(tmp_path: Path) -> None:
    folder = sick.tf_file(tmp_path / "in")
    (folder / "vocab.txt").write_text("[PAD]\n")
    assert not diagnose(folder).healthy
    assert diagnose(folder, programs=["transformers-4-tensorflow", "bertconv"]).healthy
    with pytest.raises(RequestError, match="there is no program 'jax'"):
        diagnose(folder, programs=["jax"])


def test_a_file_alone_and_options_that_a_command_needs(tmp_path: Path) -> None:
    folder = sick.prefixed("x's y.")(tmp_path / "in")
    config = tmp_path / "other.json"
    (folder / "config.json").rename(config)
    found = diagnose(folder / "model.safetensors", config=config, strip_prefix="x's y.")
    [finding], [config_finding] = of(found, "unread-prefix"), of(found, "no-config")
    assert finding.command == config_finding.command
    assert repaired(finding.command, folder) == tmp_path / "in-repaired"
    assert not {"unread-prefix", "no-config"} & {one.id for one in diagnose(tmp_path / "in-repaired").findings}
    assert of(diagnose(tmp_path / "in-repaired", config=config), "no-config") == []


def test_modules_of_sentence_transformers_are_looked_at_too(tmp_path: Path) -> None:
    folder = cp.save(tmp_path / "in", sick.BASE, sick.state(sick.BASE))
    listed = [{"path": "", "type": "a.Transformer"}, {"path": "2_Dense", "type": "a.Dense"}]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text("{}")
    weights = {"linear.weight": np.array([[1, np.nan]], np.float32)}
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(cp.torch_bytes(cp.torch_tensors(weights)))
    found = diagnose(folder, deep=True)
    assert of(found, "nan")[0].message.startswith("there are NaN in linear.weight, 1 in all")
    [finding] = of(found, "pickle")
    assert finding.message.startswith("2_Dense/pytorch_model.bin is a pickle")
    assert of(diagnose(repaired(finding.command, folder)), "pickle") == []


def test_names_reach_neither_the_terminal_nor_a_shell(tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    folder = sick.stale_shards(tmp_path / "a\x1b[2J")
    assert {finding.command for finding in diagnose(folder).findings} == {""}
    assert cli("doctor", folder, "--verbose").out.replace("\n", "").isprintable()
    folder = sick.prefixed("$(touch a); '.")(tmp_path / "other")
    words = shlex.split(of(diagnose(folder), "unread-prefix")[0].command)
    assert words[-1] == "$(touch a); '."


@pytest.mark.parametrize("container", ["safetensors", "tf-safetensors"])
@pytest.mark.parametrize("family", sorted({head.removesuffix("Model") for head in cp.APART if head.endswith("Model")}))
def test_a_healthy_model_of_any_family_is_healthy(tmp_path: Path, family: str, container: str) -> None:
    head = f"{family}Model"
    folder = cp.save(tmp_path / "in", head, sick.state(head), container)
    found = diagnose(folder, deep=True, programs=["bertconv", "others"])
    assert found.findings == ()


def test_the_working_folder_is_repaired_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sick.pickle(tmp_path / "in"))
    assert repaired(of(diagnose("."), "pickle")[0].command, Path()) == tmp_path / "in-repaired"


def test_nothing_of_the_hubs_cache_is_to_be_removed_or_written(tmp_path: Path) -> None:
    folder = tmp_path / "models--org--name" / "snapshots" / ("c" * 40)
    folder.parent.mkdir(parents=True)
    found = diagnose(sick.beside("bin")(folder))
    second, other = of(found, "second-weights")[0], of(found, "tensorflow-cannot-load")[0]
    assert (second.command, second.advice) == ("", "Keep the one that you want.")
    assert other.command == f"bertconv convert {folder} name-repaired --to tf"


@pytest.mark.parametrize("made", [sick.tf_names, sick.pickle, sick.beside("sharded"), sick.labels_disagree])
def test_nothing_is_written(tmp_path: Path, made: sick.Made) -> None:
    folder = made(tmp_path / "in")
    before = cp.snapshot(tmp_path)
    diagnose(folder, deep=True)
    assert cp.snapshot(tmp_path) == before


def test_what_cannot_be_read_is_refused_as_everywhere(tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    folder = sick.healthy(tmp_path / "in")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(DamagedCheckpoint):
        diagnose(folder)
    assert cli("doctor", folder).code == 5
    assert cli("doctor", tmp_path / "nothing").code == 2


@pytest.mark.parametrize(
    ("names", "finding"),
    [("lora", "unsupported"), ("two encoders", "refused"), ("two classes", "class-not-certain"),
     ("of several families", "family-not-certain"), ("nonsense", "config-damaged")],
)  # fmt: skip
def test_a_refusal_is_a_finding_with_its_way_out(tmp_path: Path, names: str, finding: str) -> None:
    if names == "nonsense":
        folder = cp.save(tmp_path / "in", sick.LM, sick.state(), hidden_size=-1)
    elif names == "of several families":
        config = cp.config(sick.BASE, model_type=None, architectures=None)
        folder = sick.plain(tmp_path / "in", cp.bare(sick.state(sick.BASE)))
        (folder / "config.json").write_text(json.dumps(config))
    elif names == "lora":
        tensors = {**sick.state(), "bert.encoder.layer.0.attention.self.query.lora_A.weight": np.ones((4, 35), "f4")}
        folder = sick.plain(tmp_path / "in", tensors)
    elif names == "two encoders":
        folder = sick.plain(tmp_path / "in", cp.prefixed(sick.state(), "a.") | cp.prefixed(sick.state(), "b."))
    else:
        head = "BertForTokenClassification"
        folder = cp.save(tmp_path / "in", head, sick.state(sick.CLASSIFIER), architectures=None)
    found = diagnose(folder)
    assert of(found, finding)[0].advice
    assert not found.healthy


def test_the_command_line_tells_it_in_text_and_json(tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    folder = sick.mixed(tmp_path / "in")
    told = cli("doctor", folder)
    assert told.code == 1
    assert "warning mixed-types: the tensors are of several types (float32, float16)" in told.out
    assert f"        $ bertconv convert {folder} {folder}-repaired --to pt --dtype float32\n" in told.out
    assert told.out.endswith("Not healthy: 2 warnings, 2 notes; the weights were not read (--deep).\n")
    assert len(cli("doctor", folder, "--quiet").out.splitlines()) == 3
    assert "from_pt=True" in (verbose := cli("doctor", folder, "--verbose", "--deep").out)
    assert "--to tf\n" in verbose
    facts = json.loads(cli("doctor", folder, "--json").out)
    assert (facts["healthy"], facts["inspection"]["head"]) == (False, sick.LM)
    assert facts == json.loads(json.dumps(diagnose(str(folder)).to_json()))
    shutil.rmtree(folder)
    assert cli("doctor", sick.tf_file(folder), "--for", "bertconv").code == 0
