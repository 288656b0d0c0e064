"""bertconv.records: what it makes behaves as the standard library's frozen dataclasses."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from functools import cached_property
from typing import Any

import pytest

from bertconv import records
from bertconv.mapping.ignore import IgnoreLists

Decorator = Callable[..., Any]
EACH = pytest.mark.parametrize("decorator", [dataclasses.dataclass, records.dataclass], ids=["standard", "own"])


def point(decorator: Decorator) -> Any:
    @decorator(frozen=True)
    class Point:
        """Two numbers and a name."""

        x: int
        y: int = 2
        names: list[str] = field(default_factory=list, repr=False, compare=False)

        @cached_property
        def total(self) -> int:
            """Of both."""
            return self.x + self.y

    return Point


@EACH
def test_instances(decorator: Decorator) -> None:
    kind = point(decorator)
    one, other = kind(1), kind(1, names=["a"])
    assert one == other
    assert hash(one) == hash(other)
    assert {one, other} == {one}
    assert one != kind(2)
    assert one != point(decorator)(1)
    assert one != (1, 2)
    assert repr(one).endswith("Point(x=1, y=2)")
    assert one.names == []
    assert one.names is not other.names
    assert one.total == 3
    assert dataclasses.replace(one, y=5) == kind(1, 5)
    assert dataclasses.asdict(other) == {"x": 1, "y": 2, "names": ["a"]}
    assert copy.deepcopy(other).names == ["a"]
    assert [each.name for each in dataclasses.fields(kind)] == ["x", "y", "names"]
    with pytest.raises(TypeError):
        kind()


@EACH
def test_instances_never_change(decorator: Decorator) -> None:
    one = point(decorator)(1)
    for name in ("x", "new"):
        with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(one, name, 7)
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'x'"):
        del one.x
    assert one.x == 1


@EACH
def test_own_methods_stay(decorator: Decorator) -> None:
    @decorator(frozen=True)
    class Quiet:
        secret: str

        def __repr__(self) -> str:
            return "Quiet"

    assert repr(Quiet("a")) == "Quiet"
    assert Quiet("a") == Quiet("a")


def test_instances_can_be_pickled() -> None:
    one = IgnoreLists(("a",), ())
    assert pickle.loads(pickle.dumps(one)) == one
