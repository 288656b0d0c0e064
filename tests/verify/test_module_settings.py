"""Modules of sentence-transformers: what is made of the transformer's output is a part of the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest
from checkpoints import Outcome

from bertconv import convert_checkpoint, verify_checkpoint
from bertconv.verify.agreement import NO_MODULES
from bertconv.verify.certificate import certificate
from bertconv.verify.junit import junit_report
from bertconv.verify.parity import Parity

Cli = Callable[..., Outcome]
LIBRARY = "sentence_transformers.models."
LISTING, WHOLE, SENTENCE = "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"
POOLING = {"word_embedding_dimension": 35, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
           "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}  # fmt: skip
REORDERED = json.dumps(dict(reversed(POOLING.items())), indent=7).encode()
CLS = {**POOLING, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
DENSE = {"in_features": 35, "out_features": 13, "bias": True,
         "activation_function": "torch.nn.modules.activation.Tanh"}  # fmt: skip
PROMPTS = {"__version__": {"sentence_transformers": "2.2.0"}, "prompts": {"query": "find: ", "title": ""}}


def listing(*kinds: str) -> list[dict[str, Any]]:
    """`modules.json`: a transformer and these, as "1_Pooling"."""
    paths = ["", *kinds]
    return [
        {
            "idx": number,
            "name": str(number),
            "path": path,
            "type": f"{LIBRARY}{path.partition('_')[2] or 'Transformer'}",
        }
        for number, path in enumerate(paths)
    ]


FILES: dict[str, Any] = {
    LISTING: listing("1_Pooling", "2_Dense", "3_Normalize"), "1_Pooling/config.json": POOLING,
    "2_Dense/config.json": DENSE, WHOLE: PROMPTS, SENTENCE: {"max_seq_length": 19, "do_lower_case": False},
}  # fmt: skip


def made(folder: Path, files: dict[str, Any]) -> Path:
    cp.save(folder, "BertModel", cp.state_dict())
    for name, content in files.items():
        if content is not None:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    if LISTING in files and files.get("2_Dense/config.json"):
        weights = {"linear.weight": cp.random_array((13, 35), "float32", 7)}
        (folder / "2_Dense/model.safetensors").write_bytes(cp.safetensors_bytes(weights, {"format": "pt"}))
    return folder


def compared(tmp_path: Path, b: dict[str, Any], **options: Any) -> Parity:
    one, other = made(tmp_path / "a", FILES), made(tmp_path / "b", b)
    return verify_checkpoint(one, other, level="weights", digest=False, **options)


SAME: dict[str, dict[str, Any]] = {
    "itself": {},
    "order of keys, and spaces": {"1_Pooling/config.json": REORDERED},
    "versions": {WHOLE: {**PROMPTS, "__version__": {"sentence_transformers": "5.1.0", "pytorch": "2.8.0"}}},
    "defaults": {WHOLE: {**PROMPTS, "default_prompt_name": None, "similarity_fn_name": "cosine",
                         "model_type": "SentenceTransformer", "prompts": {"query": "find: ", "document": None}}},
    "pooling of version 6": {"1_Pooling/config.json": {"embedding_dimension": 35, "pooling_mode": "mean",
                                                       "include_prompt": True}},
    "more modes that are not used": {"1_Pooling/config.json": {**POOLING, "pooling_mode_lasttoken": False}},
    "a short activation": {"2_Dense/config.json": {**DENSE, "activation_function": "torch.nn.Tanh",
                                                   "module_input_name": "sentence_embedding"}},
    "the paths of version 6": {LISTING: [
        {**entry, "type": entry["type"].replace("models.", "base.modules.x.")} for entry in FILES[LISTING]
    ]},
    "other names": {LISTING: [{**entry, "name": f"own {entry['idx']}"} for entry in FILES[LISTING]]},
    "settings of a transformer that are its config's": {SENTENCE: {"max_seq_length": 19, "transformer_task": "x"}},
    "an empty file for none": {"3_Normalize/config.json": {}},
    "names that are the default": {"3_Normalize/config.json": {"module_input_name": "sentence_embedding",
                                                               "module_output_name": "sentence_embedding"}},
}  # fmt: skip


@pytest.mark.parametrize("b", SAME.values(), ids=SAME)
def test_the_same(tmp_path: Path, b: dict[str, Any]) -> None:
    parity = compared(tmp_path, FILES | b)
    assert parity.modules.lines() == []
    assert (parity.ok, parity.modules.sentence()) == (True, "4 modules, the same")
    assert "modules" not in parity.verdict()


KINDS = "Transformer, Pooling, Dense, Normalize"
DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "pooling": ({"1_Pooling/config.json": CLS},
                "pooling_mode of 1_Pooling is 'mean' in A and 'cls' in B"),
    "prompts in the mean": ({"1_Pooling/config.json": {**POOLING, "include_prompt": False}},
                            "include_prompt of 1_Pooling is True in A and False in B"),
    "activation": ({"2_Dense/config.json": {**DENSE, "activation_function": "torch.nn.modules.linear.Identity"}},
                   "activation_function of 2_Dense is 'Tanh' in A and 'Identity' in B"),
    "order": ({LISTING: listing("1_Pooling", "3_Normalize", "2_Dense")},
              f"the modules are {KINDS} in A and Transformer, Pooling, Normalize, Dense in B"),
    "one less": ({LISTING: listing("1_Pooling", "2_Dense")},
                 f"the modules are {KINDS} in A and Transformer, Pooling, Dense in B"),
    "a class of somebody": ({LISTING: [*FILES[LISTING][:3], {**FILES[LISTING][3], "type": "own.Normalize"}]},
                            f"the modules are {KINDS} in A and Transformer, Pooling, Dense, own.Normalize in B"),
    "prompts": ({WHOLE: {**PROMPTS, "prompts": {"query": "ask: "}}},
                f"prompts['query'] of {WHOLE} is 'find: ' in A and 'ask: ' in B"),
    "a default prompt": ({WHOLE: {**PROMPTS, "default_prompt_name": "query", "prompts": {"query": "find: "}}},
                         f"default_prompt_name of {WHOLE} is missing in A and 'query' in B"),
    "similarity": ({WHOLE: {**PROMPTS, "similarity_fn_name": "dot"}},
                   f"similarity_fn_name of {WHOLE} is 'cosine' in A and 'dot' in B"),
    "nothing for the whole": ({WHOLE: None}, f"prompts['query'] of {WHOLE} is 'find: ' in A and missing in B"),
    "lower case": ({SENTENCE: {"max_seq_length": 19, "do_lower_case": True}},
                   "do_lower_case of Transformer is False in A and True in B"),
    "arguments of a module": ({LISTING: [*FILES[LISTING][:3], {**FILES[LISTING][3], "kwargs": ["task"]}]},
                              "kwargs of 3_Normalize is missing in A and ['task'] in B"),
    "what is normalised": ({"3_Normalize/config.json": {"module_input_name": "token_embeddings"}},
                           "module_input_name of 3_Normalize is 'sentence_embedding' in A and 'token_embeddings' in B"),
    "another file of a module": ({"3_Normalize/own_config.json": {"p": 2}},
                                 "own_config.json of 3_Normalize is missing in A and {'p': 2} in B"),
    "a file that is no JSON": ({"1_Pooling/config.json": b"{"}, "in B 1_Pooling/config.json is no sound JSON object"),
    "no list of modules": ({LISTING: None}, f"modules.json lists {KINDS} in A and is missing in B"),
    "nested to the limit": ({"1_Pooling/config.json": b'{"a":' * 60 + b"1" + b"}" * 60},
                            "in B 1_Pooling/config.json is no sound JSON object"),
}  # fmt: skip


@pytest.mark.parametrize(("b", "sentence"), DIFFERENT.values(), ids=DIFFERENT)
def test_different(tmp_path: Path, b: dict[str, Any], sentence: str) -> None:
    parity = compared(tmp_path, FILES | b)
    assert sentence in parity.modules.lines()
    assert (parity.ok, parity.divergence.evidence) == (False, "modules")
    assert parity.verdict().startswith("Not the same model: ")
    assert f"Different modules: {sentence}." in parity.failure_text()
    assert 'classname="bertconv.modules"' in junit_report(parity)
    assert certificate(parity)["modules"]["state"] == "different"
    assert parity.to_json()["modules"]["ok"] is False


def test_no_file_at_all_is_told_and_no_difference(tmp_path: Path) -> None:
    parity = compared(tmp_path, {})
    assert parity.ok
    assert parity.modules.sentence() == "not compared: B has no files of sentence-transformers"
    assert parity.verdict().endswith("; modules were not compared: B has no files of sentence-transformers.")
    assert any("2_Dense were not compared" in note for note in parity.notes)


def test_models_without_modules(tmp_path: Path) -> None:
    parity = verify_checkpoint(made(tmp_path / "a", {}), made(tmp_path / "b", {}), level="weights")
    assert (parity.modules.about, parity.ok) == (NO_MODULES, True)
    assert "modules" not in parity.verdict()


def test_sizes_of_other_modules_were_renamed(tmp_path: Path) -> None:
    one, other = (
        made(tmp_path / place, {LISTING: listing("1_LSTM"), "1_LSTM/lstm_config.json": {key: 35, "hidden_dim": 7}})
        for place, key in (("a", "word_embedding_dimension"), ("b", "embedding_dimension"))
    )
    parity = verify_checkpoint(one, other, level="weights")
    assert (parity.ok, parity.modules.sentence()) == (True, "2 modules, the same")


def test_the_same_broken_file_is_not_compared(tmp_path: Path) -> None:
    broken = made(tmp_path / "a", {**FILES, "1_Pooling/config.json": b"[]"})
    parity = verify_checkpoint(broken, shutil.copytree(broken, tmp_path / "b"), level="weights")
    assert parity.ok
    assert "modules were not compared: A's 1_Pooling/config.json is no sound JSON object, and B's" in parity.verdict()


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    b, sentence = DIFFERENT["pooling"]
    one, other = made(tmp_path / "a", FILES), made(tmp_path / "b", FILES | b)
    done = cli("verify", one, other, "--level", "weights")
    assert (done.code, done.out.splitlines()[-1]) == (1, f"Different modules: {sentence}.")
    done = cli("verify", one, other, "--level", "weights", "--ignore", "modules")
    assert (done.code, f"  {sentence}." in done.out.splitlines()) == (0, True)
    assert done.out.splitlines()[-1].endswith("; differences in the modules were ignored.")
    assert "Modules" not in cli("verify", made(tmp_path / "bare", {}), tmp_path / "bare", "--level", "weights").out


@pytest.mark.parametrize("inner", ["", "0_Transformer"])
def test_a_conversion_keeps_them(tmp_path: Path, inner: str) -> None:
    """A transformer in a folder of its own moves to the root."""
    src = made(tmp_path / "a", {name: content for name, content in FILES.items() if not inner or name != SENTENCE})
    if inner:
        (src / inner).mkdir()
        for name in ("config.json", "model.safetensors"):
            (src / name).rename(src / inner / name)
        (src / inner / SENTENCE).write_text(json.dumps(FILES[SENTENCE]))
        entries = [{**FILES[LISTING][0], "path": inner}, *FILES[LISTING][1:]]
        (src / LISTING).write_text(json.dumps(entries))
    convert_checkpoint(src, tmp_path / "out", to="tf-safetensors", verify="weights")
    parity = verify_checkpoint(src, tmp_path / "out", level="weights")
    assert (parity.ok, parity.modules.sentence()) == (True, "4 modules, the same")
