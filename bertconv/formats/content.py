"""One tensor of an output: what it is, where its elements come from, and where in a file they are put.

It is made once, by a conversion or a save, and goes whole through the layout, the writing, the check and the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from bertconv.containers.container import FileLayout
from bertconv.containers.stored import ITEM_SIZE, Span, StoredTensor
from bertconv.errors import MappingError
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.layout import Transpose, transpose_between
from bertconv.records import dataclass

if TYPE_CHECKING:
    from bertconv.formats.streaming import Elements, Workspace


class Tally:
    """What a cast made of a tensor's numbers; the thread that moves the tensor counts.

    Attributes:
        rounded: how many have another value than before.
        flushed: how many of them have become zero.
        subnormal: how many are now too small for the type's full precision, and not zero.
    """

    __slots__ = ("flushed", "rounded", "subnormal")

    def __init__(self) -> None:
        self.rounded = self.flushed = self.subnormal = 0

    def add(self, rounded: int, flushed: int, subnormal: int) -> None:
        """Some more."""
        self.rounded += rounded
        self.flushed += flushed
        self.subnormal += subnormal

    def counts(self) -> dict[str, int]:
        """As reports have them."""
        return {"rounded": self.rounded, "flushed": self.flushed, "subnormal": self.subnormal}


@dataclass(frozen=True)
class Origin:
    """Where a tensor's elements come from: a file, or a function where no file holds them.

    Attributes:
        tensor: the stored tensor that they are read from.
        transpose: brings its elements into the order of the target.
        compute: gives them piece by piece, flat and in the order of the target, in bounded memory; a piece is used
            before the next one is asked for. Called as `make` is.
        make: gives them, flat and in the order of the target: called by the thread that writes them, so that not all of
            them are in memory at once, and again only where the check has to name an element that differs.
        tally: counts what a cast changes of the elements of `tensor`, while they are written.
    """

    tensor: StoredTensor | None = None
    transpose: Transpose | None = None
    make: Callable[[], Elements] | None = None
    compute: Callable[[Workspace], Iterator[Elements]] | None = None
    tally: Tally | None = None

    def made(self, workspace: Workspace) -> Iterator[Elements]:
        """The elements of a tensor that no file holds, in the order of the target; none where nothing gives them."""
        if self.compute is not None:
            yield from self.compute(workspace)
        elif self.make is not None:
            yield self.make()


@dataclass(frozen=True)
class Content:
    """One tensor to be written: what it is, its element type, and where its elements come from."""

    spec: TensorSpec
    dtype: str
    origin: Origin

    @property
    def id(self) -> str:
        """Neutral id."""
        return self.spec.id

    @property
    def name(self) -> str:
        """Its name in the output, without the scope."""
        return self.spec.name

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.spec.count * ITEM_SIZE[self.dtype]

    @property
    def canonical(self) -> Transpose | None:
        """What brings the written elements into PyTorch's order."""
        return transpose_between(self.spec.layout, self.spec.canonical)

    @property
    def is_range(self) -> bool:
        """Whether its bytes are some that follow each other in a file."""
        source = self.origin.tensor
        return (
            source is not None
            and source.is_range
            and self.origin.transpose is None
            and source.dtype == self.dtype
            and source.nbytes > 0
        )


class Placed(NamedTuple):
    """A tensor and the place of its first byte in its file; or of all its pieces, where it does not lie in one."""

    content: Content
    offset: int
    pieces: tuple[Span, ...] = ()

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where its bytes lie, in their order."""
        return self.pieces or (Span(self.offset, self.content.nbytes),)

    @property
    def is_range(self) -> bool:
        """Whether its bytes follow each other both in a source and here."""
        return self.content.is_range and not self.pieces


@dataclass(frozen=True)
class OutputFile:
    """One file of weights.

    Attributes:
        name: of the file.
        layout: where everything in it lies.
        contents: its tensors, in the order of the layout.
        scope: what stands before every tensor's name in it.

    Raises:
        MappingError: two tensors, or a tensor and what else is in the file, have a byte in common; or the pieces of
            one are of another size than it.
    """

    name: str
    layout: FileLayout
    contents: tuple[Content, ...]
    scope: str = ""

    def __post_init__(self) -> None:
        parts = ((start, len(part)) for start, part in self.layout.parts.items())
        places = [*sorted((*self.spans, *parts)), (self.layout.size, 0)]
        overlapping = any(start + size > following for (start, size), (following, _) in pairwise(places))
        unfit = any(sum(span.nbytes for span in one.spans) != one.content.nbytes for one in self.tensors)
        if overlapping or unfit or places[0][0] < 0 or len(self.layout.offsets) != len(self.contents):
            raise MappingError(
                "was laid out with tensors that have no place of their own; nothing was written.",
                hint="Report this as a bug.",
                file=self.name,
            )

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.layout.size

    @cached_property
    def tensors(self) -> tuple[Placed, ...]:
        """Its tensors, each with its place."""
        pieces = (self.layout.pieces.get(number, ()) for number in range(len(self.contents)))
        return tuple(map(Placed, self.contents, self.layout.offsets, pieces))

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The bytes of every tensor that has elements, in the file's order."""
        return tuple(sorted(span for one in self.tensors for span in one.spans if one.content.nbytes))
