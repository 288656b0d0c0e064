"""Averages of tensors over the steps of a training, which lie beside them: taken instead where that is wanted."""

from __future__ import annotations

from dataclasses import replace

from bertconv.containers.stored import StoredTensor
from bertconv.errors import RequestError
from bertconv.mapping.identify import Identity


def with_averages(identity: Identity) -> Identity:
    """An identity in which every tensor that has an average beside it is that average.

    Raises:
        RequestError: no tensor of a model has one.
    """
    found = _averaged(identity)
    views = {name: _averaged(one) for name, one in identity.views.items()}
    if all(
        one is other for one, other in ((found, identity), *((views[name], identity.views[name]) for name in views))
    ):
        raise RequestError(
            "there are no averaged weights in it.", hint="Leave --ema out: it then takes the weights themselves."
        )
    return replace(found, views=views)


def _averaged(identity: Identity) -> Identity:
    suffix = identity.dialect.average
    if not suffix:
        return identity
    averages = {one.name.removesuffix(suffix): one for one in identity.unrecognised if one.name.endswith(suffix)}
    raw = {
        id(tensor): tensor
        for found in identity.by_id.values()
        for tensor in found
        if _full(identity, tensor) in averages
    }
    if not raw:
        return identity
    taken = {number: averages[_full(identity, tensor)] for number, tensor in raw.items()}
    used = {id(tensor) for tensor in taken.values()}
    return replace(
        identity,
        by_id={place: tuple(taken.get(id(one), one) for one in found) for place, found in identity.by_id.items()},
        unrecognised=tuple(one for one in identity.unrecognised if id(one) not in used),
        elsewhere=(*identity.elsewhere, *((one, "its average over the training is taken") for one in raw.values())),
    )


def _full(identity: Identity, tensor: StoredTensor) -> str:
    """A name as that of its average begins: without what the dialect puts behind every name."""
    return tensor.name.removesuffix(identity.dialect.suffix)
