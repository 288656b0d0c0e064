"""Parts of models: a class, a head that remembers its backbone, both together again, and some of the layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest

from bertconv import (
    attach_head,
    check_checkpoint,
    convert_checkpoint,
    diagnose,
    extract_checkpoint,
    inspect_checkpoint,
    keep_layers,
    shard_checkpoint,
)
from bertconv.errors import (
    DamagedCheckpoint,
    MappingError,
    RequestError,
    ShapeMismatch,
    TiedTensorsDiffer,
    UnknownTensors,
    UnsupportedCheckpoint,
)
from bertconv.manage.heads import head_groups

HEAD = "BertForSequenceClassification"
MLM = "BertForMaskedLM"
CONTAINERS = ("safetensors", "h5", "tf-safetensors", "sharded")


def saved(folder: Path, head: str, container: str = "safetensors", seed: int = 0, **changes: Any) -> Path:
    return cp.save(folder, head, cp.state_dict(head, seed=seed, **changes), container, **changes)


def tree(folder: Path, head: str = HEAD) -> tuple[Path, Path]:
    """A model, its backbone and its head."""
    src = saved(folder / "in", head)
    extract_checkpoint(src, folder / "body", head="BertModel")
    extract_checkpoint(src, folder / "head", part="head")
    return folder / "body", folder / "head"


# extract and attach


@pytest.mark.parametrize("verbose", [False, True])
def test_a_log_counts_what_is_left_out_for_one_reason(
    tmp_path: Path, cli: Callable[..., cp.Outcome], verbose: bool
) -> None:
    src = saved(tmp_path / "in", HEAD)
    done = cli("extract", src, tmp_path / "head", "--part", "head", *(["--verbose"] if verbose else []))
    left_out = len(cp.state_dict(HEAD)) - len(cp.written(tmp_path / "head"))
    counted = f"{left_out} tensors left out, unused: of the backbone (--verbose lists them)"
    assert (counted in done.out.splitlines()) is not verbose
    assert done.out.count("| of the backbone") == left_out * verbose


def test_the_doctor_knows_a_head_alone(tmp_path: Path) -> None:
    _, head = tree(tmp_path)
    (finding,) = (one for one in diagnose(head).findings if one.severity == "error")
    assert finding.message == f"holds the head of in ({HEAD}) and no backbone."
    assert finding.advice == "Put it on one first: bertconv attach BACKBONE HEAD -o DST."


WITH_HEADS = tuple(filter(cp.has_head, cp.APART))


@pytest.mark.parametrize("head", WITH_HEADS)
def test_apart_and_together_again(tmp_path: Path, head: str) -> None:
    """Of every class of every family: digest for digest, and the same config."""
    base = cp.table_of(head).base_head
    src = saved(tmp_path / "in", head, CONTAINERS[WITH_HEADS.index(head) % len(CONTAINERS)])
    body = extract_checkpoint(src, tmp_path / "body", head=base)
    top = extract_checkpoint(src, tmp_path / "head", head=head, part="head")
    whole = extract_checkpoint(src, tmp_path / "whole", head=head)
    joined = attach_head(tmp_path / "body", tmp_path / "head", tmp_path / "out")
    assert joined.head == head
    assert joined.digest == whole.digest != ""
    assert top.backbone_digest == body.backbone_digest == joined.backbone_digest != ""
    assert {one.id: one.digest for one in joined.tensors} == {one.id: one.digest for one in whole.tensors}
    assert [(one.role, one.digest) for one in joined.parents] == [("backbone", body.digest), ("head", top.digest)]
    assert cp.config_of(tmp_path / "out") == cp.config_of(tmp_path / "whole")


def test_a_class_has_the_digests_of_its_source(tmp_path: Path) -> None:
    src = saved(tmp_path / "in", "BertForPreTraining", "bin")
    report = extract_checkpoint(src, tmp_path / "out", head="BertModel")
    whole = convert_checkpoint(src, tmp_path / "whole", to="pt", verify="weights")
    known = {one.id: one.digest for one in whole.tensors}
    assert {one.id: one.digest for one in report.tensors}.items() <= known.items()
    gone = {one.source for one in report.left_out if one.state == "unused"}
    assert gone == {one.source for one in whole.tensors if one.source.startswith("cls.")}
    assert report.parents[0].digest == whole.digest != report.digest
    expected = {
        name: value for name, value in cp.state_dict("BertForPreTraining").items() if not name.startswith("cls.")
    }
    cp.assert_same(cp.written(tmp_path / "out"), cp.bare(expected))


def test_a_head_on_record(tmp_path: Path) -> None:
    body, head = tree(tmp_path)
    manifest = json.loads((head / "bertconv.json").read_bytes())
    assert manifest["part"] == "head"
    assert manifest["head"] == HEAD
    assert manifest["backbone_digest"] == json.loads((body / "bertconv.json").read_bytes())["backbone_digest"] != ""
    assert manifest["parents"][0]["backbone_digest"] == manifest["backbone_digest"]
    assert {path.name for path in head.iterdir()} == {"model.safetensors", "config.json", "bertconv.json"}
    assert set(cp.written(head)) == {*cp.POOLER, "classifier.weight", "classifier.bias"}
    assert check_checkpoint(head).ok
    left = {one["details"] for one in manifest["left_out"]}
    assert "of the backbone" in left


@pytest.mark.parametrize("verb", ["convert", "extract", "layers", "attach", "verify"])
def test_a_head_alone_is_refused(tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, head = tree(tmp_path)
    out = tmp_path / "out"
    words = {
        "convert": ("convert", head, out, "--to", "pt"), "extract": ("extract", head, out, "--class", "BertModel"),
        "layers": ("layers", head, out, "--keep", "0"), "attach": ("attach", head, head, "-o", out),
        "verify": ("verify", head, head),
    }[verb]  # fmt: skip
    assert cp.call(*words) == 3
    said = capsys.readouterr().err
    assert f"holds the head of in ({HEAD}) and no backbone" in said
    assert "bertconv attach" in said
    assert not out.exists()


def test_a_head_alone_is_inspected(tmp_path: Path) -> None:
    _, head = tree(tmp_path)
    found = inspect_checkpoint(head)
    assert f"the head of in ({HEAD}) and no backbone" in found.notes


def test_another_backbone_is_refused_unless_forced(tmp_path: Path) -> None:
    _, head = tree(tmp_path)
    other = saved(tmp_path / "other", "BertModel", "h5", seed=3)
    with pytest.raises(MappingError, match=r"trained with another backbone: sha256:\w+, not sha256:\w+"):
        attach_head(other, head, tmp_path / "out")
    report = attach_head(other, head, tmp_path / "out", force=True)
    assert [note.partition(":")[0] for note in report.notes] == ["the head was trained with another backbone"]
    assert report.target["format"] == "tf"
    assert report.operation.options == {"force": True}
    own = {one.id: one.digest for one in report.tensors}
    body = convert_checkpoint(other, tmp_path / "pt", to="pt", verify="weights")
    whole = convert_checkpoint(tmp_path / "in", tmp_path / "whole", to="pt", verify="weights")
    base = {one.id: one.digest for one in body.tensors if "pooler" not in one.id}
    top = {one.id: one.digest for one in whole.tensors if one.id.split(".")[0] in ("pooler", "classifier")}
    assert own == base | top
    assert cp.config_of(tmp_path / "out")["id2label"] == cp.config(HEAD)["id2label"]


def test_a_head_without_a_digest_needs_force(tmp_path: Path) -> None:
    src = saved(tmp_path / "in", HEAD)
    extract_checkpoint(src, tmp_path / "head", part="head", verify="none")
    with pytest.raises(MappingError, match="none on record"):
        attach_head(src, tmp_path / "head", tmp_path / "out")
    attach_head(src, tmp_path / "head", tmp_path / "out", force=True)


def test_the_head_of_a_whole_checkpoint(tmp_path: Path) -> None:
    """Types mix: each tensor keeps its own. Keys of the head come from its config, the others from the backbone's."""
    body = saved(
        tmp_path / "body", "BertForTokenClassification", labels=5, problem_type="regression", hidden_dropout_prob=0.2
    )
    tensors = cp.state_dict(HEAD, "float16", seed=4)
    top = cp.save(tmp_path / "top", HEAD, tensors, "tf-safetensors", classifier_dropout=0.3)
    report = attach_head(body, top, tmp_path / "out")
    found = cp.written(tmp_path / "out")
    for name, value in tensors.items():
        if "pooler" in name or name.startswith("classifier"):
            np.testing.assert_array_equal(found[name], value)
            assert found[name].dtype == np.float16
    assert found[cp.WORD].dtype == np.float32
    config = cp.config_of(tmp_path / "out")
    assert (config["hidden_dropout_prob"], config["classifier_dropout"]) == (0.2, 0.3)
    assert config["architectures"] == [HEAD]
    assert config["id2label"] == cp.config(HEAD)["id2label"]
    assert "problem_type" not in config
    gone = {one.source for one in report.left_out}
    assert {"classifier.weight", "bert/embeddings/word_embeddings/weight:0"} <= gone


@pytest.mark.parametrize(
    ("head", "changes"),
    [(HEAD, {"hidden_size": 40}), (MLM, {"vocab_size": 103}), (HEAD, {"hidden_size": 30, "num_attention_heads": 5})],
)
def test_other_sizes_are_refused(tmp_path: Path, head: str, changes: dict[str, int]) -> None:
    body = saved(tmp_path / "body", "BertModel")
    top = saved(tmp_path / "top", head, **changes)
    with pytest.raises(ShapeMismatch, match="does not fit the backbone"):
        attach_head(body, top, tmp_path / "out")


def test_another_family_is_refused(tmp_path: Path) -> None:
    body, top = saved(tmp_path / "body", "BertModel"), saved(tmp_path / "top", "ElectraForSequenceClassification")
    with pytest.raises(MappingError, match="is a model of ELECTRA, and the backbone is one of BERT"):
        attach_head(body, top, tmp_path / "out")


@pytest.mark.parametrize(
    ("alone", "key", "value"),
    [(False, "hidden_act", "relu"), (True, "layer_norm_eps", 1e-5), (True, "num_attention_heads", 7)],
)
def test_a_backbone_that_computes_something_else(tmp_path: Path, alone: bool, key: str, value: Any) -> None:
    """The words' head has an activation and a LayerNorm of its own, which the backbone's config decides."""
    src = saved(tmp_path / "in", MLM)
    head = tmp_path / "head" if alone else src
    if alone:
        extract_checkpoint(src, head, part="head")
    other = saved(tmp_path / "other", MLM, **{key: value})
    with pytest.raises(MappingError, match=f"trained with another {key}: .*, not {value!r}"):
        attach_head(other, head, tmp_path / "out")
    report = attach_head(other, head, tmp_path / "out", force=True)
    assert any(f"another {key}" in note for note in report.notes)
    assert cp.config_of(tmp_path / "out")[key] == value


def test_notes_are_of_the_whole(tmp_path: Path) -> None:
    src = saved(tmp_path / "in", MLM)
    assert attach_head(src, src, tmp_path / "out").notes == ()


def test_a_backbone_with_unknown_parts(tmp_path: Path) -> None:
    odd = "bert.encoder.layer.0.attention.self.adapter.weight"
    src = cp.save(tmp_path / "in", MLM, {**cp.state_dict(MLM), odd: np.ones((3, 4), np.float32)})
    with pytest.raises(UnknownTensors, match=odd):
        attach_head(src, saved(tmp_path / "top", MLM), tmp_path / "out")
    attach_head(saved(tmp_path / "body", MLM), src, tmp_path / "out")


def test_words_are_tied_to_the_backbones_embeddings(tmp_path: Path) -> None:
    body, top = saved(tmp_path / "body", "BertModel", seed=1), saved(tmp_path / "top", MLM)
    attach_head(body, top, tmp_path / "tied")
    found = cp.written(tmp_path / "tied")
    assert cp.DECODER not in found
    np.testing.assert_array_equal(found[cp.WORD], cp.state_dict("BertModel", seed=1)[cp.WORD])


def test_an_untied_decoder_is_kept(tmp_path: Path) -> None:
    body = saved(tmp_path / "body", "BertModel", seed=1)
    tensors = cp.state_dict(MLM)
    untied = tensors | {cp.DECODER: cp.random_array((101, 35), "float32", 99), cp.DECODER_BIAS: tensors[cp.MLM_BIAS]}
    top = cp.save(tmp_path / "top", MLM, untied, tie_word_embeddings=False)
    extract_checkpoint(top, tmp_path / "head", part="head")
    attach_head(body, tmp_path / "head", tmp_path / "out", force=True)
    np.testing.assert_array_equal(cp.written(tmp_path / "out")[cp.DECODER], untied[cp.DECODER])
    assert cp.config_of(tmp_path / "out")["tie_word_embeddings"] is False
    cp.save(tmp_path / "differs", MLM, untied)
    with pytest.raises(TiedTensorsDiffer):
        attach_head(body, tmp_path / "differs", tmp_path / "other")


def test_words_need_the_vocabulary_that_they_were_trained_with(tmp_path: Path) -> None:
    src = saved(tmp_path / "in", MLM)
    words = [f"word{number}" for number in range(101)]
    (src / "vocab.txt").write_text("\n".join(words) + "\n")
    extract_checkpoint(src, tmp_path / "head", part="head")
    assert json.loads((tmp_path / "head" / "bertconv.json").read_bytes())["vocabulary"]["tokens"] >= len(words)
    attach_head(src, tmp_path / "head", tmp_path / "same")
    assert (tmp_path / "same" / "vocab.txt").is_file()
    (src / "vocab.txt").write_text("\n".join([*words[1:], "last"]) + "\n")
    for top in (tmp_path / "head", tmp_path / "same"):
        with pytest.raises(MappingError, match="another vocabulary"):
            attach_head(src, top, tmp_path / "out")
    report = attach_head(src, tmp_path / "same", tmp_path / "out", force=True)
    assert any("another vocabulary" in note for note in report.notes)


def test_a_class_that_is_all_backbone_has_no_head(tmp_path: Path) -> None:
    src = saved(tmp_path / "in", "DistilBertModel")
    with pytest.raises(MappingError, match="all of it is backbone"):
        extract_checkpoint(src, tmp_path / "out", part="head")
    bare = cp.save(tmp_path / "bare", "BertModel", {
        name: value for name, value in cp.state_dict("BertModel").items() if name not in cp.POOLER})  # fmt: skip
    with pytest.raises(MappingError, match="without"):
        extract_checkpoint(bare, tmp_path / "out", part="head")
    with pytest.raises(MappingError, match="without a head"):
        attach_head(bare, bare, tmp_path / "out")
    assert "DistilBertModel" not in [head for head in cp.APART if cp.has_head(head)]
    assert head_groups(cp.table_of(MLM), MLM) == ("mlm",)


def test_a_head_with_other_tensors_is_damaged(tmp_path: Path) -> None:
    body, head = tree(tmp_path)
    strange = cp.written(head) | {"strange": np.zeros(3, np.float32)}
    (head / "model.safetensors").write_bytes(cp.safetensors_bytes(strange))
    with pytest.raises(DamagedCheckpoint, match="not of the head"):
        attach_head(body, head, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"part": 3}', b"[" * 10_000, b'{"part": "head"}'])
def test_a_manifest_that_is_none(tmp_path: Path, content: bytes) -> None:
    body, head = tree(tmp_path)
    (head / "bertconv.json").write_bytes(content)
    with pytest.raises((MappingError, UnsupportedCheckpoint, RequestError)):
        attach_head(body, head, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_extract_needs(tmp_path: Path) -> None:
    src = saved(tmp_path / "in", HEAD)
    with pytest.raises(RequestError, match="nothing says"):
        extract_checkpoint(src, tmp_path / "out")
    with pytest.raises(RequestError, match="part is 'tail'"):
        extract_checkpoint(src, tmp_path / "out", part="tail")
    for options in ({"verify": "outputs"}, {"to": "nothing"}):
        with pytest.raises(RequestError, match="Choose one of"):
            attach_head(src, src, tmp_path / "out", **options)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = saved(tmp_path / "in", HEAD)
    assert cp.call("extract", src, tmp_path / "head", "--part", "head", "-q") == 0
    assert cp.call("extract", src, tmp_path / "body", "--class", "BertModel", "--dry-run") == 0
    assert not (tmp_path / "body").exists()
    capsys.readouterr()
    assert cp.call("attach", src, tmp_path / "head", "-o", tmp_path / "out", "--to", "tf", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert [one["role"] for one in found["parents"]] == ["backbone", "head"]
    assert found["operation"] == {"verb": "attach", "options": {"to": "tf"}}
    assert cp.call("attach", src, src, "-o", tmp_path / "dry", "--dry-run") == 0
    assert not (tmp_path / "dry").exists()


# layers


def of_layers(tensors: cp.Tensors, path: str, chosen: list[int]) -> cp.Tensors:
    """What a student has, by the names of the class that were spelled out by hand."""
    found = {name: value for name, value in tensors.items() if f"{path}." not in name}
    for new, old in enumerate(chosen):
        own = {name: value for name, value in tensors.items() if f"{path}.{old}." in name}
        found |= {name.replace(f"{path}.{old}.", f"{path}.{new}."): value for name, value in own.items()}
    return found


@pytest.mark.parametrize(
    ("head", "path", "key"),
    [(HEAD, "encoder.layer", "num_hidden_layers"), ("DistilBertForMaskedLM", "transformer.layer", "n_layers"),
     ("MPNetForTokenClassification", "encoder.layer", "num_hidden_layers")],
)  # fmt: skip
@pytest.mark.parametrize(
    ("keep", "chosen"),
    [("0,2", [0, 2]), ("3,1-2", [3, 1, 2]), ([-1, 0], [3, 0]), ("1,1", [1, 1]), ("0-3", [0, 1, 2, 3])],
)
def test_layers(tmp_path: Path, head: str, path: str, key: str, keep: Any, chosen: list[int]) -> None:
    tensors = cp.state_dict(head, num_hidden_layers=4)
    src = cp.save(tmp_path / "in", head, tensors, num_hidden_layers=4)
    report = keep_layers(src, tmp_path / "out", keep=keep)
    cp.assert_same(cp.written(tmp_path / "out"), of_layers(tensors, path, chosen))
    config = cp.config_of(tmp_path / "out")
    assert config == cp.config_of(src) | {key: len(chosen)}
    dropped = {int(name.split(f"{path}.")[1].split(".")[0]) for name in [one.source for one in report.left_out]}
    assert dropped == set(range(4)) - set(chosen)
    whole = convert_checkpoint(src, tmp_path / "whole", to="pt", verify="weights")
    assert report.parents[0].digest == whole.digest
    assert (report.digest == whole.digest) == (chosen == [0, 1, 2, 3])


def test_layers_of_tensorflow(tmp_path: Path) -> None:
    src = saved(tmp_path / "in", HEAD, "h5")
    report = keep_layers(src, tmp_path / "out", keep="1")
    assert report.target["format"] == "tf"
    expected = of_layers(cp.state_dict(HEAD), "encoder.layer", [1])
    convert_checkpoint(tmp_path / "out", tmp_path / "pt", to="pt", verify="weights")
    cp.assert_same(cp.written(tmp_path / "pt"), expected)


def test_layers_that_share_their_weights(tmp_path: Path) -> None:
    src = saved(tmp_path / "in", "AlbertModel")
    with pytest.raises(UnsupportedCheckpoint, match="layers of ALBERT share their weights"):
        keep_layers(src, tmp_path / "out", keep="0")


@pytest.mark.parametrize("keep", ["2", "-3", "0-2", "", "a", "1-0", "0-999999", "0:3", "0,,1", [], [True], ["0"]])
def test_layers_that_are_not_there(tmp_path: Path, keep: Any) -> None:
    src = saved(tmp_path / "in", HEAD)
    with pytest.raises(RequestError, match=r"there is no layer|the layers to keep are"):
        keep_layers(src, tmp_path / "out", keep=keep)


def test_layers_on_record(tmp_path: Path) -> None:
    src = saved(tmp_path / "in", HEAD)
    assert cp.call("layers", src, tmp_path / "out", "--keep=-1,0", "-q") == 0
    manifest = json.loads((tmp_path / "out" / "bertconv.json").read_bytes())
    assert manifest["operation"] == {"verb": "layers", "options": {"keep": [-1, 0]}}
    assert "2 of 2 layers: 1 is now 0, 0 is now 1" in manifest["notes"]


# What others make of it


def test_transformers_loads_parts(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", minversion="5")
    torch = pytest.importorskip("torch")
    src = saved(tmp_path / "in", HEAD)
    body, head = tree(tmp_path / "tree")
    attach_head(body, head, tmp_path / "out")
    keep_layers(src, tmp_path / "student", keep="1")
    ids = torch.tensor([[3, 5, 7]])
    loaded = {name: transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / name).eval()
              for name in ("in", "out", "student")}  # fmt: skip
    torch.testing.assert_close(loaded["in"](ids).logits, loaded["out"](ids).logits, rtol=0, atol=0)
    assert len(loaded["student"].bert.encoder.layer) == 1
    base = transformers.BertModel.from_pretrained(body).eval()
    expected = loaded["in"].bert(ids).last_hidden_state
    torch.testing.assert_close(base(ids).last_hidden_state, expected, rtol=0, atol=0)


def test_parts_of_parts(tmp_path: Path) -> None:
    """What one verb writes, another reads."""
    body, head = tree(tmp_path)
    shard_checkpoint(body, tmp_path / "shards", max_size=40_000)
    report = attach_head(tmp_path / "shards", head, tmp_path / "out")
    assert report.digest == convert_checkpoint(tmp_path / "in", tmp_path / "pt", to="pt", verify="weights").digest
