"""shard_checkpoint() and unshard_checkpoint(): the same weights in more files, or in one."""

from __future__ import annotations

import sys
from typing import Unpack

from bertconv.manage.rewriting import Given, RewriteOptions, rewrite
from bertconv.report import Operation, Report
from bertconv.saving import shard_limit

DEFAULT_SIZE = "5GB"


def shard_checkpoint(
    src: Given, dst: Given, *, max_size: str | int = DEFAULT_SIZE, **options: Unpack[RewriteOptions]
) -> Report:
    """Write a checkpoint into files of a limited size, with the index that names them.

    The format stays, and so does every number: the model's digest is the source's.

    Args:
        src: folder, file or Hub id (`org/name`, `org/name@revision`).
        dst: folder to make.
        max_size: most bytes of tensors in one file, as a number or like "500MB"; a larger tensor has a file of its own.
        options: see `RewriteOptions`.

    Returns:
        What happened to every tensor.

    Raises:
        BertconvError: see `bertconv.errors`; the destination is then as it was before.

    Example:
        >>> report = shard_checkpoint("bert-base-uncased", "out/", max_size="200MB")  # doctest: +SKIP
        >>> report.target["files"]  # doctest: +SKIP
        ['model-00001-of-00003.safetensors', 'model-00002-of-00003.safetensors', 'model-00003-of-00003.safetensors']
    """
    size = {} if max_size == DEFAULT_SIZE else {"max_size": max_size}
    return rewrite(src, dst, Operation("shard", size), options, shard_limit=shard_limit(max_size))


def unshard_checkpoint(src: Given, dst: Given, **options: Unpack[RewriteOptions]) -> Report:
    """Write a checkpoint into one file; arguments, result and errors as those of `shard_checkpoint`.

    Example:
        >>> unshard_checkpoint("sharded/", "out/").target["files"]  # doctest: +SKIP
        ['model.safetensors']
    """
    return rewrite(src, dst, Operation("unshard"), options, shard_limit=sys.maxsize)
