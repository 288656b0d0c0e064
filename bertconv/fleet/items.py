"""Item: one piece of a fleet's work; and the list of them, a file of JSON lines."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bertconv.errors import RequestError
from bertconv.records import dataclass
from bertconv.text import is_url, parse_json, public

FOLDER = ".bertconv-fleet"
"""Where a fleet's own files are, in the folder of its outputs; what lies beside it is an output."""
VERBS = ("convert", "verify", "doctor", "hash")
"""What can be done to every item of a list."""

_MOST_LINE = 1_000_000
"""A longer line is no item."""
_MOST_BYTES = (1 << 63) - 1
"""Largest number of a database."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NAME_BYTES = 120
"""Most bytes of the name that an output gets: file systems take 255, and a staged folder's name is longer by 40."""


@dataclass(frozen=True)
class Item:
    """One checkpoint and what is to be done to it.

    Attributes:
        src: folder, file, URL or Hub id, as for every command.
        dst: where the output goes; empty until the list is placed (`placed`).
        verb: one of VERBS.
        options: of the verb, by the names of its Python function.
        size: bytes of the weights; 0 where nobody looked.
        identity: which bytes the source has, as whoever made the list found it (a commit, ETags); empty: look again.
        stamp: of the output that the ledger knows to be this item's, where that is in a store: a worker asks for it.
    """

    src: str
    dst: str = ""
    verb: str = "convert"
    options: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0
    identity: str = ""
    stamp: str = ""

    @cached_property
    def id(self) -> str:
        """The same item in every run: what is done to which source, and where that goes, but not with which options."""
        return _digest([self.verb, self.src, self.dst])[:32]

    def to_json(self) -> dict[str, Any]:
        """A line of a list; what is not said is left out."""
        facts = {"src": self.src, "dst": self.dst, "verb": self.verb, "options": dict(self.options),
                 "size": self.size, "identity": self.identity, "stamp": self.stamp}  # fmt: skip
        return {key: value for key, value in facts.items() if value or key == "src"}


def key_of(item: Item, identity: str, tables: str, version: str) -> str:
    """What an output is made of, in one line: where it is the same, there is nothing to do.

    Args:
        item: what is to be done.
        identity: which bytes its source has; empty where that is not known, and then nothing is known.
        tables: digest of the mapping tables that take part.
        version: of bertconv.
    """
    return _digest([identity, item.verb, item.options, tables, version]) if identity else ""


def read_items(path: Path) -> list[Item]:
    """The items of a list.

    Raises:
        RequestError: there is no such file, or a line is no item, with its number.
    """
    try:
        with path.open("rb") as file:
            return list(_items(file, str(path)))
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}.", hint="Check the path.", file=str(path)) from error


def write_items(items: Iterable[Item]) -> Iterator[str]:
    """The lines of a list."""
    for item in items:
        yield json.dumps(item.to_json(), ensure_ascii=False) + "\n"


def placed(items: Iterable[Item], out: str) -> list[Item]:
    """The items with a destination each: their own, or OUT/<name of the source>.

    Where several sources have one name, all of them get a part of a digest behind it, so that neither the order of a
    list nor what it lacks decides which is which.

    Raises:
        RequestError: two items are the same, or two outputs would go to one place.
    """
    found = [_absolute(item) for item in items]
    out = out if is_url(out) else os.path.abspath(out)  # noqa: PTH100  (resolve() would follow a link)
    names = [safe_name(item.src) for item in found]
    counts: dict[str, set[str]] = {}
    for item, name in zip(found, names, strict=True):
        counts.setdefault(name.casefold(), set()).add(item.src)
    done = []
    for item, name in zip(found, names, strict=True):
        own = f"{name}-{_digest(item.src)[:8]}" if len(counts[name.casefold()]) > 1 else name
        done.append(item if item.dst else replace(item, dst=f"{out.rstrip('/') or '/'}/{own}"))
    _check_apart(done)
    return done


def _absolute(item: Item) -> Item:
    """An item whose local paths mean the same in every folder, as a ledger must have them."""
    src, dst = item.src, item.dst
    if not is_url(src) and os.path.lexists(src):
        src = os.path.abspath(src)  # noqa: PTH100
    if dst and not is_url(dst):
        dst = os.path.abspath(dst)  # noqa: PTH100
    return item if (src, dst) == (item.src, item.dst) else replace(item, src=src, dst=dst)


def safe_name(src: str) -> str:
    """A name for a folder that says where its content came from: the last part of a path, a Hub id with `--`."""
    text = public(src).rstrip("/")  # a name must not tell what a query allows
    scheme, mark, rest = text.partition("://")
    if mark:
        text = rest if scheme == "hf" else rest.rpartition("/")[2]
    elif Path(src).is_absolute() or os.path.lexists(src) or text.startswith(".") or text.count("/") != 1:
        text = Path(src).resolve().name if text in ("", ".", "..") else text.rpartition("/")[2]
    name = re.sub(r"[^\w.@+-]", "-", text.replace("/", "--"), flags=re.ASCII).strip(".-") or "checkpoint"
    return name if len(name) <= _NAME_BYTES else f"{name[:_NAME_BYTES]}-{_digest(src)[:8]}"


def shard(items: Iterable[Item], text: str) -> list[Item]:
    """Those items that are one of n parts of a list, whatever order it has.

    Args:
        items: all of them, placed.
        text: `i/n`, with i from 0, as the index of a job in an array is.

    Raises:
        RequestError: it is none.
    """
    number, count = shard_numbers(text)
    return [item for item in items if int(item.id[:12], 16) % count == number]


def shard_numbers(text: str) -> tuple[int, int]:
    """The two numbers of `i/n`; RequestError where these are none."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, flags=re.ASCII)
    if found is None or int(found[1]) >= int(found[2]):
        raise RequestError(
            f"shard is {text!r}.", hint="Write it as i/n with i from 0 to n-1, such as 0/8 for the first of 8."
        )
    return int(found[1]), int(found[2])


def _items(lines: Iterable[bytes], path: str) -> Iterator[Item]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _item(line)
            except ValueError as error:
                raise RequestError(
                    f"line {number}: {error}.", hint="Make the list anew, or repair the line.", file=path
                ) from error


def _item(line: bytes) -> Item:
    if len(line) > _MOST_LINE:
        raise ValueError("is too long for an item")
    try:
        facts = parse_json(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({error})") from error
    if _SURROGATE.search(json.dumps(facts, ensure_ascii=False)):
        raise ValueError("has half a character (a lone surrogate), which no path or database takes")
    return item_of(facts)


_FIELDS: dict[str, type] = {"src": str, "dst": str, "verb": str, "options": dict, "size": int, "identity": str,
                           "stamp": str}  # fmt: skip
_OF_LISTS: dict[str, type] = {"family": str, "format": str, "head": str, "problems": list}
"""What `fleet plan` says of a checkpoint besides, for people and their filters (`listing.Listed`)."""


def item_of(facts: Any) -> Item:
    """The item that a JSON object states; ValueError, with what is wrong, where it states none."""
    if not isinstance(facts, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004  (one kind of error for a bad line)
    known = _FIELDS | _OF_LISTS
    if unknown := sorted(set(facts) - set(known)):
        raise ValueError(f"has a field {unknown[0]!r}, which items have not")
    for key, value in facts.items():
        if type(value) is not known[key]:
            raise ValueError(f"has a {key} that is no {known[key].__name__}")
    item = Item(**{key: facts[key] for key in _FIELDS if key in facts}) if facts.get("src") else None
    if item is None:
        raise ValueError("names no src")
    if item.verb not in VERBS:
        raise ValueError(f"asks for {item.verb!r}, which is none of {', '.join(VERBS)}")
    if not 0 <= item.size <= _MOST_BYTES or any("\0" in text for text in (item.src, item.dst)):
        raise ValueError("has a size that no file has, or a path with a NUL")
    return item


def _check_apart(items: list[Item]) -> None:
    """Outputs must not share a place, nor lie in one another: each replaces its whole folder."""
    there: dict[str, Item] = {}
    ids: set[str] = set()
    for item in items:
        if item.id in ids:
            raise RequestError("is in the list twice.", hint="Leave one of the two lines out.", file=public(item.src))
        ids.add(item.id)
        if item.verb == "convert":
            other = there.setdefault(item.dst.rstrip("/"), item)
            if other is not item:
                raise RequestError(
                    f"has two sources in the list, {public(other.src)} and {public(item.src)}.",
                    hint="Give each a dst of its own.",
                    file=item.dst,
                )  # fmt: skip
    for place, item in there.items():
        parts = place.split("/")
        above = ("/".join(parts[:number]) for number in range(1, len(parts)))
        if inner := next((one for one in above if one in there), None):
            raise RequestError(
                f"lies in {inner}, another output of the list.", hint="Give each a dst beside the other.", file=item.dst
            )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
