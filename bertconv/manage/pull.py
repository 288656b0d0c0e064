"""pull_checkpoint(): a checkpoint from the Hub into a folder of its own, as it is there, with a record.

listing -> the files that a checkpoint needs, hashed -> copied -> hashed again -> bertconv.json -> verified -> renamed
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertconv.checkpoint import Checkpoint, Opened
from bertconv.containers.chunks import ChunkedTensor
from bertconv.containers.registry import containers_of, preferred
from bertconv.containers.stored import StoredTensor
from bertconv.digests import backbone_ids, digest_of_tensors, digests, own_tensors, vocabulary_facts
from bertconv.errors import BertconvError, DamagedCheckpoint, ParityError, RequestError
from bertconv.formats.destination import MANIFEST, MANIFEST_BYTES
from bertconv.formats.folder import local_destination
from bertconv.formats.frame import frame_digest, spans_of
from bertconv.formats.interrupts import held_back
from bertconv.formats.output import formats
from bertconv.formats.staging import StagedFolder
from bertconv.manage.pull_files import beside, places, prefix_of
from bertconv.manifest import read_manifest
from bertconv.mapping.recognise import Wanted, recognise
from bertconv.modules import opened_modules
from bertconv.record import manifest_bytes, source_facts, table_facts
from bertconv.records import dataclass
from bertconv.report import Operation, ParentReport, Report, TensorReport
from bertconv.source import Source, SourceOptions
from bertconv.source.checkpoint_folder import open_in
from bertconv.source.hashed_file import HashedFile
from bertconv.source.local import repository_id, source_in
from bertconv.source.modules import LISTING
from bertconv.source.reading import headers_of, in_chunks, open_header
from bertconv.source.sidecars import CONFIGS
from bertconv.source.weights import is_index, is_spread, keeps_record
from bertconv.text import human_bytes, listing, printable, some
from bertconv.verify.certificate import check_folder

if TYPE_CHECKING:
    from bertconv.source.hub import HubFolder

KEPT, MADE = "the repository's own", "made here"
"""Where a pulled folder's bertconv.json is from."""


@dataclass(frozen=True)
class Pull:
    """What was pulled.

    Attributes:
        repository: its id, `subfolder` the folder inside it.
        commit: the one that was read.
        folder: where the files are.
        files: file -> its `size`, and `sha256` where it was read.
        not_pulled: other files of the repository.
        manifest: `KEPT` or `MADE`; empty for a dry run.
        head: the model class; empty for a dry run, as what follows.
        digest: of the model.
        notes: what is unusual, one sentence each.
        dry_run: nothing was written, and no weights were downloaded.
    """

    repository: str
    subfolder: str
    commit: str
    folder: str
    files: Mapping[str, Mapping[str, Any]]
    not_pulled: tuple[str, ...]
    manifest: str = ""
    head: str = ""
    digest: str = ""
    notes: tuple[str, ...] = ()
    dry_run: bool = False

    def verdict(self) -> str:
        """What was pulled, in a sentence."""
        sizes = [facts["size"] for facts in self.files.values()]
        known = [size for size in sizes if size is not None]
        amount = f"{len(sizes)} files" + (f", {human_bytes(sum(known))}" if known else "")
        place = f"{self.repository}@{self.commit}"
        if self.dry_run:
            return f"{amount} of {place} would be pulled."
        return f"{amount} of {place}, every one as the Hub has it; bertconv.json is {self.manifest}. {self.digest}"

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return asdict(self) | {"verdict": self.verdict()}


def pull_checkpoint(  # noqa: PLR0913  (one argument per option of the command)
    repository: str,
    folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    subfolder: str = "",
    variant: str | None = None,
    head: str | None = None,
    family: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: bool = False,
) -> Pull:
    """Put a checkpoint from the Hub into a folder, byte for byte, with a bertconv.json that it can be verified by.

    One format of the weights, the config, and the tokenizer, label and module files are pulled, as a conversion would
    read them: the format that a bertconv.json of the repository is about, where there is one. They are real files, no
    links into the cache. That bertconv.json is kept where it is about exactly these files and they are as it says; else
    a new one says which commit they are from.

    Args:
        repository: `org/name` or `org/name@revision`; a path of that name does not count.
        folder: folder to make.
        revision: branch, tag or commit.
        subfolder: folder inside the repository; its files come to the top.
        variant: such as "fp16" for `model.fp16.safetensors`.
        head: the model class, where nothing says it.
        family: the `model_type` of the family, where the config does not say it.
        token: access token for the Hub; by default HF_TOKEN or the stored one.
        cache_dir: cache of the Hub; by default HF_HOME's.
        local_files_only: use only what the cache holds.
        overwrite: replace an earlier output at `folder`.
        dry_run: say what would be pulled; config, index and bertconv.json alone are downloaded.
        progress: show huggingface_hub's progress bars.

    Returns:
        What was pulled.

    Raises:
        HubError: it is not there, or not for this user, or not what the Hub states.
        ParityError: a file on the disk is not what was downloaded.
        BertconvError: the checkpoint is damaged, unsafe, or of no family that is known; nothing was written.

    Example:
        >>> from bertconv import pull_checkpoint
        >>> pull_checkpoint("google-bert/bert-base-uncased", "bert/").commit  # doctest: +SKIP
        '86b5e0934494bd15c9632b12f734a8a67f723594'
    """
    folder = local_destination(folder, "pull")
    named, asked = repository_id(repository, revision)
    wanted = Wanted.of(family, None)
    options = SourceOptions(
        revision=asked, subfolder=subfolder, variant=variant, token=token, local_files_only=local_files_only,
        cache_dir=cache_dir,
    )  # fmt: skip
    StagedFolder(folder, overwrite=overwrite).check()  # before anything is downloaded
    from bertconv.source.hub import open_repository
    from bertconv.source.hub_upload import bars

    with bars(shown=progress):
        there = open_repository(named, options)
        own = _has_manifest(there)
        if own:
            there.need([MANIFEST])
            options = replace(options, prefer=preferred(*_recorded(there.folder)))
        if dry_run:
            return _looked_at(there, folder, options)
        source = replace(_found(there, named, options), revision=there.commit)
        there.remember(source.folder / (source.weights.index or source.weights.files[0]))
    staged = StagedFolder(folder, overwrite=overwrite, inputs=source.inputs)
    with ExitStack() as stack:
        header = stack.enter_context(closing(open_header(source)))
        if any(isinstance(tensor, ChunkedTensor) for tensor in header.tensors):
            raise in_chunks(source)
        modules = stack.enter_context(opened_modules(source))
        check_signals = stack.enter_context(held_back())
        table, identity = recognise(header.tensors, source, wanted)
        opened = Opened(source, header, modules, table, identity)
        return _Pulling(there, opened, opened.as_class(head), staged, check_signals, own_manifest=own).done()


@dataclass(frozen=True)
class _Looking:
    """A folder of the Hub of which only what decides about the rest is downloaded."""

    hub: HubFolder
    asked: dict[str, None]

    @property
    def folder(self) -> Path:
        return self.hub.folder

    @property
    def names(self) -> frozenset[str]:
        return self.hub.names

    def need(self, names: Collection[str]) -> None:
        self.hub.need([n for n in names if n.rpartition("/")[2] in (*CONFIGS, LISTING) or is_index(n) or is_spread(n)])
        self.asked.update(dict.fromkeys(self.hub.prefix + name for name in names))

    def within(self, subfolder: str) -> _Looking:
        return _Looking(self.hub.within(subfolder), self.asked)

    def missing(self, problem: str, hint: str = "", file: str | None = None) -> BertconvError:
        return self.hub.missing(problem, hint, file)


def _found(there: HubFolder | _Looking, repository: str, options: SourceOptions) -> Source:
    """The checkpoint in a repository; UnsupportedCheckpoint where no manifest can say what lies in its files."""
    source = source_in(there, repository, options)
    if source.weights.spread is not None and not keeps_record(source.weights.index or ""):
        raise in_chunks(source)
    there.need(beside(there, source))
    return source


def _looked_at(there: HubFolder, folder: Path, options: SourceOptions) -> Pull:
    looking = _Looking(there, {})
    source = _found(looking, there.repository, options)
    names = sorted(name.removeprefix(there.prefix) for name in looking.asked)
    return Pull(
        repository=there.repository, subfolder=options.subfolder, commit=there.commit, folder=str(folder),
        files={name: {"size": there.sizes.get(there.prefix + name)} for name in names},
        not_pulled=_others(looking, source), notes=source.notes, dry_run=True,
    )  # fmt: skip


def _has_manifest(there: HubFolder) -> bool:
    """Whether the repository has a manifest that is not too long to be one."""
    return MANIFEST in there.names and there.sizes.get(there.prefix + MANIFEST, 0) <= MANIFEST_BYTES


def _recorded(folder: Path) -> Iterator[str]:
    """The container of the weights that the repository's own manifest is about; nothing where it is no manifest."""
    try:
        files = read_manifest(folder)["files"]
    except DamagedCheckpoint:  # `misfit` says so
        return
    yield from containers_of(name for name, one in files.items() if "sha256_outside_tensors" in one and "/" not in name)


def _others(there: HubFolder | _Looking, source: Source) -> tuple[str, ...]:
    return tuple(name for name in source.not_carried if name not in {MANIFEST, *beside(there, source)})


@dataclass(frozen=True)
class _Pulling:
    """One pull: the files are in the cache, hashed and opened."""

    there: HubFolder
    opened: Opened
    checkpoint: Checkpoint
    staged: StagedFolder
    check_signals: Callable[[], None]
    own_manifest: bool

    def done(self) -> Pull:
        staged, source, root = self.staged, self.opened.source, self.there.folder
        names = sorted(set(places(self.there, source)))
        with staged, staged.writing():
            staged.reserve(sum((root / name).stat().st_size for name in names))
            files = [self.copied(name) for name in names]
            misfit = self.misfit(names) if self.own_manifest else "there is none"
            if misfit and self.own_manifest:
                (staged.path / MANIFEST).unlink()
            report = self.report(misfit if self.own_manifest else "")
            if misfit:
                self.record(report)
            self.opened.check_unchanged()
            self.check_signals()
            staged.commit()
        return Pull(
            repository=self.there.repository, subfolder=self.there.options.subfolder, commit=self.there.commit,
            folder=str(staged.destination), not_pulled=_others(self.there, source), manifest=MADE if misfit else KEPT,
            files={one.name: {"size": one.size, "sha256": one.sha256} for one in files},
            head=report.head, digest=report.digest, notes=report.notes,
        )  # fmt: skip

    def copied(self, name: str) -> HashedFile:
        """Copy a file out of the cache, and hold the copy to what the Hub states."""
        self.check_signals()
        with closing(open_in(self.there.folder, name)) as file:
            self.staged.copy(name, file)
        with closing(open_in(self.staged.path, name)) as file:
            found = HashedFile.of(name, file)
        stated = self.there.digests.get(self.there.prefix + name, "")
        if stated and found.like(stated) != stated:
            raise ParityError(
                f"was copied, and is {found.like(stated)} where the Hub has {stated}; nothing was kept.",
                hint="Check disk and memory, and pull it again.", file=name,
            )  # fmt: skip
        return found

    def misfit(self, names: Collection[str]) -> str:
        """Copy the repository's own bertconv.json too; why it cannot be kept, or nothing where it can."""
        self.copied(MANIFEST)
        try:
            manifest = read_manifest(self.staged.path)
            if set(manifest["files"]) != set(names):
                return "it is about other files"
            found = check_folder(self.staged.path)
        except (RequestError, DamagedCheckpoint) as error:
            return f"it {error.message.rstrip('.')}"
        if not found.ok:
            change = found.changes[0]
            return f"{': '.join(filter(None, (change.file, change.tensor)))} {change.what} by it"
        return "" if manifest["digest"] == self.digest else "it states the digest of another model"

    @cached_property
    def digests(self) -> dict[str, str]:
        """Neutral id -> digest of every tensor, stored copies too."""
        return digests(self.checkpoint.everything, lambda _: self.check_signals())

    @cached_property
    def own(self) -> dict[str, str]:
        """Those that make the model's digest."""
        return {place: self.digests[place] for place in own_tensors(self.checkpoint)}

    @property
    def digest(self) -> str:
        """Of the model."""
        return digest_of_tensors(self.own)

    def report(self, misfit: str) -> Report:
        """What was pulled, as of any output; no tensor is left out, since the files are as they were."""
        one, source, own = self.checkpoint, self.opened.source, self.own
        backbone = digest_of_tensors({place: own[place] for place in backbone_ids(one.table, own)})
        options = {"subfolder": self.there.options.subfolder, "variant": self.there.options.variant}
        form = next(
            (form.name for form in formats().values()
             if (form.dialect.name, form.container.name) == (one.dialect, one.header.container)), one.header.container,
        )  # fmt: skip
        return Report(
            source=source_facts(source, one.header, one.identity),
            target={"folder": str(self.staged.destination), "format": form, "files": list(source.weights.files)},
            head=one.head, equals=one.plan.equals, tensors=tuple(self.rows()), left_out=(),
            notes=tuple(self.notes(misfit)), sidecars=source.carried, not_carried=_others(self.there, source),
            copies=tuple(place for place in self.digests if place not in own),
            parameters=sum(one.everything[place].stored.count for place in own),
            nbytes=sum(tensor.stored.nbytes for tensor in one.everything.values()), verified="weights",
            table=table_facts(one.table),
            operation=Operation("pull", {key: value for key, value in options.items() if value}),
            parents=(ParentReport("source", self.there.repository, self.there.commit, self.digest, backbone),),
            backbone_digest=backbone, vocabulary=vocabulary_facts(one.tokenizer),
        )  # fmt: skip

    def rows(self) -> Iterator[TensorReport]:
        for place, tensor in self.checkpoint.everything.items():
            stored, shape = tensor.stored, tensor.spec.canonical.shape
            name = self.name_of(stored)
            turned = tensor.transpose is not None or shape != stored.shape == shape[::-1]
            plain = shape[::-1] if turned else shape
            yield TensorReport(
                place, name, name, "loaded", stored.dtype, shape, "as it is", self.digests[place], transposed=turned,
                stored=None if stored.shape == plain else stored.shape,
            )  # fmt: skip

    def name_of(self, tensor: StoredTensor) -> str:
        """What a manifest calls a tensor: with the folder of its file in front."""
        folder = tensor.file.path.relative_to(self.there.folder).parent.as_posix()
        return printable(tensor.name) if folder == "." else f"{folder}/{printable(tensor.name)}"

    def notes(self, misfit: str) -> Iterator[str]:
        one = self.checkpoint
        yield from (*one.source.notes, *one.header.notes, *one.plan.config.notes)
        if misfit:
            yield f"the repository's {MANIFEST} was not kept: {misfit}"
        if one.plan.unfilled:
            yield f"{one.head} has tensors that are not there: {some(spec.name for spec in one.plan.unfilled)}"
        if omitted := one.omitted():
            yield f"no table knows these parts of the model, and the digest leaves them out: {some(omitted)}"

    def record(self, report: Report) -> None:
        """Write bertconv.json, and hold the folder to it."""
        source, path = self.opened.source, self.staged.path
        prefix = prefix_of(source.folder, self.there.folder)
        weights = [prefix + name for name in source.weights.files]
        weights += source.modules.weights if source.modules else ()
        with ExitStack() as stack:
            files = {name: stack.enter_context(closing(open_in(path, name))) for name in weights}
            headers, errors = headers_of(path, files, check_data=False)
            if errors:
                raise next(iter(errors.values()))
            frames = {name: frame_digest(file, spans_of(headers[name])) for name, file in files.items()}
        self.staged.write(MANIFEST, manifest_bytes(report, self.staged, (), frames))
        if changes := check_folder(path).changes:
            changed = listing(f"{one.tensor} {one.what}" for one in changes)
            raise ParityError(
                f"is not as it is put on record, and was not kept:\n{changed}",
                hint="Check disk and memory, and pull it again; or convert it.", file=changes[0].file or None,
            )  # fmt: skip
