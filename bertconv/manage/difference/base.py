"""Two checkpoints as changes of a third one: how far each went from it, and whether in the same direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from bertconv.checkpoint import Checkpoint, Tensor
from bertconv.containers.stored import FLOATS
from bertconv.formats import workers
from bertconv.formats.streaming import Workspace, lockstep
from bertconv.manage.difference.elements import Pair, layer_of
from bertconv.manage.difference.records import Against, Departure
from bertconv.manage.difference.sides import pairs_of
from bertconv.manage.difference.sums import BLOCK, Floats, Numbers, squares, strange_numbers
from bertconv.records import dataclass
from bertconv.text import printable
from bertconv.verify.facts import side_facts

FAR = 0.7
"""A change, in units of its base, from which on a model is taken for one that does not come from it.

Training on moves weights by a few hundredths of their size. Two models that were trained apart have next to nothing in
common: their difference is 1.4 times as large as either.
"""


@dataclass(frozen=True)
class _Triple:
    id: str
    a: Tensor
    b: Tensor
    c: Tensor


@dataclass(frozen=True)
class _Sums:
    """Sums of squares of the base and of both changes, and of the product of these."""

    id: str
    base: float
    a: float
    b: float
    product: float


def against(a: Checkpoint, b: Checkpoint, c: Checkpoint, tell: Callable[[str, int, int], None]) -> Against:
    """Hold two checkpoints to a third one.

    Args:
        a: the one.
        b: the other.
        c: their base.
        tell: called with the step and its bytes.

    Raises:
        MappingError: one of them cannot be aligned with the base.
        DamagedCheckpoint: a file ends too early or cannot be read.
    """
    ones, others = ({pair.id: pair for pair in pairs_of(c, side)} for side in (a, b))
    triples = [
        _Triple(place, pair.b, others[place].b, pair.a)
        for place, pair in ones.items()
        if place in others and all(map(_is_in_place, (pair, others[place])))
    ]
    total, done = sum(one.c.stored.nbytes for one in triples), 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        tell("base", done, total)

    found = workers.run(triples, _sum, tick, lambda one: one.c.stored.turn)
    layers: dict[str, list[_Sums]] = {}
    for one in found:
        layers.setdefault(layer_of(one.id), []).append(one)
    whole = _departure("all", found)
    compared = {one.id for one in found}
    left_out = tuple(printable(place) for place in {**a.everything, **b.everything} if place not in compared)
    rows = tuple(_departure(layer, inside) for layer, inside in layers.items())
    return Against(side_facts(c), whole, rows, len(found), left_out, _verdict(whole))


def _is_in_place(pair: Pair) -> bool:
    """Whether the elements of the base and of one side belong together as they lie, and are numbers with fractions."""
    dtypes = {pair.a.stored.dtype, pair.b.stored.dtype}
    return pair.same_shape and pair.in_place and dtypes <= set(FLOATS)


def _sum(triple: _Triple, workspace: Workspace, tick: workers.Tick) -> _Sums:
    sides = (triple.a, triple.b, triple.c)
    rooms = (workspace, workspace.second, workspace.second.second)
    floats, sums = Floats(3), [0.0] * 4
    for streams in lockstep(*(side.elements(room) for side, room in zip(sides, rooms, strict=True))):
        with strange_numbers():
            for start in range(0, streams[0].size, BLOCK):
                a, b, c = (
                    floats.take(number, stream[start : start + BLOCK], side.stored.dtype)
                    for number, (stream, side) in enumerate(zip(streams, sides, strict=True))
                )
                a, b = floats.minus(0, a, c), floats.minus(1, b, c)
                more = _products(a, b, c)
                if not all(map(math.isfinite, more)):
                    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
                    more = _products(a[finite], b[finite], c[finite])
                sums = [one + other for one, other in zip(sums, more, strict=True)]
        tick(streams[2].nbytes)
    return _Sums(triple.id, *sums)


def _products(a: Numbers, b: Numbers, c: Numbers) -> list[float]:
    return [*squares(c, a, b), float(np.dot(a, b))]


def _departure(layer: str, inside: Iterable[_Sums]) -> Departure:
    every = list(inside)
    base, a, b = (math.sqrt(math.fsum(sums)) for sums in zip(*((one.base, one.a, one.b) for one in every), strict=True))
    product = math.fsum(one.product for one in every)
    angle = max(-1.0, min(1.0, product / (a * b))) if a and b else None
    return Departure(layer, base, a, b, angle)


def _verdict(whole: Departure) -> str:
    """Which of the two come from the base, and which is nearer, without a full stop."""
    sides = {"A": whole.relative_a, "B": whole.relative_b}
    same = [side for side, change in sides.items() if change == 0]
    far = [side for side, change in sides.items() if not change < FAR]
    near = [side for side in sides if side not in same and side not in far]
    said = [f"{_listed(same)} C, unchanged"] if same else []
    if near:
        both = "both come" if len(near) == 2 else "comes"
        said.append(f"{' and '.join(near)} {both} from C, {_amounts(near, sides)} of its size away")
    if far:
        verb = "do" if len(far) == 2 else "does"
        said.append(f"{' and '.join(far)} {verb} not come from C, {_amounts(far, sides)} of its size away")
    if sides["A"] != sides["B"]:
        said.append(f"{min(sides, key=sides.__getitem__)} is nearer")
    if whole.cosine is not None:
        said.append(f"the cosine between their changes is {whole.cosine:.2f}")
    return "; ".join(said)


def _listed(sides: list[str]) -> str:
    return "A and B are" if len(sides) == 2 else f"{sides[0]} is"


def _amounts(names: list[str], sides: dict[str, float]) -> str:
    return " and ".join(f"{sides[name]:.2g}" for name in names)
