"""One resizing as its caller wants it."""

from __future__ import annotations

import os
from dataclasses import field
from typing import Any

from bertconv.errors import RequestError
from bertconv.formats.output import Format
from bertconv.manage.resizing.vocabulary import Size
from bertconv.mapping.plan import PlanOptions
from bertconv.mapping.recognise import Wanted
from bertconv.records import dataclass
from bertconv.saving import DEFAULT_SHARD
from bertconv.source import SourceOptions
from bertconv.text import shown

WAYS = (MEAN, NORMAL, ZERO, PIECES) = ("mean", "normal", "zero", "pieces")
"""What new rows may be, beside `copy:TOKEN`."""
COPY = "copy"


@dataclass(frozen=True)
class ResizeRequest:
    """One resizing as its caller wants it.

    Attributes:
        tokenizer: the one that the rows are to belong to; None keeps the source's.
        from_tokenizer: the one that they belong to; None takes the source's.
        size: how many rows there are to be.
        new: what the rows of new tokens are: one of `WAYS`, or `copy:` and a token.
        seed: for `normal`.
        source: how to find the checkpoint.
        wanted: what the caller says about its family.
        form: of the output; None takes what the source is.
        plan: what is wanted of the plan.
        shard_limit: most bytes of tensors in one file.
    """

    tokenizer: str | os.PathLike[str] | None = None
    from_tokenizer: str | os.PathLike[str] | None = None
    size: Size = Size()
    new: str = MEAN
    seed: int = 0
    source: SourceOptions = SourceOptions()
    wanted: Wanted = field(default_factory=Wanted)
    form: Format | None = None
    plan: PlanOptions = field(default_factory=PlanOptions)
    shard_limit: int = DEFAULT_SHARD

    def __post_init__(self) -> None:
        way, _, token = self.new.partition(":")
        if not (self.new in WAYS or (way == COPY and token)):
            raise RequestError(
                f"new is {shown(self.new)}.", hint=f"Choose one of {', '.join(WAYS)}, or {COPY}:TOKEN, as copy:[MASK]."
            )
        if self.tokenizer is None and self.from_tokenizer is None and self.size == Size():
            raise RequestError(
                "nothing says what the vocabulary is to be.", hint="Give a tokenizer, a size, or what to pad to."
            )

    @property
    def options(self) -> dict[str, Any]:
        """Those that are recorded: all that shape the output and are no defaults, tokenizers aside."""
        size, plan, source = self.size, self.plan, self.source
        said: dict[str, tuple[Any, Any]] = {
            "new": (self.new, MEAN), "seed": (self.seed, 0), "size": (size.rows, None), "pad_to": (size.pad_to, 1),
            "shrink": (size.shrink, False), "to": (self.form and self.form.name, None), "head": (plan.head, None),
            "max_shard_size": (self.shard_limit, DEFAULT_SHARD), "strip_prefix": (plan.strip_prefix, None),
            "subfolder": (source.subfolder, ""), "variant": (source.variant, None),
        }  # fmt: skip
        return {key: value for key, (value, usual) in said.items() if value != usual}
