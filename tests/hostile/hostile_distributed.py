"""Distributed checkpoints that would convert but for one thing; case by case, with how each is refused."""

from __future__ import annotations

import pickle
import zipfile

import checkpoints as cp
import distributed_folders as dcp
import torch
from distributed_model import (
    COUNT,
    FILES,
    FIRST,
    HALF,
    INDEX,
    MATRIX,
    NAME,
    SECOND,
    Calls,
    Spread,
    a_pipe,
    chunk,
    doubled,
    dtype,
    field,
    file,
    firing,
    flipped,
    gone,
    index,
    inner,
    linked,
    listed_twice,
    nested,
    overlapping,
    place,
    raw,
    restreamed,
    rezipped,
    streams,
    tensor,
    with_places,
)
from hostile_case import VICTIM
from hostile_folders import payload, put
from torch.distributed.checkpoint import metadata as m
from torch.distributed.checkpoint.filesystem import _StorageInfo

from bertconv.errors import DamagedCheckpoint, MissingFiles, UnsafeCheckpoint, UnsupportedCheckpoint

D, U, X = DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint

PAYLOADS = {
    "a call at the root": Spread(lambda f: raw(payload(f.parent / "canary"))(f), U, "posix.mkdir"),
    "a call in the keys": Spread(firing(lambda made, call: made.planner_data.update({NAME: call})), U, "posix.mkdir"),
    "a call in a place": Spread(
        firing(lambda made, call: vars(made.storage_data[FIRST]).update(offset=call)), U, "mkdir"
    ),
    "a call as a tensor": Spread(firing(lambda made, call: made.state_dict_metadata.update({NAME: call})), U, "mkdir"),
    "a call as the version": Spread(firing(lambda made, call: setattr(made, "version", call)), U, "mkdir"),
    "a call as a field that is not read": Spread(firing(lambda made, call: setattr(made, "more", call)), U, "mkdir"),
    "os.system": Spread(raw(b"cposix\nsystem\n(S'touch canary'\ntR."), D, "is not the index"),
    "a call of an old protocol": Spread(raw(b"\x80\x02(X\x01\0\0\0xiposix\nsystem\n."), U, "posix.system"),
    "eval": Spread(field("planner_data", Calls(eval, "1")), U, "builtins.eval"),
    "torch.load": Spread(field("storage_meta", Calls(torch.load, "/dev/zero")), U, "torch.serialization.load"),
    "a class beside those": Spread(
        raw(b"\x80\x04ctorch.distributed.checkpoint.metadata\nOther\n)\x81}b."), U, "metadata.Other"
    ),
    "a writer": Spread(
        raw(b"\x80\x04ctorch.distributed.checkpoint.filesystem\nFileSystemWriter\nX\1\0\0\0x\x85R."),
        U,
        "FileSystemWriter",
    ),
    "a record that is called": Spread(
        raw(b"\x80\x04ctorch.distributed.checkpoint.metadata\nMetadata\n}\x85R."), U, "metadata.Metadata"
    ),
}
PICKLES = {
    "empty": Spread(raw(b""), D, "is empty"),
    "JSON": Spread(raw(b'{"weight_map": {}}'), D, "is not the index"),
    "cut off": Spread(index(lambda made: pickle.dumps(made)[:-100]), D, "ends too early"),
    "bytes behind it": Spread(index(lambda made: pickle.dumps(made) + b"x"), D, "after the end of its pickle"),
    "70 MB": Spread(put(INDEX, b"\x80\x04", sparse=70 << 20), U, "limit"),
    "a list of lists": Spread(field("more", nested(100)), U, "nests deeper"),
    "too many steps": Spread(raw(b"\x80\x04](" + b"K\1" * 3_100_000 + b"e."), U, "more than"),
    "names without end": Spread(
        raw(b"\x80\x04" + b"".join(b"ca\n%d\n0" % number for number in range(16_000)) + b"N."), U, "steps"
    ),
    "tensors are no dictionary": Spread(field("state_dict_metadata", [1]), D, "no dictionary of tensors"),
    "places are no dictionary": Spread(field("storage_data", None), D, "no dictionary of places"),
    "another class": Spread(index(lambda made: pickle.dumps(made.storage_meta)), D, "where a Metadata should be"),
    "attributes twice": Spread(index(lambda made: pickle.dumps(made)[:-1] + b"}b."), D, "attributes"),
    "a class as a tensor": Spread(
        index(lambda made: made.state_dict_metadata.update({NAME: 3})), D, "neither a tensor"
    ),
    "a place of nothing": Spread(index(lambda made: made.storage_data.update({3: 4})), D, "MetadataIndex should be"),
    "a place that is none": Spread(
        index(lambda made: made.storage_data.update({FIRST: 4})), D, "_StorageInfo should be"
    ),
    "a chunk that is none": Spread(tensor(chunks=[3]), D, "ChunkStorageMetadata should be"),
    "no chunks": Spread(tensor(chunks=[]), D, "has no chunks", tensor=NAME),
    "a long name": Spread(
        index(lambda made: made.state_dict_metadata.update({"x" * 2000: made.state_dict_metadata[NAME]})), U, "longer"
    ),
    "listed twice": Spread(index(listed_twice), D, "listed twice", tensor=NAME),
}
CHUNKS = {
    "overlapping": Spread(chunk(1, [HALF - 1], [COUNT - HALF + 1]), D, "elements in all", tensor=NAME),
    "overlapping, of the right number": Spread(index(overlapping), D, "overlap", tensor=MATRIX),
    "a gap": Spread(chunk(1, None, [1]), D, "elements in all", tensor=NAME),
    "outside": Spread(chunk(1, [HALF + 1]), D, "outside", tensor=NAME),
    "negative sizes": Spread(chunk(0, None, [-HALF]), D, "not a whole number"),
    "a negative corner": Spread(chunk(0, [-1]), D, "not a whole number"),
    "two axes of one": Spread(chunk(0, [0, 0], [HALF, 1]), D, "another number of axes", tensor=NAME),
    "a huge shape": Spread(tensor(size=torch.Size([2**40, 2**40])), D, "no machine", tensor=NAME),
    "40 axes": Spread(tensor(size=torch.Size([1] * 40)), U, "axes"),
    "a shape that is text": Spread(tensor(size="35"), D, "not a tuple"),
    "another shape": Spread(tensor(size=torch.Size([COUNT + 1])), D, "elements in all", tensor=NAME),
    "another element type": Spread(dtype(torch.float64), D, "where the index says float64", FILES[0], NAME),
    "an element type that is none": Spread(dtype("float32"), D, "no element type", tensor=NAME),
    "an element type that is not read": Spread(dtype(torch.float8_e4m3fnuz), X, "float8_e4m3fnuz", tensor=VICTIM),
}
PLACES = {
    "missing": Spread(index(lambda made: made.storage_data.pop(SECOND) and None), D, "lacks the place", tensor=NAME),
    "doubled": Spread(index(doubled), D, "two places", tensor=NAME),
    "of nothing": Spread(
        index(lambda made: made.storage_data.update({m.MetadataIndex("x", [0]): _StorageInfo(FILES[0], 0, 1)})),
        D,
        "does not list",
        tensor="x",
    ),
    "bytes without one": Spread(
        index(lambda made: made.state_dict_metadata.update({"more": m.BytesStorageMetadata()})),
        D,
        "no place",
        tensor="more",
    ),
    "of something without a name": Spread(
        index(lambda made: made.storage_data.update({m.MetadataIndex(3, [0]): _StorageInfo(FILES[0], 0, 1)})),  # type: ignore[arg-type]
        D,
        "without a name",
    ),
    "behind the file": Spread(place(offset=1 << 40), D, "leaves bytes before it", FILES[0]),
    "too long": Spread(place(length=1 << 40), D, "overlaps the item before it", FILES[0]),
    "negative": Spread(place(offset=-1), D, "not a whole number"),
    "of another chunk": Spread(
        index(
            lambda made: vars(made.storage_data[FIRST]).update(vars(made.storage_data[m.MetadataIndex(MATRIX, [0, 0])]))
        ),
        D,
        "",
        FILES[0],
    ),
    "a name out of the folder": Spread(place(relative_path="../secret/__0_0.distcp"), U, "plain file name"),
    "an absolute name": Spread(place(relative_path="/etc/passwd"), U, "plain file name"),
    "a name of a folder below": Spread(place(relative_path="a/b.distcp"), U, "plain file name"),
    "an empty name": Spread(place(relative_path=""), U, "plain file name"),
    "a name with NUL": Spread(place(relative_path="a\0b"), U, "plain file name"),
    "a name that is no text": Spread(place(relative_path=3), D, "no text", tensor=NAME),
    "a file that is not there": Spread(place(relative_path="__9_0.distcp"), MissingFiles, "not there"),
    "another file that is there": Spread(place(relative_path="config.json"), D, "", None),
    "changed by an extension": Spread(
        place(transform_descriptors=["stream.zstd/1"]), X, "stream.zstd/1", FILES[0], NAME
    ),
    "changed by something else": Spread(place(transform_descriptors=3), D, "has no name", tensor=NAME),
    "keys that are none": Spread(index(with_places({NAME: (None,)})), D, "keys of a tensor"),
    "no keys": Spread(index(with_places({NAME: ()})), D, "keys of a tensor"),
    "40 keys": Spread(index(with_places({NAME: ("a",) * 40})), D, "keys of a tensor"),
    "the keys of another": Spread(
        index(with_places({NAME: ("model", VICTIM.replace("bias", "weight"))})),
        D,
        "twice",
        tensor=VICTIM.replace("bias", "weight"),
    ),
    "the keys of a dictionary": Spread(index(with_places({NAME: ("model",)})), D, "a dictionary of some"),
    "two models": Spread(
        index(lambda made: made.planner_data.update({MATRIX: ("net", MATRIX)})), X, "several state dicts"
    ),
}
DATA = {
    "a link": Spread(linked(FILES[0]), U, "symbolic link", FILES[0]),
    "the index is a link": Spread(linked(INDEX), U, "symbolic link"),
    "a pipe": Spread(a_pipe(FILES[0]), U, "not a regular file", FILES[0]),
    "missing": Spread(gone(FILES[1]), MissingFiles, "not there"),
    "empty": Spread(file(lambda _: b""), D, "", FILES[0]),
    "cut off": Spread(file(lambda data: data[:-1]), D, "ends at byte", FILES[0]),
    "longer": Spread(file(lambda data: data + b"x"), D, "ends at byte", FILES[0]),
    "zeros": Spread(file(lambda data: bytes(len(data))), D, "zip archive", FILES[0], "*"),
    "a chunk that is compressed": Spread(
        inner(lambda part: rezipped(part, zipfile.ZIP_DEFLATED)), U, "compressed", FILES[0], NAME
    ),
    "a chunk that calls": Spread(
        inner(lambda part: rezipped(part, data=b"\x80\x02cposix\nsystem\nX\1\0\0\0x\x85R.")),
        U,
        "posix.system",
        FILES[0],
        NAME,
    ),
    "a chunk that is a dictionary": Spread(
        inner(lambda part: dcp.saved({"x": part})), D, "something else", FILES[0], NAME
    ),
    "a chunk that is larger": Spread(
        inner(lambda part: dcp.saved(part.repeat(2))), D, "has a chunk of", FILES[0], NAME
    ),
    "a chunk of another type": Spread(
        inner(lambda part: dcp.saved(part.double())), D, "has a chunk of", FILES[0], NAME
    ),
    "a chunk that is expanded": Spread(
        inner(lambda _: dcp.saved(torch.zeros(1).expand(10_000_000))), U, "more than 4 times", FILES[0], NAME
    ),
    "a chunk whose storage is short": Spread(
        inner(lambda part: rezipped(part, **{"0": b"\0" * 4})), D, "needs a storage", FILES[0], NAME
    ),
    "a chunk of the old format": Spread(
        inner(lambda part: cp.torch_bytes(part, legacy=True)), D, "zip archive", FILES[0], NAME
    ),
    "a chunk with a wrong checksum": Spread(inner(flipped), D, "wrong checksum", FILES[0], NAME, said=""),
    "a chunk with bytes behind it": Spread(inner(lambda part: dcp.saved(part) + b"x"), D, "", FILES[0], NAME),
    "a chunk with bytes before it": Spread(inner(lambda part: b"x" + dcp.saved(part)), D, "", FILES[0], NAME),
    "a stream with another corner": Spread(
        streams(
            lambda data: data.replace(b'"saved_offsets\\": [0]', b'"saved_offsets\\": [1]').replace(
                b'saved_offsets\\": [0]', b'saved_offsets\\": [1]'
            )
        ),
        D,
        "is not in its file from",
        FILES[0],
        "*",
    ),
    "a stream with another name": Spread(
        streams(lambda data: data.replace(NAME.encode(), NAME.encode().upper())),
        D,
        "is not in its file",
        FILES[0],
        NAME,
    ),
    "a stream that is cut off": Spread(streams(lambda data: data[:-1]), D, "truncated", FILES[0]),
    "a stream whose JSON has no end of depth": Spread(streams(restreamed("[" * 100_000)), D, "no JSON", FILES[0]),
    "a stream that says no JSON": Spread(
        streams(lambda data: data.replace(b'"DCP_SHARDING_INFO":"{', b'"DCP_SHARDING_INFO":"[')), D, "no JSON", FILES[0]
    ),
}


CASES = {
    f"{kind}: {name}": case
    for kind, cases in {
        "payload": PAYLOADS,
        "pickle": PICKLES,
        "chunks": CHUNKS,
        "place": PLACES,
        "data": DATA,
    }.items()
    for name, case in cases.items()
}
