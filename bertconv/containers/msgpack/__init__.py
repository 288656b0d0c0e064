"""flax_model.msgpack: what `flax.serialization.to_bytes` makes of a tree of maps whose leaves are arrays.

Keys of maps are joined with a dot on reading and taken apart there on writing, so that names are those which the same
weights have in safetensors. An array is an extension of msgpack whose payload is msgpack again: shape, element type
and bytes. Structure and data lie mixed, so the reader goes from map to map and over the arrays (`reader`, on `cursor`,
which holds every length to the file's size before it is used). `writer` makes the same bytes as Flax does.

Format: github.com/msgpack/msgpack, spec.md; what the extensions mean: flax, serialization.py. Files are written
without either; the tests compare with the `msgpack` package, `scripts/witness_flax.py` with Flax itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bertconv.containers.container import Container, Entry, FileLayout, FileOptions
from bertconv.containers.stored import FLOATS, Header, SourceFile

__all__ = ["FlaxMsgpack"]


class FlaxMsgpack(Container):
    """A file of Flax, or one of the shards of transformers."""

    name = "msgpack"
    title = "msgpack"
    kind = "msgpack of Flax"
    stem = "flax_model"
    suffixes = (".msgpack",)
    dtypes = FLOATS
    dtypes_in_words = "floating-point numbers"

    _START = re.compile(rb"(?:[\x81-\x8f]|\xde..)(?:([\xa1-\xbf])|\xd9(.))", re.DOTALL)
    _KEY = re.compile(rb"[\w.:/ -]+")

    def recognises(self, start: bytes, size: int) -> bool:  # noqa: ARG002
        """Whether it begins with a map that is not empty, and that with a key of plain characters and a value."""
        found = self._START.match(start)
        if found is None:
            return False
        length = found[1][0] & 31 if found[1] else found[2][0]
        key, rest = start[found.end() : found.end() + length], start[found.end() + length :]
        return len(key) == length and bool(self._KEY.fullmatch(key)) and rest[:1] not in {b"", b"\xc1"}

    def read(self, file: SourceFile, *, check_data: bool) -> Header:  # noqa: ARG002  (it has no checksums)
        """As `read_msgpack`."""
        from bertconv.containers.msgpack.reader import read_msgpack  # which most conversions do not need

        return read_msgpack(file)

    def lay_out(self, entries: Sequence[Entry], options: FileOptions) -> FileLayout:  # noqa: ARG002
        """Every map in the order of its keys, as Flax has them."""
        from bertconv.containers.msgpack.writer import lay_out

        return lay_out(entries)

    def in_index(self, name: str) -> str:
        """The index of shards has a slash where maps are within each other."""
        return name.replace(".", "/")
