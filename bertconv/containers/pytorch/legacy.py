"""The format of torch.save before torch 1.6: four pickles and a list of keys, then each storage's length and bytes.

Layout: magic number, protocol version, system information, the object, storage keys (all pickles), then for each key an
int64 number of elements and the elements, without padding or checksums.
"""

from __future__ import annotations

import re
import struct

from bertconv.containers.pytorch.machine import MAX_BYTES, PickleReader
from bertconv.containers.pytorch.state import Extent
from bertconv.containers.pytorch.values import PickledDict, PickledList, damaged, unsafe, unsupported
from bertconv.containers.stored import SourceFile
from bertconv.errors import DamagedCheckpoint

_PROTOCOL = 1001

# The integer 0x1950a86a20f9469cfc6c as a pickle of protocol 2 to 5, with or without a frame. It is longer than the
# integers that a checkpoint needs, so it is compared and not read.
_MAGIC = re.compile(rb"\x80[\x02-\x05](?:\x95.{8})?\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19(?:\x94)?\.", re.DOTALL)


def read_legacy(file: SourceFile) -> tuple[object, PickleReader, dict[str, Extent]]:
    """The pickled object, its reader, and where each storage lies.

    Raises:
        DamagedCheckpoint: not this format, truncated, or with bytes that belong to nothing.
        UnsafeCheckpoint: a pickle that wants to call something, or is larger than any checkpoint's.
        UnsupportedCheckpoint: written on a big-endian machine, or a whole module.
    """
    name = str(file.path)
    limit = 1 << 20
    while True:  # pickles do not say how long they are: read more only when one needs it
        reader = PickleReader(file.read(0, min(limit, file.size)), name)
        try:
            value, keys = _load_pickles(reader, name)
        except DamagedCheckpoint as error:
            if not reader.ended or limit >= file.size:
                raise
            if limit >= MAX_BYTES:
                raise unsafe(name, f"has a pickle of more than {MAX_BYTES:,} bytes.") from error
            limit *= 8
            continue
        return value, reader, _find_storages(file, reader, keys)


def _load_pickles(reader: PickleReader, name: str) -> tuple[object, list[str]]:
    reader.skip(_MAGIC)
    version = reader.load()
    if type(version) is not int or version != _PROTOCOL:
        raise damaged(name, "is a torch file of an unknown version.")
    system = reader.load()
    pairs = system.items if isinstance(system, PickledDict) else []
    if any(isinstance(key, str) and key == "little_endian" and value is False for key, value in pairs):
        raise unsupported(name, "was written on a big-endian machine.", hint="Save it again on a little-endian one.")
    value, keys = reader.load(), reader.load()
    if not isinstance(keys, PickledList):
        raise damaged(name, "has no list of storages.")
    texts = [key for key in keys.items if isinstance(key, str)]
    if len(texts) != len(keys.items) or len(set(texts)) != len(texts):
        raise damaged(name, "has a list of storages with something that is not a key, or with one key twice.")
    return value, texts


def _find_storages(file: SourceFile, reader: PickleReader, keys: list[str]) -> dict[str, Extent]:
    name, at = str(file.path), reader.position
    extents: dict[str, Extent] = {}
    for key in keys:
        if key not in reader.storages:
            raise damaged(name, "lists a storage that no tensor names.")
        (count,) = struct.unpack("<q", file.read(at, 8, "storage size"))
        size = count * reader.storages[key].item_size
        if count < 0 or at + 8 + size > file.size:
            raise damaged(name, f"has a storage of {count:,} elements that ends beyond the file.")
        extents[key] = Extent(at + 8, size)
        at += 8 + size
    if at != file.size:
        raise damaged(name, f"has {file.size - at:,} bytes after its last storage.")
    return extents
