"""The object graph of a TensorFlow 2 checkpoint: which object has which variable (trackable_object_graph.proto).

A variable's key is one of the paths to it from the root, whichever came first when it was saved. Its name is its own
(`full_name`) whatever was wrapped around it, so the names that its model gave it are found again in every kind of
checkpoint that was made of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import NamedTuple

from bertconv.containers.container import Links
from bertconv.containers.protobuf import (
    BYTES,
    VARINT,
    WireError,
    content,
    fields,
    number,
    read_varint,
    text,
    write_bytes,
    write_number,
)

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""The key under which a bundle has its graph, as a text."""
VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""What follows the path in the key of a variable."""
COUNTER = "save_counter"
"""A number that TensorFlow counts up whenever it saves: a restored checkpoint must have one."""
MAX_GRAPH = 16_000_000
"""Most bytes of a graph that is read: those of the largest models have a megabyte."""
MAX_NODES = 100_000
_MAX_LINKS = 200_000
_MAX_PATH = 4000
_NUMBER_OF_CHILD, _NAME_OF_CHILD = 1 << 3 | VARINT, 2 << 3 | BYTES
_VALUE = "VARIABLE_VALUE"
_SLOT = "/.OPTIMIZER_SLOT/"
_TRAINING = frozenset({"optimizer", "_optimizer", "optimizers"})
"""What objects call their optimizer, whose variables are none of the model's."""


class _Node(NamedTuple):
    """An object: those that it holds by name, its variables as (attribute, name, key), and the numbers of its slots."""

    children: list[tuple[str, int]]
    variables: list[tuple[str, str, str]]
    slots: list[int]


class Named(NamedTuple):
    """A key of a bundle as its graph describes it.

    Attributes:
        path: shortest way to its object.
        full_name: what its model called it; empty where the graph does not say.
        is_training: it belongs to an optimizer, or counts saves.
    """

    path: str
    full_name: str
    is_training: bool


def read_graph(data: bytes) -> dict[str, Named]:
    """What a graph says of each key that it knows.

    Raises:
        WireError: it is none, or beyond every bound.
    """
    nodes: list[_Node] = []
    links = 0
    for field in fields(data):
        if field.number == 1:
            nodes.append(_node(content(data, field), _MAX_LINKS - links))
            links += len(nodes[-1].children)
            if len(nodes) > MAX_NODES:
                raise WireError("has an object graph of more objects than any model has")
    if not nodes:
        raise WireError("has an object graph without objects")
    if any(other >= len(nodes) for node in nodes for other in (*(at for _, at in node.children), *node.slots)):
        raise WireError("has an object graph that leads to an object which it does not have")
    slots = {number for node in nodes for number in node.slots}
    paths = _paths(nodes, slots)
    found: dict[str, Named] = {}
    for place, (path, is_training) in sorted(paths.items(), key=lambda one: (one[1][1], len(one[1][0]), one[1][0])):
        for attribute, full_name, key in nodes[place].variables:
            is_other = is_training or attribute != _VALUE or path == COUNTER or _SLOT in key
            if key not in found:
                found[key] = Named(path, full_name, is_other)
    return found


def names_of(keys: Iterable[str], graph: Mapping[str, Named], content: Callable[[str], Hashable]) -> dict[str, str]:
    """The name of each of some keys: its variable's own, or its path where that is nobody's or several ones'.

    Keras 3 exports every variable under two keys: where all that share a name are equal, each is taken once.

    Args:
        keys: of variables.
        graph: what is known of them.
        content: what is equal for keys of equal tensors.
    """
    found = {key: graph.get(key, Named("", "", is_training=False)) for key in keys}
    paths = {key: key.removesuffix(VARIABLE) for key in found}
    sharing: dict[str, list[str]] = {}
    for key, named in found.items():
        sharing.setdefault(named.full_name.removesuffix(":0"), []).append(key)
    nameless = sharing.pop("", [])
    are_equal = all(len({content(key) for key in same}) == 1 for same in sharing.values() if len(same) > 1)
    names = {key: paths[key] for key in nameless}
    for name, same in sharing.items():
        names.update({same[0]: name} if are_equal or len(same) == 1 else {key: paths[key] for key in same})
    if len(set(names.values())) < len(names):  # a path that is another variable's name
        names = {key: paths[key] for key in found}
    return names if len(set(names.values())) == len(names) else {key: key for key in found}


def graph_bytes(paths: Collection[str], links: Links) -> bytes:
    """The graph of variables at these paths, whose parts are spelled as in keys: nothing but the way to each.

    Args:
        paths: of the variables.
        links: other places of objects; those of objects that are not there are passed over.
    """
    objects = _Objects()
    for path in paths:
        objects.variables[objects.make(path)] = path
    for place, source in links.copies:
        if objects.find(place.rpartition("/")[0]) is not None:
            objects.put(place, objects.copy(objects.find(source)))
    for place, source in links.same:  # of the copies too
        objects.put(place, objects.find(source))
    return b"".join(write_bytes(1, objects.node(number)) for number in range(len(objects.children)))


class _Objects:
    """Objects by number, the first the root: those that each holds by name, and the path of each variable."""

    def __init__(self) -> None:
        self.children: list[dict[str, int]] = [{}]
        self.variables: dict[int, str] = {}

    def make(self, path: str) -> int:
        """The object at a path, with all that it needs on the way."""
        at = 0
        for part in path.split("/") if path else ():
            if part not in self.children[at]:
                self.children[at][part] = len(self.children)
                self.children.append({})
            at = self.children[at][part]
        return at

    def find(self, path: str) -> int | None:
        """The object at a path; None where there is none."""
        at: int | None = 0
        for part in path.split("/") if path else ():
            at = None if at is None else self.children[at].get(part)
        return at

    def put(self, path: str, number: int | None) -> None:
        """An object at one more place, unless there is none, or one is there already."""
        if number is not None and self.find(path) is None:
            around, _, last = path.rpartition("/")
            self.children[self.make(around)][last] = number

    def copy(self, number: int | None) -> int | None:
        """Another object with the same values below it."""
        if number is None:
            return None
        made = len(self.children)
        self.children.append({})
        for part, below in self.children[number].items():
            self.children[made][part] = self.copy(below) or 0
        if number in self.variables:
            self.variables[made] = self.variables[number]
        return made

    def node(self, number: int) -> bytes:
        """An object in the file."""
        node = b"".join(
            write_bytes(1, write_number(1, other) + write_bytes(2, _unescaped(part).encode()))
            for part, other in self.children[number].items()
        )
        if number not in self.variables:
            return node
        key = self.variables[number] + VARIABLE
        return node + write_bytes(2, write_bytes(1, _VALUE.encode()) + write_bytes(3, key.encode()))


def _node(data: bytes, most: int) -> _Node:
    node = _Node([], [], [])
    for field in fields(data):
        if field.number == 1:
            node.children.append(_reference(data, field.start, field.start + field.value))
            if len(node.children) > most:
                raise WireError("has an object graph of more paths than any model has")
        elif field.number == 2:
            node.variables.append(_variable(content(data, field)))
        elif field.number == 3:
            part = content(data, field)
            node.slots.append(next((number(one) for one in fields(part) if one.number == 3), 0))
    return node


def _reference(data: bytes, at: int, end: int) -> tuple[str, int]:
    """A child's name and number, of which there are by far the most: by hand, at a third of the time."""
    name, place = b"", 0
    while at < end:
        key, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if key == _NUMBER_OF_CHILD:
            place = value
        elif key == _NAME_OF_CHILD:
            name = data[at : at + value]
            at += value
        else:
            raise WireError("has an object graph with a child that is none")
    if at != end:
        raise WireError("has an object graph with a child that does not end where it should")
    try:
        return name.decode(), place
    except UnicodeDecodeError as error:
        raise WireError("has an object graph with a name that is no UTF-8") from error


def _variable(data: bytes) -> tuple[str, str, str]:
    found = {field.number: text(data, field) for field in fields(data) if field.number in (1, 2, 3)}
    return found.get(1, ""), found.get(2, ""), found.get(3, "")


def _paths(nodes: list[_Node], slots: set[int]) -> dict[int, tuple[str, bool]]:
    """The shortest path to each object, and whether only an optimizer leads there; each object is looked at once."""
    found: dict[int, tuple[str, bool]] = {0: ("", False)}
    later: list[tuple[int, str]] = [(place, "") for place in sorted(slots)]
    _walk(nodes, [0], found, slots, later)
    for place, path in later:
        if place not in found:
            found[place] = (path, True)
            _walk(nodes, [place], found, set(), None)
    return found


def _walk(
    nodes: list[_Node],
    level: list[int],
    found: dict[int, tuple[str, bool]],
    aside: set[int],
    later: list[tuple[int, str]] | None,
) -> None:
    """Level by level from some objects that were found; what an optimizer has goes to `later`, if there is one."""
    while level:
        following: list[int] = []
        for place in level:
            path, is_training = found[place]
            for name, other in nodes[place].children:
                if other in found or other in aside:
                    continue
                there = f"{path}/{_escaped(name)}" if path else _escaped(name)
                if len(there) > _MAX_PATH:
                    raise WireError("has an object graph that is deeper than any model's")
                if later is not None and name in _TRAINING:
                    later.append((other, there))
                    continue
                found[other] = (there, is_training)
                following.append(other)
        level = following


def _escaped(name: str) -> str:
    """A local name as a part of a key."""
    return name.replace(".", "..").replace("/", ".S")


def _unescaped(part: str) -> str:
    out, place = [], 0
    while place < len(part):
        pair = part[place : place + 2]
        out.append({"..": ".", ".S": "/"}.get(pair, part[place]))
        place += 2 if pair in {"..", ".S"} else 1
    return "".join(out)
