"""Files that go along with the weights, and those that stay behind."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

from bertconv.source.place import is_plain
from bertconv.source.weights import is_index, is_weights, some
from bertconv.text import printable

CONFIGS = ("config.json", "bert_config.json")
"""Names of the config, the first that is there counts."""

MANIFEST = "bertconv.json"
"""Name of the manifest in every output."""

_CARRIED = (
    "tokenizer*.json", "tokenizer.model", "vocab.txt", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "*.model", "chat_template.jinja", "generation_config.json", "*label*.json", "*label*.txt",
    "classes.txt", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "LICENSE*",
)  # fmt: skip
_CARRIED_BELOW = ("config.json",)
_MODULE = "[0-9]_*"
"""A folder of a sentence-transformers module, as `1_Pooling`."""


def sort_out(names: Collection[str], used: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Files to carry along and files to leave, both sorted.

    Args:
        names: every file, relative to the checkpoint's folder.
        used: those that are read: weights, index and config.
    """
    carried: list[str] = []
    left: list[str] = []
    # An output that lies in the source, in a folder called like a module, is no part of the source.
    outputs = {name.rpartition("/")[0] for name in names if name.endswith(f"/{MANIFEST}")}
    for name in sorted(set(names) - set(used)):
        *folders, last = name.split("/")
        if (
            outputs.intersection(folders)
            or last.startswith(".")
            or len(folders) > 1
            or not all(fnmatchcase(folder, _MODULE) for folder in folders)
        ):
            continue
        if _is_carried(last, below=bool(folders)):
            carried.append(name)
        else:
            left.append(printable(name))
    return tuple(carried), tuple(left)


def _is_carried(name: str, *, below: bool) -> bool:
    if not is_plain(name) or not name.isprintable() or is_index(name) or is_weights(name):
        return False
    return any(fnmatchcase(name, pattern) for pattern in (_CARRIED_BELOW if below else _CARRIED))


def notes(left: Collection[str]) -> tuple[str, ...]:
    """What is odd about files that stay behind."""
    modules = sorted({name.split("/")[0] for name in left if "/" in name and is_weights(name.rpartition("/")[2])})
    return (f"weights in {some(modules)} are not converted",) if modules else ()
