"""average_checkpoints(): the mean of several checkpoints of one model, such as the last ones of a training run."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertconv.errors import RequestError
from bertconv.manage.combining import Ingredients, Output, combine
from bertconv.progress import Progress
from bertconv.report import Operation, Report
from bertconv.text import printable

if TYPE_CHECKING:  # numpy is imported where elements are read
    from bertconv.formats.arithmetic import Compute

Given = str | os.PathLike[str]
_STEP = re.compile(r"checkpoint-(\d{1,18})", re.ASCII)
"""What transformers' Trainer calls the folder of a step."""


def average_checkpoints(  # noqa: PLR0913  (one argument per option of the command)
    inputs: Sequence[Given] | Given,
    dst: Given,
    *,
    weights: Sequence[float] | None = None,
    ema: float | None = None,
    last: int | str | None = None,
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
    """Write the weighted mean of several checkpoints of one model.

    Sums are taken in float64 and rounded once. An element whose bits are equal in all inputs keeps them. Inputs may be
    of different formats and element types.

    Args:
        inputs: folders, files or Hub ids (`org/name@revision`); or one folder of a training run, whose
            `checkpoint-STEP` folders are taken in the order of their steps.
        dst: folder to make.
        weights: one for each input, of 0 or more; they are divided by their sum. None: all equal.
        ema: exponential moving average with this rate instead: `mean = ema * mean + (1 - ema) * input`, beginning with
            the first input. With None all count alike.
        last: take the last so many checkpoints of the one training run that was given; "all" takes all of them, also
            where the run's folder is a checkpoint itself.
        heads: "same" refuses inputs of different classes; "drop" averages the base models alone; "first" averages the
            base models and takes the head of the first input.
        head: class as which all inputs are read; by default the first one's.
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
        MappingError: an input does not fit the first one.
        RequestError: weights, or a training run, that make no sense.
        BertconvError: see `bertconv.errors`; the destination is then as it was before.

    Example:
        >>> average_checkpoints(["run/checkpoint-500", "run/checkpoint-1000"], "averaged")  # doctest: +SKIP
        >>> average_checkpoints("run", "averaged", last=3, ema=0.9)  # doctest: +SKIP
    """
    output = Output.of(
        {
            "to": to, "dtype": dtype, "heads": heads, "head": head, "max_shard_size": max_shard_size,
            "overwrite": overwrite, "dry_run": dry_run, "verify": verify, "token": token, "cache_dir": cache_dir,
            "local_files_only": local_files_only, "family": family, "table": table, "progress": progress,
        }
    )  # fmt: skip
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    found = _of_run(given, last) if last is not None or _is_run(given) else given
    if len(found) < 2:
        raise RequestError(
            "one input is no average.",
            hint="Give two or more, or --last N with the folder of a training run, where checkpoint-STEP folders are.",
        )
    shares = _shares(len(found), weights, ema)
    options: dict[str, Any] = {"weights": None if weights is None else list(weights), "ema": ema, "last": last}
    options = {name: value for name, value in options.items() if value is not None} | output.recorded
    recipe = partial(_mean, shares)
    pairs = [("input", one) for one in found]
    return combine(pairs, dst, output, Operation("average", options), recipe, f"average of {len(found)}")


def _mean(shares: Sequence[float], tensor: Ingredients) -> Compute:
    from bertconv.formats.arithmetic import weighted_sum

    *weights, divisor = shares
    return weighted_sum(tensor.operands, weights, tensor.dtype, is_mean=True, divisor=divisor)


def _shares(count: int, weights: Sequence[float] | None, ema: float | None) -> list[float]:
    """The weight of each input, and behind them what their sum is divided by."""
    if weights is not None and ema is not None:
        raise RequestError("weights and ema exclude each other.", hint="Give one of them.")
    if ema is not None:
        if not 0 <= ema < 1:
            raise RequestError(f"ema is {ema}.", hint="Give a rate from 0 to less than 1, such as 0.9.")
        return [*((1.0 if number == 0 else 1 - ema) * ema ** (count - 1 - number) for number in range(count)), 1.0]
    given = [1.0] * count if weights is None else [float(one) for one in weights]
    if len(given) != count:
        raise RequestError(f"{len(given)} weights were given for {count} inputs.", hint="Give one for each input.")
    total = math.fsum(given)
    if not all(one >= 0 for one in given) or not 0 < total < math.inf:
        raise RequestError(
            f"the weights are {', '.join(map(str, given))}.",
            hint="Give numbers of 0 or more, of which one is more.",
        )
    return [*given, total]


def _is_run(given: Sequence[Given]) -> bool:
    """Whether the only input is a folder that is no checkpoint itself and holds those of a training run."""
    return len(given) == 1 and bool(_steps(Path(given[0]))) and not (Path(given[0]) / "config.json").exists()


def _of_run(given: Sequence[Given], last: int | str | None) -> list[Path]:
    """The last checkpoints of a training run, or all of them."""
    if len(given) != 1:
        raise RequestError(f"last was given with {len(given)} inputs.", hint="Give the one folder of a training run.")
    if last not in (None, "all") and (not isinstance(last, int) or last < 1):
        raise RequestError(f"last is {last!r}.", hint='Give a whole number of 1 or more, or "all".')
    found = _steps(Path(given[0]))
    wanted = last if isinstance(last, int) else max(len(found), 1)
    if len(found) < wanted:
        raise RequestError(
            f"{printable(str(given[0]))} holds {len(found)} checkpoint-STEP folders, and {wanted} were asked for.",
            hint="Give the folder that the Trainer wrote to, or a smaller number.",
        )
    return found[-wanted:]


def _steps(run: Path) -> list[Path]:
    """The folders of a training run's steps, by their numbers; links are none of them."""
    if not run.is_dir():
        return []
    with os.scandir(run) as entries:
        found = {
            (int(match[1]), entry.name): run / entry.name
            for entry in entries
            if (match := _STEP.fullmatch(entry.name)) and entry.is_dir(follow_symlinks=False)
        }
    return [found[key] for key in sorted(found)]
