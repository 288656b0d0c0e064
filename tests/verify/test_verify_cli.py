"""`bertconv verify`: every option, its exit codes, and what it prints where."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import checkpoints
import numpy as np
import pytest
from checkpoints import Outcome

from bertconv.cli import verify as command
from bertconv.verify import outputs

HEAD, SEQUENCE = "BertForTokenClassification", "BertForSequenceClassification"
BROKEN = "bert.encoder.layer.1.attention.self.value.bias"
FRAMEWORKS = ("torch", "tensorflow", "keras", "transformers", "jax")

Cli = Callable[..., Outcome]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model in PyTorch's format (a, bin), TensorFlow's (h5), as an output of bertconv (out); others are not it."""
    root, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(5)
    shapes = checkpoints.shapes(HEAD, checkpoints.config(HEAD))
    tensors = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    for name, container in (("a", "safetensors"), ("bin", "bin"), ("h5", "h5")):
        checkpoints.save(root / name, HEAD, tensors, container)
    other = {**tensors, BROKEN: tensors[BROKEN] + np.float32(0.25)}
    checkpoints.save(root / "other", HEAD, other)
    checkpoints.save(root / "relu", HEAD, tensors, hidden_act="relu")
    half = {name: value.astype(np.float16) for name, value in tensors.items()}
    checkpoints.save(root / "half", HEAD, half)
    lacking = {name: value for name, value in tensors.items() if name != "bert.encoder.layer.0.output.dense.bias"}
    checkpoints.save(root / "lacking", HEAD, lacking)
    (root / "empty").mkdir()
    assert checkpoints.call("pt2tf", root / "a", root / "out", "--quiet") == 0
    return root


@pytest.fixture
def verify(cli: Cli, made: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`bertconv verify` among those folders; weights unless a level is given."""
    monkeypatch.chdir(made)
    monkeypatch.setenv("BERTCONV_VERIFY_LEVEL", "weights")
    return lambda *arguments: cli("verify", *arguments)


def last(outcome: Outcome) -> str:
    return outcome.out.strip().splitlines()[-1]


# Exit codes and the verdict


@pytest.mark.parametrize("b", ["a", "bin", "h5", "out", "out/tf_model.h5"])
def test_the_same_is_0(verify: Cli, b: str) -> None:
    outcome = verify("a", b)
    assert (outcome.code, outcome.err) == (0, "")
    assert last(outcome) == "The same weights: 39/39 tensors equal, bit for bit."
    container = "safetensors" if b == "a" else "torch" if b == "bin" else "hdf5"
    assert outcome.out.splitlines()[:3] == [
        "A a (pt, safetensors)", f"B {b} ({'pt' if b in ('a', 'bin') else 'tf'}, {container})", f"as {HEAD}",
    ]  # fmt: skip


def test_another_model_is_1(verify: Cli) -> None:
    outcome = verify("a", "other")
    assert (outcome.code, outcome.err) == (1, "")
    assert "Not the same model: first at layer.1.value: layer.1.value.bias differs in 35 elements" in outcome.out
    assert outcome.out.endswith("1 of 39 tensors differ:\n  layer.1.value.bias\n")


def test_another_config_is_1(verify: Cli) -> None:
    outcome = verify("a", "relu")
    assert outcome.code == 1
    assert "Likely cause: hidden_act is 'gelu' in A's config and 'relu' in B's." in outcome.out


@pytest.mark.parametrize(
    ("named_a", "named_b", "head"),
    [(SEQUENCE, None, SEQUENCE), (HEAD, None, HEAD), (None, SEQUENCE, SEQUENCE), (None, HEAD, HEAD), (None, None, "")],
)
def test_the_class_is_that_of_the_side_that_has_one(
    verify: Cli, tmp_path: Path, named_a: str | None, named_b: str | None, head: str
) -> None:
    tensors = checkpoints.state_dict(SEQUENCE)
    a, b = (
        checkpoints.save(tmp_path / place, SEQUENCE, tensors, container, architectures=named and [named])
        for place, container, named in (("a", "safetensors", named_a), ("b", "bin", named_b))
    )
    outcome = verify(a, b)
    assert outcome.code == (0 if head else 3)
    assert (f"as {head}" in outcome.out.splitlines()) == bool(head)
    if not head:
        assert f"the tensors fit {SEQUENCE} and {HEAD} alike" in outcome.err
        assert verify(a, b, "--head", HEAD).code == 0


def test_a_dropped_tensor_is_told(verify: Cli) -> None:
    there, here = verify("a", "lacking"), verify("lacking", "a")
    assert (there.code, here.code) == (1, 1)
    assert "layer.0.ffn_out.bias is only in A" in there.out
    assert "layer.0.ffn_out.bias is only in B" in here.out


def test_a_dropped_tensor_that_makes_it_another_class_is_told(verify: Cli, tmp_path: Path) -> None:
    head = "BertForSequenceClassification"
    tensors = checkpoints.state_dict(head)
    checkpoints.save(tmp_path / "whole", head, tensors)
    checkpoints.save(tmp_path / "part", head, {k: v for k, v in tensors.items() if k != "bert.pooler.dense.bias"})
    outcome = verify(tmp_path / "whole", tmp_path / "part")
    assert outcome.code == 1
    assert "pooler.dense.bias is only in A" in outcome.out


def test_a_cast_is_the_same_once_rounded_and_the_original_is_not_the_cast(verify: Cli) -> None:
    outcome = verify("a", "half")
    assert outcome.code == 0
    assert last(outcome) == (
        "The same weights: 0/39 tensors equal, bit for bit; 39 equal once A is rounded to float16."
    )
    assert verify("half", "a").code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ((), 2, "Missing argument 'A'"),
        (("a", "h5", "bin"), 2, "unexpected extra argument"),
        (("a", "h5", "--dtype", "float32,int8"), 2, "'int8' is not one of float64, float32, bfloat16, float16."),
        (("a", "h5", "--level", "all"), 2, "'all' is not one of"),
        (("a", "h5", "--max-error", "-1"), 2, "-1"),
        (("a", "h5", "--seed", "-1"), 2, "-1"),
        (("a", "h5", "--oracle", "jax"), 2, "'jax' is not one of"),
        (("a", "h5", "--head", "BertForPoetry"), 2, "BertForPoetry is not a class of this table."),
        (("a", "h5", "--config-a", "nowhere.json"), 2, "'nowhere.json' does not exist"),
        (("a", "h5", "--report", "nowhere/page.html"), 7, "nowhere/page.html: the report could not be written"),
        (("a", "h5", "--json", "nowhere/facts.json"), 7, "nowhere/facts.json: the report could not be written"),
        (("a", "h5", "--junit", "out"), 2, "'out' is a directory"),
        (("a", "empty"), 5, "there are no weights"),
        (("a", "bin", "--level", "outputs", "--saved-model"), 2, "bin: holds no SavedModel."),
    ],
)  # fmt: skip
def test_what_cannot_be_done_says_so(verify: Cli, arguments: tuple[str, ...], code: int, sentence: str) -> None:
    outcome = verify(*arguments)
    assert outcome.code == code, outcome
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err


def test_what_is_nowhere_is_8(verify: Cli) -> None:
    for arguments in (("a", "no-such-folder"), ("no-such-folder", "a")):
        outcome = verify(*arguments, "--local-files-only")
        assert outcome.code == 8
        assert "no-such-folder: " in outcome.err


def test_an_error_is_json_where_json_is_asked_for(verify: Cli) -> None:
    outcome = verify("a", "empty", "--json")
    assert (outcome.code, outcome.err) == (5, "")
    error = json.loads(outcome.out)
    assert (error["ok"], error["error"]["code"]) == (False, 5)


def test_an_error_is_text_where_the_json_goes_to_a_file(verify: Cli, tmp_path: Path) -> None:
    for arguments in (("--json", tmp_path / "facts.json"), (f"--json={tmp_path / 'facts.json'}",)):
        outcome = verify("a", "empty", *arguments)
        assert (outcome.code, outcome.out) == (5, "")
        assert outcome.err.startswith("Error: empty: there are no weights")
        assert not (tmp_path / "facts.json").exists()


# Where it goes


@pytest.mark.parametrize("b", ["h5", "other"])
@pytest.mark.parametrize("option", [["--json"], ["--json", "-"], ["--json=-"], ["--json", "--quiet"]])
def test_json_to_the_output_is_all_that_is_printed(verify: Cli, b: str, option: list[str]) -> None:
    outcome = verify("a", b, *option)
    facts = json.loads(outcome.out)
    assert facts["ok"] is (b == "h5")
    assert outcome.code == (not facts["ok"])
    assert (facts["a"]["given"], facts["b"]["given"]) == ("a", b)
    assert facts["command"] == f"bertconv verify a {b} --level weights --seed 0"
    assert (outcome.err, facts["level"]) == ("", "weights")


def test_json_to_a_file_leaves_the_output_alone(verify: Cli, tmp_path: Path) -> None:
    plain, file = verify("a", "h5"), tmp_path / "facts.json"
    for arguments in (("--json", file), (f"--json={file}",)):
        assert verify("a", "h5", *arguments) == plain
        assert json.loads(file.read_text())["ok"] is True
        file.unlink()


def test_files_are_written_whatever_the_verdict(verify: Cli, tmp_path: Path) -> None:
    files = {name: tmp_path / f"parity.{name}" for name in ("json", "junit", "report")}
    options = [word for name, file in files.items() for word in (f"--{name}", file)]
    for b in ("h5", "other"):
        outcome = verify("a", b, *options)
        assert outcome.code == (b == "other")
        assert json.loads(files["json"].read_text())["ok"] is (b == "h5")
        assert int(ET.parse(files["junit"]).getroot().get("failures", "")) == (b == "other")
        assert ("Not the same model" in files["report"].read_text()) == (b == "other")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["parity.json", "parity.junit", "parity.report"]


@pytest.mark.parametrize("arguments", [["a", "h5"], ["a", "other"], ["out"], ["a", "relu", "-q"]])
def test_quiet_prints_the_verdict_alone(verify: Cli, arguments: list[str]) -> None:
    outcome, whole = verify(*arguments, "--quiet"), verify(*[word for word in arguments if word != "-q"])
    assert outcome.out.startswith(("The same weights:", "Not the same model:", "Unchanged:"))
    assert whole.out.endswith(outcome.out)
    assert outcome.err == ""
    assert outcome.code == bool({"other", "relu"} & set(arguments))


def test_the_same_command_gives_the_same_json(verify: Cli) -> None:
    one, other = (json.loads(verify("a", "h5", "--json").out) for _ in range(2))
    assert {**one, "seconds": 0} == {**other, "seconds": 0}


# What is compared


def test_head(verify: Cli) -> None:
    outcome = verify("a", "h5", "--head", "BertModel", "--json")
    facts = json.loads(outcome.out)
    assert (outcome.code, facts["head"], len(facts["tensors"])) == (0, "BertModel", 37)
    assert any(name.startswith("A: classifier") for name in facts["left_out"])
    assert verify("a", "other", "--head", "BertModel").code == 1


@pytest.mark.parametrize("side", ["a", "b"])
def test_config_of_a_side(verify: Cli, side: str) -> None:
    outcome = verify("a", "h5", f"--config-{side}", "relu/config.json", "--json")
    facts = json.loads(outcome.out)
    other = "b" if side == "a" else "a"
    assert outcome.code == 1
    assert [(one["key"], one[side], one[other]) for one in facts["config"]] == [("hidden_act", "relu", "gelu")]
    assert verify("a", "relu", "--config-b", "a/config.json").code == 0


def test_a_file_without_a_config_needs_one(verify: Cli, made: Path, tmp_path: Path) -> None:
    file = shutil.copy(made / "h5" / "tf_model.h5", tmp_path)
    outcome = verify("a", file)
    assert outcome.code == 3
    assert "has no config.json" in outcome.err
    assert verify("a", file, "--config-b", "a/config.json").code == 0


FACTS: dict[tuple[Any, ...], dict[str, Any]] = {}
"""What was found already, by the options."""


def facts_of(verify: Cli, *arguments: Any) -> dict[str, Any]:
    """A comparison of outputs in PyTorch on both sides, which starts one framework only."""
    if arguments not in FACTS:
        outcome = verify("a", "bin", "--level", "outputs", *arguments, "--json")
        FACTS[arguments] = json.loads(outcome.out)
        assert outcome.code == (not FACTS[arguments]["ok"]), outcome
    return FACTS[arguments]


def test_dtypes(verify: Cli) -> None:
    assert facts_of(verify)["dtypes"] == ["float64", "float32"]
    assert facts_of(verify, "--dtype", "float64")["dtypes"] == ["float64"]
    facts = facts_of(verify, "--dtype", "bfloat16, float32")
    assert facts["dtypes"] == ["float64", "float32", "bfloat16"]
    assert {one["dtype"] for one in facts["measurements"]} == set(facts["dtypes"])


def test_the_table_of_outputs(verify: Cli) -> None:
    outcome = verify("a", "bin", "--level", "outputs")
    assert outcome.code == 0
    rows = [line.split(" | ") for line in outcome.out.splitlines() if line.count(" | ") == 6]
    assert {row[0].strip() for row in rows[1:]} == {"float64", "float32"}
    assert {row[5].strip() for row in rows[1:]} == {"ok"}
    assert last(outcome).startswith("The same model: 39/39 tensors equal, bit for bit; outputs equal in float64 to ")


def test_outputs_that_differ(verify: Cli) -> None:
    outcome = verify("a", "other", "--level", "outputs")
    assert outcome.code == 1
    assert " | FAIL | " in outcome.out
    assert "Not the same model: first at layer.1.value" in outcome.out


def test_max_error(verify: Cli) -> None:
    plain = facts_of(verify)
    limits = {one["limit"] for one in plain["measurements"] if one["kind"] == "output"}
    assert 1e-3 not in limits
    facts = facts_of(verify, "--max-error", "1e-3")
    assert facts["limits"]["max_error"] == 1e-3
    assert {one["limit"] for one in facts["measurements"] if one["kind"] != "module"} == {1e-3}
    strict = facts_of(verify, "--max-error", "0")
    assert not strict["ok"]
    assert {one["dtype"] for one in strict["measurements"] if not one["ok"]} == {"float32"}


def test_max_hidden_error(verify: Cli) -> None:
    facts = facts_of(verify, "--max-error", "1e-3", "--max-hidden-error", "1e-2")
    limits = {kind: {one["limit"] for one in facts["measurements"] if one["kind"] == kind} for kind in
              ("output", "hidden state", "attentions")}  # fmt: skip
    assert limits == {"output": {1e-3}, "hidden state": {1e-2}, "attentions": {1e-2}}


def test_seed(verify: Cli) -> None:
    plain, other = (facts_of(verify, *option)["cases"] for option in ((), ("--seed", "4")))
    assert [case["seed"] for case in other] == [case["seed"] + 4 for case in plain]
    assert facts_of(verify, "--seed", "4")["command"].endswith("--seed 4")


def test_oracle(verify: Cli) -> None:
    assert facts_of(verify)["a"]["framework"].startswith("reference on torch")
    assert facts_of(verify, "--oracle", "transformers")["a"]["framework"].startswith("transformers 5")


def test_gradients(verify: Cli) -> None:
    assert facts_of(verify)["gradients"] == []
    outcome = verify("a", "bin", "--level", "gradients", "--json")
    facts = json.loads(outcome.out)
    assert outcome.code == 0
    assert {one["id"] for one in facts["gradients"]} <= {one["id"] for one in facts["tensors"]}
    assert len(facts["gradients"]) > 30


def test_the_level_can_come_from_the_environment(cli: Cli, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTCONV_VERIFY_LEVEL", "weights")
    assert json.loads(cli("verify", made / "a", made / "bin", "--json").out)["level"] == "weights"
    monkeypatch.delenv("BERTCONV_VERIFY_LEVEL")
    assert json.loads(cli("verify", made / "a", made / "bin", "--json").out)["level"] == "outputs"


# A process of its own


@pytest.mark.parametrize("b", ["h5", "other"])
def test_weights_import_no_framework(made: Path, tmp_path: Path, b: str) -> None:
    spy = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print(*sorted({set(FRAMEWORKS)} & sys.modules.keys()), file=sys.stderr))"
    )
    outcome = checkpoints.run(
        "verify", made / "a", made / b, "--level", "weights", "--report", tmp_path / "page.html",
        "--junit", tmp_path / "junit.xml", "--json", before=spy,
    )  # fmt: skip
    assert outcome.code == (b == "other")
    assert outcome.err.split() == []


def test_a_pipe_that_is_closed_early(made: Path) -> None:
    for arguments in (["verify", made / "a", made / "other", "--level", "weights"], ["verify", made / "out"]):
        outcome = checkpoints.run_into_a_closed_pipe(*arguments)
        assert outcome.code == 128 + 13
        assert outcome.err == ""


def test_no_colours_and_no_bar_where_there_is_no_terminal(verify: Cli) -> None:
    for arguments in (("a", "other"), ("a", "h5"), ("out",)):
        assert "\x1b" not in verify(*arguments).out


# A alone


def test_an_output_unchanged(verify: Cli) -> None:
    outcome = verify("out")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.fullmatch(
        r"Unchanged: 2 files and 39 tensors are as bertconv \S+ wrote them\. Proven then: its weights\.\n", outcome.out
    )
    facts = json.loads(verify("out", "--json").out)
    assert (facts["ok"], facts["changes"], facts["verified"], facts["tensors"]) == (True, [], "weights", 39)


def test_an_output_changed(verify: Cli, made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "out", tmp_path / "changed")
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("gelu", "relu"))
    (folder / "README.md").write_text("mine")
    outcome = verify(folder)
    assert (outcome.code, outcome.err) == (1, "")
    assert outcome.out == "Changed since it was written:\n  config.json has other bytes\nNot on record: README.md.\n"
    outcome = verify(folder, "--json", tmp_path / "facts.json")
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert (outcome.code, facts["ok"], facts["added"]) == (1, False, ["README.md"])


def test_no_output(verify: Cli) -> None:
    outcome = verify("a")
    assert outcome.code == 2
    assert outcome.err.startswith("Error: a: holds no bertconv.json")
    assert verify("nowhere").code == 2


def test_an_output_without_digests(verify: Cli, tmp_path: Path) -> None:
    assert checkpoints.call("pt2tf", "a", tmp_path / "bare", "--verify", "none", "--quiet") == 0
    outcome = verify(tmp_path / "bare")
    assert outcome.code == 2
    assert "was written with --verify none" in outcome.err


@pytest.mark.parametrize(
    "option", [["--report", "x.html"], ["--junit", "x.xml"], ["--level", "outputs"], ["--max-error", "1"],
               ["--head", "BertModel"], ["--saved-model"], ["--seed", "1"]],
)  # fmt: skip
def test_options_for_two_are_refused_for_one(verify: Cli, made: Path, option: list[str]) -> None:
    outcome = verify("out", *option)
    assert outcome.code == 2
    assert outcome.err == f"Error: {option[0]} needs two checkpoints.\nGive A and B.\n"
    assert not (made / "x.html").exists()


# Help


def test_the_element_types_of_the_command_are_those_of_the_comparison() -> None:
    assert command.DTYPES == outputs.DTYPES


def test_help_names_every_option(cli: Cli) -> None:
    outcome = cli("verify", "--help")
    assert outcome.code == 0
    for option in (
        "level", "dtype", "max-error", "max-hidden-error", "oracle", "saved-model", "seed", "head", "config-a",
        "config-b", "token", "cache-dir", "local-files-only", "report", "json", "junit", "quiet",
        "verbose",
    ):  # fmt: skip
        assert f"--{option}" in outcome.out
    assert "Exit code 0: the same; 1: not the same." in re.sub(r"\s+", " ", outcome.out)
    assert max(map(len, outcome.out.splitlines())) <= 100
    assert "verify" in cli("--help").out


def test_a_checkpoint_is_no_file_for_json(verify: Cli, made: Path) -> None:
    """`--json A B` reads as: A is the file to write."""
    before = (made / "a" / "model.safetensors").read_bytes()
    done = verify("--json", "a/model.safetensors", "out")
    assert done.code == 2
    assert "does not end in .json" in done.err
    assert (made / "a" / "model.safetensors").read_bytes() == before


def test_a_report_replaces_reports_only(verify: Cli, made: Path) -> None:
    """Whatever the name of a file, a report is written over nothing but an earlier one."""
    index = made / "index.json"
    index.write_text('{"weight_map": {}}')
    for option in ("--json", "--report", "--junit"):
        done = verify("a", "bin", option, "index.json")
        assert done.code == 7
        assert "is no report" in done.err
        assert index.read_text() == '{"weight_map": {}}'
        name = f"again{option}.json"
        assert [verify("a", "bin", option, name).code for _ in range(2)] == [0, 0]


# Labels and tokenizer


@pytest.fixture
def relabelled(made: Path, tmp_path: Path) -> Path:
    """The same weights whose labels are reversed, with a tokenizer."""
    other = shutil.copytree(made / "a", tmp_path / "relabelled")
    names = {str(number): f"label {10 - number}" for number in range(11)}
    config = {**checkpoints.config_of(other), "id2label": names, "label2id": None}
    checkpoints.write_config(other, config)
    (other / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    return other


def test_other_labels_are_1(verify: Cli, relabelled: Path) -> None:
    outcome = verify("a", relabelled)
    assert (outcome.code, outcome.err) == (1, "")
    lines = outcome.out.splitlines()
    assert "Not the same model: label 0 is 'label 0' in A and 'label 10' in B." in lines
    assert "Labels: different." in lines
    assert "Tokenizer: not compared: A has no tokenizer files." in lines
    assert last(outcome) == "Different labels: label 0 is 'label 0' in A and 'label 10' in B (9 more in id2label)."


@pytest.mark.parametrize("ignored", ["labels", "labels,tokenizer", " tokenizer , labels"])
def test_labels_can_be_ignored(verify: Cli, relabelled: Path, ignored: str) -> None:
    outcome = verify("a", relabelled, "--ignore", ignored)
    assert outcome.code == 0
    assert "Labels: different, and ignored as asked for." in outcome.out.splitlines()
    assert last(outcome).startswith("The same weights: ")
    assert last(outcome).endswith("; differences in the labels were ignored.")


def test_nothing_else_can_be_ignored(verify: Cli, relabelled: Path) -> None:
    outcome = verify("a", relabelled, "--ignore", "labels,config")
    assert outcome.code == 2
    assert "'config' is not one of labels, tokenizer, modules" in outcome.err
    assert verify("a", relabelled, "--ignore", "tokenizer").code == 1


def test_what_is_the_same_is_said(verify: Cli) -> None:
    lines = verify("a", "h5").out.splitlines()
    assert "Labels: 11 labels, the same." in lines
    assert "Tokenizer: not compared: A and B have no tokenizer files." in lines
