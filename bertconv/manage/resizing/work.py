"""The output of a resizing, planned to the last tensor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from bertconv.checkpoint import Opened
from bertconv.containers.stored import StoredTensor
from bertconv.convert import own_format
from bertconv.derive import Companions, Derivation, Parent, changed_config
from bertconv.errors import MappingError, RequestError
from bertconv.formats.content import Content, Origin
from bertconv.formats.output import Format
from bertconv.formats.readback import check_duplicates
from bertconv.manage.resizing.ids import GENERATION, Ids, beyond
from bertconv.manage.resizing.pieces import pieces_of
from bertconv.manage.resizing.request import COPY, NORMAL, PIECES, ResizeRequest
from bertconv.manage.resizing.streams import resized, resized_origin, vocabulary_axis, vocabulary_sizes
from bertconv.manage.resizing.vocabulary import NewRows, RowPlan, plan_rows
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.plan import Move, Plan
from bertconv.mapping.refusals import check_whole
from bertconv.mapping.table import VOCABULARY
from bertconv.record import computed_report, short_name
from bertconv.records import dataclass
from bertconv.report import Operation
from bertconv.source import Source
from bertconv.source.sidecars import is_of_tokenizer
from bertconv.source.tokenizer_folder import open_tokenizer
from bertconv.text import shown, some
from bertconv.tokenizer import Tokenizer, read_tokenizer
from bertconv.tokenizer.marks import marks_of

_SHOWN = 3
"""Tokens that a sentence names."""


def planned(found: Opened, request: ResizeRequest) -> tuple[Derivation, RowPlan]:
    """A resizing to write, and which row becomes which in it.

    Raises:
        MappingError: see `resize_vocabulary`.
    """
    work = _Resizing.of(found, request)
    return work.derivation(), work.rows


@dataclass(frozen=True)
class _Resizing:
    """One resizing, its rows decided.

    Attributes:
        found: the checkpoint.
        request: what is wanted.
        form: of the output.
        plan: how its tensors fill the same class.
        old: source and content of the tokenizer that its rows belong to.
        new: of the one that they are to belong to.
        rows: which row becomes which.
    """

    found: Opened
    request: ResizeRequest
    form: Format
    plan: Plan
    old: tuple[Source, Tokenizer]
    new: tuple[Source, Tokenizer]
    rows: RowPlan

    @classmethod
    def of(cls, found: Opened, request: ResizeRequest) -> _Resizing:
        form = request.form or own_format(found)
        plan = found.plan(form.dialect, request.plan)
        check_whole(plan, found.table)
        stale = check_duplicates(plan.duplicates)
        plan = replace(plan, notes=(*plan.notes, *stale))
        own = (found.source, read_tokenizer(found.source))
        old, new = (
            own if given is None else _tokenizer(given, request)
            for given in (request.from_tokenizer, request.tokenizer)
        )
        before = int(plan.config.values[VOCABULARY])
        rows = plan_rows(*_tokens(old, new, request), before, request.size)
        return cls(found, request, form, plan, old, new, rows)

    def derivation(self) -> Derivation:
        """The output, planned to the last tensor."""
        found, plan = self.found, self.plan
        ids = Ids((self.old[1].tokens or {}), (self.new[1].tokens or {}))
        changes, notes = ids.changed_config(plan.config, found.table, plan.head)
        config = plan.config.replace(**changes, **{VOCABULARY: self.rows.rows})
        contents, details = self.contents(vocabulary_sizes(found.table))
        companions = self.companions(ids)
        report = computed_report(found.source, found.header, plan, found.table, contents, details)
        own = set(companions.carried) | set(companions.made)
        notes = (*report.notes, *notes, *beyond(changes, plan.config, self.rows.rows), *self.notes())
        report = replace(
            report,
            sidecars=tuple(sorted(own)),
            not_carried=(*report.not_carried, *(name for name in found.source.sidecars if name not in own)),
            notes=notes,
        )
        used = (source for source, _ in (self.old, self.new) if source is not found.source)
        return Derivation(
            operation=Operation("resize", self.operation()),
            parents=(Parent("source", found, plan.head),),
            form=self.form,
            table=found.table,
            head=plan.head,
            config=changed_config(config, found.table, plan.head),
            contents=contents,
            report=report,
            shard_limit=self.request.shard_limit,
            companions=companions,
            modules=found.modules,
            inputs=tuple(source.folder / name for source in used for name in source.sidecars),
        )

    def operation(self) -> dict[str, Any]:
        """What is recorded of the options; tokenizers by their Hub ids or the last parts of their paths."""
        given = {
            key: short_name(source.given, source.revision)
            for key, (source, _) in (("tokenizer", self.new), ("from_tokenizer", self.old))
            if source is not self.found.source
        }
        return {**given, **self.request.options}

    def contents(self, sizes: Sequence[str]) -> tuple[tuple[Content, ...], dict[str, str]]:
        """Every tensor, and what was done to those that have a row for each token."""
        fresh = self.fresh()
        contents, details = [], {}
        for move in self.plan.moves:
            stored = _stored(move)
            axis = vocabulary_axis(move.target, sizes)
            if axis is None or self.rows.is_identity:
                contents.append(Content(move.target, stored.dtype, Origin(stored, move.transpose)))
                continue
            target = resized(move.target, sizes, self.rows.rows)
            origin = resized_origin(move, stored, axis, self.rows, fresh(move.target))
            contents.append(Content(target, stored.dtype, origin))
            details[target.id] = f"{self.rows.before:,} rows to {self.rows.rows:,}"
        return tuple(contents), details

    @cached_property
    def pieces(self) -> Mapping[int, Sequence[int]]:
        """Row of each new token -> old rows of its pieces, where these are asked for."""
        if self.request.new != PIECES:
            return {}
        return pieces_of(self.rows, self.old[0], self.old[1], self.new[1])

    def fresh(self) -> Callable[[TensorSpec], NewRows]:
        """What the new rows of each table are."""
        request, table = self.request, self.found.table
        how, _, token = request.new.partition(":")
        copied = None
        if how == COPY:
            copied = (self.old[1].tokens or {}).get(token, self.rows.before)
            if copied >= self.rows.before:
                raise RequestError(
                    f"there is no row of {shown(token)} to copy.", hint="Name a token of the old tokenizer."
                )
        spread = float(self.plan.config.values["initializer_range"])

        def of(spec: TensorSpec) -> NewRows:
            place = table.tied.get(spec.id, spec.id)  # copies get the same numbers as what they are copies of
            is_weight = how == NORMAL and spec.id.endswith(".weight")
            return NewRows(how, copied, self.pieces, f"{request.seed}\0{place}", spread if is_weight else 0.0)

        return of

    def companions(self, ids: Ids) -> Companions:
        """The new tokenizer's files in the place of the old one's; everything else goes along."""
        whole, source = Companions.of(self.found.source), self.new[0]
        carried, made = dict(whole.carried), dict(whole.made)
        if source is not self.found.source:
            carried = {name: opened for name, opened in carried.items() if not is_of_tokenizer(name)}
            carried |= dict.fromkeys(source.sidecars, source.open)
        if (changed := ids.generation(self.found.source)) is not None:
            made[GENERATION] = changed
            del carried[GENERATION]
        return replace(whole, carried=carried, made=made, tokenizer=source)

    def notes(self) -> Iterator[str]:
        """What became of the rows, one sentence each."""
        rows = self.rows
        found, padding = rows.alignment, rows.padding
        counts = {
            "kept": len(found.kept), "moved": len(found.moved), "new": len(found.new), "dropped": len(found.dropped),
        }  # fmt: skip
        if not rows.has_tokens:
            yield "nothing lists its tokens: every row is taken for a token's"
        else:
            yield "tokens: " + ", ".join(f"{count:,} {what}" for what, count in counts.items())
        yield (
            f"rows: {rows.before:,} became {rows.rows:,}; {padding['kept']:,} of padding were kept and "
            f"{padding['added']:,} added"
        )
        for what, tokens in (("new", found.new), ("dropped", found.dropped)):
            if tokens:
                yield f"{what} tokens: {some((shown(token) for token in tokens), _SHOWN)}"
        if self.request.new == PIECES and (whole := [one for one in rows.new if one not in self.pieces]):
            yield f"{len(whole):,} new tokens have no pieces that are known: their rows are the mean"
        rules = [(tokenizer.rules or {}).get("normaliser") for _, tokenizer in (self.old, self.new)]
        if rules[0] != rules[1] and rows.has_tokens:
            yield "the two tokenizers change a text in different ways (lower case, accents) before it is cut"


def _stored(move: Move) -> StoredTensor:
    """Where a tensor comes from; a plan that initialises nothing has none without."""
    if move.source is None:
        raise MappingError("is not in the checkpoint.", hint="Report this as a bug.", tensor=move.target.name)
    return move.source


def _tokenizer(given: str | os.PathLike[str], request: ResizeRequest) -> tuple[Source, Tokenizer]:
    source = open_tokenizer(given, request.source)
    return source, read_tokenizer(source)


def _tokens(
    old: tuple[Source, Tokenizer], new: tuple[Source, Tokenizer], request: ResizeRequest
) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Both vocabularies; none where nothing lists the tokens and only the number of rows is to change.

    Raises:
        MappingError: one is not there or cannot be read, or their tokens do not mean the same.
    """
    if request.tokenizer is None and request.from_tokenizer is None and not old[1].tokens:
        return {}, {}
    for (source, tokenizer), option in ((old, "--from-tokenizer"), (new, "--tokenizer")):
        if not tokenizer.tokens:
            why = "".join(f"; {problem}" for problem in tokenizer.problems)
            raise MappingError(
                f"has no tokenizer files that list its tokens{why}.",
                hint=f"Save it with transformers' save_pretrained as tokenizer.json, and give that with {option}.",
                file=source.given,
            )
    marks = marks_of(old[1]), marks_of(new[1])
    if marks[0] != marks[1]:
        raise MappingError(
            f"the old tokens are {marks[0] or 'of an unknown kind'}, the new ones {marks[1] or 'of an unknown kind'}: "
            "the same text does not mean the same in both.",
            hint="Take a tokenizer of the same kind.",
        )
    return old[1].tokens or {}, new[1].tokens or {}
