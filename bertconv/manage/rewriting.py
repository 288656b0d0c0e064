"""What the verbs that rewrite one checkpoint have in common: their options, and the conversion that each of them is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypedDict

from bertconv.convert import ConversionRequest, run_conversion
from bertconv.derive import Writing
from bertconv.errors import check_one_of
from bertconv.formats.folder import destination_of
from bertconv.mapping.plan import PlanOptions
from bertconv.mapping.recognise import Wanted
from bertconv.progress import Progress, silent
from bertconv.report import Operation, Report
from bertconv.source import SourceOptions

LEVELS = ("none", "weights")
"""How an output of these verbs is verified: they change no number that is not said, so outputs need not be compared."""

Given = str | os.PathLike[str]


class CommonOptions(TypedDict, total=False):
    """Options that every verb which rewrites one checkpoint takes, with the meaning they have for `convert_checkpoint`.

    Attributes:
        revision: branch, tag or commit on the Hub.
        token: access token for the Hub; by default HF_TOKEN or the stored one.
        cache_dir: cache of the Hub; by default HF_HOME's.
        local_files_only: use only what the cache holds.
        subfolder: folder inside the source.
        variant: such as "fp16" for `model.fp16.safetensors`.
        config: config file to use instead of the source's.
        strip_prefix: use only the names that begin with this, and take it off.
        family: the `model_type` of the source's family, where its config does not say it.
        table: a mapping table of the caller's own.
        overwrite: replace an earlier output at `dst`.
        dry_run: plan and report, write nothing.
        verify: "weights" (the default) reads every tensor back and compares it; "none" does nothing, and records no
            digests.
        progress: called with the bytes of each step.
    """

    revision: str | None
    token: str | None
    cache_dir: Given | None
    local_files_only: bool
    subfolder: str
    variant: str | None
    config: Given | None
    strip_prefix: str | None
    family: str | None
    table: Given | None
    overwrite: bool
    dry_run: bool
    verify: str
    progress: Progress | None


class RewriteOptions(CommonOptions, total=False):
    """`CommonOptions`, and what those verbs take that choose no class themselves.

    Attributes:
        head: the model class, where nothing in the source says which one it is.
    """

    head: str | None


_RECORDED = ("head", "strip_prefix", "subfolder", "variant")
"""Options that shape an output."""


def rewrite(src: Given, dst: Given, operation: Operation, options: RewriteOptions, **wanted: Any) -> Report:
    """Convert a checkpoint to what it is, but for what a verb changes.

    Args:
        src: folder, file or Hub id.
        dst: folder to make.
        operation: what is put on record.
        options: of the caller.
        wanted: what the verb wants of the `ConversionRequest`.

    Returns:
        What happened to every tensor.

    Raises:
        BertconvError: as for `convert_checkpoint`.
    """
    return run_conversion(src, destination_of(dst), request_of(operation, options, **wanted), **running(options))


def request_of(operation: Operation, options: RewriteOptions, **wanted: Any) -> ConversionRequest:
    """The conversion that a verb is; RequestError for options that make no sense."""
    verify = options.get("verify", "weights")
    check_one_of(verify, LEVELS, "verify")
    shaping = {key: value for key in _RECORDED if (value := options.get(key))}
    return ConversionRequest(
        operation=Operation(operation.verb, {**operation.options, **shaping}),
        source=source_options(options),
        wanted=Wanted.of(options.get("family"), options.get("table"), options.get("strip_prefix")),
        plan=PlanOptions(head=options.get("head"), strip_prefix=options.get("strip_prefix")),
        verify=verify,
        **wanted,
    )


def source_options(options: RewriteOptions | Mapping[str, Any]) -> SourceOptions:
    """How to find the source."""
    return SourceOptions(
        revision=options.get("revision"), token=options.get("token"), cache_dir=options.get("cache_dir"),
        local_files_only=options.get("local_files_only", False), subfolder=options.get("subfolder", ""),
        variant=options.get("variant"), config=options.get("config"),
    )  # fmt: skip


def writing_of(dst: Given, options: CommonOptions) -> Writing:
    """How an output is written that is no plain conversion; `request_of` has looked at the options."""
    verify, progress = options.get("verify", "weights") != "none", options.get("progress") or silent
    place = destination_of(dst)
    return Writing(place, options.get("overwrite", False), options.get("dry_run", False), verify, progress)


def running(options: RewriteOptions) -> dict[str, Any]:
    """How a conversion is run, as `run_conversion` takes it."""
    return {
        "overwrite": options.get("overwrite", False),
        "dry_run": options.get("dry_run", False),
        "progress": options.get("progress"),
    }
