"""bertconv.json: what was proven of an output, and whether its files are still those that it was proven of."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bertconv.containers.stored import Header, SourceFile, StoredTensor
from bertconv.errors import BertconvError, RequestError, as_shown
from bertconv.formats import workers
from bertconv.formats.destination import MANIFEST
from bertconv.formats.frame import frame_digest, spans_of
from bertconv.formats.readback import digest_of
from bertconv.formats.streaming import Workspace
from bertconv.manifest import read_manifest
from bertconv.mapping.layout import Transpose
from bertconv.records import dataclass
from bertconv.source import mounts
from bertconv.source.checkpoint_folder import open_in
from bertconv.source.reading import headers_of
from bertconv.text import brief, listing, printable
from bertconv.verify.parity import Parity


@dataclass(frozen=True)
class Change:
    """One thing that is not as the manifest has it: the file, the tensor in it ("" for the file itself), and how."""

    file: str
    tensor: str
    what: str


@dataclass(frozen=True)
class FolderCheck:
    """Whether an output is still what was written.

    Attributes:
        folder: the output.
        changes: what is not as it was written.
        files: number of files that were looked at, `tensors` of tensors.
        added: files that the manifest does not list; they are no change.
        digest: of the whole model, as written.
        verified: the level at which the output was verified: "none", "weights", "outputs" or "gradients".
        parity: the certificate of its outputs; empty when they were not compared.
        written_by: version of bertconv.
        omitted: parts of the source's model that were left out when it was written.
    """

    folder: str
    changes: tuple[Change, ...]
    files: int
    tensors: int
    added: tuple[str, ...]
    digest: str
    verified: str
    parity: Mapping[str, Any]
    written_by: str
    omitted: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing was changed."""
        return not self.changes  # guard: check-verdict

    def verdict(self) -> str:
        """What was found, in a sentence or, for changes, a list."""
        if self.changes:
            lines = [f"{': '.join(filter(None, (one.file, one.tensor)))} {one.what}" for one in self.changes]
            return f"Changed since it was written:\n{listing(lines)}"
        proven = {"weights": "its weights", "outputs": "its outputs", "gradients": "its outputs and gradients"}
        said = f"Proven then: {proven[self.verified]}." if self.verified in proven else "Nothing was verified then."
        if sentence := self.parity.get("verdict"):
            said += f" {sentence}"
        if self.omitted and not self.parity:  # the verdict of that time names them itself
            said += f" The source computes with what was left out: {brief(self.omitted)}."
        there = f"{self.files} files and {self.tensors} tensors"
        return f"Unchanged: {there} are as bertconv {self.written_by} wrote them. {said}"

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return asdict(self) | {"ok": self.ok, "verdict": self.verdict()}


def certificate(parity: Parity) -> dict[str, Any]:
    """What is recorded of a verification: the same input and options on the same machine give the same record."""
    facts = parity.to_json()
    worst = {dtype: one for dtype in parity.dtypes if (one := parity.worst(dtype)) is not None}
    return {
        **{
            key: facts[key]
            for key in ("level", "head", "ok", "verdict", "omitted", "dtypes", "cases", "limits", "versions", "notes")
        },
        **{name: {key: facts[name][key] for key in ("state", "about")} for name in parity.aspects},
        "a": {"framework": parity.a.framework, "digest": parity.a.digest},
        "b": {"framework": parity.b.framework, "digest": parity.b.digest},
        "worst": {
            dtype: {"place": one.place, "case": one.case, "a": one.a, "b": one.b, "limit": one.limit}
            for dtype, one in worst.items()
        },
        "gradients": max((one.error for one in parity.gradients), default=None),
    }


def check_folder(folder: Path) -> FolderCheck:
    """Hold every file and every tensor of an output to its manifest.

    Raises:
        RequestError: it has no manifest, or one without digests of the tensors.
        DamagedCheckpoint: the manifest is none, or was changed.
    """
    manifest = read_manifest(folder)
    wanted = {place: facts for place, facts in manifest["tensors"].items() if facts["state"] != "missing"}
    if not all(facts["digest"] for facts in wanted.values()):
        raise RequestError(
            "was written with --verify none: there are no digests to hold its tensors to.",
            hint="Compare it with its source: bertconv verify SRC DST.", file=str(folder),
        )  # fmt: skip
    files: Mapping[str, Any] = manifest["files"]
    with ExitStack() as stack:
        changes, weights, absent = _file_changes(folder, files, stack)
        headers, broken = _headers(folder, weights)
        changes += broken
        for name, header in headers.items():
            changes += _frame_changes(name, weights[name], header, files[name])
        unread = absent or bool(broken)
        changes += _tensor_changes(headers, wanted, complete=not unread)
    there = mounts.names(folder)
    return FolderCheck(
        as_shown(str(folder)), tuple(changes), len(files), len(wanted),
        tuple(sorted(printable(name) for name in there - {*files, MANIFEST})), manifest["digest"], manifest["verified"],
        manifest["parity"], manifest["bertconv"], _omitted(manifest.get("left_out")),
    )  # fmt: skip


def _omitted(left_out: Any) -> tuple[str, ...]:
    """Names of what was left out inside the model; manifests of earlier versions do not say."""
    rows = [one for one in left_out if isinstance(one, dict)] if isinstance(left_out, list) else []
    return tuple(printable(str(one.get("source", ""))) for one in rows if one.get("inside") is True)


def _file_changes(
    folder: Path, files: Mapping[str, Any], stack: ExitStack
) -> tuple[list[Change], dict[str, SourceFile], bool]:
    """What is not as it was about whole files; those of weights, open until the stack ends; and if any is absent."""
    changes: list[Change] = []
    weights: dict[str, SourceFile] = {}
    absent = False
    for name, wanted in files.items():
        try:
            file = stack.enter_context(closing(open_in(folder, name)))  # which takes the links of the Hub's cache alone
        except BertconvError as error:
            gone = isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)
            changes.append(Change(name, "", "is missing" if gone else f"can no longer be read: {error.message}"))
            absent = True
            continue
        if "sha256_outside_tensors" in wanted:
            weights[name] = file
        if file.size != wanted["size"]:  # guard: check-size
            changes.append(Change(name, "", f"has {file.size:,} bytes instead of {wanted['size']:,}"))
        elif "sha256" in wanted:  # of weights too, where they were copied as they were
            changes += _content_changes(name, file, wanted)
        if name not in weights:
            file.close()
    return changes, weights, absent


def _content_changes(name: str, file: SourceFile, wanted: Mapping[str, Any]) -> Iterator[Change]:
    try:
        if frame_digest(file, ()) != wanted["sha256"]:  # guard: check-file
            yield Change(name, "", "has other bytes")
    except BertconvError as error:
        yield Change(name, "", f"can no longer be read: {error.message}")


def _headers(folder: Path, weights: Mapping[str, SourceFile]) -> tuple[dict[str, Header], list[Change]]:
    headers, errors = headers_of(folder, weights)
    broken = [
        Change(name, error.tensor or "", f"can no longer be read: {error.message}") for name, error in errors.items()
    ]
    return headers, broken


def _frame_changes(name: str, file: SourceFile, header: Header, wanted: Mapping[str, Any]) -> Iterator[Change]:
    same_size = file.size == wanted["size"]  # another size was reported already
    try:
        if same_size and frame_digest(file, spans_of(header)) != wanted["sha256_outside_tensors"]:  # guard: check-frame
            yield Change(name, "", "has other bytes outside of its tensors")
    except BertconvError as error:
        yield Change(name, "", f"can no longer be read: {error.message}")


def _tensor_changes(headers: Mapping[str, Header], wanted: Mapping[str, Any], *, complete: bool) -> Iterator[Change]:
    """Every tensor whose digest is another one than on record, or that is no longer there."""
    known = {facts["target"] for facts in wanted.values()}
    found = {_key(file, tensor, known): (file, tensor) for file, header in headers.items() for tensor in header.tensors}
    jobs = []
    for facts in wanted.values():
        if (place := found.get(facts["target"])) is not None:
            jobs.append((*place, facts))
        elif complete:  # guard: check-missing
            yield Change("", printable(facts["target"]), "is missing")
    for change in workers.run(jobs, _check_tensor, lambda _: None, lambda job: job[1].turn):
        if change is not None:
            yield change


def _key(file: str, tensor: StoredTensor, known: Container[str]) -> str:
    """What the manifest calls a tensor: by its name, those of modules with their folder in front."""
    folder, _, _ = file.rpartition("/")
    return f"{folder}/{printable(tensor.name)}" if folder else _own_name(tensor.name, known)


def _own_name(name: str, known: Container[str]) -> str:
    """A tensor's name without the model's own in front, which Keras puts before `bert/` and the heads."""
    rest = name.partition("/")[2]
    return rest if name not in known and rest in known else name


def _check_tensor(
    job: tuple[str, StoredTensor, Mapping[str, Any]], workspace: Workspace, tick: workers.Tick
) -> Change | None:
    file, tensor, facts = job
    shape = tuple(facts["shape"])
    turn = shape[::-1] if facts["transposed"] else None
    there = tuple(facts.get("stored", turn or shape))
    order = Transpose(turn, tuple(reversed(range(len(turn))))) if turn else None
    try:
        same = tensor.dtype == facts["dtype"] and tensor.shape == there  # guard: check-dtype, check-shape
        same = same and math.prod(there) == math.prod(shape)
        same = same and digest_of(tensor, order, shape, workspace, tick) == facts["digest"]  # guard: check-tensor
    except BertconvError as error:
        return Change(file, printable(tensor.name), f"can no longer be read: {error.message}")
    return None if same else Change(file, printable(tensor.name), "has other values")
