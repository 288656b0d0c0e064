"""`bertconv hash` and model_digest(): the same weights have the same digest everywhere, and others have another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import checkpoints as cp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertconv import convert_checkpoint, model_digest
from bertconv.digests import backbone_ids, digest_of_tensors, vocabulary_facts
from bertconv.errors import AmbiguousHead, DamagedCheckpoint
from bertconv.formats.destination import MANIFEST
from bertconv.mapping.table import table_for
from bertconv.tokenizer import Tokenizer

HEAD = "BertForMaskedLM"
SMALL = {"hidden_size": 6, "num_attention_heads": 2, "intermediate_size": 7, "vocab_size": 13}
CONTAINERS = ("bin", "legacy", "sharded", "sharded-bin", "h5", "tf-safetensors")
NUMBERS = np.array([1.5, -0.0, 0.0, np.inf, -np.inf, np.nan, 2.0**-133, -3.0e38], np.float32)
"""Such as a cast may lose: all of them are exact in bfloat16 but the last, which is rounded before."""


def save(folder: Path, head: str = HEAD, tensors: cp.Tensors | None = None, container: str = "safetensors") -> Path:
    return cp.save(folder, head, cp.state_dict(head, **SMALL) if tensors is None else tensors, container, **SMALL)


# The same weights


def assert_same(folders: Iterable[Path], head: str) -> None:
    """One digest of each kind, tensor by tensor too."""
    one, *others = (model_digest(folder, head=head, per_tensor=True, values=True) for folder in folders)
    for other in others:
        assert other.tensors == one.tensors, other.given
        for name in ("digest", "backbone_digest", "values_digest", "backbone_values_digest"):
            assert getattr(other, name) == getattr(one, name) != "", (other.given, name)
        assert other.notes == ()


@pytest.mark.parametrize("head", cp.APART)
def test_a_model_has_one_digest_in_every_format(head: str, tmp_path: Path) -> None:
    tensors = cp.state_dict(head, **SMALL)
    containers = CONTAINERS if head == HEAD else ("h5", "tf-safetensors", "sharded")
    assert_same((save(tmp_path / one, head, tensors, one) for one in ("safetensors", *containers)), head)


@pytest.mark.parametrize("head", ["BertForMaskedLM", "AlbertForMaskedLM", "DistilBertForMaskedLM"])
def test_types_may_differ_from_tensor_to_tensor(head: str, tmp_path: Path) -> None:
    tensors = cp.state_dict(head, "mixed", **SMALL)
    folders = [save(tmp_path / one, head, tensors, one) for one in ("safetensors", "bin", "tf-safetensors")]
    convert_checkpoint(folders[0], tmp_path / "h5", to="tf", verify="weights")
    assert_same((*folders, tmp_path / "h5"), head)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "0.auto_model."])
def test_other_names_are_the_same_model(prefix: str, tmp_path: Path) -> None:
    tensors = cp.state_dict(HEAD, **SMALL)
    named = cp.write_config(tmp_path / "b", cp.config(HEAD, **SMALL))
    (named / "model.safetensors").write_bytes(cp.safetensors_bytes(cp.prefixed(tensors, prefix)))
    assert model_digest(named).digest == model_digest(save(tmp_path / "a", tensors=tensors)).digest


def test_one_of_two_models_in_a_file(tmp_path: Path) -> None:
    student, teacher = (cp.state_dict(HEAD, seed=seed, **SMALL) for seed in (1, 2))
    folder = cp.write_config(tmp_path / "b", cp.config(HEAD, **SMALL))
    both = cp.prefixed(student, "student.") | cp.prefixed(teacher, "teacher.")
    (folder / "model.safetensors").write_bytes(cp.safetensors_bytes(both))
    found = [model_digest(folder, strip_prefix=prefix).digest for prefix in ("student.", "teacher.")]
    assert found == [model_digest(save(tmp_path / str(number), tensors=tensors)).digest
                     for number, tensors in enumerate((student, teacher))]  # fmt: skip


@pytest.mark.parametrize("to", ["pt", "tf", "tf-safetensors"])
@pytest.mark.parametrize("head", ["BertForPreTraining", "AlbertForMaskedLM", "MPNetForMaskedLM"])
def test_it_is_the_digest_of_the_manifest(head: str, to: str, tmp_path: Path) -> None:
    convert_checkpoint(save(tmp_path / "a", head), tmp_path / "b", to=to, verify="weights")
    recorded = json.loads((tmp_path / "b" / MANIFEST).read_bytes())["digest"]
    assert model_digest(tmp_path / "a").digest == model_digest(tmp_path / "b").digest == recorded


def test_a_file_and_its_folder_are_one(tmp_path: Path) -> None:
    assert model_digest(save(tmp_path / "a") / "model.safetensors").digest == model_digest(tmp_path / "a").digest


# Other weights


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_bit_goes_unseen(data: st.DataObject, tmp_path: Path) -> None:
    tensors = cp.state_dict(HEAD, **SMALL)
    name = data.draw(st.sampled_from(sorted(tensors)))
    raw = bytearray(tensors[name].tobytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    changed = {**tensors, name: np.frombuffer(bytes(raw), np.float32).reshape(tensors[name].shape)}
    a, b = (model_digest(save(tmp_path / side, tensors=one), per_tensor=True, values=True)
            for side, one in (("a", tensors), ("b", changed)))  # fmt: skip
    assert len({*a.tensors.items()} ^ {*b.tensors.items()}) == 2
    assert a.digest != b.digest
    assert a.values_digest != b.values_digest
    assert (a.backbone_digest == b.backbone_digest) == name.startswith("cls.")


def test_the_order_of_elements_counts(tmp_path: Path) -> None:
    tensors = cp.state_dict(HEAD, **SMALL)
    name = "bert.encoder.layer.0.attention.self.query.weight"
    turned = {**tensors, name: np.ascontiguousarray(tensors[name].T)}
    assert model_digest(save(tmp_path / "a")).digest != model_digest(save(tmp_path / "b", tensors=turned)).digest


# The backbone


def test_every_head_has_the_backbone_of_the_base_model(tmp_path: Path) -> None:
    body = {name: value for name, value in cp.state_dict("BertModel", **SMALL).items() if ".pooler." not in name}
    found = set()
    for head in cp.HEADS:
        own = {**cp.state_dict(head, seed=5, **SMALL), **body}
        folder = save(tmp_path / head, head, own)
        whole, alone = model_digest(folder, head=head), model_digest(folder, backbone=True)
        found |= {whole.backbone_digest, alone.backbone_digest}
        assert alone.digest == ""
        assert alone.notes == ()
    assert len(found) == 1
    assert (
        model_digest(save(tmp_path / "other", tensors=cp.state_dict(HEAD, seed=1, **SMALL))).backbone_digest
        not in found
    )


def test_a_backbone_needs_no_class(tmp_path: Path) -> None:
    head = "BertForSequenceClassification"
    values = cp.config(head, **SMALL, architectures=None, labels=2)
    folder = cp.save_weights(
        cp.write_config(tmp_path / "a", values), head, cp.state_dict(head, **SMALL, labels=2), "bin"
    )
    with pytest.raises(AmbiguousHead):
        model_digest(folder)
    assert model_digest(folder, backbone=True).backbone_digest == model_digest(folder, head=head).backbone_digest != ""


def test_what_lies_beside_the_model_is_no_backbone() -> None:
    table = table_for("bert")
    ids = ["embeddings.word.weight", "layer.0.query.weight", "pooler.dense.weight", "mlm.bias.value",
           "embeddings.2/linear.weight", "2_Dense/linear.weight"]  # fmt: skip
    assert backbone_ids(table, ids) == ("embeddings.word.weight", "layer.0.query.weight")


# The numbers


def with_numbers(dtype: str) -> cp.Tensors:
    """A model whose numbers every type but float16 holds, NaN among them."""
    tensors = cp.state_dict(HEAD, "bfloat16", **SMALL)
    name = "bert.encoder.layer.1.output.LayerNorm.bias"
    tensors[name] = np.resize(NUMBERS, tensors[name].shape).astype(cp.numpy_type("bfloat16"))
    tensors["bert.embeddings.LayerNorm.bias"] = NUMBERS[2:8].astype(cp.numpy_type("bfloat16"))
    with np.errstate(over="ignore", invalid="ignore"):
        return {name: value.astype(np.float32).astype(cp.numpy_type(dtype)) for name, value in tensors.items()}


def test_a_lossless_cast_keeps_the_numbers(tmp_path: Path) -> None:
    found = [model_digest(save(tmp_path / dtype, tensors=with_numbers(dtype)), values=True)
             for dtype in ("bfloat16", "float32", "float64")]  # fmt: skip
    assert len({one.values_digest for one in found}) == len({one.backbone_values_digest for one in found}) == 1
    assert len({one.digest for one in found}) == 3
    rounded = model_digest(save(tmp_path / "half", tensors=with_numbers("float16")), values=True)
    assert rounded.values_digest != found[0].values_digest


@pytest.mark.parametrize("bits", [0x7FC0_0001, 0xFFC0_0000, 0x7F80_0001, 0xFFFF_FFFF])
def test_every_nan_is_one_number(bits: int, tmp_path: Path) -> None:
    found = []
    for number, pattern in enumerate((bits, 0x7FC0_0000)):
        tensors = cp.state_dict(HEAD, **SMALL)
        tensors["cls.predictions.bias"] = tensors["cls.predictions.bias"].copy()
        tensors["cls.predictions.bias"].view(np.uint32)[3] = pattern
        found.append(model_digest(save(tmp_path / str(number), tensors=tensors), values=True))
    assert found[0].values_digest == found[1].values_digest
    assert found[0].digest != found[1].digest


@pytest.mark.parametrize("dtype", cp.FLOATS)
def test_the_digest_of_values_is_as_documented(dtype: str, tmp_path: Path) -> None:
    tensors = cp.state_dict(HEAD, dtype, **SMALL)
    name = "bert.encoder.layer.1.intermediate.dense.weight"
    found = model_digest(
        save(tmp_path / "a", tensors=tensors, container="tf-safetensors"), values=True, per_tensor=True
    )
    rows, columns = tensors[name].shape
    text = f"bertconv-v1\0{rows},{columns}\0".encode() + tensors[name].astype("<f8").tobytes()
    assert found.tensors["layer.1.ffn_in.weight"] == f"sha256:{hashlib.sha256(text).hexdigest()}"
    lines = "".join(f"{place} {digest}\n" for place, digest in sorted(found.tensors.items()))
    assert found.values_digest == f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


# What is not covered


def test_a_part_that_no_table_knows_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = cp.state_dict(HEAD, **SMALL) | {"bert.encoder.highway.0.dense.weight": np.ones((2, 2), np.float32)}
    found = model_digest(save(tmp_path / "a", tensors=tensors))
    assert found.omitted == ("bert.encoder.highway.0.dense.weight",)
    assert found.digest == model_digest(save(tmp_path / "b")).digest
    assert cp.call("hash", tmp_path / "a") == 0
    out, err = capsys.readouterr()
    assert out == f"{found.digest}  {tmp_path / 'a'}\n"
    assert "no table knows it: bert.encoder.highway.0.dense.weight." in err


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    tensors = cp.state_dict(HEAD, **SMALL)
    del tensors["bert.encoder.layer.1.output.dense.bias"]
    found = model_digest(save(tmp_path / "a", tensors=tensors))
    assert found.missing == ("layer.1.ffn_out.bias",)
    assert found.notes == ("the digest is of what is there; BertForMaskedLM has besides: layer.1.ffn_out.bias",)
    assert model_digest(tmp_path / "a", backbone=True).missing == found.missing
    assert model_digest(tmp_path / "a", backbone=True).backbone_digest == found.backbone_digest


def test_a_file_that_ends_early_has_no_digest(tmp_path: Path) -> None:
    file = save(tmp_path / "a") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedCheckpoint):
        model_digest(tmp_path / "a")


# The vocabulary


def test_the_digest_of_a_vocabulary_is_of_its_lines() -> None:
    facts = vocabulary_facts(Tokenizer(tokens={"b": 1, "[PAD]": 0, "\u00e4": 12, "\ud800": 2}))
    text = b"0 [PAD]\n1 b\n2 \xed\xa0\x80\n12 \xc3\xa4\n"
    assert facts == {"tokens": 4, "sha256": hashlib.sha256(text).hexdigest()}
    assert vocabulary_facts(Tokenizer()) is None


# The command


def test_its_lines_are_those_of_sha256sum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = save(tmp_path / "a"), save(tmp_path / "b", container="h5")
    assert cp.call("hash", a, b) == 0
    out, err = capsys.readouterr()
    digest = model_digest(a).digest
    assert (out, err) == (f"{digest}  {a}\n{digest}  {b}\n", "")


@pytest.mark.parametrize(("backbone", "values"), [*product((False, True), repeat=2)])
def test_options_choose_the_digest(
    backbone: bool, values: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "a")
    found = model_digest(tmp_path / "a", values=True)
    wanted = {(False, False): found.digest, (True, False): found.backbone_digest, (False, True): found.values_digest,
              (True, True): found.backbone_values_digest}[backbone, values]  # fmt: skip
    options = [*(["--backbone"] if backbone else []), *(["--values"] if values else [])]
    assert cp.call("hash", tmp_path / "a", "--per-tensor", *options) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == f"{wanted}  {tmp_path / 'a'}"
    tensors = dict(reversed(line.split("  ")) for line in lines)
    assert digest_of_tensors(tensors) == wanted
    assert any(place.startswith("mlm.") for place in tensors) != backbone
    for digest, code in ((wanted, 0), (wanted[7:].upper(), 0), ("0" * 64, 1), ("sha256:12", 2)):
        assert cp.call("hash", tmp_path / "a", *options, "--check", digest) == code
    assert "Not sha256:000" in capsys.readouterr().err


def test_json_is_an_object_or_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = save(tmp_path / "a")
    assert cp.call("hash", a, "--json") == 0
    one = json.loads(capsys.readouterr().out)
    assert one == json.loads(json.dumps(model_digest(a).to_json()))
    assert (one["given"], one["head"], one["family"], one["tensors"], one["notes"]) == (str(a), HEAD, "bert", {}, [])
    assert cp.call("hash", a, a, "--json") == 0
    assert json.loads(capsys.readouterr().out) == [one, one]


def test_bytes_are_counted(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    model_digest(save(tmp_path / "a"), values=True, progress=lambda *step: seen.append(step))
    total = sum(value.nbytes for value in cp.state_dict(HEAD, **SMALL).values())
    assert seen[-1] == ("digests", total, total)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["hash"], 2), (["hash", "no/such/folder/here"], 2), (["hash", "SRC", "--head", "Nothing"], 2)],
)
def test_exit_codes(arguments: list[str], code: int, tmp_path: Path) -> None:
    source = save(tmp_path / "a")
    assert cp.call(*(source if word == "SRC" else word for word in arguments)) == code
