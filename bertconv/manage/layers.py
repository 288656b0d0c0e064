"""keep_layers(): a smaller model of some of a model's layers, from which to train a student."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, Unpack

from bertconv.checkpoint import Opened, opened
from bertconv.convert import planned
from bertconv.derive import Parent, write_output
from bertconv.errors import RequestError, UnsupportedCheckpoint
from bertconv.formats.interrupts import held_back
from bertconv.manage.rewriting import Given, RewriteOptions, request_of, writing_of
from bertconv.mapping.indices import TensorId
from bertconv.mapping.table import Table
from bertconv.report import LeftOut, Operation, Report
from bertconv.saving import recorded_limit, shard_limit
from bertconv.text import printable

_KEY = "num_hidden_layers"
_MOST = 1000
"""Most layers of a student; real models have up to a hundred."""
_ITEM = re.compile(r"(-?\d{1,6})(?:-(\d{1,6}))?", re.ASCII)

_Value = TypeVar("_Value")


def keep_layers(
    src: Given,
    dst: Given,
    *,
    keep: str | Sequence[int],
    max_shard_size: str | int = "5GB",
    **options: Unpack[RewriteOptions],
) -> Report:
    """Write a model of some layers of another, in a given order and numbered anew; everything else goes over as it is.

    The number of layers in the config follows, in the family's own spelling.

    Args:
        src: folder, file or Hub id (`org/name`, `org/name@revision`).
        dst: folder to make.
        keep: numbers of layers, the first one 0, negative ones from the end; or text such as "0,2,4" or "0-5,-1". A
            layer may come twice.
        max_shard_size: most bytes of tensors in one file, as a number or like "5GB".
        options: see `RewriteOptions`.

    Returns:
        What happened to every tensor; layers that were dropped are among `left_out`.

    Raises:
        RequestError: no such layers.
        UnsupportedCheckpoint: the family's layers share their weights (ALBERT).
        BertconvError: see `bertconv.errors`; the destination is then as it was before.

    Example:
        >>> keep_layers("bert-base-uncased", "student/", keep="0,2,4,7,9,11").head  # doctest: +SKIP
        'BertForMaskedLM'
    """
    wanted = _numbers(keep)
    operation = Operation("layers", {"keep": wanted} | recorded_limit(max_shard_size))
    request = request_of(operation, options, shard_limit=shard_limit(max_shard_size))
    dry_run = options.get("dry_run", False)
    with opened(src, request.source, wanted=request.wanted, check_data=not dry_run) as found, held_back() as checking:
        groups = _layer_groups(found.table)
        chosen = _chosen(wanted, _count(found, groups), found)
        derivation, plan = planned(_student(found, groups, chosen), request, checking)
        derivation = replace(
            derivation,
            parents=(Parent("source", found, plan.head),),
            report=_with_dropped(derivation.report, found, groups, chosen),
            is_lossless=False,
        )
        return write_output(derivation, writing_of(dst, options), checking)


def _numbers(keep: str | Sequence[int]) -> list[int]:
    """The numbers that text or a list of numbers says; RequestError where it is none."""
    if not isinstance(keep, str):
        if not keep or not all(type(one) is int for one in keep):
            raise _bad(repr(keep))
        return list(keep)
    found: list[int] = []
    for part in keep.split(","):
        item = _ITEM.fullmatch(part.strip())
        if item is None or (item[2] is not None and not 0 <= int(item[1]) <= int(item[2]) <= int(item[1]) + _MOST):
            raise _bad(repr(keep))
        found += range(int(item[1]), int(item[2] or item[1]) + 1)
    return found


def _bad(keep: str) -> RequestError:
    return RequestError(
        f"the layers to keep are {printable(keep)}.",
        hint="Write numbers and ranges at commas, such as 0,2,4 or 0-5,-1.",
    )


def _layer_groups(table: Table) -> dict[str, int]:
    """Groups that repeat for every layer -> at which depth; UnsupportedCheckpoint where none does."""
    found = {
        name: depth
        for name, group in table.groups.items()
        for depth, (_, size) in enumerate(group.repeat)
        if table.sizes[size].is_key and table.sizes[size].key == _KEY
    }
    if not found:
        raise UnsupportedCheckpoint(
            f"the layers of {table.family.title} share their weights: there are none to choose from.",
            hint=f"Set {_KEY} in its config: any number of layers computes with the same weights.",
        )
    return found


def _count(found: Opened, groups: Mapping[str, int]) -> int:
    parsed = map(TensorId.parse, found.identity.by_id)
    return max((one.indices[groups[one.group]] + 1 for one in parsed if one.group in groups), default=0)


def _chosen(wanted: Iterable[int], count: int, found: Opened) -> list[int]:
    chosen = []
    for number in wanted:
        if not -count <= number < count:
            raise RequestError(
                f"there is no layer {number}: it has {count}, 0 to {count - 1}.",
                hint="Count from 0, or from -1 at the end.", file=str(found.source.folder),
            )  # fmt: skip
        chosen.append(number % count)
    if len(chosen) > _MOST:
        raise RequestError(f"{len(chosen)} layers are to be kept.", hint=f"Keep at most {_MOST}.")
    return chosen


def _student(found: Opened, groups: Mapping[str, int], chosen: Sequence[int]) -> Opened:
    """A checkpoint as if it had only these layers, in this order."""
    config = found.source.load_config(found.table.family).replace(**{_KEY: len(chosen)})
    one = found.identity
    specs = {place: replace(spec, id=place) for place, spec in _renumbered(one.specs, groups, chosen).items()}
    identity = replace(one, by_id=_renumbered(one.by_id, groups, chosen), specs=specs)
    return replace(found, source=replace(found.source, stored_config=config.to_bytes()), identity=identity)


def _renumbered(by_id: Mapping[str, _Value], groups: Mapping[str, int], chosen: Sequence[int]) -> dict[str, _Value]:
    """Tensors of the layers that are kept, by their new ids, and all others."""
    places: dict[int, list[int]] = {}
    for new, old in enumerate(chosen):
        places.setdefault(old, []).append(new)
    found = {}
    for place, value in by_id.items():
        parsed = TensorId.parse(place)
        depth = groups.get(parsed.group)
        if depth is None:
            found[place] = value
            continue
        for new in places.get(parsed.indices[depth], ()):
            indices = (*parsed.indices[:depth], new, *parsed.indices[depth + 1 :])
            found[f"{parsed._replace(indices=indices).at}.{parsed.module}.{parsed.role}"] = value
    return found


def _with_dropped(report: Report, found: Opened, groups: Mapping[str, int], chosen: Sequence[int]) -> Report:
    """A report that says which layers were not kept, and which of the source's became which."""
    dropped = []
    for place, tensors in found.identity.by_id.items():
        parsed = TensorId.parse(place)
        if parsed.group in groups and (number := parsed.indices[groups[parsed.group]]) not in chosen:
            dropped += [
                LeftOut(printable(one.name), "unused", f"of layer {number}, which is not kept") for one in tensors
            ]
    count = _count(found, groups)
    note = f"{len(chosen)} of {count} layers: {', '.join(f'{old} is now {new}' for new, old in enumerate(chosen))}"
    return replace(report, left_out=(*report.left_out, *dropped), notes=(*report.notes, note))
