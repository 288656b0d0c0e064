"""A part of the model that no table knows (ERNIE's task_type_embeddings): left out by request, and noted everywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import checkpoints as cp
import numpy as np
import pytest
from checkpoints import Outcome

from bertconv import check_checkpoint, convert_checkpoint, verify_checkpoint
from bertconv.testing import assert_parity

Cli = Callable[..., Outcome]
HEAD = "BertForMaskedLM"
TASK, SCORE = "bert.embeddings.task_type_embeddings.weight", "score.weight"
WHOLE = "The same weights: 42/42 tensors equal, bit for bit."
REST = f"The same as the part of the source that was converted: 42/42 tensors equal, bit for bit; left out: {TASK}."


class Pair(NamedTuple):
    """A checkpoint with a tensor more, the output of its conversion, and what the conversion printed."""

    src: Path
    dst: Path
    said: Outcome


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return _converted(tmp_path_factory.mktemp("inside"), TASK)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return _converted(tmp_path_factory.mktemp("beside"), SCORE)


def _converted(folder: Path, name: str) -> Pair:
    rng = np.random.default_rng(3)
    shapes = {**cp.shapes(HEAD, cp.config(HEAD)), name: (3, 35)}
    tensors = {one: rng.normal(0, 0.5, shape).astype(np.float32) for one, shape in shapes.items()}
    src = cp.save(folder / "src", HEAD, tensors)
    words = ("pt2tf", src, folder / "dst", "--allow-unknown", re.escape(name))
    return Pair(src, folder / "dst", cp.run(*words, BERTCONV_VERIFY="weights"))


def test_it_is_refused_unless_it_is_allowed(cli: Cli, inside: Pair, tmp_path: Path) -> None:
    done = cli("pt2tf", inside.src, tmp_path / "out")
    assert (done.code, TASK in done.err) == (3, True)


def test_a_conversion_warns_of_a_part_of_the_model(inside: Pair, beside: Pair) -> None:
    assert (inside.said.code, beside.said.code) == (0, 0)
    assert f"Warning: the source computes with what was left out: {TASK}." in inside.said.out
    assert "1 left out, 1 of them a part of the model" in inside.said.out
    assert "Warning" not in beside.said.out
    assert "1 left out\n" in beside.said.out


def test_the_report_and_the_record_have_it(inside: Pair, tmp_path: Path) -> None:
    report = convert_checkpoint(inside.src, tmp_path / "out", to="pt", allow_unknown=["task_type"], verify="weights")
    assert report.omitted == (TASK,)
    assert report.to_json()["omitted"] == [TASK]
    record = json.loads((tmp_path / "out" / "bertconv.json").read_text())
    assert [(one["source"], one["inside"]) for one in record["left_out"]] == [(TASK, True)]


def test_the_verdict_is_about_the_rest(cli: Cli, inside: Pair, beside: Pair) -> None:
    done = cli("verify", inside.src, inside.dst, "--level", "weights")
    assert (done.code, done.out.splitlines()[-1]) == (0, REST)
    assert f"Warning: not compared, but a part of the model: A: {TASK}." in done.out
    done = cli("verify", beside.src, beside.dst, "--level", "weights")
    assert (done.code, done.out.splitlines()[-1]) == (0, WHOLE)
    assert f"Not part of {HEAD}: A: {SCORE}." in done.out
    assert "Warning" not in done.out


@pytest.mark.parametrize(
    ("a", "b", "names"), [("dst", "src", f"B: {TASK}"), ("src", "src", f"A: {TASK}, B: {TASK}")], ids=["B", "both"]
)
def test_b_or_both_sides_may_have_it(inside: Pair, a: str, b: str, names: str) -> None:
    parity = verify_checkpoint(getattr(inside, a), getattr(inside, b), level="weights")
    assert parity.ok
    assert parity.verdict() == (
        f"The same in the part that was compared: 42/42 tensors equal, bit for bit; left out: {names}."
    )


def test_json_junit_and_page_have_it(cli: Cli, inside: Pair, beside: Pair, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("parity.json", "parity.xml", "parity.html")]
    options = [f"--json={files[0]}", "--junit", files[1], "--report", files[2], "--level", "weights"]
    assert cli("verify", inside.src, inside.dst, *options).code == 0
    facts, suite, page = json.loads(files[0].read_text()), ET.parse(files[1]).getroot(), files[2].read_text()
    assert (facts["ok"], facts["omitted"], facts["left_out"]) == (True, [f"A: {TASK}"], [f"A: {TASK}"])
    assert facts["verdict"] == REST
    skipped = [case.get("name") for case in suite.iter("testcase") if case.find("skipped") is not None]
    assert (skipped, suite.get("skipped"), suite.get("failures")) == ([f"A: {TASK}"], "1", "0")
    assert int(suite.get("tests", 0)) == len(list(suite.iter("testcase")))
    assert "<h1>The same as the part of the source that was converted</h1>" in page
    assert 'class="verdict part"' in page
    assert cli("verify", beside.src, beside.dst, *options).code == 0
    facts, suite, page = json.loads(files[0].read_text()), ET.parse(files[1]).getroot(), files[2].read_text()
    assert (facts["omitted"], facts["left_out"], suite.get("skipped")) == ([], [f"A: {SCORE}"], "0")
    assert 'class="verdict good"' in page


def test_the_output_remembers_it(cli: Cli, inside: Pair, beside: Pair) -> None:
    found = check_checkpoint(inside.dst)
    assert (found.ok, found.omitted) == (True, (TASK,))
    assert f"The source computes with what was left out: {TASK}." in cli("verify", inside.dst).out
    assert check_checkpoint(beside.dst).omitted == ()
    assert "left out" not in cli("verify", beside.dst).out


def test_the_certificate_has_it(inside: Pair, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    report = convert_checkpoint(inside.src, tmp_path / "out", to="pt", allow_unknown=["task_type"], verify="outputs")
    assert report.parity["verdict"].startswith("The same as the part of the source that was converted: 42/42")
    assert report.parity["verdict"].endswith(f"; left out: {TASK}.")
    assert report.parity["omitted"] == [f"A: {TASK}"]
    assert check_checkpoint(tmp_path / "out").verdict().count(TASK) == 1


def test_an_assertion_passes_and_warns(inside: Pair, beside: Pair) -> None:
    with pytest.warns(UserWarning, match=re.escape(f"left out: {TASK}")):
        assert assert_parity(inside.src, inside.dst, level="weights").omitted == (f"A: {TASK}",)
    assert assert_parity(beside.src, beside.dst, level="weights").omitted == ()  # a warning would be an error here
