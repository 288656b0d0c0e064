"""What is put on record about a conversion or a save: the report for the caller, the manifest for the output."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertconv import __version__
from bertconv.containers.stored import ITEM_SIZE, Header
from bertconv.digests import backbone_ids, digest_of_tensors
from bertconv.formats.content import Content, OutputFile
from bertconv.formats.destination import MANIFEST
from bertconv.formats.folder import OutputFolder
from bertconv.formats.frame import frame_digest, planned_frame_digest
from bertconv.formats.output import Format
from bertconv.formats.readback import TensorCheck
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.identify import Identity
from bertconv.mapping.layout import is_transposed
from bertconv.mapping.plan import Move, Plan
from bertconv.mapping.table import Table
from bertconv.records import dataclass
from bertconv.report import LeftOut, Operation, Report, TensorReport
from bertconv.source import Source
from bertconv.source.checkpoint_folder import open_in
from bertconv.text import printable

MANIFEST_FORMAT = 3
"""Version of the manifest's own format."""

_OWN_DIGEST = b' "manifest_sha256": "%s"'


@dataclass(frozen=True)
class Proof:
    """What became of the comparison of outputs: its certificate, or in `note` why there is none; and its duration."""

    certificate: Mapping[str, Any] | None = None
    note: str = ""
    seconds: float = 0.0

    def added_to(self, report: Report) -> Report:
        """The report with what was proven."""
        if self.certificate is not None:
            parity = dict(self.certificate)
            return replace(report, verified=parity["level"], parity=parity, outputs_seconds=self.seconds)
        return replace(report, notes=(*report.notes, self.note)) if self.note else report


def report_of(source: Source, header: Header, plan: Plan, table: Table, dtype: Callable[[Move], str]) -> Report:
    """The report of a plan; `checked` adds what the check of every tensor found."""
    fills = {*table.in_dialect(plan.dialect).fills} - {*table.heads[plan.head]}
    fillers = {move.target.id for move in plan.moves if move.target.group in fills}
    repeated = table.repeated(plan.dialect, plan.config.values) | fillers
    unfilled = [
        TensorReport(spec.id, "", spec.name, "missing", "", spec.canonical.shape, "allowed by an ignore list")
        for spec in plan.unfilled
    ]
    return Report(
        source=source_facts(source, header, plan.identity),
        target={},
        head=plan.head,
        equals=plan.equals,
        tensors=(*(_moved(move, dtype(move)) for move in plan.moves), *unfilled),
        left_out=tuple(left_out(header, plan)),
        notes=(*source.notes, *header.notes, *plan.config.notes, *plan.notes),
        sidecars=source.carried,
        not_carried=not_carried(source),
        copies=_copies((move.target for move in plan.moves), repeated),
        parameters=sum(move.target.count for move in plan.moves if move.target.id not in repeated),
        nbytes=sum(move.target.count * ITEM_SIZE[dtype(move)] for move in plan.moves),
        computes=plan.meaning.facts(plan.identity.dialect.title),
        table=table_facts(table),
    )


def computed_report(
    source: Source, header: Header, plan: Plan, table: Table, contents: Sequence[Content], details: Mapping[str, str]
) -> Report:
    """The report of an output that is no conversion of one source: each tensor is read, computed or made anew.

    Args:
        source: the first of what is read.
        header: of its files.
        plan: of it.
        table: the architecture.
        contents: what is written.
        details: neutral id -> what was done to a tensor, in a few words.
    """
    report = report_of(source, header, plan, table, lambda _: contents[0].dtype)
    repeated = table.repeated(plan.dialect, plan.config.values)
    return replace(
        report,
        tensors=tuple(_computed(content, details.get(content.id, "")) for content in contents),
        copies=_copies((content.spec for content in contents), repeated),
        parameters=sum(content.spec.count for content in contents if content.id not in repeated),
        nbytes=sum(content.nbytes for content in contents),
    )


def tallied(report: Report, contents: Iterable[Content]) -> Report:
    """A report with what casts changed, once everything is written."""
    counted = {one.id: tally.counts() for one in contents if (tally := one.origin.tally) is not None}
    return replace(report, tensors=tuple(replace(one, cast=counted.get(one.id, one.cast)) for one in report.tensors))


def checked(report: Report, checks: Sequence[TensorCheck]) -> Report:
    """A report with the digest of every tensor, and what is unusual about its numbers."""
    digests = {check.id: check.digest for check in checks}
    return replace(
        report,
        tensors=tuple(replace(one, digest=digests.get(one.id, "")) for one in report.tensors),
        notes=(*report.notes, *_notes(checks)),
        verified="weights" if checks else "none",
    )


def source_facts(source: Source, header: Header, identity: Identity) -> dict[str, Any]:
    """What was read, as reports have it."""
    return {
        "given": source.given,
        "revision": source.revision,
        "container": header.container,
        "dialect": identity.dialect.name,
        "prefix": printable(identity.prefix),
        "files": list(source.weights.files),
    }


def left_out(header: Header, plan: Plan) -> Iterator[LeftOut]:
    """Everything in the files of a source that a plan does not load."""
    for one in plan.unloaded:
        yield LeftOut(printable(one.tensor.name), one.state, printable(one.why), one.inside)
    for name in header.others:
        if name in header.beside:
            yield LeftOut(printable(name), "outside", "weights beside the state dict")
        else:
            yield LeftOut(printable(name), "ignored", "not a weight")


def not_carried(source: Source) -> tuple[str, ...]:
    """Files of a source that stay behind; of an output, its manifest is no such file."""
    return tuple(name for name in source.not_carried if name != MANIFEST)


def short_name(given: str, commit: str | None) -> str:
    """What an output calls its source: the Hub id as it was given, or the last part of a path, never all of it.

    Args:
        given: by the user.
        commit: on the Hub; None for a path.
    """
    return given if commit is not None else printable(Path(os.path.abspath(given)).name)  # noqa: PTH100


def saved_report(  # noqa: PLR0913  (one argument per fact)
    contents: Sequence[Content],
    checks: Sequence[TensorCheck],
    *,
    head: str,
    given: str,
    form: Format,
    files: Sequence[OutputFile],
    staged: OutputFolder,
    table: Table,
    repeated: Container[str] = (),
) -> Report:
    """The report of weights that were saved from memory.

    Args:
        contents: what was written.
        checks: what the check found; empty when nothing was verified.
        head: the model class.
        given: what the model is called.
        form: format of the output.
        files: its files of weights.
        staged: the folder that becomes the output.
        table: the architecture.
        repeated: ids of tensors that are copies of others.
    """
    digests = {check.id: check.digest for check in checks}
    return Report(
        source={"given": given, "revision": None, "container": "memory", "dialect": "", "prefix": "", "files": []},
        target={"folder": str(staged.destination), "format": form.name, "files": [file.name for file in files]},
        head=head,
        equals=(),
        tensors=tuple(_saved(content, digests.get(content.spec.id, "")) for content in contents),
        left_out=(),
        notes=tuple(_notes(checks)),
        copies=_copies((content.spec for content in contents), repeated),
        parameters=sum(content.spec.count for content in contents if content.spec.id not in repeated),
        nbytes=sum(content.spec.count * ITEM_SIZE[content.dtype] for content in contents),
        verified="weights" if checks else "none",
        table=table_facts(table),
        operation=Operation("save_pretrained", {"format": form.name}),
        backbone_digest=digest_of_tensors({place: digests[place] for place in backbone_ids(table, digests)}),
    )


def manifest_bytes(
    report: Report, staged: OutputFolder, files: Sequence[OutputFile], copied: Mapping[str, str] | None = None
) -> bytes:
    """The content of bertconv.json: where the weights came from, what was done, and a digest for every byte.

    Tensors have digests of their own; the bytes of a weight file outside of its tensors have one together, so that
    nothing is hashed twice. It holds no date and no duration: the same input and options give the same bytes.

    Args:
        report: of the conversion or the save.
        staged: with every file of the output but this one.
        files: the files of weights in it that were written.
        copied: those that were copied as they were -> digest of their bytes outside of their tensors. They have one of
            the whole file too: no table need know all of their tensors.

    Raises:
        DamagedCheckpoint: a file is not as long as it was written.
    """
    described = report.to_json()
    keys = (
        "operation", "parents", "source", "head", "table", "verified", "parity", "digest", "backbone_digest",
        "vocabulary", "notes", "left_out",
    )  # fmt: skip
    content = {
        "format": MANIFEST_FORMAT,
        "bertconv": __version__,
        **{key: described[key] for key in keys},
        "source": {**report.source, "given": report.parents[0].given if report.parents else report.source["given"]},
        "target": {"format": report.target["format"], "files": report.target["files"]},
        **({"part": report.part} if report.part else {}),
        **({"computes": report.computes} if report.computes else {}),
        "tensors": {tensor.pop("id"): _but_none(tensor, "cast", "stored") for tensor in described["tensors"]},
        "files": _files(staged, {file.name: file for file in files}, copied or {}),
        "manifest_sha256": "",
    }
    raw = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
    digest = hashlib.sha256(raw).hexdigest()
    return raw.removesuffix(_OWN_DIGEST % b"" + b"\n}\n") + _OWN_DIGEST % digest.encode() + b"\n}\n"


def _but_none(facts: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Facts without those of some that are nothing."""
    return {name: fact for name, fact in facts.items() if name not in keys or fact is not None}


def stored_shape(spec: TensorSpec) -> tuple[int, ...] | None:
    """The sizes of a tensor in its file where they are neither PyTorch's nor those the other way round."""
    plain = spec.canonical.shape[::-1] if is_transposed(spec.layout, spec.canonical) else spec.canonical.shape
    return None if spec.shape == plain else spec.shape


def manifest_digest(raw: bytes) -> str:
    """The digest that a manifest must state of itself: of its bytes with that digest left out."""
    head, mark, rest = raw.rpartition(_OWN_DIGEST.partition(b"%")[0])
    return hashlib.sha256(head + mark + rest[rest.find(b'"') :]).hexdigest()


def table_facts(table: Table) -> dict[str, str]:
    """Which table it is, as reports have it."""
    return {"name": table.path.stem, "sha256": table.digest}


def _copies(specs: Iterable[TensorSpec], repeated: Container[str]) -> tuple[str, ...]:
    return tuple(spec.id for spec in specs if spec.id in repeated)


def _moved(move: Move, dtype: str) -> TensorReport:
    details = []
    if move.transpose or (move.source and move.source.shape != move.target.shape == move.source.shape[::-1]):
        details.append("transposed")
    if move.source is not None and move.source.dtype != dtype:
        details.append(f"{move.source.dtype} to {dtype}")
    if move.state == "tied":
        details.append("from its tied copy")
    source = printable(move.source.name) if move.source else ""
    shape = move.target.canonical.shape
    return TensorReport(
        move.target.id, source, move.target.name, move.state, dtype, shape, ", ".join(details),
        transposed=is_transposed(move.target.layout, move.target.canonical), stored=stored_shape(move.target),
    )  # fmt: skip


def _computed(content: Content, details: str) -> TensorReport:
    spec, origin = content.spec, content.origin
    state = "loaded" if origin.tensor else "computed" if origin.compute else "initialised"
    source = printable(origin.tensor.name) if origin.tensor else ""
    return TensorReport(
        spec.id, source, spec.name, state, content.dtype, spec.canonical.shape, details,
        transposed=is_transposed(spec.layout, spec.canonical), stored=stored_shape(spec),
    )  # fmt: skip


def _saved(content: Content, digest: str) -> TensorReport:
    spec = content.spec
    return TensorReport(
        spec.id,
        "",
        spec.name,
        "saved",
        content.dtype,
        spec.canonical.shape,
        "",
        digest,
        is_transposed(spec.layout, spec.canonical),
        stored=stored_shape(spec),
    )


def _notes(checks: Sequence[TensorCheck]) -> list[str]:
    notes = [f"{one.id} holds {one.not_finite} numbers that are NaN or infinite" for one in checks if one.not_finite]
    weights = [check.id for check in checks if check.all_zero and check.id.endswith((".weight", ".scale"))]
    return notes + [f"{name} is all zero" for name in weights]


def _files(staged: OutputFolder, weights: Mapping[str, OutputFile], copied: Mapping[str, str]) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for name in staged.names():
        if name in weights:
            described[name] = {
                "size": weights[name].size,
                "sha256_outside_tensors": planned_frame_digest(weights[name]),
            }
            continue
        with closing(open_in(staged.path, name)) as file:
            described[name] = {"size": file.size, "sha256": frame_digest(file, ())}
            described[name] |= {"sha256_outside_tensors": copied[name]} if name in copied else {}
    return described
