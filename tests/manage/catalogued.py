"""Trees of outputs for the catalogue, made by hand, and what counts how often the catalogue reads and asks."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from histories import digest, manifest, parent, raw, write

from bertconv.catalog import catalog, trees
from bertconv.catalog.store import Row, Step, Store
from bertconv.formats.destination import MANIFEST

CLASSIFIER = "BertForSequenceClassification"
COMMIT = "86b5e0934494bd15c9632b12f734a8a67f723594"


def settle(*roots: Path, seconds: int = 60) -> None:
    """Make manifests older than they are: a young one is read again in any case."""
    for path in (path for root in roots for path in root.rglob(MANIFEST)):
        found = path.stat()
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - seconds * 10**9))


def classifier(folder: Path, of: str, labels: Any, *parents: dict[str, Any], **changes: Any) -> Path:
    """An output with a config that its manifest vouches for."""
    folder.mkdir(parents=True)
    content = json.dumps({"model_type": "bert", "id2label": labels}).encode()
    (folder / "config.json").write_bytes(content)
    files = {"config.json": {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
    return write(folder, manifest(of, *parents, **{"head": CLASSIFIER, "files": files, **changes}))


def family_tree(root: Path) -> Path:
    """base -> (tuned, other); tuned -> mail, a classifier, twice; a head alone; one that nothing was verified of."""
    base, tuned, other, mail = (digest(name) for name in ("base", "tuned", "other", "mail"))
    body = digest("body")
    target = {"format": "tf", "files": []}
    first = parent("google-bert/bert-base-uncased", base, commit=COMMIT)
    write(root / "base", manifest(base, verb="convert", backbone_digest=body, target=target))
    write(root / "tuned", manifest(tuned, first, verb="train", backbone_digest=digest("tuned body")))
    write(root / "deep" / "er" / "other", manifest(other, first, head="XLMRobertaForMaskedLM", backbone_digest=body))
    classifier(root / "mail", mail, {"0": "ham", "1": "spam"}, parent("tuned", tuned), verb="attach")
    classifier(root / "mail-tf", mail, {"0": "spam", "1": "ham"}, parent("mail", mail), target=target)
    classifier(root / "news", digest("news"), {"0": "ham", "1": "spam", "2": "eggs"}, parent("mail", mail))
    write(root / "unverified", manifest("", parent("base", ""), verified="none", head="RobertaModel"))
    write(root / "head", manifest(digest("head"), part="head"))
    settle(root)
    return root


def forged(path: Path) -> None:
    content = raw(manifest(digest("a")))
    path.write_bytes(content.replace(digest("a").encode(), digest("b").encode()))


class Counted:
    """A store that counts what it is asked."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.queries: list[str] = []
        self.steps: list[tuple[str, int]] = []
        self.transactions = 0

    def query(self, statement: str, values: Row) -> list[tuple[Any, ...]]:
        self.queries.append(statement)
        return self.store.query(statement, values)

    def write(self, steps: Iterable[Step]) -> None:
        steps = list(steps)
        self.transactions += 1
        self.steps += [(statement, len(rows)) for statement, rows in steps]
        self.store.write(steps)

    def close(self) -> None:
        self.store.close()


def counted(monkeypatch: Any) -> tuple[list[Counted], list[str]]:
    """The stores that catalogues open from now on, and the places whose manifests are read."""
    stores: list[Counted] = []
    read: list[str] = []
    plain_open, plain_manifest = catalog.open_store, trees.LocalTree.manifest

    def open_store(database: Any) -> Counted:
        stores.append(Counted(plain_open(database)))
        return stores[-1]

    def read_manifest(tree: trees.LocalTree, seen: trees.Seen) -> bytes:
        read.append(seen.place)
        return plain_manifest(tree, seen)

    monkeypatch.setattr(catalog, "open_store", open_store)
    monkeypatch.setattr(trees.LocalTree, "manifest", read_manifest)
    return stores, read
