"""Which weight of a BERT each name in a PyTorch file stands for; the mapping tables have no part in it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bertconv.errors import DamagedCheckpoint, MappingError, UnsupportedCheckpoint

_AFFINE, _NORM = r"\.(?:weight|bias)", r"\.LayerNorm\.(?:weight|bias|gamma|beta)"
_NAME = re.compile(
    r"(?P<prefix>(?:.+\.)?)(?:(?P<body>"
    rf"embeddings(?:\.(?:word|position|token_type)_embeddings\.weight|{_NORM})"
    r"|encoder\.layer\.\d+\.(?:"
    rf"(?:cross)?attention\.(?:self\.(?:query|key|value){_AFFINE}|output\.dense{_AFFINE}|output{_NORM})"
    rf"|attention\.self\.distance_embedding\.weight|(?:intermediate|output)\.dense{_AFFINE}|output{_NORM})"
    rf"|pooler\.dense{_AFFINE})"
    rf"|(?P<head>cls\.predictions(?:\.bias|\.transform\.dense{_AFFINE}|\.transform{_NORM}|\.decoder{_AFFINE})"
    rf"|(?:cls\.seq_relationship|classifier|qa_outputs){_AFFINE}))"
)
_ANCHORS = tuple(f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
_OLD_LEAVES = {"gamma": "weight", "beta": "bias"}


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """Which BERT weight each name of a file stands for.

    What stands before the word embeddings is taken off, whatever it is; a head may have all of it in front or only its
    beginning (`module.bert.embeddings...` and `module.classifier...`).

    Args:
        names: of all tensors in the file.

    Returns:
        Name in the file -> PyTorch's name of today, body names with `bert.` in front also for a base model's file.
        Names that are no BERT weight are left out.

    Raises:
        UnsupportedCheckpoint: no BERT is in there.
        MappingError: several are.
        DamagedCheckpoint: two names stand for one weight.
    """
    every = list(names)
    root = _root(every)
    found: dict[str, str] = {}
    for name in every:
        canonical = _canonical(name, root)
        if canonical in found:
            what = f"{found[canonical]} and {name} both stand for {canonical}."
            raise DamagedCheckpoint(what, hint="Remove one of the two from the checkpoint.", tensor=name)
        if canonical is not None:
            found[canonical] = name
    return {name: canonical for canonical, name in found.items()}


def _root(names: list[str]) -> str:
    """What stands before the embeddings; the word embeddings of a tied model may be stored as its decoder only."""
    for anchor in _ANCHORS:
        roots = {name.removesuffix(anchor) for name in names if name == anchor or name.endswith(f".{anchor}")}
        if len(roots) > 1:
            what = f"holds {len(roots)} encoders, under {', '.join(map(repr, sorted(roots)))}."
            raise MappingError(what, hint="Give the names of one of them only.")
        if roots:
            return roots.pop()
    raise UnsupportedCheckpoint(
        f"holds no BERT: none of its {len(names)} tensors is named as BERT's embeddings are.",
        hint=f"Give a checkpoint with PyTorch's names, such as {_ANCHORS[0]}.",
    )


def _canonical(name: str, root: str) -> str | None:
    match = _NAME.fullmatch(name)
    if match is None or not (match["prefix"] == root if match["body"] else root.startswith(match["prefix"])):
        return None
    path, _, leaf = (f"bert.{match['body']}" if match["body"] else match["head"]).rpartition(".")
    return f"{path}.{_OLD_LEAVES.get(leaf, leaf)}"
