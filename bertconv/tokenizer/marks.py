"""How a vocabulary marks where words begin: only between vocabularies with the same marks does a text mean the same."""

from __future__ import annotations

import json

from bertconv.tokenizer.facts import Tokenizer

_SPACE = "\u2581"
"""What SentencePiece writes for a space."""
_BYTES = "ByteLevel"
"""The step of tokenizer.json after which signs stand for bytes."""


def marks_of(tokenizer: Tokenizer) -> str:
    """In words how its tokens are marked, such as "pieces of words, continued with ##"; empty where nothing says it."""
    rules = tokenizer.rules or {}
    model = rules.get("model") or {}
    kind = model.get("type")
    if kind == "WordPiece":
        return f"pieces of words, continued with {model.get('continuing_subword_prefix')}"
    steps = json.dumps([rules.get("pre-tokenizer"), rules.get("normaliser")], ensure_ascii=False)
    if _BYTES in steps:
        return "signs for bytes, words beginning with \u0120"
    if "Metaspace" in steps or _SPACE in steps:
        return f"text, words beginning with {_SPACE}"
    return f"tokens of {kind}" if isinstance(kind, str) else ""
