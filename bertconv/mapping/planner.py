"""Header + table + config = the plan: every source tensor and every target tensor in exactly one state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property

from bertconv.config import Config
from bertconv.containers.stored import FLOATS, StoredTensor
from bertconv.errors import BertconvError, ShapeMismatch, UnsupportedCheckpoint
from bertconv.mapping.dialects import Dialect, Dialects, load_dialects
from bertconv.mapping.expand import TensorSpec, expand, target_specs, transpose_specs
from bertconv.mapping.folding import Folding
from bertconv.mapping.heads import choose_head, config_of_model, fit_config, model_of, rank_heads, sizes_seen
from bertconv.mapping.identify import Identity, regrouped
from bertconv.mapping.ignore import IgnoreLists, check_regexes, first_match, ignore_lists
from bertconv.mapping.meaning import meaning_of
from bertconv.mapping.plan import Duplicate, Move, Plan, PlanOptions, UnloadedTensor
from bertconv.mapping.refusals import (
    Unknown,
    check_has_class,
    missing_tensors,
    no_place,
    undecided,
    unknown_tensors,
    wrong_shapes,
)
from bertconv.mapping.table import Table
from bertconv.mapping.ties import Ties
from bertconv.mapping.unrecognised import Unrecognised
from bertconv.records import dataclass
from bertconv.text import listing, printable


def make_plan(
    identity: Identity, table: Table, dialects: Dialects, config: Config, target: Dialect, options: PlanOptions
) -> Plan:
    """Match every source tensor with a target tensor.

    Raises:
        RequestError: a head or a regex that makes no sense.
        AmbiguousHead: several classes have these tensors, and neither the caller nor the config says which it is.
        ShapeMismatch: tensors, config and table do not fit each other.
        MissingTensors: the file does not fill the head.
        UnknownTensors: names that no table, head or ignore list knows.
        UnsupportedCheckpoint: weights that are not floating-point numbers, a class or a tensor that the target's
            dialect has no place for, or a model that its program cannot compute.
    """
    identity = regrouped(model_of(table, identity, config, options.head), table, config)
    chosen = choose_head(table, identity, config, options.head)
    if chosen.rivals:
        raise undecided(chosen, config)
    head = chosen.head
    check_has_class(table, target, head)
    meaning = meaning_of(
        table, identity.dialect, target, config, head, hidden_act=options.hidden_act, allow_loss=options.allow_loss
    )
    config, sized = config_of_model(meaning.config, table, identity, head)
    seen = sizes_seen(table, identity, head)
    config, notes = fit_config(config, seen, strict=not options.ignore_mismatched, fewer=options.fewer)
    notes = [*sized, *notes]
    if options.untie:
        config = config.replace(tie_word_embeddings=False)
    check_regexes(options.allow_unknown)
    ignore = options.ignore or ignore_lists(table, dialects, head)
    ignore = ignore.extended(options.ignore_unexpected, options.ignore_missing)
    target = table.as_written(target, head)
    planner = _Planner(identity, table, config, target, options, head, ignore)
    planner.check_switched_off()
    planner.strangers.refuse_foreign(planner.strangers.unknown())  # before shapes that such a part has made others
    planner.check_tensors()
    moves, unfilled = planner.moves()
    planner.check_losses()
    return Plan(
        head=head,
        equals=chosen.equals,
        identity=identity,
        config=planner.left,
        dialect=target,
        moves=moves,
        unloaded=planner.unloaded(moves),
        duplicates=planner.duplicates(),
        unfilled=unfilled,
        mismatched=tuple(planner.mismatched.values()) if options.ignore_mismatched else (),
        ignore=ignore,
        meaning=replace(meaning, config=planner.left),
        notes=(
            *([f"the class is {head}: {chosen.why}"] if chosen.why else []),
            *meaning.notes,
            *notes,
            *planner.notes(),
        ),
    )


@dataclass(frozen=True)
class _Planner:
    """One plan in the making: what the head owns, in the dialects of both sides."""

    identity: Identity
    table: Table
    config: Config
    target: Dialect
    options: PlanOptions
    head: str
    ignore: IgnoreLists

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Groups of the head; an optional one that the file lacks is left out unless it may be newly initialised."""
        if self.options.groups is not None:
            return self.options.groups
        if self.options.init_missing:
            return self.table.heads[self.head]
        present = {spec.group for tensor_id, spec in self.identity.specs.items() if tensor_id in self.identity.by_id}
        optional = self.table.optional.get(self.head, ())
        return tuple(group for group in self.table.heads[self.head] if group in present or group not in optional)

    @cached_property
    def strangers(self) -> Unrecognised:
        return Unrecognised(self.identity, self.table, self.options, self.head, self.ignore, self.groups)

    @cached_property
    def sources(self) -> dict[str, TensorSpec]:
        return expand(self.table, self.identity.dialect, self.config.values, self.groups)

    @cached_property
    def targets(self) -> dict[str, TensorSpec]:
        return target_specs(self.table, self.target, self.config, self.head, self.groups)

    @cached_property
    def folding(self) -> Folding:
        own = self.table.in_dialect(self.identity.dialect).folds
        return Folding(own, self.table.in_dialect(self.target).folds, self.targets, self.first)

    @cached_property
    def fillers(self) -> dict[str, TensorSpec]:
        """What the target's files hold although this model does without it."""
        if self.options.groups is not None:
            return {}
        groups = [group for group in self.table.in_dialect(self.target).fills if group not in self.groups]
        return target_specs(self.table, self.target, self.config, self.head, groups)

    @cached_property
    def mismatched(self) -> dict[str, tuple[StoredTensor, TensorSpec]]:
        """Places whose tensor has another shape than the table's."""
        return {
            tensor_id: (tensor, spec)
            for tensor_id, spec in self.sources.items()
            for tensor in self.identity.by_id.get(tensor_id, ())
            if tensor.shape != spec.shape
        }

    @cached_property
    def ties(self) -> Ties:
        is_tied = bool(self.config.values["tie_word_embeddings"])
        groups = {tensor_id: spec.group for tensor_id, spec in (self.targets | self.sources).items()}
        return Ties(self.table, self.identity.dialect, self.target, groups, is_tied)

    def first(self, tensor_id: str) -> StoredTensor | None:
        found = self.identity.by_id.get(tensor_id)
        return found[0] if found and tensor_id not in self.mismatched else None

    def check_switched_off(self) -> None:
        """Refuse tensors of the head that the config switches off."""
        specs, groups = self.identity.specs, self.groups
        off = [one for one in self.identity.by_id if specs[one].group in groups and one not in self.sources]
        off = [one for one in off if not self.is_another(one)]
        if off:
            keys = {one.key: None for one in specs[off[0]].when if not one.holds(self.config.values)}
            values = " and ".join(f"{key} = {self.config.values.get(key)!r}" for key in keys)
            raise ShapeMismatch(
                f"the file holds tensors that the config switches off with {values}:\n{listing(off)}",
                hint=f"Set {' and '.join(keys)} in the config as the model was trained.",
                file=self.config.path,
            )

    def is_another(self, tensor_id: str) -> bool:
        """Whether all that claims an id is, by the config, another tensor of the same name."""
        on = (
            one
            for one, spec in self.identity.specs.items()
            if all(when.holds(self.config.values) for when in spec.when)
        )
        others = {id(tensor) for one in on for tensor in self.identity.by_id.get(one, ())}
        return all(id(tensor) in others for tensor in self.identity.by_id[tensor_id])

    def check_tensors(self) -> None:
        """Refuse shapes that are not the table's and element types that are not floating point."""
        for tensor_id in self.sources:
            for tensor in self.identity.by_id.get(tensor_id, ()):
                if tensor_id not in self.mismatched and tensor.dtype not in FLOATS:
                    raise UnsupportedCheckpoint(
                        f"is {tensor.dtype}, not a floating-point type.",
                        hint="If the model was quantised, dequantise it and save it again.",
                        file=tensor.file.name,
                        tensor=tensor.name,
                    )
        if self.mismatched and not self.options.ignore_mismatched:
            raise wrong_shapes(self.head, self.table, list(self.mismatched.values()), self.body_alone())

    def body_alone(self) -> str | None:
        """The base model, if the file holds one that nothing contradicts."""
        base = self.table.base_head
        if self.head == base:
            return None
        options = replace(self.options, head=base, groups=None, ignore=None, allow_unknown=("",))
        try:
            make_plan(self.identity, self.table, load_dialects(), self.config, self.target, options)
        except BertconvError:
            return None
        return base

    def moves(self) -> tuple[tuple[Move, ...], tuple[TensorSpec, ...]]:
        """The target tensors with what fills them, and those that may stay unfilled; MissingTensors for the others."""
        moves: list[Move] = []
        unfilled, missing = [], []
        for tensor_id, target in self.targets.items():
            if not self.ties.is_written(tensor_id):
                continue
            if (folded := self.folding.move(target)) is not None:
                moves.append(folded)
            elif (candidate := next(filter(self.first, self.ties.candidates(tensor_id)), None)) is not None:
                turn = transpose_specs(self.identified(candidate), target)
                moves.append(Move(target, self.first(candidate), turn, "loaded" if candidate == tensor_id else "tied"))
            elif self.may_lack(self.identified(tensor_id).name) or self.may_lack(target.name):
                unfilled.append(target)
            elif self.options.init_missing and (tensor_id in self.mismatched or self.may_initialise(target.group)):
                moves.append(Move(target, None, None, "initialised"))
            else:
                missing.append(self.identified(tensor_id))
        if missing:
            fresh = all(self.may_initialise(spec.group) for spec in missing)
            ranked = rank_heads(self.table, self.identity, self.config.named_classes)
            fitting = [fit.head for fit in ranked if not fit.missing and fit.head != self.head]
            untied = not self.ties.is_tied and all(spec.id in self.table.tied for spec in missing)
            unknown = self.as_unknown(self.strangers.unknown())
            raise missing_tensors(self.head, missing, unknown, fitting, fresh=fresh, untied=untied)
        return (*moves, *self.filling()), tuple(unfilled)

    def filling(self) -> Iterator[Move]:
        """What fills the places that the target's files cannot do without: a fitting tensor of the source, or none."""
        groups = {spec.group for spec in self.fillers.values()}
        own = expand(self.table, self.identity.dialect, self.config.values, groups)
        for tensor_id, target in self.fillers.items():
            source, here = own.get(tensor_id), next(iter(self.identity.by_id.get(tensor_id, ())), None)
            if source is None or here is None or here.shape != source.shape or here.dtype not in FLOATS:
                yield Move(target, None, None, "initialised")
            else:
                yield Move(target, here, transpose_specs(source, target), "loaded")

    def identified(self, tensor_id: str) -> TensorSpec:
        """A tensor as the source calls it, or as the target does where the source's dialect has no place for it."""
        return self.sources.get(tensor_id) or self.targets[tensor_id]

    @cached_property
    def lost(self) -> dict[str, StoredTensor]:
        """Tensors of the class that the target's dialect has no place for, but for copies of what it has."""
        there = {tensor_id: self.first(tensor_id) for tensor_id in self.sources if tensor_id not in self.targets}
        return {
            tensor_id: tensor
            for tensor_id, tensor in there.items()
            if tensor is not None
            and self.ties.partner_of(tensor_id) not in self.targets
            and tensor_id not in self.folding.added
        }

    def check_losses(self) -> None:
        """Refuse to leave out a part of the model, unless the caller allows it."""
        if self.lost and not self.options.allow_loss:
            raise no_place(self.head, self.target, [self.sources[tensor_id].name for tensor_id in self.lost])

    @property
    def loses_decoder(self) -> bool:
        """Whether the decoder of an untied model is lost."""
        return any(tensor_id in self.table.tied for tensor_id in self.lost)

    @property
    def left(self) -> Config:
        """The config of the model that is left: without a decoder of its own it computes with the embeddings."""
        return self.config.replace(tie_word_embeddings=True) if self.loses_decoder else self.config

    def may_lack(self, name: str) -> bool:
        return first_match(self.ignore.missing, name) is not None

    def may_initialise(self, group: str) -> bool:
        """Heads and the pooler may start fresh, the body never."""
        base = self.table.base_head
        return group not in self.table.heads[base] or group in self.table.optional.get(base, ())

    def duplicates(self) -> tuple[Duplicate, ...]:
        """Every pair of stored copies that the target stores once."""
        pairs = []
        for tensor_id in self.sources:
            first, *others = self.identity.by_id.get(tensor_id) or (None,)
            if first is not None and tensor_id not in self.mismatched:
                pairs += [Duplicate(other, first, None) for other in others]
        for copy, original in self.table.tied.items():
            if self.ties.is_tied or (copy not in self.targets and self.ties.partner_of(copy) is not None):
                one, two = self.first(copy), self.first(original)
                if copy in self.sources and one is not None and two is not None:
                    turn = transpose_specs(self.sources[copy], self.sources[original])
                    pairs.append(Duplicate(one, two, turn, may_differ=self.ties.counted(original) == copy))
        return tuple(pairs)

    def as_unknown(self, tensors: Iterable[StoredTensor]) -> Unknown:
        return Unknown(tuple(tensor.name for tensor in tensors), self.identity.prefix)

    def lacking(self) -> list[str]:
        """Names that the class could have and that nothing fills."""
        whole = expand(self.table, self.identity.dialect, self.config.values, self.table.heads[self.head])
        filled = {*self.identity.by_id, *self.table.tied}
        return [spec.name for tensor_id, spec in whole.items() if tensor_id not in filled]

    def unloaded(self, moves: tuple[Move, ...]) -> tuple[UnloadedTensor, ...]:
        """What becomes of every source tensor that no move takes; UnknownTensors for unrecognised."""
        if unknown := self.strangers.unknown():
            self.strangers.refuse_foreign(unknown)
            raise unknown_tensors(self.as_unknown(unknown), self.lacking())
        taken = {id(move.source) for move in moves} | {id(tensor) for tensor in self.folding.read(moves)}
        candidates: dict[int, tuple[StoredTensor, list[str]]] = {}
        for tensor_id, tensors in self.identity.by_id.items():
            for tensor in tensors:
                if id(tensor) not in taken:
                    candidates.setdefault(id(tensor), (tensor, []))[1].append(tensor_id)
        known = [self.unloaded_tensor(tensor, ids) for tensor, ids in candidates.values()]
        unrecognised = [self.strangers.left_out(tensor) for tensor in self.identity.unrecognised]
        outside = [UnloadedTensor(tensor, "outside", "not under --strip-prefix") for tensor in self.identity.outside]
        elsewhere = [UnloadedTensor(tensor, "unused", why) for tensor, why in self.identity.elsewhere]
        return (*known, *unrecognised, *outside, *elsewhere)

    def unloaded_tensor(self, tensor: StoredTensor, ids: list[str]) -> UnloadedTensor:
        """What becomes of a tensor that claims these ids and fills none."""
        tensor_id = next((tensor_id for tensor_id in ids if tensor_id in self.sources), None)
        if tensor_id in self.mismatched:
            should = self.sources[tensor_id].shape
            return UnloadedTensor(tensor, "mismatched", f"is {list(tensor.shape)}, not {list(should)}")
        if tensor_id is None:
            return UnloadedTensor(tensor, "unused", self.why_unused(ids))
        if tensor_id in self.folding.added:
            return UnloadedTensor(tensor, "tied", f"added to every row of {self.folding.added[tensor_id]}")
        if tensor_id in self.lost:
            return UnloadedTensor(tensor, "lost", f"{self.target.title} has no place for it", inside=True)
        return UnloadedTensor(tensor, "tied", self.why_tied(tensor, tensor_id))

    def why_unused(self, ids: list[str]) -> str:
        """Of a tensor that is none of the class, by the ids that it claims."""
        claimed, spoken = {self.identity.specs[tensor_id].group for tensor_id in ids}, self.identity.dialect
        if claimed & self.table.beyond_class(spoken):
            return "in every class's file, and this class does not compute with it"
        return f"owned by {', '.join(head for head, own in self.table.heads.items() if claimed & set(own))}"

    def why_tied(self, tensor: StoredTensor, tensor_id: str) -> str:
        """Of a tensor that another one stands for."""
        if (counted := self.ties.counted(tensor_id)) is not None and (source := self.first(counted)) is not None:
            return f"the model computes with {source.name}"
        original = self.first(self.table.tied.get(tensor_id, tensor_id))
        if original is not None and original.name == tensor.name:  # Keras 2 stores a layer again under another one
            return f"a duplicate, stored under {tensor.group}"
        return f"equal to {original.name}" if original else ""

    def notes(self) -> list[str]:
        """What is unusual about the plan as a whole."""
        notes = [*self.strangers.notes()]
        named = self.config.named_classes
        if named and self.head not in named and self.options.head is None:
            notes.append(f"config names {', '.join(map(printable, named))}; the tensors are those of {self.head}")
        if left_out := [group for group in self.table.heads[self.head] if group not in self.groups]:
            notes.append(f"the file has no {', '.join(left_out)}: load it with add_pooling_layer=False")
        if fresh := dict.fromkeys(one.group for one in self.fillers.values()):
            why = f"whether or not {self.head} computes with it: newly initialised where the source has none"
            notes.append(f"{self.target.title} makes {', '.join(fresh)} {why}")
        notes += self.folding.notes(self.target)
        if self.loses_decoder:
            notes.append("the decoder is lost: the output computes with the embeddings, and its config says so")
        elif not self.ties.is_tied and any(copy in self.sources for copy in self.table.tied):
            notes.append("the decoder is untied and stays a tensor of its own; transformers' TF classes always tie it")
        return notes
