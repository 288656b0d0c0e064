"""msgpack files of Flax, each a whole BERT that would convert but for one thing, with how it is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
from flax_files import CHUNKED, FILE, array, flax_bytes, flax_state, in_pieces, prepared, tree_of
from hostile_case import STATE, Case

from bertconv.errors import BertconvError, DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint

TENSORS = flax_state(STATE)
SOUND = flax_bytes(TENSORS)
VICTIM = "encoder.layer.0.attention.self.query.bias"
VALUE = TENSORS[VICTIM.replace(".", "/")]
COUNT = VALUE.size
MARK = msgpack.packb(array(VALUE))
assert SOUND.count(MARK) == 1
BEFORE, AFTER = SOUND.split(MARK)
DAMAGED, UNSAFE, UNSUPPORTED = DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint


def with_victim(value: Any) -> bytes:
    """The file with something else in the victim's place: bytes of msgpack, or a value."""
    return SOUND.replace(MARK, value if isinstance(value, bytes) else msgpack.packb(value))


def extension(payload: bytes, code: int = 1, length: int | None = None) -> bytes:
    return b"\xc9" + struct.pack(">Ib", len(payload) if length is None else length, code) + payload


def described(shape: bytes, dtype: bytes = b"\xa7float32", data: bytes = b"", head: bytes = b"\x93") -> bytes:
    return with_victim(extension(head + shape + dtype + data))


def binary(data: bytes, length: int | None = None) -> bytes:
    return b"\xc6" + struct.pack(">I", len(data) if length is None else length) + data


def sizes(*numbers: int) -> bytes:
    packed: bytes = msgpack.packb(list(numbers))
    return packed


def pieces(**changes: Any) -> bytes:
    """The victim in pieces, with parts of its description changed; one that is None is left out."""
    whole = in_pieces(VALUE, VALUE.nbytes // 2) | changes
    return with_victim({key: value for key, value in whole.items() if value is not None})


def rest() -> dict[str, Any]:
    found: dict[str, Any] = prepared(tree_of(TENSORS))
    return found


def named(key: bytes) -> bytes:
    """One more tensor, under a key as it is spelled."""
    packed: bytes = msgpack.packb(rest())
    count, body = packed[0] & 15, packed[1:]
    return bytes([0x80 | (count + 1)]) + body + key + msgpack.packb(array(np.zeros(1, np.float32)))


def many(count: int) -> bytes:
    keys = b"".join(b"\xa6%06d\xc0" % number for number in range(count))
    return b"\x82\xa1b" + b"\xdf" + struct.pack(">I", count) + keys + b"\xa1a" + SOUND


def texts(count: int, length: int) -> bytes:
    value = b"\xda" + struct.pack(">H", length) + b"x" * length
    return b"\x82\xa1b" + b"\xdd" + struct.pack(">I", count) + value * count + b"\xa1a" + SOUND


DATA, ONES = binary(VALUE.tobytes()), sizes(COUNT)
HALF = VALUE.reshape(-1)[: COUNT // 2]

_CASES: dict[str, tuple[Callable[[], bytes], str, type[BertconvError], str | None]] = {
    "half of it": (lambda: SOUND[: len(SOUND) // 2], "ends at byte", DAMAGED, None),
    "its last byte missing": (lambda: SOUND[:-1], "ends at byte", DAMAGED, None),
    "only its first map": (lambda: SOUND[:40], "ends at byte", DAMAGED, None),
    "a byte behind": (lambda: SOUND + b"\0", "1 bytes after its last value", DAMAGED, None),
    "a second model behind": (lambda: SOUND * 2, "after its last value", DAMAGED, None),
    "a pickle behind": (lambda: SOUND + b"\x80\x02cos\nsystem\n", "after its last value", DAMAGED, None),
    "a list of models": (lambda: b"\x91" + SOUND, "neither", DAMAGED, None),
    "keys that are numbers": (lambda: b"\x81\x01" + SOUND, "neither", DAMAGED, None),
    "a key that is a number": (lambda: with_victim(b"\x81\x01" + MARK), "is no text", DAMAGED, None),
    "a key that is a list": (lambda: with_victim(b"\x81\x91\x01" + MARK), "is no text", DAMAGED, None),
    "a key that is a map": (lambda: with_victim(b"\x81\x80" + MARK), "is no text", DAMAGED, None),
    "a key twice": (lambda: with_victim(b"\x82\xa1a\xc0\xa1a" + MARK), "twice", DAMAGED, None),
    "a module twice": (lambda: named(b"\xaaembeddings"), "the key embeddings twice", DAMAGED, None),
    "a key twice, in another length": (lambda: with_victim(b"\x82\xa1a\xc0\xd9\x01a" + MARK), "twice", DAMAGED, None),
    "a key that is no UTF-8": (lambda: with_victim(b"\x81\xa2\xff\xfe" + MARK), "no UTF-8", DAMAGED, None),
    "a key of half a character": (lambda: with_victim(b"\x81\xa1\xc3" + MARK), "no UTF-8", DAMAGED, None),
    "a surrogate in a key": (lambda: with_victim(b"\x81\xa3\xed\xa0\x80" + MARK), "no UTF-8", DAMAGED, None),
    "an empty key": (lambda: named(b"\xa0"), "without a printable name", DAMAGED, "the root"),
    "a newline in a key": (lambda: named(b"\xa3a\nb"), "without a printable name", DAMAGED, "a\\nb"),
    "an escape in a key": (lambda: named(b"\xa5\x1b[31m"), "without a printable name", DAMAGED, "\\x1b[31m"),
    "a name of 2,000 characters": (lambda: named(b"\xda\x07\xd0" + b"n" * 2000), "printable name", DAMAGED, "n" * 200),
    "a dot in a key": (lambda: named(b"\xafpooler.dense.up"), "a dot in it", UNSUPPORTED, "pooler.dense.up"),
    "a key that spells another's path": (
        lambda: named(b"\xb1pooler.dense.bias"), "a dot in it", UNSUPPORTED, "pooler.dense.bias",
    ),
    "a key of 5,000 bytes": (lambda: named(b"\xda\x13\x88" + b"n" * 5000), "a text of 5,000 bytes", UNSAFE, None),
    "a key of 4 GB": (lambda: named(b"\xdb\xff\xff\xff\xff"), "ends at byte", DAMAGED, None),
    "a map of 4 billion": (lambda: with_victim(b"\xdf\xff\xff\xff\xff"), "within the map", DAMAGED, None),
    "a list of 4 billion": (lambda: with_victim(b"\xdd\xff\xff\xff\xff"), "within the array", DAMAGED, None),
    "binary data of 4 GB": (lambda: with_victim(b"\xc6\xff\xff\xff\xff"), "within the binary", DAMAGED, None),
    "an extension of 4 GB": (lambda: with_victim(b"\xc9\xff\xff\xff\xff\x01"), "within the extension", DAMAGED, None),
    "an extension to the file's end": (
        lambda: BEFORE + extension(AFTER), "exactly shape", DAMAGED, VICTIM,
    ),
    "a byte that begins no value": (lambda: with_victim(b"\xc1"), "begins no value", DAMAGED, None),
    "maps within maps": (lambda: with_victim(b"\x81\xa1a" * 70 + b"\xc0"), "maps within each other", UNSAFE, None),
    "lists within lists": (lambda: with_victim(b"\x91" * 5000 + b"\xc0"), "maps within each other", UNSAFE, None),
    "half a million values": (lambda: many(250_000), "values", UNSAFE, None),
    "texts of 33 MB": (lambda: texts(9000, 4000), "in all", UNSAFE, None),
    "an extension of no known type": (lambda: with_victim(extension(b"x", 42)), "type 42", UNSUPPORTED, None),
    "a time": (lambda: with_victim(b"\xd6\xff\0\0\0\0"), "type -1", UNSUPPORTED, None),
    "an array of nothing": (lambda: with_victim(extension(b"")), "exactly shape", DAMAGED, VICTIM),
    "an array that is a map": (lambda: with_victim(extension(b"\x80")), "exactly shape", DAMAGED, VICTIM),
    "an array of two parts": (lambda: described(ONES, head=b"\x92"), "exactly shape", DAMAGED, VICTIM),
    "an array of four parts": (lambda: described(ONES, data=DATA + b"\xc0", head=b"\x94"), "exactly", DAMAGED, VICTIM),
    "a shape that is a number": (lambda: described(b"\x05", data=DATA), "no list of sizes", DAMAGED, VICTIM),
    "a size below zero": (lambda: described(sizes(-1, -COUNT), data=DATA), "no list of sizes", DAMAGED, VICTIM),
    "a size that is a float": (lambda: described(msgpack.packb([35.0]), data=DATA), "no list", DAMAGED, VICTIM),
    "a size that is true": (lambda: described(b"\x91\xc3", data=DATA), "no list of sizes", DAMAGED, VICTIM),
    "sizes whose product overflows": (lambda: described(sizes(2**32, 2**32), data=DATA), "counted", DAMAGED, VICTIM),
    "a product that wraps to the size": (
        lambda: described(sizes(2**63 + 1, COUNT), data=DATA), "no list of sizes", DAMAGED, VICTIM,
    ),
    "forty sizes": (lambda: described(sizes(*[1] * 40), data=DATA), "no list of sizes", DAMAGED, VICTIM),
    "a shape too large": (lambda: described(sizes(COUNT + 1), data=DATA), "bytes instead of", DAMAGED, VICTIM),
    "a shape too small": (lambda: described(sizes(COUNT - 1), data=DATA), "bytes instead of", DAMAGED, VICTIM),
    "no element type": (lambda: described(ONES, b"\xc0", DATA), "no name", DAMAGED, VICTIM),
    "an element type of objects": (lambda: described(ONES, b"\xa6object", DATA), "'object'", UNSUPPORTED, VICTIM),
    "an element type that is code": (
        lambda: described(ONES, msgpack.packb("__import__('os')"), DATA), "not known", UNSUPPORTED, VICTIM,
    ),
    "an element type of 99 bytes": (lambda: described(ONES, msgpack.packb("f" * 99), DATA), "no name", DAMAGED, VICTIM),
    "a wider element type": (lambda: described(ONES, b"\xa7float64", DATA), "bytes instead of", DAMAGED, VICTIM),
    "data that is a text": (lambda: described(ONES, data=b"\xa1x"), "do not end where", DAMAGED, VICTIM),
    "data beyond its extension": (
        lambda: with_victim(extension(b"\x93" + ONES + b"\xa7float32" + DATA, length=20)), "do not end",
        DAMAGED, VICTIM,
    ),
    "data that ends before it": (lambda: described(ONES, data=DATA + b"\0"), "do not end where", DAMAGED, VICTIM),
    "pieces without a shape": (lambda: pieces(shape=None), "not described by exactly", DAMAGED, VICTIM),
    "pieces and more": (lambda: pieces(more=1), "not described by exactly", DAMAGED, VICTIM),
    "pieces that are not": (lambda: pieces(**{CHUNKED: False}), "not described by exactly", DAMAGED, VICTIM),
    "pieces of another shape": (lambda: pieces(shape={"0": COUNT + 1}), "elements in all", DAMAGED, VICTIM),
    "a shape of pieces without a beginning": (lambda: pieces(shape={"1": COUNT}), "0, 1, 2", DAMAGED, VICTIM),
    "a shape of pieces that is an array": (lambda: pieces(shape={"0": array(VALUE)}), "no list", DAMAGED, VICTIM),
    "a piece left out": (lambda: pieces(chunks={"0": array(HALF), "2": array(HALF)}), "0, 1, 2", DAMAGED, VICTIM),
    "no pieces": (lambda: pieces(chunks={}), "no pieces", DAMAGED, VICTIM),
    "pieces of two element types": (
        lambda: pieces(chunks={"0": array(HALF), "1": array(HALF.astype(np.float16))}), "flat arrays", DAMAGED, VICTIM,
    ),
    "a piece that is not flat": (lambda: pieces(chunks={"0": array(VALUE[None])}), "flat arrays", DAMAGED, VICTIM),
    "pieces of pieces": (lambda: pieces(chunks={"0": in_pieces(VALUE, 64)}), "flat arrays", DAMAGED, VICTIM),
    "a piece that is a number": (lambda: pieces(chunks={"0": 7}), "flat arrays", DAMAGED, VICTIM),
    "5,000 pieces": (
        lambda: pieces(chunks={str(n): array(np.zeros(0, np.float32)) for n in range(5000)}), "more than",
        DAMAGED, VICTIM,
    ),
    "one array without a name": (lambda: msgpack.packb(in_pieces(VALUE, 64)), "without a name", DAMAGED, None),
}  # fmt: skip

CASES = {
    name: Case(
        make=lambda _, make=make: make(),
        error=error,
        words=words,
        tensor=tensor,
        file=FILE,
    )
    for name, (make, words, error, tensor) in _CASES.items()
}
