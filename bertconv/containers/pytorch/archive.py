"""The zip archive that torch.save writes: found, checked and refused where two readers could disagree about it.

The format is PKWARE's APPNOTE 6.3.x, of which torch uses stored members, 64-bit end records, data descriptors and
padding fields. Members are never unpacked: a tensor is a range of bytes of the archive itself.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from bertconv.containers.pytorch.values import damaged, unsafe, unsupported
from bertconv.containers.stored import SourceFile
from bertconv.errors import DamagedCheckpoint
from bertconv.text import printable

MAX_DIRECTORY = 64 << 20
MAX_MEMBERS = 200_000
MAX_MEMBER_NAME = 4096

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_SATURATED = 0xFFFFFFFF
_DESCRIPTOR_FOLLOWS = 0x0008
_ENCRYPTED = 0x2041  # encrypted, strongly encrypted, or with masked headers
_FOLDER = 0x10  # MS-DOS attribute; torch leaves the memory of such a record uninitialised


@dataclass(frozen=True, slots=True)
class Member:
    """One record: `offset` of its first byte and its `size` in bytes; `start` is where its local header begins."""

    name: str
    flags: int
    method: int
    crc: int
    size: int
    start: int
    offset: int = 0

    @property
    def end(self) -> int:
        """Offset of the first byte after its data."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Archive:
    """A checked archive: its members by their names inside its one top folder."""

    file: SourceFile
    members: dict[str, Member]

    def read(self, name: str, limit: int) -> bytes | None:
        """The bytes of a record of at most `limit` bytes, checksum compared; None if there is none."""
        member = self.members.get(name)
        if member is None:
            return None
        if member.size > limit:
            raise unsafe(str(self.file.path), f"has a record {name} of {member.size:,} bytes (limit {limit:,}).")
        data = self.file.read(member.offset, member.size, name)
        if zlib.crc32(data) != member.crc:
            raise _bad_crc(self.file, member, None)
        return data


def check_crc(file: SourceFile, member: Member, tensor: str | None = None) -> None:
    """Compare a record with the CRC-32 that the archive holds for it, reading 1 MiB at a time.

    Raises:
        DamagedCheckpoint: they differ; names `tensor`, the one that needs the record.
    """
    crc = 0
    for piece in file.pieces(member.offset, member.offset + member.size, tensor or member.name):
        crc = zlib.crc32(piece, crc)
    if crc != member.crc:
        raise _bad_crc(file, member, tensor)


def _bad_crc(file: SourceFile, member: Member, tensor: str | None) -> DamagedCheckpoint:
    return damaged(str(file.path), f"has a wrong checksum in its record {printable(member.name)}.", tensor=tensor)


def read_archive(file: SourceFile) -> Archive:
    """The members of a zip file, every header read and compared.

    Raises:
        DamagedCheckpoint: truncated, with bytes that belong to no record, or with records that contradict each other.
        UnsupportedCheckpoint: a TorchScript program.
        UnsafeCheckpoint: compressed or encrypted members, or more of them than any checkpoint has.
    """
    name = str(file.path)
    return Archive(file, _below_folder(read_members(file, _check_kind), name))


def read_members(file: SourceFile, check: Callable[[Member, str], None]) -> dict[str, Member]:
    """The members of any zip file of stored records by their names; every header is read and compared.

    Args:
        file: the file.
        check: refuses a member, which it is given with the file's path, before anything is read of it.

    Raises:
        DamagedCheckpoint: truncated, with bytes that belong to no record, or with records that contradict each other.
        UnsafeCheckpoint: encrypted members, or more of them than any checkpoint has.
    """
    name = str(file.path)
    count, start, size = _find_directory(file)
    if count > MAX_MEMBERS or size > MAX_DIRECTORY:
        raise unsafe(name, f"has {count:,} records in a directory of {size:,} bytes.")
    directory = file.read(start, size, "zip directory")
    listed = sorted(_parse_directory(directory, count, name), key=lambda member: member.start)
    for member in listed:
        check(member, name)
    members = [_locate(file, member, start) for member in listed]
    _check_layout(file, members, start)
    return _by_name(members, name)


def _find_directory(file: SourceFile) -> tuple[int, int, int]:
    """Number of members, offset and size in bytes of the central directory."""
    name = str(file.path)
    if file.size < _END.size:
        raise damaged(name, "is too short for a zip archive.")
    end_at = file.size - _END.size
    signature, *numbers, comment = _END.unpack(file.read(end_at, _END.size))
    if signature != b"PK\5\6" or comment:
        raise _no_end(file)
    end_at, numbers = _widen(file, end_at, numbers)
    disk, first_disk, here, count, size, start = numbers
    if disk or first_disk or here != count:
        raise damaged(name, "is one part of a zip archive of several.")
    if start + size != end_at:
        raise damaged(name, "has a zip directory that does not lie where its end record says.")
    return count, start, size


def _no_end(file: SourceFile) -> DamagedCheckpoint:
    tail = min(file.size, 1 << 16)
    if b"PK\5\6" in file.read(file.size - tail, tail):
        return damaged(str(file.path), "has bytes after the end of its zip archive.")
    return damaged(str(file.path), f"is a zip archive without an end: truncated at {file.size:,} bytes.")


def _widen(file: SourceFile, end_at: int, numbers: list[int]) -> tuple[int, list[int]]:
    """The end record's numbers in 64 bits, and where the first end record begins."""
    name = str(file.path)
    limits = [0xFFFF] * 4 + [_SATURATED] * 2
    if end_at >= _LOCATOR.size:
        locator = _LOCATOR.unpack(file.read(end_at - _LOCATOR.size, _LOCATOR.size))
        if locator[0] == b"PK\6\7":
            at = end_at - _LOCATOR.size - _END64.size
            if locator[1:] != (0, at, 1):
                raise damaged(name, "has a 64-bit zip end record that does not lie where its locator says.")
            signature, length, _, _, *wide = _END64.unpack(file.read(at, _END64.size))
            if signature != b"PK\6\6" or length != _END64.size - 12:
                raise damaged(name, "has no 64-bit zip end record where its locator says.")
            if any(n not in (w, limit) for n, w, limit in zip(numbers, wide, limits, strict=True)):
                raise damaged(name, "has two zip end records that contradict each other.")
            return at, wide
    if any(n == limit for n, limit in zip(numbers, limits, strict=True)):
        raise damaged(name, "lacks its 64-bit zip end record.")
    return end_at, numbers


def _parse_directory(directory: bytes, count: int, file: str) -> list[Member]:
    members, at = [], 0
    for _ in range(count):
        if at + _CENTRAL.size > len(directory) or not directory.startswith(b"PK\1\2", at):
            raise damaged(file, "has a zip directory with fewer records than it says.")
        header = _CENTRAL.unpack_from(directory, at)
        at += _CENTRAL.size
        lengths = header[10:13]
        if at + sum(lengths) > len(directory) or lengths[0] > MAX_MEMBER_NAME:
            raise damaged(file, "has a zip directory that ends within a record.")
        name, extra = directory[at : at + lengths[0]], directory[at + lengths[0] : at + lengths[0] + lengths[1]]
        members.append(_member(header, name, extra, file))
        at += sum(lengths)
    if at != len(directory):
        raise damaged(file, "has a zip directory with more bytes than records.")
    return members


def _member(header: tuple[int, ...], raw_name: bytes, extra: bytes, file: str) -> Member:
    _, _, _, flags, method, _, _, crc, packed, size, _, _, _, disk, _, attributes, start = header
    try:
        name = str(raw_name, "utf-8")
    except UnicodeDecodeError as error:
        raise damaged(file, "has a zip record whose name is not UTF-8.") from error
    if flags & _ENCRYPTED:
        raise unsafe(file, f"has an encrypted record {printable(name)}.")
    if attributes & _FOLDER and not name.endswith("/"):
        raise damaged(file, f"has a record {printable(name)} that is marked as a folder.")
    size, packed, start = _wide_fields([size, packed, start], extra, file)
    if (packed != size and not method) or disk:
        raise damaged(file, f"has a record {printable(name)} whose sizes contradict each other.")
    return Member(name, flags, method, crc, size, start)


def _check_kind(member: Member, file: str) -> None:
    if member.name.partition("/")[2].startswith(("code/", "constants.pkl")):
        raise unsupported(file, "is a TorchScript archive, a program.", hint="Save state_dict() of the original model.")
    if member.method:
        raise unsafe(file, f"has a compressed record {printable(member.name)}; torch stores them as they are.")


def _wide_fields(fields: list[int], extra: bytes, file: str) -> list[int]:
    """`fields` with those that do not fit in 32 bits taken from the 64-bit extra field, in its order."""
    wide, at = None, 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if at + 4 + length > len(extra) or (kind == 1 and wide is not None):
            raise damaged(file, "has a zip record with an extra field that is wrong.")
        if kind == 1:
            wide = extra[at + 4 : at + 4 + length]
        at += 4 + length
    needed = fields.count(_SATURATED)
    if len(wide or b"") != 8 * needed:
        raise damaged(file, "has a zip record whose 64-bit sizes are missing or not needed.")
    numbers = iter(struct.unpack(f"<{needed}Q", wide or b""))
    return [next(numbers) if field == _SATURATED else field for field in fields]


def _locate(file: SourceFile, member: Member, limit: int) -> Member:
    """The member with its data's offset, its local header compared with the directory."""
    name, raw_name = str(file.path), member.name.encode()
    if member.start + _LOCAL.size + len(raw_name) > limit:
        raise damaged(name, f"has a record {printable(member.name)} beyond its end.")
    head = file.read(member.start, _LOCAL.size + len(raw_name), member.name)
    signature, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack_from(head)
    if (signature, flags, method, name_length) != (b"PK\3\4", member.flags, 0, len(raw_name)):
        raise damaged(name, f"has a record {printable(member.name)} that its zip directory describes otherwise.")
    offset = member.start + len(head) + extra_length
    if offset + member.size > limit:
        raise damaged(name, f"has a record {printable(member.name)} beyond its end.")
    if not flags & _DESCRIPTOR_FOLLOWS and _SATURATED in (packed, size):
        extra = file.read(member.start + len(head), extra_length, member.name)
        size, packed = _wide_fields([size, packed], extra, name)
    allowed = {(member.crc, member.size, member.size)}
    if flags & _DESCRIPTOR_FOLLOWS:  # the numbers come after the data; here they may be absent
        allowed |= {(0, 0, 0), (0, _SATURATED, _SATURATED)}
    if head[_LOCAL.size :] != raw_name or (crc, packed, size) not in allowed:
        raise damaged(name, f"has a record {printable(member.name)} that its zip directory describes otherwise.")
    return replace(member, offset=offset)


def _check_layout(file: SourceFile, members: list[Member], end: int) -> None:
    """Every byte before the directory belongs to exactly one member."""
    name = str(file.path)
    if not members:
        raise damaged(name, "is an empty zip archive.")
    if members[0].start:
        raise damaged(name, f"has {members[0].start:,} bytes before its zip archive.")
    ends = [member.start for member in members[1:]] + [end]
    for member, following in zip(members, ends, strict=True):
        gap = following - member.end
        if gap < 0:
            raise damaged(name, f"has a record {printable(member.name)} that overlaps the next.")
        if gap and (gap > 24 or file.read(member.end, gap, member.name) not in _descriptors(member)):
            raise damaged(name, f"has bytes after its record {printable(member.name)} that belong to no record.")


def _descriptors(member: Member) -> set[bytes]:
    """The bytes that may follow the data: checksum and sizes again, in 32 or 64 bits, with or without a signature."""
    if not member.flags & _DESCRIPTOR_FOLLOWS:
        return set()
    found = {struct.pack("<L2Q", member.crc, member.size, member.size)}
    if member.size <= _SATURATED:
        found.add(struct.pack("<3L", member.crc, member.size, member.size))
    return found | {b"PK\7\x08" + descriptor for descriptor in found}


def _by_name(members: list[Member], file: str) -> dict[str, Member]:
    names: dict[str, Member] = {}
    for member in members:
        if member.name in names:
            raise damaged(file, f"has two records {printable(member.name)}.")
        names[member.name] = member
    return names


def _below_folder(names: dict[str, Member], file: str) -> dict[str, Member]:
    folders = {name.partition("/")[0] for name in names}
    if len(folders) != 1 or not all("/" in name for name in names):
        raise damaged(file, "is a zip archive, but not one that torch.save writes: it has not one top folder.")
    return {name.partition("/")[2]: member for name, member in names.items()}
