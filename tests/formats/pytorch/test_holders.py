"""Which containers of a pickle hold a tensor: found once for all, whatever names what."""

from __future__ import annotations

import pytest

from bertconv.containers.pytorch import state
from bertconv.containers.pytorch.state import find_state_dict, holders
from bertconv.containers.pytorch.values import Container, PickledDict
from bertconv.errors import DamagedCheckpoint


def test_shared_containers_are_visited_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of keys that name one list: a file of kilobytes must not take minutes."""
    visited: list[int] = []
    children = state.children

    def counting(container: Container) -> object:
        visited.append(id(container))
        return children(container)

    monkeypatch.setattr(state, "children", counting)
    shared, root = PickledDict(), PickledDict()
    shared.items.extend((number, None) for number in range(1000))
    root.items.extend((f"key {number}", shared) for number in range(1000))
    with pytest.raises(DamagedCheckpoint, match="has no tensors"):
        find_state_dict(root, "file")
    assert visited.count(id(shared)) <= 2
    assert holders(root) == set()
