"""A checkpoint opened: its files, what its names say, and every tensor of its class found in PyTorch's order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bertconv.config import Config
from bertconv.containers.stored import Header, StoredTensor
from bertconv.errors import BertconvError, ParityError
from bertconv.formats.readback import check_duplicates
from bertconv.mapping.dialects import Dialect, Dialects, load_dialects
from bertconv.mapping.evidence import named_in
from bertconv.mapping.expand import TensorSpec, expand
from bertconv.mapping.heads import implied_keys
from bertconv.mapping.identify import Identity
from bertconv.mapping.layout import Transpose
from bertconv.mapping.plan import Move, Plan, PlanOptions
from bertconv.mapping.planner import make_plan
from bertconv.mapping.recognise import ANYTHING, Wanted, recognise
from bertconv.mapping.table import Table
from bertconv.modules import ModuleWeights, opened_modules
from bertconv.parts import refuse_part
from bertconv.records import dataclass
from bertconv.source import Source, SourceOptions, open_source
from bertconv.source.module_settings import ModuleSettings, read_module_settings
from bertconv.source.reading import open_header
from bertconv.text import printable
from bertconv.tokenizer import Tokenizer, read_tokenizer

if TYPE_CHECKING:  # numpy is imported where elements are read
    import numpy as np

    from bertconv.formats.streaming import Elements, Workspace

_ANY = ("",)
"""A regex list that allows every name: what is missing or unknown is reported, not refused."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a side: where it is stored, and the transpose that brings it into PyTorch's order."""

    spec: TensorSpec
    stored: StoredTensor
    transpose: Transpose | None

    def elements(self, workspace: Workspace) -> Iterator[Elements]:
        """Its elements in PyTorch's order, piece by piece, as unsigned integers."""
        from bertconv.formats.streaming import pieces

        return pieces(self.stored, self.transpose, workspace)

    def whole(self, dtype: str | None = None) -> np.ndarray[Any, Any]:
        """All of it in PyTorch's shape and order, cast to an element type by numpy's or ml_dtypes' name."""
        import numpy as np

        from bertconv.formats.streaming import Workspace, as_floats, cast

        parts = [piece.copy() for piece in self.elements(Workspace())]
        flat = np.concatenate(parts) if parts else np.empty(0, f"u{np.dtype(np.float32).itemsize}")
        dtype = dtype or self.stored.dtype
        return as_floats(cast(flat, self.stored.dtype, dtype), dtype).reshape(self.spec.canonical.shape)


@dataclass(frozen=True)
class Checkpoint:
    """One opened checkpoint.

    Attributes:
        source: where it is.
        header: of its files.
        modules: weights of the modules beside it.
        identity: what its names say.
        table: the architecture.
        dialects: every dialect.
        config: of the checkpoint, unchanged.
        plan: how its tensors fill the class as which it is compared, in PyTorch's order.
    """

    source: Source
    header: Header
    modules: tuple[ModuleWeights, ...]
    identity: Identity
    table: Table
    dialects: Dialects
    config: Config
    plan: Plan

    @property
    def head(self) -> str:
        """The model class."""
        return self.plan.head

    @property
    def task(self) -> str:
        """What the model class computes, of `bertconv.tasks`."""
        return self.table.tasks[self.head]

    @property
    def family(self) -> str:
        """The name of the table: that of the family, where the table is bertconv's own."""
        return self.table.path.stem

    @property
    def dialect(self) -> str:
        """Whose names its tensors have: "pt" or "tf"."""
        return self.spoken.name

    @property
    def spoken(self) -> Dialect:
        """The same with its facts."""
        return self.identity.dialect

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Neutral id -> tensor, in the order of the table."""
        return {move.target.id: tensor for move in self.plan.moves if (tensor := _tensor(move)) is not None}

    @cached_property
    def everything(self) -> dict[str, Tensor]:
        """The tensors of the class, and behind them those of the modules beside it."""
        beside = {
            content.id: Tensor(content.spec, module.tensors[content.id], None)
            for module in self.modules
            for content in module.contents
        }
        return self.tensors | beside

    @cached_property
    def dtypes(self) -> dict[str, int]:
        """Element type -> number of tensors, the commonest first."""
        return dict(Counter(tensor.stored.dtype for tensor in self.tensors.values()).most_common())

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What the tokenizer files beside it say."""
        return read_tokenizer(self.source)

    @cached_property
    def module_settings(self) -> ModuleSettings:
        """What the modules beside it are set to."""
        return read_module_settings(self.source)

    @property
    def values(self) -> dict[str, Any]:
        """Config keys with their values, as the file's shapes correct them."""
        return dict(self.plan.config.values)

    def as_head(self, head: str | None) -> Checkpoint:
        """The same checkpoint as another class."""
        return checkpoint_of(self.source, self.header, self.modules, self.identity, self.table, self.config, head)

    def with_base(self) -> Checkpoint:
        """The same class with what else the file has of the base model, as the pooler that a class does without.

        Where the tensors are those of the base model alone, also with what is there of the class that its config names.
        """
        base = self.table.base_head
        heads = {self.head, base, (self.named_head or base) if self.head == base else base}
        more = {group for head in heads for group in self.table.heads[head]}
        groups = tuple(group for group in self.table.groups if group in more)
        plan = _plan(self.identity, self.table, self.dialects, self.config, self.head, groups)
        return replace(self, plan=plan)

    @cached_property
    def torch_names(self) -> dict[str, str]:
        """Neutral id -> full name in PyTorch, base prefix in front of the body always, of all the class has."""
        specs = expand(self.table, self.dialects.reference, self.values, self.table.heads[self.head])
        return {place: spec.name for place, spec in specs.items()}

    @property
    def named_head(self) -> str | None:
        """The class that its config names, where that is one of the table's, or of the task of one of them."""
        return named_in(self.config.named_classes, self.table, self.table.heads)

    def left_out(self) -> list[str]:
        """Names of the tensors that are no part of the class."""
        return [printable(one.tensor.name) for one in self.plan.unloaded if one.state not in ("tied", "ignored")]

    def omitted(self) -> list[str]:
        """Those of them that are a part of the model which no table knows."""
        return [printable(one.tensor.name) for one in self.plan.unloaded if one.inside]


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose files are open and whose names were looked up; it may be taken as any of its classes.

    Attributes:
        source: where it is.
        header: of its files.
        modules: weights of the modules beside it.
        table: the architecture.
        identity: what its names say.
    """

    source: Source
    header: Header
    modules: tuple[ModuleWeights, ...]
    table: Table
    identity: Identity

    def plan(self, target: Dialect, options: PlanOptions) -> Plan:
        """How its tensors fill a class in a dialect; errors as for `make_plan` and `Source.load_config`."""
        config = self.source.load_config(self.table.family)
        return make_plan(self.identity, self.table, load_dialects(), config, target, options)

    def check_unchanged(self) -> None:
        """DamagedCheckpoint when a file of weights was written to since it was opened."""
        for file in (*self.header.files, *(module.file for module in self.modules)):  # guard: modules-changed
            file.check_unchanged()

    def as_class(self, head: str | None = None, like: Checkpoint | None = None) -> Checkpoint:
        """It as a class.

        Args:
            head: the class; None takes the one that it is.
            like: the other side: it becomes the class for the same task, unless `head` is given.

        Raises:
            ParityError: it has another architecture than `like`.
            TiedTensorsDiffer: copies of one tensor in it are not equal.
            BertconvError: nothing says which class it is, or it contradicts its own config.
        """
        if like is not None:
            head = _class_like(like, self.table, self.source, head)
        config = self.source.load_config(self.table.family)
        found = checkpoint_of(self.source, self.header, self.modules, self.identity, self.table, config, head)
        check_duplicates(found.plan.duplicates)
        return found


@contextmanager
def opened(
    given: str | os.PathLike[str], options: SourceOptions, *, wanted: Wanted = ANYTHING, check_data: bool = True
) -> Iterator[Opened]:
    """Open a checkpoint, identify it, and close it in the end; each of its files is opened once.

    What is made of it is held to its being unchanged by `write_output`, before that appears; what is only read of it by
    `opened_to_read`.

    Args:
        given: folder, file or Hub id.
        options: how to find it.
        wanted: what the caller says about the family.
        check_data: check the checksums that a container carries, which reads all of it.

    Raises:
        BertconvError: it cannot be read, or is of no family that is known.
    """
    source = open_source(given, options)
    with (
        closing(open_header(source, check_data=check_data)) as header,
        opened_modules(source, check_data=check_data) as modules,
    ):
        try:
            table, identity = recognise(header.tensors, source, wanted)
        except BertconvError:
            refuse_part(source)
            raise
        yield Opened(with_implied(source, table, identity), header, modules, table, identity)


def with_implied(source: Source, table: Table, identity: Identity) -> Source:
    """A source with the config that it does not need to have, where its dialect and the shapes say all of it."""
    if source.config is not None or (keys := implied_keys(table, identity)) is None:
        return source
    note = f"has no config: the sizes are those of the tensors, the rest what {table.family.title} has by default"
    return replace(source, implied=keys, notes=(*source.notes, note))


@contextmanager
def opened_to_read(
    given: str | os.PathLike[str], options: SourceOptions, *, wanted: Wanted = ANYTHING
) -> Iterator[Opened]:
    """As `opened`, and DamagedCheckpoint in the end where a file of it was written to meanwhile."""
    with opened(given, options, wanted=wanted) as found:
        yield found
        found.check_unchanged()


@contextmanager
def open_checkpoint(
    given: str | os.PathLike[str],
    options: SourceOptions,
    *,
    head: str | None = None,
    like: Checkpoint | None = None,
    wanted: Wanted = ANYTHING,
) -> Iterator[Checkpoint]:
    """A checkpoint as a class; arguments and errors as for `opened_to_read` and `Opened.as_class`."""
    with opened_to_read(given, options, wanted=wanted) as found:
        yield found.as_class(head, like)


def _class_like(like: Checkpoint, table: Table, source: Source, head: str | None) -> str | None:
    """The class with the task of the other side, which duplicates of a family call differently."""
    if table.path.resolve() != like.table.path.resolve():
        given, other = (printable(one.given) for one in (source, like.source))
        raise ParityError(
            f"{given} is a model of {table.family.title} and {other} one of {like.table.family.title}: they cannot be "
            "the same model.",
            hint="Give two checkpoints of one family.",
        )
    return head if head in table.heads else table.head_for(like.task)


def checkpoint_of(
    source: Source,
    header: Header,
    modules: tuple[ModuleWeights, ...],
    identity: Identity,
    table: Table,
    config: Config,
    head: str | None,
) -> Checkpoint:
    """A side whose files are open already; the caller closes them."""
    dialects = load_dialects()
    plan = _plan(identity, table, dialects, config, head)
    return Checkpoint(source, header, modules, identity, table, dialects, config, plan)


def _plan(
    identity: Identity,
    table: Table,
    dialects: Dialects,
    config: Config,
    head: str | None,
    groups: tuple[str, ...] | None = None,
) -> Plan:
    options = PlanOptions(head=head, allow_unknown=_ANY, ignore_missing=_ANY, groups=groups)
    return make_plan(identity, table, dialects, config, dialects.reference, options)


def _tensor(move: Move) -> Tensor | None:
    return None if move.source is None else Tensor(move.target, move.source, move.transpose)
