"""inspect_checkpoint(): what a checkpoint is, from its header alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

from bertconv.config import Config
from bertconv.containers.stored import Header, SourceFile, StoredTensor
from bertconv.errors import BertconvError, UnsupportedCheckpoint
from bertconv.mapping.dialects import Dialects, load_dialects
from bertconv.mapping.heads import HeadChoice, choose_head, model_of, sizes_seen
from bertconv.mapping.identify import Identity
from bertconv.mapping.ignore import first_match, ignore_lists, module_patterns
from bertconv.mapping.inside import stranger_patterns
from bertconv.mapping.recognise import Wanted, fits_any, recognise
from bertconv.mapping.table import Table
from bertconv.parts import head_part
from bertconv.records import dataclass
from bertconv.source import Source, SourceOptions, open_source
from bertconv.source.reading import open_header
from bertconv.text import fold, printable
from bertconv.tokenizer import Tokenizer, read_tokenizer, tokenizer_notes
from bertconv.tokenizer.rows import fit

_NO_CONFIG = "there is no config.json; the number of attention heads cannot be seen"


@dataclass(frozen=True)
class Inspection:
    """What a header says.

    Attributes:
        given: the source as it was given; `revision` is the commit on the Hub.
        container: its name, such as "safetensors", "torch" or "hdf5".
        files: the files of weights.
        family: the `model_type` of its family; empty when it is of none, or not certain.
        dialect: its name, such as "pt" or "tf"; empty when it is of no family, or not certain.
        is_known: some tensors are named as the embeddings of a family are.
        prefix: what stands before every name.
        head: the model class; empty where nothing decides between `alternatives`.
        equals: the classes that fit the same tensors.
        alternatives: the classes of which one has to be chosen with `head` to convert; empty where `head` is certain.
        sizes: config key -> the size that the shapes imply.
        config: config key -> the value that the config file gives to one of `sizes`, where it differs.
        tensors: number of tensors; `parameters` of elements and `nbytes` of bytes, those under two names once.
        dtypes: element type -> number of tensors.
        names: every tensor: name, element type, shape.
        metadata: the container's own text.
        sidecars: tokenizer and label files beside it.
        modules: files of weights of its sentence-transformers modules, beside `files`.
        tokenizer: what these say: `files`, `tokens` (number of them), `beyond` (id -> token, of those without a row in
            the embedding table), `padding_rows` (first and last row that is no token's, or None), `do_lower_case`,
            `model_max_length` (None for no limit). Where no file lists the tokens, or cannot be read, `tokens` is None
            and there are `files` only; without any file it is empty.
        notes: what is unusual about it, one sentence each.
    """

    given: str
    revision: str | None
    container: str
    files: tuple[str, ...]
    family: str
    dialect: str
    is_known: bool
    prefix: str
    head: str
    equals: tuple[str, ...]
    alternatives: tuple[str, ...]
    sizes: dict[str, int]
    config: dict[str, Any]
    tensors: int
    parameters: int
    nbytes: int
    dtypes: dict[str, int]
    names: tuple[tuple[str, str, tuple[int, ...]], ...]
    metadata: dict[str, str]
    sidecars: tuple[str, ...]
    modules: tuple[str, ...]
    tokenizer: dict[str, Any]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return asdict(self)


def inspect_checkpoint(  # noqa: PLR0913  (one argument per option of the command)
    src: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    subfolder: str = "",
    variant: str | None = None,
    head: str | None = None,
    config: str | os.PathLike[str] | None = None,
    strip_prefix: str | None = None,
    family: str | None = None,
    table: str | os.PathLike[str] | None = None,
) -> Inspection:
    """Say what a checkpoint is; no weight is read. Arguments as those of `convert_checkpoint`.

    Raises:
        BertconvError: the files cannot be read; a sound file of no known family is described and not refused.
    """
    options = SourceOptions(
        revision=revision, token=token, cache_dir=cache_dir,
        local_files_only=local_files_only, subfolder=subfolder, variant=variant,
        config=config,
    )  # fmt: skip
    wanted = Wanted.of(family, table, strip_prefix)
    source = open_source(src, options)
    with closing(open_header(source, check_data=False)) as header:
        return describe(source, header, head, wanted)


def _undecided(chosen: HeadChoice, config: Config | None) -> list[str]:
    """What decided between classes of the same tensors, or that nothing does."""
    if chosen.rivals:
        conflict = f" ({chosen.why})" if chosen.why else ""
        way = f"--head {' or --head '.join(chosen.rivals)}"
        way += "" if config else ", or with --config FILE, which may decide"
        return [f"nothing says which of these it is{conflict}: convert with {way}"]
    return [f"the class is {chosen.head}: {chosen.why}"] if chosen.why else []


def _recognise(source: Source, header: Header, wanted: Wanted) -> tuple[Table, Identity, str]:
    """The table and what the names say; where the config says something else, what they say without it, and why."""
    try:
        return *recognise(header.tensors, source, wanted), ""
    except UnsupportedCheckpoint as error:
        if source.config is None or error.tensor is not None:
            raise
        try:
            return *recognise(header.tensors, replace(source, config=None), wanted), _sentence(error)
        except BertconvError:
            raise error from None


def _read_config(source: Source, table: Table) -> tuple[Config | None, list[str]]:
    """The config, and what is unusual about it; None where there is none or it cannot be read."""
    if source.config is None:
        return None, []
    try:
        config = source.load_config(table.family)
    except BertconvError as error:
        return None, [_sentence(error)]
    return config, list(config.notes)


def _sentence(error: BertconvError) -> str:
    return str(error).replace("\n", " ").rstrip(".")


def describe(source: Source, header: Header, forced: str | None, wanted: Wanted) -> Inspection:
    """What an opened checkpoint is.

    Args:
        source: where it is.
        header: of its files of weights.
        forced: the model class that the caller wants.
        wanted: what the caller says about the family.
    """
    notes = [*source.notes, *header.notes, *([] if source.config else [_NO_CONFIG])]
    dialect = prefix = head = family = ""
    is_known = True
    equals: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    sizes: dict[str, int] = {}
    stated: dict[str, Any] = {}
    try:
        table, identity, problem = _recognise(source, header, wanted)
        config, config_notes = (None, [problem]) if problem else _read_config(source, table)
        notes += config_notes
        family, dialect, prefix = table.model_type, identity.dialect.name, printable(identity.prefix)
        identity = model_of(table, identity, config, forced)
        chosen = choose_head(table, identity, config, forced)
        equals, alternatives = chosen.equals, chosen.rivals
        head = "" if alternatives else chosen.head
        # in the table's order: that of the file's tensors would differ from file to file
        seen = sizes_seen(table, identity, chosen.head)
        sizes = {size.key: seen[size.key].value for size in table.sizes.values() if size.key in seen}
        unrecognised = [printable(name) for name in _unknown(identity, table, load_dialects(), chosen.head)]
        stated = {key: config.values[key] for key in sizes if config and config.values[key] != sizes[key]}
        notes += _undecided(chosen, config)
        notes += [f"{key} is {sizes[key]} by the shapes, {value} by the config" for key, value in stated.items()]
        notes += _beside(identity)
        notes += [f"no table knows {folded} ({len(names)} tensors)" for folded, names in fold(unrecognised).items()]
    except BertconvError as error:
        is_known = bool(dialect) or not isinstance(error, UnsupportedCheckpoint) or error.tensor is not None
        is_known = is_known or fits_any(header.tensors)
        part = head_part(source)
        notes.append(_sentence(error) if part is None else f"the head of {part.given} ({part.head}) and no backbone")
    tokenizer = read_tokenizer(source)
    notes += tokenizer_notes(tokenizer, sizes.get("vocab_size"))
    named = {(tensor.name, _place(tensor)): tensor for tensor in header.tensors}.values()
    stored = {_place(tensor): tensor for tensor in header.tensors if tensor.nbytes}.values()
    return Inspection(
        given=source.given, revision=source.revision, container=header.container, files=source.weights.files,
        family=family, dialect=dialect, is_known=is_known,
        prefix=prefix, head=head, equals=equals, alternatives=alternatives,
        sizes=sizes, config=stated,
        tensors=len(named),
        parameters=sum(tensor.count for tensor in stored),
        nbytes=sum(tensor.nbytes for tensor in stored),
        dtypes=dict(Counter(tensor.dtype for tensor in named)),
        names=tuple((printable(tensor.name), tensor.dtype, tensor.shape) for tensor in named),
        metadata={printable(key): printable(value) for key, value in header.metadata.items()},
        sidecars=source.carried, tokenizer=_tokens(tokenizer, sizes.get("vocab_size")),
        modules=source.modules.weights if source.modules else (), notes=tuple(notes),
    )  # fmt: skip


def _place(tensor: StoredTensor) -> tuple[SourceFile, int, int]:
    """Where the bytes lie: Keras's files name some tensors in two groups, and PyTorch's tied ones share them."""
    return tensor.file, tensor.offset, tensor.nbytes


def _beside(identity: Identity) -> Iterator[str]:
    """What lies in the file beside the model: other models, and what a training keeps."""
    for why, names in Counter(why for _, why in identity.elsewhere).items():
        yield f"{names} tensors are {why}"
    dialect = identity.dialect
    kept = [one.name for one in identity.unrecognised if first_match(dialect.training, one.name) is not None]
    if kept:
        yield f"{len(kept)} tensors are state of the training (optimizer, steps)"
    if averages := sum(name.endswith(dialect.average) for name in kept if dialect.average):
        yield f"{averages} of them are averages of weights, which --ema takes"


def _unknown(identity: Identity, table: Table, dialects: Dialects, head: str) -> Iterator[str]:
    """Names that neither the table nor the class's ignore list knows."""
    lists, of_modules = ignore_lists(table, dialects, head), module_patterns(table, dialects, head)
    for tensor in identity.unrecognised:
        if first_match(identity.dialect.training, tensor.name) is not None:
            continue
        patterns = stranger_patterns(tensor.name, lists.unexpected, of_modules, identity, table, table.heads[head])
        if first_match(patterns, tensor.name) is None:
            yield tensor.name


def _tokens(tokenizer: Tokenizer, rows: int | None) -> dict[str, Any]:
    """The tokenizer in a few facts."""
    if not tokenizer.files:
        return {}
    if not tokenizer.tokens:
        return {"files": tokenizer.files, "tokens": None}
    found, settings = fit(tokenizer, rows), tokenizer.settings or {}
    return {
        "files": tokenizer.files,
        "tokens": len(tokenizer.tokens),
        "beyond": {number: printable(token) for number, token in found.beyond.items()} if found else {},
        "padding_rows": found.padding if found else None,
        **{key: settings.get(key) for key in ("do_lower_case", "model_max_length")},
    }
