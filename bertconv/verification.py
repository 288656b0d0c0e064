"""verify_checkpoint(): two checkpoints compared; check_checkpoint(): an output held to its own record.

A, B -> opened as one class -> weights -> outputs -> gradients -> Parity
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from bertconv.checkpoint import Checkpoint, opened_to_read
from bertconv.errors import AmbiguousHead, RequestError
from bertconv.mapping.recognise import Wanted
from bertconv.progress import Progress, silent
from bertconv.source import SourceOptions
from bertconv.source.output_folder import local_folder
from bertconv.text import public
from bertconv.verify.compare import ORACLES, Request, compare
from bertconv.verify.outputs import Limits
from bertconv.verify.parity import Parity
from bertconv.verify.requirements import OWN_TABLE, outputs_obstacle

if TYPE_CHECKING:
    from bertconv.verify.certificate import FolderCheck

DTYPES = ("float64", "float32")
"""Element types in which outputs are computed unless others are asked for."""


def verify_checkpoint(  # noqa: PLR0913  (one argument per option of the command)
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    level: str = "auto",
    dtypes: Iterable[str] = DTYPES,
    max_error: float | None = None,
    max_hidden_error: float | None = None,
    oracle: str = "reference",
    saved_model: bool = False,
    seed: int = 0,
    digest: bool = True,
    ignore: Iterable[str] = (),
    head: str | None = None,
    config_a: str | os.PathLike[str] | None = None,
    config_b: str | os.PathLike[str] | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    family: str | None = None,
    table: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Parity:
    """Say whether two checkpoints, in any formats, are the same model.

    Args:
        a: the original: folder, file or Hub id (`org/name`, `org/name@revision`).
        b: what is held to it, likewise.
        level: "weights" (bit for bit, no framework), "outputs" (both sides run), "gradients", or "auto": outputs where
            the frameworks are installed and there is memory for it, else weights.
        dtypes: element types of the outputs; float64 is always among them.
        max_error: largest absolute difference of an output that is allowed, in place of bertconv's own rule.
        max_hidden_error: the same for hidden states and attentions; by default `max_error`.
        oracle: who computes PyTorch's side: "reference" (bertconv's forward pass) or "transformers".
        saved_model: also run the SavedModel beside B.
        seed: of the random inputs.
        digest: also digest every tensor; without, level "weights" is faster.
        ignore: any of "labels", "tokenizer" and "modules": differences in the names of the outputs, in the files that
            decide which ids a text becomes, or in what modules of sentence-transformers do, are noted and do not count.
        head: model class as which both are compared; by default the one that B's config names, if A holds all of it, or
            else the one that B's tensors are, or A's where several classes have B's tensors and nothing decides. Where
            it is not given, configs that name classes of different tasks are a difference.
        config_a: config file for A, in place of its own.
        config_b: config file for B.
        token: access token for the Hub.
        cache_dir: cache of the Hub.
        local_files_only: use only what the cache holds.
        family: the `model_type` of the family of both, where their configs do not say it.
        table: a mapping table of the caller's own; then outputs cannot be compared.
        progress: called with the steps.

    Returns:
        What was found; `ok` and `verdict()` sum it up.

    Raises:
        ParityError: the sides are of different architectures.
        BertconvError: a side cannot be read. Sides that differ are no error: see `Parity.ok`.
    """
    options = SourceOptions(token=token, cache_dir=cache_dir, local_files_only=local_files_only)
    choice = Wanted.of(family, table)
    limits = Limits(max_error=max_error, max_hidden_error=max_hidden_error)
    wanted, aside = "outputs" if level == "auto" else level, tuple(ignore)
    request = Request(wanted, tuple(dtypes), limits, oracle, saved_model, seed, digest, aside, head is not None)
    given = (a, _with_config(options, config_a)), (b, _with_config(options, config_b))
    with _open_both(*given, head, choice) as (here, there):
        obstacle = outputs_obstacle(here, there) if level == "auto" else None
        if obstacle is None and request.level != "weights" and not there.table.is_builtin:
            raise RequestError(f"outputs cannot be compared: {OWN_TABLE}.", hint="Pass --level weights.")
        if obstacle is not None:
            request = replace(request, level="weights")
        parity = compare(*_as_one_class(here, there, head), request, progress or silent)
    if obstacle is not None:
        parity = replace(parity, notes=(*parity.notes, f"outputs were not compared: {obstacle}"))
    said = {
        "--level": parity.level, "--seed": seed, "--ignore": ",".join(aside), "--head": head, "--family": family,
        "--map": table,
        "--config-a": config_a, "--config-b": config_b, "--cache-dir": cache_dir,
        "--dtype": None if request.dtypes == DTYPES else ",".join(request.dtypes),
        "--oracle": None if oracle == ORACLES[0] else oracle,
        "--max-error": max_error, "--max-hidden-error": max_hidden_error,
    }  # fmt: skip
    return replace(parity, command=_command(a, b, said, saved_model=saved_model, local_files_only=local_files_only))


def _command(a: str | os.PathLike[str], b: str | os.PathLike[str], options: Mapping[str, object], **flags: bool) -> str:
    """The command line that repeats a comparison; options without a value are left out, and so is the token."""
    words = [word for name, value in options.items() if value not in (None, "") for word in (name, str(value))]
    switches = [f"--{name.replace('_', '-')}" for name, on in flags.items() if on]
    return shlex.join(["bertconv", "verify", public(a), public(b), *words, *switches])


def check_checkpoint(folder: str | os.PathLike[str]) -> FolderCheck:
    """Say whether every file and tensor of an output is still as bertconv wrote it, and what was proven of it then.

    Args:
        folder: an output of bertconv, with its bertconv.json, or the address of one.

    Raises:
        RequestError: there is no bertconv.json.
        HubError: a store does not give it.
        DamagedCheckpoint: bertconv.json itself was changed.
    """
    from bertconv.verify.certificate import check_folder

    with local_folder(folder) as place:
        return check_folder(place)


@contextmanager
def _open_both(
    a: tuple[str | os.PathLike[str], SourceOptions],
    b: tuple[str | os.PathLike[str], SourceOptions],
    head: str | None,
    wanted: Wanted,
) -> Iterator[tuple[Checkpoint, Checkpoint]]:
    """A and B as one class: the given one, or B's, or A's where nothing decides B's."""
    with ExitStack() as stack:
        other = stack.enter_context(opened_to_read(*b, wanted=wanted))
        try:
            there = other.as_class(head)
        except AmbiguousHead:
            here = stack.enter_context(opened_to_read(*a, wanted=wanted)).as_class()
            there = other.as_class(like=here)
        else:
            here = stack.enter_context(opened_to_read(*a, wanted=wanted)).as_class(head, there)
        yield here, there


def _as_one_class(a: Checkpoint, b: Checkpoint, forced: str | None) -> tuple[Checkpoint, Checkpoint]:
    """Both as the class that B's config names, if A holds all of it: a tensor that B lacks must not make it another."""
    named = b.named_head
    if forced is None and named is not None and named != b.head:
        other = a.as_head(a.table.head_for(b.table.tasks[named]))
        if not other.plan.unfilled:
            return other, b.as_head(named)
    return a, b


def _with_config(options: SourceOptions, config: str | os.PathLike[str] | None) -> SourceOptions:
    return replace(options, config=config)
