"""Manifests that say something else."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def forged(raw: bytes, **changes: Any) -> bytes:
    """A manifest with other fields and its own checksum made anew, as anybody can."""
    facts = {**json.loads(raw), **changes, "manifest_sha256": ""}
    made = (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode()
    return made.replace(
        b'"manifest_sha256": ""', b'"manifest_sha256": "%s"' % hashlib.sha256(made).hexdigest().encode()
    )
