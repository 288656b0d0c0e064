"""No wrong byte from the Hub or its cache is used: a server that lies in every way, and the real huggingface_hub."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from hub_server import COMMIT, HubServer, digest
from hub_troubles import HICCUPS, TROUBLES, body_is, flip, html, only_for, send, wrong_etag
from huggingface_hub import constants

from bertconv.errors import BertconvError, DamagedCheckpoint, HubError, UnsafeCheckpoint
from bertconv.source import Source, SourceOptions, integrity, open_source

SEED = 20261123
FILES = {
    "config.json": b'{"model_type": "bert", "hidden_size": 12}',
    "model.safetensors": random.Random(SEED).randbytes(30_001),
    "vocab.txt": "".join(f"word{i}\n" for i in range(2_000)).encode(),
}
TARGETS = tuple(FILES)
OFFLINE = SourceOptions(local_files_only=True)


@pytest.fixture
def bert(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    monkeypatch.setattr("time.sleep", lambda _: None)  # huggingface_hub waits between its tries
    # It goes on behind the last whole piece; by default a piece is larger than these files.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 16)
    hub.add_repo("org/bert", FILES)
    return hub


def used(source: Source) -> dict[str, bytes]:
    """Bytes of every file, as a conversion would read them."""
    names = ["config.json", *source.weights.files, *source.sidecars]
    found = {}
    for name in names:
        file = source.open(name)
        found[name] = file.read(0, file.size)
        file.close()
    return found


def refused(target: str, options: SourceOptions = SourceOptions(), kind: type[BertconvError] = HubError) -> HubError:  # noqa: B008
    with pytest.raises(kind) as caught:
        open_source("org/bert", options)
    error = caught.value
    assert type(error) is kind
    assert kind is not HubError or error.exit_code == 8
    assert target in (error.file or ""), str(error)
    assert error.hint
    return error


def follow(error: HubError) -> None:
    """Do what the hint says."""
    found = re.fullmatch(r"Delete (.+) and download it again\.", error.hint)
    assert found, error.hint
    Path(found[1]).unlink()


def patiently(hub_cache: Path) -> Source:
    """As a user would who tries again and does what the errors say; only huggingface_hub 0.x needs that."""
    for _ in range(3 if huggingface_hub.__version__.startswith("0.") else 0):
        try:
            return open_source("org/bert")
        except HubError as error:
            if "*.incomplete" in error.hint:
                for rest in hub_cache.glob("models--org--bert/blobs/*.incomplete"):
                    rest.unlink()
            elif error.hint.startswith("Delete"):
                follow(error)
    return open_source("org/bert")


def in_cache(hub_cache: Path, name: str) -> Path:
    return hub_cache / "models--org--bert" / "snapshots" / COMMIT / name


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_ends_in_an_error_and_leaves_nothing_bad(
    bert: HubServer, cache: Path, trouble: str, target: str
) -> None:
    bert.trouble = only_for(target, TROUBLES[trouble]())
    error = refused(target)
    # What arrived is in the cache now: neither the next run nor one without the network takes it for good.
    refused(target)
    with pytest.raises(HubError):
        open_source("org/bert", OFFLINE)
    bert.trouble = lambda *_: False
    if error.hint.startswith("Delete"):
        assert error.file in str(refused(target))
        follow(error)
    assert used(patiently(cache)) == FILES
    assert used(open_source("org/bert", OFFLINE)) == FILES


def test_another_length_is_told(bert: HubServer) -> None:
    bert.trouble = only_for("vocab.txt", TROUBLES["longer"]())
    error = refused("vocab.txt")
    assert "more or fewer bytes than it said" in error.message
    assert "*.incomplete" in error.hint


@pytest.mark.parametrize("target", ["config.json", "model.safetensors"])
def test_exit_code(bert: HubServer, tmp_path: Path, target: str) -> None:
    bert.trouble = only_for(target, body_is(flip, head_too=False))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    env |= {"HF_ENDPOINT": bert.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    code = "from bertconv.cli import main; main()"
    command = [sys.executable, "-c", code, "convert", "org/bert", str(tmp_path / "out"), "--to", "tf"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 8, done.stderr
    assert f"{target}: is not the file that the Hub has" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("trouble", HICCUPS)
def test_trouble_that_huggingface_hub_gets_over(bert: HubServer, cache: Path, trouble: str, target: str) -> None:
    bert.trouble = only_for(target, HICCUPS[trouble]())
    assert used(patiently(cache)) == FILES
    bert.stop()
    assert used(open_source("org/bert", OFFLINE)) == FILES


POISONS: dict[str, Callable[[bytes], bytes]] = {
    "one bit": flip,
    "cut": lambda data: data[: len(data) // 2],
    "one byte more": lambda data: data + b"\n",
    "emptied": lambda _: b"",
    "zeros": lambda data: bytes(len(data)),
    "HTML": lambda data: html(len(data)),
}


@pytest.mark.parametrize("options", [SourceOptions(), OFFLINE], ids=["online", "offline"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("poison", POISONS)
def test_blob_changed_on_the_disk(
    bert: HubServer, cache: Path, poison: str, target: str, options: SourceOptions
) -> None:
    open_source("org/bert")
    blob = in_cache(cache, target).resolve()
    before = blob.stat()
    blob.write_bytes(POISONS[poison](FILES[target]))
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))  # rot leaves no trace in the times
    error = refused(target, options)
    assert error.message.startswith("is not the file that the Hub has")
    assert str(error) == str(refused(target, options))
    follow(error)
    assert not blob.exists()
    assert used(open_source("org/bert")) == FILES
    bert.stop()
    assert used(open_source("org/bert", OFFLINE)) == FILES


@pytest.mark.usefixtures("bert")
def test_one_bit_anywhere(cache: Path) -> None:
    open_source("org/bert")
    for seed in range(SEED, SEED + 60):
        target = random.Random(seed).choice(TARGETS)
        blob = in_cache(cache, target).resolve()
        blob.write_bytes(flip(FILES[target], seed))
        try:
            refused(target, OFFLINE if seed % 2 else SourceOptions())
        except pytest.fail.Exception:
            pytest.fail(f"seed {seed}: a flipped bit of {target} was accepted")
        blob.write_bytes(FILES[target])
    assert used(open_source("org/bert", OFFLINE)) == FILES


def test_link_to_another_sound_blob(bert: HubServer, cache: Path) -> None:
    open_source("org/bert")
    link = in_cache(cache, "vocab.txt")
    link.unlink()
    link.symlink_to(in_cache(cache, "config.json").readlink())
    error = refused("vocab.txt")
    follow(error)
    assert used(open_source("org/bert")) == FILES
    assert bert.downloaded().count("config.json") == 1  # the other file was left alone


@pytest.mark.usefixtures("bert")
def test_shared_store(cache: Path) -> None:
    # As huggingface_hub 2 keeps Xet files: blobs/<sha256> -> ../../blobs/<2 digits>/<Xet hash>.
    open_source("org/bert")
    blob = in_cache(cache, "model.safetensors").resolve()
    entry = cache / "blobs" / "ab" / ("ab" * 32)
    entry.parent.mkdir(parents=True)
    (cache / "blobs" / ".huggingface-shared-blobs").write_text("1\n")
    blob.rename(entry)
    blob.symlink_to(os.path.relpath(entry, blob.parent))
    assert used(open_source("org/bert", OFFLINE)) == FILES
    entry.write_bytes(flip(FILES["model.safetensors"]))
    refused("model.safetensors", OFFLINE)
    error = refused("model.safetensors")
    follow(error)
    assert not entry.exists()
    assert used(open_source("org/bert")) == FILES


def test_cache_without_links(bert: HubServer, cache: Path, tmp_path: Path) -> None:
    folder = open_source("org/bert").folder
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder)
    assert used(open_source("org/bert")) == FILES
    error = refused("config.json", OFFLINE)
    assert "cannot be checked" in error.message
    assert error.hint.endswith(str(folder))
    assert used(open_source(folder)) == FILES
    in_cache(cache, "vocab.txt").write_bytes(flip(FILES["vocab.txt"]))
    follow(refused("vocab.txt"))
    assert used(open_source("org/bert")) == FILES
    assert bert.requests


@pytest.mark.parametrize("target", TARGETS)
def test_server_that_lists_no_digests(bert: HubServer, cache: Path, target: str) -> None:
    bert.states = False
    bert.trouble = only_for(target, body_is(flip, head_too=False))
    error = refused(target)
    bert.trouble = lambda *_: False
    follow(error)
    assert used(open_source("org/bert")) == FILES
    shutil.rmtree(cache)
    bert.trouble = only_for(
        target, lambda handler, _, data, headers: send(handler, data, {**headers, "ETag": '"5-61a"'})
    )
    assert "cannot be checked" in refused(target).message
    bert.states = True
    assert used(open_source("org/bert")) == FILES


@pytest.mark.parametrize("wrong", [5, "", "sha1", ["a" * 40], {}])
def test_listing_with_unusual_digests(bert: HubServer, monkeypatch: pytest.MonkeyPatch, wrong: object) -> None:
    listed = {
        "oid": "0" * 40,
        "blobId": wrong,
        "lfs": {"sha256": wrong, "oid": "0" * 64, "size": 1, "pointerSize": 1},
    }
    monkeypatch.setattr("hub_server.listed", lambda *_: listed)
    bert.trouble = only_for("vocab.txt", body_is(flip, head_too=False))
    error = refused("vocab.txt")
    bert.trouble = lambda *_: False
    follow(error)
    assert used(open_source("org/bert")) == FILES


@pytest.mark.parametrize("content", [b"", FILES["model.safetensors"][:15_000], bytes(30_001)])
def test_rest_of_an_interrupted_download(bert: HubServer, cache: Path, content: bytes) -> None:
    # huggingface_hub before 2 goes on from such a file, whatever is in it.
    blob = cache / "models--org--bert" / "blobs" / digest("model.safetensors", FILES["model.safetensors"])
    blob.parent.mkdir(parents=True)
    blob.with_name(f"{blob.name}.incomplete").write_bytes(content)
    assert used(patiently(cache)) == FILES
    assert bert.requests


def test_forced_download_mends_the_cache(bert: HubServer, cache: Path) -> None:
    open_source("org/bert")
    in_cache(cache, "vocab.txt").resolve().write_bytes(b"[PAD]")
    assert used(open_source("org/bert", SourceOptions(force_download=True))) == FILES
    bert.trouble = only_for("vocab.txt", body_is(flip, head_too=False))
    refused("vocab.txt", SourceOptions(force_download=True))


def test_no_request_more(bert: HubServer) -> None:
    open_source("org/bert")
    assert bert.requests.count("GET /api/models/org/bert") == 1
    bert.requests.clear()
    open_source("org/bert")
    assert bert.downloaded() == []


def test_bad_file_is_refused_before_it_is_parsed(bert: HubServer) -> None:
    # Not JSON any more: an error of the parser would be a DamagedCheckpoint.
    bert.trouble = only_for("config.json", body_is(lambda data: b"\xff" * len(data), head_too=False))
    refused("config.json")


def test_bad_shard_is_named(bert: HubServer) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": bytes([i]) * 9 for i in (1, 2)}
    index = b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    bert.add_repo("org/bert", {"config.json": b"{}", "model.safetensors.index.json": index, **shards})
    for target in ("model.safetensors.index.json", "model-00002-of-00002.safetensors"):
        bert.trouble = only_for(target, body_is(flip, head_too=False))
        follow(refused(target))


def test_subfolder(bert: HubServer) -> None:
    bert.add_repo("org/bert", {f"a/{name}": data for name, data in FILES.items()})
    options = SourceOptions(subfolder="a")
    assert used(open_source("org/bert", options)) == FILES
    bert.add_repo("org/bert", {f"a/{name}": data for name, data in FILES.items()}, "c" * 40)
    bert.trouble = only_for("a/config.json", wrong_etag)
    refused("a/config.json", SourceOptions(subfolder="a", revision="c" * 40, force_download=True))


@pytest.mark.parametrize("kind", ["fifo", "folder", "stranger"])
def test_blob_that_is_no_file(bert: HubServer, cache: Path, tmp_path: Path, kind: str) -> None:
    open_source("org/bert")
    blob = in_cache(cache, "vocab.txt").resolve()
    blob.unlink()
    if kind == "fifo":
        os.mkfifo(blob)
    elif kind == "folder":
        blob.mkdir()
    else:
        (tmp_path / "secret").write_bytes(FILES["vocab.txt"])
        blob.symlink_to(tmp_path / "secret")
    refused("vocab.txt", kind=UnsafeCheckpoint)
    if kind != "folder":  # which is not in the list of the files that are there
        refused("vocab.txt", OFFLINE, kind=UnsafeCheckpoint)
    assert bert.requests


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 7])
@pytest.mark.parametrize("kind", ["sha256", "sha1"])
def test_digest_of_any_length(tmp_path: Path, size: int, kind: str) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "file").write_bytes(data)
    git = hashlib.sha1(b"blob " + str(size).encode() + b"\0" + data).hexdigest()
    stated = git if kind == "sha1" else hashlib.sha256(data).hexdigest()
    integrity.check(tmp_path, "file", stated)
    for other in (data + b"\0", data[:-1], flip(data, size) if data else b"1"):
        (tmp_path / "file").write_bytes(other)
        if other != data:
            with pytest.raises(HubError, match=stated):
                integrity.check(tmp_path, "file", stated)


def test_git_agrees() -> None:
    # `printf 'Hello, World!' | git hash-object --stdin`
    assert digest("greeting.txt", b"Hello, World!") == "b45ef6fec89518d314f546fd6c3025367b721684"


@pytest.mark.parametrize("stated", ["", "abc", "g" * 40, "a" * 39, "a" * 41, "a" * 63, "a" * 65, "a" * 40 + "\n"])
def test_no_digest_is_no_consent(tmp_path: Path, stated: str) -> None:
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(HubError, match="cannot be checked"):
        integrity.check(tmp_path, "file", stated)


@pytest.mark.parametrize("change", ["cut", "overwritten"])
def test_file_that_changes_while_it_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * 2**20))
    os.utime(path, (1, 1))
    read = integrity.SourceFile.read_into

    def then_change(self, buffer, offset, what=""):
        read(self, buffer, offset, what)
        if change == "cut":
            os.truncate(path, 2**20)
        else:
            path.write_bytes(b"1" * 3 * 2**20)

    monkeypatch.setattr(integrity.SourceFile, "read_into", then_change)
    with pytest.raises(DamagedCheckpoint):
        integrity.check(tmp_path, "file", "0" * 64)
