"""extract_checkpoint(): a part of a model, as a model of its own or as a head that remembers its backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Unpack

from bertconv.checkpoint import Opened, opened
from bertconv.convert import ConversionRequest, planned
from bertconv.derive import Companions, Derivation, write_output
from bertconv.digests import backbone_ids
from bertconv.errors import MappingError, RequestError
from bertconv.formats.interrupts import held_back
from bertconv.manage.heads import head_format, head_groups
from bertconv.manage.rewriting import CommonOptions, Given, RewriteOptions, request_of, rewrite, writing_of
from bertconv.parts import HEAD_PART
from bertconv.record import computed_report
from bertconv.report import LeftOut, Operation, Report, TensorReport
from bertconv.saving import recorded_limit, shard_limit

PARTS = (HEAD_PART,)


def extract_checkpoint(
    src: Given,
    dst: Given,
    *,
    head: str | None = None,
    part: str | None = None,
    max_shard_size: str | int = "5GB",
    **options: Unpack[CommonOptions],
) -> Report:
    """Write one class's tensors of a checkpoint that has more, or its head alone.

    A class's output is a whole checkpoint in the source's format, its tensors bit for bit the source's. A head's holds
    the tensors that are not of the backbone (a pooler is of the head) as safetensors with PyTorch's names, the config,
    and in bertconv.json the digest of the backbone that it was trained with: `attach_head` puts it on one.

    Args:
        src: folder, file or Hub id (`org/name`, `org/name@revision`).
        dst: folder to make.
        head: the class to extract, such as "BertModel"; with `part`, the class whose head it is, by default the
            checkpoint's own.
        part: "head", or None for a whole model.
        max_shard_size: most bytes of tensors in one file, as a number or like "5GB".
        options: see `CommonOptions`.

    Returns:
        What happened to every tensor; those that stay behind are among `left_out`.

    Raises:
        RequestError: neither a class nor a part is asked for.
        MappingError: the class has no head.
        BertconvError: see `bertconv.errors`; the destination is then as it was before.

    Example:
        >>> extract_checkpoint("bert-base-uncased", "body/", head="BertModel").head  # doctest: +SKIP
        'BertModel'
        >>> extract_checkpoint("./classifier", "head/", part="head").part  # doctest: +SKIP
        'head'
    """
    if part is None and head is None:
        raise RequestError(
            "nothing says what is to be extracted.", hint="Give a class (--class), or the head (--part head)."
        )
    if part not in (None, *PARTS):
        raise RequestError(f"part is {part!r}.", hint=f"Choose {' or '.join(PARTS)}, or leave it out.")
    chosen: RewriteOptions = {**options, "head": head}
    limit, recorded = shard_limit(max_shard_size), recorded_limit(max_shard_size)
    if part is None:
        return rewrite(src, dst, Operation("extract", recorded), chosen, shard_limit=limit)
    operation = Operation("extract", {"part": part} | recorded)
    request = request_of(operation, chosen, form=head_format(), shard_limit=limit)
    dry_run = options.get("dry_run", False)
    with opened(src, request.source, wanted=request.wanted, check_data=not dry_run) as found, held_back() as checking:
        return write_output(_head_alone(found, request, checking), writing_of(dst, options), checking)


def _head_alone(found: Opened, request: ConversionRequest, checking: Callable[[], None]) -> Derivation:
    """The output with the tensors of the head, planned as those of the whole class."""
    derivation, plan = planned(found, request, checking)
    body = {*backbone_ids(found.table, (content.id for content in derivation.contents))}
    contents = [content for content in derivation.contents if content.id not in body]
    head_groups(found.table, plan.head)
    if not contents:
        raise MappingError(
            f"is a {plan.head} without the parts that are no backbone.", hint="Give a checkpoint with a head.",
            file=str(found.source.folder),
        )  # fmt: skip
    report = computed_report(found.source, found.header, plan, found.table, contents, _details(derivation.report))
    stays = [row for row in derivation.report.tensors if row.id in body]
    return replace(
        derivation,
        contents=contents,
        report=replace(report, part=HEAD_PART, left_out=(*report.left_out, *map(_left_out, stays)), sidecars=()),
        companions=Companions({}, {}, found.source),
        modules=(),
        is_lossless=False,
    )


def _details(report: Report) -> Mapping[str, str]:
    return {row.id: row.details for row in report.tensors}


def _left_out(row: TensorReport) -> LeftOut:
    return LeftOut(row.source, "unused", "of the backbone")
