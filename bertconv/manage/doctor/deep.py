"""Findings about the numbers: what a header cannot show. Every tensor is read once, piece by piece, in flat memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bertconv.checkpoint import Checkpoint, Tensor, checkpoint_of, open_checkpoint
from bertconv.containers.stored import FLOATS
from bertconv.digests import digests
from bertconv.errors import BertconvError, DamagedCheckpoint, TiedTensorsDiffer
from bertconv.formats import workers
from bertconv.formats.readback import check_duplicates
from bertconv.manage.doctor.elements import Facts, Job, measured
from bertconv.manage.doctor.patient import ERROR, NOTE, WARNING, Finding, Patient
from bertconv.manage.doctor.programs import BERTCONV, EVERY, OTHERS, TORCH_4, TRANSFORMERS_5
from bertconv.mapping.indices import TensorId
from bertconv.mapping.table import POSITIONS, Table
from bertconv.modules import opened_modules
from bertconv.progress import Progress
from bertconv.records import dataclass
from bertconv.source import SourceOptions
from bertconv.source.weights import is_index
from bertconv.text import brief, printable, shown, some
from bertconv.tokenizer import read_tokenizer

_WORDS, _PLACES = "vocab", "positions"
"""The sizes that the rows of an embedding table are."""
_SHOWN = 8
_HALF = "float16"
_APART, _UNTIE = "copies-differ", "--untie"


def check(patient: Patient, progress: Progress) -> list[Finding]:
    """Findings about the numbers; where there is no plan, those that need none.

    Raises:
        DamagedCheckpoint: a file ends too early, cannot be read, or is written to meanwhile.
    """
    if patient.plan is None or patient.identity is None or patient.table is None or patient.config is None:
        floats = {tensor.name: tensor for tensor in patient.header.tensors if tensor.dtype in FLOATS}
        return list(_numbers(patient, _read({name: Job(tensor) for name, tensor in floats.items()}, progress)))
    with opened_modules(patient.source, check_data=True) as modules:
        checkpoint = checkpoint_of(
            patient.source, patient.header, modules, patient.identity, patient.table, patient.config,
            patient.plan.head,
        )  # fmt: skip
        jobs = {place: _job(patient.table, place, tensor) for place, tensor in checkpoint.everything.items()}
        facts = _read({place: job for place, job in jobs.items() if job.stored.dtype in FLOATS}, progress)
        found = [*_numbers(patient, facts), *_rows(patient, checkpoint, facts), *_copies(patient)]
        found += _second(patient, checkpoint)
        for module in modules:
            module.file.check_unchanged()
    return found


def with_untied(findings: list[Finding]) -> list[Finding]:
    """The findings; where copies differ, every conversion has to keep them apart."""
    apart = any(finding.id == _APART for finding in findings)
    return [
        replace(one, command=f"{one.command} {_UNTIE}")
        if apart and one.command.startswith("bertconv convert ") and not one.command.endswith(_UNTIE)
        else one
        for one in findings
    ]


def _read(jobs: dict[str, Job], progress: Progress) -> dict[str, Facts]:
    """The facts of every tensor."""
    total, done = sum(job.stored.nbytes for job in jobs.values()), 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress("reading", done, total)

    facts = workers.run(list(jobs.values()), measured, tick, lambda job: job.stored.turn)
    return dict(zip(jobs, facts, strict=True))


def _job(table: Table, place: str, tensor: Tensor) -> Job:
    """What is to be looked at in a tensor."""
    at = TensorId.parse(place)
    group = table.groups.get(at.group)  # that of a module beside the transformer is in no table
    by_row = group is not None and group.modules[at.module].kind == "embedding"
    shape = tensor.spec.canonical.shape
    return Job(tensor.stored, at.role, tensor.transpose if by_row else None, shape if by_row else ())


def _numbers(patient: Patient, facts: dict[str, Facts]) -> Iterator[Finding]:
    """What is wrong with numbers by themselves."""
    yield from _bad(facts, "nan", "there are NaN", lambda one: one.nan)
    yield from _bad(facts, "infinite", "there are infinite numbers", lambda one: one.infinite)
    zero = [one.name for one in facts.values() if one.is_weight and one.is_zero and not one.is_scale]
    if zero:
        yield Finding(
            "all-zero", WARNING, EVERY,
            f"{brief(zero)} {'is' if len(zero) == 1 else 'are'} all zero: what goes through comes out as nothing, "
            "unless it is a new part that training was to begin with.",
            advice="Compare it with an earlier checkpoint: `bertconv verify EARLIER THIS --level weights`.",
            tensors=_names(zero),
        )  # fmt: skip
    scales = [one for one in facts.values() if one.is_scale and one.zeros]
    if scales:
        count = sum(one.zeros for one in scales)
        names = [one.name for one in scales]
        yield Finding(
            "norm-scale-zero", ERROR if any(one.is_zero for one in scales) else WARNING, EVERY,
            f"there are scales of zero in {brief(names)}, {count:,} in all: these features are lost behind them.",
            advice="Take an earlier checkpoint: training or a cast has destroyed this one.", tensors=_names(names),
        )  # fmt: skip
    yield from _half(patient, facts)


def _bad(facts: dict[str, Facts], name: str, what: str, count: Callable[[Facts], int]) -> Iterator[Finding]:
    bad = [one for one in facts.values() if count(one)]
    if bad:
        total, names = sum(map(count, bad)), [one.name for one in bad]
        yield Finding(
            name, ERROR, EVERY,
            f"{what} in {brief(names)}, {total:,} in all: every output that depends on them is NaN.",
            advice="Take an earlier checkpoint: nothing can tell what these numbers were.", tensors=_names(names),
        )  # fmt: skip


def _half(patient: Patient, facts: dict[str, Facts]) -> Iterator[Finding]:
    """What a cast to float16 would do."""
    if _HALF in patient.types and len(patient.types) == 1:
        return
    said = patient.raw.get("dtype", patient.raw.get("torch_dtype")) == _HALF
    large = [one for one in facts.values() if one.too_large]
    if large:
        count, names = sum(one.too_large for one in large), [one.name for one in large]
        then = "the config says float16, and transformers 5 makes them infinite on loading" if said else (
            "a cast to float16 would make them infinite, and bertconv refuses it"
        )  # fmt: skip
        yield Finding(
            "loads-as-infinite" if said else "float16-overflow", ERROR if said else NOTE,
            (TRANSFORMERS_5.key, BERTCONV.key, OTHERS.key) if said else (BERTCONV.key, OTHERS.key),
            f"there are numbers larger than float16 can hold, 65,504, in {brief(names)}, {count:,} in all: {then}.",
            patient.convert("--dtype", patient.widest) if said else "",
            advice="" if said else "Use bfloat16 where 16 bits are needed.", tensors=_names(names),
        )  # fmt: skip
    small = [one for one in facts.values() if one.too_small]
    if small:
        count, names = sum(one.too_small for one in small), [one.name for one in small]
        yield Finding(
            "float16-underflow", NOTE, (OTHERS.key, BERTCONV.key),
            f"there are numbers smaller than the smallest of float16, 6e-08, {count:,} in all: a cast to float16 makes "
            "most of them zero.",
            advice="Use bfloat16 where 16 bits are needed.", tensors=_names(names),
        )  # fmt: skip


@dataclass(frozen=True)
class _Table:
    """One embedding table: its facts, the rows that the model uses, and what these are called."""

    facts: Facts
    used: np.ndarray[Any, Any]
    tokens: dict[int, str]

    def called(self, rows: Sequence[int]) -> str:
        """Rows for a sentence, with their tokens where they have some."""
        words = [f"{row} {shown(self.tokens[row])}" if row in self.tokens else str(row) for row in rows]
        return some(words, _SHOWN)


def _rows(patient: Patient, checkpoint: Checkpoint, facts: dict[str, Facts]) -> Iterator[Finding]:
    """Rows of embedding tables that were never trained."""
    named = read_tokenizer(patient.source).tokens or {}
    tokens = {number: token for token, number in named.items()}
    for place, one in facts.items():
        sizes = checkpoint.everything[place].spec.factors
        if one.rows is None or not sizes:
            continue
        axis = sizes[0][0]
        used = np.ones(len(one.rows.hashes), bool)
        padding = checkpoint.values.get("pad_token_id")
        if axis == _PLACES and checkpoint.table.positions != POSITIONS[0]:
            used[: (padding if isinstance(padding, int) else 0) + 1] = False
        if axis == _WORDS and isinstance(padding, int) and 0 <= padding < len(used):
            used[padding] = False
        if axis == _WORDS and tokens:
            known = np.zeros(len(used), bool)
            known[[number for number in tokens if number < len(used)]] = True
            used &= known
        table = _Table(one, used, tokens if axis == _WORDS else {})
        if axis in (_WORDS, _PLACES):
            yield from _dead(table)
        if axis == _WORDS:
            yield from _alike(table)


def _dead(table: _Table) -> Iterator[Finding]:
    """Rows whose numbers are all the same."""
    rows = table.facts.rows
    if rows is None or table.facts.is_zero:
        return
    dead = np.flatnonzero(rows.constant & table.used).tolist()
    if dead:
        yield Finding(
            "dead-rows", WARNING, EVERY,
            f"{printable(table.facts.name)} has rows that hold one number throughout, {len(dead):,} in all "
            f"({table.called(dead)}): they say nothing of their tokens or places.",
            advice="Train them, or copy rows that are close in meaning.", tensors=(printable(table.facts.name),),
        )  # fmt: skip


def _alike(table: _Table) -> Iterator[Finding]:
    """Rows of words that are equal to another one: tokens that were added and not trained."""
    rows = table.facts.rows
    if rows is None:
        return
    alive = np.flatnonzero(table.used & ~rows.constant)
    values, counts = np.unique(rows.hashes[alive], return_counts=True)
    again = alive[np.isin(rows.hashes[alive], values[counts > 1])].tolist()
    if again:
        yield Finding(
            "identical-rows", WARNING, EVERY,
            f"{printable(table.facts.name)} has rows that are equal to others, {len(again):,} in all "
            f"({table.called(again)}): new tokens that were never trained.",
            advice="Train them, or remove the tokens.", tensors=(printable(table.facts.name),),
        )  # fmt: skip


def _copies(patient: Patient) -> Iterator[Finding]:
    """Tensors that are stored twice: equal, or, where the config ties them, two models in one file."""
    plan = patient.plan
    pairs = plan.duplicates if plan else ()
    differing: list[str] = []
    try:
        stale = check_duplicates(pairs)
    except TiedTensorsDiffer:
        stale = ()
        differing = [pair.copy.name for pair in pairs if _differ(pair)]
    if differing:
        yield Finding(
            _APART, ERROR, (TRANSFORMERS_5.key, TORCH_4.key, BERTCONV.key),
            f"{brief(differing)} and what the config ties it to have different values: transformers 5 keeps both, 4.57 "
            "drops the copy, and bertconv refuses to guess.",
            patient.convert(_UNTIE), tensors=_names(differing),
        )  # fmt: skip
    for sentence in stale:
        yield Finding(
            "stale-copy", NOTE, (BERTCONV.key, OTHERS.key), f"{printable(sentence)}.", patient.convert()
        )  # fmt: skip


def _differ(pair: Any) -> bool:
    try:
        check_duplicates([pair])
    except TiedTensorsDiffer:
        return True
    return False


def _second(patient: Patient, checkpoint: Checkpoint) -> Iterator[Finding]:
    """Files of weights beside the one that is used, compared with it."""
    known: dict[str, str] | None = None
    for name in _others(patient):
        try:
            with open_checkpoint(patient.source.folder / name, SourceOptions(config=patient.source.config)) as other:
                known = known or digests(checkpoint.tensors)
                theirs = digests(other.tensors)
        except DamagedCheckpoint as error:
            yield _unlike(patient, name, f"cannot be read ({printable(error.message.rstrip('.'))})")
            continue
        except BertconvError as error:
            yield _unlike(patient, name, f"is another model ({printable(error.message.splitlines()[0].rstrip('.:'))})")
            continue
        differing = sum(known.get(place) != theirs.get(place) for place in {*known, *theirs})
        if differing:
            yield _unlike(patient, name, f"holds another model: {differing} of {len({*known, *theirs})} tensors differ")


def _others(patient: Patient) -> list[str]:
    """Other files of weights on their own, of the user's own folder; those of the Hub were not fetched."""
    own = {name for program in (BERTCONV,) for name in program.files if not is_index(name)}
    there = sorted(own & patient.names - {*patient.source.weights.files})
    return [name for name in there if (patient.source.folder / name).is_file()]


def _unlike(patient: Patient, name: str, what: str) -> Finding:
    return Finding(
        "second-weights-differ", ERROR, EVERY,
        f"{name} lies beside {patient.weights} and {what}: which model is loaded depends on the program.",
        patient.remove((name,)), advice=f"Look first which of the two is the one that you want: {name} is removed.",
    )  # fmt: skip


def _names(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(printable, names))
