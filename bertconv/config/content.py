"""Keys of a config from wherever a user has them, as JSON has them; and those about labels kept in step."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from bertconv.config.checks import bad
from bertconv.config.defaults import DTYPES
from bertconv.errors import DamagedCheckpoint, MissingPath, OutputError, RequestError
from bertconv.text import closest, parse_json
from bertconv.warn import warn

CONFIG_FILES = ("config.json", "bert_config.json", "albert_config.json")
"""Names of a config file in a folder; the first is written."""

MAX_BYTES = 1_000_000
"""A config is a few kilobytes; a larger file is something else."""

_ID = re.compile(r"-?\d{1,18}", re.ASCII)


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """A JSON object from a file of at most `limit` bytes; duplicate keys, NaN and Infinity are refused."""
    return json_object(stored_text(path, limit), path, limit)


def stored_text(path: Path, limit: int) -> bytes:
    """The bytes of a file; none where they are more than `limit`."""
    try:
        return path.read_bytes() if path.stat().st_size <= limit else b""  # guard: json-size
    except OSError as error:
        raise DamagedCheckpoint(
            f"cannot be read: {error.strerror}.", hint="Check the path and its permissions.", file=str(path)
        ) from error


def json_object(stored: bytes, path: Path, limit: int) -> dict[str, Any]:
    """A JSON object of the bytes of a file, as for `read_json`; none means that they were too many."""
    if not stored:
        raise bad(str(path), f"is empty or larger than {limit:,} bytes")
    try:
        value = parse_json(stored)
    except (ValueError, RecursionError) as error:
        raise bad(str(path), f"is not sound JSON: {error}") from error
    if not isinstance(value, dict):
        raise bad(str(path), "is not a JSON object")
    return value


def architectures_of(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Model classes that a config names, TensorFlow's `TF` taken off."""
    named = raw.get("architectures")
    names = named if isinstance(named, list) else []
    return tuple(name.removeprefix("TF") for name in names if isinstance(name, str))


def by_name(args: tuple[Any, ...], keys: Mapping[str, Any], positional: Sequence[str]) -> dict[str, Any]:
    """What a config was called with, as keys; RequestError for too many or the same twice."""
    if len(args) > len(positional):
        raise RequestError(f"{len(args)} values were given by position.", hint="Give keys by name.")
    by_position = dict(zip(positional, args, strict=False))
    if twice := sorted(by_position.keys() & keys):
        raise RequestError(f"{twice[0]} was given twice.", hint="Give each key once.")
    return by_position | dict(keys)


def warn_of_unknown(keys: Iterable[str], known: Collection[str]) -> None:
    """One warning for keys that no config has and that are left out, with the one that was meant."""
    unknown = list(keys)
    if unknown:
        near = closest(unknown[0], known)
        hint = f"Did you mean {near}?" if near is not None else "Assign to an attribute of the config to add a key."
        named = "key " + ", ".join(map(repr, unknown))
        warn(f"the config has no {named}: left out. {hint}")


def plain(keys: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """A deep copy as it would come back from JSON: keys as text, tuples as lists, numpy's scalars as Python's."""
    copied = {}
    for key, value in keys.items():
        if not isinstance(key, str):
            raise bad(path, f"the config's key {key!r} is not text")
        try:
            named = type_name(value) if key in DTYPES else value
            copied[key] = parse_json(json.dumps(named, default=_number))
        except (TypeError, ValueError, RecursionError) as error:
            raise bad(path, f"{key} cannot be written as JSON: {error}") from error
    return copied


def type_name(value: Any) -> Any:
    """The name of a type of numbers of torch, TensorFlow or numpy; text, and anything else, as it is."""
    if isinstance(value, type):
        return value.__name__
    name = getattr(value, "name", None)
    if isinstance(name, str):
        return name
    text = str(value)
    return text.removeprefix("torch.") if text.startswith("torch.") and not isinstance(value, str) else value


def _number(value: Any) -> Any:
    """What json asks for things it does not know."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    raise TypeError(f"it holds a {type(value).__name__}")


def content_of(value: Any, wanted: str) -> dict[str, Any]:
    """The keys of a transformers config object, which is known by what it can do; RequestError for anything else."""
    speaks = None if isinstance(value, type) else value
    content: Any = None
    try:
        if callable(getattr(speaks, "to_json_string", None)):
            content = parse_json(value.to_json_string())
        elif callable(getattr(speaks, "to_dict", None)):
            content = value.to_dict()
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"the config holds what JSON cannot: {error}.", hint="Give plain values.") from error
    if not isinstance(content, dict) or "model_type" not in content:  # other objects of transformers lack it
        what = f"the class {value.__name__}" if speaks is not value else f"an object of type {type(value).__name__}"
        hint = f"Give a {wanted}, a dictionary, a config object of transformers, or the path of a folder or file."
        raise RequestError(f"a config was expected, not {what}.", hint=hint)
    for key in ("id2label", "label2id"):  # transformers sorts them, as text: 10 before 2
        own, labels = getattr(value, "__dict__", {}).get(key), content.get(key)
        if isinstance(own, Mapping) and isinstance(labels, dict) and {*map(str, own)} == labels.keys():
            content[key] = {str(each): labels[str(each)] for each in own}
    return content


def keys_of(value: Any, wanted: str) -> Mapping[str, Any]:
    """The keys of a dictionary or of a transformers config object; RequestError for anything else."""
    return value if isinstance(value, Mapping) else content_of(value, wanted)


def config_file(path: str | os.PathLike[str]) -> Path:
    """The config file that a path on this machine means: itself, or the one in that folder."""
    given = os.fsdecode(path)
    for file in (given, *(os.path.join(given, name) for name in CONFIG_FILES if given)):  # noqa: PTH118
        if os.path.isfile(file):  # noqa: PTH113  (a Path raises where a name is too long)
            return Path(file)
    raise MissingPath(f"{given[:200]!r} is no config file here, and no folder with a config.json.",
                      hint="Give a path on this machine.")  # fmt: skip


def json_text(content: Mapping[str, Any]) -> str:
    """JSON for people: indented, ending in a newline, letters as they are."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, which only an escape can spell
        return json.dumps(content, indent=2) + "\n"
    return text


def write_config(file: Path, content: bytes) -> None:
    """Write a config file and its folder, whole or not at all; OutputError when that fails."""
    part = file.parent / f".{file.name}.{os.getpid()}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(file)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        hint = "Give a folder that can be written."
        raise OutputError(f"cannot be written: {error.strerror}.", hint=hint, file=str(file.parent)) from error


class Labels(dict[Any, Any]):
    """`id2label` or `label2id` of a config, made again for each reader; a change in place is one of the config.

    A number may be asked for as text too, which it is in a file. Copies and pickles are plain dictionaries.

    Attributes:
        read: gives those that the config has by now, where it is to hear of changes.
        write: gives the config all of them.
    """

    read: Callable[[], dict[Any, Any]] | None = None
    write: Callable[[dict[Any, Any]], None] | None = None

    def __missing__(self, key: Any) -> Any:
        if isinstance(key, str) and _ID.fullmatch(key) and int(key) in self:
            return self[int(key)]
        raise KeyError(key)

    def get(self, key: Any, default: Any = None) -> Any:
        """As of any dictionary, and numbers as text."""
        try:
            return self[key]
        except KeyError:
            return default

    def _changed(self, change: Callable[[dict[Any, Any]], Any]) -> Any:
        changed = dict(self if self.read is None else self.read())
        result = change(changed)
        if any(isinstance(key, int) for key in self):  # names by their numbers
            changed = {
                int(key) if isinstance(key, str) and _ID.fullmatch(key) else key: changed[key] for key in changed
            }
        if self.write is not None:
            self.write(changed)
        dict.clear(self)
        dict.update(self, changed)
        return result

    def __setitem__(self, key: Any, value: Any) -> None:
        self._changed(lambda labels: labels.__setitem__(key, value))

    def __delitem__(self, key: Any) -> None:
        self._changed(lambda labels: labels.__delitem__(key))

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]
        self.update(other)
        return self

    def update(self, *others: Any, **named: Any) -> None:
        """As of any dictionary; so are the others."""
        self._changed(lambda labels: labels.update(*others, **named))

    def pop(self, *args: Any) -> Any:
        """See `update`."""
        return self._changed(lambda labels: labels.pop(*args))

    def popitem(self) -> tuple[Any, Any]:
        """See `update`."""
        item: tuple[Any, Any] = self._changed(lambda labels: labels.popitem())
        return item

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """See `update`."""
        return self._changed(lambda labels: labels.setdefault(key, default))

    def clear(self) -> None:
        """See `update`."""
        self._changed(lambda labels: labels.clear())

    def __reduce__(self) -> tuple[type[dict[Any, Any]], tuple[dict[Any, Any]]]:
        """See `Labels`."""
        return dict, (dict(self),)


def names_of(raw: Mapping[str, Any], count: int) -> Labels:
    """`id2label` with numbers for keys, which JSON cannot have; LABEL_0 and so on where nothing is named."""
    names = raw.get("id2label")
    if not names:
        return Labels((number, f"LABEL_{number}") for number in range(count))
    return Labels((int(key) if _ID.fullmatch(key) else key, name) for key, name in names.items())


def ids_of(raw: Mapping[str, Any], count: int) -> Labels:
    """`label2id` where it belongs to names, else `names_of` turned round."""
    ids = raw.get("label2id")
    if raw.get("id2label") and ids and isinstance(ids, dict):
        return Labels(ids)
    return Labels((str(name), number) for number, name in names_of(raw, count).items())


def in_step(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The keys with some of them changed, and the rest of those about labels made to agree.

    Names bring their number and the other map; another number, or no names at all, drops both, as in transformers.

    Args:
        raw: the keys as they were.
        changes: new keys and values, as JSON has them.

    Raises:
        RequestError: `id2label` or `label2id` whose ids are not whole numbers.
    """
    changes = {key: value for key, value in changes.items() if key != "num_labels" or value is not None}
    changes |= _named(changes)
    merged = {**raw, **changes}
    names = changes.get("id2label")
    kept = merged.get("id2label")
    is_unnamed = not names and ("id2label" in changes or "label2id" in changes)
    is_recounted = not names and "num_labels" in changes and kept and len(kept) != changes["num_labels"]
    if is_unnamed or is_recounted:
        merged = {key: value for key, value in merged.items() if key not in {"id2label", "label2id"}}
    elif names and "num_labels" in raw and "num_labels" not in changes:
        merged["num_labels"] = len(names)
    return merged


def _named(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Both maps, of which at least one was given; nothing where neither was."""
    names, ids = changes.get("id2label"), changes.get("label2id")
    for key, labels in (("id2label", names), ("label2id", ids)):
        if labels is not None and not isinstance(labels, dict):
            raise bad("", f"{key} is not an object")
    if names:
        _check_ids("id2label", names)
        return {"label2id": ids or {str(name): int(key) for key, name in names.items()}}
    if ids:
        _check_ids("label2id", map(str, ids.values()))
        named: dict[str, str] = {}
        for name, number in ids.items():  # several spellings may share an id: the first one names it
            named.setdefault(str(number), name)
        return {"id2label": named}
    return {}


def _check_ids(key: str, ids: Iterable[str]) -> None:
    wrong = next((number for number in ids if not _ID.fullmatch(number)), None)
    if wrong is not None:
        raise bad("", f"{key} has the id {wrong!r}, not a whole number")
