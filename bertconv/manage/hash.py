"""model_digest(): what a model's weights are, in one line that is the same in every format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any

from bertconv.checkpoint import Checkpoint, opened_to_read
from bertconv.digests import backbone_ids, both_digests, digest_of_tensors, digests, own_tensors
from bertconv.mapping.recognise import Wanted
from bertconv.progress import Progress
from bertconv.records import dataclass
from bertconv.source import SourceOptions
from bertconv.text import brief


@dataclass(frozen=True)
class Digest:
    """What a model's weights are.

    Attributes:
        given: the source as it was given; `revision` is the commit on the Hub.
        family: the `model_type` of its family.
        head: the model class; the base class where only the backbone was read.
        digest: of the whole model: the one that stands in bertconv.json; empty where only the backbone was read.
        backbone_digest: of the base class without the parts that it can do without, such as a pooler.
        values_digest: of the numbers, whatever element type holds them; empty unless asked for, or where only the
            backbone was read. `backbone_values_digest` is the same of the backbone.
        tensors: neutral id -> digest, where asked for; of the numbers, where `values` was asked for.
        missing: neutral ids of tensors that the class has and the source does not.
        omitted: names of tensors in the source that are a part of its model and that no table knows.
        notes: what the digest does not say, one sentence each.
    """

    given: str
    revision: str | None
    family: str
    head: str
    digest: str
    backbone_digest: str
    values_digest: str = ""
    backbone_values_digest: str = ""
    tensors: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the digest does not say, one sentence each."""
        found = [f"a part of the model is in no digest, because no table knows it: {brief(self.omitted)}"]
        missing = [f"the digest is of what is there; {self.head} has besides: {brief(self.missing)}"]
        return (*(found if self.omitted else ()), *(missing if self.missing else ()))

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return asdict(self) | {"notes": self.notes}


def model_digest(  # noqa: PLR0913  (one argument per option of the command)
    src: str | os.PathLike[str],
    *,
    per_tensor: bool = False,
    backbone: bool = False,
    values: bool = False,
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
    progress: Progress | None = None,
) -> Digest:
    """The digest of a model's weights, which is the same in every format, under all names, in one file or in shards.

    >>> from bertconv import convert_checkpoint, model_digest
    >>> convert_checkpoint("pytorch", "tensorflow", to="tf")                                    # doctest: +SKIP
    >>> model_digest("pytorch").digest == model_digest("tensorflow").digest                     # doctest: +SKIP
    True

    Args:
        src: folder, file or Hub id (`org/name`, `org/name@revision`).
        per_tensor: also give the digest of every tensor.
        backbone: read the backbone alone; then it matters not which class the source is, nor what its config says of
            it.
        values: also digest the numbers: a cast that loses nothing, as from bfloat16 to float32, leaves this one as it
            is.
        revision: branch, tag or commit on the Hub.
        token: access token for the Hub.
        cache_dir: cache of the Hub.
        local_files_only: use only what the cache holds.
        subfolder: folder inside the source.
        variant: such as "fp16", for model.fp16.safetensors.
        head: model class, which decides what belongs to the model; by default the one that the tensors are.
        config: config file in place of the source's own.
        strip_prefix: use only the names that begin with it, and take it off.
        family: the `model_type`, where no config says it.
        table: a mapping table of the caller's own.
        progress: called with a step, bytes that are done and bytes in all.

    Returns:
        The digests.

    Raises:
        AmbiguousHead: nothing says which class it is, and so which tensors count.
        BertconvError: it cannot be read, or is of no family that is known.
    """
    options = SourceOptions(
        revision=revision, token=token, cache_dir=cache_dir,
        local_files_only=local_files_only, subfolder=subfolder, variant=variant,
        config=config,
    )  # fmt: skip
    with opened_to_read(src, options, wanted=Wanted.of(family, table, strip_prefix)) as found:
        checkpoint = found.as_class(found.table.base_head if backbone else head)
        return digest_of_checkpoint(checkpoint, per_tensor=per_tensor, backbone=backbone, values=values,
                                    progress=progress)  # fmt: skip


def digest_of_checkpoint(
    checkpoint: Checkpoint,
    *,
    per_tensor: bool = False,
    backbone: bool = False,
    values: bool = False,
    progress: Progress | None = None,
) -> Digest:
    """The same of a checkpoint that is open, as the class as which it was opened; arguments as for `model_digest`."""
    tensors = own_tensors(checkpoint)
    body = set(backbone_ids(checkpoint.table, tensors))
    if backbone:
        tensors = {place: tensor for place, tensor in tensors.items() if place in body}
    total, done = sum(tensor.stored.nbytes for tensor in tensors.values()), 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress("digests", done, total)

    both = (
        both_digests(tensors, tick) if values else {place: (one, "") for place, one in digests(tensors, tick).items()}
    )
    own, of_values = ({place: pair[number] for place, pair in both.items()} for number in (0, 1))
    unfilled = [spec.id for spec in checkpoint.plan.unfilled]
    return Digest(
        given=checkpoint.source.given, revision=checkpoint.source.revision, family=checkpoint.table.model_type,
        head=checkpoint.head,
        digest="" if backbone else digest_of_tensors(own), backbone_digest=_of(own, body),
        values_digest="" if backbone else digest_of_tensors(of_values), backbone_values_digest=_of(of_values, body),
        tensors=(of_values if values else own) if per_tensor else {},
        missing=tuple(backbone_ids(checkpoint.table, unfilled) if backbone else unfilled),
        omitted=tuple(checkpoint.omitted()),
    )  # fmt: skip


def _of(found: Mapping[str, str], places: set[str]) -> str:
    return digest_of_tensors({place: digest for place, digest in found.items() if place in places})
