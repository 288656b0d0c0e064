"""A disk that is really full, and files that may not grow: exit 7, the destination untouched, nothing left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qa.faults.client import Server
from qa.faults.moments import disk_round, disk_sizes, limited_round, small_disk
from qa.faults.scenes import WRITING, Kind, Scene

KINDS = [kind for kind in WRITING if kind.name in {"tf", "tf-safetensors-sharded", "pt-copied"}]


@pytest.mark.parametrize("over", [False, True], ids=["new", "over"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_full_disk(kind: Kind, over: bool, server: Server, scene_of: Callable[..., Scene], place: Path) -> None:
    scene = scene_of(kind, over=over)
    codes = []
    for size in disk_sizes(scene, 8):
        with small_disk(place, size) as obstacle:
            if obstacle:
                pytest.skip(obstacle)
            run, problems = disk_round(server, scene, place)
        assert not problems, f"{size} bytes: {problems}"
        codes.append(run.status)
    assert set(codes) == {0, 7}, codes


@pytest.mark.parametrize("ignored", [True, False], ids=["ignored", "deadly"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_limit_to_the_size_of_files(
    kind: Kind, ignored: bool, server: Server, scene_of: Callable[..., Scene]
) -> None:
    """RLIMIT_FSIZE: Python ignores the signal that comes with it, others may not."""
    scene = scene_of(kind, over=True)
    largest = max(len(content or b"") for content in scene.new.values())
    codes = []
    for limit in (8192, largest // 2, largest - 1, largest):
        run, problems = limited_round(server, scene, limit, ignored=ignored)
        assert not problems, f"{limit} bytes: {problems}"
        codes.append(run.status)
    assert codes[-1] == 0
    assert 0 not in codes[:-1]
