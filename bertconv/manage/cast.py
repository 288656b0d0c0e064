"""cast_checkpoint(): the same model in another element type, with a count of every number that changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Unpack

from bertconv.checkpoint import Opened
from bertconv.containers.stored import FLOATS
from bertconv.convert import ElementTypes
from bertconv.digests import backbone_ids
from bertconv.errors import RequestError, check_one_of
from bertconv.manage.rewriting import Given, RewriteOptions, rewrite
from bertconv.mapping.ignore import check_regexes
from bertconv.mapping.indices import TensorId
from bertconv.mapping.table import Table
from bertconv.report import Operation, Report
from bertconv.saving import recorded_limit, shard_limit

_Selects = Callable[[Table, str], bool]
"""Whether a tensor of a table, by its neutral id, is one of those that are meant."""


def _is_norm(_: Table, place: str) -> bool:
    return TensorId.parse(place).role in ("scale", "shift")


def _is_bias(_: Table, place: str) -> bool:
    found = TensorId.parse(place)
    return "bias" in (found.role, found.module)


def _is_embedding(_: Table, place: str) -> bool:
    return TensorId.parse(place).group == "embeddings"


def _is_head(table: Table, place: str) -> bool:
    return not backbone_ids(table, (place,))


GROUPS: Mapping[str, _Selects] = {
    "norm": _is_norm, "bias": _is_bias, "embeddings": _is_embedding, "head": _is_head,
}  # fmt: skip
"""Names of tensors that are kept together: scale and shift of every LayerNorm; biases of linear layers and of words;
tables of the embeddings with their LayerNorm; everything that is not of the backbone, the pooler too."""


def cast_checkpoint(
    src: Given,
    dst: Given,
    *,
    dtype: str,
    keep: Iterable[str] = (),
    max_shard_size: str | int = "5GB",
    **options: Unpack[RewriteOptions],
) -> Report:
    """Cast the weights of a checkpoint, each number rounded once, to nearest even.

    A finite number that the type cannot hold is refused. What changes otherwise is counted, for each tensor in
    `Report.tensors` (`cast`) and in all in `Report.cast`: how many numbers were rounded, how many of these to zero, and
    how many are subnormal now. The format stays; `dtype` or `torch_dtype` of the config follows where it is there.

    Args:
        src: folder, file or Hub id (`org/name`, `org/name@revision`).
        dst: folder to make.
        dtype: "bfloat16", "float16", "float32" or "float64".
        keep: tensors that keep the type they have: names of `GROUPS`, or regexes that are searched in neutral ids such
            as `layer.3.query.weight`.
        max_shard_size: most bytes of tensors in one file, as a number or like "5GB".
        options: see `RewriteOptions`.

    Returns:
        What happened to every tensor.

    Raises:
        RequestError: a number does not fit into the type, or nothing is what `keep` names.
        BertconvError: see `bertconv.errors`; the destination is then as it was before.

    Example:
        >>> report = cast_checkpoint("bert-base-uncased", "out/", dtype="bfloat16", keep=["norm"])  # doctest: +SKIP
        >>> report.cast  # doctest: +SKIP
        {'tensors': 154, 'numbers': 110065466, 'rounded': 109201170, 'flushed': 0, 'subnormal': 0}
    """
    check_one_of(dtype, FLOATS, "dtype")
    selectors = {one: _selector(one) for one in dict.fromkeys(keep)}
    recorded = {"dtype": dtype} | ({"keep": list(selectors)} if selectors else {}) | recorded_limit(max_shard_size)
    return rewrite(
        src,
        dst,
        Operation("cast", recorded),
        options,
        types=ElementTypes(dtype, lambda table, spec: any(one(table, spec.id) for one in selectors.values())),
        shard_limit=shard_limit(max_shard_size),
        prepare=partial(_checked, selectors),
    )


def _selector(name: str) -> _Selects:
    if name in GROUPS:
        return GROUPS[name]
    check_regexes((name,))
    return lambda _, place: re.search(name, place) is not None


def _checked(selectors: Mapping[str, _Selects], found: Opened) -> Opened:
    """A checkpoint as it is; RequestError where nothing in it is what is to be kept."""
    for name, selects in selectors.items():
        if not any(selects(found.table, place) for place in found.identity.by_id):
            raise RequestError(
                f"no tensor is what --keep {name!r} names.",
                hint=f"Give {', '.join(GROUPS)}, or a regex of neutral ids (`bertconv tables show FAMILY`).",
                file=str(found.source.folder),
            )
    return found
