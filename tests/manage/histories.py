"""Folders with manifests of format 3, made by hand: what the history is read from, also where it is not true."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import checkpoints as cp

from bertconv import model_digest
from bertconv.formats.destination import MANIFEST
from bertconv.record import manifest_digest

HEAD = "BertForMaskedLM"
TINY = {"hidden_size": 6, "num_attention_heads": 2, "intermediate_size": 7, "vocab_size": 13, "num_hidden_layers": 1}


def digest(name: str) -> str:
    """A digest that no weights have."""
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def parent(given: str, of: str = "", role: str = "source", commit: str | None = None) -> dict[str, Any]:
    return {"role": role, "given": given, "commit": commit, "digest": of, "backbone_digest": ""}


def manifest(of: str, *parents: dict[str, Any], verb: str = "average", **changes: Any) -> dict[str, Any]:
    """A manifest of a model with this digest; a key that is changed to `...` is left out."""
    content = {
        "format": 3, "bertconv": "0.1.0", "source": {"given": "x", "revision": None, "container": "safetensors"},
        "head": HEAD, "table": {}, "verified": "weights", "parity": {}, "digest": of, "notes": [], "left_out": [],
        "operation": {"verb": verb, "options": {}}, "parents": list(parents), "backbone_digest": "", "vocabulary": None,
        "tensors": {}, "files": {}, **changes,
    }  # fmt: skip
    return {key: value for key, value in content.items() if value is not ...}


def raw(content: dict[str, Any]) -> bytes:
    """This manifest with its right digest."""
    empty = (json.dumps({**content, "manifest_sha256": ""}, indent=1) + "\n").encode()
    own = manifest_digest(empty).encode()
    return empty.replace(b'"manifest_sha256": ""', b'"manifest_sha256": "%s"' % own)


def write(folder: Path, content: dict[str, Any]) -> Path:
    """A folder with this manifest and its right digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_bytes(raw(content))
    return folder


def weights(folder: Path, seed: int, head: str = HEAD) -> str:
    """A model without a manifest; its digest."""
    cp.save(folder, head, cp.state_dict(head, seed=seed, **TINY), **TINY)
    return model_digest(folder).digest


def model(folder: Path, seed: int, *parents: dict[str, Any], **changes: Any) -> str:
    """A model with a manifest that tells the truth; its digest."""
    found = weights(folder, seed)
    write(folder, manifest(found, *parents, **changes))
    return found
