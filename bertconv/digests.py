"""Digests of whole models: of every tensor, of the model, of its backbone, of its values, and of its vocabulary.

They do not depend on the format, on names, on layouts or on how the weights are cut into files. docs/formats.md defines
the digests of a manifest, docs/hash.md those of values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bertconv.containers.stored import FLOATS
from bertconv.formats import workers
from bertconv.formats.checksum import digest_text, tensor_digest
from bertconv.formats.readback import digest_of
from bertconv.mapping.table import Table

if TYPE_CHECKING:  # numpy is imported where elements are read
    from bertconv.checkpoint import Checkpoint, Tensor
    from bertconv.formats.streaming import Elements, Workspace
    from bertconv.tokenizer import Tokenizer

_NAN = 0x7FF8 << 48
"""The bits of the one NaN that a digest of values knows."""


def digest_of_tensors(digests: Mapping[str, str]) -> str:
    """One digest for a whole model, from its tensors' ids and digests; empty where there are none or one is missing."""
    if not digests or not all(digests.values()):
        return ""
    lines = "".join(f"{place} {digest}\n" for place, digest in sorted(digests.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def own_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Neutral id -> tensor, of all that make the model's digest: modules too, and no stored copies."""
    copies = checkpoint.table.repeated(checkpoint.dialects.reference, checkpoint.values)
    return {place: tensor for place, tensor in checkpoint.everything.items() if place not in copies}


def tensor_digests(checkpoint: Checkpoint, progress: workers.Tick = lambda _: None) -> dict[str, str]:
    """Neutral id -> digest of every tensor that counts for the model's digest.

    Args:
        checkpoint: the model.
        progress: called with bytes as they are read.

    Raises:
        DamagedCheckpoint: a file ends too early or cannot be read.
    """
    return digests(own_tensors(checkpoint), progress)


def values_digests(checkpoint: Checkpoint, progress: workers.Tick = lambda _: None) -> dict[str, str]:
    """Neutral id -> digest of the tensor's numbers, whatever floating-point type holds them.

    Each number is cast to float64, which is exact; the sign of a zero stays, and every NaN becomes the same one, since
    what a cast makes of a NaN's payload depends on the machine and the library. A tensor of whole numbers keeps its own
    digest. Arguments and errors as for `tensor_digests`.
    """
    return {place: values for place, (_, values) in both_digests(own_tensors(checkpoint), progress).items()}


def digests(tensors: Mapping[str, Tensor], progress: workers.Tick = lambda _: None) -> dict[str, str]:
    """Neutral id -> digest, as `formats.checksum.tensor_digest` defines it."""
    jobs = list(tensors.items())
    return dict(workers.run(jobs, _digest, progress, lambda job: job[1].stored.turn))


def both_digests(tensors: Mapping[str, Tensor], progress: workers.Tick = lambda _: None) -> dict[str, tuple[str, str]]:
    """Neutral id -> digest, and digest of the numbers, as `values_digests` has it; the tensors are read once."""
    jobs = list(tensors.items())
    return dict(workers.run(jobs, _both_digests, progress, lambda job: job[1].stored.turn))


def backbone_ids(table: Table, ids: Iterable[str]) -> tuple[str, ...]:
    """Those of some neutral ids that every class of the family has: the base class without its optional groups."""
    base = table.base_head
    groups = {*table.heads[base]} - {*table.optional.get(base, ())}
    return tuple(place for place in ids if "/" not in place and place.partition(".")[0] in groups)


def vocabulary_facts(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """What a manifest says of a vocabulary: `tokens`, their number, and `sha256`; None where no file lists the tokens.

    The digest is of the lines `ID TOKEN`, in the order of the ids.
    """
    if not tokenizer.tokens:
        return None
    lines = sorted((number, token) for token, number in tokenizer.tokens.items())
    text = "".join(f"{number} {token}\n" for number, token in lines)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))  # JSON can spell half a character
    return {"tokens": len(lines), "sha256": digest.hexdigest()}


def _digest(job: tuple[str, Tensor], workspace: Workspace, tick: workers.Tick) -> tuple[str, str]:
    place, tensor = job
    return place, digest_of(tensor.stored, tensor.transpose, tensor.spec.canonical.shape, workspace, tick)


def _both_digests(job: tuple[str, Tensor], workspace: Workspace, tick: workers.Tick) -> tuple[str, tuple[str, str]]:
    place, tensor = job
    stored, shape = tensor.stored, tensor.spec.canonical.shape
    if stored.dtype not in FLOATS:
        _, digest = _digest(job, workspace, tick)
        return place, (digest, digest)
    own, values = tensor_digest(stored.dtype, shape), hashlib.sha256(b"bertconv-v1\0" + _sizes(shape))
    for piece in tensor.elements(workspace):
        own.update(piece.data)
        values.update(_in_float64(piece, stored.dtype).data)
        tick(piece.nbytes)
    return place, (digest_text(own), digest_text(values))


def _sizes(shape: Iterable[int]) -> bytes:
    return f"{','.join(map(str, shape))}\0".encode()


def _in_float64(elements: Elements, dtype: str) -> Elements:
    import numpy as np

    from bertconv.formats.streaming import as_floats, cast, not_finite

    wide = cast(elements, dtype, "float64")
    if not_finite(elements, dtype):
        wide = np.where(np.isnan(as_floats(wide, "float64")), wide.dtype.type(_NAN), wide)
    return wide
