"""Which weight each name in a PyTorch file stands for; the mapping tables have no part in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

from bertconv.errors import DamagedCheckpoint, MappingError, UnsupportedCheckpoint
from bertconv.verify.reference.family import LOOKUPS, Family, Norm, family_of

_WEIGHT, _AFFINE, _NORM = (rf"\.(?:{leaves})" for leaves in ("weight", "weight|bias", "weight|bias|gamma|beta"))
_OLD_LEAVES = {"gamma": "weight", "beta": "bias"}


def canonical_names(names: Iterable[str], family: str) -> dict[str, str]:
    """Which weight of a family's model each name of a file stands for.

    What stands before the word embeddings is taken off, whatever it is; a head may have all of it in front or only its
    beginning (`module.bert.embeddings...` and `module.classifier...`).

    Args:
        names: of all tensors in the file.
        family: by the name of its table.

    Returns:
        Name in the file -> PyTorch's name of today, body names with the base prefix in front also for a base model's
        file. Names that are no weight of the family are left out.

    Raises:
        UnsupportedCheckpoint: no such model is in there.
        MappingError: several are.
        DamagedCheckpoint: two names stand for one weight.
    """
    every = list(names)
    own = family_of(family)
    root = _root(every, own, family)
    found: dict[str, str] = {}
    for name in every:
        canonical = _canonical(name, root, family)
        if canonical in found:
            what = f"{found[canonical]} and {name} both stand for {canonical}."
            raise DamagedCheckpoint(what, hint="Remove one of the two from the checkpoint.", tensor=name)
        if canonical is not None:
            found[canonical] = name
    return {name: canonical for canonical, name in found.items()}


def _root(names: list[str], own: Family, family: str) -> str:
    """What stands before the embeddings; the word embeddings of a tied model may be stored as its decoder only."""
    anchors = [f"{own.names[role]}.weight" for role in ("word", "position", "segment") if role in own.names]
    for anchor in anchors:
        roots = {name.removesuffix(anchor) for name in names if name == anchor or name.endswith(f".{anchor}")}
        if len(roots) > 1:
            what = f"holds {len(roots)} encoders, under {', '.join(map(repr, sorted(roots)))}."
            raise MappingError(what, hint="Give the names of one of them only.")
        if roots:
            return roots.pop()
    raise UnsupportedCheckpoint(
        f"holds no {family} model: none of its {len(names)} tensors is named as its embeddings are.",
        hint=f"Give a checkpoint with PyTorch's names, such as {anchors[0]}.",
    )


def _canonical(name: str, root: str, family: str) -> str | None:
    match = _pattern(family).fullmatch(name)
    if match is None or not (match["prefix"] == root if match["body"] else root.startswith(match["prefix"])):
        return None
    base = family_of(family).base
    path, _, leaf = (f"{base}.{match['body']}" if match["body"] else match["head"]).rpartition(".")
    return f"{path}.{_OLD_LEAVES.get(leaf, leaf)}"


@cache
def _pattern(family: str) -> re.Pattern[str]:
    """Every name of the family's files, as long as it can be: `sop_classifier.classifier` is no `classifier`."""
    own = family_of(family)
    names = list(_names(own))
    body = [name.removeprefix(_escaped(f"{own.base}.")) for name in names if name.startswith(_escaped(f"{own.base}."))]
    head = [name for name in names if not name.startswith(_escaped(f"{own.base}."))]
    return re.compile(rf"(?P<prefix>(?:.+?\.)??)(?:(?P<body>{'|'.join(body)})|(?P<head>{'|'.join(head)}))")


def _names(own: Family) -> Iterator[str]:
    """Patterns of the full names of all weights, whatever the config."""
    for role in own.names:
        if role != "layer":
            leaves = _WEIGHT if role in LOOKUPS else _NORM if role.endswith("norm") else _AFFINE
            layer = own.names["layer"] + "." if role.startswith("layer.") else ""
            yield _escaped(f"{own.base}.{layer}{own.names[role]}") + leaves
    modules = [module for head in own.heads({}).values() for module in head.modules()]
    for module in dict.fromkeys(modules):
        yield _escaped(module.name) + (_NORM if isinstance(module, Norm) else _AFFINE)
    yield from (_escaped(original) for original in own.ties.values() if not original.startswith(f"{own.base}."))


def _escaped(name: str) -> str:
    return r"\d+".join(map(re.escape, name.split("{}")))
