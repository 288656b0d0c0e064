"""diff_checkpoints(): what differs between two checkpoints, tensor by tensor, in whatever formats they are.

A, B (and C) -> opened, each as its class -> tensors, rows of tokens, layers -> changes from C -> Diff
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from bertconv.checkpoint import Checkpoint
from bertconv.config.classes import COMMON
from bertconv.containers.stored import turn_of
from bertconv.errors import RequestError
from bertconv.formats import workers
from bertconv.manage.difference.base import against
from bertconv.manage.difference.elements import alone, compare_pair
from bertconv.manage.difference.layers import layers_of
from bertconv.manage.difference.records import Diff, TensorDiff
from bertconv.manage.difference.sides import only_in, opened_sides, pairs_of
from bertconv.mapping.recognise import Wanted
from bertconv.progress import Progress, silent
from bertconv.source import SourceOptions
from bertconv.text import public
from bertconv.verify.agreement import ASPECTS, Agreement
from bertconv.verify.classes import other_classes
from bertconv.verify.facts import side_facts
from bertconv.verify.labels import compare_labels
from bertconv.verify.modules import compare_modules, with_equal_modules
from bertconv.verify.parity import ConfigDifference
from bertconv.verify.tokenizers import compare_tokenizers, notes_of_both


def diff_checkpoints(  # noqa: PLR0913  (one argument per option of the command)
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    against_base: str | os.PathLike[str] | None = None,
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
) -> Diff:
    """Say what differs between two checkpoints of one architecture, in any formats, and by how much.

    Example:
        diff = diff_checkpoints("bert-base-uncased", "./finetuned")
        print(diff.verdict())
        for layer in diff.layers:
            print(layer.layer, layer.changed, layer.change.relative if layer.change else 0.0)

    Args:
        a: one side: folder, file or Hub id (`org/name`, `org/name@revision`).
        b: the other, likewise.
        against_base: a third checkpoint, of which A and B are looked at as changes.
        ignore: any of "labels", "tokenizer" and "modules": differences in these are listed and do not count.
        head: model class as which all are opened; by default each as the one that it is.
        config_a: config file for A, in place of its own.
        config_b: config file for B.
        token: access token for the Hub.
        cache_dir: cache of the Hub.
        local_files_only: use only what the cache holds.
        family: the `model_type` of the family of all, where their configs do not say it.
        table: a mapping table of the caller's own.
        progress: called with the steps.

    Returns:
        What differs; `equal` and `verdict()` sum it up.

    Raises:
        MappingError: they cannot be aligned: other architectures, or no tensor of the model in one shape.
        BertconvError: a side cannot be read. Sides that differ are no error: see `Diff.equal`.
    """
    started = time.perf_counter()
    aside = _checked(ignore)
    options = SourceOptions(token=token, cache_dir=cache_dir, local_files_only=local_files_only)
    given = [(a, _with_config(options, config_a)), (b, _with_config(options, config_b))]
    given += [] if against_base is None else [(against_base, options)]
    tell = progress or silent
    with opened_sides(given, head, Wanted.of(family, table)) as (here, there, *base):
        diff = _compared(here, there, aside, tell, forced=head is not None)
        if base:
            diff = replace(diff, against=against(here, there, base[0], tell))
    said = {
        "--against-base": against_base, "--ignore": ",".join(aside), "--head": head, "--config-a": config_a,
        "--config-b": config_b, "--cache-dir": cache_dir, "--family": family, "--map": table,
    }  # fmt: skip
    words = [word for name, value in said.items() if value not in (None, "") for word in (name, str(value))]
    words += ["--local-files-only"] if local_files_only else []
    command = shlex.join(["bertconv", "diff", public(a), public(b), *words])
    return replace(diff, command=command, seconds=time.perf_counter() - started)


def _compared(a: Checkpoint, b: Checkpoint, aside: Sequence[str], tell: Progress, *, forced: bool) -> Diff:
    a, b, apart = with_equal_modules(a, b)
    tensors = _tensors(a, b, tell)
    return Diff(
        a=side_facts(a), b=side_facts(b), tensors=tensors,
        layers=layers_of(tensors, a.everything, tell),
        config=(*(() if forced else other_classes(a, b)), *_config_differences(a, b)),
        labels=_labels(a, b, ignored="labels" in aside),
        tokenizer=compare_tokenizers(a, b, ignored="tokenizer" in aside),
        modules=compare_modules(a, b, ignored="modules" in aside),
        left_out=_of_both(a, b, Checkpoint.left_out), omitted=_of_both(a, b, Checkpoint.omitted),
        notes=(*_notes(a, b), *apart),
    )  # fmt: skip


def _tensors(a: Checkpoint, b: Checkpoint, tell: Progress) -> tuple[TensorDiff, ...]:
    """Every tensor of both, in the order of the table."""
    pairs = pairs_of(a, b)
    total, done = sum(pair.b.stored.nbytes for pair in pairs), 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        tell("weights", done, total)

    compared = workers.run(pairs, compare_pair, tick, lambda pair: turn_of(pair.a.stored, pair.b.stored))
    found = {row.id: row for row in compared}
    for tensors, in_a in ((only_in(a, b), True), (only_in(b, a), False)):
        found |= {place: alone(place, tensor, in_a=in_a) for place, tensor in tensors.items()}
    every = {**a.everything, **b.everything}
    groups = {group: number for number, group in enumerate(a.table.groups)}
    ordered = sorted(every, key=lambda place: groups.get(every[place].spec.group, len(groups)))
    return tuple(found[place] for place in ordered)


def _labels(a: Checkpoint, b: Checkpoint, *, ignored: bool) -> Agreement:
    if a.task != b.task:
        return Agreement(about=f"A is a {a.head} and B a {b.head}", ignored=ignored)
    return compare_labels(a, b, ignored=ignored)


def _config_differences(a: Checkpoint, b: Checkpoint) -> Iterator[ConfigDifference]:
    """Keys of the families' configs, in their own spelling, with other values; what the files' shapes say counts."""
    one, other = a.plan.config, b.plan.config
    if one.family.model_type != other.family.model_type:
        yield ConfigDifference("model_type", one.family.model_type, other.family.model_type)
    for key in dict.fromkeys((*one.family.schema.defaults, *other.family.schema.defaults, *COMMON, "num_labels")):
        if one.values.get(key) != other.values.get(key):
            yield ConfigDifference(key, one.values.get(key), other.values.get(key))


def _of_both(a: Checkpoint, b: Checkpoint, names: Callable[[Checkpoint], list[str]]) -> tuple[str, ...]:
    return (*(f"A: {name}" for name in names(a)), *(f"B: {name}" for name in names(b)))


def _notes(a: Checkpoint, b: Checkpoint) -> Iterator[str]:
    for label, side in (("A", a), ("B", b)):
        yield from (f"{label}: {note}" for note in (*side.source.notes, *side.header.notes, *side.config.notes))
    yield from notes_of_both(a, b)


def _checked(ignore: Iterable[str]) -> tuple[str, ...]:
    aside = tuple(ignore)
    if unknown := [name for name in aside if name not in ASPECTS]:
        raise RequestError(f"ignore is {unknown[0]!r}.", hint=f"Choose from {', '.join(ASPECTS)}.")
    return aside


def _with_config(options: SourceOptions, config: str | os.PathLike[str] | None) -> SourceOptions:
    return replace(options, config=config)
