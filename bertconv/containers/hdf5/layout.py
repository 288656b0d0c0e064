"""Where everything lies in an HDF5 file that is written: first all metadata in one piece, then the datasets in order.

A function of names, types and shapes, without numpy, h5py or a file. What libhdf5 makes of the result is the same as
what it makes of a file that it wrote itself with the oldest version of the format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from bertconv.containers.container import FileLayout
from bertconv.containers.hdf5 import encodings
from bertconv.containers.hdf5.constants import NUMBERS, OPAQUE, OPAQUE_ATTRIBUTE, SUPERBLOCK
from bertconv.containers.hdf5.encodings import Member, SymbolTable
from bertconv.containers.stored import ITEM_SIZE
from bertconv.errors import RequestError
from bertconv.records import dataclass

ATTRIBUTE_LIMIT = 64512
"""Bytes that fit into one attribute of an object header; Keras splits longer lists of names into chunks."""


@dataclass(frozen=True)
class Dataset:
    """One dataset to lay out: its path, element type, shape, and other paths that are hard links to it.

    `opaque` keeps its elements as bytes of which only an attribute says what they are, as Keras 3 keeps bfloat16.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    links: tuple[str, ...] = ()
    opaque: bool = False

    @property
    def nbytes(self) -> int:
        """Size of its elements in bytes."""
        return math.prod(self.shape) * ITEM_SIZE[self.dtype]


Attributes = Mapping[str, Mapping[str, str | Sequence[str]]]
"""Group path ("" is the root) -> attribute -> text, or a list of names, which is split into chunks."""


class _Group:
    """One group: its members by name, numbers stand for datasets; its attributes; and where it begins."""

    def __init__(self) -> None:
        self.members: dict[bytes, _Group | int] = {}
        self.attributes: list[bytes] = []
        self.address = 0

    def header(self, table: SymbolTable) -> bytes:
        return encodings.object_header([encodings.symbol_table_message(table.tree, table.heap), *self.attributes], 1)

    def table(self) -> SymbolTable:
        size = 16 + 24 + sum(map(len, self.attributes))
        return SymbolTable(tuple(self.members), self.address + size)

    def groups(self) -> Iterator[_Group]:
        """This one and all below, each before its own members."""
        waiting = [self]
        while waiting:
            group = waiting.pop()
            yield group
            waiting += [member for member in reversed(group.members.values()) if isinstance(member, _Group)]


def lay_out(datasets: Sequence[Dataset], attributes: Attributes) -> FileLayout:
    """A file with every dataset's space allocated and nothing in it.

    Args:
        datasets: in the order in which their bytes are to follow each other.
        attributes: what groups say of themselves.

    Raises:
        RequestError: a name that HDF5 cannot hold, or two things of one name.
    """
    root = _tree(datasets, attributes)
    tables: list[tuple[_Group, SymbolTable]] = []
    end = SUPERBLOCK
    for group in root.groups():
        group.address = end
        table = group.table()
        tables.append((group, table))
        end = table.end
    says = {number: place for place, number in enumerate((n for n, one in enumerate(datasets) if one.opaque), 1)}
    heap, heap_at = encodings.heap([dataset.dtype.encode() for dataset in datasets if dataset.opaque]), end
    end += len(heap)
    values = [(heap_at, says[number]) if number in says else None for number in range(len(datasets))]
    pairs = zip(datasets, values, strict=True)
    headers, end = _aligned([len(_header(dataset, 0, value)) for dataset, value in pairs], end)
    offsets, size = _aligned([dataset.nbytes for dataset in datasets], end)
    addresses = {id(group): Member(group.address, table.tree, table.heap) for group, table in tables}
    pieces = [encodings.superblock(addresses[id(root)], size)]
    for group, table in tables:
        members = {
            name: Member(headers[member]) if isinstance(member, int) else addresses[id(member)]
            for name, member in group.members.items()
        }
        pieces += [group.header(table), table.to_bytes(members)]
    pieces.append(heap)
    pieces += [_header(*described) for described in zip(datasets, offsets, values, strict=True)]
    return FileLayout(size, tuple(offsets), {0: b"".join(pieces)})


def _aligned(sizes: Sequence[int], start: int) -> tuple[list[int], int]:
    """Where things of these sizes begin that follow each other, at multiples of eight; and the end of the last."""
    offsets, end = [], start
    for size in sizes:
        offset = -(-end // 8) * 8
        offsets.append(offset if size else 0)
        end = offset + size if size else end
    return offsets, end


def _header(dataset: Dataset, offset: int, says: tuple[int, int] | None) -> bytes:
    """Its object header; `says` is the place in the heap of what is said of opaque elements."""
    datatype = OPAQUE if dataset.opaque else NUMBERS[dataset.dtype]
    made = encodings.dataset_messages(datatype, dataset.shape, offset, dataset.nbytes)
    if says is not None:
        made.append(encodings.loose_attribute(OPAQUE_ATTRIBUTE.encode(), len(dataset.dtype), *says))
    return encodings.object_header(made, 1 + len(dataset.links))


def _tree(datasets: Sequence[Dataset], attributes: Attributes) -> _Group:
    root = _Group()
    for path, values in attributes.items():
        group = _below(root, path, _parts(path)) if path else root
        group.attributes += [message for key, value in values.items() for message in _attribute(key, value)]
    for number, dataset in enumerate(datasets):
        for path in (dataset.path, *dataset.links):
            *above, name = _parts(path)
            members = _below(root, path, above).members
            if name in members:
                raise _refused(path, "is the name of two things")
            members[name] = number
    return root


def _below(group: _Group, path: str, parts: Sequence[bytes]) -> _Group:
    for part in parts:
        found = group.members.setdefault(part, _Group())
        if not isinstance(found, _Group):
            raise _refused(path, "leads through another tensor")
        group = found
    return group


def _parts(path: str) -> list[bytes]:
    """The names along a path."""
    try:
        parts = [part for part in path.encode().split(b"/") if part]
    except UnicodeEncodeError as error:
        raise _refused(path, "is no Unicode text") from error
    if not parts or b"." in parts or b"\0" in path.encode():  # "." is the group itself
        raise _refused(path, "is no path in an HDF5 file")
    return parts


def _attribute(key: str, value: str | Sequence[str]) -> Iterator[bytes]:
    """An attribute, or the chunks that Keras makes of a long one."""
    if isinstance(value, str):
        yield encodings.text_attribute(key.encode(), value.encode())
        return
    names = [name.encode() for name in value]
    width = encodings.text_width(names)
    if width > ATTRIBUTE_LIMIT:
        raise _refused(value[0][:100], f"stands in a list with a name of more than {ATTRIBUTE_LIMIT:,} bytes")
    if width * len(names) <= ATTRIBUTE_LIMIT:
        yield encodings.list_attribute(key.encode(), names, width)
        return
    per_chunk = ATTRIBUTE_LIMIT // width
    for number, start in enumerate(range(0, len(names), per_chunk)):
        yield encodings.list_attribute(f"{key}{number}".encode(), names[start : start + per_chunk], width)


def _refused(path: str, problem: str) -> RequestError:
    return RequestError(f"{problem}.", hint="Give the layers other names.", tensor=path)
