"""JUnit XML of a verification: well formed whatever the names, and its counts are those of its test cases."""

from __future__ import annotations

import locale
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
import reports
from hypothesis import given
from hypothesis import strategies as st

from bertconv.verify.junit import junit_report
from bertconv.verify.parity import Cause, ConfigDifference, Divergence, Parity

MAKERS = [
    reports.good,
    reports.transposed,
    reports.weights_only,
    reports.not_finite,
    reports.relabelled,
    reports.hostile,
]
EACH = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


def suite(parity: Parity) -> ET.Element:
    return ET.fromstring(junit_report(parity).encode())


def failed(root: ET.Element) -> set[tuple[str, str]]:
    return {(case.get("classname", ""), case.get("name", "")) for case in root if case.find("failure") is not None}


@EACH
def test_counts_agree(make) -> None:
    parity = make()
    root = suite(parity)
    assert root.tag == "testsuite"
    assert {case.tag for case in root} == {"testcase"}
    assert int(root.get("tests")) == len(root)
    assert int(root.get("failures")) == len(root.findall("testcase/failure"))
    assert root.get("errors") == "0"
    assert (root.get("failures") == "0") == parity.ok
    assert float(root.get("time")) == pytest.approx(parity.seconds)


@EACH
def test_every_failure_says_what_is_wrong(make) -> None:
    for failure in suite(make()).findall("testcase/failure"):
        assert failure.get("message")
        assert failure.get("type") == "ParityError"
        assert failure.text.startswith("Not the same model: ")


def test_there_is_a_case_for_everything_that_was_compared() -> None:
    parity = reports.good(3)
    names = [(case.get("classname"), case.get("name")) for case in suite(parity)]
    assert len(names) == len(set(names))
    assert ("bertconv.config", "config") in names
    assert {name for kind, name in names if kind == "bertconv.weights"} == {one.id for one in parity.tensors}
    assert {name for kind, name in names if kind == "bertconv.gradients.float64"} == {
        one.id for one in parity.gradients
    }
    for dtype in parity.dtypes:
        expected = {one.place for one in parity.measurements if one.dtype == dtype and one.kind != "module"}
        assert {name for kind, name in names if kind == f"bertconv.outputs.{dtype}"} == expected


def test_the_tensor_and_the_outputs_behind_it_fail() -> None:
    root = suite(reports.transposed(4))
    assert ("bertconv.weights", "layer.3.attention_out.weight") in failed(root)
    assert ("bertconv.outputs.float32", "layer.3") in failed(root)
    assert ("bertconv.outputs.float32", "layer.2") not in failed(root)
    message = root.find("testcase[@name='layer.3.attention_out.weight']/failure").get("message")
    assert message == "different: 589,056 elements"


def test_nan_fails() -> None:
    root = suite(reports.not_finite())
    assert ("bertconv.outputs.float32", "layer.2") in failed(root)
    assert ("bertconv.outputs.float32", "layer.4") not in failed(root)


def test_a_config_that_differs_fails() -> None:
    difference = ConfigDifference("hidden_act", "gelu", "relu")
    root = suite(replace(reports.weights_only(), config=(difference,)))
    assert failed(root) == {("bertconv.config", "config")}
    assert root.find("testcase/failure").get("message") == "hidden_act is 'gelu' in A and 'relu' in B"


def test_a_tensor_on_one_side_only_fails_with_that() -> None:
    parity = reports.weights_only()
    alone = replace(parity.tensors[5], state="only in A", b="", dtype_b="", digest="")
    root = suite(replace(parity, tensors=(*parity.tensors[:5], alone, *parity.tensors[6:])))
    assert failed(root) == {("bertconv.weights", alone.id)}
    assert root.find("testcase/failure").get("message") == "only in A"


@given(text=st.text(st.characters(exclude_categories=()), min_size=1))
def test_any_name_can_be_written_and_told_apart(text: str) -> None:
    good = reports.weights_only()
    odd = replace(good.tensors[0], id=text, state="different", differing=7)
    parity = replace(
        good,
        tensors=(odd, *good.tensors[1:3]),
        a=replace(good.a, given=text),
        config=(ConfigDifference(text, text, [text]),),
        divergence=Divergence(text, "weights", text),
        causes=(Cause(text, (text,), text),),
    )
    root = suite(parity)
    name = root[1].get("name")
    assert name.isprintable()
    if text.isprintable():
        assert name == text
    assert len(failed(root)) == 2


def test_the_declaration_names_the_encoding_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locale, "getpreferredencoding", lambda *_: "ISO-8859-1")
    monkeypatch.setattr(locale, "getencoding", lambda: "ISO-8859-1")
    name = "Größe 模型"
    text = junit_report(replace(reports.weights_only(), a=replace(reports.side("a"), given=name)))
    assert text.splitlines()[0].lower() == "<?xml version='1.0' encoding='utf-8'?>"
    assert name in ET.fromstring(text.encode()).get("name")


def test_labels_and_tokenizer_are_cases_where_they_were_compared() -> None:
    assert failed(suite(reports.relabelled())) == {("bertconv.labels", "labels")}
    names = {(case.get("classname"), case.get("name")) for case in suite(reports.relabelled())}
    assert ("bertconv.tokenizer", "tokenizer") in names  # differences that do not count
    names = {case.get("classname") for case in suite(reports.good())}
    assert not names & {"bertconv.labels", "bertconv.tokenizer"}
