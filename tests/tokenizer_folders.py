"""Checkpoints of one tiny model whose tokenizer and label files differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import checkpoints as cp

WORDS = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "same", "model", "a", "##s", "zürich", "zurich", "日", ".",
)  # fmt: skip
HEAD = "BertForTokenClassification"
LABELS = 3


def folder(
    path: Path, words: Sequence[str] | None = WORDS, files: Mapping[str, Any] | None = None, head: str = HEAD,
    **changes: Any,
) -> Path:  # fmt: skip
    """A checkpoint; its weights depend on sizes alone.

    Args:
        path: of the folder.
        words: lines of vocab.txt; None for no such file.
        files: name -> content, bytes as they are and anything else as JSON.
        head: the class.
        changes: to its config.
    """
    settings = {"vocab_size": 19, "labels": LABELS, **changes}
    cp.save(path, head, cp.state_dict(head, **{k: v for k, v in settings.items() if k in ("vocab_size", "labels")}),
            **settings)  # fmt: skip
    if words is not None:
        (path / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    for name, content in (files or {}).items():
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        (path / name).write_bytes(raw)
    return path


def fast(words: Sequence[str] = WORDS, added: Mapping[str, int] | None = None, **changes: Any) -> dict[str, Any]:
    """A tokenizer.json as transformers writes it; `changes` replace whole parts of it."""
    special = {name: words.index(name) for name in WORDS[:5] if name in words}
    ids = special | (added or {})
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    ends = {name: {"SpecialToken": {"id": name, "type_id": 0}} for name in ("[CLS]", "[SEP]")}
    single = [ends["[CLS]"], {"Sequence": {"id": "A", "type_id": 0}}, ends["[SEP]"]]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": number, "content": name, **flags} for name, number in ids.items()],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": single, "pair": pair,
            "special_tokens": {name: {"id": name, "ids": [special[name]], "tokens": [name]} for name in ends},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {word: number for number, word in enumerate(words)}},
        **changes,
    }  # fmt: skip
