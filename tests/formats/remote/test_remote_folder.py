"""Outputs in a store: the bytes of the same run on a disk, and nothing but these, whatever happens on the way."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest

from bertconv import (
    attach_head,
    average_checkpoints,
    cast_checkpoint,
    collect_leftovers,
    convert_checkpoint,
    extract_checkpoint,
    keep_layers,
    merge_checkpoints,
    pull_checkpoint,
    resize_vocabulary,
    shard_checkpoint,
)
from bertconv.errors import HubError, OutputError, ParityError, RequestError
from bertconv.formats.destination import MANIFEST
from bertconv.formats.output import formats
from bertconv.formats.remote import flow
from bertconv.formats.remote.lock import Lock, Record
from bertconv.formats.remote.site import Site
from bertconv.models.saving import save_pretrained

fsspec = pytest.importorskip("fsspec")

HEAD = "BertForMaskedLM"
URL = "memory://models/out"
STAGED = ".out.bertconv-tmp-0123456789ab"


@pytest.fixture(autouse=True)
def store() -> Iterator[Any]:
    """The store of memory://, empty."""
    found = fsspec.filesystem("memory")
    found.store.clear()
    yield found
    found.store.clear()


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return made(tmp_path / "in")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes], dict[str, bytes]]:
    """A checkpoint, and the files of two outputs of it."""
    folder = tmp_path_factory.mktemp("outputs")
    convert_checkpoint(made(folder / "in"), folder / "old", to="pt")
    convert_checkpoint(folder / "in", folder / "new", to="tf")
    return folder / "in", here(folder / "old"), here(folder / "new")


def made(folder: Path, head: str = HEAD, seed: int = 0) -> Path:
    cp.save(folder, head, cp.state_dict(head, seed=seed))
    (folder / "vocab.txt").write_text("".join(f"word{number}\n" for number in range(cp.SIZES["vocab_size"])))
    return folder


def there(store: Any, folder: str = "/models") -> dict[str, bytes]:
    """Every file of a folder of the store."""
    return {path.removeprefix(f"{folder}/"): store.cat_file(path) for path in store.find(folder)}


def here(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lying(store: Any, record: Record, age: float = 0.0) -> None:
    """The lock of another run, written so many seconds ago."""
    store.pipe_file("/models/.out.bertconv-lock", record.to_bytes())
    from datetime import timedelta

    store.store["/models/.out.bertconv-lock"].modified -= timedelta(seconds=age)


ELSEWHERE = partial(Record, "other", "another machine", 1, "1")


# What is written


@pytest.mark.parametrize(
    ("to", "limit"), [*((to, "5GB") for to in formats()), *((to, "20KB") for to in ("tf", "tf1", "keras-hub"))]
)
def test_the_bytes_are_those_of_a_run_on_the_disk(src: Path, tmp_path: Path, store: Any, to: str, limit: str) -> None:
    options: dict[str, Any] = {"to": to, "max_shard_size": limit, "allow_loss": True}
    local = convert_checkpoint(src, tmp_path / "out", **options)
    remote = convert_checkpoint(src, URL, **options)
    assert there(store, "/models/out") == here(tmp_path / "out")
    assert {path.split("/")[2] for path in store.find("/models")} == {"out"}  # no lock, and nothing else
    assert (remote.digest, remote.verified) == (local.digest, "weights")
    assert remote.target["folder"] == URL


VERBS: dict[str, Callable[[Path, Any], object]] = {
    "convert": lambda src, dst: convert_checkpoint(src, dst, verify="none"),
    "cast": lambda src, dst: cast_checkpoint(src, dst, dtype="bfloat16"),
    "shard": lambda src, dst: shard_checkpoint(src, dst, max_size="20KB"),
    "extract": lambda src, dst: extract_checkpoint(src, dst, head="BertModel"),
    "extract the head": lambda src, dst: extract_checkpoint(src, dst, part="head"),
    "layers": lambda src, dst: keep_layers(src, dst, keep="1"),
    "resize": lambda src, dst: resize_vocabulary(src, dst, size=120),
    "average": lambda src, dst: average_checkpoints([src, made(src.parent / "other", seed=1)], dst),
    "merge": lambda src, dst: merge_checkpoints([src, made(src.parent / "other", seed=1)], dst, method="slerp", t=0.3),
    "attach": lambda src, dst: attach_head(made(src.parent / "body", "BertModel"), headed(src), dst),
}


def headed(src: Path) -> Path:
    extract_checkpoint(src, src.parent / "head", part="head", overwrite=True)
    return src.parent / "head"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_makes_a_checkpoint(src: Path, tmp_path: Path, store: Any, verb: str) -> None:
    VERBS[verb](src, tmp_path / "out")
    VERBS[verb](src, URL)
    assert there(store, "/models/out") == here(tmp_path / "out")
    assert len(store.find("/models")) == len(here(tmp_path / "out"))


def test_memory_is_given_back_and_writers_wait(
    src: Path, tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With parts so small that every tensor spans several, and no thread more than two parts ahead."""
    monkeypatch.setattr(flow, "PART", 1 << 12)
    monkeypatch.setattr(flow, "AHEAD", 2 << 12)
    for to in ("tf", "pt", "flax"):
        convert_checkpoint(src, tmp_path / to, to=to, dtype="float16")
        convert_checkpoint(src, f"{URL}/{to}", to=to, dtype="float16")
        assert there(store, f"/models/out/{to}") == here(tmp_path / to)


@pytest.mark.parametrize("checked", ["weights", "none"])
def test_a_bit_that_flips_in_the_store(src: Path, store: Any, monkeypatch: pytest.MonkeyPatch, checked: str) -> None:
    sending = Site.sending

    def flipping(site: Site, name: str, size: int) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def sent() -> Iterator[Any]:
            with sending(site, name, size) as file:
                yield file
            raw = bytearray(store.cat_file(site.at(name)))
            raw[-3] ^= 1
            store.pipe_file(site.at(name), bytes(raw))

        return sent()

    monkeypatch.setattr(Site, "sending", flipping)
    if checked == "none":
        convert_checkpoint(src, URL, to="pt", verify=checked)
        return
    with pytest.raises(ParityError, match="differs from its source"):
        convert_checkpoint(src, URL, to="pt", verify=checked)
    assert there(store) == {}


# What is refused


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://example.org/out", "nothing that outputs are written to"),
        ("hf://org/name", "nothing that outputs are written to"),
        ("memory://", "no folder within a bucket"),
        ("memory://a/../b", "no folder within a bucket"),
        ("ftp://host/out", "is no scheme that is read"),
        ("file:///tmp/out", "is no scheme that is read"),
    ],
)
def test_addresses_that_nothing_is_written_to(src: Path, url: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        convert_checkpoint(src, url, to="pt")


@pytest.mark.parametrize("write", [lambda url: save_pretrained(None, url), lambda url: pull_checkpoint("a/b", url)])
def test_what_writes_to_the_disk_alone_says_so(write: Callable[[str], object]) -> None:
    with pytest.raises(RequestError, match="to a folder of the disk"):
        write(URL)


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_is_there_stays(src: Path, store: Any, dry_run: bool) -> None:
    convert_checkpoint(src, URL, to="pt")
    before = there(store)
    with pytest.raises(OutputError, match="exists and is not empty"):
        convert_checkpoint(src, URL, to="tf", dry_run=dry_run)
    store.pipe_file("/models/out/notes.txt", b"mine")
    with pytest.raises(OutputError, match=r"files that bertconv did not write: notes.txt"):
        convert_checkpoint(src, URL, to="tf", overwrite=True, dry_run=dry_run)
    assert there(store) == {**before, "out/notes.txt": b"mine"}


@pytest.mark.parametrize("given", [URL, f"{URL}/inner"])
def test_a_source_is_not_replaced(src: Path, store: Any, given: str) -> None:
    convert_checkpoint(src, given, to="pt")
    before = there(store)
    with pytest.raises(OutputError, match="is or holds what is read"):
        convert_checkpoint(given, URL, to="tf", overwrite=True)
    assert there(store) == before


def test_a_dry_run_writes_nothing(src: Path, store: Any) -> None:
    assert convert_checkpoint(src, URL, to="pt", dry_run=True).dry_run
    assert there(store) == {}


# Overwriting


def test_an_earlier_output_is_replaced(src: Path, tmp_path: Path, store: Any) -> None:
    convert_checkpoint(src, URL, to="pt", max_shard_size="20KB")
    convert_checkpoint(src, URL, to="tf", overwrite=True)
    convert_checkpoint(src, tmp_path / "out", to="tf")
    assert there(store) == {f"out/{name}": raw for name, raw in here(tmp_path / "out").items()}


def failing(store: Any, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """The store refuses a kind of call from its so manyth on, for good."""
    original, calls = getattr(type(store), call), []

    def refuse(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) >= number:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return original(self, *arguments, **options)

    monkeypatch.setattr(type(store), call, refuse)


@pytest.mark.parametrize("call", ["pipe_file", "cat_file", "_open", "cp_file", "rm_file"])
@pytest.mark.parametrize("number", range(1, 6))
def test_the_old_is_whole_until_the_new_is(
    outputs: tuple[Path, dict[str, bytes], dict[str, bytes]],
    store: Any,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
) -> None:
    """Wherever the store begins to refuse: what has a manifest is the old output or the new one, and all of it."""
    src, old, new = outputs
    for name, raw in old.items():
        store.pipe_file(f"/models/out/{name}", raw)
    with monkeypatch.context() as patched:
        failing(store, patched, call, number)
        with contextlib.suppress(OutputError, HubError):
            convert_checkpoint(src, URL, to="tf", overwrite=True)
    found = there(store, "/models/out")
    if MANIFEST in found:
        assert found in (old, new)
    else:
        (staged,) = (path for path in store.find("/models") if path.endswith(MANIFEST))
        assert there(store, staged.rpartition("/")[0]) == new
    collect_leftovers("memory://models")
    assert there(store, "/models/out") in ((old, new) if MANIFEST in found else (new,))
    assert {path.split("/")[2] for path in store.find("/models")} == {"out"}


@pytest.mark.parametrize("call", ["pipe_file", "cat_file", "_open"])
@pytest.mark.parametrize("number", range(1, 6))
def test_nothing_is_left_of_an_output_that_failed(
    src: Path, store: Any, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    with monkeypatch.context() as patched:
        failing(store, patched, call, number)
        with contextlib.suppress(OutputError, HubError):
            convert_checkpoint(src, URL, to="pt")
    if f"out/{MANIFEST}" in there(store):
        return
    collect_leftovers("memory://models")
    assert there(store) == {}


# Killed runs


def killed_in_place(store: Any) -> None:
    store.pipe_file("/models/out/model.safetensors", b"half")
    lying(store, ELSEWHERE(names=("model.safetensors", "config.json")), age=999)


def killed_beside(store: Any, *, replacing: bool) -> dict[str, bytes]:
    """A run that was killed with its output whole; before it was copied, or while it was."""
    whole = there(store, "/models/whole")
    for name, raw in whole.items():
        store.pipe_file(f"/models/{STAGED}/{name}", raw)
    store.rm("/models/whole", recursive=True)
    old = tuple(there(store, "/models/out"))
    if replacing:
        store.rm_file(f"/models/out/{MANIFEST}")
    lying(store, ELSEWHERE(staged=STAGED, old=old, replacing=replacing), age=999)
    return whole


@pytest.mark.parametrize("way", ["gc", "run"])
def test_what_was_begun_in_place_is_removed(src: Path, tmp_path: Path, store: Any, way: str) -> None:
    killed_in_place(store)
    if way == "gc":
        planned = collect_leftovers("memory://models", dry_run=True)
        assert len(there(store)) == 2
        found = collect_leftovers("memory://models")
        assert [one.action for one in found.found] == [one.action for one in planned.found] == ["removed"] * 2
        assert (there(store), found.ok, found.freed > 4) == ({}, True, True)
        return
    convert_checkpoint(src, URL, to="tf")
    convert_checkpoint(src, tmp_path / "out", to="tf")
    assert there(store) == {f"out/{name}": raw for name, raw in here(tmp_path / "out").items()}


@pytest.mark.parametrize("replacing", [False, True])
def test_what_was_whole_is_finished_and_what_was_not_is_removed(src: Path, store: Any, replacing: bool) -> None:
    convert_checkpoint(src, URL, to="pt", max_shard_size="20KB")
    old = there(store, "/models/out")
    convert_checkpoint(src, "memory://models/whole", to="tf")
    new = killed_beside(store, replacing=replacing)
    found = {one.path: one.action for one in collect_leftovers("memory://models").found}
    assert found[f"memory://models/{STAGED}"] == ("put back" if replacing else "removed")
    assert there(store) == {f"out/{name}": raw for name, raw in (new if replacing else old).items()}


def test_a_run_that_is_alive_is_left_alone(src: Path, store: Any) -> None:
    lying(store, ELSEWHERE(names=("model.safetensors",)))
    store.pipe_file("/models/out/model.safetensors", b"half")
    before = there(store)
    with pytest.raises(OutputError, match="is being written by another bertconv"):
        convert_checkpoint(src, URL, to="pt")
    (one, *_) = collect_leftovers("memory://models").found
    assert (one.action, one.why, there(store)) == ("kept", "another bertconv is writing it", before)


def test_a_run_whose_place_was_taken_gives_up(src: Path, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check, calls = Lock.check, []

    def taken(lock: Lock) -> None:
        calls.append(1)
        if len(calls) == 2:  # before the manifest
            lying(store, ELSEWHERE())
        check(lock)

    monkeypatch.setattr(Lock, "check", taken)
    with pytest.raises(OutputError, match="is being written by another bertconv"):
        convert_checkpoint(src, URL, to="pt")
    found = there(store)
    assert json.loads(found[".out.bertconv-lock"])["token"] == "other"
    assert f"out/{MANIFEST}" not in found


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"token": "x", "names": ["../../etc"]}'])
def test_a_lock_that_says_nothing(src: Path, store: Any, raw: bytes) -> None:
    store.pipe_file("/models/.out.bertconv-lock", raw)
    assert Record.read(raw) == Record("")
    store.pipe_file("/etc", b"x")
    with pytest.raises(OutputError, match="is being written"):
        convert_checkpoint(src, URL, to="pt")  # it may be of a newer version; until it is old
    from datetime import timedelta

    store.store["/models/.out.bertconv-lock"].modified -= timedelta(hours=1)
    convert_checkpoint(src, URL, to="pt")
    assert store.cat_file("/etc") == b"x"


def test_gc_of_an_address_refuses_to_look_for_twins() -> None:
    with pytest.raises(RequestError, match="in folders of the disk"):
        collect_leftovers(URL, duplicates=True)
