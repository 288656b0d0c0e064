"""merge_checkpoints(): several models that were fine-tuned from one become one, by a method of the literature."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from bertconv.manage.combining import Ingredients, Output, combine
from bertconv.manage.merge_settings import Settings, checked_settings
from bertconv.mapping.layout import transpose_between
from bertconv.progress import Progress
from bertconv.report import Operation, Report

if TYPE_CHECKING:  # numpy is imported where elements are read
    from bertconv.formats.arithmetic import Compute

Given = str | os.PathLike[str]


def merge_checkpoints(  # noqa: PLR0913  (one argument per option of the command)
    inputs: Sequence[Given],
    dst: Given,
    *,
    method: str,
    base: Given | None = None,
    weights: Sequence[float] | None = None,
    density: float | None = None,
    scale: float | None = None,
    t: float | None = None,
    seed: int | None = None,
    heads: str = "same",
    head: str | None = None,
    to: str | None = None,
    dtype: str = "keep",
    max_shard_size: str | int = "5GB",
    overwrite: bool = False,
    dry_run: bool = False,
    verify: str = "weights",
    token: str | None = None,
    cache_dir: Given | None = None,
    local_files_only: bool = False,
    family: str | None = None,
    table: Given | None = None,
    progress: Progress | None = None,
) -> Report:
    """Merge models that were trained from one base.

    Everything is computed in float64 and rounded once. The result does not depend on the format of any input or of the
    output. docs/merge.md has the formulas.

    Args:
        inputs: folders, files or Hub ids (`org/name@revision`).
        dst: folder to make.
        method: "slerp" (two inputs, no base), "task-arithmetic", "ties" or "dare".
        base: the model from which the inputs were trained.
        weights: one for each input, of its task vector; by default 1.
        density: part of each task vector that "ties" and "dare" keep, more than 0 and at most 1; by default 0.5.
        scale: the merged task vector is multiplied by it (the lambda of the papers); by default 1.
        t: of "slerp": 0 is the first input, 1 the second; by default 0.5.
        seed: of "dare"; by default 0.
        heads: "same" refuses models of different classes; "drop" merges the base models alone; "first" merges the base
            models and takes the head of the first input.
        head: class as which all are read; by default the first input's.
        to: "pt", "tf" or "tf-safetensors"; by default the format of the first input.
        dtype: element type of the output; "keep" is that of the inputs, where they differ one that holds all.
        max_shard_size: most bytes of tensors in one file, as a number or like "5GB".
        overwrite: replace an earlier output at `dst`.
        dry_run: plan and report, write nothing.
        verify: "weights" reads every tensor back and compares it; "none" does nothing.
        token: access token for the Hub.
        cache_dir: cache of the Hub.
        local_files_only: use only what the cache holds.
        family: the `model_type` of the inputs' family, where their configs do not say it.
        table: a mapping table of the caller's own.
        progress: called with the bytes of each step.

    Returns:
        What happened to every tensor.

    Raises:
        MappingError: an input or the base does not fit the first input.
        RequestError: a number that the method does not take, or takes no such value of.
        BertconvError: see `bertconv.errors`; the destination is then as it was before.

    Example:
        >>> merge_checkpoints(["a", "b"], "merged", method="ties", base="bert-base-uncased")  # doctest: +SKIP
        >>> merge_checkpoints(["a", "b"], "between", method="slerp", t=0.3)  # doctest: +SKIP
    """
    output = Output.of(
        {
            "to": to, "dtype": dtype, "heads": heads, "head": head, "max_shard_size": max_shard_size,
            "overwrite": overwrite, "dry_run": dry_run, "verify": verify, "token": token, "cache_dir": cache_dir,
            "local_files_only": local_files_only, "family": family, "table": table, "progress": progress,
        }
    )  # fmt: skip
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    asked = {"weights": weights, "density": density, "scale": scale, "t": t, "seed": seed}
    numbers = {name: value for name, value in asked.items() if value is not None}
    settings = checked_settings(method, len(given), numbers, has_base=base is not None)
    sides = [("input", one) for one in given] + ([] if base is None else [("base", base)])
    operation = Operation("merge", {"method": method, **settings.recorded(method), **output.recorded})
    return combine(sides, dst, output, operation, partial(_recipe, method, settings), f"{method} of {len(given)}")


def _recipe(method: str, settings: Settings, tensor: Ingredients) -> Compute:
    from bertconv.manage.merge_methods import METHODS, Task

    number = len(settings.weights)
    target = tensor.move.target
    task = Task(
        id=tensor.id,
        inputs=tensor.operands[:number],
        base=tensor.operands[number] if len(tensor.operands) > number else None,
        dtype=tensor.dtype,
        canonical=transpose_between(target.layout, target.canonical),
        settings=settings,
    )
    return METHODS[method](task)
