"""Which family a checkpoint is of: its config says so and its names confirm it, or names alone decide, or nothing does.

No family is assumed. A config that says another one than the names do is refused with both facts; names that several
families have (a bare `embeddings.word_embeddings.weight`) are refused with the list of these.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from bertconv.config.auto import is_said_by_file, said_family
from bertconv.containers.stored import StoredTensor
from bertconv.errors import (
    AmbiguousFamily,
    BertconvError,
    DamagedCheckpoint,
    MappingError,
    RequestError,
    UnsupportedCheckpoint,
)
from bertconv.families import Family, families, family_of, find_family, read_families
from bertconv.mapping.averages import with_averages
from bertconv.mapping.checks import open_table
from bertconv.mapping.dialects import Dialects, load_dialects
from bertconv.mapping.evidence import scope_vote
from bertconv.mapping.heads import fills_none
from bertconv.mapping.identify import Identity, identify, refuse_foreign
from bertconv.mapping.numbered import are_numbered, unresolved
from bertconv.mapping.table import Table, table_for
from bertconv.records import dataclass
from bertconv.source import Source
from bertconv.text import listed, printable, shown


@dataclass(frozen=True)
class Wanted:
    """What the caller says about the family.

    Attributes:
        family: a `model_type`, or None.
        table: a mapping table of the caller's own, or None.
        strip_prefix: use only the names that begin with this, and take it off; None finds the prefix.
        ema: take the averages over the steps of a training that lie beside the weights.
    """

    family: str | None = None
    table: Path | None = None
    strip_prefix: str | None = None
    ema: bool = False

    @classmethod
    def of(
        cls,
        family: str | None,
        table: str | os.PathLike[str] | None,
        strip_prefix: str | None = None,
        *,
        ema: bool = False,
    ) -> Wanted:
        """What a function was called with, checked; BadTable, and RequestError for a family that is not known."""
        path = None if table is None else Path(table)
        if path is not None:
            open_table(path)
        elif family is not None:
            family_of(family)
        return cls(family, path, strip_prefix, ema)


ANYTHING = Wanted()
"""Where the caller says nothing."""


def recognise(tensors: Iterable[StoredTensor], source: Source, wanted: Wanted) -> tuple[Table, Identity]:
    """The table for a checkpoint, and what its names say by it.

    Args:
        tensors: of its header.
        source: whose config is asked.
        wanted: what the caller says; it goes before the config.

    Raises:
        UnsupportedCheckpoint: a family without a table, names of another family than the config says, or of none.
        AmbiguousFamily: nothing says which of several families it is.
        BertconvError: as for `identify`; RequestError where the caller's table is for other model types, or where
            averages are wanted and there are none.
    """
    table, identity = _recognised(tensors, source, wanted)
    return table, with_averages(identity) if wanted.ema else identity


def _recognised(tensors: Iterable[StoredTensor], source: Source, wanted: Wanted) -> tuple[Table, Identity]:
    """The same, with the weights themselves."""
    every, dialects = list(tensors), load_dialects()
    given = _given(wanted, source)
    if given is not None:
        try:
            return given, identify(every, given, dialects, wanted.strip_prefix)
        except (MappingError, UnsupportedCheckpoint):
            if source.config is not None:
                source.load_config(given.family)  # a config of another architecture says more than unusual names
            raise
    refuse_foreign(every)
    family = _said(source)
    if family is None:
        return _by_names(every, dialects, wanted.strip_prefix, source)
    if source.config is not None and is_said_by_file(source.config_keys() or {}):
        with suppress(BertconvError):  # such as names that several families have
            by_names = _by_names(every, dialects, wanted.strip_prefix, source)
            if by_names[1].dialect.declared:  # whose files lie beside a config of this name whatever family they are of
                return by_names
    table = table_for(family.model_type)
    try:
        identity = identify(every, table, dialects, wanted.strip_prefix)
    except BertconvError:
        refuse_contradiction(every, family, str(source.config), wanted.strip_prefix)
        raise
    if identity.unrecognised and fills_none(table, identity):  # such as DistilBERT's layers
        fitting = _fitting(every, dialects, wanted.strip_prefix)
        _refuse_contradiction(family, [one for one in fitting if one.is_whole], str(source.config))
    return table, identity


def refuse_contradiction(
    tensors: Iterable[StoredTensor], family: Family, config: str, strip_prefix: str | None = None
) -> None:
    """UnsupportedCheckpoint where the names are those of another family than `family`, which `config` says."""
    _refuse_contradiction(family, _fitting(list(tensors), load_dialects(), strip_prefix), config)


def fits_any(tensors: Iterable[StoredTensor]) -> bool:
    """Whether a built-in table knows names among these, whatever a config or the caller says."""
    return bool(_fitting(list(tensors), load_dialects(), None))


@dataclass(frozen=True)
class _Fit:
    """How the names of a header fit a table."""

    table: Table
    identity: Identity

    @property
    def is_whole(self) -> bool:
        """Some class is filled, and every tensor is known."""
        return not self.identity.unrecognised and not self.lacks

    @property
    def lacks(self) -> bool:
        """No class is filled."""
        return fills_none(self.table, self.identity)


def _given(wanted: Wanted, source: Source) -> Table | None:
    """The table that the caller chose; one of the caller's own as the family that the config names in it."""
    if wanted.table is None:
        return None if wanted.family is None else table_for(wanted.family)
    known = read_families(wanted.table)
    if wanted.family is not None and wanted.family not in known:
        raise RequestError(
            f"the table is for {', '.join(known)}, not for {printable(wanted.family)}.",
            hint="Choose one of these with --family.", file=str(wanted.table),
        )  # fmt: skip
    said = (source.config_keys() or {}).get("model_type")
    return open_table(wanted.table, wanted.family or (said if isinstance(said, str) and said in known else None))


def _said(source: Source) -> Family | None:
    """The family that a config names; None where there is no sound config, or it names none."""
    try:
        keys = source.config_keys()
    except DamagedCheckpoint:  # whoever needs it will say so
        return None
    if keys is None or source.config is None:
        return None
    model_type = keys.get("model_type")
    if "model_type" in keys and not (isinstance(model_type, str) and find_family(model_type) is not None):
        raise UnsupportedCheckpoint(
            f"model_type is {shown(model_type)}, not {listed(map(repr, sorted(families())))}.",
            hint="Only these have a mapping table; `--map FILE` takes one of your own.",
            file=str(source.config),
        )
    try:
        return said_family(keys, source.config.name)
    except RequestError:
        return None


def _refuse_contradiction(family: Family, fitting: Sequence[_Fit], config: str) -> None:
    """Refuse names of another family than the config says."""
    others = [one for one in fitting if one.table.path != family.path]
    if others:
        titles = " or ".join(one.table.family.title for one in others)
        raise UnsupportedCheckpoint(
            f"model_type is {family.model_type!r}, and the tensors are named as those of {titles} are.",
            hint="Give the config that belongs to the checkpoint with --config FILE.",
            file=config,
        )


def _by_names(
    tensors: list[StoredTensor], dialects: Dialects, strip_prefix: str | None, source: Source
) -> tuple[Table, Identity]:
    fitting = _fitting(tensors, dialects, strip_prefix)
    if not fitting:
        raise _of_none(tensors, dialects, strip_prefix)
    best = min((one.lacks, len(one.identity.unrecognised)) for one in fitting)
    fitting = [one for one in fitting if (one.lacks, len(one.identity.unrecognised)) == best]
    possible = [family_of(model_type) for one in fitting for model_type in one.table.model_types]
    scoped = [family for family in possible for one in fitting if _is_scope_of(one.identity, family)]
    if len(scoped) == 1:
        possible = scoped
    if len(possible) > 1:
        source.config_keys()  # what is wrong with it is to blame
        titles = [family.title for family in possible]
        alike = f"the tensors are named as those of {listed(titles, 'and')} alike"
        types = "|".join(family.model_type for family in possible)
        if source.config is None:
            said = f"has no config.json, and {alike}"
            hint = f"Give its config with --config FILE; to inspect it, --family {types} is enough."
        else:
            said = f"{alike}, and no config says which of them it is"
            hint = f"Choose one with --family {types}, or write it as model_type into the config."
        file = str(source.folder) if source.config is None else tensors[0].file.name
        raise AmbiguousFamily(f"{said}.", hint=hint, file=file)
    table = table_for(possible[0].model_type)
    return table, identify(tensors, table, dialects, strip_prefix)


def _fitting(tensors: list[StoredTensor], dialects: Dialects, strip_prefix: str | None) -> list[_Fit]:
    """The built-in tables, each as the first of its families, by which names are known."""
    found = []
    for table in _tables():
        try:
            found.append(_Fit(table, identify(tensors, table, dialects, strip_prefix)))
        except BertconvError:
            continue
    return found


def _tables() -> Iterator[Table]:
    """Every built-in table once."""
    paths = {family.path: family.model_type for family in families().values()}
    return (table_for(read_families(path)[model_type].model_types[0]) for path, model_type in paths.items())


def _is_scope_of(identity: Identity, family: Family) -> bool:
    return identity.dialect.scoped and scope_vote(identity.prefix, family.tasks) is not None


def _of_none(tensors: list[StoredTensor], dialects: Dialects, strip_prefix: str | None) -> BertconvError:
    """Why the names fit no table: what most tables say of them, or that none knows a single one."""
    if are_numbered(tensors):
        return unresolved(tensors)
    parts = {part for tensor in tensors for part in re.split(r"[./]", tensor.name)}
    for table in sorted(_tables(), key=lambda table: table.base not in parts):
        try:
            identify(tensors, table, dialects, strip_prefix)
        except UnsupportedCheckpoint:
            continue
        except BertconvError as error:  # a table knows some of the names: what it says of them is to the point
            return error
    some = ", ".join(printable(tensor.name) for tensor in tensors[:3]) or "none"
    titles = [table.family.title for table in _tables()]
    return UnsupportedCheckpoint(
        f"holds no {listed(titles)}: none of its {len(tensors)} tensors is named as their "
        f"embeddings are (found {some}).",
        hint="What is known of these are the names of "
        f"{listed([one.title for one in dialects.by_name.values()], 'and')}; "
        "`bertconv tables show FAMILY` lists them.",
        file=tensors[0].file.name if tensors else None,
    )
