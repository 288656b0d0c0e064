"""The pytest plugin: a test per pair of the command line, the fixture, and nothing at all for those who use neither."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import checkpoints
import numpy as np
import pytest

pytest_plugins = ["pytester"]

HEAD = "BertForNextSentencePrediction"
NAMES = ("a", "b", "other")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `a`, `b` in TensorFlow's format, which is the same, and `other`, which is not."""
    root, tensors = tmp_path_factory.mktemp("pairs"), checkpoints.state_dict(HEAD)
    checkpoints.save(root / "a", HEAD, tensors)
    checkpoints.save(root / "b", HEAD, tensors, "h5")
    bias = "bert.encoder.layer.1.output.dense.bias"
    checkpoints.save(root / "other", HEAD, {**tensors, bias: tensors[bias][::-1]}, "h5")
    return root


@pytest.fixture
def pairs(pytester: pytest.Pytester, made: Path) -> pytest.Pytester:
    """An empty project beside those checkpoints; whatever warns in it is an error."""
    for name in NAMES:
        (pytester.path / name).symlink_to(made / name)
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider -p no:anyio\nfilterwarnings = error"
    )
    return pytester


def run(pairs: pytest.Pytester, *arguments: object) -> pytest.RunResult:
    return pairs.runpytest_inprocess("--bertconv-level", "weights", *arguments)


def parity(*names: str) -> tuple[str, ...]:
    return ("--bertconv-parity", *names)


def test_it_is_registered() -> None:
    found = {entry.name: entry.value for entry in importlib.metadata.entry_points(group="pytest11")}
    assert found["bertconv"] == "bertconv.pytest_plugin"


def test_a_pair_alone_is_a_test_run(pairs: pytest.Pytester) -> None:
    result = run(pairs, *parity("a", "b"), "-v")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*collected 1 item", "bertconv::parity[[]a,b] PASSED*"])


@pytest.mark.parametrize(("flags", "outcome"), [(("-W", "default"), "passed"), ((), "failed")])
def test_a_part_that_was_left_out_is_a_warning(pairs: pytest.Pytester, flags: tuple[str, ...], outcome: str) -> None:
    """Which the project's `filterwarnings = error` makes a failure."""
    task = "bert.embeddings.task_type_embeddings.weight"
    tensors = {**checkpoints.state_dict(HEAD), task: np.ones((3, 35), np.float32)}
    checkpoints.save(pairs.path / "ernie", HEAD, tensors)
    result = run(pairs, *parity("ernie", "b"), *flags)
    result.assert_outcomes(**{outcome: 1}, warnings=int(outcome == "passed"))
    result.stdout.fnmatch_lines([f"*The same as the part of the source that was converted*left out: {task}*"])


def test_every_pair_is_a_test_beside_those_of_the_project(pairs: pytest.Pytester) -> None:
    pairs.makepyfile("def test_own(): pass")
    result = run(pairs, *parity("a", "b"), *parity("b", "a"), *parity("a", "other"), "-v")
    result.assert_outcomes(passed=3, failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*::test_own PASSED*", "bertconv::parity[[]a,b] PASSED*", "*b,a] PASSED*", "*a,other] FAILED*"]
    )


def test_the_same_pair_twice_is_one_test(pairs: pytest.Pytester) -> None:
    run(pairs, *parity("a", "b"), *parity("a", "b")).assert_outcomes(passed=1)


def test_a_failure_is_the_verdict_without_a_traceback(pairs: pytest.Pytester) -> None:
    result = run(pairs, *parity("a", "other"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*parity[[]a,other]*", "Not the same model: first at layer.1.ffn_out: *"])
    text = result.stdout.str()
    assert "1 of 41 tensors differ" in text
    assert not any(noise in text for noise in ("Traceback", "raise ", ".py:", "assert_parity"))


@pytest.mark.parametrize("b", ["nowhere", "empty"])
def test_what_cannot_be_read_fails_with_its_sentence(
    pairs: pytest.Pytester, b: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pairs.path / "empty").mkdir()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run(pairs, *parity("a", b))
    result.assert_outcomes(failed=1)
    assert not any(noise in result.stdout.str() for noise in ("Traceback", "raise ", ".py:"))
    result.stdout.fnmatch_lines([f"*{b}: *"])


def test_another_exception_keeps_its_traceback(pairs: pytest.Pytester) -> None:
    pairs.makeconftest(
        "import bertconv.verification\n"
        "def broken(*a, **b): raise ZeroDivisionError('a bug')\n"
        "bertconv.verification.verify_checkpoint = broken\n"
    )
    result = pairs.runpytest_subprocess(*parity("a", "b"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError: a bug"])


def test_pairs_can_be_chosen_as_tests_are(pairs: pytest.Pytester) -> None:
    pairs.makepyfile("def test_own(): pass")
    result = run(pairs, *parity("a", "b"), *parity("a", "other"), "-k", "bertconv and not other")
    result.assert_outcomes(passed=1, deselected=2)
    listed = run(pairs, *parity("a", "b"), "--collect-only", "-q")
    listed.stdout.fnmatch_lines(["*::test_own", "bertconv::parity[[]a,b]"])


def test_those_that_failed_are_run_again(pairs: pytest.Pytester) -> None:
    pairs.makeini("[pytest]\nfilterwarnings = error")
    arguments = (*parity("a", "b"), *parity("a", "other"))
    run(pairs, *arguments).assert_outcomes(passed=1, failed=1)
    run(pairs, *arguments, "--last-failed").assert_outcomes(failed=1, deselected=1)


def test_workers_of_xdist_share_the_pairs(pairs: pytest.Pytester) -> None:
    result = pairs.runpytest_subprocess(*parity("a", "b"), *parity("b", "a"), "-n", "2", "--bertconv-level", "weights")
    result.assert_outcomes(passed=2)


def test_pytest_s_own_junit_holds_the_pairs(pairs: pytest.Pytester) -> None:
    run(pairs, *parity("a", "b"), *parity("a", "other"), "--junitxml", "junit.xml")
    suite = ET.parse(pairs.path / "junit.xml").getroot()[0]
    assert [case.get("name") for case in suite] == ["parity[a,b]", "parity[a,other]"]
    assert "Not the same model" in (suite[1][0].text or "")


def test_reports(pairs: pytest.Pytester) -> None:
    run(pairs, *parity("a", "b"), "--bertconv-report", "one.html").assert_outcomes(passed=1)
    assert "The same weights" in (pairs.path / "one.html").read_text()
    several = (*parity("a", "b"), *parity("a", "other"), "--bertconv-report", "all.html")
    run(pairs, *several).assert_outcomes(passed=1, failed=1)
    assert sorted(path.name for path in pairs.path.glob("all*")) == [
        "all-bertconv-parity-a-b.html", "all-bertconv-parity-a-other.html",
    ]  # fmt: skip


def test_the_fixture_has_the_command_line_s_options_as_defaults(pairs: pytest.Pytester) -> None:
    pairs.makepyfile(
        test_model="""
        import pytest

        def test_same(bertconv_parity):
            parity = bertconv_parity("a", "b")
            assert parity.level == "weights"

        @pytest.mark.parametrize("b", ["other"])
        def test_not_the_same(bertconv_parity, b):
            bertconv_parity("a", b)

        def test_own_options(bertconv_parity, tmp_path):
            parity = bertconv_parity("a", "b", level="weights", head="BertModel", report=tmp_path / "own.html")
            assert parity.head == "BertModel"
            assert (tmp_path / "own.html").is_file()
        """
    )
    result = run(pairs, "--bertconv-report", "page.html")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*Not the same model: first at layer.1.ffn_out: *"])
    assert sorted(path.name for path in pairs.path.glob("*.html")) == [
        "page-test_model-py-test_not_the_same-other.html", "page-test_model-py-test_same.html",
    ]  # fmt: skip


def test_without_the_option_for_it_no_report_is_written(pairs: pytest.Pytester) -> None:
    pairs.makepyfile("def test_same(bertconv_parity): bertconv_parity('a', 'b')")
    run(pairs).assert_outcomes(passed=1)
    assert list(pairs.path.glob("*.html")) == []


def test_by_default_the_best_level_is_taken(pairs: pytest.Pytester) -> None:
    pairs.makeconftest(
        "import bertconv.verification\n"
        "def reported(*a, **b): raise AssertionError(f'asked for {b}')\n"
        "bertconv.verification.verify_checkpoint = reported\n"
    )
    result = pairs.runpytest_subprocess(*parity("a", "b"))
    result.stdout.fnmatch_lines(["asked for {'level': 'auto', 'ignore': ()}"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(("--bertconv-parity", "a"), "expected 2 arguments"), (("--bertconv-level", "all"), "invalid choice: 'all'")],
)
def test_arguments_that_make_no_sense(pairs: pytest.Pytester, arguments: tuple[str, ...], sentence: str) -> None:
    result = pairs.runpytest_inprocess(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sentence in result.stderr.str()


def test_help(pairs: pytest.Pytester) -> None:
    text = pairs.runpytest_inprocess("--help").stdout.str()
    assert all(option in text for option in ("--bertconv-parity=A B", "--bertconv-level=", "--bertconv-report=FILE"))
    assert "bertconv_parity" in pairs.runpytest_inprocess("--fixtures").stdout.str()


def test_unused_it_loads_nothing_and_says_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import json, pathlib, sys

        def test_own(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("bertconv")
            pathlib.Path("modules.json").write_text(json.dumps(sorted(sys.modules)))
        """
    )
    result = pytester.runpytest_subprocess("-W", "error")
    result.assert_outcomes(passed=1)
    loaded = json.loads((pytester.path / "modules.json").read_text())
    own = {name for name in loaded if name.startswith("bertconv")}
    assert own == {"bertconv", "bertconv.errors", "bertconv.pytest_plugin", "bertconv.text"}
    assert not {"numpy", "click", "h5py", "torch", "tensorflow"} & set(loaded)
    assert "bertconv::" not in result.stdout.str()


def test_it_can_be_switched_off(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("-p", "no:bertconv", "--bertconv-parity", "a", "b")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_outputs_are_compared(pytester: pytest.Pytester) -> None:
    """In PyTorch on both sides, so that one framework starts; ordinary weights, so that nothing overflows."""
    rng = np.random.default_rng(1)
    shapes = checkpoints.shapes(HEAD, checkpoints.config(HEAD))
    tensors = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    for name, container in (("a", "safetensors"), ("b", "bin")):
        checkpoints.save(pytester.path / name, HEAD, tensors, container)
    report = ("--bertconv-report", "page.html")
    result = pytester.runpytest_subprocess("-W", "error", "--bertconv-level", "outputs", *parity("a", "b"), *report)
    result.assert_outcomes(passed=1)
    assert "The same model" in (pytester.path / "page.html").read_text()


@pytest.fixture
def relabelled(pairs: pytest.Pytester) -> pytest.Pytester:
    """The same with `named` and `reversed`, whose labels are not the same."""
    head = "BertForTokenClassification"
    for name, names in (("named", ("x", "y")), ("reversed", ("y", "x"))):
        labels = {"id2label": {str(number): label for number, label in enumerate(names)}, "label2id": None}
        checkpoints.save(pairs.path / name, head, checkpoints.state_dict(head, labels=2), **labels)
    return pairs


@pytest.mark.parametrize(("ignored", "outcome"), [((), "failed"), (("--bertconv-ignore", "labels"), "passed")])
def test_labels_of_a_pair(relabelled: pytest.Pytester, ignored: tuple[str, ...], outcome: str) -> None:
    relabelled.makepyfile("def test_it(bertconv_parity): bertconv_parity('named', 'reversed')")
    result = run(relabelled, *parity("named", "reversed"), *ignored)
    result.assert_outcomes(**{outcome: 2})
    if outcome == "failed":
        result.stdout.fnmatch_lines(["*Not the same model: label 0 is 'x' in A and 'y' in B."])
