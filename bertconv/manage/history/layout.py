"""Where the boxes and lines of a picture stand: columns by generation, few crossings, parents beside their children."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bertconv.manage.history.graph import Edge, Graph
from bertconv.records import dataclass

BOX_WIDTH, BOX_HEIGHT = 236, 106
COLUMN_GAP, ROW_GAP = 142, 26
LINE_ROOM = 14
"""Height that is kept for a line that goes past a column."""
PORT_GAP = 21
"""Between lines at the side of a box."""
_SWEEPS = 12

Node = tuple[str, int]
"""A model's id and 0; or the number of an edge as text, and the column that it goes past."""


class Point(NamedTuple):
    """A place in the picture, in pixels."""

    x: float
    y: float


@dataclass(frozen=True)
class Layout:
    """A picture.

    Attributes:
        width: of all of it; `height` likewise.
        boxes: id of a model -> the upper left corner of its box.
        lines: edges with the points that each goes through, from the parent's box to the child's.
    """

    width: float
    height: float
    boxes: Mapping[str, Point]
    lines: tuple[tuple[Edge, tuple[Point, ...]], ...]


def lay_out(graph: Graph) -> Layout:
    """Place every model: the one that was asked about at the right, its ancestors to the left of it."""
    ranks = _ranks(graph)
    paths = {number: _path(number, edge, ranks) for number, edge in enumerate(graph.edges)}
    columns = _ordered(graph, ranks, paths)
    centres = _centres(columns, _neighbours(paths.values()))
    last = len(columns) - 1
    top = min(centres[node] - _room(node) / 2 for column in columns for node in column)

    def left(rank: int) -> float:
        return (last - rank) * (BOX_WIDTH + COLUMN_GAP)

    boxes = {key: Point(left(rank), centres[key, 0] - top - BOX_HEIGHT / 2) for key, rank in ranks.items()}
    starts, ends = ([edge.parent for edge in graph.edges], [edge.child for edge in graph.edges])
    leaving = _ports(starts, [centres[paths[number][1]] for number in paths], boxes, BOX_WIDTH)
    reaching = _ports(ends, [centres[paths[number][-2]] for number in paths], boxes, 0)
    lines = []
    for number, edge in enumerate(graph.edges):
        past = [node for node in paths[number] if node[1]]
        through = [
            Point(left(rank) + side, centres[name, rank] - top) for name, rank in past for side in (0, BOX_WIDTH)
        ]
        lines.append((edge, (leaving[number], *through, reaching[number])))
    height = max(centres[node] + _room(node) / 2 for column in columns for node in column) - top
    return Layout(left(0) + BOX_WIDTH, height, boxes, tuple(lines))


def _ranks(graph: Graph) -> dict[str, int]:
    """Id -> generation: 0 for the root, and for a parent more than for each of its children, cycles aside."""
    order: list[str] = []
    state: dict[str, int] = {graph.root: 1}
    backward: set[tuple[str, str]] = set()
    stack = [(graph.root, iter(graph.parents.get(graph.root, ())))]
    while stack:
        key, edges = stack[-1]
        edge = next(edges, None)
        if edge is None:
            stack.pop()
            state[key] = 2
            order.append(key)
        elif state.get(edge.parent) == 1:
            backward.add((edge.parent, edge.child))
        elif edge.parent not in state:
            state[edge.parent] = 1
            stack.append((edge.parent, iter(graph.parents.get(edge.parent, ()))))
    ranks = dict.fromkeys(graph.models, 0)
    for key in reversed(order):
        for edge in graph.parents.get(key, ()):
            if (edge.parent, edge.child) not in backward:
                ranks[edge.parent] = max(ranks[edge.parent], ranks[key] + 1)
    return ranks


def _path(number: int, edge: Edge, ranks: Mapping[str, int]) -> tuple[Node, ...]:
    """The nodes of an edge from its parent to its child; it goes past the columns between them."""
    between = range(ranks[edge.parent] - 1, ranks[edge.child], -1)
    return ((edge.parent, 0), *((str(number), rank) for rank in between), (edge.child, 0))


def _neighbours(paths: Iterable[tuple[Node, ...]]) -> dict[Node, list[Node]]:
    found: dict[Node, list[Node]] = {}
    for path in paths:
        for one, other in itertools.pairwise(path):
            found.setdefault(one, []).append(other)
            found.setdefault(other, []).append(one)
    return found


def _ordered(graph: Graph, ranks: Mapping[str, int], paths: Mapping[int, tuple[Node, ...]]) -> list[list[Node]]:
    """The nodes of every column from top to bottom, so that few lines cross: each near the middle of its neighbours."""
    columns: list[list[Node]] = [[] for _ in range(max(ranks.values()) + 1)]
    column_of: dict[Node, int] = {}
    for key in graph.models:
        column_of[key, 0] = ranks[key]
    for path in paths.values():
        column_of |= {node: node[1] for node in path if node[1]}
    for node, rank in column_of.items():
        columns[rank].append(node)
    near = _neighbours(paths.values())
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        for rank in range(len(columns)) if forth else reversed(range(len(columns))):
            beside = rank - 1 if forth else rank + 1
            if 0 <= beside < len(columns):
                places = {node: place for place, node in enumerate(columns[beside])}
                columns[rank] = _by_middle(columns[rank], places, near)
    return columns


def _ports(keys: Sequence[str], heights: Sequence[float], boxes: Mapping[str, Point], side: float) -> list[Point]:
    """Where each edge leaves or reaches a box: spread over its side, in the order of where the edges go to.

    Args:
        keys: of each edge, the box.
        heights: of each edge, how high the next thing on its way is.
        boxes: the upper left corners.
        side: how far to the right of a corner the side is.
    """
    by_box: dict[str, list[int]] = {}
    for number, key in enumerate(keys):
        by_box.setdefault(key, []).append(number)
    found = [Point(0, 0)] * len(keys)
    for key, numbers in by_box.items():
        numbers.sort(key=heights.__getitem__)
        step = min(PORT_GAP, (BOX_HEIGHT - PORT_GAP) / max(len(numbers) - 1, 1))
        for place, number in enumerate(numbers):
            off = (place - (len(numbers) - 1) / 2) * step
            found[number] = Point(boxes[key].x + side, boxes[key].y + BOX_HEIGHT / 2 + off)
    return found


def _by_middle(column: Sequence[Node], places: Mapping[Node, int], near: Mapping[Node, Sequence[Node]]) -> list[Node]:
    def middle(numbered: tuple[int, Node]) -> float:
        number, node = numbered
        found = [places[other] for other in near.get(node, ()) if other in places]
        return sum(found) / len(found) if found else number

    return [node for _, node in sorted(enumerate(column), key=middle)]


def _centres(columns: Sequence[Sequence[Node]], near: Mapping[Node, Sequence[Node]]) -> dict[Node, float]:
    """Node -> height of its middle: as near to its neighbours' as its column allows."""
    centres: dict[Node, float] = {}
    for column in columns:
        centres |= dict(zip(column, _spaced(column, [0.0] * len(column)), strict=True))
    for sweep in range(_SWEEPS):
        for column in columns if sweep % 2 else reversed(columns):
            wanted = []
            for node in column:
                others = [centres[other] for other in near.get(node, ())]
                wanted.append(sum(others) / len(others) if others else centres[node])
            centres |= dict(zip(column, _spaced(column, wanted), strict=True))
    return centres


def _spaced(column: Sequence[Node], wanted: Sequence[float]) -> list[float]:
    """Heights in the order of the column, far enough from each other, that are least far from those wanted."""
    offsets = [0.0]
    for one, other in itertools.pairwise(column):
        offsets.append(offsets[-1] + (_room(one) + _room(other)) / 2 + ROW_GAP)
    blocks: list[tuple[float, int]] = []  # sum and number of what stands together
    for want, offset in zip(wanted, offsets, strict=False):
        block = (want - offset, 1)
        while blocks and blocks[-1][0] / blocks[-1][1] >= block[0] / block[1]:
            before = blocks.pop()
            block = (before[0] + block[0], before[1] + block[1])
        blocks.append(block)
    found = [total / count for total, count in blocks for _ in range(count)]
    return [place + offset for place, offset in zip(found, offsets, strict=False)]


def _room(node: Node) -> float:
    return LINE_ROOM if node[1] else BOX_HEIGHT
