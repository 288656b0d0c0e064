"""resize_vocabulary(): the rows of a model follow the tokens of another tokenizer, each by its text."""

from __future__ import annotations

import os
from typing import Any

from bertconv.checkpoint import opened
from bertconv.derive import Writing, write_output
from bertconv.errors import check_one_of
from bertconv.formats.folder import destination_of
from bertconv.formats.output import formats
from bertconv.manage.resizing.request import ResizeRequest
from bertconv.manage.resizing.vocabulary import RowPlan, Size
from bertconv.manage.resizing.work import planned
from bertconv.manage.rewriting import LEVELS
from bertconv.mapping.plan import PlanOptions
from bertconv.mapping.recognise import Wanted
from bertconv.progress import Progress, silent
from bertconv.records import dataclass
from bertconv.report import Report
from bertconv.saving import shard_limit
from bertconv.source import SourceOptions


@dataclass(frozen=True)
class Resized:
    """The outcome of `resize_vocabulary`.

    Attributes:
        report: what happened to every tensor.
        rows: which row became which.
    """

    report: Report
    rows: RowPlan

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts: a report with the tokens in `rows`."""
        return {**self.report.to_json(), "rows": self.rows.to_json()}


def resize_vocabulary(  # noqa: PLR0913  (one argument per option of the command)
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    tokenizer: str | os.PathLike[str] | None = None,
    from_tokenizer: str | os.PathLike[str] | None = None,
    new: str = "mean",
    size: int | None = None,
    pad_to: int = 1,
    shrink: bool = False,
    seed: int = 0,
    to: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    subfolder: str = "",
    variant: str | None = None,
    head: str | None = None,
    config: str | os.PathLike[str] | None = None,
    strip_prefix: str | None = None,
    family: str | None = None,
    table: str | os.PathLike[str] | None = None,
    max_shard_size: str | int = "5GB",
    overwrite: bool = False,
    dry_run: bool = False,
    verify: str = "weights",
    progress: Progress | None = None,
) -> Resized:
    """Give a model the vocabulary of another tokenizer: every row goes where the text of its token goes.

    Args:
        src: folder, file or Hub id of the checkpoint.
        dst: folder to make.
        tokenizer: folder or Hub id of the tokenizer (no weights are needed), or a `tokenizer.json` or `vocab.txt`. None
            keeps the source's own, where only the number of rows is to change.
        from_tokenizer: the same, of the tokenizer that the rows of `src` belong to; by default its own.
        new: rows of tokens that it has not: "mean" of all old tokens' rows, "normal" with the config's
            `initializer_range`, "zero", "pieces" (mean of the rows of the pieces into which the old tokenizer cuts the
            token), or "copy:TOKEN".
        size: number of rows; by default as many as the tokens need, and no fewer than there are.
        pad_to: make the number of rows a multiple of this.
        shrink: let there be fewer rows than before.
        seed: for "normal"; the same seed and token give the same row.
        to: format of the output; by default that of `src`.
        revision: branch, tag or commit of `src` on the Hub.
        token: access token for the Hub.
        cache_dir: cache of the Hub.
        local_files_only: use only what the cache holds.
        subfolder: folder inside the source.
        variant: such as "fp16".
        head: model class; by default the one that the tensors are.
        config: config file to use instead of the source's.
        strip_prefix: use only the names that begin with this, and take it off.
        family: the `model_type` of the source's family, where its config does not say it.
        table: a mapping table of the caller's own.
        max_shard_size: most bytes of tensors in one file.
        overwrite: replace an earlier output at `dst`.
        dry_run: plan and report, write nothing.
        verify: "weights" reads every tensor back and compares it; "none" does nothing.
        progress: called with the bytes of each step.

    Returns:
        What happened to every tensor and to every row.

    Raises:
        MappingError: vocabularies whose tokens do not mean the same, a config that names tokens which the new tokenizer
            lacks, too few rows, rows to be taken away without `shrink`.
        BertconvError: see `bertconv.errors`; the destination is then as it was before.

    Example:
        >>> from bertconv import resize_vocabulary
        >>> done = resize_vocabulary("model", "resized", tokenizer="medical-tokenizer", pad_to=64)  # doctest: +SKIP
        >>> len(done.rows.alignment.new)  # doctest: +SKIP
        2100
    """
    check_one_of(to, (None, *formats()), "to")
    check_one_of(verify, LEVELS, "verify")
    request = ResizeRequest(
        tokenizer=tokenizer, from_tokenizer=from_tokenizer, size=Size(size, pad_to, shrink), new=new, seed=seed,
        source=SourceOptions(
            revision=revision, token=token, cache_dir=cache_dir,
            local_files_only=local_files_only, subfolder=subfolder, variant=variant,
            config=config,
        ),
        wanted=Wanted.of(family, table, strip_prefix),
        form=None if to is None else formats()[to],
        plan=PlanOptions(head=head, strip_prefix=strip_prefix),
        shard_limit=shard_limit(max_shard_size),
    )  # fmt: skip
    writing = Writing(destination_of(dst), overwrite, dry_run, verify == "weights", progress or silent)
    with opened(src, request.source, wanted=request.wanted, check_data=not dry_run) as found:
        derivation, rows = planned(found, request)  # the vocabularies themselves are not needed from here on
        return Resized(write_output(derivation, writing), rows)
