"""From the index of a distributed checkpoint and its files to tensors.

Each chunk is what torch.save wrote of it, a zip archive with one tensor, one after the other in a file. Where a writer
was told to use safetensors, all chunks of a file are one stream of that format at its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bertconv.containers.chunks import Chunk, assemble
from bertconv.containers.container import Spread
from bertconv.containers.distributed.metadata import AGAIN, CONVERT, Described, Metadata, Place
from bertconv.containers.pytorch.reader import describe, read_tensor
from bertconv.containers.pytorch.values import damaged, unsupported
from bertconv.containers.safetensors import Safetensors, read_safetensors
from bertconv.containers.stored import Header, SourceFile
from bertconv.containers.window import Window
from bertconv.errors import BertconvError
from bertconv.text import parse_json

_SHARDING = "DCP_SHARDING_INFO"
"""Key of a stream's metadata under which stands where its chunks begin."""


class SpreadCheckpoint(Spread):
    """A distributed checkpoint whose index was read.

    Args:
        metadata: what the index says.
    """

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self.files = metadata.files
        self.named = frozenset(metadata.places)

    def read(self, files: Sequence[SourceFile], *, check_data: bool) -> Header:
        """The header of the state dict; errors as for `Container.read`."""
        metadata = self._metadata
        opened = dict(zip(self.files, files, strict=True))
        streams = {name: stream for name, file in opened.items() if (stream := _stream(file, metadata.places[name]))}
        tensors = []
        for name, described in metadata.tensors.items():
            try:
                chunks = [_chunk(described, place, opened, streams, crc=check_data) for place in described.chunks]
            except BertconvError as error:
                error.tensor = error.tensor or described.name
                raise
            tensors.append(assemble(name, described.shape, chunks))
        count = sum(len(tensor.chunks) for tensor in metadata.tensors.values())
        notes = [f"{count:,} chunks in {len(files):,} files"] if count > len(tensors) else []
        return describe(tuple(tensors), metadata.state, notes, [], "dcp")


def _stream(file: SourceFile, places: Sequence[Place]) -> dict[str, Chunk] | None:
    """The chunks in a file that ends with a safetensors stream; None where it has none.

    Every byte of the file belongs to one item, whether it is wanted or not.
    """
    ordered = sorted(places, key=lambda place: (place.offset, place.length))
    chunks = [place.offset for place in ordered if place.box is not None]
    start = min(chunks, default=file.size)
    window = Window(file, min(start, file.size), max(file.size - start, 0))
    beginning = window.read(0, min(window.size, 512))
    is_stream = Safetensors().recognises(beginning, window.size)
    if is_stream and {*chunks} != {start}:
        raise _bad(file, "has chunks at several places of one safetensors stream")
    end = 0
    for place in ordered:
        if is_stream and place.box is not None:
            continue
        if place.offset != end:
            what = "overlaps the item before it" if place.offset < end else "leaves bytes before it that are no item's"
            raise _bad(file, f"has an item at byte {place.offset:,} that {what}")
        end += place.length
    if end != (start if is_stream else file.size):
        raise _bad(file, f"has items up to byte {end:,}, and ends at byte {file.size:,}")
    return _in_stream(window, len(chunks)) if is_stream else None


def _in_stream(window: Window, count: int) -> dict[str, Chunk]:
    """The chunks of a stream by the names of their tensors; one that does not say where it begins has no corner."""
    header = read_safetensors(window)
    if len(header.tensors) != count:
        raise _bad(
            window, f"has {len(header.tensors):,} tensors in its safetensors stream where the index lists {count:,}"
        )
    try:
        sharding = parse_json(header.metadata.get(_SHARDING, "{}"))
    except (ValueError, RecursionError) as error:
        raise _bad(window, "has no JSON where its stream says which part of a tensor each chunk is") from error
    found = {}
    for tensor in header.tensors:
        facts = sharding.get(tensor.name) if isinstance(sharding, dict) else None
        corner = facts.get("saved_offsets") if isinstance(facts, dict) else None
        found[tensor.name] = Chunk(tuple(corner) if isinstance(corner, list) else (), window.outside(tensor))
    return found


def _chunk(
    described: Described,
    place: Place,
    opened: Mapping[str, SourceFile],
    streams: Mapping[str, Mapping[str, Chunk]],
    *,
    crc: bool,
) -> Chunk:
    """A chunk as it lies in its file, held to what the index says of it."""
    file, name = opened[place.file], described.name
    corner, shape = place.box or ((), ())
    if place.coded:
        raise unsupported(str(file.path), f"is stored through an extension, {place.coded}.", tensor=name, hint=CONVERT)
    if place.file in streams:
        chunk = streams[place.file].get(name)
        if chunk is None or chunk.corner not in ((), corner):
            raise damaged(str(file.path), f"is not in its file from {list(corner)} on.", tensor=name, hint=AGAIN)
        found = chunk.stored
    else:
        window = Window(file, place.offset, place.length)
        found = window.outside(read_tensor(window, name, crc=crc))
    if (found.dtype, found.shape) != (described.dtype, shape):
        what = f"has a chunk of {found.dtype} {list(found.shape)} where the index says {described.dtype} {list(shape)}."
        raise damaged(str(file.path), what, tensor=name, hint=AGAIN)
    if found.strides is not None and found.shape != described.shape:
        what = "has a chunk whose elements do not lie in order."
        raise unsupported(str(file.path), what, tensor=name, hint=CONVERT)
    return Chunk(corner, found)


def _bad(file: SourceFile, problem: str) -> BertconvError:
    return damaged(str(file.path), f"{problem}.", hint=AGAIN)
