"""safetensors files, each a whole BERT that would convert but for one thing; case by case, with how it is refused."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from checkpoints import safetensors_bytes, with_header
from hostile_case import STATE, VICTIM, Case

from bertconv.errors import BertconvError, DamagedCheckpoint, UnsafeCheckpoint

FILE = "model.safetensors"
SOUND = safetensors_bytes(STATE, {"format": "pt"})
LENGTH = int.from_bytes(SOUND[:8], "little")
HEADER: dict[str, Any] = json.loads(SOUND[8 : 8 + LENGTH])
DATA = SOUND[8 + LENGTH :]
COUNT = STATE[VICTIM].size
BEGIN, END = HEADER[VICTIM]["data_offsets"]
LAST = next(name for name, entry in HEADER.items() if entry.get("data_offsets", [0, 0])[1] == len(DATA))
FOLLOWING = next(name for name, entry in HEADER.items() if entry.get("data_offsets", [0, 0])[0] == END)
LIMIT = 100_000


def text(header: object) -> bytes:
    return json.dumps(header, separators=(",", ":")).encode()


def rebuilt(header: bytes, data: bytes = DATA) -> bytes:
    return with_header(header, data)


def with_victim(**fields: object) -> bytes:
    """The header with fields of the victim changed, or added; a field that is None is left out."""
    entry = {**HEADER[VICTIM], **fields}
    return rebuilt(text({**HEADER, VICTIM: {key: value for key, value in entry.items() if value is not None}}))


def spelled(old: str, new: str) -> bytes:
    """The victim's entry with something in it written otherwise, in bytes that json.dumps would not write."""
    before = text({VICTIM: HEADER[VICTIM]})[1:-1]
    assert before in text(HEADER)
    assert old.encode() in before
    return rebuilt(text(HEADER).replace(before, before.replace(old.encode(), new.encode("utf-8", "surrogatepass"), 1)))


def with_metadata(raw: str) -> bytes:
    """The header with another value of `__metadata__`."""
    rest = text({name: entry for name, entry in HEADER.items() if name != "__metadata__"})
    return rebuilt(b'{"__metadata__":' + raw.encode() + b"," + rest[1:])


def more(extra: str, data: bytes = b"") -> bytes:
    """The header with something behind its last entry, and bytes behind the last tensor."""
    return rebuilt(text(HEADER)[:-1] + b"," + extra.encode() + b"}", DATA + data)


def entry(begin: int, end: int, dtype: str = "U8", shape: list[int] | None = None) -> str:
    return json.dumps(
        {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}
    )


def renamed(name: str) -> bytes:
    return spelled(f'"{VICTIM}"', name)


def moved(begin: int, end: int) -> bytes:
    """The victim elsewhere, as wide as it says."""
    return with_victim(shape=[(end - begin) // 4], data_offsets=[begin, end])


def zip_of(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as writer:
        writer.writestr(name, "import os")
    return stream.getvalue()


def many(count: int) -> bytes:
    """A sound header but for its length: so many empty tensors beside the model's."""
    empty = entry(len(DATA), len(DATA))
    return more(",".join(f'"x{number}":{empty}' for number in range(count)))


def case(
    make: Callable[[], bytes],
    words: str,
    tensor: str | None = None,
    error: type[BertconvError] = DamagedCheckpoint,
    file: str = FILE,
) -> Case:
    return Case(lambda _: make(), error, words, tensor, file=file)


def victims(words: str, **changes: Callable[[], bytes]) -> dict[str, Case]:
    """Cases that name the victim with the same words; underscores stand for spaces."""
    return {name.replace("_", " "): case(make, words, VICTIM) for name, make in changes.items()}


LENGTHS = {
    "header of 2^64 - 1": case(lambda: b"\xff" * 8 + SOUND[8:], "declares a header", error=UnsafeCheckpoint),
    "header of 2^63": case(lambda: b"\0" * 7 + b"\x80" + SOUND[8:], "declares a header", error=UnsafeCheckpoint),
    "header of 100,000,001": case(
        lambda: (10**8 + 1).to_bytes(8, "little") + SOUND[8:], "the format allows", error=UnsafeCheckpoint
    ),
    "header of 100,000,000 in a small file": case(
        lambda: (10**8).to_bytes(8, "little") + SOUND[8:], "it is truncated"
    ),
    "header to the last byte": case(
        lambda: (len(SOUND) - 8).to_bytes(8, "little") + SOUND[8:], "broken header"
    ),
    "header that is one byte short": case(lambda: (LENGTH - 1).to_bytes(8, "little") + SOUND[8:], "broken header"),
    "header of length zero": case(lambda: bytes(8) + SOUND[8:], "does not begin with"),
    "header of length one": case(lambda: b"\1" + bytes(7) + SOUND[8:], "broken header"),
    "no byte at all": case(lambda: b"", "0 bytes"),
    "seven bytes": case(lambda: SOUND[:7], "7 bytes"),
    "only a length": case(lambda: SOUND[:8], "8 bytes"),
    "half a header": case(lambda: SOUND[: LENGTH // 2], "it is truncated"),
    "half its weights": case(lambda: SOUND[: len(SOUND) // 2], "is truncated"),
    "its last byte missing": case(lambda: SOUND[:-1], "is truncated"),
    "no weights": case(lambda: rebuilt(text(HEADER), b""), "is truncated"),
}  # fmt: skip

POLYGLOTS = {
    "a zip behind": case(lambda: SOUND + zip_of("a/data.pkl"), "after its last tensor"),
    "one byte behind": case(lambda: SOUND + b"\0", "after its last tensor"),
    "a second model behind": case(lambda: SOUND * 2, "after its last tensor"),
    "bytes before the first tensor": case(lambda: rebuilt(text(HEADER) + b"hidden"), "broken header"),
    "padded with newlines": case(lambda: rebuilt(text(HEADER) + b"\n" * 8), "padded with something other"),
    "padded with tabs": case(lambda: rebuilt(text(HEADER) + b"\t"), "padded with something other"),
    "padded with zeros": case(lambda: rebuilt(text(HEADER) + bytes(8)), "broken header"),
    "padded with a comment": case(lambda: rebuilt(text(HEADER) + b" /* */"), "broken header"),
    "a space in front": case(lambda: rebuilt(b" " + text(HEADER)), "neither"),
    "a byte order mark": case(lambda: rebuilt(b"\xef\xbb\xbf" + text(HEADER)), "neither"),
    "an HTML page": case(lambda: b"<!doctype html><p>404", "HTML page"),
    "a Git-LFS pointer": case(lambda: b"version https://git-lfs.github.com/spec/v1\n", "Git-LFS"),
    "named .bin": case(lambda: SOUND + b"\0", "after its last tensor", file="pytorch_model.bin"),
    "named .h5": case(lambda: SOUND + b"\0", "after its last tensor", file="tf_model.h5"),
}

TEXTS = {
    "no JSON": case(lambda: rebuilt(b"{" + b"x" * LENGTH), "broken header"),
    "two objects": case(lambda: rebuilt(text(HEADER) + b"{}"), "broken header"),
    "UTF-16": case(lambda: rebuilt(text(HEADER).decode().encode("utf-16-le")), "broken header"),
    "not UTF-8": case(lambda: rebuilt(text(HEADER).replace(b"pooler", b"p\xff\xfeler")), "broken header"),
    "a comma at the end": case(lambda: rebuilt(text(HEADER)[:-1] + b",}"), "broken header"),
    "a tensor twice": case(lambda: more(f'"{VICTIM}":{entry(BEGIN, END)}'), "duplicate key"),
    "a tensor twice, once escaped": case(
        lambda: more(f'"\\u0065{VICTIM[1:]}":{json.dumps(HEADER[VICTIM])}'), "duplicate key"
    ),
    "a field twice": case(lambda: spelled('"dtype":"F32"', '"dtype":"I32","dtype":"F32"'), "duplicate key"),
    "metadata twice": case(lambda: more('"__metadata__":{"format":"tf"}'), "duplicate key"),
    "a key of metadata twice": case(lambda: with_metadata('{"a":"x","a":"y"}'), "duplicate key"),
    "metadata with a number": case(lambda: with_metadata('{"a":1}'), "metadata that is not text"),
    "metadata with an object": case(lambda: with_metadata('{"a":{"b":"c"}}'), "metadata that is not text"),
    "metadata that is a list": case(lambda: with_metadata("[]"), "metadata that is not text"),
    "metadata that is a tensor": case(lambda: with_metadata(entry(0, 0)), "metadata that is not text"),
    "metadata with half a letter": case(lambda: with_metadata('{"a":"\\ud800"}'), "not Unicode"),
    "metadata with NaN": case(lambda: with_metadata('{"a":NaN}'), "broken header"),
    "100,000 brackets": case(lambda: rebuilt(b'{"a":' + b"[" * 100_000), "broken header"),
    "100,000 objects": case(lambda: rebuilt(b'{"a":' * 100_000), "broken header"),
    "a number of 10^5 digits": case(lambda: spelled(f"[{COUNT}]", f"[{'9' * 100_000}]"), "broken header"),
    "an exponent of 10^5 digits": case(lambda: spelled(f"[{COUNT}]", f"[1e{'9' * 100_000}]"), "broken header"),
    "a fraction": case(lambda: spelled(f"[{COUNT}]", f"[{COUNT}.0]"), "broken header"),
    "an exponent": case(lambda: spelled(f"[{COUNT}]", "[35e0]"), "broken header"),
    "infinity": case(lambda: spelled(f"[{COUNT}]", "[Infinity]"), "broken header"),
    "minus zero": case(lambda: spelled(f"[{COUNT}]", "[-0]"), "broken header"),
    "one tensor too many": case(lambda: many(LIMIT + 1), "the limit is", error=UnsafeCheckpoint),
}

FIELDS = {
    **victims(
        "not described by exactly",
        an_unknown_field=lambda: with_victim(strides=[1]),
        no_type=lambda: with_victim(dtype=None),
        no_shape=lambda: with_victim(shape=None),
        no_offsets=lambda: with_victim(data_offsets=None),
        a_tensor_that_is_null=lambda: rebuilt(text({**HEADER, VICTIM: None})),
        a_tensor_that_is_a_list=lambda: rebuilt(text({**HEADER, VICTIM: ["F32", [COUNT], [BEGIN, END]]})),
        a_tensor_that_is_text=lambda: rebuilt(text({**HEADER, VICTIM: "os.system"})),
    ),
    **victims(
        "element type",
        an_unknown_type=lambda: with_victim(dtype="F31"),
        a_type_in_small_letters=lambda: with_victim(dtype="f32"),
        a_type_that_is_a_number=lambda: with_victim(dtype=32),
        a_type_that_is_a_list=lambda: with_victim(dtype=["F32"]),
        a_type_that_clears_the_terminal=lambda: with_victim(dtype="\x1b[2J"),
        a_type_of_a_million_letters=lambda: with_victim(dtype="F" * 1_000_000),
    ),
    **victims(
        "whole numbers",
        a_shape_that_is_a_number=lambda: with_victim(shape=COUNT),
        a_shape_with_text=lambda: with_victim(shape=[str(COUNT)]),
        a_shape_with_true=lambda: with_victim(shape=[COUNT, True]),
        a_shape_in_a_shape=lambda: with_victim(shape=[[COUNT]]),
        a_negative_size=lambda: with_victim(shape=[-COUNT]),
        two_negative_sizes=lambda: with_victim(shape=[-1, -COUNT]),
        a_size_of_2e64=lambda: with_victim(shape=[2**64 - 1]),
        axes_without_end=lambda: with_victim(shape=[COUNT] + [1] * 10_000),
        one_offset=lambda: with_victim(data_offsets=[END]),
        three_offsets=lambda: with_victim(data_offsets=[BEGIN, END, END]),
        offsets_that_are_text=lambda: with_victim(data_offsets=["0", "8"]),
        the_header_as_weights=lambda: with_victim(data_offsets=[-4 * COUNT, 0]),
        an_offset_of_2e63=lambda: with_victim(shape=[0], data_offsets=[2**63, 2**63]),
    ),
    **victims(
        "more elements than can be counted",
        a_shape_that_overflows=lambda: with_victim(shape=[2**32, 2**32]),
        a_shape_that_overflows_to_the_right_size=lambda: with_victim(shape=[2**62, 4, COUNT]),
        a_shape_that_overflows_before_a_zero=lambda: with_victim(shape=[2**62, 2**62, 0]),
    ),
    **victims(
        "instead of",
        a_shape_too_large=lambda: with_victim(shape=[COUNT + 1]),
        a_shape_too_small=lambda: with_victim(shape=[COUNT - 1]),
        a_type_too_wide=lambda: with_victim(dtype="F64"),
        a_type_too_narrow=lambda: with_victim(dtype="BF16"),
        offsets_swapped=lambda: with_victim(data_offsets=[END, BEGIN]),
        elements_of_2e60=lambda: with_victim(shape=[2**60]),
    ),
}

RANGES = {
    "a hole": case(lambda: moved(BEGIN, END - 4), "leaves a hole", FOLLOWING),
    "an overlap": case(lambda: moved(BEGIN, END + 4), "overlaps", FOLLOWING),
    "another's range": case(
        lambda: more(f'"again":{json.dumps(HEADER[VICTIM])}'), "overlaps", "again"
    ),
    "a range inside another": case(lambda: more(f'"again":{entry(BEGIN + 4, BEGIN + 8)}'), "overlaps", "again"),
    "an empty tensor inside another": case(lambda: more(f'"again":{entry(BEGIN + 4, BEGIN + 4)}'), "overlaps", "again"),
    "an empty tensor beyond the end": case(
        lambda: more(f'"again":{entry(len(DATA) + 4, len(DATA) + 4)}'), "leaves a hole", "again"
    ),
    "a tensor beyond the end": case(
        lambda: more(f'"again":{entry(len(DATA), len(DATA) + 64)}'), "is truncated"
    ),
    "a tensor of 2^62 bytes": case(
        lambda: more(f'"again":{entry(len(DATA), len(DATA) + 2**62)}'), "is truncated"
    ),
    "everything moved by eight": case(
        lambda: rebuilt(text({
            name: each if name == "__metadata__"
            else {**each, "data_offsets": [offset + 8 for offset in each["data_offsets"]]}
            for name, each in HEADER.items()
        }), bytes(8) + DATA),
        "leaves a hole", next(iter(STATE)),
    ),
}  # fmt: skip

NAMES: dict[str, tuple[str, str]] = {
    "no name": ('""', ""),
    "NUL in a name": ('"pooler\\u0000"', "pooler\0"),
    "a name that clears the terminal": ('"\\u001b[2J"', "\x1b[2J"),
    "a name that turns the text around": ('"a\\u202eb"', "a\u202eb"),
    "a newline in a name": ('"a\\nb"', "a\nb"),
    "half a letter in a name": ('"\\ud800"', "?"),  # what the terminal is shown instead
    "a name of a million letters": (f'"{"a" * 1_000_000}"', "a" * 100),
}
NAMED = {
    name: case(lambda spelling=spelling: renamed(spelling), "printable name", shown)
    for name, (spelling, shown) in NAMES.items()
}

MANY = case(lambda: many(4 * LIMIT), "the limit is", error=UnsafeCheckpoint)
"""Refused for its number of tensors before any of them is made: parsed whole, they take hundreds of megabytes."""

CASES: dict[str, Case] = {
    f"{group}: {name}": each
    for group, cases in (
        ("length", LENGTHS), ("file", POLYGLOTS), ("text", TEXTS),
        ("field", FIELDS), ("range", RANGES), ("name", NAMED),
    )
    for name, each in cases.items()
}  # fmt: skip

ESCAPING: Mapping[str, str] = {"../../../etc/passwd": "upwards", "/etc/passwd": "absolute", "a\\b": "backslash"}
"""Names that would be paths, were they ever used as such: they are names of tensors that no BERT has."""
