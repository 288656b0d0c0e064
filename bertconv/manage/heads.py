"""The head of a model apart from its backbone: its groups, its keys of the config, and how it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from bertconv.checkpoint import Opened, opened
from bertconv.config import Config
from bertconv.containers.stored import Header, StoredTensor
from bertconv.digests import backbone_ids
from bertconv.errors import DamagedCheckpoint, MappingError
from bertconv.formats.output import Format, formats
from bertconv.manage.rewriting import Given
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import target_specs
from bertconv.mapping.heads import known_head
from bertconv.mapping.identify import Identity
from bertconv.mapping.recognise import Wanted
from bertconv.mapping.table import Table
from bertconv.parts import HeadPart, head_part
from bertconv.source import Source, SourceOptions, open_source
from bertconv.source.reading import open_header
from bertconv.tasks import CAUSAL_LM
from bertconv.text import listing, printable

_OF_HEADS = (
    "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params",
    "tie_word_embeddings", "classifier_dropout", "seq_classif_dropout", "qa_dropout", "summary_type",
    "summary_use_proj", "summary_activation", "summary_last_dropout",
)  # fmt: skip
"""Keys of a config that belong to the head; all others are the backbone's."""


def backbone_groups(table: Table) -> tuple[str, ...]:
    """Groups of the backbone, in the order of the base class."""
    return backbone_ids(table, table.heads[table.base_head])


def head_groups(table: Table, head: str) -> tuple[str, ...]:
    """Groups of a class that are not of the backbone, in its order; MappingError where there are none."""
    body = backbone_groups(table)
    found = tuple(group for group in table.heads[head] if group not in body)
    if not found:
        raise MappingError(f"{head} has no head: all of it is backbone.", hint="Give a checkpoint of another class.")
    return found


def head_format() -> Format:
    """What a head on its own is written as, whatever its source is: the reference dialect's usual files."""
    reference = load_dialects().reference
    return next(form for form in formats().values() if form.dialect.name == reference.name)


@contextmanager
def opened_head(
    given: Given, options: SourceOptions, table: Table, wanted: Wanted, *, check_data: bool
) -> Iterator[tuple[Opened, HeadPart | None]]:
    """Open what a head is taken from: a head alone, or a whole checkpoint.

    Args:
        given: folder, file or Hub id.
        options: how to find it.
        table: the architecture of the backbone, of which a head alone has to be.
        wanted: what the caller says about the family.
        check_data: check the checksums that a container carries.

    Yields:
        It, and what is on record of a head alone.

    Raises:
        DamagedCheckpoint: a head alone that holds other tensors than those of its class's head.
        BertconvError: as for `opened`.
    """
    source = open_source(given, options)
    part = head_part(source)
    if part is None:
        with opened(given, options, wanted=wanted, check_data=check_data) as found:
            yield found, None
        return
    with closing(open_header(source, check_data=check_data)) as header:
        part = replace(part, head=known_head(table, part.head))
        yield Opened(source, header, (), table, _identity(header, source, table, part.head)), part


def _identity(header: Header, source: Source, table: Table, head: str) -> Identity:
    """What the names of a head say, which are those that it is written with."""
    dialect = load_dialects().reference
    specs = target_specs(table, dialect, source.load_config(table.family), head, head_groups(table, head))
    named = {name: spec.id for spec in specs.values() for name in spec.names}
    by_id: dict[str, tuple[StoredTensor, ...]] = {
        named[tensor.name]: (tensor,) for tensor in header.tensors if tensor.name in named
    }
    if strange := [printable(tensor.name) for tensor in header.tensors if tensor.name not in named]:
        raise DamagedCheckpoint(
            f"holds tensors that are not of the head of {head}:\n{listing(strange)}", hint="Extract the head again.",
            file=source.weights.files[0],
        )  # fmt: skip
    return Identity(dialect, "", by_id, specs, (), ())


def joined_config(body: Config, own: Config, table: Table, head: str) -> Config:
    """The config of a backbone with what belongs to a head: labels, task, tied words, dropout of the head.

    Args:
        body: of the backbone.
        own: of the head.
        table: the architecture.
        head: the class that they make.
    """
    schema = body.family.schema
    keys = [*_OF_HEADS, *(["is_decoder"] if table.tasks[head] == CAUSAL_LM else [])]
    spelled = {schema.spelled(key) for key in keys}
    raw = {key: value for key, value in body.raw.items() if key not in spelled}
    raw |= {key: value for key, value in own.raw.items() if key in spelled}
    joined: Config = type(body).from_dict(raw, body.path, body.family)
    return joined
