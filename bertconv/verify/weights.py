"""Two checkpoints tensor by tensor through the table: bit for bit, and where not, which elements, by how much.

Equal tensors are compared and digested piece by piece; only one that differs is read whole.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from bertconv.checkpoint import Checkpoint, Tensor
from bertconv.containers.stored import FLOATS, turn_of
from bertconv.digests import digests
from bertconv.formats import workers
from bertconv.formats.checksum import digest_text, tensor_digest
from bertconv.formats.readback import digest_of
from bertconv.formats.streaming import Workspace, cast, lockstep, not_finite
from bertconv.records import dataclass
from bertconv.text import printable
from bertconv.verify.parity import TensorComparison
from bertconv.verify.places import Array

HISTOGRAMS = 6
"""How many of the tensors that differ get histograms: the worst ones."""

BINS = 48

NOT_FINITE = "numbers are NaN or infinite"
"""What is said of a tensor that holds such numbers."""

START = 1 << 16
"""Bytes from the beginning of a tensor by which candidates for duplicates are found."""


@dataclass(frozen=True)
class _Pair:
    id: str
    a: Tensor
    b: Tensor
    digest: bool


def compare_weights(
    a: Checkpoint, b: Checkpoint, progress: workers.Tick = lambda _: None, *, digest: bool = True
) -> tuple[TensorComparison, ...]:
    """Every tensor of both sides, in the order of the table.

    Args:
        a: the original.
        b: what is held to it, opened as the same class.
        progress: called with the bytes of B that were read.
        digest: also digest the tensors that are equal, which takes longer than comparing them.

    Raises:
        DamagedCheckpoint: a file ends too early or cannot be read.
    """
    here, there = a.everything, b.everything
    pairs = [_Pair(place, here[place], tensor, digest) for place, tensor in there.items() if place in here]
    compared = workers.run(pairs, _compare, progress, lambda pair: turn_of(pair.a.stored, pair.b.stored))
    found = {row.id: row for row, _ in compared}
    starts = {row.id: start for row, start in compared if len(row.shape) > 1}
    for tensors, state in ((here, "only in A"), (there, "only in B")):
        alone = {place: tensor for place, tensor in tensors.items() if place not in found}
        found |= {place: _alone(place, tensor, state) for place, tensor in alone.items()}
    order = {place: number for number, place in enumerate([*here, *there])}
    ordered = sorted(found.values(), key=lambda one: order[one.id])
    return _with_histograms(_with_duplicates(ordered, starts, there), here, there)


def _compare(pair: _Pair, workspace: Workspace, tick: workers.Tick) -> tuple[TensorComparison, bytes]:
    """The comparison, and a digest of B's first bytes."""
    a, b = pair.a.stored, pair.b.stored
    shape = pair.b.spec.canonical.shape
    digest = tensor_digest(b.dtype, shape)
    same = pair.a.spec.canonical.shape == shape
    bad, zero, read, start = 0, True, 0, b""
    expected = (cast(piece, a.dtype, b.dtype) for piece in pair.a.elements(workspace.second))
    for elements, wanted in lockstep(pair.b.elements(workspace), expected) if same else ():
        start = start or hashlib.sha256(elements.view(np.uint8)[:START].data).digest()
        if not np.array_equal(elements, wanted):
            same = False
            break
        if pair.digest:
            digest.update(elements.data)
        bad += not_finite(elements, b.dtype) if b.dtype in FLOATS else 0
        zero = zero and not elements.any()
        tick(elements.nbytes)
        read += elements.nbytes
    if not same:
        row = _difference(pair)
        tick(b.nbytes - read)
        return row, start
    remarks = [] if not bad else [f"{bad} {NOT_FINITE} on both sides"]
    remarks += ["all zero on both sides"] if zero and b.count and _is_weight(pair.id) else []
    state = "equal" if a.dtype == b.dtype else "cast"
    return _row(pair, state, digest=digest_text(digest) if pair.digest else "", remarks=tuple(remarks)), start


def _row(pair: _Pair, state: str, **facts: Any) -> TensorComparison:
    return TensorComparison(
        id=pair.id, a=printable(pair.a.stored.name), b=printable(pair.b.stored.name),
        shape=pair.b.spec.canonical.shape, dtype_a=pair.a.stored.dtype, dtype_b=pair.b.stored.dtype, state=state,
        **facts,
    )  # fmt: skip


def _alone(place: str, tensor: Tensor, state: str) -> TensorComparison:
    name, dtype = printable(tensor.stored.name), tensor.stored.dtype
    in_a = state == "only in A"
    return TensorComparison(
        place, name if in_a else "", "" if in_a else name, tensor.spec.canonical.shape, dtype if in_a else "",
        "" if in_a else dtype, state,
    )  # fmt: skip


def _difference(pair: _Pair) -> TensorComparison:
    """A tensor that differs, read whole: how many elements, by how much, and the first of them."""
    stored, shape = pair.b.stored, pair.b.spec.canonical.shape
    digest = digest_of(stored, pair.b.transpose, shape, Workspace(), lambda _: None)
    if pair.a.spec.canonical.shape != pair.b.spec.canonical.shape:
        remarks = (f"the shape in A is {list(pair.a.spec.canonical.shape)}",)
        return _row(pair, "different", digest=digest, differing=pair.b.stored.count, remarks=remarks)
    dtype = pair.b.stored.dtype
    bits_a, bits_b = (tensor.whole(dtype).reshape(-1) for tensor in (pair.a, pair.b))
    unsigned = f"u{bits_b.itemsize}"
    where = np.flatnonzero(bits_a.view(unsigned) != bits_b.view(unsigned))
    first = np.unravel_index(int(where[0]), pair.b.spec.canonical.shape)
    with np.errstate(invalid="ignore", over="ignore"):  # a NaN may be of the signalling kind
        a, b = bits_a.astype(np.float64), bits_b.astype(np.float64)
        strange = tuple(_remarks(pair.id, a, b))
        gaps = np.abs(a - b)
        finite = gaps[np.isfinite(gaps)]
        largest = float(finite.max()) if finite.size else math.nan
        size = float(np.max(np.abs(a), where=np.isfinite(a), initial=0.0))
    return _row(
        pair,
        "different",
        digest=digest,
        differing=int(where.size),
        max_difference=largest,
        relative=largest / size if size else math.inf if largest else 0.0,
        first=tuple(int(index) for index in first),
        value_a=float(a[where[0]]),
        value_b=float(b[where[0]]),
        remarks=strange,
    )


def _remarks(place: str, a: Array, b: Array) -> Iterable[str]:
    for name, values in (("A", a), ("B", b)):
        if bad := int(values.size - np.isfinite(values).sum()):
            yield f"{bad} numbers in {name} are NaN or infinite"
        if values.size and not values.any() and (name == "B" or _is_weight(place)):
            yield f"all zero in {name}"


def _is_weight(place: str) -> bool:
    """Whether zeros are unusual: biases and normalisation offsets often are all zero."""
    return place.endswith((".weight", ".scale"))


def _with_duplicates(
    rows: list[TensorComparison], starts: Mapping[str, bytes], tensors: Mapping[str, Tensor]
) -> list[TensorComparison]:
    """Matrices of B that hold the same values as an earlier one, named."""
    often = {start for start, count in Counter(starts.values()).items() if count > 1}
    alike = {place: tensors[place] for place, start in starts.items() if start in often}
    known = {row.id: row.digest for row in rows}
    own = {place: known[place] for place in alike if known[place]}
    own |= digests({place: tensor for place, tensor in alike.items() if not known[place]})
    first: dict[str, str] = {}
    found = []
    for row in rows:
        same = first.setdefault(own[row.id], row.id) if row.id in own else row.id
        remarks = (*row.remarks, f"the same values as {same}") if same != row.id else row.remarks
        found.append(replace(row, remarks=remarks))
    return found


def _with_histograms(
    rows: list[TensorComparison], a: Mapping[str, Tensor], b: Mapping[str, Tensor]
) -> tuple[TensorComparison, ...]:
    comparable = [row for row in rows if row.first is not None]
    worst = sorted(comparable, key=lambda row: -(math.inf if math.isnan(row.relative) else row.relative))[:HISTOGRAMS]
    chosen = {row.id: _histogram(a[row.id], b[row.id]) for row in worst}
    return tuple(replace(row, histogram=chosen.get(row.id)) for row in rows)


def _histogram(a: Tensor, b: Tensor) -> dict[str, list[float]] | None:
    values = [tensor.whole("float64").reshape(-1) for tensor in (a, b)]
    finite = [one[np.isfinite(one)] for one in values]
    together = np.concatenate(finite)
    if not together.size:
        return None
    edges = np.histogram_bin_edges(together, BINS)
    counts = map(partial(np.histogram, bins=edges), finite)
    return dict(zip(("edges", "a", "b"), [edges.tolist(), *(count.tolist() for count, _ in counts)], strict=True))
