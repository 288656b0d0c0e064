"""Known mistakes that turn A's tensors into B's: found from the values themselves, exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from bertconv.checkpoint import Tensor
from bertconv.digests import digests
from bertconv.mapping.indices import TensorId
from bertconv.verify.parity import Cause, TensorComparison
from bertconv.verify.places import Array

_LOOKUPS = ("embeddings.", "relative.")
"""How ids of tables of rows begin."""
_WORDS = {"position": "positions", "segment": "token types", "word": "words"}


def weight_causes(
    rows: Sequence[TensorComparison], a: Mapping[str, Tensor], b: Mapping[str, Tensor], heads: int
) -> list[Cause]:
    """What explains the tensors that differ, the mistakes that explain most first.

    Args:
        rows: the comparison of every tensor.
        a: A's tensors by neutral id.
        b: B's.
        heads: number of attention heads.
    """
    wrong = [row for row in rows if row.state == "different" and row.first is not None]
    wrong += [row for row in rows if row.state == "different" and row.first is None]
    if not wrong:
        return []
    moved = _moved(wrong, digests(a))
    causes = list(_of_moves(moved))
    single: dict[str, list[str]] = defaultdict(list)
    for row in wrong:
        if row.id not in moved and row.first is not None:
            with np.errstate(invalid="ignore"):  # a NaN may be of the signalling kind
                name = _single_cause(a[row.id].whole(row.dtype_b), b[row.id].whole(), row, heads)
            if name is not None:
                single[name].append(row.id)
    causes += [Cause(name, tuple(ids), _sentence(name, ids)) for name, ids in single.items()]
    return sorted(causes, key=lambda cause: -len(cause.places))


def _moved(wrong: Sequence[TensorComparison], own: Mapping[str, str]) -> dict[str, str]:
    """Tensor of B -> the other tensor of A whose values it holds, of the same role where there are several."""
    by_digest: dict[str, list[str]] = defaultdict(list)
    for place, digest in own.items():
        by_digest[digest].append(place)
    found = {}
    for row in wrong:
        candidates = [place for place in by_digest.get(row.digest, ()) if place != row.id]
        if candidates and "all zero in B" not in row.remarks:  # a dropped bias equals every bias that is zero
            found[row.id] = min(
                candidates, key=lambda place: (place.rpartition(".")[2] != row.id.rpartition(".")[2], place)
            )
    return found


def _of_moves(moved: Mapping[str, str]) -> Iterator[Cause]:
    """Mistakes that put whole tensors in wrong places."""
    parts = {here: (TensorId.parse(here), TensorId.parse(there)) for here, there in moved.items()}
    layers: dict[tuple[str, str], list[str]] = defaultdict(list)
    modules: dict[tuple[str, str], list[str]] = defaultdict(list)
    others = []
    for here, (one, other) in parts.items():
        alike = one.group == other.group and one.indices and other.indices
        if alike and one.indices != other.indices and one[2:] == other[2:]:
            layers[_number(one), _number(other)].append(here)
        elif alike and one.indices == other.indices and one.role == other.role:
            modules[one.module, other.module].append(here)
        else:
            others.append(here)
    yield from _pairs(layers, _swapped_layers, _copied_layer)
    yield from _pairs(modules, _swapped_modules, _copied_module)
    for here in others:
        yield Cause("values of another tensor", (here,), f"{here} of B holds the values of {moved[here]}.")


Words = Callable[[str, str, str], tuple[str, str]]
"""From the names of two layers or modules and the layers concerned to the cause's name and sentence."""


def _pairs(found: Mapping[tuple[str, str], list[str]], swapped: Words, copied: Words) -> Iterator[Cause]:
    for (here, there), ids in found.items():
        numbers = list(dict.fromkeys(map(_number, sorted(map(TensorId.parse, ids)))))
        where = f"layer{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
        back = found.get((there, here))
        if back is None:
            name, sentence = copied(here, there, where)
            yield Cause(name, tuple(ids), sentence)
        elif _first(here, there):
            name, sentence = swapped(here, there, where)
            yield Cause(name, (*ids, *back), sentence)


_ORDER = ("query", "key", "value", "attention_out", "cross_query", "cross_key", "cross_value", "ffn_in", "ffn_out")


def _number(one: TensorId) -> str:
    return ".".join(map(str, one.indices))


def _first(here: str, there: str) -> bool:
    """Whether this one of two layers, by number, or of two modules is named first."""
    if here[0].isdecimal():
        return [int(part) for part in here.split(".")] < [int(part) for part in there.split(".")]
    order = {name: number for number, name in enumerate(_ORDER)}
    return (order.get(here, 99), here) < (order.get(there, 99), there)


def _swapped_layers(here: str, there: str, where: str) -> tuple[str, str]:
    return "layers swapped", f"layers {here} and {there} have changed places."


def _copied_layer(here: str, there: str, where: str) -> tuple[str, str]:
    return "layer duplicated", f"layer {here} of B holds the values of layer {there}."


def _swapped_modules(here: str, there: str, where: str) -> tuple[str, str]:
    return f"{here} and {there} swapped", f"{here} and {there} have changed places in {where}."


def _copied_module(here: str, there: str, where: str) -> tuple[str, str]:
    return "values of another tensor", f"{here} of B holds the values of {there} in {where}."


def _single_cause(a: Array, b: Array, row: TensorComparison, heads: int) -> str | None:
    """The name of the mistake that makes one tensor of B from the same of A."""
    for name, holds in _SINGLE.items():
        if holds(a, b, row, heads):
            return name
    return None


def _same(a: Array, b: Array) -> bool:
    bits = f"u{a.itemsize}"
    return a.shape == b.shape and np.array_equal(np.ascontiguousarray(a).view(bits), np.ascontiguousarray(b).view(bits))


def _is_not_finite(a: Array, b: Array, row: TensorComparison, heads: int) -> bool:
    return bool(np.isfinite(a.astype(np.float64)).all() and not np.isfinite(b.astype(np.float64)).all())


def _is_one_bit(a: Array, b: Array, row: TensorComparison, heads: int) -> bool:
    bits = f"u{a.itemsize}"
    where = row.first or ()
    changed = int(np.asarray(a[where]).view(bits) ^ np.asarray(b[where]).view(bits))
    return row.differing == 1 and changed.bit_count() == 1


def _is_dropped(a: Array, b: Array, row: TensorComparison, heads: int) -> bool:
    return not b.any()


def _is_transposed(a: Array, b: Array, row: TensorComparison, heads: int) -> bool:
    return a.ndim == 2 and a.shape[0] == a.shape[1] and _same(a.T, b)


def _is_rounded(dtype: Any) -> Callable[[Array, Array, TensorComparison, int], bool]:
    def holds(a: Array, b: Array, row: TensorComparison, heads: int) -> bool:
        with np.errstate(over="ignore"):
            return a.dtype != dtype and _same(a.astype(dtype).astype(a.dtype), b)

    return holds


def _is_shifted(a: Array, b: Array, row: TensorComparison, heads: int) -> bool:
    """Rows moved by one or two: as where a padding row is counted."""
    return row.id.startswith(_LOOKUPS) and any(
        _same(a[by:], b[:-by]) or _same(a[:-by], b[by:]) for by in (1, 2) if a.ndim == 2 and len(a) > by + 1
    )


def _is_permuted(a: Array, b: Array, row: TensorComparison, heads: int) -> bool:
    """The same rows in another order, of an embedding."""
    if not row.id.startswith(_LOOKUPS) or a.ndim != 2:
        return False
    return sorted(one.tobytes() for one in a) == sorted(one.tobytes() for one in b)


def _is_interleaved(a: Array, b: Array, row: TensorComparison, heads: int) -> bool:
    """Attention heads in the inner instead of the outer part of an axis."""
    if a.ndim != 2 or a.shape[0] % heads or ("query" not in row.id and "key" not in row.id and "value" not in row.id):
        return False
    width = a.shape[0] // heads
    turned = a.reshape(heads, width, -1).swapaxes(0, 1).reshape(a.shape)
    back = a.reshape(width, heads, -1).swapaxes(0, 1).reshape(a.shape)
    return _same(turned, b) or _same(back, b)


def _is_scaled(a: Array, b: Array, row: TensorComparison, heads: int) -> bool:
    """Every element times one factor, up to rounding; a factor of one but for rounding is none."""
    one, other = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
    pivot = int(np.argmax(np.abs(one))) if one.size else 0
    if one.size < 4 or one[pivot] == 0 or other[pivot] == 0 or not np.isfinite([one, other]).all():
        return False
    kind = ml_dtypes.finfo(a.dtype)  # type: ignore[no-untyped-call]
    factor = other[pivot] / one[pivot]
    close = np.allclose(other, factor * one, rtol=2 * float(kind.eps), atol=2 * float(kind.smallest_subnormal))
    return bool(close and abs(factor - 1) > 4 * float(kind.eps))


_SINGLE: dict[str, Callable[[Array, Array, TensorComparison, int], bool]] = {
    "not finite": _is_not_finite,
    "one bit flipped": _is_one_bit,
    "all zero": _is_dropped,
    "transposed kernel": _is_transposed,
    "rounded to bfloat16": _is_rounded(ml_dtypes.bfloat16),
    "rounded to float16": _is_rounded(np.float16),
    "rows shifted": _is_shifted,
    "rows in another order": _is_permuted,
    "heads interleaved": _is_interleaved,
    "scaled": _is_scaled,
}


def _sentence(name: str, ids: Sequence[str]) -> str:
    some = ", ".join(ids[:4]) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
    words = _WORDS.get(TensorId.parse(ids[0]).module, "rows")
    one = len(ids) == 1
    holds, is_, was, stands = ("holds", "is", "was", "it was") if one else ("hold", "are", "were", "they were")
    return {
        "not finite": f"{some} of B {holds} NaN or infinite numbers.",
        "one bit flipped": f"one bit differs in {some}: the file was damaged.",
        "all zero": f"{some} of B {holds} nothing but zeros: {stands} dropped.",
        "transposed kernel": f"{some} of B {is_} transposed.",
        "rounded to bfloat16": f"{some} of B {was} rounded to bfloat16 and stored as another type.",
        "rounded to float16": f"{some} of B {was} rounded to float16 and stored as another type.",
        "rows shifted": f"the {words} of B are shifted: {some}.",
        "rows in another order": f"the {words} of B are in another order: {some}.",
        "heads interleaved": f"the attention heads of B are interleaved in {some}.",
        "scaled": f"{some} of B {is_} A's times a constant.",
    }[name]
