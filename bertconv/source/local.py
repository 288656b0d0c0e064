"""From what the user gave, a path or a Hub id, to the files of one checkpoint."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from bertconv.config import Config, content
from bertconv.config.auto import config_class
from bertconv.containers.stored import SourceFile, is_so
from bertconv.errors import BertconvError, MissingConfig, MissingPath, RequestError, check_path, check_text
from bertconv.families import Family
from bertconv.records import dataclass
from bertconv.source import modules, prefixes, preset, sidecars
from bertconv.source.checkpoint_folder import CheckpointFolder, SourceOptions, open_in
from bertconv.source.config_file import FoundConfig, config_within, find_config, named_weights
from bertconv.source.folder import LocalFolder
from bertconv.source.modules import Modules
from bertconv.source.refusals import NO_MODEL, SAVED_MODEL, ctranslate2, no_weights, unsupported
from bertconv.source.weights import (
    SHARD,
    Choice,
    Weights,
    choose,
    is_index,
    is_spread,
    is_weights,
    parts_beside,
    read_index,
    read_spread,
)
from bertconv.text import is_url, shown, some

_DEFAULTS = SourceOptions()
_IMPLIED = "config"
"""What messages call the config that is implied."""
_OLD_LAYOUTS = ("0_Transformer", "0_BERT")
_ID_PART = r"(?=[A-Za-z0-9_])[\w.-]{1,96}(?<=[A-Za-z0-9_])"
_HUB_ID = re.compile(rf"(?!.*(?:--|\.\.))(?:{_ID_PART}/)?{_ID_PART}(?<!\.git)", re.ASCII)
# A safe part of git-check-ref-format(1).
_REVISION = re.compile(r"(?!.*\.\.)(?!/)[^\x00-\x20\x7f\\:~^?*\[]+")


@dataclass(frozen=True)
class Source:
    """One checkpoint: where its files are and what each is for.

    Attributes:
        given: what the user gave.
        folder: where the files lie.
        weights: the files of weights.
        config: the config to read; None when there is none.
        sidecars: tokenizer, label and sentence-transformers files to carry along, relative to `folder`.
        not_carried: other files there.
        revision: the commit when it came from the Hub.
        notes: what is unusual, one sentence each.
        modules: of sentence-transformers; None where no `modules.json` lists any.
        stored_config: the bytes of `config`, read when it was found; none where they are too many. Of a program's own
            config file they are what transformers would write.
        implied: the keys of a config where there is none and none is needed.
        renamed: sidecar -> what the folder calls it, where that is something else.
        kept: what has to stay for as long as this does: a mount, whose local folder goes with it.
    """

    given: str
    folder: Path
    weights: Weights
    config: Path | None
    sidecars: tuple[str, ...] = ()
    not_carried: tuple[str, ...] = ()
    revision: str | None = None
    notes: tuple[str, ...] = ()
    modules: Modules | None = None
    stored_config: bytes = field(default=b"", repr=False)
    implied: Mapping[str, Any] | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    kept: object = field(default=None, repr=False, compare=False)

    @property
    def carried(self) -> tuple[str, ...]:
        """Names in the output of the files that go along."""
        around = self.modules and (*self.modules.sidecars, *([modules.LISTING] if self.modules.listing else []))
        return tuple(sorted((*self.sidecars, *(around or ()))))

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Every file that is read or carried along."""
        beside = (self.renamed.get(name, name) for name in self.sidecars)
        names = (*self.weights.files, *filter(None, (self.weights.index,)), *beside)
        found = (*(self.folder / name for name in names), *filter(None, (self.config,)))
        if self.modules is None:
            return found
        around = (modules.LISTING, *self.modules.weights, *self.modules.sidecars)
        return (*found, *(self.modules.folder / name for name in around))

    def open(self, name: str) -> SourceFile:
        """Open a file of it; errors as for `open_in`."""
        return open_in(self.folder, self.renamed.get(name, name))

    def config_keys(self) -> dict[str, Any] | None:
        """The keys of its config as they are, unchecked; None where it has none; DamagedCheckpoint for no JSON."""
        found = self.config
        if found is None:
            return None if self.implied is None else dict(self.implied)
        return content.json_object(self.stored_config, found, content.MAX_BYTES)

    def load_config(self, family: Family) -> Config:
        """Its config, which must be of that family.

        Raises:
            MissingConfig: it has none.
            DamagedCheckpoint, UnsupportedCheckpoint: as for `Config.load`.
        """
        keys = self.config_keys()
        if keys is None:
            raise MissingConfig(
                "has no config.json.", hint="Give one with --config FILE; shapes alone do not tell the activation.",
                file=str(self.folder),
            )  # fmt: skip
        config: Config = config_class(family).from_dict(keys, str(self.config or _IMPLIED), family)
        return config


def open_source(src: str | os.PathLike[str], options: SourceOptions = _DEFAULTS) -> Source:
    """Find a checkpoint.

    Args:
        src: a folder, a file, a Hub id with or without `@revision`, or the address of a folder or a file elsewhere. A
            path that exists wins over an id; a path object is neither an id nor an address.
        options: how to find it. A revision is of the Hub: elsewhere there is a note, since programs pass "main" always.

    Raises:
        MissingPath: neither a path nor a Hub id.
        RequestError: options that do not go together.
        UnsafeCheckpoint: a name or a link leads out of the checkpoint.
        DamagedCheckpoint: files are missing or unreadable.
        UnsupportedCheckpoint: weights of a kind that is not converted.
        HubError: the Hub did not give the files.
    """
    check_path(src, "the source")
    given = os.fspath(src)
    config = options.config_file
    if config is not None and not is_so(config.is_file):
        raise RequestError("there is no such config file.", hint="Check the path.", file=str(config))
    found = _found(src, given, options)
    if options.revision is None or found.revision is not None:
        return found
    return replace(found, notes=(revision_note(options.revision), *found.notes))


def revision_note(revision: str) -> str:
    """What is said of a revision that was asked for where nothing has any."""
    return f"nothing here has revisions: the one that was asked for, {shown(revision)}, changes nothing"


def _found(src: str | os.PathLike[str], given: str, options: SourceOptions) -> Source:
    if is_url(src):
        return _from_address(given, options)
    if os.path.lexists(given):
        also_id = isinstance(src, str) and _HUB_ID.fullmatch(given) is not None and not is_weights(given)
        return _from_path(Path(given), given, options, also_id=also_id)
    if prefixes.is_prefix(Path(given)):
        return _from_prefix(LocalFolder(Path(given).parent), Path(given).name, given, options)
    return _from_hub(given, *hub_id(src, options), options)


def hub_id(src: str | os.PathLike[str], options: SourceOptions = _DEFAULTS) -> tuple[str, str | None]:
    """Repository and revision of `org/name@revision` where a path may be meant; errors as for `repository_id`."""
    found = _id_in(src) if isinstance(src, str) else None
    if found is None or _is_mistyped(found[0]):
        raise _no_such(os.fspath(src))
    return found[0], _revision(found[1], options.revision)


def repository_id(given: str, revision: str | None = None) -> tuple[str, str | None]:
    """The repository and the revision that `org/name` or `org/name@revision` means, whatever is on the disk.

    Args:
        given: what the user gave.
        revision: the one that was asked for beside it.

    Raises:
        RequestError: it is no id of a repository, or two revisions are asked for.
    """
    found = _id_in(given)
    if found is None:
        raise RequestError(
            "is no id of a repository on the Hub.", hint="Give `organisation/name`, with `@revision` where needed.",
            file=given,
        )  # fmt: skip
    return found[0], _revision(found[1], revision)


def _id_in(given: str) -> tuple[str, str | None] | None:
    """Repository and revision as they are spelled; None for what is no id."""
    check_text(given, "the repository")
    repository, at, revision = given.partition("@")
    return (repository, revision if at else None) if _HUB_ID.fullmatch(repository) else None


def _is_mistyped(repository: str) -> bool:
    """Whether a valid id is rather a path with an error in it."""
    return is_weights(repository) and ("/" not in repository or Path(repository).parent.is_dir())


def _no_such(given: str) -> MissingPath:
    hint = "Give a path that exists, or `organisation/name` for the Hub."
    return MissingPath(f"{NO_MODEL}: no such file or folder, and not a Hub id.", hint=hint, file=given)


def _revision(named: str | None, asked: str | None) -> str | None:
    """The revision behind an `@`, or the one that was asked for beside it."""
    if named is not None and asked not in {None, named}:
        raise RequestError(f"asks for revision {named!r} and for {asked!r}.", hint="Give one of them.")
    revision = asked if named is None else named
    if revision is not None:
        check_text(revision, "revision")
    # huggingface_hub makes a file's path of it.
    if revision is not None and not _REVISION.fullmatch(revision):
        raise RequestError(f"{revision!r} is no name of a revision.", hint="Give a branch, a tag or a commit.")
    return revision


def _from_hub(given: str, repository: str, revision: str | None, options: SourceOptions) -> Source:
    # huggingface_hub takes longer to import than a small checkpoint to convert.
    from bertconv.source.hub import open_repository

    checkpoint = open_repository(repository, replace(options, revision=revision))
    source = replace(_from_place(checkpoint, given, options), revision=checkpoint.commit)
    checkpoint.remember(source.folder / (source.weights.index or source.weights.files[0]))
    return source


def source_in(checkpoint: CheckpointFolder, given: str, options: SourceOptions) -> Source:
    """The checkpoint in a folder that was looked up already; errors as for `open_source`."""
    return _from_place(checkpoint, given, options)


def _from_path(path: Path, given: str, options: SourceOptions, *, also_id: bool) -> Source:
    kind = "folder" if path.is_dir() else "file"
    notes = (f"a local {kind} of this name wins over the Hub id",) if also_id else ()
    if kind == "folder":
        checkpoint = LocalFolder(path)
        return _from_place(
            checkpoint.within(options.subfolder) if options.subfolder else checkpoint, given, options, notes
        )
    _refuse_place(given, options)
    checkpoint = LocalFolder(path.parent)
    if (prefix := prefixes.prefix_of(path.name)) is not None:
        return _from_prefix(checkpoint, prefix, given, options)
    return _from_file(checkpoint, path.name, given, options, notes)


def _from_address(given: str, options: SourceOptions) -> Source:
    # fsspec and what it needs take longer to import than a small checkpoint to convert.
    from bertconv.source.remote.address import open_address

    found = open_address(given, options)
    checkpoint, shown = found.folder, found.shown
    if found.file is None and found.prefix is None:
        checkpoint = checkpoint.within(options.subfolder) if options.subfolder else checkpoint
        source = _from_place(checkpoint, shown, options)
    else:
        _refuse_place(shown, options)
        prefix = found.prefix or prefixes.prefix_of(found.file or "")
        if prefix is None:
            source = _from_file(checkpoint, found.file or "", shown, options)
        else:
            source = _from_prefix(checkpoint, prefix, shown, options)
    return replace(source, revision=found.commit, kept=checkpoint.mount)


def _refuse_place(given: str, options: SourceOptions) -> None:
    if options.subfolder or options.variant:
        raise RequestError("is a file, which has no subfolder or variant.", hint="Leave the option out.", file=given)


def _from_file(
    checkpoint: CheckpointFolder, name: str, given: str, options: SourceOptions, notes: tuple[str, ...] = ()
) -> Source:
    if name == SAVED_MODEL:
        return _from_place(checkpoint, given, options, notes)
    if error := unsupported([name], given):
        raise error
    if SHARD.fullmatch(name):
        notes = (*notes, "the file is one shard of several")
    # Only beside a config does a folder belong to the file: a download folder holds all sorts of things.
    alone = not checkpoint.names.intersection(sidecars.CONFIGS)
    source = _describe(checkpoint, Choice(name, notes), given, find_config(checkpoint, options), alone=alone)
    return replace(source, sidecars=(), not_carried=()) if alone else source


def _from_prefix(checkpoint: CheckpointFolder, prefix: str, given: str, options: SourceOptions) -> Source:
    index = prefix + prefixes.INDEX
    if error := prefixes.incomplete(checkpoint.names, given, prefix):
        raise error
    alone = not checkpoint.names.intersection(sidecars.CONFIGS)
    return _describe(checkpoint, Choice(index), given, find_config(checkpoint, options), alone=alone)


def _from_place(
    checkpoint: CheckpointFolder, given: str, options: SourceOptions, notes: tuple[str, ...] = ()
) -> Source:
    config = find_config(checkpoint, options)
    named = named_weights(config) if config else None
    try:
        choice = choose(checkpoint.names, options.prefer, options.variant, named, prefixes.listed_in(checkpoint))
    except BertconvError as error:
        error.file = error.file or str(checkpoint.folder)  # names alone do not tell it
        raise
    if choice is not None:
        if foreign := ctranslate2(checkpoint.names, choice.name, given):
            raise foreign
        return _describe(checkpoint, replace(choice, notes=(*notes, *choice.notes)), given, config)
    for inner in _OLD_LAYOUTS:
        if any(name.startswith(f"{inner}/") for name in checkpoint.names):
            return _from_inner(checkpoint, inner, given, options, notes)
    raise no_weights(checkpoint, given)


def _from_inner(
    checkpoint: CheckpointFolder, inner: str, given: str, options: SourceOptions, notes: tuple[str, ...]
) -> Source:
    source = _from_place(checkpoint.within(inner), given, options)
    around = modules.around(checkpoint, inner, source.sidecars)
    beside = sidecars.sort_out([name for name in checkpoint.names if not name.startswith(f"{inner}/")], ())
    note = modules.note_of(inner, around, [*beside[0], *beside[1]])
    if around is not None:
        source = replace(source, modules=around, not_carried=(*source.not_carried, *around.left))
        notes = (*notes, *around.notes, *sidecars.notes(around.left, around.weights))
    return replace(source, notes=(*notes, note, *source.notes))


def _describe(
    checkpoint: CheckpointFolder, choice: Choice, given: str, config: FoundConfig | None, *, alone: bool = False
) -> Source:
    weights, notes = _weights(checkpoint, choice.name)
    config = config or config_within(checkpoint, choice.name)
    listed = None if alone else modules.listed(checkpoint)
    folders = listed.folders if listed is not None else {}
    names = modules.names_with(checkpoint, folders)
    beside = modules.beside(checkpoint, listed, names) if listed is not None else None
    of_modules = beside.weights if beside else ()
    used = (*weights.files, *of_modules, *(name for name in (weights.index, *sidecars.CONFIGS) if name))
    carried, left = sidecars.sort_out(names, used, folders)
    renamed: dict[str, str] = {}
    if config is not None and config.is_preset and not alone:
        renamed = preset.renamed(names, config.stored, config.path)
        own = {*preset.OWN, *renamed.values()}
        carried = tuple(sorted({*renamed, *(name for name in carried if name not in own)}))
        left = tuple(sorted({*left, *(own & set(names))} - set(renamed.values())))
    checkpoint.need([*weights.files, *(renamed.get(name, name) for name in carried)])
    notes = (*choice.notes, *notes, *(beside.notes if beside else ()), *sidecars.notes(left, of_modules))
    found = Source(given, checkpoint.folder, weights, None, carried, left, None, notes, beside, renamed=renamed)
    return found if config is None else replace(found, config=config.path, stored_config=config.stored)


def _weights(checkpoint: CheckpointFolder, name: str) -> tuple[Weights, tuple[str, ...]]:
    if is_spread(name):
        return _spread_weights(checkpoint, name)
    if not is_index(name):
        return Weights((name, *parts_beside(name, checkpoint.names))), ()
    checkpoint.need([name])
    with closing(open_in(checkpoint.folder, name)) as file:
        weight_map = read_index(file)
    shards = tuple(sorted(set(weight_map.values())))
    if absent := [shard for shard in shards if shard not in checkpoint.names]:
        raise checkpoint.missing(
            f"names shards that are not there: {some(absent)}.", file=str(checkpoint.folder / name)
        )
    return Weights(shards, name, weight_map), _unnamed(checkpoint.names, shards, name)


def _spread_weights(checkpoint: CheckpointFolder, name: str) -> tuple[Weights, tuple[str, ...]]:
    checkpoint.need([name])
    with closing(open_in(checkpoint.folder, name)) as file:
        spread = read_spread(file)
    folder = name[: name.rfind("/") + 1]
    files = (*(folder + one for one in spread.files), *parts_beside(name, checkpoint.names))
    if absent := [one for one in files if one not in checkpoint.names]:
        raise checkpoint.missing(f"names files that are not there: {some(absent)}.", file=str(checkpoint.folder / name))
    here = (one.removeprefix(folder) for one in checkpoint.names if one.startswith(folder))
    rest = sorted(one for one in here if Path(one).suffix == Path(files[0]).suffix and one not in spread.named)
    return Weights(files, name, None, spread), (
        f"files that {name} does not name are ignored: {some(rest)}",
    ) if rest else ()


def _unnamed(names: Collection[str], shards: tuple[str, ...], index: str) -> tuple[str, ...]:
    suffixes = {Path(shard).suffix for shard in shards}
    rest = sorted(n for n in set(names) - set(shards) if SHARD.fullmatch(n) and Path(n).suffix in suffixes)
    return (f"shards that {index} does not name are ignored: {some(rest)}",) if rest else ()
