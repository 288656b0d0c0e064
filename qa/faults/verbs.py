"""Scenes of the verbs beside conversions: each writes its folder, some of several inputs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import numpy as np

from qa.faults.scenes import BESIDE, DST, SHARDS, SRC, Kind, make_source

COMMIT = "a" * 40
RANK = 3


def _nothing(source: Path, beside: Path) -> None:
    """One input is enough."""


def _sibling(_: Path, beside: Path) -> None:
    """Another model of the same class and sizes."""
    if not beside.exists():
        make_source(beside, "h5", 3)


def _tokenizer(_: Path, beside: Path) -> None:
    """More tokens than the model has rows, its own ones at other places."""
    beside.mkdir(exist_ok=True)
    words = ["[PAD]", "fresh", "[UNK]", *(f"w{number}" for number in range(cp.SIZES["vocab_size"]))]
    (beside / "vocab.txt").write_text("".join(f"{word}\n" for word in words))


def _adapter(_: Path, beside: Path) -> None:
    """LoRA of the queries, as peft saves it."""
    beside.mkdir(exist_ok=True)
    module, size = "base_model.model.bert.encoder.layer.0.attention.self.query", cp.SIZES["hidden_size"]
    factors = {
        f"{module}.lora_A.weight": np.full((RANK, size), 0.5, np.float32),
        f"{module}.lora_B.weight": np.full((size, RANK), 0.25, np.float32),
    }
    (beside / "adapter_model.safetensors").write_bytes(cp.safetensors_bytes(factors))
    settings = {"peft_type": "LORA", "task_type": "TOKEN_CLS", "r": RANK, "lora_alpha": 6, "target_modules": ["query"]}
    (beside / "adapter_config.json").write_text(json.dumps(settings))


def _cache(source: Path, _: Path) -> None:
    """The source becomes a cache of the Hub that holds it as a repository."""
    plain = source.rename(source.with_name(f"{source.name}-plain"))
    repository = source / "models--org--model"
    for name in ("refs", "blobs"):
        (repository / name).mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for path in filter(Path.is_file, plain.rglob("*")):
        blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copyfile(path, blob)
        link = repository / "snapshots" / COMMIT / path.relative_to(plain)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    shutil.rmtree(plain)


def _kind(
    name: str, container: str, *words: str, make: Callable[[Path, Path], None] = _nothing, exchange: bool = True
) -> Kind:
    return Kind(name, container, words, exchange, make)


VERBS = (
    _kind("shard", "safetensors", "shard", "--max-size", SHARDS[1]),
    _kind("unshard", "sharded", "unshard"),
    _kind("cast", "h5", "cast", "--dtype", "bfloat16", "--keep", "norm"),
    _kind("extract", "h5", "extract", "--class", "BertModel"),
    _kind("extract-head", "safetensors", "extract", "--part", "head"),
    _kind("attach", "safetensors", "attach", SRC, BESIDE, "-o", DST, "--force", make=_sibling),
    _kind("layers", "tf-safetensors", "layers", "--keep", "0,0", *SHARDS),
    _kind("resize", "safetensors", "resize", "--tokenizer", BESIDE, "--new", "normal", make=_tokenizer),
    _kind("average", "safetensors", "average", SRC, BESIDE, "-o", DST, make=_sibling),
    _kind("merge", "h5", "merge", "--method", "ties", "--base", BESIDE, SRC, SRC, "-o", DST, *SHARDS, make=_sibling),
    _kind("merge-adapter", "safetensors", "merge-adapter", SRC, BESIDE, "-o", DST, make=_adapter, exchange=False),
    _kind("pull", "sharded", "pull", "org/model", DST, "--cache-dir", SRC, "--local-files-only", make=_cache),
)
"""Every verb that writes a folder; what reads its source byte by byte is tried with conversions of every format."""
