"""Tensors folded to layers: how many changed in each, and by how much the layer as a whole."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from bertconv.checkpoint import Tensor
from bertconv.formats import workers
from bertconv.manage.difference.elements import norm_of
from bertconv.manage.difference.records import CHANGED, EQUAL, ONLY_A, ONLY_B, Change, LayerDiff, TensorDiff


def layers_of(
    tensors: Sequence[TensorDiff], stored: Mapping[str, Tensor], tell: Callable[[str, int, int], None]
) -> tuple[LayerDiff, ...]:
    """Every layer, in the order of the tensors.

    Where something of a layer changed, what is equal in it is read once more for its size: a change is relative to the
    whole layer.

    Args:
        tensors: of both sides.
        stored: neutral id -> tensor of A.
        tell: called with the step and its bytes.

    Raises:
        DamagedCheckpoint: a file ends too early or cannot be read.
    """
    layers: dict[str, list[TensorDiff]] = {}
    for one in tensors:
        layers.setdefault(one.layer, []).append(one)
    changed = {layer for layer, inside in layers.items() if layer_changed(inside)}
    still = [(one.id, stored[one.id]) for one in tensors if one.state == EQUAL and one.layer in changed]
    total, done = sum(tensor.stored.nbytes for _, tensor in still), 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        tell("norms", done, total)

    norms = dict(workers.run(still, norm_of, tick, lambda job: job[1].stored.turn))
    return tuple(_layer(layer, inside, norms) for layer, inside in layers.items())


def together(changes: Sequence[Change]) -> Change:
    """Changes of several tensors as one."""
    return Change(
        elements=sum(one.elements for one in changes),
        differing=sum(one.differing for one in changes),
        max_difference=max((one.max_difference for one in changes), default=0.0),
        norm_a=math.hypot(*(one.norm_a for one in changes)),
        norm_b=math.hypot(*(one.norm_b for one in changes)),
        norm=math.hypot(*(one.norm for one in changes)),
        not_finite_a=sum(one.not_finite_a for one in changes),
        not_finite_b=sum(one.not_finite_b for one in changes),
    )


def _layer(layer: str, inside: Sequence[TensorDiff], norms: Mapping[str, Change]) -> LayerDiff:
    amounts = Counter(one.state for one in inside)
    changes = [change for one in inside if (change := one.change or norms.get(one.id)) is not None]
    return LayerDiff(
        layer=layer, tensors=len(inside), equal=amounts[EQUAL], changed=amounts[CHANGED], only_a=amounts[ONLY_A],
        only_b=amounts[ONLY_B], change=together(changes) if layer_changed(inside) else None,
    )  # fmt: skip


def layer_changed(inside: Sequence[TensorDiff]) -> bool:
    """Whether something of a layer was measured to have changed."""
    return any(one.change for one in inside if one.state == CHANGED)
