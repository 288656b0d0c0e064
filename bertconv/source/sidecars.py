"""Files that go along with the weights, and those that stay behind."""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatchcase

from bertconv.config.content import CONFIG_FILES
from bertconv.source import preset
from bertconv.source.weights import is_index, is_weights
from bertconv.text import is_plain, printable, some

CONFIGS = (preset.CONFIG, *CONFIG_FILES)
"""Names of the config, the first that is there counts."""

MANIFEST = "bertconv.json"
"""Name of the manifest in every output."""

_TOKENIZER = (
    "tokenizer*.json", "tokenizer.model", "vocab.txt", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "*.model", "chat_template.jinja",
)  # fmt: skip
_CARRIED = (
    *_TOKENIZER, "generation_config.json", "*label*.json", "*label*.txt", "classes.txt", "modules.json",
    "sentence_bert_config.json", "config_sentence_transformers.json", "LICENSE*",
)  # fmt: skip
WELL_KNOWN = (
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "spiece.model", "sentencepiece.bpe.model", "spm.model", "tokenizer.model",
    "chat_template.jinja", "generation_config.json", "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "LICENSE", MANIFEST,
)  # fmt: skip
"""Names that such files have most often: those that are looked for where nothing lists a folder."""
_CARRIED_BELOW = ("*.json", "*.txt", "*.model")
_MODULE = re.compile(r"[0-9]+_.+")
"""A folder of a sentence-transformers module, as `1_Pooling`, where no list of modules names it."""


def sort_out(
    names: Collection[str], used: Collection[str], modules: Collection[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Files to carry along and files to leave, both sorted.

    Args:
        names: every file, relative to the checkpoint's folder.
        used: those that are read: weights, index and config.
        modules: folders of modules besides those that are called like one.
    """
    carried: list[str] = []
    left: list[str] = []
    # An output that lies in the source, in a folder called like a module, is no part of the source.
    outputs = {name.rpartition("/")[0] for name in names if name.endswith(f"/{MANIFEST}")}
    for name in sorted(set(names) - set(used)):
        folder, _, last = name.rpartition("/")
        if last.startswith(".") or folder in outputs or not (folder in modules or _is_module(folder)):
            continue
        if _is_carried(last, below=bool(folder)):
            carried.append(name)
        else:
            left.append(printable(name))
    return tuple(carried), tuple(left)


def is_of_tokenizer(name: str) -> bool:
    """Whether a file that lies beside a config belongs to the tokenizer."""
    return _fits(name, _TOKENIZER)


def _is_carried(name: str, *, below: bool) -> bool:
    return _fits(name, _CARRIED_BELOW if below else _CARRIED)


def _fits(name: str, patterns: Collection[str]) -> bool:
    if not is_plain(name) or not name.isprintable() or is_index(name) or is_weights(name):
        return False
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_module(folder: str) -> bool:
    return not folder or ("/" not in folder and _MODULE.fullmatch(folder) is not None)


def notes(left: Collection[str], weights: Collection[str] = ()) -> tuple[str, ...]:
    """What is unusual about files that stay behind, where `weights` are the files of weights of modules that do not."""
    without = [name for name in left if "/" in name and is_weights(name.rpartition("/")[2])]
    modules = sorted({name.rpartition("/")[0] for name in without} - {name.rpartition("/")[0] for name in weights})
    return (f"weights in {some(modules)} are not converted",) if modules else ()
