"""A whole BERT as a PyTorch file, zip and legacy, in which any one thing can be made something else."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

import numpy as np
from hostile_case import STATE, VICTIM
from torch_cases import MAGIC, SYSTEM, VERSION, Record, archive, pickled, tensor, text

KEYS = {each: str(number) for number, each in enumerate(STATE)}
COUNT = STATE[VICTIM].size
VICTIM_KEY = KEYS[VICTIM]
DATA = f"a/data/{VICTIM_KEY}"


def described(each: str) -> bytes:
    """The sound description of a tensor."""
    value = STATE[each]
    strides = tuple(np.array(value.strides) // value.itemsize)
    return tensor(KEYS[each], value.size, 0, value.shape, tuple(map(int, strides)))


def victim(**changes: object) -> bytes:
    """The victim described with something else in it."""
    return tensor(**{"key": VICTIM_KEY, "count": COUNT, "shape": (COUNT,), "strides": (1,), **changes})


def items(**changes: bytes) -> list[tuple[bytes, bytes]]:
    """Keys and values of the state dict; `victim` replaces the victim's description, others come behind."""
    pairs = [(text(each), changes.get("victim", b"") if each == VICTIM else b"") for each in STATE]
    pairs = [(key, value or described(each)) for (key, value), each in zip(pairs, STATE, strict=True)]
    return pairs + [(text(key), value) for key, value in changes.items() if key != "victim"]


def mapped(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return b"}(" + b"".join(key + value for key, value in pairs) + b"u"


def model(**changes: bytes) -> bytes:
    """The pickle of the model's state dict."""
    return pickle4(mapped(items(**changes)))


def pickle4(value: bytes) -> bytes:
    """Protocol 4, in which names may have dots."""
    return b"\x80\x04" + value + b"."


def records(pickle: bytes | None = None) -> list[Record]:
    data = [Record(f"a/data/{KEYS[each]}", value.tobytes()) for each, value in STATE.items()]
    return [Record("a/data.pkl", model() if pickle is None else pickle), Record("a/version", b"3\n"), *data]


def zipped(pickle: bytes) -> bytes:
    return archive(records(pickle))


def changed(which: str, **values: object) -> list[Record]:
    """The sound records, one of them changed."""
    found = records()
    (record,) = (record for record in found if record.name == which)
    for key, value in values.items():
        setattr(record, key, value)
    return found


def legacy(pickle: bytes, **parts: bytes) -> bytes:
    pickle = pickle.replace(b"tQ", b"NtQ")  # a persistent id of the old format has a sixth item, a view or None
    keys = pickled(b"](" + b"".join(map(text, KEYS.values())) + b"e")
    data = b"".join(struct.pack("<q", value.size) + value.tobytes() for value in STATE.values())
    whole = {"magic": MAGIC, "version": VERSION, "system": SYSTEM, "object": pickle, "keys": keys, "data": data}
    return b"".join({**whole, **parts}.values())


MAKERS: Mapping[str, Callable[[bytes], bytes]] = {"zip": zipped, "legacy": legacy}
