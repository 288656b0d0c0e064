"""Checkpoint folders in which a file is a link, a FIFO or a folder; case by case, with how it is refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_folders import (
    CONFIG_NAME,
    INDEX,
    SHARD,
    WEIGHTS,
    Change,
    Folder,
    bound,
    chain,
    directory,
    fifo,
    inside,
    link,
    put,
)  # fmt: skip

from bertconv.errors import AmbiguousFamily, DamagedCheckpoint, MissingFiles, UnsafeCheckpoint


def cached(name: str, spoil: Callable[[Path, Path, str], object]) -> Change:
    """The folder laid out as `hub/models--a/snapshots/c`, this file a link to a blob, then spoilt.

    What the user gives becomes a link to the snapshot, as those who know the cache make it.
    """

    def change(folder: Path) -> None:
        repository = folder.parent / "hub" / "models--a"
        snapshot = repository / "snapshots" / ("c" * 40)
        (repository / "blobs").mkdir(parents=True)
        snapshot.parent.mkdir()
        folder.rename(snapshot)
        folder.symlink_to(snapshot)
        blob = hashlib.sha256((snapshot / name).read_bytes()).hexdigest()
        (snapshot / name).rename(repository / "blobs" / blob)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
        spoil(repository, snapshot / name, blob)

    return change


def _relinked(target: str) -> Callable[[Path, Path, str], object]:
    return lambda _, path, blob: (path.unlink(), path.symlink_to(target.format(blob=blob)))


def _blob_linked(repository: Path, path: Path, blob: str) -> None:
    (repository / "blobs" / blob).unlink()
    (repository / "blobs" / blob).symlink_to(f"../../../secret/{path.name}")


def _blobs_linked(repository: Path, path: Path, blob: str) -> None:
    (repository / "blobs").rename(repository / "old")
    os.link(repository.parents[1] / "secret" / path.name, repository.parents[1] / "secret" / blob)
    (repository / "blobs").symlink_to("../../secret")


def _blob_fifo(repository: Path, _: Path, blob: str) -> None:
    (repository / "blobs" / blob).unlink()
    os.mkfifo(repository / "blobs" / blob)


def _other_repository(repository: Path, path: Path, blob: str) -> None:
    other = repository.with_name("models--b")
    repository.rename(other)
    (path.parent).mkdir(parents=True)
    for each in (other / "snapshots" / path.parent.name).iterdir():
        each.rename(path.parent / each.name)
    (repository / "blobs").mkdir()
    path.unlink()
    path.symlink_to(f"../../../models--b/blobs/{blob}")


def hub_cases(name: str, **more: Any) -> dict[str, Folder]:
    """Links that look like the Hub cache's own."""

    def look_alike(spoil: Callable[[Path, Path, str], object], words: str = "symbolic link") -> Folder:
        return Folder(cached(name, spoil), UnsafeCheckpoint, words, name, **more)

    return {
        "cache link past the blobs": look_alike(_relinked(f"../../blobs/../../../secret/{name}")),
        "cache link to another repository": look_alike(_other_repository),
        "cache link to nothing": look_alike(_relinked("../../blobs/" + "d" * 64)),
        "cache link to the folder of blobs": look_alike(_relinked("../../blobs")),
        "blob that is a link": look_alike(_blob_linked),
        "folder of blobs that is a link": look_alike(_blobs_linked),
        "blob that is a FIFO": look_alike(_blob_fifo, "not a regular file"),
    }


def link_cases(name: str, **more: Any) -> dict[str, Folder]:
    """Everything that a file may be that is no file of this folder."""

    def case(change: Change, words: str = "symbolic link") -> Folder:
        return Folder(change, UnsafeCheckpoint, words, name, **more)

    return {
        "FIFO": case(fifo(name), "not a regular file"),
        "relative link out": case(link(name, f"../secret/{name}")),
        "absolute link out": case(link(name, f"{{root}}/secret/{name}")),
        "link to a link": case(chain(name)),
        "dangling link": case(link(name, "nothing")),
        "link to itself": case(link(name, name)),
        "link to /dev/zero": case(link(name, "/dev/zero")),
        "link to /proc/self/mem": case(link(name, "/proc/self/mem")),
        "link to a folder": case(link(name, "../secret")),
    }


def _many(folder: Path) -> None:
    for number in range(1_001):
        (folder / f"tokenizer{number}.json").touch()


def _renamed(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / NOT_TEXT)


def _linked_below(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / CONFIG_NAME).symlink_to("../../secret/tokenizer.json")


def _linked_layout(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "0_Transformer").symlink_to("../secret")


SHARD_FILES = {
    **link_cases(SHARD, shards=True),
    **hub_cases(SHARD, shards=True),
    "link inside": Folder(inside(SHARD), UnsafeCheckpoint, "symbolic link", SHARD, shards=True),
    "socket": Folder(bound(SHARD), DamagedCheckpoint, "cannot be opened", SHARD, shards=True),
    "directory": Folder(directory(SHARD), MissingFiles, "not there", INDEX, shards=True),
}  # fmt: skip

INDEX_FILES = {
    **link_cases(INDEX, shards=True),
    "link inside": Folder(inside(INDEX), UnsafeCheckpoint, "symbolic link", INDEX, shards=True),
    "directory": Folder(directory(INDEX), MissingFiles, "the index that names them is missing", "", shards=True),
}  # fmt: skip

CONFIG_FILES = {
    **link_cases(CONFIG_NAME),
    **hub_cases(CONFIG_NAME),
    "link inside": Folder(inside(CONFIG_NAME), UnsafeCheckpoint, "symbolic link", CONFIG_NAME),
    "socket": Folder(bound(CONFIG_NAME), DamagedCheckpoint, "cannot be opened", CONFIG_NAME),
    "directory": Folder(directory(CONFIG_NAME), AmbiguousFamily, "has no config.json", "", said="no config"),
}

SIDECARS = {
    **{
        f"{name}: {kind}": case
        for name in ("tokenizer.json", "vocab.txt")
        for kind, case in link_cases(name, said="").items()
    },
    "a module's config that is a link": Folder(
        _linked_below, UnsafeCheckpoint, "symbolic link", "1_Pooling/config.json", said=""
    ),
    "tokenizer of 100 GB": Folder(
        put("tokenizer.json", sparse=10**11), UnsafeCheckpoint, "to carry along", "", said=""
    ),
    "1,001 tokenizers": Folder(_many, UnsafeCheckpoint, "to carry along", "", said=""),
    "old layout that is a link": Folder(_linked_layout, MissingFiles, "there are no weights", ""),
}


NOT_TEXT = os.fsdecode(b"m\xff.safetensors")

WEIGHT_FILES = {
    **link_cases(WEIGHTS),
    "name that is not UTF-8": Folder(_renamed, UnsafeCheckpoint, "not UTF-8", NOT_TEXT),
}

CASES: dict[str, Folder] = {
    f"{group}: {name}": case
    for group, cases in (
        ("weights", WEIGHT_FILES), ("shard", SHARD_FILES), ("index", INDEX_FILES), ("config", CONFIG_FILES),
        ("sidecar", SIDECARS),
    )
    for name, case in cases.items()
}  # fmt: skip
