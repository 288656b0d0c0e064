"""Do two sides do the same with what the transformer computes? The files of sentence-transformers say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from bertconv.checkpoint import Checkpoint
from bertconv.source.module_settings import WHOLE, Module, ModuleSettings
from bertconv.source.modules import LISTING
from bertconv.text import printable, some
from bertconv.verify.agreement import NO_MODULES, Agreement, Mismatch, compared, pair


def compare_modules(a: Checkpoint, b: Checkpoint, *, ignored: bool = False) -> Agreement:
    """Classes of the modules in their order, their settings, and those of the whole; weights are tensors as all others.

    A checkpoint without any file of the library is a transformer alone, and no other model for that.
    """
    one, other = a.module_settings, b.module_settings
    if reason := _obstacle(one, other):
        return Agreement(about=reason, ignored=ignored)
    about = "settings" if one.listed is None else f"{len(one.listed)} module{'' if len(one.listed) == 1 else 's'}"
    return compared(tuple(_differences(one, other)), about, ignored=ignored)


def with_equal_modules(a: Checkpoint, b: Checkpoint) -> tuple[Checkpoint, Checkpoint, tuple[str, ...]]:
    """Both sides, without modules where one is a model of another library's and has none; and what is said of it."""
    if a.source.modules is not None and b.source.modules is not None:
        return a, b, ()
    notes = tuple(
        f"{label}: the weights of {some(module.folder for module in side.modules)} were not compared, since {other} "
        "lists no modules"
        for label, other, side in (("A", "B", a), ("B", "A", b))
        if side.modules
    )
    return replace(a, modules=()), replace(b, modules=()), notes


def _obstacle(one: ModuleSettings, other: ModuleSettings) -> str:
    """Why there is nothing to compare; empty where there is."""
    bare = [letter for letter, side in (("A", one), ("B", other)) if not side.there]
    if len(bare) == 1:
        return f"{bare[0]} has no files of sentence-transformers"
    if one.problems and other.problems:
        return f"A's {one.problems[0]}, and B's {other.problems[0]}"
    return NO_MODULES if bare else ""


def _differences(one: ModuleSettings, other: ModuleSettings) -> Iterator[Mismatch]:
    for letter, side in (("A", one), ("B", other)):
        yield from (Mismatch("files", 1, f"in {letter} {problem}") for problem in side.problems)
    if one.problems or other.problems:
        return
    kinds = [_kinds(side.listed) for side in (one, other)]
    if None in kinds:
        if kinds[0] != kinds[1]:
            said = (f"{'is missing' if kind is None else f'lists {kind}'} in {letter}" for kind, letter in
                    zip(kinds, "AB", strict=True))  # fmt: skip
            yield Mismatch(LISTING, 1, f"{LISTING} {' and '.join(said)}")
    elif kinds[0] != kinds[1]:
        yield Mismatch(LISTING, 1, f"the modules are {kinds[0]} in A and {kinds[1]} in B")
    else:
        for module, its in zip(one.listed or (), other.listed or (), strict=True):
            yield from _unequal(module.name, module.settings, its.settings)
    yield from _unequal(WHOLE, one.whole, other.whole)


def _kinds(modules: tuple[Module, ...] | None) -> str | None:
    return None if modules is None else some((printable(module.kind) for module in modules), 40)


def _unequal(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Mismatch]:
    for key in {**one, **other}:
        if one.get(key) != other.get(key):
            yield Mismatch(name, 1, f"{printable(key)} of {name} is {pair(one.get(key), other.get(key))}")
