"""Several writers to one destination, and readers while it is replaced: everybody sees one whole model."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from pathlib import Path

import checkpoints as cp
import pytest

from bertconv.errors import BertconvError
from bertconv.verification import check_checkpoint
from qa.faults.client import Server
from qa.faults.moments import is_over, shuffled, writers_round
from qa.faults.scenes import WRITING, Kind, Scene, make_scene

PT = Kind("pt", "safetensors", ("convert", "--to", "pt"))
WHOLE, SHARDED = WRITING[2], WRITING[3]
WRITERS = 8


@pytest.fixture(scope="module")
def rivals(server: Server, tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    """Eight conversions whose outputs are all different, in files of different names."""
    kinds = (PT, WHOLE, SHARDED)
    return [
        make_scene(server, tmp_path_factory.mktemp("rival"), kinds[number % 3], over=False, type_vocab_size=2 + number)
        for number in range(WRITERS)
    ]


@pytest.mark.parametrize("count", [2, 3, 5, 8])
@pytest.mark.parametrize("over", [False, True], ids=["new", "over"])
def test_writers(count: int, over: bool, server: Server, rivals: list[Scene], tmp_path: Path, seed: int) -> None:
    """The last that got the lock has its model there; who did not get it says so."""
    old = rivals[-1].new if over else {}
    chosen = shuffled(seed + count + over, rivals, count)
    codes, problems = writers_round(server, chosen, tmp_path / "top" / "made" / "out", old)
    assert not problems, f"BERTCONV_FAULTS_SEED={seed}, exit codes {codes}: {problems}"


def look(folder: Path) -> dict[str, bytes]:
    """Every file of the model that was there at one moment: through a descriptor of the folder."""
    found = {}
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in os.listdir(top):  # noqa: PTH208  (a path would be that of the next model)
            with contextlib.suppress(FileNotFoundError):  # this is the old output, and it is being removed
                fd = os.open(name, os.O_RDONLY, dir_fd=top)
                try:
                    status = os.fstat(fd)
                    if stat.S_ISREG(status.st_mode):
                        found[name] = os.pread(fd, status.st_size + 1, 0)
                finally:
                    os.close(fd)
    finally:
        os.close(top)
    return found


def test_readers_while_it_is_replaced(server: Server, rivals: list[Scene], tmp_path: Path) -> None:
    """Files of two models are never in one folder; who opens by path one after the other notices a swap."""
    one, other = rivals[0], rivals[2]
    top = tmp_path / "top"
    destination = top / "made" / "out"
    server.run(one.command(one.source, destination, overwrite=False))
    seen: Counter[str] = Counter()
    for number in range(8):
        scene = (other, one)[number % 2]
        pid = server.start(scene.command(scene.source, destination, overwrite=True))
        over = False
        while not over:  # one look more, when nothing moves any longer
            over = is_over(pid)
            seen[kind_of(look(destination), one, other)] += 1
            seen[reported(destination)] += 1
        assert server.wait(pid).status == 0
    assert set(seen) <= {"whole", "being removed", "ok", "refused"}, seen
    assert seen["whole"]
    assert seen["ok"]


def kind_of(found: dict[str, bytes], *scenes: Scene) -> str:
    for scene in scenes:
        own = {name.removeprefix("made/out/"): content for name, content in scene.new.items()}
        files = {name: content for name, content in own.items() if content is not None and "/" not in name}
        there = {name: content for name, content in found.items() if name in files}
        if set(found) - set(own) or any(files[name] != content for name, content in there.items()):
            continue
        return "whole" if there == files else "being removed"
    return f"a mixture: {sorted(found)}"


def reported(destination: Path) -> str:
    """What `bertconv verify DST` says of it."""
    try:
        check = check_checkpoint(destination)
    except BertconvError:
        return "refused"
    return "ok" if check.ok else "refused"


def test_the_eye_of_these_tests(rivals: list[Scene], tmp_path: Path) -> None:
    """A positive control: a folder of two models is seen as such."""
    one, other = rivals[0], rivals[2]
    mixed = {name.removeprefix("made/out/"): content for name, content in {**one.new, **other.new}.items()}
    for name, content in mixed.items():
        if content is not None:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
    assert kind_of(look(tmp_path), one, other).startswith("a mixture")
    assert cp.snapshot(tmp_path)
