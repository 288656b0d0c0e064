"""`bertconv pull`: which files, whose manifest, and what a Hub that lies or a disk that fails leads to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import distributed_folders as dcp
import pytest
from hub_troubles import body_is, flip, only_for
from hub_writes import WritableHub, answers
from manifests import forged

from bertconv import check_checkpoint, convert_checkpoint, pull_checkpoint, push_checkpoint
from bertconv.errors import BertconvError, HubError, OutputError, ParityError, RequestError, UnsupportedCheckpoint
from bertconv.manage.pull import KEPT, MADE

REPO = "org/model"
HEAD = "BertForMaskedLM"
Cli = Callable[..., cp.Outcome]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>'")  # huggingface_hub 2.4 to its HTTP library


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint that bertconv did not write, with a tokenizer."""
    folder = cp.save(tmp_path / "source", HEAD, cp.state_dict(HEAD))
    (folder / "vocab.txt").write_text("\n".join(f"w{number}" for number in range(101)))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def uploaded(hub: WritableHub, files: dict[str, bytes] | Path, **more: bytes) -> dict[str, bytes]:
    """A repository with these files; the files."""
    found = contents(files) if isinstance(files, Path) else files
    if REPO not in hub.repositories:
        hub.make(REPO)
    hub.commit(REPO, {**found, **more})
    return found


def pulled(folder: Path, given: str = REPO, **options: object) -> dict[str, bytes]:
    """What a pull puts into a folder, which must hold by its manifest and have no links."""
    pull_checkpoint(given, folder, **options)
    found = check_checkpoint(folder)
    assert found.ok, found.verdict()
    assert found.added == ()
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    return contents(folder)


def manifest(folder: Path) -> dict[str, object]:
    return json.loads((folder / "bertconv.json").read_bytes())


@pytest.mark.parametrize("container", ["safetensors", "bin", "sharded", "sharded-bin", "h5", "tf-safetensors"])
def test_every_format_as_it_is(hub: WritableHub, tmp_path: Path, container: str) -> None:
    folder = cp.save(tmp_path / "source", HEAD, cp.state_dict(HEAD), container)
    files = uploaded(hub, folder)
    found = pulled(tmp_path / "D")
    assert found.pop("bertconv.json")
    assert found == files
    record = manifest(tmp_path / "D")
    digest = convert_checkpoint(folder, tmp_path / "same", to="pt", verify="weights").digest
    assert record["digest"] == digest
    assert record["operation"] == {"verb": "pull", "options": {}}
    assert record["head"] == HEAD
    (parent,) = record["parents"]
    assert (parent["role"], parent["given"], parent["commit"]) == ("source", REPO, hub.head(REPO))
    assert parent["digest"] == digest
    assert parent["backbone_digest"] == record["backbone_digest"]


@pytest.mark.parametrize("to", ["tf1", "garden", "flax", "keras-hub"])
def test_shards_of_other_programs(hub: WritableHub, source: Path, tmp_path: Path, to: str) -> None:
    """A repository without a manifest: its index and all that the index names, with the model's own digest."""
    made = convert_checkpoint(source, tmp_path / "made", to=to, max_shard_size="60KB", verify="weights")
    (tmp_path / "made" / "bertconv.json").unlink()
    files = uploaded(hub, tmp_path / "made")
    found = pulled(tmp_path / "D")
    assert manifest(tmp_path / "D")["digest"] == made.digest
    assert {name: content for name, content in found.items() if name in files} == files
    assert found.keys() - files == {"bertconv.json"}


def test_what_is_pulled(hub: WritableHub, source: Path, tmp_path: Path) -> None:
    files = uploaded(hub, source)
    uploaded(hub, {"README.md": b"a card", "flax_model.msgpack": b"flax", "pytorch_model.bin": b"torch"})
    pull = pull_checkpoint(REPO, tmp_path / "D")
    assert set(pull.files) == set(files)
    assert (pull.commit, pull.manifest, pull.head) == (hub.head(REPO), MADE, HEAD)
    assert pull.not_pulled == ("README.md", "flax_model.msgpack", "pytorch_model.bin")
    assert sorted(hub.downloaded()) == sorted(files)
    convert_checkpoint(source, tmp_path / "same", to="pt", verify="weights")
    assert manifest(tmp_path / "D")["vocabulary"] == manifest(tmp_path / "same")["vocabulary"]
    assert "as the Hub has it" in pull.verdict()


@pytest.mark.parametrize("change", [0, 1, -1], ids=["header", "header too", "tensor"])
def test_a_pulled_file_that_was_changed_later(hub: WritableHub, source: Path, tmp_path: Path, change: int) -> None:
    """Tensors that no table knows are in the file too: its whole digest is on record."""
    tensors = {**cp.state_dict(HEAD), "bert.embeddings.position_ids": cp.random_array((1, 37), "float32", 3)}
    cp.save(source, HEAD, tensors)
    uploaded(hub, source)
    pulled(tmp_path / "D")
    path = tmp_path / "D" / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[change] ^= 1
    path.write_bytes(raw)
    found = check_checkpoint(tmp_path / "D")
    assert {one.file for one in found.changes} == {"model.safetensors"}
    assert "model.safetensors has other bytes" in found.verdict()


def test_a_manifest_of_the_repository_is_kept(hub: WritableHub, source: Path, tmp_path: Path) -> None:
    convert_checkpoint(source, tmp_path / "out", to="tf", verify="weights")
    push_checkpoint(tmp_path / "out", REPO)
    uploaded(hub, {"README.md": b"a card"})
    pull = pull_checkpoint(REPO, tmp_path / "D")
    assert pull.manifest == KEPT
    assert contents(tmp_path / "D") == contents(tmp_path / "out")
    assert check_checkpoint(tmp_path / "D").ok
    assert push_checkpoint(tmp_path / "D", REPO).state == "unchanged"


@pytest.mark.parametrize("to", ["tf", "tf-safetensors", "tf1"])
def test_the_format_that_the_manifest_is_about(hub: WritableHub, source: Path, tmp_path: Path, to: str) -> None:
    """So that what a pull request adds beside other weights is what its reader checks."""
    uploaded(hub, source)
    convert_checkpoint(REPO, tmp_path / "out", to=to, verify="weights")
    push_checkpoint(tmp_path / "out", REPO, create_pr=True)
    given = f"{REPO}@refs/pr/1"
    looked = pull_checkpoint(given, tmp_path / "D", dry_run=True)
    assert pull_checkpoint(given, tmp_path / "D").manifest == KEPT
    assert contents(tmp_path / "D") == contents(tmp_path / "out")
    assert {*looked.files, "bertconv.json"} == set(contents(tmp_path / "D"))


def changed_config(files: dict[str, bytes]) -> dict[str, bytes]:
    return {**files, "config.json": files["config.json"].replace(b"gelu", b"relu")}


def other_weights(files: dict[str, bytes]) -> dict[str, bytes]:
    raw = bytearray(files["model.safetensors"])
    raw[-3] ^= 1
    return {**files, "model.safetensors": bytes(raw)}


def of_another_model(files: dict[str, bytes]) -> dict[str, bytes]:
    return {**files, "bertconv.json": forged(files["bertconv.json"], digest="sha256:" + "0" * 64)}


def of_nothing(files: dict[str, bytes]) -> dict[str, bytes]:
    return {**files, "bertconv.json": forged(files["bertconv.json"], files={}, tensors={})}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (changed_config, "config.json has other bytes"),
        (other_weights, "has other values"),
        (lambda files: {**files, "bertconv.json": b"{}"}, "it was changed since it was written"),
        (lambda files: {**files, "bertconv.json": b"\xff"}, "it was changed since it was written"),
        (of_another_model, "another model"),
        (of_nothing, "about other files"),
        (lambda files: {**files, "special_tokens_map.json": b"{}"}, "about other files"),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_hold(
    hub: WritableHub, source: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]], why: str
) -> None:
    convert_checkpoint(source, tmp_path / "out", to="pt", verify="weights")
    files = uploaded(hub, change(contents(tmp_path / "out")))
    found = pulled(tmp_path / "D")
    assert {**found, "bertconv.json": b""} == {**files, "bertconv.json": b""}
    record = manifest(tmp_path / "D")
    assert record["operation"]["verb"] == "pull"
    (note,) = (note for note in record["notes"] if "bertconv.json" in note)
    assert "was not kept" in note
    assert why in note


@pytest.mark.parametrize("given", ["org/model@v1", "org/model"])
def test_revision_and_subfolder(hub: WritableHub, source: Path, tmp_path: Path, given: str) -> None:
    files = uploaded(hub, source)
    below = {f"a/b/{name}": data for name, data in files.items()}
    made = hub.commit(REPO, below, "v1")
    options = {} if "@" in given else {"revision": "v1"}
    found = pulled(tmp_path / "D", given, subfolder="a/b", **options)
    assert {name: data for name, data in found.items() if name != "bertconv.json"} == files
    record = manifest(tmp_path / "D")
    assert record["operation"]["options"] == {"subfolder": "a/b"}
    assert record["parents"][0]["commit"] == made


def test_modules_of_sentence_transformers(hub: WritableHub, tmp_path: Path) -> None:
    folder = cp.save(tmp_path / "source", "BertModel", cp.state_dict("BertModel"))
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
              {"idx": 1, "name": "1", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text("{}")
    dense = {
        "linear.weight": cp.random_array((7, 35), "float32", 1),
        "linear.bias": cp.random_array((7,), "float32", 2),
    }
    (folder / "2_Dense" / "model.safetensors").write_bytes(cp.safetensors_bytes(dense))
    files = uploaded(hub, folder)
    found = pulled(tmp_path / "D")
    assert {name: data for name, data in found.items() if name != "bertconv.json"} == files
    assert "2_Dense/linear.weight" in manifest(tmp_path / "D")["tensors"]


def test_the_layout_of_before_2021(hub: WritableHub, tmp_path: Path) -> None:
    inner = cp.save(tmp_path / "source" / "0_BERT", "BertModel", cp.state_dict("BertModel"))
    listed = [{"idx": 0, "name": "0", "path": "0_BERT", "type": "sentence_transformers.models.BERT"},
              {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]  # fmt: skip
    (inner.parent / "modules.json").write_text(json.dumps(listed))
    (inner.parent / "1_Pooling").mkdir()
    (inner.parent / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    files = uploaded(hub, inner.parent)
    found = pulled(tmp_path / "D")
    assert {name: data for name, data in found.items() if name != "bertconv.json"} == files


def test_without_the_network(hub: WritableHub, source: Path, tmp_path: Path) -> None:
    uploaded(hub, source)
    online = pulled(tmp_path / "D")
    hub.stop()
    assert pulled(tmp_path / "E", local_files_only=True) == online


# What is refused


def refused(error: type[BertconvError], folder: Path, word: str, given: str = REPO, **options: object) -> None:
    before = cp.snapshot(folder) if folder.exists() else None
    with pytest.raises(error, match=word):
        pull_checkpoint(given, folder, **options)
    assert (cp.snapshot(folder) if folder.exists() else None) == before


def test_what_is_no_repository(hub: WritableHub, tmp_path: Path) -> None:
    refused(HubError, tmp_path / "D", "no such repository")
    for given in ("", "a/b/c", "./org/model", "https://huggingface.co/org/model", "org/model@a..b"):
        refused(RequestError, tmp_path / "D", ".", given)
    hub.make(REPO)
    refused(BertconvError, tmp_path / "D", "weights")


def test_a_local_folder_of_that_name_is_not_meant(hub: WritableHub, source: Path, tmp_path: Path) -> None:
    uploaded(hub, source)
    (tmp_path / "org" / "model").mkdir(parents=True)
    assert "model.safetensors" in pulled(tmp_path / "D")


def test_a_family_that_is_not_known(hub: WritableHub, tmp_path: Path) -> None:
    weights = cp.safetensors_bytes({"h.0.attn.weight": cp.random_array((3, 5), "float32", 1)})
    uploaded(hub, {"config.json": b'{"model_type": "gpt2"}', "model.safetensors": weights})
    refused(UnsupportedCheckpoint, tmp_path / "D", "gpt2")


def test_a_folder_that_holds_something(hub: WritableHub, source: Path, tmp_path: Path) -> None:
    uploaded(hub, source)
    (tmp_path / "D").mkdir()
    (tmp_path / "D" / "mine").write_text("mine")
    refused(OutputError, tmp_path / "D", "not empty")
    refused(OutputError, tmp_path / "D", "did not write", overwrite=True)
    assert hub.requests == []


def test_an_earlier_output_is_replaced(hub: WritableHub, source: Path, tmp_path: Path) -> None:
    convert_checkpoint(source, tmp_path / "D", to="tf", verify="weights")
    uploaded(hub, source)
    refused(OutputError, tmp_path / "D", "overwrite")
    assert "tf_model.h5" not in pulled(tmp_path / "D", overwrite=True)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt", "bertconv.json"])
def test_a_hub_that_sends_other_bytes(hub: WritableHub, source: Path, tmp_path: Path, name: str) -> None:
    convert_checkpoint(source, tmp_path / "out", to="pt", verify="weights")
    uploaded(hub, tmp_path / "out")
    hub.trouble = only_for(name, body_is(flip, head_too=False))
    refused(HubError, tmp_path / "D", "not the file that the Hub has")


def test_a_disk_that_changes_the_copy(
    hub: WritableHub, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bertconv.formats.staging import StagedFolder

    def copy(self: StagedFolder, name: str, file: object) -> None:
        data = file.read(0, file.size)  # type: ignore[attr-defined]
        self.write(name, flip(data) if name == "vocab.txt" else data)

    monkeypatch.setattr(StagedFolder, "copy", copy)
    uploaded(hub, source)
    refused(ParityError, tmp_path / "D", "where the Hub has")


def test_no_access(hub: WritableHub, source: Path, tmp_path: Path) -> None:
    uploaded(hub, source)
    hub.fault = answers("GET", 403)
    refused(HubError, tmp_path / "D", "no access")


# The command line


def test_the_command(hub: WritableHub, source: Path, tmp_path: Path, cli: Cli) -> None:
    files = uploaded(hub, source)
    uploaded(hub, {"README.md": b"a card"})
    dry = cli("pull", REPO, tmp_path / "D", "--dry-run")
    assert dry.code == 0, dry.err
    assert not (tmp_path / "D").exists()
    assert hub.downloaded() == ["config.json"]
    assert f"{len(files)} files" in dry.out
    assert "model.safetensors" in dry.out
    assert "would be pulled" in dry.out
    done = cli("pull", REPO, tmp_path / "D")
    assert done.code == 0, done.err
    assert "Not pulled: README.md." in done.out
    assert cli("verify", tmp_path / "D").code == 0
    again = cli("pull", f"{REPO}@{hub.head(REPO)}", tmp_path / "D", "--overwrite", "--quiet")
    assert (again.code, again.out.count("\n")) == (0, 1)


def test_the_command_as_json(hub: WritableHub, source: Path, tmp_path: Path, cli: Cli) -> None:
    files = uploaded(hub, source)
    for options in ([], ["--dry-run", "--overwrite"]):
        done = cli("pull", REPO, tmp_path / "D", "--json", "--token", hub.token, *options)
        found = json.loads(done.out)
        assert (found["ok"], found["commit"], found["dry_run"]) == (True, hub.head(REPO), bool(options))
        assert {name: facts["size"] for name, facts in found["files"].items()} == {
            name: len(data) for name, data in files.items()
        }
        assert hub.token not in done.out + done.err


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_distributed_checkpoint(hub: WritableHub, tmp_path: Path, dry_run: bool) -> None:
    folder = dcp.write(tmp_path / "source", {"model": cp.torch_tensors(cp.state_dict(HEAD))}, dcp.along(0, 2))
    uploaded(hub, cp.write_config(folder, cp.config(HEAD)))
    with pytest.raises(UnsupportedCheckpoint, match=f"bertconv convert {REPO} DST"):
        pull_checkpoint(REPO, tmp_path / "D", dry_run=dry_run)
    assert not (tmp_path / "D").exists()
