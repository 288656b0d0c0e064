"""Tensor bundles that would convert but for one thing; case by case, with how each is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import checkpoints as cp
from hostile_case import CONFIG, STATE, VICTIM

from bertconv.containers.bundle import entries as wire
from bertconv.containers.bundle.checksum import masked
from bertconv.containers.bundle.constants import MAGIC
from bertconv.containers.bundle.entries import CODES, STRING, BundleEntry
from bertconv.containers.bundle.graph import GRAPH_KEY
from bertconv.containers.bundle.slices import slice_key
from bertconv.containers.bundle.table import write_table
from bertconv.containers.bundle.texts import write_text
from bertconv.containers.protobuf import varint, write_bytes, write_fixed32, write_number
from bertconv.errors import (
    BertconvError,
    DamagedCheckpoint,
    MappingError,
    MissingFiles,
    UnsafeCheckpoint,
    UnsupportedCheckpoint,
)

D, U, X = DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint
INDEX, DATA = "m.index", "m.data-00000-of-00001"
KEY = VICTIM.encode()
COUNT = STATE[VICTIM].size


@dataclass
class Made:
    """A bundle in the making: rows of its index, its data, and what its index becomes at the end."""

    rows: dict[bytes, bytes]
    entries: dict[str, BundleEntry]
    data: bytearray
    finish: Callable[[bytes], bytes] = bytes
    others: dict[str, bytes] = field(default_factory=dict)

    def change(self, **fields: object) -> None:
        """Of the victim's entry."""
        self.rows[KEY] = wire.entry_bytes(self.entries[VICTIM]._replace(**fields))

    def text(self, key: str, value: bytes, *, whole: bytes | None = None, **fields: object) -> None:
        """A scalar text more, or what stands in its place."""
        raw, entry = write_text(value, 0, len(self.data))
        entry = entry._replace(**fields)
        if whole is not None:
            raw, entry = whole, entry._replace(size=len(whole))
        self.data += raw
        self.rows[key.encode()] = wire.entry_bytes(entry)


@dataclass(frozen=True)
class Case:
    """One change, and how `inspect` refuses it; `later` is for what only a conversion can see.

    Attributes:
        edit: changes a sound bundle.
        error: class of the error; None for what is read.
        words: part of its message.
        later: `inspect`, which reads no weights, accepts it.
        place: changes the folder after the files were written.
    """

    edit: Callable[[Made], object] = lambda _made: None
    error: type[BertconvError] | None = D
    words: str = ""
    later: bool = False
    place: Callable[[Path], object] = lambda _folder: None

    def write(self, root: Path) -> Path:
        made = sound()
        self.edit(made)
        folder = cp.write_config(root / "model", CONFIG)
        (folder / INDEX).write_bytes(made.finish(write_table(sorted(made.rows.items()))))
        (folder / DATA).write_bytes(made.data)
        for name, content in made.others.items():
            (folder / name).write_bytes(content)
        self.place(folder)
        return folder


@cache
def _parts() -> tuple[dict[str, BundleEntry], bytes]:
    entries, data = {}, bytearray()
    for name in sorted(STATE, key=str.encode):
        raw = STATE[name].tobytes()
        entries[name] = BundleEntry(
            CODES[STATE[name].dtype.name], STATE[name].shape, 0, len(data), len(raw), masked([raw])
        )
        data += raw
    return entries, bytes(data)


def sound() -> Made:
    entries, data = _parts()
    rows = {name.encode(): wire.entry_bytes(entry) for name, entry in entries.items()}
    return Made({wire.HEADER_KEY: wire.header_bytes(1), **rows}, dict(entries), bytearray(data))


def raw(edit: Callable[[bytes], bytes]) -> Callable[[Made], object]:
    """Change the bytes of the index."""
    return lambda made: setattr(made, "finish", edit)


def row(value: bytes, key: bytes = KEY) -> Callable[[Made], object]:
    return lambda made: made.rows.update({key: value})


def added(value: Callable[[bytes], bytes]) -> Callable[[Made], object]:
    return lambda made: made.rows.update({KEY: value(made.rows[KEY])})


def entry(**fields: object) -> Callable[[Made], object]:
    return lambda made: made.change(**fields)


def packed(content: bytes, kind: int = 0) -> bytes:
    return content + bytes([kind]) + masked([content, bytes([kind])]).to_bytes(4, "little")


def item(key: bytes, value: bytes, shared: int = 0) -> bytes:
    return varint(shared) + varint(len(key)) + varint(len(value)) + key + value


def block(*items: bytes, restarts: tuple[int, ...] = (0,), count: int | None = None) -> bytes:
    places = b"".join(one.to_bytes(4, "little") for one in restarts)
    return b"".join(items) + places + (len(restarts) if count is None else count).to_bytes(4, "little")


def table(*blocks: tuple[bytes, bytes], kind: int = 0, meta: bytes | None = None) -> Callable[[Made], object]:
    """An index of blocks as they are, each with its last key."""

    def edit(_sound: bytes) -> bytes:
        out, index = bytearray(), []
        for last, content in blocks:
            index.append(item(last, varint(len(out)) + varint(len(content))))
            out += packed(content, kind)
        places = b""
        for content in (block() if meta is None else meta, block(*index)):
            places += varint(len(out)) + varint(len(content))
            out += packed(content)
        return bytes(out) + places.ljust(40, b"\0") + MAGIC

    return raw(edit)


HEAD = item(b"", wire.header_bytes(1))
ONE = item(b"a", wire.entry_bytes(BundleEntry(1, (1,), 0, 0, 4, 0)))


def compressed(content: bytes, length: int = 30) -> Callable[[Made], object]:
    return table((b"z", varint(length) + content), kind=1)


def header(content: bytes) -> Callable[[Made], object]:
    return row(content, wire.HEADER_KEY)


def sliced(*extents: tuple[int, int | None], **fields: object) -> Callable[[Made], object]:
    """The victim in slices along its one axis, all of its bytes; `fields` of the first slice's entry."""

    def edit(made: Made) -> None:
        whole = made.entries[VICTIM]
        parts = [((start, length),) for start, length in extents]
        cut = b"".join(write_bytes(7, _extent(*one)) for (one,) in parts)
        made.rows[KEY] = wire.entry_bytes(BundleEntry(1, whole.shape)) + cut
        for number, one in enumerate(parts):
            ((start, length),) = one
            size = COUNT if length is None else length
            content = bytes(made.data[whole.offset + 4 * start : whole.offset + 4 * (start + size)])
            found = BundleEntry(1, (size,), 0, whole.offset + 4 * start, 4 * size, masked([content]))
            made.rows[slice_key(KEY, one)] = wire.entry_bytes(found._replace(**(fields if number == 0 else {})))

    return edit


def _extent(start: int, length: int | None) -> bytes:
    return write_bytes(1, write_number(1, start) + (b"" if length is None else varint(16) + varint(length)))


def then(*edits: Callable[[Made], object]) -> Callable[[Made], object]:
    return lambda made: [edit(made) for edit in edits]


def graph(content: bytes, **fields: object) -> Callable[[Made], object]:
    return lambda made: made.text(GRAPH_KEY, content, **fields)


def node(*children: tuple[int, bytes], keys: tuple[bytes, ...] = (), name: bytes = b"") -> bytes:
    below = b"".join(write_bytes(1, write_number(1, at) + write_bytes(2, local)) for at, local in children)
    own = b"".join(
        write_bytes(2, write_bytes(1, b"VARIABLE_VALUE") + write_bytes(2, name) + write_bytes(3, key)) for key in keys
    )
    return write_bytes(1, below + own)


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return edit


def link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "secret")


EMPTY = wire.entry_bytes(BundleEntry(1, (COUNT,)))
CHAIN = b"".join(node((number + 1, b"x" * 50)) for number in range(400)) + node(keys=(KEY,))

CASES: dict[str, Case] = {
    # The table
    "an empty index": Case(raw(lambda _: b""), D, "does not end as an index"),
    "one byte": Case(raw(lambda _: b"x"), D, "does not end as an index"),
    "only its end": Case(raw(lambda made: made[-48:]), D),
    "an end without a magic": Case(raw(lambda made: made[:-1] + b"\0"), D, "does not end as an index"),
    "without its last byte": Case(raw(lambda made: made[:-1]), D, "does not end as an index"),
    "without its first byte": Case(raw(lambda made: made[1:]), D),
    "a byte before it": Case(raw(lambda made: b"\0" + made), D),
    "a hole in the middle": Case(raw(lambda made: made[:-48] + bytes(9) + made[-48:]), D, "its last 48"),
    "two of them": Case(raw(lambda made: made + made), D),
    "a bit of a key": Case(raw(lambda made: made[:40] + bytes([made[40] ^ 1]) + made[41:]), D, "its checksum"),
    "something in the padding": Case(raw(lambda made: made[:-9] + b"\1" + made[-8:]), D, "in its last bytes"),
    "a place that never ends": Case(raw(lambda made: made[:-48] + b"\xff" * 40 + made[-8:]), D, "too large"),
    "a place of 2**63": Case(
        raw(lambda made: made[:-48] + (varint(1 << 63) + varint(8)).ljust(40, b"\0") + made[-8:]), D
    ),
    "zstd": Case(table((b"z", block(HEAD)), kind=4), X, "not known (number 4)"),
    "compression 255": Case(table((b"z", block(HEAD)), kind=255), X, "not known"),
    "snappy of 4 GB": Case(compressed(b"\xfe\1\0" * 99, 1 << 32), D, "limit"),
    "snappy of the limit that is not there": Case(compressed(b"\0a", 15_000_000), D, "does not end"),
    "snappy that copies from nowhere": Case(compressed(b"\x05\x09"), D, "what was not there"),
    "snappy that copies from itself": Case(compressed(b"\0a\x05\0"), D, "what was not there"),
    "snappy that ends in a copy": Case(compressed(b"\0a\x06"), D),
    "snappy that ends in a literal": Case(compressed(b"\x70abc"), D, "does not end"),
    "snappy with a literal of 4 GB": Case(compressed(b"\xfc\xff\xff\xff\xff"), D, "does not end"),
    "snappy that is longer than it says": Case(compressed(b"\x20" + b"a" * 9, 3), D, "does not end"),
    "snappy that repeats itself to the end": Case(
        compressed(b"\0a" + b"\xfe\1\0" * 100_000, 15_000_000), D, "does not end"
    ),
    "a block twice": Case(table((b"a", block(HEAD, ONE)), (b"b", block(HEAD, ONE))), D, "in order"),
    "keys out of order": Case(table((b"z", block(HEAD, item(b"b", b""), item(b"a", b"")))), D, "in order"),
    "a key twice": Case(table((b"z", block(HEAD, ONE, ONE))), D, "in order"),
    "a block whose last key is another": Case(table((b"A", block(HEAD, ONE))), D, "describes wrongly"),
    "a key before its block's": Case(table((b"x", block(HEAD)), (b"z", block(ONE))), D, "in order"),
    "a block of nothing": Case(table((b"z", block())), D, "describes wrongly"),
    "a block of no bytes": Case(table((b"z", b"")), D, "too short"),
    "a list of 4 billion places": Case(table((b"z", block(HEAD, count=2**32 - 1))), D, "too short for its own list"),
    "no list of places": Case(table((b"z", block(HEAD, count=0))), D, "too short for its own list"),
    "a place inside of an entry": Case(table((b"z", block(HEAD, ONE, restarts=(0, 3)))), D, "list of places"),
    "places out of order": Case(table((b"z", block(HEAD, ONE, restarts=(len(HEAD), 0)))), D, "list of places"),
    "a key that shares what was not there": Case(table((b"z", block(item(b"a", b"", 5)))), D, "leads out"),
    "an entry of 2**40 bytes": Case(
        table((b"z", block(varint(0) + varint(1) + varint(1 << 40) + b"a"))), D, "leads out"
    ),
    "a key of a megabyte": Case(table((b"\xff", block(HEAD, item(b"k" * 1_000_000, b"")))), D, "leads out"),
    "keys that grow and share": Case(
        table((b"\xff", block(HEAD, item(b"a", b""), *(item(b"a", b"", n) for n in range(1, 9000))))), D, "leads out"
    ),
    "an index of something else": Case(table((b"z", block(HEAD)), meta=block(ONE)), D, "something else than"),
    "100,001 entries": Case(
        table((b"\xff", block(HEAD, *(item(b"%07d" % number, b"") for number in range(100_001))))), D, "than 100,000"
    ),
    "an index of 100 MB": Case(
        place=lambda folder: os.truncate(folder / INDEX, 100_000_000), error=U, words="limit 16,000,000"
    ),
    # The header
    "no header": Case(lambda made: made.rows.pop(wire.HEADER_KEY), D, "has no header"),
    "another order of bytes": Case(header(write_number(1, 1) + write_number(2, 1)), X, "big-endian"),
    "the first version": Case(header(write_bytes(1, b"")), X, "the first version"),
    "a version to come": Case(header(write_number(1, 1) + write_bytes(3, write_number(2, 2))), X, "not known"),
    "a version that is forbidden": Case(header(write_number(1, 1) + write_bytes(3, write_number(3, 1))), X, "not kn"),
    "no files": Case(header(b""), D, "0 files"),
    "a billion files": Case(header(write_number(1, 10**9)), D, "1,000,000,000 files"),
    "two numbers of files": Case(header(write_number(1, 1) * 2), D, "twice"),
    "a field that is not known": Case(header(write_number(1, 1) + write_number(9, 1)), D, "not known"),
    "a field of number 0": Case(header(b"\0\1"), D, "number 0"),
    "a group": Case(header(b"\x0b\x0c"), D, "kind 3"),
    "another file": Case(header(write_number(1, 2)), MissingFiles, "not there"),
    # Entries
    "an entry that ends in the middle": Case(added(lambda value: value[:-1]), D),
    "an entry of nothing": Case(row(b""), MappingError, later=True),
    "texts for a weight": Case(entry(code=STRING), D, later=True),
    "a type that is no number": Case(entry(code=21), MappingError, later=True),
    "a type that is not known": Case(entry(code=1 << 40), MappingError, later=True),
    "a type of twice the size": Case(entry(code=2), D, "bytes instead of"),
    "no bytes": Case(entry(size=0), D, "but 0 bytes"),
    "a byte too few": Case(entry(size=4 * COUNT - 1), D, "bytes instead of"),
    "a size below zero": Case(entry(size=-4), D, "no file has"),
    "a place behind the file": Case(entry(offset=1 << 40), D, "is truncated"),
    "a place below zero": Case(entry(offset=-1), D, "no file has"),
    "the place of another tensor": Case(entry(offset=0), D, "overlaps"),
    "a file that is not there": Case(entry(shard=1), D, "file 1 of 1"),
    "a file below zero": Case(entry(shard=-1), D, "no file has"),
    "a size of a shape below zero": Case(entry(shape=(-COUNT,)), D, "a shape that is none"),
    "33 axes": Case(entry(shape=(1,) * 32 + (COUNT,)), D, "a shape that is none"),
    "more elements than fit": Case(entry(shape=(1 << 40, 1 << 40, 0)), D, "no machine can hold"),
    "two shapes": Case(added(lambda value: value + write_bytes(2, b"")), D, "two shapes"),
    "an unknown rank": Case(row(write_number(1, 1) + write_bytes(2, write_number(3, 1))), D, "not known"),
    "a checksum of 8 bytes": Case(row(write_number(1, 1) + b"\x31" + bytes(8)), D, "of another kind"),
    "two checksums": Case(added(lambda value: value + write_fixed32(6, 5)), D, "twice"),
    "a checksum of something else": Case(entry(checksum=5), D, "differs from its checksum", later=True),
    "a bit of the data": Case(
        lambda made: made.data.__setitem__(made.entries[VICTIM].offset, 1 ^ made.data[made.entries[VICTIM].offset]),
        D, "differs from its checksum", later=True,
    ),
    "a name that is no text": Case(row(wire.entry_bytes(BundleEntry(1, (0,))), b"\xff\xfe"), D, "no text"),
    "a name for the terminal": Case(row(wire.entry_bytes(BundleEntry(1, (0,))), b"a\x1b[2J"), D, "not printable"),
    "a name of 2,000 letters": Case(row(wire.entry_bytes(BundleEntry(1, (0,))), b"a" * 2000), D, "at most 1,024"),
    # Slices
    "a slice that is not there": Case(
        then(sliced((0, 3), (3, COUNT - 3)), lambda made: made.rows.pop(slice_key(KEY, ((0, 3),)))), D, "lacks its"
    ),
    "slices of no tensor": Case(then(sliced((0, None)), lambda made: made.rows.pop(KEY)), D, "no tensor names"),
    "slices that leave a hole": Case(sliced((0, 3), (4, COUNT - 4)), D, "elements in all instead"),
    "slices that overlap": Case(sliced((0, 4), (2, COUNT - 4)), D, "overlap"),
    "a slice outside": Case(sliced((0, 1), (1, COUNT)), D, "outside"),
    "a slice of another type": Case(sliced((0, None), code=3), D, "another slice than it names"),
    "a slice of another shape": Case(sliced((0, None), shape=(1, COUNT)), D, "another slice than it names"),
    "a slice of two axes": Case(row(EMPTY + write_bytes(7, _extent(0, None) * 2)), D, "another number of axes"),
    "a slice from below zero": Case(row(EMPTY + write_bytes(7, _extent(-1, None))), D, "a slice that is none"),
    "slices beside bytes of its own": Case(
        added(lambda value: value + write_bytes(7, _extent(0, None))), D, "bytes of its own"
    ),
    "a slice that ends nowhere": Case(row(write_number(1, 1) + write_bytes(7, b"\x0a\x7f")), D, "bytes where"),
    "4,097 slices": Case(sliced(*((0, 0) for _ in range(4097))), D, "more than 4,096"),
    "a checksum of a slice": Case(sliced((0, None), checksum=3), D, "differs from its checksum", later=True),
    # The graph
    "a graph of numbers": Case(graph(b"", code=1, shape=(0,), size=0), D, "no object graph"),
    "two graphs": Case(graph(b"", shape=(2,)), D, "no object graph"),
    "a graph of a terabyte": Case(graph(b"", size=1 << 40), D, "is truncated"),
    "a graph without objects": Case(graph(b""), D, "without objects"),
    "a graph that ends in the middle": Case(graph(node((1, b"a"))[:-1]), D, "bytes where"),
    "a graph with a wrong checksum": Case(graph(node(), checksum=9), D, "differs from its checksum"),
    "a graph whose text is longer": Case(graph(node(), whole=b"\x20" + bytes(8)), D, "do not end"),
    "a graph whose length has another checksum": Case(graph(node(), whole=b"\1" + bytes(4) + b"a"), D, "differ"),
    "a graph that leads nowhere": Case(graph(node((7, b"a"))), D, "an object which it does not have"),
    "a graph that leads below zero": Case(graph(node((-1, b"a"))), D, "an object which it does not have"),
    "a graph with a name that is no text": Case(graph(node((0, b"\xff"))), D, "no UTF-8"),
    "a graph of 100,001 objects": Case(graph(node() * 100_001), D, "more objects"),
    "a graph that is too deep": Case(graph(CHAIN), D, "deeper than any"),
    "a name of the graph for the terminal": Case(graph(node(keys=(KEY,), name=b"a\x1b[2J")), D, "not printable"),
    "a name of the graph of 2,000 letters": Case(graph(node(keys=(KEY,), name=b"a" * 2000)), D, "at most 1,024"),
    "a graph in a circle": Case(graph(node((0, b"self"), (1, b"a")) + node((0, b"root"), (1, b"b"))), None),
    "a graph of a hundred ways to each": Case(
        graph(b"".join(node(*((other, b"%d" % other) for other in range(100))) for _ in range(100))), None
    ),
    "a graph of a thousand ways to each": Case(
        graph(b"".join(node(*((other, b"%d" % other) for other in range(1000))) for _ in range(300))), D, "more paths"
    ),
    "a name in the graph that leads out": Case(graph(node((1, b"a" * 9)).replace(b"\x0a\x0d", b"\x0a\x0c")), D),
    "a graph of keys that are not there": Case(graph(node(keys=(b"other", b"../../etc"))), None),
    # Files
    "data that end too early": Case(lambda made: made.data.pop(), D, "is truncated"),
    "no data": Case(lambda made: made.data.clear(), D, "is truncated"),
    "data behind a link": Case(place=replaced(DATA, link), error=U, words="symbolic link"),
    "an index behind a link": Case(place=replaced(INDEX, link), error=U, words="symbolic link"),
    "data in a pipe": Case(place=replaced(DATA, os.mkfifo), error=U, words="not a regular file"),
    "an index in a pipe": Case(place=replaced(INDEX, os.mkfifo), error=U, words="not a regular file"),
}  # fmt: skip
