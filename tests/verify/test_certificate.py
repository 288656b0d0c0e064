"""bertconv.json as a certificate: what it says after a conversion, and that no bit of an output can change unseen."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import checkpoints
import h5py
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.convert import convert_checkpoint
from bertconv.errors import DamagedCheckpoint, RequestError
from bertconv.formats.frame import frame_digest
from bertconv.verification import check_checkpoint, verify_checkpoint
from bertconv.verify.certificate import FolderCheck

HEAD = "BertForPreTraining"
MANIFEST = "bertconv.json"
OPTIONS = {
    "pt": {"to": "pt"},
    "tf": {"to": "tf"},
    "tf-safetensors": {"to": "tf-safetensors"},
    "sharded pt": {"to": "pt", "max_shard_size": "40kB"},
    "sharded tf": {"to": "tf", "max_shard_size": "40kB"},
}
EACH = pytest.mark.parametrize("form", OPTIONS)
COPIES = pytest.mark.parametrize("output", OPTIONS, indirect=True)
SOME = settings(max_examples=15, deadline=None)  # qa/bitflips.py makes 2,000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = checkpoints.save(tmp_path_factory.mktemp("source") / "a", HEAD, checkpoints.state_dict(HEAD))
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
    return folder


@pytest.fixture(scope="module")
def outputs(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An output of every format; whoever changes one puts it back."""
    root = tmp_path_factory.mktemp("outputs")
    for form, options in OPTIONS.items():
        convert_checkpoint(source, root / form, verify="weights", **options)
    return {form: root / form for form in OPTIONS}


@pytest.fixture
def output(request: pytest.FixtureRequest, outputs: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of one of them, to do with as one likes."""
    return shutil.copytree(outputs[getattr(request, "param", "tf")], tmp_path / "output")


def weights(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in {".h5", ".safetensors"})


def spans(path: Path) -> list[tuple[int, int, str]]:
    """Begin, end and name of every tensor in a file, found without bertconv."""
    if path.suffix == ".safetensors":
        raw = path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
        header.pop("__metadata__", None)
        return [(*(8 + length + offset for offset in facts["data_offsets"]), name) for name, facts in header.items()]
    found: list[tuple[int, int, str]] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            offset = item.id.get_offset()
            found.append((offset, offset + item.id.get_storage_size(), name))

    with h5py.File(path, "r") as root:
        root.visititems(visit)
    return found


@contextmanager
def flipped(path: Path, offset: int, bit: int) -> Iterator[None]:
    raw = path.read_bytes()
    changed = bytearray(raw)
    changed[offset] ^= 1 << bit
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(raw)


def named(found: FolderCheck) -> set[str]:
    """Files with a change; a tensor that is nowhere has none."""
    return {change.file for change in found.changes if change.file}


# What is recorded


@EACH
def test_what_was_written_is_unchanged(outputs: dict[str, Path], form: str) -> None:
    found = check_checkpoint(outputs[form])
    assert (found.ok, found.changes, found.added, found.parity) == (True, (), (), {})
    assert (found.tensors, found.verified) == (46, "weights")
    assert found.files == len(list(outputs[form].iterdir())) - 1
    assert found.digest == check_checkpoint(outputs["pt"]).digest
    assert found.verdict().endswith("Proven then: its weights.")


@pytest.mark.parametrize("form", ["garden", "keras-hub"])
def test_a_format_that_keeps_heads_apart_is_held_to_its_own_shapes(form: str, tmp_path: Path) -> None:
    head = "BertForMaskedLM"
    checkpoints.save(tmp_path / "in", head, checkpoints.state_dict(head), hidden_act="gelu_new")
    convert_checkpoint(tmp_path / "in", tmp_path / "out", to=form)
    tensors = json.loads((tmp_path / "out" / "bertconv.json").read_text())["tensors"]
    assert tensors["layer.0.query.bias"]["stored"] == [5, 7]
    assert "stored" not in tensors["layer.0.ffn_in.weight"]
    assert check_checkpoint(tmp_path / "out").ok


def test_a_folder_in_another_place_and_with_other_times_is_unchanged(outputs: dict[str, Path], tmp_path: Path) -> None:
    assert check_checkpoint(shutil.copytree(outputs["tf"], tmp_path / "elsewhere")).ok


def test_what_stands_before_the_names_of_a_keras_file_is_not_guessed() -> None:
    from bertconv.verify.certificate import _own_name

    known = {"roberta/embeddings/weight:0", "tf_mine/seen:0"}
    assert _own_name("tfxlm_roberta_model/roberta/embeddings/weight:0", known) == "roberta/embeddings/weight:0"
    assert _own_name("tf_mine/seen:0", known) == "tf_mine/seen:0"
    assert _own_name("tf_bert_model/tf_mine/seen:0", known) == "tf_mine/seen:0"
    assert _own_name("tf_bert_model/bert/none:0", known) == "tf_bert_model/bert/none:0"


def test_models_that_were_saved_are_checked_too(tmp_path: Path) -> None:
    from bertconv import TFBertModel

    model = TFBertModel(checkpoints.config("BertModel"))
    model.save_pretrained(tmp_path / "saved")
    found = check_checkpoint(tmp_path / "saved")
    assert (found.ok, found.tensors) == (True, 39)
    [file] = weights(tmp_path / "saved")
    begin, _, name = spans(file)[3]
    with flipped(file, begin + 5, 2):
        [change] = check_checkpoint(tmp_path / "saved").changes
    assert change.file == file.name
    assert name.endswith(change.tensor.removeprefix("tf_bert_model/"))


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conversion that ran both sides, from PyTorch to PyTorch: one framework is enough."""
    import numpy as np

    folder, rng = tmp_path_factory.mktemp("proven"), np.random.default_rng(3)
    shapes = checkpoints.shapes(HEAD, checkpoints.config(HEAD))
    tensors = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    checkpoints.save(folder / "a", HEAD, tensors, "bin")
    convert_checkpoint(folder / "a", folder / "b", to="pt", verify="outputs")
    return folder


def test_the_certificate_says_what_was_proven(proven: Path) -> None:
    manifest = json.loads((proven / "b" / MANIFEST).read_text())
    facts = manifest["parity"]
    assert (manifest["verified"], facts["level"], facts["ok"], facts["head"]) == ("outputs", "outputs", True, HEAD)
    assert facts["dtypes"] == ["float64", "float32"]
    assert facts["verdict"].startswith("The same model: 46/46 tensors equal, bit for bit; outputs equal in float64 to ")
    assert {"bertconv", "Python", "numpy", "torch"} <= facts["versions"].keys()
    assert set(facts["worst"]) == {"float64", "float32"}
    for one in facts["worst"].values():
        assert one["b"] <= one["limit"]
    assert all(case["seed"] is not None for case in facts["cases"])
    assert facts["a"]["framework"] == facts["b"]["framework"]
    assert facts["a"]["framework"].startswith("reference on torch")


def test_the_certificate_is_that_of_a_verification(proven: Path) -> None:
    facts = json.loads((proven / "b" / MANIFEST).read_text())["parity"]
    parity = verify_checkpoint(proven / "a", proven / "b", level="outputs")
    assert facts["verdict"] == parity.verdict()
    assert facts["cases"] == json.loads(json.dumps(parity.to_json()["cases"]))
    assert facts["worst"]["float32"]["b"] == parity.worst("float32").b


def test_it_is_told_when_the_output_is_checked(proven: Path) -> None:
    found = check_checkpoint(proven / "b")
    assert (found.ok, found.verified) == (True, "outputs")
    assert "Proven then: its outputs. The same model: 46/46 tensors equal" in found.verdict()
    file = proven / "b" / "model.safetensors"
    with flipped(file, file.stat().st_size - 1, 0):
        assert "Proven" not in check_checkpoint(proven / "b").verdict()


def test_the_same_conversion_gives_the_same_certificate(proven: Path, tmp_path: Path) -> None:
    convert_checkpoint(proven / "a", tmp_path / "b", to="pt", verify="outputs")
    assert (tmp_path / "b" / MANIFEST).read_bytes() == (proven / "b" / MANIFEST).read_bytes().replace(
        str(proven / "b").encode(), str(tmp_path / "b").encode()
    )


# What cannot change unseen


@EACH
@SOME
@given(data=st.data())
def test_a_flipped_bit_of_a_tensor_names_file_and_tensor(
    outputs: dict[str, Path], form: str, data: st.DataObject
) -> None:
    file = data.draw(st.sampled_from(weights(outputs[form])), "file")
    begin, end, name = data.draw(st.sampled_from([span for span in spans(file) if span[1] > span[0]]), "tensor")
    with flipped(file, data.draw(st.integers(begin, end - 1), "offset"), data.draw(st.integers(0, 7), "bit")):
        found = check_checkpoint(outputs[form])
    [change] = found.changes
    assert not found.ok
    assert (change.file, change.what) == (file.name, "has other values")
    assert name.endswith(change.tensor)
    assert f"{file.name}: {change.tensor} has other values" in found.verdict()


@EACH
@SOME
@given(data=st.data())
def test_a_flipped_bit_outside_of_tensors_names_the_file(
    outputs: dict[str, Path], form: str, data: st.DataObject
) -> None:
    files = [path for path in sorted(outputs[form].iterdir()) if path.name != MANIFEST]
    file = data.draw(st.sampled_from(files), "file")
    inside = sorted(spans(file)) if file in weights(outputs[form]) else []
    gaps = [
        (end, begin)
        for (_, end, _), (begin, _, _) in zip([(0, 0, ""), *inside], [*inside, (file.stat().st_size,) * 3], strict=True)
    ]
    begin, end = data.draw(st.sampled_from([gap for gap in gaps if gap[0] < gap[1]]), "gap")
    with flipped(file, data.draw(st.integers(begin, end - 1), "offset"), data.draw(st.integers(0, 7), "bit")):
        found = check_checkpoint(outputs[form])
    assert named(found) == {file.name}


@EACH
@SOME
@given(data=st.data())
def test_a_flipped_bit_of_the_manifest_makes_it_worthless(
    outputs: dict[str, Path], form: str, data: st.DataObject
) -> None:
    file = outputs[form] / MANIFEST
    offset = data.draw(st.integers(0, file.stat().st_size - 1), "offset")
    with (
        flipped(file, offset, data.draw(st.integers(0, 7), "bit")),
        pytest.raises(DamagedCheckpoint, match="was changed since it was written"),
    ):
        check_checkpoint(outputs[form])


@COPIES
def test_every_file_that_is_deleted_is_named(output: Path) -> None:
    for file in sorted(output.iterdir()):
        raw = file.read_bytes()
        file.unlink()
        if file.name == MANIFEST:
            with pytest.raises(RequestError, match=r"holds no bertconv\.json"):
                check_checkpoint(output)
        else:
            [change] = check_checkpoint(output).changes
            assert (change.file, change.tensor, change.what) == (file.name, "", "is missing")
        file.write_bytes(raw)
    assert check_checkpoint(output).ok


@COPIES
@pytest.mark.parametrize("keep", [0, 7, 0.5, -1])
def test_every_file_that_ends_too_early_or_too_late_is_named(output: Path, keep: float) -> None:
    for file in sorted(path for path in output.iterdir() if path.name != MANIFEST):
        raw = file.read_bytes()
        file.write_bytes(raw[: int(len(raw) * keep)] if keep == 0.5 else raw[: int(keep)])
        found = check_checkpoint(output)
        assert file.name in named(found) <= {file.name}
        assert f"bytes instead of {len(raw):,}" in found.changes[0].what
        file.write_bytes(raw + b"\0")
        assert file.name in named(check_checkpoint(output))
        file.write_bytes(raw)


@pytest.mark.parametrize("output", ["sharded pt", "sharded tf"], indirect=True)
def test_swapped_files_are_both_named(output: Path) -> None:
    one, other, *_ = weights(output)
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    assert named(check_checkpoint(output)) == {one.name, other.name}


@EACH
def test_the_same_model_from_elsewhere_is_another_file(outputs: dict[str, Path], form: str, tmp_path: Path) -> None:
    output = shutil.copytree(outputs[form], tmp_path / "output")
    file = weights(output)[0]
    shutil.copy(weights(outputs["tf-safetensors" if form in ("pt", "tf") else "pt"])[0], file)
    assert file.name in named(check_checkpoint(output))


def test_a_tensor_that_lies_on_another_names_the_file(output: Path) -> None:
    [file] = weights(output)
    raw, (one, other, *_) = file.read_bytes(), [span for span in spans(file) if span[1] - span[0] > 1000]
    address = one[0].to_bytes(8, "little")
    assert raw.count(address) == 1
    file.write_bytes(raw.replace(address, (other[0] + 4).to_bytes(8, "little")))
    assert named(check_checkpoint(output)) == {file.name}


@COPIES
def test_tensors_that_exchanged_their_values_are_both_named(output: Path) -> None:
    for file in weights(output):
        by_size: dict[int, list[tuple[int, int, str]]] = {}
        for begin, end, name in spans(file):
            by_size.setdefault(end - begin, []).append((begin, end, name))
        one, other = next(same for same in by_size.values() if len(same) > 1)[:2]
        raw = bytearray(file.read_bytes())
        raw[one[0] : one[1]], raw[other[0] : other[1]] = raw[other[0] : other[1]], raw[one[0] : one[1]]
        file.write_bytes(raw)
        found = [change for change in check_checkpoint(output).changes if change.file == file.name]
        assert len(found) == 2
        assert all(any(name.endswith(change.tensor) for change in found) for _, _, name in (one, other))


def test_files_that_were_added_are_told_and_are_no_change(output: Path) -> None:
    (output / "README.md").write_text("mine")
    (output / "deeper").mkdir()
    (output / "deeper" / "notes\x1b.txt").write_text("mine too")
    found = check_checkpoint(output)
    assert found.ok
    assert found.added == ("README.md", "deeper/notes\\x1b.txt")


@pytest.mark.parametrize("output", ["pt"], indirect=True)
def test_a_link_in_place_of_a_file_is_a_change(output: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        moved = shutil.move(output / name, tmp_path / name)
        (output / name).symlink_to(moved)
    assert named(check_checkpoint(output)) == {"config.json", "model.safetensors"}


# Manifests that are none


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace('"verified": "weights"', '"verified": "outputs"'),
        lambda text: text.replace('"float32"', '"float16"', 1),
        lambda text: json.dumps(json.loads(text)),
        lambda text: text + "\n",
        lambda text: text.replace('"manifest_sha256"', '"manifest_sha255"'),
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda _: "null",
        lambda _: "[]",
        lambda _: "{}",
        lambda _: "[" * 100_000,
        lambda _: "\x00\xff",
    ],
)
def test_an_edited_manifest_proves_nothing(output: Path, edit) -> None:
    text = (output / MANIFEST).read_text()
    changed = edit(text)
    assert changed != text
    (output / MANIFEST).write_text(changed)
    with pytest.raises(DamagedCheckpoint, match="was changed since it was written"):
        check_checkpoint(output)


def rewritten(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The manifest edited by somebody who also fixes its digest: it proves nothing, but must not break anything."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    manifest["manifest_sha256"] = manifest.pop("manifest_sha256") and ""
    raw = (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()
    own = hashlib.sha256(raw).hexdigest().encode()
    (folder / MANIFEST).write_bytes(raw.replace(b'"manifest_sha256": ""', b'"manifest_sha256": "' + own + b'"'))


def test_the_manifest_s_own_digest_is_as_documented(output: Path) -> None:
    rewritten(output, lambda manifest: manifest.update(head="BertForPoetry"))
    assert check_checkpoint(output).ok


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.update(files={"config.json": 7}),
        lambda facts: facts["files"]["config.json"].update(size="7"),
        lambda facts: facts["files"]["config.json"].update(sha256=7),
        lambda facts: facts["files"]["config.json"].pop("sha256"),
        lambda facts: facts["tensors"].update(new=None),
        lambda facts: facts["tensors"].update(new={}),
        lambda facts: facts["tensors"]["pooler.dense.weight"].update(shape=[35]),
        lambda facts: facts["tensors"]["pooler.dense.weight"].update(shape="35"),
        lambda facts: facts["tensors"]["pooler.dense.weight"].update(shape=[35, -35]),
        lambda facts: facts["tensors"]["pooler.dense.weight"].update(digest=7),
        lambda facts: facts["tensors"]["pooler.dense.weight"].update(target=["x"]),
        lambda facts: facts["tensors"]["pooler.dense.weight"].update(dtype=None),
        lambda facts: facts["tensors"]["pooler.dense.bias"].update(transposed=True),
        lambda facts: facts.update(parity=[1]),
        lambda facts: facts.update(parity={"verdict": 1}),
        lambda facts: facts.update(verified="proven"),
    ],
)
def test_a_forged_manifest_breaks_nothing(output: Path, change: Callable[[dict[str, Any]], object]) -> None:
    rewritten(output, change)
    try:
        found = check_checkpoint(output)
    except DamagedCheckpoint as error:
        assert "was changed since it was written" in error.message  # noqa: PT017
    else:
        assert not found.ok or "Nothing was verified" in found.verdict()


def test_a_tensor_on_record_that_is_nowhere_is_missed(output: Path) -> None:
    def lose(facts: dict[str, Any]) -> None:
        facts["tensors"]["new"] = {**facts["tensors"]["pooler.dense.weight"], "target": "bert/new/kernel:0"}

    rewritten(output, lose)
    [change] = check_checkpoint(output).changes
    assert (change.tensor, change.what) == ("bert/new/kernel:0", "is missing")


@pytest.mark.parametrize(
    ("old", "new"),
    [('"dtype":"F32","shape":[35]', '"dtype":"I32","shape":[35]'), ('"shape":[35]', '"shape":[5,7]')],
)
@pytest.mark.parametrize("output", ["pt"], indirect=True)
def test_a_tensor_of_the_same_bytes_is_another_by_its_type_or_shape(output: Path, old: str, new: str) -> None:
    """Somebody who changes the header and fixes the manifest has to change the tensor's own line in it too."""
    file = output / "model.safetensors"
    raw = file.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    name = '"bert.pooler.dense.bias":{'
    start = raw.index(name.encode()) + len(name)
    header = (raw[8:start] + raw[start:end].replace(old.encode(), new.encode(), 1)).rstrip()
    assert header != raw[8:end].rstrip()
    header = header.ljust(-(-len(header) // 8) * 8)
    file.write_bytes(len(header).to_bytes(8, "little") + header + raw[end:])
    with contextlib.closing(checkpoints.open_file(file)) as opened:
        frame = frame_digest(opened, sorted((begin, stop - begin) for begin, stop, _ in spans(file)))
    facts = {"size": file.stat().st_size, "sha256_outside_tensors": frame}
    rewritten(output, lambda manifest: manifest["files"].update({file.name: facts}))
    [change] = check_checkpoint(output).changes
    assert (change.tensor, change.what) == ("bert.pooler.dense.bias", "has other values")


def test_a_manifest_that_states_another_type_is_contradicted(output: Path) -> None:
    rewritten(output, lambda facts: facts["tensors"]["pooler.dense.bias"].update(dtype="float16"))
    [change] = check_checkpoint(output).changes
    assert change.tensor.endswith("pooler/dense/bias:0")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", ".", "a/../b", "a//b"])
def test_a_manifest_that_names_other_files_is_none(output: Path, name: str) -> None:
    rewritten(output, lambda facts: facts["files"].update({name: {"size": 7, "sha256": "0"}}))
    with pytest.raises(DamagedCheckpoint, match="was changed since it was written"):
        check_checkpoint(output)


def test_an_output_without_digests_cannot_be_checked(source: Path, tmp_path: Path) -> None:
    convert_checkpoint(source, tmp_path / "bare", to="pt", verify="none")
    with pytest.raises(RequestError, match="written with --verify none"):
        check_checkpoint(tmp_path / "bare")


def test_tensors_that_may_be_missing_do_not_hide_the_others(tmp_path: Path) -> None:
    tensors = checkpoints.state_dict(HEAD)
    del tensors["bert.pooler.dense.bias"]
    checkpoints.save(tmp_path / "a", HEAD, tensors)
    options = {"head": HEAD, "ignore_missing": [r"pooler\.dense\.bias"], "verify": "weights"}
    convert_checkpoint(tmp_path / "a", tmp_path / "b", to="pt", **options)
    found = check_checkpoint(tmp_path / "b")
    assert (found.ok, found.tensors) == (True, 45)
    file = tmp_path / "b" / "model.safetensors"
    with flipped(file, file.stat().st_size - 1, 3):
        assert [change.what for change in check_checkpoint(tmp_path / "b").changes] == ["has other values"]


@pytest.mark.parametrize("given", ["nowhere", "a/model.safetensors", "a"])
def test_what_is_no_output_says_so(source: Path, given: str) -> None:
    with pytest.raises(RequestError, match=r"holds no bertconv\.json"):
        check_checkpoint(source.parent / given)


def test_an_output_in_the_cache_of_the_hub(output: Path, tmp_path: Path) -> None:
    """There every file is a link to a blob beside it; other links are refused as ever."""
    repository = tmp_path / "models--org--name"
    snapshot = repository / "snapshots" / ("0" * 40)
    (repository / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(output.iterdir())):
        blob = repository / "blobs" / f"{number:064x}"
        path.rename(blob)
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    assert check_checkpoint(snapshot).ok
    (tmp_path / "elsewhere").write_bytes((snapshot / "config.json").read_bytes())
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(tmp_path / "elsewhere")
    assert [change.file for change in check_checkpoint(snapshot).changes] == ["config.json"]
