"""attach_head(): the backbone of one checkpoint and the head of another as one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property

from bertconv.checkpoint import Opened, Tensor, opened
from bertconv.config import Config
from bertconv.convert import own_format
from bertconv.derive import Companions, Derivation, Parent, Writing, changed_config, write_output
from bertconv.digests import digest_of_tensors, digests, vocabulary_facts
from bertconv.errors import MappingError, ShapeMismatch, UnknownTensors, check_one_of
from bertconv.formats.content import Content, Origin
from bertconv.formats.folder import destination_of
from bertconv.formats.interrupts import held_back
from bertconv.formats.output import Format, formats
from bertconv.formats.readback import check_duplicates
from bertconv.manage.heads import backbone_groups, head_groups, joined_config, opened_head
from bertconv.manage.rewriting import LEVELS, Given, source_options
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import TensorSpec, expand, target_specs
from bertconv.mapping.heads import known_head
from bertconv.mapping.plan import Plan, PlanOptions
from bertconv.mapping.planner import make_plan
from bertconv.mapping.recognise import Wanted
from bertconv.mapping.refusals import check_folded, needs_more
from bertconv.mapping.table import Table
from bertconv.parts import HeadPart
from bertconv.progress import Progress, silent
from bertconv.record import computed_report, left_out
from bertconv.records import dataclass
from bertconv.report import LeftOut, Operation, Report
from bertconv.saving import recorded_limit, shard_limit
from bertconv.text import listing, printable, shown
from bertconv.tokenizer import read_tokenizer

_ANY = ("",)
"""Names that no table knows are reported, not refused: of each checkpoint only a part is wanted."""
_OF_BOTH = ("hidden_act", "layer_norm_eps")
"""Keys of the config that backbone and head compute with."""
_OF_BODY = ("num_attention_heads", "position_embedding_type")
"""Keys that decide what a backbone of one digest computes."""


def attach_head(  # noqa: PLR0913  (one argument per option of the command)
    backbone: Given,
    head: Given,
    dst: Given,
    *,
    force: bool = False,
    to: str | None = None,
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
    """Write a model of one checkpoint's backbone and another's head.

    Config and tokenizer are the backbone's, but for what belongs to the head: labels, task, tied words, dropout of the
    head. Each tensor keeps its element type.

    Args:
        backbone: folder, file or Hub id of the checkpoint whose backbone is taken.
        head: a folder that `extract_checkpoint(..., part="head")` wrote, or a checkpoint of the same family, whose head
            is taken.
        dst: folder to make.
        force: put a head on another backbone, vocabulary or activation than it was trained with, or where it does not
            say.
        to: format of the output; by default that of the backbone.
        max_shard_size: most bytes of tensors in one file, as a number or like "5GB".
        overwrite: replace an earlier output at `dst`.
        dry_run: plan and report, write nothing.
        verify: "weights" reads every tensor back and compares it; "none" does nothing.
        token: access token for the Hub.
        cache_dir: cache of the Hub.
        local_files_only: use only what the cache holds.
        family: the `model_type` of both, where no config says it.
        table: a mapping table of the caller's own.
        progress: called with the bytes of each step.

    Returns:
        What happened to every tensor.

    Raises:
        MappingError: the head is of another family, or was trained with another backbone or vocabulary.
        ShapeMismatch: sizes of the head are not those of the backbone.
        BertconvError: see `bertconv.errors`; the destination is then as it was before.

    Example:
        >>> attach_head("bert-base-uncased", "head/", "out/").head  # doctest: +SKIP
        'BertForSequenceClassification'
    """
    check_one_of(verify, LEVELS, "verify")
    check_one_of(to, (None, *formats()), "to")
    source = source_options({"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only})
    wanted, limit, reading = Wanted.of(family, table), shard_limit(max_shard_size), not dry_run
    recorded = {key: value for key, value in (("force", force), ("to", to)) if value} | recorded_limit(max_shard_size)
    writing = Writing(destination_of(dst), overwrite, dry_run, verify != "none", progress or silent)
    with (
        opened(backbone, source, wanted=wanted, check_data=reading) as body,
        opened_head(head, source, body.table, wanted, check_data=reading) as (top, part),
        held_back() as checking,
    ):
        form = formats()[to] if to else own_format(body)
        planned = _Attachment(body, top, part, form, force, checking)
        derivation = planned.derivation(Operation("attach", recorded), limit)
        return write_output(derivation, writing, checking)


@dataclass(frozen=True)
class _Attachment:
    """One output in the planning.

    Attributes:
        body: the checkpoint of the backbone.
        top: that of the head.
        part: what is on record of a head alone.
        form: of the output.
        force: what a head remembers may be something else.
        check_signals: of `held_back`.
    """

    body: Opened
    top: Opened
    part: HeadPart | None
    form: Format
    force: bool
    check_signals: Callable[[], None]

    @property
    def table(self) -> Table:
        return self.body.table

    @cached_property
    def whole_body(self) -> Plan:
        """The backbone in PyTorch's order."""
        options = PlanOptions(head=self.table.base_head, groups=backbone_groups(self.table), allow_unknown=_ANY)
        return self.body.plan(load_dialects().reference, options)

    @cached_property
    def whole_top(self) -> Plan:
        """The head's checkpoint as what it is."""
        part, own = self.part, self.top.table
        if part is None:
            options = PlanOptions(allow_unknown=_ANY)
        else:
            options = PlanOptions(head=part.head, groups=self._own_groups(own, part.head))
        return self.top.plan(load_dialects().reference, options)

    @cached_property
    def head(self) -> str:
        """The class, as the backbone's family calls it."""
        return known_head(self.table, self.whole_top.head)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Groups of the head."""
        return self._own_groups(self.table, self.head)

    def _own_groups(self, table: Table, head: str) -> tuple[str, ...]:
        """Groups that are the head's; one that the class can do without and that is not there is left out."""
        there = {self.top.identity.specs[place].group for place in self.top.identity.by_id}
        optional = table.optional.get(head, ())
        found = tuple(one for one in head_groups(table, head) if one in there or one not in optional)
        if not found:
            raise MappingError(
                f"is a {head} without a head.", hint="Give another checkpoint.", file=str(self.top.source.folder)
            )
        return found

    @cached_property
    def config(self) -> Config:
        joined = joined_config(self.whole_body.config, self.whole_top.config, self.table, self.head)
        return changed_config(joined, self.table, self.head)

    def derivation(self, operation: Operation, limit: int) -> Derivation:
        """The output, planned to the last tensor."""
        self.check_family()
        self.check_known()
        self.check_format()
        notes = [
            *self.stale(),
            *self.check_vocabulary(self.check_sizes()),
            *self.check_backbone(),
            *self.check_config(),
        ]
        body, top = self.plan(self.body, backbone_groups(self.table)), self.plan(self.top, self.groups)
        moves = {
            move.target.id: (move, name) for plan, name in ((body, "backbone"), (top, "head")) for move in plan.moves
        }
        every = (*backbone_groups(self.table), *self.groups)
        groups = [group for group in self.table.heads[self.head] if group in every]
        order = [
            one for one in target_specs(self.table, self.form.dialect, self.config, self.head, groups) if one in moves
        ]
        contents, details = [], {}
        for move, name in (moves[place] for place in order):
            if move.source is None:
                raise MappingError(f"nothing fills {move.target.name}.", hint="Give another head.")
            contents.append(Content(move.target, move.source.dtype, Origin(move.source, move.transpose)))
            details[move.target.id] = f"of the {name}{', transposed' if move.transpose else ''}"
        source = self.body.source
        if without := [group for group in self.table.heads[self.head] if group not in every]:
            notes.append(f"neither has {', '.join(without)}: load it with add_pooling_layer=False")
        body = replace(body, notes=())  # what is unusual about a part of a class is not so of the whole
        report = computed_report(source, self.body.header, body, self.table, contents, details)
        parents = (
            Parent("backbone", self.body, self.whole_body.head),
            Parent("head", self.top, self.whole_top.head, self.part),
        )
        return Derivation(
            operation=operation, parents=parents, form=self.form, table=self.table, head=self.head, config=self.config,
            contents=contents, shard_limit=limit, companions=Companions.of(source), modules=self.body.modules,
            report=replace(
                report, equals=(self.head,), left_out=tuple(self.left_out()), notes=(*self.notes(), *notes)
            ),
        )  # fmt: skip

    def plan(self, one: Opened, groups: tuple[str, ...]) -> Plan:
        """How some groups of a checkpoint become those of the output."""
        specs = one.identity.specs
        by_id = {place: found for place, found in one.identity.by_id.items() if specs[place].group in groups}
        identity = replace(one.identity, by_id=by_id, unrecognised=(), outside=())
        options = PlanOptions(head=self.head, groups=groups)
        plan = make_plan(identity, self.table, load_dialects(), self.config, self.form.dialect, options)
        check_folded(plan)
        return plan

    def check_format(self) -> None:
        """UnsupportedCheckpoint for a format whose programs need groups that the class does not have."""
        fills = self.table.in_dialect(self.form.dialect).fills
        if made := [group for group in fills if group not in self.table.heads[self.head]]:
            raise needs_more(self.head, self.form.dialect, made)

    def stale(self) -> Iterator[str]:
        """What is said of stored copies that differ and may."""
        for plan in (self.whole_body, self.whole_top):
            yield from check_duplicates(plan.duplicates, lambda _: self.check_signals())

    def notes(self) -> Iterator[str]:
        """What is unusual about both; the plans of parts miss groups, which is no news."""
        for one in (self.body, self.top):
            yield from (*one.source.notes, *one.header.notes)
        yield from self.config.notes
        yield from self.whole_top.notes if self.part is None else ()

    def left_out(self) -> Iterator[LeftOut]:
        """Everything in both checkpoints that the output has not."""
        yield from left_out(self.body.header, self.whole_body)
        yield from left_out(self.top.header, self.whole_top)
        for move in self.whole_top.moves:
            if move.target.group not in self.groups and move.source is not None:
                yield LeftOut(printable(move.source.name), "unused", "the backbone of the head's checkpoint")

    def check_family(self) -> None:
        if self.top.table.path.resolve() != self.table.path.resolve():
            raise MappingError(
                f"is a model of {self.top.table.family.title}, and the backbone is one of {self.table.family.title}.",
                hint="Give a head of the backbone's family.", file=str(self.top.source.folder),
            )  # fmt: skip

    def check_known(self) -> None:
        """A part of the backbone that no table knows would be lost."""
        if unknown := [printable(one.tensor.name) for one in self.whole_body.unloaded if one.inside]:
            raise UnknownTensors(
                f"the backbone has parts that no table knows:\n{listing(unknown)}",
                hint="If they may be left out, convert it first with --allow-unknown REGEX.",
                file=str(self.body.source.folder),
            )

    def check_config(self) -> Iterator[str]:
        """A head computes with keys of the config that are the backbone's in the output."""
        own, there = self.whole_top.config.values, self.whole_body.config.values
        for key in (*_OF_BOTH, *(_OF_BODY if self.part is not None else ())):
            if own.get(key) != there.get(key):
                yield self.remembered(f"was trained with another {key}", shown(own.get(key)), shown(there.get(key)))

    def check_sizes(self) -> list[TensorSpec]:
        """What the head's tensors should be on this backbone; ShapeMismatch where they are something else."""
        dialect, by_id = self.top.identity.dialect, self.top.identity.by_id
        specs = expand(self.table, dialect, self.config.values, self.groups)
        wrong = [
            f"{printable(by_id[place][0].name)} is {list(by_id[place][0].shape)}, not {list(spec.shape)}"
            for place, spec in specs.items()
            if place in by_id and by_id[place][0].shape != spec.shape
        ]
        if wrong:
            raise ShapeMismatch(
                f"the head does not fit the backbone:\n{listing(wrong)}",
                hint="Give a head of a model of the backbone's sizes.", file=str(self.top.source.folder),
            )  # fmt: skip
        return list(specs.values())

    def check_vocabulary(self, specs: list[TensorSpec]) -> Iterator[str]:
        """A head with a row for every token needs the tokens that it was trained with."""
        factors = {factor for spec in specs for dimension in spec.factors for factor in dimension}
        if not factors & self.table.token_sizes:
            return
        own = self.part.vocabulary if self.part is not None else _vocabulary(self.top)
        there = _vocabulary(self.body)
        if own and there and own != there:
            yield self.remembered("was trained with another vocabulary", own, there)

    def check_backbone(self) -> Iterator[str]:
        """A head alone says which backbone it was trained with."""
        if self.part is None:
            return
        tensors = {
            move.target.id: Tensor(move.target, move.source, move.transpose)
            for move in self.whole_body.moves
            if move.source is not None
        }
        there = digest_of_tensors(digests(tensors, lambda _: self.check_signals()))
        own = self.part.backbone_digest
        if own != there:
            yield self.remembered("was trained with another backbone", own or "none on record", there)

    def remembered(self, what: str, own: str, there: str) -> str:
        """What is noted of a head on something else than it was trained with; MappingError unless that is wanted."""
        if not self.force:
            raise MappingError(
                f"the head {what}: {own}, not {there}.",
                hint="Give that one, or pass --force to attach it all the same.",
                file=str(self.top.source.folder),
            )
        return f"the head {what}: {own}, not {there}"


def _vocabulary(one: Opened) -> str:
    """The digest of a checkpoint's tokens; empty where no file lists them."""
    facts = vocabulary_facts(read_tokenizer(one.source))
    return facts["sha256"] if facts else ""
