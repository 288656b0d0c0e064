"""What the walk asks of a file's objects, whoever reads them: our own reader, or libhdf5 in its child."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from bertconv.records import dataclass


class CannotOpen(Exception):
    """An object is there by name and cannot be opened; says why."""


@dataclass(frozen=True)
class Attribute:
    """What is known of an attribute before its value is read.

    Attributes:
        fixed_text: it holds text of a fixed length: no reader follows a place that a variable length leads to.
        shape: sizes; () for one value.
        nbytes: size of all values in bytes.
        loose_text: it holds text of a variable length.
    """

    fixed_text: bool
    shape: tuple[int, ...] | None
    nbytes: int
    loose_text: bool = False


@dataclass(frozen=True)
class Element:
    """The elements of a dataset: whether they are little-endian numbers, their type where we know it, and size."""

    number: bool
    dtype: str | None
    nbytes: int


class Group(ABC):
    """A group."""

    @property
    @abstractmethod
    def address(self) -> int:
        """Where its header lies: the same for one group under two names."""

    @abstractmethod
    def count(self) -> int:
        """How many names are in it."""

    @abstractmethod
    def names(self) -> Iterable[str | bytes]:
        """Its names, ascending; bytes where one is not UTF-8."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether a name is in it."""

    @abstractmethod
    def is_hard(self, name: str) -> bool:
        """Whether a name leads to an object of this file by its address."""

    @abstractmethod
    def open(self, name: str) -> Group | Dataset | None:
        """What a hard link leads to; None where it is neither a group nor a dataset.

        Raises:
            CannotOpen: it cannot be read.
        """

    @abstractmethod
    def attributes(self) -> Iterable[str]:
        """Names of its attributes."""

    @abstractmethod
    def attribute(self, name: str) -> Attribute | None:
        """One of its attributes."""

    @abstractmethod
    def text(self, name: str) -> bytes | str:
        """The value of an attribute that is one text of a fixed length."""

    @abstractmethod
    def label(self, name: str) -> str | None:
        """The value of an attribute that is one text of any length, as Keras 3 writes it; None where it is none."""


class Dataset(ABC):
    """A dataset."""

    @abstractmethod
    def is_elsewhere(self) -> bool:
        """Whether its data are in other datasets or files."""

    @abstractmethod
    def element(self) -> Element:
        """Its elements."""

    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""

    @abstractmethod
    def is_plain(self) -> bool:
        """Whether its data are in one piece and as they are."""

    @abstractmethod
    def extent(self) -> tuple[int | None, int]:
        """Offset of its data in the file, None where there is none yet, and the bytes that are reserved for them."""
