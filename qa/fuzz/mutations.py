"""Changes to sound files: to their bytes, and to the pieces (tokens, opcodes, records) that they are made of."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

MAX_INPUT = 1 << 16
"""Longest input in bytes; repeated pieces would make ever longer ones."""

_BITS = (7, 8, 15, 16, 31, 32, 53, 63, 64)
EDGES = tuple(sorted({0, *(sign * (2**bits) + off for bits in _BITS for sign in (1, -1) for off in (-1, 0, 1))}))
"""Whole numbers at which lengths, offsets and signs go wrong."""

NUMBERS = (
    *(str(edge).encode() for edge in EDGES),
    b"-0", b"00", b"1.0", b"0.5", b"1e2", b"1e400", b"-1e-400", b"NaN", b"-Infinity", b"9" * 400, b"9" * 5000,
    b"3", b"5", b"8", b"12", b"1", b"2", b"null", b"true", b'"7"',
)  # fmt: skip
"""What a number in JSON is replaced by."""

JSON_PIECES = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+|\s+|.', re.DOTALL)
"""What JSON is cut into."""

JSON_TOKENS = (
    b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b"\t", b"null", b"true", b"false", b"[]", b"{}", b'""',
    b'"\\u0000"', b'"\\ud800"', b'"\\u001b[2J"', b'{"a":1,"a":2}', b"[" * 2000, b'{"":' * 2000, b"\xef\xbb\xbf",
    b"\xff", b"\x00", b'"../x"', b'"/etc/x"', b'"' + b"n" * 1500 + b'"', b'"\xc3\xa9"',
)  # fmt: skip
"""What a piece of JSON is replaced by, or gets beside it."""


@dataclass(frozen=True)
class Seed:
    """A sound input.

    Attributes:
        pieces: its body, cut where its grammar cuts it.
        wrap: makes a file of a body: puts lengths and checksums right, so that what is inside is reached.
    """

    pieces: tuple[bytes, ...]
    wrap: Callable[[bytes], bytes] = bytes


def mutate(rng: Random, seeds: Sequence[Seed], tokens: Sequence[bytes], *, inside: bool) -> bytes:
    """A file that is a few changes away from one of the seeds.

    Args:
        rng: decides everything.
        seeds: at least one.
        tokens: pieces that mean something in this format.
        inside: change bytes before wrapping, where a checksum would refuse all changes after it.
    """
    seed, other = rng.choice(seeds), rng.choice(seeds)
    sound = b"".join(seed.pieces)
    made = seed.wrap(sound)
    while made == seed.wrap(sound):  # some changes change nothing
        pieces, changes = list(seed.pieces), rng.choice((0, 1, 1, 1, 2, 2, 3, 6))
        for _ in range(changes):
            _change_pieces(rng, pieces, other.pieces, tokens)
        body = b"".join(pieces)[:MAX_INPUT]
        count = _byte_changes(rng, changes)
        if inside:
            made = seed.wrap(_change_bytes(rng, body, b"".join(other.pieces), count))
        else:
            made = _change_bytes(rng, seed.wrap(body), other.wrap(b"".join(other.pieces)), count)
    return made


def _byte_changes(rng: Random, pieces: int) -> int:
    """How many bytes to change beside that many pieces: at least one change in all, and often not both."""
    return rng.choice((1, 1, 1, 2, 4, 8)) if pieces == 0 else rng.choice((0, 0, 0, 1))


def _change_pieces(rng: Random, pieces: list[bytes], other: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    if not pieces:
        pieces.append(rng.choice(tokens))
    at = rng.randrange(len(pieces))
    span = rng.choice((1, 1, 1, 2, 3, 5, 9, 17))
    kind = rng.randrange(9)
    if kind == 0:
        del pieces[at : at + span]
    elif kind == 1:
        pieces[at:at] = pieces[at : at + span] * rng.choice((1, 1, 2, 30))
    elif kind == 2:
        to = rng.randrange(len(pieces))
        pieces[at], pieces[to] = pieces[to], pieces[at]
    elif kind == 3:
        start = rng.randrange(len(other))
        pieces[at : at + rng.choice((0, span))] = other[start : start + span]
    elif kind == 4:
        pieces.insert(at, rng.choice(tokens))
    elif kind == 5:
        pieces[at] = rng.choice(tokens)
    elif kind == 6:
        pieces[at] = _change_bytes(rng, pieces[at], rng.choice(tokens), 1)
    else:
        _change_number(rng, pieces, at)


def _change_number(rng: Random, pieces: list[bytes], at: int) -> None:
    """The next piece that is a number in text becomes another one, or a binary field an edge of its width."""
    for number in (*range(at, len(pieces)), *range(at)):
        piece = pieces[number]
        if piece.lstrip(b"-").isdigit():
            is_near = len(piece) < 20 and rng.random() < 0.3
            pieces[number] = str(int(piece) + rng.choice((-1, 1))).encode() if is_near else rng.choice(NUMBERS)
            return
    pieces[at] = _put_edge(rng, bytearray(pieces[at]))


def _change_bytes(rng: Random, data: bytes, other: bytes, times: int) -> bytes:
    for _ in range(times):
        buffer = bytearray(data)
        kind = rng.randrange(10)
        at, to = (rng.randrange(len(buffer) + 1) for _ in range(2))
        span = min(rng.choice((1, 1, 2, 4, 8, 16, 64, 512)), max(1, len(buffer)))
        if kind <= 1 and buffer:
            buffer[at % len(buffer)] ^= 1 << rng.randrange(8)
        elif kind == 2 and buffer:
            buffer[at % len(buffer)] = rng.choice((0, 1, 0x20, 0x22, 0x2E, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 3:
            del buffer[at : at + span]
        elif kind == 4:
            buffer[at:at] = buffer[at : at + span]
        elif kind == 5:
            buffer[at : at + span], buffer[to : to + span] = buffer[to : to + span], buffer[at : at + span]
        elif kind == 6:
            start = rng.randrange(len(other) + 1)
            buffer = buffer[:at] + bytearray(other[start:])
        elif kind == 7:
            del buffer[at:]
        elif kind == 8:
            buffer[at:at] = rng.randbytes(span) if rng.random() < 0.5 else bytes(span)
        else:
            buffer = bytearray(_put_edge(rng, buffer))
        data = bytes(buffer[:MAX_INPUT])
    return data


def _put_edge(rng: Random, buffer: bytearray) -> bytes:
    width, code = rng.choice(((1, "B"), (2, "H"), (4, "I"), (8, "Q")))
    if len(buffer) >= width:
        value = rng.choice(EDGES) + rng.choice((0, 0, len(buffer)))
        at = rng.randrange(len(buffer) - width + 1)
        struct.pack_into(rng.choice("<<<>") + code, buffer, at, value % (1 << 8 * width))
    return bytes(buffer)
