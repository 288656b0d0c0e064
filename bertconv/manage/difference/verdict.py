"""What a diff comes to, in a sentence of plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bertconv.text import brief, listed, some
from bertconv.verify.classes import CLASS

if TYPE_CHECKING:
    from bertconv.manage.difference.records import Diff, LayerDiff, Rows, TensorDiff

_KEYS = 6
"""Keys of a config that are named."""


def verdict(diff: Diff) -> str:
    """One line: equal, or what differs, where, and how."""
    said = list(_said(diff))
    if diff.equal:
        total = len(diff.tensors)
        said.insert(0, f"Equal: {total} of {total} tensors, bit for bit")
    text = "; ".join(said) or "Equal"
    return f"{text[:1].upper()}{text[1:]}."


def _said(diff: Diff) -> Iterator[str]:
    if not diff.equal:
        yield from _of_weights(diff)
    if keys := [one.key for one in diff.config if one.key != CLASS]:
        yield f"the configs differ in {some(keys, _KEYS)}"
    for one in diff.config:
        if one.key == CLASS:
            yield f"A is a {one.a} and B a {one.b} by their configs"
    for name, aspect in diff.aspects.items():
        if aspect.differences and aspect.ok:
            yield f"differences in the {name} were ignored"
        elif aspect.differences:
            yield f"the {name} differ{'s' if name == 'tokenizer' else ''}: {aspect.differences[0].sentence}"
    if diff.omitted:
        yield f"not compared, but a part of the model: {brief(diff.omitted)}"
    if diff.against:
        yield diff.against.verdict


def _of_weights(diff: Diff) -> Iterator[str]:
    both = [one for one in diff.tensors if one.a and one.b]
    changed = [one for one in both if one.state == "changed"]
    if not changed:
        yield f"{len(both)} of {len(both)} tensors are equal, bit for bit"
    else:
        yield f"{len(changed)} of {len(both)} tensors changed{_where(diff, changed)}"
        yield from _alike(changed)
        equal = [one.layer for one in diff.layers if one.equal == one.tensors]
        if equal and changed:
            yield f"{brief(equal)} {'is' if len(equal) == 1 and _is_one(equal[0]) else 'are'} equal"
    for state in ("only in A", "only in B"):
        if alone := [one for one in diff.tensors if one.state == state]:
            layers = brief(dict.fromkeys(one.layer for one in alone))
            yield f"{_count(len(alone), 'tensor')} {state} ({layers})"
    for one in changed:
        if one.rows is not None and len(one.shape_b or ()) > 1 and (words := list(row_words(one.rows))):
            yield f"{one.id}: {', '.join(words)}"
    changes = [one.change for one in changed if one.change]
    for side, amount in (
        ("A", sum(one.not_finite_a for one in changes)),
        ("B", sum(one.not_finite_b for one in changes)),
    ):
        if amount:
            verb = "is" if amount == 1 else "are"
            yield f"{_count(amount, 'number')} of the changed tensors in {side} {verb} NaN or infinite"


def row_words(rows: Rows) -> Iterator[str]:
    """`12 of 30,522 rows changed (a, b)`, `3 tokens new (x)`; nothing where all rows changed and none moved."""
    noun = "token" if rows.by == "token" else "row"
    both = rows.kept + rows.moved
    if 0 < rows.changed < both:
        yield f"{rows.changed:,} of {_count(both, 'row')} changed{_some(rows, 'changed', rows.changed)}"
    for kind, amount in (("moved", rows.moved), ("new", rows.new), ("dropped", rows.dropped)):
        if amount:
            yield f"{_count(amount, noun)} {kind}{_some(rows, kind, amount)}"


def _some(rows: Rows, kind: str, amount: int) -> str:
    names = rows.names.get(kind, ())[:3]
    return f" ({', '.join(names)}{', ...' if amount > len(names) else ''})" if names else ""


def _where(diff: Diff, changed: Sequence[TensorDiff]) -> str:
    """Which layer changed most, where one stands out; where all that changed is in one, that one."""
    layers = list(dict.fromkeys(one.layer for one in changed))
    if len(layers) == 1:
        return f", all in {layers[0]}"
    found = sorted((layer for layer in diff.layers if layer.change), key=_relative, reverse=True)
    if len(found) > 1 and _relative(found[0]) > 0 and all(not one.rounded for one in changed):
        return f", most in {found[0].layer} (by {_relative(found[0]):.2g} of its size)"
    return ""


def _relative(layer: LayerDiff) -> float:
    return layer.change.relative if layer.change else 0.0


def _alike(changed: Sequence[TensorDiff]) -> Iterator[str]:
    """Whether one side is the other one rounded, in all that changed."""
    kinds = {(one.rounded, one.rounded_to) for one in changed}
    types = {(one.dtype_a, one.dtype_b) for one in changed if one.dtype_a != one.dtype_b}
    if all(one.same_values for one in changed):
        said = listed((f"{a} in A and {b} in B" for a, b in sorted(types)), "and")
        yield f"the values are the same, as {said}"
    elif len(kinds) == 1 and all(one.rounded for one in changed):
        side, short = kinds.pop()
        yield f"{side} is {'A' if side == 'B' else 'B'} rounded to {short}"
    elif types:
        yield f"types differ: {listed((f'{a} in A and {b} in B' for a, b in sorted(types)), 'and')}"


def _is_one(layer: str) -> bool:
    return not layer.endswith("s")


def _count(amount: int, noun: str) -> str:
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"
