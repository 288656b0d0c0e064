"""Why a plan cannot be made, in one sentence, and what can be done, in another that is true of this file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from bertconv.config import BertConfig
from bertconv.errors import AmbiguousHead, MissingTensors, UnknownTensors
from bertconv.mapping.heads import HeadChoice
from bertconv.source.stored import StoredTensor
from bertconv.text import listing, printable


def undecided(chosen: HeadChoice, config: BertConfig) -> AmbiguousHead:
    """Several classes have the file's tensors, and nothing says which it is."""
    conflict = f" ({chosen.why})" if chosen.why else ""
    return AmbiguousHead(
        f"{' and '.join(chosen.rivals)} have the same tensors, and nothing says which of them this is{conflict}.",
        hint="Choose one with --head CLASS, or name it under architectures in the config.",
        file=config.path or None,
    )


def missing_tensors(
    head: str, missing: Sequence[str], unknown: Sequence[StoredTensor], *, fresh: bool
) -> MissingTensors:
    """The file does not fill the class.

    Args:
        head: the class.
        missing: names that the file would have.
        unknown: tensors that no table knows.
        fresh: whether every missing one may be started afresh.
    """
    hint = "Choose another class with --head" + (", or start these afresh with --init-missing." if fresh else ".")
    text = f"{head} cannot be filled from this file; missing are:\n{listing(missing)}"
    if unknown:
        text += f"\nand no table knows:\n{listing(tensor.name for tensor in unknown)}"
    return MissingTensors(text, hint=hint)


def unknown_tensors(unknown: Sequence[StoredTensor], prefix: str, known: Iterable[str]) -> UnknownTensors:
    """Names that no table, head or ignore list knows.

    Args:
        unknown: the tensors.
        prefix: what stands before every name.
        known: names that the first may have meant.
    """
    first = unknown[0].name.removeprefix(prefix)
    near = get_close_matches(first, list(known), n=1)
    hint = "If they may be left out, pass --allow-unknown REGEX."
    return UnknownTensors(
        f"no table knows these tensors:\n{listing(tensor.name for tensor in unknown)}",
        hint=f"Did the first mean {printable(near[0])}? {hint}" if near else hint,
    )
