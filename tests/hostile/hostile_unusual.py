"""Checkpoint folders that are unusual and sound: they convert, and what is unusual about them leads to nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostile_configs import keys, text
from hostile_folders import (
    INDEX,
    WEIGHT_MAP,
    WEIGHTS,
    Change,
    Folder,
    bound,
    directory,
    fifo,
    link,
    payload,
    put,
)  # fmt: skip
from hostile_links import cached

from bertconv.errors import BertconvError


@dataclass(frozen=True)
class Oddity:
    """A folder, and what becomes of what is unusual.

    Attributes:
        change: makes a sound folder an unusual one.
        note: part of what the report says about it; empty where nothing is.
        config: keys of the config that the output has.
        carried: files that go along.
        unread: files of the folder that are not to be opened.
        shards: whether the weights are three shards with an index.
        inspected: `inspect` says the same note.
    """

    change: Change
    note: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    carried: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    shards: bool = False
    inspected: bool = False

    def write(self, root: Path) -> Path:
        """As that of a case."""
        return Folder(self.change, BertconvError, "", shards=self.shards).write(root)


def live(name: str) -> Change:
    """A pickle that runs code, under a name that somebody loads."""
    return lambda folder: put(name, payload(folder.parent / "canary"))(folder)


FILES = {
    "tokenizer that is a directory": Oddity(directory("tokenizer.json")),
    "folder that leads to itself": Oddity(link("1_Pooling", ".")),
    "folder that leads upwards": Oddity(link("checkpoint-1", "..")),
    "old layout beside the weights": Oddity(link("0_Transformer", "../secret")),
    "link as the Hub cache has them": Oddity(cached(WEIGHTS, lambda *_: None)),
    "FIFO that nobody needs": Oddity(fifo("README.md")),
    "socket that nobody needs": Oddity(bound("x.json")),
    "link that nobody needs": Oddity(link("README.md", "../secret/tokenizer.json")),
    "code of its own": Oddity(put("modeling_bert.py", b"raise SystemExit"), unread=("modeling_bert.py",)),
    "pickle of training": Oddity(live("training_args.bin"), unread=("training_args.bin",)),
    "pickle of an optimizer": Oddity(live("optimizer.pt"), unread=("optimizer.pt",)),
    "pickle beside the weights": Oddity(live("pytorch_model.bin"), "is there too", unread=("pytorch_model.bin",)),
    "newline in a name": Oddity(put("tokenizer\n.json", b"{}")),
    "name that clears the screen": Oddity(put("tokenizer\x1b[2J.json", b"{}")),
    "name with a backslash": Oddity(put("tokenizer\\..json", b"{}")),
    "name with a colon": Oddity(put("tokenizer:x.json", b"{}")),
    "name that is not UTF-8": Oddity(
        lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/tokenizer\xff.json")).write_bytes(b"{}")
    ),
    "tokenizer beside others": Oddity(put("tokenizer.json", b"{}"), carried=("tokenizer.json",)),
    "tokenizer with a letter of two bytes": Oddity(put("tokenizer-\xe9.json"), carried=("tokenizer-\xe9.json",)),
}


def total(size: object) -> Change:
    return put(INDEX, text({"metadata": {"total_size": size}, "weight_map": WEIGHT_MAP}))


def kept(note: str = "", **changes: Any) -> Oddity:
    """Keys that the output's config has as they were."""
    return Oddity(keys(**changes), note, changes)


def named(architectures: object) -> Oddity:
    return Oddity(keys(architectures=architectures), config={"architectures": ["BertModel"]})


_RUNS = "asks for code to be run: kept, never acted on"

CONTENTS = {
    **{f"total_size {size!r}": Oddity(total(size), shards=True) for size in (-1, 10**30, "os.system", [], None)},
    "index without metadata": Oddity(put(INDEX, text({"weight_map": WEIGHT_MAP})), shards=True),
    "index with keys of others": Oddity(
        put(INDEX, text({"weight_map": WEIGHT_MAP, "auto_map": "x", "__class__": {}})), shards=True
    ),
    "auto_map": kept(_RUNS, auto_map={"AutoModel": "modeling_bert.Model", "AutoConfig": "evil/repo--x.Y"}),
    "trust_remote_code": kept(_RUNS, trust_remote_code=True),
    "custom_pipelines": kept(_RUNS, custom_pipelines={"x": {"impl": "x.Y"}}),
    "attention of elsewhere": kept(_RUNS, _attn_implementation="evil/repo:run"),
    "attention of elsewhere, internal": kept(_RUNS, _attn_implementation_internal="evil/repo:run"),
    "name of elsewhere": kept(_name_or_path="../secret", tokenizer_class="os.system"),
    "torch_dtype that is code": kept(torch_dtype="__import__('os')"),
    "torch_dtype that is a list": kept(torch_dtype=[{}]),
    "30,000 labels": kept(id2label={str(number): f"l{number}" for number in range(30_000)}),
    "labels without numbers": kept(id2label={"../x": "a", "1e3": "b", "-1": ["c"], "": None}),
    "label2id of another kind": kept(label2id=[1, "x"]),
    "2^31 - 1 labels": kept(num_labels=2**31 - 1),
    "architectures that is text": named("os.system"),
    "architectures of another": named(["GPT2LMHeadModel"]),
    "architectures with a path": named(["../../etc/passwd", "\x1b[2J", 7, None, {}]),
    "fewer words than there are": Oddity(keys(vocab_size=100), "vocab_size is 101", {"vocab_size": 101}),
    "more words than there are": Oddity(keys(vocab_size=2**31 - 1), "vocab_size is 101", {"vocab_size": 101}),
    "transformers_weights that is a number": kept(transformers_weights=7),
    "transformers_weights that is a list": kept(transformers_weights=[f"../secret/{WEIGHTS}"]),
}

CASES: dict[str, Oddity] = {
    **{f"files: {name}": case for name, case in FILES.items()},
    **{f"content: {name}": case for name, case in CONTENTS.items()},
}
